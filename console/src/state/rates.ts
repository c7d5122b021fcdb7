/** From counters that only grow to rates over time. Pure. */

import type { StatsView } from "../protocol/types";

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

export const newFlows = (stats: StatsView): number => {
  const e = stats.events.find((e) => e.class === "new");
  // Every new flow makes one event, numbered or held back.
  return e ? e.produced + e.suppressed : 0;
};

/** What a rate is made from. */
export interface Reading {
  t: number;
  packets: { passed: number; dropped: number };
  bytes: { passed: number; dropped: number };
  newFlows: number;
  flows: number;
}

export function reading(stats: StatsView): Reading {
  return {
    t: Date.parse(stats.time) / 1000,
    packets: { passed: stats.passed_packets, dropped: stats.dropped_packets },
    bytes: { passed: stats.passed_bytes, dropped: stats.dropped_bytes },
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
  const bits = (a: number | undefined, b: number): number | null => {
    const bytes = per(a, b);
    return bytes === null ? null : 8 * bytes;
  };
  return {
    t: now.t,
    passed: per(before?.packets.passed, now.packets.passed),
    dropped: per(before?.packets.dropped, now.packets.dropped),
    bits: bits(before?.bytes.passed, now.bytes.passed),
    droppedBits: bits(before?.bytes.dropped, now.bytes.dropped),
    newFlows: per(before?.newFlows, now.newFlows),
    flows: now.flows,
  };
}
