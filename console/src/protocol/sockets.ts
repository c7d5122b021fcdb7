/** Rows of sockets, their summaries, and rules learnt from them: see docs/protocol.md. */

import type { FlowNatView, Page } from "./types";

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
  /** What the other end was called when the socket began, as it was observed, and how that is known: `dns`, `sni`, `sni-outer`. */
  name?: string | null;
  name_source?: string | null;
  /** `dns`: other names that the address had then. */
  other_names?: number;
  netns: number;
  /** Whether that is the daemon's own, whose packets the filter sees. */
  own_netns: boolean;
  uid: number;
  /** Who made it. */
  pid: number | null;
  comm: string | null;
  /** `stamped`, `held`, `unknown`. */
  confidence: string;
  /** When that process ended, if the socket lives on (or did). */
  owner_exited?: string | null;
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
  /** Packets of it that the stack dropped, and why the last. */
  drops?: number;
  drop_reason?: string | null;
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

/** A socket over time: oldest first. */
export interface SocketSamplesView {
  id: string;
  ended: boolean;
  rows: SocketSampleView[];
}

/** What was done since the sample before; `null` in the first. */
export interface SocketSampleView {
  time: string;
  rtt_us: number | null;
  cwnd: number | null;
  retransmits: number | null;
  sent_rate: number | null;
  received_rate: number | null;
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
  /** Processes that were to be looked at: met = seen + unseen + waiting + overflowed. */
  owners_met?: number;
  owners_seen?: number;
  /** Gone before it was their turn. */
  owners_unseen?: number;
  owners_waiting?: number;
  /** No room to wait. */
  owners_overflowed?: number;
  /** Ends of owners that couldn't be watched for, or found no room. */
  exits_unwatched?: number;
  exits_forgotten?: number;
  /** Processes that were forgotten to make room. */
  owners_forgotten: number;
  rules_lost: number;
  rules_unsettled: number;
  tables: SummaryTableView[];
  /** Busy sockets that have no room for samples, and those whose samples made room. */
  samples_without?: number;
  samples_forgotten?: number;
  /** What names are read from; `null`: they aren't. */
  names?: NameStatsView | null;
}

export interface NameStatsView {
  observed: ObservedStatsView[];
  addresses: number;
  /** Answers that their socket hadn't asked for. */
  unasked: number;
  incomplete: number;
  nameless: number;
  addresses_forgotten: number;
  names_forgotten: number;
  questions_forgotten: number;
  hellos_forgotten: number;
}

/** `produced = delivered + lost`; `unread`: delivered, and not understood. */
export interface ObservedStatsView {
  kind: string;
  produced: number;
  delivered: number;
  lost: number;
  unread: number;
}

/** A name that an answer of DNS gave an address. */
export interface NameView {
  name: string;
  address: string;
  netns: number;
  server: string;
  answers: number;
  first: string;
  last: string;
  until: string;
  expired: boolean;
}

/** `produced = delivered + lost`. */
export interface SocketEventStatsView {
  class: string;
  produced: number;
  delivered: number;
  lost: number;
}

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
  /** `host`: what it is called now. */
  name?: string | null;
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

/** How full a table of summaries is. */
export interface SummaryTableView {
  by: string;
  rows: number;
  capacity: number;
  folded: number;
  lost: number;
}

/** Rules that let somebody do what was seen of them, and nothing else. */
export interface LearnView {
  by: string;
  owner: string;
  sockets: number;
  since: string | null;
  elsewhere: number;
  live: number;
  kept: number;
  history: { sockets: number; since: string; whole_since: string; cut: boolean; left_out: number; lost: number } | null;
  forgotten: number;
  rules: { name: string; text: string; sockets: number; note: string | null }[];
  /** The same as a part of a policy. */
  text: string;
}

/** Something that is known of a socket. */
export interface SocketAttributeView {
  name: string;
  value: string;
  /** How it is known. */
  source: string;
}

/** One socket, and all that is known of it. */
export interface SocketDetailsView {
  socket: SocketView;
  attributes: SocketAttributeView[];
}

/** What the stack dropped, in all network namespaces. */
export interface SocketDropsView {
  rows: { reason: string; packets: number; known: number }[];
  retransmits: number;
  resets_sent: number;
  resets_received: number;
}
