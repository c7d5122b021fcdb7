/** What sockets have done, live and ended ones together, by process, executable, user, host, unit or protocol. */

import { createEffect, createMemo, createSignal, For, on, Show } from "solid-js";
import * as http from "../../protocol/http";
import type { SummaryRowView, SummaryStatView } from "../../protocol/types";
import { createPolled } from "../../state/polled";
import { href } from "../../state/route";
import { BY, termOf, titleOf, type By } from "../../state/summary";
import { bytes, count, millis, plural } from "../../ui/format";
import { createSort, natural, sortRows, type SortColumn } from "../../ui/sorting";
import { Table } from "../../ui/Table";
import { Trouble, Waiting } from "../../ui/Trouble";
import { Rooms } from "./Rooms";

/** Milliseconds between an answer and the next question. */
const EVERY_MS = 2_000;
/** More rows than there may be. */
const LIMIT = 5_000;

/** Half and 99 of a hundred, where there was anything. */
const spread = (stat: SummaryStatView, show: (n: number) => string): string => (stat.count === 0 ? "" : `${show(stat.p50)} / ${show(stat.p99)}`);
const whole = (stat: SummaryStatView, show: (n: number) => string): string =>
  stat.count === 0 ? "none" : `${count(stat.count)}: least ${show(stat.min)}, mean ${show(stat.avg)}, most ${show(stat.max)}; half up to ${show(stat.p50)}, 95 % up to ${show(stat.p95)}, 99 % up to ${show(stat.p99)}`;

type Op = "connect_us" | "accept_us" | "read_bytes" | "write_bytes" | "life_us";

const op = (key: Op, title: string, hint: string, min: number): SortColumn<SummaryRowView> => {
  const show = key.endsWith("_us") ? millis : bytes;
  return {
    key, title, hint: `${hint}: half and 99 of a hundred are not above`, width: "minmax(132px, 1fr)", align: "end", min,
    by: (r) => (r[key].count === 0 ? null : r[key].p99), text: (r) => spread(r[key], show), tip: (r) => whole(r[key], show), class: () => "num",
  };
};

const columns = (by: By): SortColumn<SummaryRowView>[] => [
  {
    key: "key", title: titleOf(by), width: "minmax(140px, 2fr)", by: (r) => r.key,
    tip: (r) => (r.key === "other" ? "Those whose row was folded to make room" : r.key),
    cell: (r) => {
      const term = () => termOf(by, r().key);
      return (
        <Show when={term()} fallback={<span class="strong">{r().key}</span>}>
          {(filter) => <a class="strong" href={href("sockets", { filter: filter() })} title="Its sockets that live" tabindex="-1">{r().key}</a>}
        </Show>
      );
    },
  },
  { key: "live", title: "Live", width: "64px", align: "end", by: (r) => r.live, text: (r) => count(r.live), class: () => "num" },
  { key: "total", title: "All", hint: "Live ones, and those that have ended", width: "72px", align: "end", by: (r) => r.total, text: (r) => count(r.total), class: () => "num", min: 500 },
  { key: "sent", title: "Sent", width: "84px", align: "end", by: (r) => r.sent_bytes, text: (r) => bytes(r.sent_bytes), class: () => "num strong" },
  { key: "received", title: "Received", width: "84px", align: "end", by: (r) => r.received_bytes, text: (r) => bytes(r.received_bytes), class: () => "num strong" },
  op("connect_us", "Connects", "From the SYN to the end of the handshake, of connections that it began", 900),
  op("accept_us", "Accepts", "The same of connections that others began", 1000),
  op("write_bytes", "Writes", "Bytes of a call", 1100),
  op("read_bytes", "Reads", "Bytes of a call", 1200),
  { key: "again", title: "Resent", hint: "Segments sent again", width: "72px", align: "end", by: (r) => r.retransmits.sum, text: (r) => (r.retransmits.sum === 0 ? "" : count(r.retransmits.sum)), class: () => "num warn-text", min: 800 },
  op("life_us", "Lived", "Those that have ended", 1300),
];

const [by, setBy] = createSignal<By>("process");

export function Summary() {
  const answer = createPolled(
    async (signal) => {
      const asked = by();
      const summary = await http.summary({ by: asked, limit: LIMIT }, signal);
      return { asked, ...summary, stats: await http.socketStats(signal).catch(() => null) };
    },
    EVERY_MS,
  );
  createEffect(on(by, () => answer.again(), { defer: true }));
  const cols = createMemo(() => columns(by()).map((c) => ({ ...c, sortable: c.by !== undefined })));
  const [sort, onSort] = createSort<SummaryRowView>({ key: "received", down: true }, columns("process"));
  const page = () => (answer.value()?.asked === by() ? answer.value() : null);
  const rows = createMemo(() => sortRows(page()?.rows ?? [], cols(), sort(), (a, b) => natural(a.key, b.key)));

  return (
    <div class="panel">
      <Rooms stats={answer.value()?.stats ?? null} filter="" />
      <div class="bar-top">
        <div class="presets" role="group" aria-label="Sum up by">
          <For each={BY}>
            {(b) => <button type="button" class="preset" aria-pressed={by() === b} onClick={() => setBy(b)}>{titleOf(b)}</button>}
          </For>
        </div>
        <span class="tally">
          <Show when={page()}>
            {(p) => (
              <>
                <b class="num" id="summary-count">{count(p().rows.length)}</b> {p().rows.length === 1 ? "row" : "rows"}
                <Show when={p().folded > 0}>, {plural(p().folded, "row")} folded into <b>other</b></Show>
              </>
            )}
          </Show>
        </span>
      </div>
      <Trouble of={answer} />
      <section class="card grow">
        <Table
          label={`Sockets by ${by()}`}
          columns={cols()}
          rows={rows()}
          sort={sort()}
          onSort={onSort}
          keyOf={(r) => r.key}
          empty={<Show when={page()} fallback={<Waiting of={answer} />}>Nothing has been done since summaries began anew.</Show>}
        />
      </section>
    </div>
  );
}
