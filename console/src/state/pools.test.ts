import { describe, expect, it } from "vitest";
import type { NatPoolView } from "../protocol/types";
import { poolState, sharePercent } from "./pools";

const pool = (in_use: number, ports: number): NatPoolView => ({
  address: "203.0.113.5", interface: null, rules: ["out"], proto: "tcp", ports, in_use, peak: in_use, made: in_use, failures: 0,
  used_percent: ports === 0 ? 0 : (100 * in_use) / ports,
});

describe("poolState", () => {
  it.each([
    [0, 100, "ok"],
    [79, 100, "ok"],
    [80, 100, "high"],
    [99, 100, "high"],
    [100, 100, "exhausted"],
    [0, 0, "ok"],
  ])("%d of %d is %s", (in_use, ports, state) => expect(poolState(pool(in_use, ports))).toBe(state));
});

it("a share never leaves its bar", () => {
  expect(sharePercent(pool(1, 4), 1)).toBe(25);
  expect(sharePercent(pool(1, 4), 9)).toBe(100);
  expect(sharePercent(pool(0, 0), 1)).toBe(0);
});
