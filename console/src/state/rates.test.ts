import { describe, expect, it } from "vitest";
import type { RuleView, StatsView } from "../protocol/types";
import { droppedBytes, reading, sample } from "./rates";

const stats = (second: number, over: Partial<StatsView> = {}): StatsView => ({
  time: new Date(1_700_000_000_000 + second * 1000).toISOString(),
  flows: 3,
  flows_max: 100,
  packets: 0,
  bytes: 0,
  passed_packets: 0,
  dropped_packets: 0,
  reasons: [],
  events: [],
  ...over,
});
const rule = (action: string, bytes: number) => ({ action, bytes }) as RuleView;

describe("droppedBytes", () => {
  it("counts refusing rules and reasons that always drop, nothing else", () => {
    const s = stats(0, {
      reasons: [
        { reason: "truncated-ipv4", packets: 1, bytes: 10 },
        { reason: "bad-fragment", packets: 1, bytes: 20 },
        { reason: "rule", packets: 1, bytes: 1000 },
        { reason: "established", packets: 1, bytes: 5000 },
      ],
    });
    expect(droppedBytes(s, [rule("drop", 300), rule("reject", 4), rule("allow", 9999), rule("count", 9999)])).toBe(334);
  });
});

describe("sample", () => {
  it("divides by the time between the readings, not by one", () => {
    const a = reading(stats(0, { passed_packets: 100, dropped_packets: 10, bytes: 1000 }), []);
    const b = reading(stats(2, { passed_packets: 300, dropped_packets: 14, bytes: 3000 }), [rule("drop", 500)]);
    expect(sample(a, b)).toMatchObject({ passed: 100, dropped: 2, bits: 8 * 750, droppedBits: 8 * 250, flows: 3 });
  });

  it("knows nothing from one reading", () => {
    expect(sample(null, reading(stats(0), []))).toMatchObject({ passed: null, bits: null, newFlows: null });
  });

  it("draws no line through a gap", () => {
    expect(sample(reading(stats(0), []), reading(stats(60, { passed_packets: 9 }), []))).toMatchObject({ passed: null, bits: null });
  });

  it("takes a counter that shrank for a reset, not for a negative rate", () => {
    const a = reading(stats(0, { passed_packets: 100, bytes: 10 }), []);
    const b = reading(stats(1, { passed_packets: 5, bytes: 20 }), []);
    expect(sample(a, b)).toMatchObject({ passed: null, bits: 80 });
  });

  it("counts new flows whose events were held back", () => {
    const at = (produced: number, suppressed: number) => ({ events: [{ class: "new", produced, delivered: produced, lost: 0, suppressed }] });
    expect(sample(reading(stats(0, at(5, 0)), []), reading(stats(1, at(8, 40)), [])).newFlows).toBe(43);
  });
});
