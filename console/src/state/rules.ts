/** The live policy's rules with their counters. */

import { createSignal } from "solid-js";
import type { RuleView } from "../protocol/types";
import { client } from "./session";
import { throttle } from "./time";

/** A rule and how busy it has been of late. */
export interface RuleRow extends RuleView {
  /** Hits a second over the last few seconds. */
  rate: number;
}

const byName = new Map<string, RuleRow>();
let order: string[] = [];
/** What each rule's hits were at the last few publications: rates are over three seconds, since counters come once a second. */
const marks = new Map<string, { at: number; hits: number }[]>();
const MARKS = 4;

const [rules, setRules] = createSignal<RuleRow[]>([]);
const [generation, setGeneration] = createSignal<number | null>(null);
const [arrived, setArrived] = createSignal(false);

export { arrived as rulesArrived, generation, rules };
export const noteGeneration = (n: number): void => void setGeneration(n);

const publish = () => {
  const now = performance.now();
  for (const row of byName.values()) {
    let kept = marks.get(row.name);
    if (!kept || row.hits < (kept[kept.length - 1]?.hits ?? 0)) marks.set(row.name, (kept = []));
    const oldest = kept[0];
    if (oldest && now > oldest.at) row.rate = ((row.hits - oldest.hits) * 1000) / (now - oldest.at);
    if (now - (kept[kept.length - 1]?.at ?? -Infinity) >= 900) kept.push({ at: now, hits: row.hits });
    if (kept.length > MARKS) kept.shift();
  }
  setRules(order.map((name) => ({ ...byName.get(name)! })));
};
const soon = throttle(1000, publish);
window.setInterval(() => byName.size > 0 && soon(), 1000);

client.subscribe("rules", {
  snapshot(rows, about) {
    const old = new Map(byName);
    byName.clear();
    for (const row of rows) byName.set(row.name, { ...row, rate: old.get(row.name)?.rate ?? 0 });
    order = rows.map((row) => row.name);
    for (const name of marks.keys()) if (!byName.has(name)) marks.delete(name);
    if (about.generation !== null) setGeneration(about.generation);
    setArrived(true);
    publish();
  },
  change(upsert) {
    for (const row of upsert) {
      const before = byName.get(row.name);
      if (before) byName.set(row.name, { ...row, rate: before.rate });
    }
    soon();
  },
});
