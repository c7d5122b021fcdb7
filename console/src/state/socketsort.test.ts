import { expect, it } from "vitest";
import { nextSort, sortOf, sortable } from "./socketsort";

it("numbers come from the largest, text from A", () => {
  expect(sortOf("rtt")).toEqual({ key: "rtt", down: true });
  expect(sortOf("-rtt")).toEqual({ key: "rtt", down: false });
  expect(sortOf("comm")).toEqual({ key: "comm", down: false });
  expect(sortOf("-comm")).toEqual({ key: "comm", down: true });
});

it("what the server can't sort by is no sort", () => {
  for (const word of ["", "-", "colour", "remote", "--rtt"]) expect(sortOf(word)).toBeNull();
  expect(sortable("remote")).toBe(false);
  expect(nextSort("rtt", "remote")).toBe("rtt");
});

it("three clicks lead back", () => {
  const [first, second, third] = ["rtt", "-rtt", ""].map((_, i, all) => nextSort(i === 0 ? "" : all[i - 1]!, "rtt"));
  expect([first, second, third]).toEqual(["rtt", "-rtt", ""]);
  expect(nextSort("-rtt", "state")).toBe("state");
});
