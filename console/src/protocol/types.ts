/**
 * The rows people see, as docs/protocol.md describes them; a mirror of `firewall-user/src/view.rs`.
 * Times are RFC 3339 UTC, durations milliseconds, `bytes` count from the IP header on.
 */

export type * from "./history";
export type * from "./sockets";

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
  /** What was left of its time-out when this was told. */
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
  /** How its flow is translated, where it is. */
  nat?: FlowNatView | null;
  /** `call`: the process that called for the network. */
  caller?: CallerView | null;
}

/** Whose call a rule by owner judged. */
export interface CallerView {
  pid: number;
  comm: string;
  uid: number;
  socket: string;
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
  /** Packets that were over its limit. */
  over: number;
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
  /** Missing for the moment in which this page is newer than the daemon. */
  table?: TableStatsView;
  owners?: OwnerStatsView | null;
  nat?: NatStatsView;
}

/** What became of calls and packets that rules by owner judge. */
export interface OwnerStatsView {
  judged: number;
  unknown: number;
  places_full: number;
  places_missed: number;
}

/** How the flow table bears up. Evictions and refusals are totals since its maps were made. */
export interface TableStatsView {
  flows: number;
  capacity: number;
  used_percent: number;
  half_open: number;
  evicted: number;
  evicted_packets: number;
  evicted_bytes: number;
  busy: number;
  source_limited: number;
  refused: number;
  ended_unlisted?: number;
  pressure: "ok" | "high" | "full";
}

export interface NatStatsView {
  mappings_live: number;
  failures: number;
  exhausted_pools: number;
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
  alarms?: AlarmView[];
  paths?: PathsSummaryView | null;
}

export type Share = "yes" | "part" | "no";

/** A program or chain that packets meet. */
export interface PathProgramView {
  hook: string;
  id: number | null;
  name: string | null;
  priority: number | null;
  ours: boolean;
}

export interface PathOwnerView {
  pid: number;
  comm: string;
  exe: string | null;
}

/** One way by which packets enter or leave. */
export interface PathView {
  kind: string;
  name: string;
  netns: string | null;
  device: string | null;
  parent: string | null;
  mode: string | null;
  queue: number | null;
  count: number;
  attached: PathProgramView[];
  owners: PathOwnerView[];
  filtered: Share;
  accounted: Share;
  why: string;
  todo: string | null;
}

export interface PathUnreadView {
  what: string;
  why: string;
}

export interface PathsSummaryView {
  time: string;
  ways: number;
  filtered: Record<Share, number>;
  accounted: Record<Share, number>;
  todo: number;
  unread: number;
}

export interface PathsView {
  summary: PathsSummaryView;
  rows: PathView[];
  unread: PathUnreadView[];
}

/** What needs somebody's eyes, for as long as it does. */
export interface AlarmView {
  code: string;
  severity: "warning" | "error";
  since: string;
  text: string;
}

/** Some of the rows that match, and how many there are. */
export interface Page<R> {
  total: number;
  rows: R[];
}

/** A live translation: one inside endpoint behind one public endpoint, towards one far end. */
export interface NatMappingView {
  /** The flow's id; of netfilter's a name of its own. */
  id: string;
  proto: string;
  inside: string;
  inside_port: number;
  public: string;
  public_port: number;
  /** The far end as the one who began it wrote it. */
  remote: string;
  remote_port: number;
  /** The destination behind the translation, where it is translated. */
  remote_inside: string | null;
  remote_inside_port: number | null;
  kind: string;
  rule: string | null;
  began: string | null;
  last: string | null;
  packets: number | null;
  bytes: number | null;
  reply_packets: number | null;
  reply_bytes: number | null;
  origin: string;
}

/** What a translation, or a host behind one, has carried: ended flows and live ones together. */
export interface NatTotals {
  live: number;
  mappings: number;
  ended: number;
  failures: number;
  packets: number;
  bytes: number;
  reply_packets: number;
  reply_bytes: number;
}

/** `text` is `null` for one that the policy has no more, and that has carried something. */
export interface NatRuleView extends NatTotals {
  slot: number;
  name: string;
  /** Empty where it isn't known any more. */
  kind: string;
  text: string | null;
}

/** `host` is `other` for all those that found no account of their own. */
export interface NatHostView extends NatTotals {
  host: string;
}

/** Ports of one public address and one protocol. */
export interface NatPoolView {
  /** Empty where it isn't known any more. */
  address: string;
  /** The interface whose address it is, with `masquerade`. */
  interface: string | null;
  rules: string[];
  proto: string;
  /** How many there are to use. */
  ports: number;
  in_use: number;
  peak: number;
  made: number;
  failures: number;
  used_percent: number;
}

/** A mapping as the history has it; `to_*` is the tuple behind the translation. */
export interface NatBindingView {
  id: string;
  origin: string;
  kind: string;
  family: number;
  proto: string;
  host: string;
  src: string;
  sport: number;
  dst: string;
  dport: number;
  to_src: string;
  to_sport: number;
  to_dst: string;
  to_dport: number;
  rule: string;
  start: string;
  end: string | null;
  packets: number;
  bytes: number;
  reply_packets: number;
  reply_bytes: number;
  ended: string | null;
}

/** A host whose block of ports holds the one that was asked for: known by arithmetic. */
export interface NatBlockView {
  host: string;
  rule: string;
  prefix: string;
  address: string;
  port_first: number;
  port_last: number;
  start: string;
  end: string | null;
}

export interface NatWhoView {
  address: string;
  port: number | null;
  proto: string | null;
  at: string;
  bindings: NatBindingView[];
  more: boolean;
  blocks: NatBlockView[];
  /** From then on nothing has been forgotten. */
  since: string;
}

/** Flows that were taken out of the table. */
export interface KilledView {
  dry_run: boolean;
  total: number;
  rows: FlowView[];
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

