/** The JSON API: login, status, edits of rules, and what is asked about translation and sockets. Cookies carry the login; the token is sent once, in a body. */

import { ServerError, type ErrorBody } from "./messages";
import type { SetChangeView, SetPageView, SetView } from "./sets";
import type {
  Applied, HistoryAnswer, KilledSocketsView, KilledView, LearnView, NameView, NatHostView, NatMappingView, NatPoolView, NatRuleView, NatWhoView, Page, PathsView, SocketDetailsView, SocketDropsView, SocketPage, SocketSamplesView, SocketStatsView, StatusView, SummaryView,
} from "./types";

const BASE = "/api/v1";

/** No answer came at all. */
export class Unreachable extends Error {
  constructor() {
    super("the daemon does not answer");
    this.name = "Unreachable";
  }
}

async function call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  let response: Response;
  try {
    response = await fetch(BASE + path, {
      method,
      credentials: "same-origin",
      cache: "no-store",
      ...(signal === undefined ? {} : { signal }),
      ...(body === undefined ? {} : { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }),
    });
  } catch {
    throw new Unreachable();
  }
  const text = await response.text();
  let value: unknown;
  try {
    value = text === "" ? {} : JSON.parse(text);
  } catch {
    value = null;
  }
  if (response.ok && value !== null) return value as T;
  const error = (value as { error?: ErrorBody } | null)?.error;
  throw new ServerError(error ?? { code: `http-${response.status}`, message: `the daemon answered ${response.status}` });
}

export const login = (token: string) => call<{ ok: boolean; role?: string }>("POST", "/login", { token });
export const logout = () => call<unknown>("POST", "/logout", {});
export const status = () => call<StatusView>("GET", "/status");
export const resetCounters = () => call<unknown>("POST", "/counters/reset", {});

/** Is the login good? A daemon that doesn't answer is no reason to ask for the token again. */
export async function authorized(): Promise<boolean> {
  try {
    await status();
    return true;
  } catch (error) {
    return !(error instanceof ServerError && error.code === "unauthorized");
  }
}

/** What an edit is based on, and whether it may lock the operator out. */
export interface Edit {
  base_generation?: number;
  force?: boolean;
}

const rulePath = (name: string) => `/rules/${encodeURIComponent(name)}`;

export const addRule = (text: string, place: { before?: string; position?: number }, edit: Edit) =>
  call<Applied>("POST", "/rules", { text, ...place, ...edit });
export const setRule = (name: string, enabled: boolean, edit: Edit) =>
  call<Applied>("POST", `${rulePath(name)}/${enabled ? "enable" : "disable"}`, edit);

export function deleteRule(name: string, edit: Edit) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(edit)) query.set(key, String(value));
  return call<Applied>("DELETE", `${rulePath(name)}?${query}`);
}

const setPath = (name: string) => `/sets/${encodeURIComponent(name)}`;

export type SetChange = SetChangeView;
export const sets = (signal?: AbortSignal) => ask<{ rows: SetView[] }>("/sets", {}, signal);
export const setEntries = (name: string, query: { filter?: string; after?: number; limit?: number }, signal?: AbortSignal) => ask<SetPageView>(setPath(name), query, signal);
/** All or none; without a time-out, the set's own. */
export const addToSet = (name: string, entries: string[], timeout?: string) =>
  call<SetChangeView>("POST", `${setPath(name)}/entries`, { entries, ...(timeout === undefined ? {} : { timeout }) });
export const deleteFromSet = (name: string, entries: string[]) => call<SetChangeView>("DELETE", `${setPath(name)}/entries`, { entries });
export const flushSet = (name: string) => call<SetChangeView>("POST", `${setPath(name)}/flush`, {});

type Query = Record<string, string | number | undefined>;

function ask<T>(path: string, query: Query, signal?: AbortSignal): Promise<T> {
  const text = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) if (value !== undefined && value !== "") text.set(key, String(value));
  return call<T>("GET", text.size === 0 ? path : `${path}?${text}`, undefined, signal);
}

export const natMappings = (query: { filter?: string; limit?: number; sort?: string }, signal?: AbortSignal) => ask<Page<NatMappingView>>("/nat/mappings", query, signal);
export const natRules = (signal?: AbortSignal) => ask<{ rows: NatRuleView[] }>("/nat/rules", {}, signal);
export const natHosts = (query: { limit?: number; sort?: string }, signal?: AbortSignal) => ask<Page<NatHostView>>("/nat/hosts", query, signal);
export const natPools = (signal?: AbortSignal) => ask<{ rows: NatPoolView[] }>("/nat/pools", {}, signal);
export const natWho = (query: { address: string; port?: number; proto?: string; at?: string; limit?: number }, signal?: AbortSignal) =>
  ask<NatWhoView>("/nat/who", query, signal);

export const history = <R>(query: Query, signal?: AbortSignal) => ask<HistoryAnswer<R>>("/history", query, signal);
export const paths = (signal?: AbortSignal) => ask<PathsView>("/paths", {}, signal);
export const sockets = (query: { filter?: string; limit?: number; sort?: string; ended?: string }, signal?: AbortSignal) => ask<SocketPage>("/sockets", query, signal);
export const summary = (query: { by: string; filter?: string; limit?: number }, signal?: AbortSignal) => ask<SummaryView>("/summary", query, signal);
export const learn = (query: { by: string; owner: string; since?: string }, signal?: AbortSignal) => ask<LearnView>("/learn", query, signal);
export const socketDrops = (signal?: AbortSignal) => ask<SocketDropsView>("/sockets/drops", {}, signal);
export const names = (query: Query, signal?: AbortSignal) => ask<Page<NameView>>("/names", query, signal);
export const socketStats = (signal?: AbortSignal) => ask<SocketStatsView>("/sockets/stats", {}, signal);

export const socketSamples = (id: string, signal?: AbortSignal) => ask<SocketSamplesView>(`/sockets/${encodeURIComponent(id)}/samples`, {}, signal);
export const socketDetails = (id: string, signal?: AbortSignal) => ask<SocketDetailsView>(`/sockets/${encodeURIComponent(id)}`, {}, signal);

/** An empty text takes the note away. */
export const noteSocket = (id: string, text: string) => call<{ ok: boolean }>("POST", `/sockets/${encodeURIComponent(id)}/note`, { text });

/** One table of summaries begins anew. */
export const resetSummary = (by: string) => call<{ ok: boolean }>("POST", "/summary/reset", { by });

/** Ends the sockets that match; `block` refuses their remote addresses first. */
export const killSockets = (filter: string, block: boolean) => call<KilledSocketsView>("POST", "/sockets/kill", { filter, block, limit: 0 });

/** Takes the flows that match out of the table. */
export const killFlows = (filter: string) => call<KilledView>("POST", "/flows/kill", { filter, limit: 0 });
