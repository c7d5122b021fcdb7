import { describe, expect, it } from "vitest";
import type { PathView } from "../protocol/types";
import { aboutWords, kindWords, placeWords, programTip, programWords, worstFirst } from "./paths";

const row = (given: Partial<PathView>): PathView => ({
  kind: "interface", name: "wan0", netns: null, device: null, parent: null, mode: null, queue: null, count: 1, attached: [], owners: [],
  filtered: "yes", accounted: "yes", why: "", todo: null, ...given,
});

describe("words", () => {
  it("says what a row is and where", () => {
    expect(placeWords(row({ queue: 0 }))).toBe("wan0, queue 0");
    expect(placeWords(row({ name: "any", kind: "af-packet" }))).toBe("all interfaces");
    expect(aboutWords(row({ device: "veth", parent: "other end: c0", mode: "native" }))).toBe("veth · other end: c0 · XDP native");
    expect(aboutWords(row({ kind: "af-xdp", mode: "copy", count: 2 }))).toBe("copy · 2 of them");
  });

  it("says whose a program is", () => {
    const at = { hook: "xdp", id: 9, name: null, priority: null, ours: false };
    expect(programWords(at)).toBe("program 9");
    expect(programWords({ ...at, name: "lb" })).toBe("lb");
    expect(programWords({ ...at, name: "sluice_xdp", ours: true })).toBe("Sluice");
    expect(programTip({ ...at, name: "lb", priority: -5 })).toBe("xdp, lb, id 9, priority -5");
  });

  it("leaves unknown kinds as they are", () => expect(kindWords("teleport")).toEqual(["teleport", ""]));
});

it("what needs somebody comes first", () => {
  const rows = [
    row({ name: "fine" }),
    row({ name: "lo", filtered: "no" }),
    row({ name: "half", filtered: "part", todo: "do" }),
    row({ name: "open", filtered: "no", todo: "do" }),
    row({ name: "open2", filtered: "no", todo: "do" }),
  ];
  expect(worstFirst(rows).map((r) => r.name)).toEqual(["open", "open2", "half", "lo", "fine"]);
});
