/** What can be asked of the history, as words and as a question. */

export const KINDS = ["sockets", "flows", "verdicts", "rules", "nat", "audit"] as const;
export type Kind = (typeof KINDS)[number];

const TITLES: Record<Kind, string> = { sockets: "Sockets", flows: "Flows", verdicts: "Verdicts", rules: "Rules", nat: "NAT", audit: "Audit" };
export const kindTitle = (kind: Kind): string => TITLES[kind];

/** As docs/history.md lists them; by minute is the chart. */
const BY: Record<Kind, readonly string[]> = {
  sockets: ["process", "exe", "user", "host", "name", "unit", "rule", "protocol", "port", "ended", "minute"],
  flows: ["source", "host", "port", "rule", "protocol", "ended", "minute"],
  verdicts: ["verdict", "reason", "minute"],
  rules: ["rule", "action", "minute"],
  nat: ["host", "public", "remote", "rule", "kind", "protocol", "origin", "minute"],
  audit: ["who", "verb", "outcome", "minute"],
};
export const byOf = (kind: Kind): readonly string[] => BY[kind];

/** How far back, and how long that is, seconds. */
export const SINCE: readonly (readonly [string, number])[] = [["15m", 900], ["1h", 3_600], ["6h", 21_600], ["24h", 86_400], ["7d", 604_800], ["30d", 2_592_000]];
export const seconds = (since: string): number => SINCE.find(([word]) => word === since)?.[1] ?? 86_400;

export interface Question {
  kind: Kind;
  filter: string;
  since: string;
  /** Empty: rows. */
  by: string;
  /** Rows or sums at most. */
  top: number;
}

export const TOPS = [20, 100, 1_000] as const;
const FIRST: Question = { kind: "sockets", filter: "", since: "24h", by: "", top: 100 };

/** A question out of an address; what makes no sense is as if it weren't there. */
export function readQuestion(query: URLSearchParams): Question {
  const kind = KINDS.find((k) => k === query.get("kind")) ?? FIRST.kind;
  const by = query.get("by") ?? "";
  return {
    kind,
    filter: query.get("filter") ?? "",
    since: SINCE.find(([word]) => word === query.get("since"))?.[0] ?? FIRST.since,
    by: BY[kind].includes(by) ? by : "",
    top: TOPS.find((n) => n === Number(query.get("top"))) ?? FIRST.top,
  };
}

/** The same as an address has it: what goes without saying is left out. */
export function writeQuestion(q: Question): Record<string, string> {
  const all: [string, string, string][] = [
    ["kind", q.kind, FIRST.kind], ["filter", q.filter, ""], ["since", q.since, FIRST.since], ["by", q.by, ""], ["top", String(q.top), String(FIRST.top)],
  ];
  return Object.fromEntries(all.filter(([, value, usual]) => value !== usual).map(([name, value]) => [name, value]));
}

/** The same as the server takes it. */
export function askQuestion(q: Question): Record<string, string | number> {
  const { kind, filter, since, by, top } = q;
  return by === "" ? { kind, filter, since, limit: top } : { kind, filter, since, by, top };
}

/** A number for each step of a span that ends at `end` (Unix seconds), nothing where there was none. */
export function series(sums: readonly { key: string; value: number }[], end: number, range: number): { times: number[]; values: number[] } {
  // As many steps as there are pixels to draw them.
  const step = Math.max(60, Math.ceil(range / 60 / 720) * 60);
  const last = Math.floor(end / step) * step;
  const steps = Math.floor(range / step);
  const times = Array.from({ length: steps + 1 }, (_, i) => last - (steps - i) * step);
  const values = times.map(() => 0);
  for (const { key, value } of sums) {
    const at = steps - Math.floor((last + step - 1 - Date.parse(key) / 1000) / step);
    if (at >= 0 && at <= steps) values[at]! += value / (step / 60);
  }
  return { times, values };
}
