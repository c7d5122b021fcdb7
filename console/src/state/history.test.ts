import { describe, expect, it } from "vitest";
import { askQuestion, readQuestion, series, writeQuestion } from "./history";

describe("questions", () => {
  it("are in the address, but for what goes without saying", () => {
    const first = readQuestion(new URLSearchParams());
    expect(writeQuestion(first)).toEqual({});
    const q = readQuestion(new URLSearchParams("kind=flows&filter=rule%3Dweb&since=1h&by=port&top=20"));
    expect(q).toEqual({ kind: "flows", filter: "rule=web", since: "1h", by: "port", top: 20 });
    expect(readQuestion(new URLSearchParams(writeQuestion(q)))).toEqual(q);
    expect(askQuestion(q)).toEqual({ kind: "flows", filter: "rule=web", since: "1h", by: "port", top: 20 });
    expect(askQuestion({ ...q, by: "" })).toEqual({ kind: "flows", filter: "rule=web", since: "1h", limit: 20 });
  });
  it("that make no sense are the first one", () => {
    const q = readQuestion(new URLSearchParams("kind=dreams&since=1y&by=colour&top=3"));
    expect(q).toEqual({ kind: "sockets", filter: "", since: "24h", by: "", top: 100 });
    expect(readQuestion(new URLSearchParams("kind=audit&by=process")).by).toBe("");
  });
});

describe("a series", () => {
  const minute = (n: number) => new Date(n * 60_000).toISOString();
  it("has each minute at its place, and nothing elsewhere", () => {
    const { times, values } = series([{ key: minute(100), value: 5 }, { key: minute(98), value: 2 }, { key: minute(50), value: 9 }], 100 * 60 + 30, 300);
    expect(times).toEqual([95, 96, 97, 98, 99, 100].map((n) => n * 60));
    expect(values).toEqual([0, 0, 0, 2, 0, 5]);
  });
  it("of many minutes has their mean", () => {
    const range = 86_400;
    const { times, values } = series([{ key: minute(2_000), value: 6 }, { key: minute(2_001), value: 2 }], 2_001 * 60, range);
    expect(times.length).toBe(721);
    expect(values.reduce((a, b) => a + b, 0) * 2).toBe(8);
  });
});
