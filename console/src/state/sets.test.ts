import { describe, expect, it } from "vitest";
import type { SetView } from "../protocol/sets";
import { changeText, EXAMPLES, fullPercent, setState, splitEntries } from "./sets";

const set = (more: Partial<SetView>): SetView => ({
  name: "listed", kind: "addresses", entries: 0, size: null, room: 100, bytes: 65_536, timeout_ms: null, file: null, grows: false, added: 0, renewed: 0, refused: 0, busy: 0, ...more,
});

describe("splitEntries", () => {
  it("takes a line, and a column out of a report", () => {
    expect(splitEntries("192.0.2.7 198.51.100.0/24")).toEqual(["192.0.2.7", "198.51.100.0/24"]);
    expect(splitEntries(" 192.0.2.7,\n[2001:db8::1]:53 ,\t80\n")).toEqual(["192.0.2.7", "[2001:db8::1]:53", "80"]);
    expect(splitEntries(" \n,")).toEqual([]);
  });
  it("takes its own examples", () => {
    expect(Object.values(EXAMPLES).map((text) => splitEntries(text).length)).toEqual([3, 2, 2]);
  });
});

it("a share never leaves its bar", () => {
  expect(fullPercent(set({ entries: 25 }))).toBe(25);
  expect(fullPercent(set({ entries: 101 }))).toBe(100);
  expect(fullPercent(set({ entries: 1, room: 0 }))).toBe(0);
});

describe("setState", () => {
  it.each([
    [{}, "ok"],
    [{ entries: 89 }, "ok"],
    [{ entries: 90 }, "high"],
    // Nobody is refused by a set that only people add to.
    [{ entries: 100, refused: 3 }, "high"],
    [{ entries: 100, refused: 3, grows: true }, "refused"],
    // There is room again.
    [{ entries: 50, refused: 3, grows: true }, "ok"],
  ] as [Partial<SetView>, string][])("%o is %s", (more, state) => expect(setState(set(more))).toBe(state));
});

describe("changeText", () => {
  const change = { name: "listed", added: 0, renewed: 0, deleted: 0, entries: 1 };
  it.each([
    [{ added: 2, renewed: 1, entries: 5 }, "listed: 2 added, 1 had their time anew; 5 entries"],
    [{ deleted: 1_000 }, "listed: 1,000 deleted; 1 entry"],
    [{}, "listed: nothing to do; 1 entry"],
  ])("%o: %s", (more, text) => expect(changeText({ ...change, ...more })).toBe(text));
});
