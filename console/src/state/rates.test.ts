import { describe, expect, it } from "vitest";
import type { StatsView } from "../protocol/types";
import { reading, sample } from "./rates";

const stats = (second: number, over: Partial<StatsView> = {}): StatsView => ({
  time: new Date(1_700_000_000_000 + second * 1000).toISOString(),
  flows: 3,
  flows_max: 100,
  packets: 0,
  bytes: 0,
  passed_packets: 0,
  dropped_packets: 0,
  passed_bytes: 0,
  dropped_bytes: 0,
  reasons: [],
  events: [],
  ...over,
});

describe("sample", () => {
  it("divides by the time between the readings, not by one", () => {
    const a = reading(stats(0, { passed_packets: 100, dropped_packets: 10, passed_bytes: 1000 }));
    const b = reading(stats(2, { passed_packets: 300, dropped_packets: 14, passed_bytes: 2500, dropped_bytes: 500 }));
    expect(sample(a, b)).toMatchObject({ passed: 100, dropped: 2, bits: 8 * 750, droppedBits: 8 * 250, flows: 3 });
  });

  it("knows nothing from one reading", () => {
    expect(sample(null, reading(stats(0)))).toMatchObject({ passed: null, bits: null, newFlows: null });
  });

  it("draws no line through a gap", () => {
    expect(sample(reading(stats(0)), reading(stats(60, { passed_packets: 9 })))).toMatchObject({ passed: null, bits: null });
  });

  it("takes a counter that shrank for a reset, not for a negative rate", () => {
    const a = reading(stats(0, { passed_packets: 100, passed_bytes: 10 }));
    const b = reading(stats(1, { passed_packets: 5, passed_bytes: 20 }));
    expect(sample(a, b)).toMatchObject({ passed: null, bits: 80 });
  });

  it("counts new flows whose events were held back", () => {
    const at = (produced: number, suppressed: number) => ({ events: [{ class: "new", produced, delivered: produced, lost: 0, suppressed }] });
    expect(sample(reading(stats(0, at(5, 0))), reading(stats(1, at(8, 40)))).newFlows).toBe(43);
  });
});
