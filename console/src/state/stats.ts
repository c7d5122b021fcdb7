/** Totals, rates over time, and the account of events. */

import { createMemo, createRoot, createSignal } from "solid-js";
import type { StatsView } from "../protocol/types";
import { reading, sample, type Reading, type Sample } from "./rates";
import { client } from "./session";

/** An hour at one sample a second. */
const KEPT = 3_600;
/** Two readings closer than this (a snapshot, then the next tick) make a spike of noise, not a rate. */
const CLOSE_S = 0.5;

let before: Reading | null = null;
let history: Sample[] = [];
const reasonMarks = new Map<string, number>();

const [stats, setStats] = createSignal<StatsView | null>(null);
const [samples, setSamples] = createSignal<Sample[]>([]);
const [reasonRates, setReasonRates] = createSignal<Map<string, number>>(new Map());
/** Events this page was too slow for, since it was opened. */
const [missed, setMissed] = createSignal(0);

export { missed, reasonRates, samples, stats };
export const noteMissed = (n: number): void => void setMissed((m) => m + n);

/** Lost in the kernel since its maps were made, and missed by this page: exact, never rounded. */
export const losses = createRoot(() =>
  createMemo(() => {
    const kernel = (stats()?.events ?? []).reduce((sum, e) => sum + e.lost, 0);
    return { kernel, page: missed(), total: kernel + missed() };
  }),
);

function take(row: StatsView): void {
  const now = reading(row);
  if (before !== null && now.t < before.t) {
    // The clock was set back: times on the axis must grow.
    history = [];
    before = null;
  }
  if (before !== null && now.t - before.t < CLOSE_S) {
    setStats(row);
    return;
  }
  const dt = before === null ? 0 : now.t - before.t;
  const rates = new Map<string, number>();
  for (const r of row.reasons) {
    const was = reasonMarks.get(r.reason);
    rates.set(r.reason, was === undefined || dt <= 0 || r.packets < was ? 0 : (r.packets - was) / dt);
    reasonMarks.set(r.reason, r.packets);
  }
  history = [...(history.length >= KEPT ? history.slice(1) : history), sample(before, now)];
  before = now;
  setStats(row);
  setReasonRates(rates);
  setSamples(history);
}

client.subscribe("stats", {
  snapshot: (rows) => rows.forEach(take),
  change: (upsert) => upsert.forEach(take),
});
