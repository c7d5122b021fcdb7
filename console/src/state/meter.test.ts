import { describe, expect, it } from "vitest";
import { Meter } from "./meter";

describe("Meter", () => {
  it("knows nothing from one reading, then divides by the time that passed", () => {
    const meter = new Meter();
    expect(meter.read(0, [["a", 100]]).get("a")).toBe(null);
    expect(meter.read(2000, [["a", 500]]).get("a")).toBe(200);
    expect(meter.read(3000, [["a", 500]]).get("a")).toBe(0);
  });

  it("keeps a rate over a reading that comes too soon", () => {
    const meter = new Meter();
    meter.read(0, [["a", 0]]);
    meter.read(1000, [["a", 10]]);
    expect(meter.read(1100, [["a", 500]]).get("a")).toBe(10);
    expect(meter.read(2000, [["a", 1010]]).get("a")).toBe(1000);
  });

  it("takes a counter that shrank for a new one", () => {
    const meter = new Meter();
    meter.read(0, [["a", 100]]);
    expect(meter.read(1000, [["a", 3]]).get("a")).toBe(null);
    expect(meter.read(2000, [["a", 4]]).get("a")).toBe(1);
  });

  it("forgets who is gone", () => {
    const meter = new Meter();
    meter.read(0, [["a", 1], ["b", 1]]);
    meter.read(1000, [["b", 2]]);
    expect(meter.read(2000, [["a", 9], ["b", 3]])).toEqual(new Map([["a", null], ["b", 1]]));
  });
});
