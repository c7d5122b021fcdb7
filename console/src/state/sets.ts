/** Live sets, in words. Pure. */

import type { SetChangeView, SetKind, SetView } from "../protocol/sets";
import { count, plural } from "../ui/format";

/** What an entry of a kind looks like. */
export const EXAMPLES: Record<SetKind, string> = {
  addresses: "192.0.2.7 198.51.100.0/24 2001:db8::/32",
  pairs: "192.0.2.1:443 [2001:db8::1]:53",
  ports: "80 1000-2000",
};

/** Entries as somebody typed or pasted them, a line or many. */
export const splitEntries = (text: string): string[] => text.split(/[\s,]+/).filter((word) => word !== "");

/** How full a set is, in percent, of which there can't be more than 100. */
export const fullPercent = (set: SetView): number => (set.room > 0 ? Math.min(100, (100 * set.entries) / set.room) : 0);

export type SetState = "ok" | "high" | "refused";

/** Rules that found no room: their packets passed as if they had added nothing. */
export function setState(set: SetView): SetState {
  if (set.grows && set.refused > 0 && set.entries >= set.room) return "refused";
  return fullPercent(set) >= 90 ? "high" : "ok";
}

/** `listed: 2 added, 1 had their time anew; 5 entries`. */
export function changeText(change: SetChangeView): string {
  const parts: string[] = [];
  if (change.added > 0) parts.push(`${count(change.added)} added`);
  if (change.renewed > 0) parts.push(`${count(change.renewed)} had their time anew`);
  if (change.deleted > 0) parts.push(`${count(change.deleted)} deleted`);
  const done = parts.length === 0 ? "nothing to do" : parts.join(", ");
  return `${change.name}: ${done}; ${plural(change.entries, "entry", "entries")}`;
}
