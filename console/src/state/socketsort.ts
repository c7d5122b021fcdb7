/** By what the server sorts sockets, and what a click on a head makes of it. Pure. */

import type { Sort } from "../ui/Table";

/** The server's words are our columns' keys: numbers come from the largest, these from the smallest or from A. */
const RISING = new Set(["local_port", "comm", "state"]);
const FALLING = new Set(["sent_rate", "received_rate", "sent_bytes", "received_bytes", "rtt", "retransmits", "age"]);

export const sortable = (key: string): boolean => RISING.has(key) || FALLING.has(key);

/** `-rtt` as a mark on a head; `null` for the server's own order and for what it can't sort by. */
export function sortOf(word: string): Sort | null {
  const turned = word.startsWith("-");
  const key = turned ? word.slice(1) : word;
  return sortable(key) ? { key, down: FALLING.has(key) !== turned } : null;
}

/** The column's order, the other way round, then the server's own order again. */
export function nextSort(word: string, key: string): string {
  if (!sortable(key)) return word;
  if (word === key) return `-${key}`;
  return word === `-${key}` ? "" : key;
}
