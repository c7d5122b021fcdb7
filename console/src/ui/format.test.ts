import { describe, expect, it } from "vitest";
import { ago, bits, bytes, clock, count, duration, endpoint, millis, natTerm, natText, percent, plural, short } from "./format";

describe("short", () => {
  it.each([
    [0, "0"],
    [7, "7"],
    [0.4, "0.4"],
    [99.94, "99.9"],
    [412.6, "413"],
    [999, "999"],
    [999.6, "1.00 k"],
    [1000, "1.00 k"],
    [9_994, "9.99 k"],
    [9_996, "10.0 k"],
    [99_960, "100 k"],
    [999_499, "999 k"],
    [999_500, "1.00 M"],
    [1.5e9, "1.50 G"],
    [3e18, "3000 P"],
    [-2500, "-2.50 k"],
    [Number.NaN, "–"],
  ])("%d is %s", (n, text) => expect(short(n)).toBe(text));

  it("carries units", () => {
    expect(bytes(1_234_567)).toBe("1.23 MB");
    expect(bytes(12)).toBe("12 B");
    expect(bits(2.5e6)).toBe("2.50 Mb/s");
  });
});

it("count is exact", () => expect(count(1234567)).toBe("1,234,567"));

it("durations have at most two parts", () => {
  expect([0, 420, 9_949, 9_950, 59_400, 60_000, 187_000, 7_500_000, 360_000_000, 2_592_000_000, -1].map(duration)).toEqual([
    "0.0 s", "0.4 s", "9.9 s", "10 s", "59 s", "1m 00s", "3m 07s", "2h 05m", "4d 4h", "30d", "–",
  ]);
});

it("endpoints bracket IPv6 and leave port 0 out", () => {
  expect(endpoint("10.0.0.1", 443)).toBe("10.0.0.1:443");
  expect(endpoint("2001:db8::1", 443)).toBe("[2001:db8::1]:443");
  expect(endpoint("2001:db8::1", 0)).toBe("2001:db8::1");
});

it("times that can't be read are shown as they are", () => {
  expect(clock(null)).toBe("–");
  expect(clock("soon")).toBe("soon");
  expect(clock("2026-01-01T00:00:01.042Z", true)).toMatch(/^\d\d:00:01\.042$/);
});

it("ago", () => {
  const now = Date.parse("2026-01-01T00:01:00Z");
  expect(ago(null, now)).toBe("never");
  expect(ago("2026-01-01T00:00:59.500Z", now)).toBe("just now");
  expect(ago("2026-01-01T00:00:30Z", now)).toBe("30 s ago");
});

it("plural", () => {
  expect(plural(1, "rule")).toBe("1 rule");
  expect(plural(0, "rule")).toBe("0 rules");
});

describe("translations", () => {
  const flow = { src: "10.0.0.5", sport: 4000, dst: "198.51.100.80", dport: 80 };
  const nat = (over: Partial<typeof flow>) => ({ ...flow, nat: { ...flow, ...over } });
  it.each([
    [{ ...flow, nat: null }, "", null],
    [nat({ src: "203.0.113.5", sport: 40021 }), "from 203.0.113.5:40021", "nat_src=203.0.113.5"],
    [nat({ src: "203.0.113.5" }), "from 203.0.113.5:4000", "nat_src=203.0.113.5"],
    [nat({ dst: "10.0.0.9", dport: 8080 }), "to 10.0.0.9:8080", "nat_dst=10.0.0.9"],
    [nat({ src: "203.0.113.5", dst: "10.0.0.9" }), "from 203.0.113.5:4000 to 10.0.0.9:80", "nat_src=203.0.113.5"],
    [nat({ dport: 8080 }), "to 198.51.100.80:8080", "nat_src=10.0.0.5"],
    [nat({}), "unchanged", "nat_src=10.0.0.5"],
  ])("%j is %j", (row, text, term) => {
    expect(natText(row)).toBe(text);
    const t = natTerm(row);
    expect(t && `${t.field}=${t.value}`).toBe(term);
  });
});

it("percent", () => expect([0, 0.04, 0.1, 4.21, 9.95, 87.4, 100].map(percent)).toEqual(["0 %", "<0.1 %", "0.1 %", "4.2 %", "10 %", "87 %", "100 %"]));

describe("millis", () => {
  it.each([
    [0, "0.00 ms"],
    [2, "<0.01 ms"],
    [40, "0.04 ms"],
    [999, "0.99 ms"],
    [1000, "1.0 ms"],
    [2300, "2.3 ms"],
    [99_999, "99.9 ms"],
    [100_000, "100 ms"],
  ])("%d is %s", (us, text) => expect(millis(us)).toBe(text));
});
