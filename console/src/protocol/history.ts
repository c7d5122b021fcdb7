/** Rows of the history: see docs/protocol.md. */

/** Rows of the history under one key. */
export interface HistorySumView {
  key: string;
  count: number;
  packets: number;
  bytes: number;
  reply_packets: number;
  reply_bytes: number;
  first: string;
  last: string;
}

/** What the kernel counted of a verdict and reason in a minute. */
export interface VerdictMinuteView {
  minute: string;
  verdict: string;
  reason: string;
  packets: number;
  bytes: number;
}

/** What the kernel counted of a rule in a minute. */
export interface RuleMinuteView {
  minute: string;
  rule: string;
  action: string;
  hits: number;
  packets: number;
  bytes: number;
}

/** Something that somebody had the daemon do. */
export interface DeedView {
  time: string;
  who: string;
  verb: string;
  detail: string;
  outcome: string;
}

/** Rows of the history, or sums of them. */
export interface HistoryAnswer<R> {
  kind: string;
  by: string | null;
  since: string;
  until: string | null;
  /** From then on nothing has been forgotten. */
  whole_since: string;
  rows: R[];
  total: number | null;
  more: boolean;
}
