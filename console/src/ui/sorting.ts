/** Rows in the order of a column that somebody has chosen. */

import { createSignal } from "solid-js";
import type { Column, Sort } from "./Table";

/** A column to sort by: numbers largest first, text from A (numbers in it as numbers), what isn't known last. */
export interface SortColumn<R> extends Column<R> {
  by?(row: R): number | string | null;
}

/** `tie` decides between equals, so that the order stays put when nothing changes. */
export function sortRows<R>(rows: readonly R[], columns: readonly SortColumn<R>[], sort: Sort, tie: (a: R, b: R) => number): R[] {
  const by = columns.find((c) => c.key === sort.key)?.by ?? (() => 0);
  const sign = sort.down ? -1 : 1;
  const keyed = rows.map((row) => ({ row, key: by(row) }));
  keyed.sort((a, b) => {
    if (a.key === b.key) return tie(a.row, b.row);
    if (a.key === null) return 1;
    if (b.key === null) return -1;
    if (typeof a.key === "string" && typeof b.key === "string") return sign * natural(a.key, b.key);
    return sign * (a.key < b.key ? -1 : 1);
  });
  return keyed.map((k) => k.row);
}

/** The chosen column, and what a click on a head does to it. */
export function createSort<R>(first: Sort, columns: readonly SortColumn<R>[]) {
  const [sort, setSort] = createSignal<Sort>(first);
  const onSort = (key: string) =>
    setSort((s) => (s.key === key ? { key, down: !s.down } : { key, down: columns.find((c) => c.key === key)?.align === "end" }));
  return [sort, onSort] as const;
}

/** By text in which numbers are numbers: `10.0.0.9` before `10.0.0.10`. */
export const natural = new Intl.Collator("en", { numeric: true }).compare;
