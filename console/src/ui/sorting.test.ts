import { describe, expect, it } from "vitest";
import { natural, sortRows, type SortColumn } from "./sorting";

interface Row {
  name: string;
  n: number | null;
}
const columns: SortColumn<Row>[] = [
  { key: "name", title: "", width: "", by: (r) => r.name },
  { key: "n", title: "", width: "", by: (r) => r.n },
  { key: "plain", title: "", width: "" },
];
const rows: Row[] = [{ name: "b", n: 1 }, { name: "a", n: null }, { name: "c", n: 7 }, { name: "aa", n: 1 }];
const names = (key: string, down: boolean) => sortRows(rows, columns, { key, down }, (a, b) => natural(a.name, b.name)).map((r) => r.name).join(" ");

describe("sortRows", () => {
  it("sorts both ways, ties the same way in both", () => {
    expect(names("name", false)).toBe("a aa b c");
    expect(names("name", true)).toBe("c b aa a");
    expect(names("n", true)).toBe("c aa b a");
    expect(names("n", false)).toBe("aa b c a");
  });
  it("leaves the order to the tie where there is nothing to sort by", () => expect(names("plain", true)).toBe("a aa b c"));
});

it("natural", () => expect(["10.0.0.10", "10.0.0.9", "9.0.0.1"].sort(natural)).toEqual(["9.0.0.1", "10.0.0.9", "10.0.0.10"]));
