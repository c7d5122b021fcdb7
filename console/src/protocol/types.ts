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

/** A socket of the machine, in any network namespace; live, or ended lately. */
export interface SocketView {
  /** The kernel's cookie for it, hexadecimal. */
  id: string;
  /** `tcp`, `udp`, `raw/89`, `packet`, `xdp`, ... */
  proto: string;
  /** 0 where it has no addresses. */
  family: number;
  state: string;
  local: string;
  local_port: number;
  remote: string;
  remote_port: number;
  netns: number;
  /** Whether that is the daemon's own, whose packets the filter sees. */
  own_netns: boolean;
  uid: number;
  /** Who made it. */
  pid: number | null;
  comm: string | null;
  /** `stamped`, `held`, `unknown`. */
  confidence: string;
  /** Who sent or received last, where that is another. */
  user_pid: number | null;
  user_comm: string | null;
  holders: SocketHolderView[];
  /** `null` where it was there before the monitor. */
  created: string | null;
  age_ms: number | null;
  idle_ms: number | null;
  /** Microseconds. */
  connect_us: number | null;
  sent_bytes: number;
  received_bytes: number;
  sends: number;
  receives: number;
  /** Bytes a second. */
  sent_rate: number;
  received_rate: number;
  segments_out: number;
  segments_in: number;
  /** Microseconds. */
  rtt_us: number | null;
  retransmits: number;
  flow: string | null;
  rule: string | null;
  nat: FlowNatView | null;
  closed: string | null;
  /** Why it ended; `null` while it lives. */
  ended: string | null;
  /** That it sees or sends packets which the filter doesn't. */
  note: string | null;
  // What a daemon may know of the owner besides.
  exe?: string | null;
  cmdline?: string | null;
  user?: string | null;
  unit?: string | null;
  container?: string | null;
}

export interface SocketHolderView {
  pid: number;
  comm: string;
  descriptor: number;
}

/** `limits` says in words what can't be seen on this machine. */
export interface SocketPage extends Page<SocketView> {
  limits: string[];
}

/** What the monitor of sockets has told and lost. */
export interface SocketStatsView {
  live: number;
  ended: number;
  ended_dropped: number;
  events: SocketEventStatsView[];
  /** Microseconds that the last look at all descriptors took. */
  snapshot_us: number;
  descriptors: number;
  /** Processes that were forgotten to make room. */
  owners_forgotten: number;
  rules_lost: number;
  rules_unsettled: number;
  tables: SummaryTableView[];
}

/** `produced = delivered + lost`. */
export interface SocketEventStatsView {
  class: string;
  produced: number;
  delivered: number;
  lost: number;
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

/** Which sockets were ended. */
export interface KilledSocketsView {
  dry_run: boolean;
  total: number;
  /** The daemon's own, and the caller's way in. */
  spared: number;
  failed: { id: string; why: string }[];
  /** Rules that refuse their remote addresses from now on. */
  blocked: string[];
  rows: SocketView[];
}

/** How often, how much in all, least, mean, most, and what so many of a hundred are not above. */
export interface SummaryStatView {
  count: number;
  sum: number;
  min: number;
  avg: number;
  max: number;
  p50: number;
  p95: number;
  p99: number;
}

/** What the sockets of a row did. */
export interface SummaryRowView {
  key: string;
  /** What tells rows of the same key apart. */
  id: string | null;
  /** Those whose row was folded, or that never had one. */
  other: boolean;
  live: number;
  total: number;
  /** Of them connections: those that live, and all. */
  connected: number;
  connections: number;
  sent_bytes: number;
  received_bytes: number;
  sent_packets: number;
  received_packets: number;
  connect_us: SummaryStatView;
  accept_us: SummaryStatView;
  read_bytes: SummaryStatView;
  write_bytes: SummaryStatView;
  retransmits: SummaryStatView;
  life_us: SummaryStatView;
}

/** Sockets by one thing. */
export interface SummaryView {
  by: string;
  total: number;
  folded: number;
  lost: number;
  rows: SummaryRowView[];
}

/** Rules that let somebody do what was seen of them, and nothing else. */
export interface LearnView {
  by: string;
  owner: string;
  sockets: number;
  since: string | null;
  elsewhere: number;
  forgotten: number;
  rules: { name: string; text: string; sockets: number; note: string | null }[];
  /** The same as a part of a policy. */
  text: string;
}

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

/** How full a table of summaries is. */
export interface SummaryTableView {
  by: string;
  rows: number;
  capacity: number;
  folded: number;
  lost: number;
}
