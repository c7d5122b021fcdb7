/**
 * The rows people see, as docs/protocol.md describes them; a mirror of `firewall-user/src/view.rs`.
 * Times are RFC 3339 UTC, durations milliseconds, `bytes` count from the IP header on.
 */

/** A flow, live or just ended. */
export interface FlowView {
  id: string;
  proto: string;
  family: number;
  src: string;
  sport: number;
  dst: string;
  dport: number;
  state: string;
  direction: string;
  in_iface: string | null;
  out_iface: string | null;
  vlan: number;
  verdict: string;
  rule: string;
  generation: number;
  packets: number;
  bytes: number;
  reply_packets: number;
  reply_bytes: number;
  first: string | null;
  last: string | null;
  age_ms: number;
  idle_ms: number;
  timeout_ms: number;
  ended: string | null;
  nat: FlowNatView | null;
}

/** Under which tuple a translated flow goes out. */
export interface FlowNatView {
  src: string;
  sport: number;
  dst: string;
  dport: number;
  rule: string;
  kind: string;
}

/** One line of the event feed. */
export interface EventView {
  class: string;
  seq: number | null;
  time: string;
  flow: string | null;
  proto: string;
  family: number;
  src: string;
  sport: number;
  dst: string;
  dport: number;
  iface: string;
  direction: string;
  vlan: number;
  verdict: string;
  reason: string;
  rule: string;
  tcp_flags: string;
  frame_len: number;
  packets: number;
  bytes: number;
  reply_packets: number;
  reply_bytes: number;
}

/** A rule with its counters. `position` is 0 for the two defaults. */
export interface RuleView {
  position: number;
  name: string;
  id: number;
  action: string;
  enabled: boolean;
  log: boolean;
  text: string;
  hits: number;
  packets: number;
  bytes: number;
  last_hit: string | null;
}

export interface ReasonView {
  reason: string;
  packets: number;
  bytes: number;
}

/** `produced = delivered + lost`. */
export interface EventCountView {
  class: string;
  produced: number;
  delivered: number;
  lost: number;
  suppressed: number;
}

export interface StatsView {
  time: string;
  flows: number;
  flows_max: number;
  packets: number;
  bytes: number;
  passed_packets: number;
  dropped_packets: number;
  passed_bytes: number;
  dropped_bytes: number;
  reasons: ReasonView[];
  events: EventCountView[];
  netfilter?: NetfilterStatsView | null;
}

/** How well netfilter's connection tracking is followed. */
export interface NetfilterStatsView {
  following: boolean;
  flows: number;
  nat_flows: number;
  began: number;
  updated: number;
  ended: number;
  gone: number;
  overruns: number;
  dumps: number;
  dump_ms: number;
  malformed: number;
}

export interface IfaceView {
  name: string;
  ifindex: number;
  mode_asked: string;
  ingress: string;
  egress: string;
  why: string;
  fast_path: string;
  xsk_first: number | null;
}

export interface HistoryStatsView {
  path: string;
  bytes: number;
  max_bytes: number;
  wal_bytes: number;
  max_age_ms: number;
  written: number;
  completed: number;
  deleted: number;
  lost: number;
  unmatched: number;
  errors: number;
  queued: number;
  trouble: string | null;
}

export interface StatusView {
  version: string;
  abi_version: number;
  pid: number;
  epoch: string;
  started: string;
  adopted: boolean;
  generation: number;
  policy_file: string;
  rules: number;
  flows: number;
  interfaces: IfaceView[];
  limits: string[];
  console: string;
  history: HistoryStatsView | null;
}

/** What the policy compiler says about a text. Lines and columns count from 1. */
export interface Diagnostic {
  severity: string;
  line: number;
  column: number;
  /** Characters to underline. */
  length: number;
  message: string;
  expected: string | null;
  hint: string | null;
  /** The source line, whole. */
  snippet: string;
}

export interface Change {
  kind: string;
  what: string;
  text: string;
}

/** Answer to everything that changes the policy. */
export interface Applied {
  generation: number;
  dry_run: boolean;
  changes: Change[];
  warnings: Diagnostic[];
}

/** Row and delta shapes by stream. */
export interface StreamRows {
  flows: FlowView;
  events: EventView;
  rules: RuleView;
  stats: StatsView;
}

export type StreamName = keyof StreamRows;
