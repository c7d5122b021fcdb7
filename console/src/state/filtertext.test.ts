import { describe, expect, it } from "vitest";
import { narrow, quote, termText } from "./filtertext";

describe("quote", () => {
  it.each([
    ["tcp", "tcp"],
    ["10.0.0.1", "10.0.0.1"],
    ["2001:db8::1", "2001:db8::1"],
    ["::1", "::1"],
    ["in", "in"],
    ["or", '"or"'],
    ["default in", '"default in"'],
    ['a "b"\\', '"a b\\"'],
    ["", '""'],
  ])("%s -> %s", (value, text) => expect(quote(value)).toBe(text));
});

describe("narrow", () => {
  const tcp = { field: "proto", value: "tcp" };
  it("joins with and", () => {
    expect(narrow("", tcp)).toBe("proto=tcp");
    expect(narrow("dport=22", tcp)).toBe("dport=22 and proto=tcp");
    expect(narrow("dport=22", tcp, true)).toBe("dport=22 and proto!=tcp");
  });
  it("keeps the meaning of an or", () => {
    expect(narrow("dport=22 or dport=80", tcp)).toBe("(dport=22 or dport=80) and proto=tcp");
    expect(narrow("dport=22||dport=80", tcp)).toBe("(dport=22||dport=80) and proto=tcp");
    expect(narrow("(dport=22)or dport=80", tcp)).toBe("((dport=22)or dport=80) and proto=tcp");
  });
  it("adds no parentheses for an or that is inside some, or quoted, or part of a word", () => {
    expect(narrow("(dport=22 or dport=80) and src=::1", tcp)).toBe("(dport=22 or dport=80) and src=::1 and proto=tcp");
    expect(narrow('rule="this or that"', tcp)).toBe('rule="this or that" and proto=tcp');
    expect(narrow("rule=for and rule!=order", tcp)).toBe("rule=for and rule!=order and proto=tcp");
  });
  it("is idempotent", () => {
    const once = narrow("dport=22", tcp);
    expect(narrow(once, tcp)).toBe(once);
    expect(narrow(narrow(once, { field: "rule", value: "x" }), tcp)).toBe(`${once} and rule=x`);
  });
});

it("termText", () => expect(termText({ field: "rule", value: "default in" }, true)).toBe('rule!="default in"'));
