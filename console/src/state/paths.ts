/** How packets enter and leave, in words for a reader. Pure. */

import type { PathProgramView, PathView, Share } from "../protocol/types";

const KINDS: Record<string, [string, string]> = {
  interface: ["Interface", "A network interface"],
  "fast-path": ["Fast path", "Established flows that skip the network stack"],
  "af-xdp": ["AF_XDP socket", "A program that takes packets from a queue of the card, before the stack"],
  "af-packet": ["Raw socket", "A program that sees and sends raw frames (AF_PACKET), such as tcpdump or a DHCP client"],
  "userspace-driver": ["Card of a program", "A network card that a program drives by itself, such as DPDK"],
  "sr-iov": ["Card with functions", "A card that shows itself as several (SR-IOV)"],
  rdma: ["RDMA", "Memory of one machine written by another, past the kernel"],
  "zero-copy": ["Zero-copy queue", "Payload that goes to a program's memory without a copy"],
};

/** A kind, and what it is. A kind that isn't here is shown as it is. */
export const kindWords = (kind: string): [string, string] => KINDS[kind] ?? [kind, ""];

const SHARES: Record<Share, string> = { yes: "yes", part: "in part", no: "no" };

export const shareWords = (share: Share): string => SHARES[share] ?? share;

/** Name, queue and namespace. */
export function placeWords(row: PathView): string {
  const queue = row.queue === null ? "" : `, queue ${row.queue}`;
  return `${row.name === "any" ? "all interfaces" : row.name}${queue}`;
}

/** What it is, and what is below it. */
export function aboutWords(row: PathView): string {
  const mode = row.mode === null ? null : row.kind === "interface" ? `XDP ${row.mode}` : row.mode;
  const count = row.count > 1 ? `${row.count} of them` : null;
  return [row.device, row.parent, mode, count].filter((part) => part !== null).join(" · ");
}

/** A program or chain. */
export function programWords(at: PathProgramView): string {
  if (at.ours) return "Sluice";
  return at.name || (at.id === null ? "?" : `program ${at.id}`);
}

/** Where it hangs, in full. */
export function programTip(at: PathProgramView): string {
  const parts = [at.hook, at.name, at.id === null ? null : `id ${at.id}`, at.priority === null ? null : `priority ${at.priority}`];
  return parts.filter((part) => part !== null && part !== "").join(", ");
}

/** Something that isn't judged and could be comes first; what is in order last. The order within stays. */
export function worstFirst(rows: readonly PathView[]): PathView[] {
  const weight = (row: PathView) => (row.todo === null ? 3 : 0) + (row.filtered === "no" ? 0 : row.filtered === "part" ? 1 : 2);
  return rows.map((row, at) => ({ row, at })).sort((a, b) => weight(a.row) - weight(b.row) || a.at - b.at).map((r) => r.row);
}
