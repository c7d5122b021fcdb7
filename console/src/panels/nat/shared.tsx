/** What the rooms of translation have in common. */

import type { NatTotals } from "../../protocol/types";
import { bytes, count, short } from "../../ui/format";
import type { SortColumn } from "../../ui/sorting";

/** Milliseconds between an answer and the next question. */
export const EVERY_MS = 1_000;

/** What to write in the policy for there to be something to see. */
export const EXAMPLE = `interface wan = eth0
nat out masquerade  on wan from 10.0.0.0/8
nat web destination on wan tcp to 203.0.113.5 port 80 => 10.0.0.5 port 8080`;

/** Columns of everything that has totals. `direction` is that of whoever began the flow. */
export function totalColumns<R extends NatTotals>(): SortColumn<R>[] {
  return [
    { key: "live", title: "Live", hint: "Mappings that live", width: "66px", align: "end", text: (r) => count(r.live), by: (r) => r.live, class: (r) => (r.live > 0 ? "num strong" : "num dim") },
    {
      key: "mappings", title: "Mappings", hint: "Mappings ever made", width: "82px", align: "end", text: (r) => short(r.mappings), by: (r) => r.mappings, class: () => "num",
      tip: (r) => `${count(r.mappings)} made, ${count(r.ended)} of them have ended`, min: 600,
    },
    {
      key: "failures", title: "Failed", hint: "Mappings that couldn't be made: no port was left", width: "minmax(52px, 66px)", align: "end", text: (r) => short(r.failures), by: (r) => r.failures,
      tip: (r) => `${count(r.failures)} mappings couldn't be made: no port was left`, class: (r) => (r.failures > 0 ? "num warn-text" : "num dim"),
    },
    {
      key: "packets", title: "Packets", hint: "Both ways, ended and live flows together", width: "78px", align: "end", min: 1000, text: (r) => short(r.packets + r.reply_packets),
      tip: (r) => `${count(r.packets)} from whoever began, ${count(r.reply_packets)} back`, by: (r) => r.packets + r.reply_packets, class: () => "num dim",
    },
    { key: "bytes", title: "Sent", hint: "Bytes from whoever began the flow, ended and live flows together", width: "minmax(68px, 82px)", align: "end", text: (r) => bytes(r.bytes), tip: (r) => `${count(r.bytes)} B`, by: (r) => r.bytes, class: () => "num" },
    { key: "reply_bytes", title: "Back", hint: "Bytes of the answers, ended and live flows together", width: "minmax(68px, 82px)", align: "end", text: (r) => bytes(r.reply_bytes), tip: (r) => `${count(r.reply_bytes)} B`, by: (r) => r.reply_bytes, class: () => "num" },
  ];
}

/** Exact sums of all rows: what the accounts add up to. */
export function Sums(props: { rows: NatTotals[]; what: string }) {
  const sum = (of: (r: NatTotals) => number) => props.rows.reduce((total, r) => total + of(r), 0);
  return (
    <span class="tally" id="nat-sums">
      {props.what} · <b class="num">{count(sum((r) => r.live))}</b> live
      {" · "}
      <span title={`${count(sum((r) => r.bytes))} B from whoever began, ${count(sum((r) => r.reply_bytes))} B back`}>
        <b class="num">{bytes(sum((r) => r.bytes))}</b> sent, <b class="num">{bytes(sum((r) => r.reply_bytes))}</b> back
      </span>
    </span>
  );
}
