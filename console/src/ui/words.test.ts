import { expect, it } from "vitest";
import { ruleMarks } from "./words";

const marks = (text: string) => ruleMarks(text).map(([word]) => word);

it("marks what a rule does beside its action", () => {
  expect(marks("rule a allow in tcp to port 80")).toEqual([]);
  expect(marks("rule a allow in udp to port 53 no-track")).toEqual(["no-track"]);
  expect(marks("rule a allow in tcp to port 80 syn-cookies log")).toEqual(["syn-cookies"]);
  expect(marks("rule tunnel bypass in on eth1 udp to port 4789 => xsk")).toEqual(["xsk"]);
});

it("takes neither names nor sets for marks", () => {
  expect(marks("rule no-track allow in udp")).toEqual([]);
  expect(marks("rule a allow in udp from { no-track, xsk }")).toEqual([]);
});
