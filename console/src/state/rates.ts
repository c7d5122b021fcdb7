/** From counters that only grow to rates over time. Pure. */

import type { RuleView, StatsView } from "../protocol/types";

/** One second of history; rates per second, `null` where none can be known (first sample, a gap, a counter reset). */
export interface Sample {
  /** Unix time, seconds. */
  t: number;
  passed: number | null;
  dropped: number | null;
  bits: number | null;
  droppedBits: number | null;
  newFlows: number | null;
  flows: number;
}

/** Reasons under which every packet is dropped, whatever the rules say. */
const ALWAYS_DROPPED = /^(truncated|bad|too-many)-|^(fragment-without-first|flow-table-full|no-syn)$/;

/**
 * Bytes that were dropped so far. `StatsView` tells bytes by reason only, and `rule` and `default` stand for both outcomes; what
 * rules and defaults refused is in the rules' own counters. Those leave the link header out, hence never more than the truth.
 */
export function droppedBytes(stats: StatsView, rules: Iterable<RuleView>): number {
  let sum = 0;
  for (const r of stats.reasons) if (ALWAYS_DROPPED.test(r.reason)) sum += r.bytes;
  for (const r of rules) if (r.action === "drop" || r.action === "reject") sum += r.bytes;
  return sum;
}

export const newFlows = (stats: StatsView): number => {
  const e = stats.events.find((e) => e.class === "new");
  // Every new flow makes one event, numbered or held back.
  return e ? e.produced + e.suppressed : 0;
};

/** What a rate is made from. */
export interface Reading {
  t: number;
  packets: { passed: number; dropped: number };
  bytes: number;
  droppedBytes: number;
  newFlows: number;
  flows: number;
}

export function reading(stats: StatsView, rules: Iterable<RuleView>): Reading {
  return {
    t: Date.parse(stats.time) / 1000,
    packets: { passed: stats.passed_packets, dropped: stats.dropped_packets },
    bytes: stats.bytes,
    droppedBytes: droppedBytes(stats, rules),
    newFlows: newFlows(stats),
    flows: stats.flows,
  };
}

/** Readings further apart than this say nothing about the time between. */
const GAP_S = 5;

export function sample(before: Reading | null, now: Reading): Sample {
  const dt = before === null ? 0 : now.t - before.t;
  const per = (a: number | undefined, b: number): number | null =>
    a === undefined || dt <= 0 || dt > GAP_S || b < a ? null : (b - a) / dt;
  const all = per(before?.bytes, now.bytes);
  const refused = per(before?.droppedBytes, now.droppedBytes);
  return {
    t: now.t,
    passed: per(before?.packets.passed, now.packets.passed),
    dropped: per(before?.packets.dropped, now.packets.dropped),
    bits: all === null ? null : 8 * Math.max(0, all - (refused ?? 0)),
    droppedBits: all === null || refused === null ? null : 8 * Math.min(all, refused),
    newFlows: per(before?.newFlows, now.newFlows),
    flows: now.flows,
  };
}
