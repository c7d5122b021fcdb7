/** What a socket's row says in short: ends, owner, translation, whether it failed. Pure. */

import type { SocketView } from "../protocol/types";
import { endpoint, natText } from "../ui/format";
import type { Term } from "./filtertext";

const isAny = (address: string): boolean => address === "" || address === "0.0.0.0" || address === "::";

/** An end of a socket; `*` stands for any, nothing for a socket that has no addresses. */
export function endText(s: SocketView, address: string, port: number): string {
  if (s.family === 0) return "";
  if (!isAny(address)) return endpoint(address, port);
  return port === 0 ? "*" : `*:${port}`;
}

/** What a click on the local end filters by: the port says more than the address, which is the machine's own. */
export function localTerm(s: SocketView): Term | null {
  if (s.family === 0) return null;
  if (s.local_port !== 0) return { field: "local_port", value: s.local_port };
  return isAny(s.local) ? null : { field: "local", value: s.local };
}

export const remoteTerm = (s: SocketView): Term | null => (s.family === 0 || isAny(s.remote) ? null : { field: "remote", value: s.remote });

/** A process gives itself its name: without characters that break a line, or turn the direction of text. */
export const nameText = (comm: string | null): string => (comm ?? "?").replace(/[\p{Cc}\p{Cf}]/gu, "�");

/** `nginx/7`. */
export const processText = (pid: number | null, comm: string | null): string | null => (pid === null ? null : `${nameText(comm)}/${pid}`);

/** A process that isn't known can be asked for, too. */
export function ownerTerm(s: SocketView): Term {
  if (s.pid === null) return { field: "confidence", value: "unknown" };
  return s.comm === null || s.comm === "" ? { field: "pid", value: s.pid } : { field: "comm", value: s.comm };
}

/** The rule that let its flow in; another namespace's packets meet none of ours. */
export function ruleTerm(s: SocketView): Term | null {
  if (s.rule !== null) return { field: "rule", value: s.rule };
  return s.own_netns ? null : { field: "netns", value: s.netns };
}

/** Whether its end is none that somebody wanted. */
export const failed = (s: SocketView): boolean => s.ended !== null && s.ended !== "closed";

/** How its flow is translated; the socket may be at either end of it. */
export function socketNatText(s: SocketView): string {
  const { nat } = s;
  if (!nat) return "";
  const accepted = (nat.src === s.remote && nat.sport === s.remote_port) || (nat.dst === s.local && nat.dport === s.local_port);
  const [src, sport, dst, dport] = accepted ? [s.remote, s.remote_port, s.local, s.local_port] : [s.local, s.local_port, s.remote, s.remote_port];
  return natText({ src, sport, dst, dport, nat });
}

/** Milliseconds between two times; `null` where one isn't known. */
export function between(from: string | null, to: string | null): number | null {
  if (from === null || to === null) return null;
  const ms = Date.parse(to) - Date.parse(from);
  return Number.isNaN(ms) ? null : Math.max(0, ms);
}
