import { expect, it } from "vitest";
import { confidenceWords, endWords, madeUnseen, nameWords, noteMark, stateWords } from "./socketwords";

it("says what short names mean, and leaves those it doesn't know", () => {
  expect(stateWords("listen")).toBe("waits for connections");
  expect(endWords("refused")).toMatch(/refused the connection/);
  expect(confidenceWords("held")).toMatch(/found holding/);
  for (const words of [stateWords, endWords, confidenceWords]) expect(words("of-a-kind-to-come")).toBe("of-a-kind-to-come");
});

it("says how names are known", () => {
  expect(nameWords("dns", 0)).toBe("as DNS answered");
  expect(nameWords("dns", 2)).toMatch(/2 other names/);
  expect(nameWords("sni-outer", 0)).toMatch(/front/);
  expect(nameWords("of-a-kind-to-come", 0)).toBe("of-a-kind-to-come");
});

it("marks by what a socket can do", () => {
  expect(["packet", "xdp", "raw/89", "tcp"].map(noteMark)).toEqual(["sees packets", "past the stack", "own headers", "note"]);
});

it("says why the beginning isn't known", () => {
  expect(madeUnseen({ family: 4 })).toBe("before the monitor began");
  expect(madeUnseen({ family: 0 })).toMatch(/not seen/);
});
