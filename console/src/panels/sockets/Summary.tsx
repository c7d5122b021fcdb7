/** What sockets have done, live and ended ones together, by process, executable, user, host, rule, ...; and each by itself. */

import { createEffect, createMemo, createSignal, For, on, Show, untrack } from "solid-js";
import * as http from "../../protocol/http";
import { ServerError } from "../../protocol/messages";
import type { SummaryRowView, SummaryStatView } from "../../protocol/types";
import { createPolled } from "../../state/polled";
import { href, noteQuery, route } from "../../state/route";
import { BY, termOf, titleOf, type By } from "../../state/summary";
import { FilterBox } from "../../ui/FilterBox";
import { bytes, count, millis, plural, short } from "../../ui/format";
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
    key, title, hint: `${hint}: half and 99 of a hundred are not above`, width: "minmax(162px, 1fr)", align: "end", min,
    by: (r) => (r[key].count === 0 ? null : r[key].p99), text: (r) => spread(r[key], show), tip: (r) => whole(r[key], show), class: () => "num",
  };
};

/** What one may filter the rows of a table by. */
const EXAMPLES: Partial<Record<By, string>> = {
  process: "comm=nginx and connections>100", exe: "exe~nginx", user: "user=root", host: "remote=10.0.0.0/8", account: "user=root and remote=10.0.0.0/8", unit: "unit~nginx", rule: "rule=web or retransmits>0",
};

/** One socket is one: how many there are is no news. */
const COUNTS = new Set(["total", "connections"]);
/** A host with its name, where one was observed. */
const keyText = (r: SummaryRowView) => (r.name ? `${r.key} ${r.name}` : r.key);

const columns = (by: By) => all(by).filter((c) => by !== "instance" || !COUNTS.has(c.key));

const all = (by: By): SortColumn<SummaryRowView>[] => [
  {
    key: "key", title: titleOf(by), width: by === "instance" ? "minmax(140px, 4fr)" : "minmax(140px, 2fr)", by: (r) => r.key,
    tip: (r) => (r.other ? "Those whose row was folded to make room, or that never had one" : r.key),
    cell: (r) => {
      const term = () => termOf(by, r());
      return (
        <Show when={term()} fallback={<span class="strong">{keyText(r())}</span>}>
          {(filter) => <a class="strong" href={href("sockets", { filter: filter() })} title="Its sockets that live" tabindex="-1">{keyText(r())}</a>}
        </Show>
      );
    },
  },
  { key: "live", title: "Live", width: "64px", align: "end", by: (r) => r.live, text: (r) => count(r.live), class: () => "num" },
  { key: "total", title: "All", hint: "Live ones, and those that have ended", width: "72px", align: "end", by: (r) => r.total, text: (r) => count(r.total), class: () => "num", min: 500 },
  {
    key: "connections", title: "Connected", hint: "Connections that live, of all there were: TCP whose handshake was done, others with a remote end", width: "104px", align: "end", min: 700,
    by: (r) => r.connected, text: (r) => (r.connections === 0 ? "" : `${count(r.connected)} / ${count(r.connections)}`), class: () => "num",
  },
  { key: "sent", title: "Sent", width: "84px", align: "end", by: (r) => r.sent_bytes, text: (r) => bytes(r.sent_bytes), class: () => "num strong" },
  { key: "received", title: "Received", width: "84px", align: "end", by: (r) => r.received_bytes, text: (r) => bytes(r.received_bytes), class: () => "num strong" },
  {
    key: "packets", title: "Packets", hint: "Out and in: segments of TCP, calls of others", width: "132px", align: "end", min: 950,
    by: (r) => r.sent_packets + r.received_packets, text: (r) => `${short(r.sent_packets)} / ${short(r.received_packets)}`, tip: (r) => `${count(r.sent_packets)} out, ${count(r.received_packets)} in`, class: () => "num dim",
  },
  op("connect_us", "Connects", "From the SYN to the end of the handshake, of connections that it began", 1000),
  op("accept_us", "Accepts", "The same of connections that others began", 1180),
  op("write_bytes", "Writes", "Bytes of a call", 1420),
  op("read_bytes", "Reads", "Bytes of a call", 1600),
  { key: "again", title: "Resent", hint: "Segments sent again", width: "72px", align: "end", by: (r) => r.retransmits.sum, text: (r) => (r.retransmits.sum === 0 ? "" : count(r.retransmits.sum)), class: () => "num warn-text", min: 800 },
  op("life_us", "Lived", "Those that have ended", 1780),
];

interface Asked {
  by: By;
  filter: string;
}

/** What was asked for outlives the panel. */
let kept: Asked = { by: "process", filter: "" };

function read(): Asked {
  const { query } = route();
  return { by: BY.find((b) => b === query.get("by")) ?? "process", filter: query.get("filter") ?? "" };
}

/** The process's table is what one sees first: it needs no word in the address. */
const words = ({ by, filter }: Asked) => ({ by: by === "process" ? "" : by, filter });

export function Summary() {
  const bare = untrack(() => route().query.size === 0);
  const [asked, setAsked] = createSignal<Asked>(bare ? kept : untrack(read));
  kept = untrack(asked);
  if (bare) noteQuery("sockets/summary", words(kept));
  const by = createMemo(() => asked().by);
  const apply = (some: Partial<Asked>) => {
    kept = { ...asked(), ...some };
    noteQuery("sockets/summary", words(kept));
    setAsked(kept);
  };
  // Links and the back button change the address; this follows.
  createEffect(on(route, (r) => {
    const [now, next] = [untrack(asked), read()];
    if (r.panel === "sockets" && r.room === "summary" && (now.by !== next.by || now.filter !== next.filter)) setAsked((kept = next));
  }, { defer: true }));

  const answer = createPolled(
    async (signal) => {
      const { by, filter } = asked();
      const summary = await http.summary({ by, filter, limit: LIMIT }, signal);
      return { asked: by, ...summary, stats: await http.socketStats(signal).catch(() => null) };
    },
    EVERY_MS,
  );
  createEffect(on(asked, () => answer.again(), { defer: true }));
  const badFilter = () => {
    const e = answer.error();
    return e instanceof ServerError && e.code === "bad-filter" ? e : null;
  };
  const cols = createMemo(() => columns(by()).map((c) => ({ ...c, sortable: c.by !== undefined })));
  const [sort, onSort] = createSort<SummaryRowView>({ key: "received", down: true }, columns("process"));
  const page = () => (answer.value()?.asked === by() ? answer.value() : null);
  const rows = createMemo(() => sortRows(page()?.rows ?? [], cols(), sort(), (a, b) => natural(a.key, b.key)));

  return (
    <div class="panel">
      <Rooms stats={answer.value()?.stats ?? null} filter="" />
      <div class="bar-top">
        <div class="presets many" role="group" aria-label="Sum up by">
          <For each={BY}>
            {(b) => <button type="button" class="preset" aria-pressed={by() === b} onClick={() => apply({ by: b })}>{titleOf(b)}</button>}
          </For>
        </div>
        <FilterBox
          label="Filter rows"
          placeholder={`Filter rows: ${EXAMPLES[by()] ?? "received_bytes>1M and live>0"}`}
          value={asked().filter}
          error={badFilter()}
          onApply={(filter) => apply({ filter })}
        />
        <span class="tally">
          <Show when={page()}>
            {(p) => (
              <>
                <b class="num" id="summary-count">{count(p().rows.length)}</b> {p().rows.length === 1 ? "row" : "rows"}
                <Show when={p().folded > 0}>, {plural(p().folded, "row")} folded into <b>other</b></Show>
                <Show when={p().lost > 0}>, {plural(p().lost, "socket")} without a row</Show>
              </>
            )}
          </Show>
        </span>
        <Anew by={by()} done={() => answer.again()} />
      </div>
      <Show when={badFilter() === null}><Trouble of={answer} /></Show>
      <section class="card grow">
        <Table
          label={`Sockets by ${by()}`}
          columns={cols()}
          rows={rows()}
          sort={sort()}
          onSort={onSort}
          keyOf={(r) => `${r.key} ${r.id ?? ""} ${String(r.other)}`}
          empty={<Show when={page()} fallback={<Waiting of={answer} />}>{asked().filter === "" ? "Nothing has been done since summaries began anew." : "No row matches."}</Show>}
        />
      </section>
    </div>
  );
}

/** Sets one table to zero, when one is sure. */
function Anew(props: { by: By; done(): void }) {
  const [sure, setSure] = createSignal<By | null>(null);
  const [error, setError] = createSignal<string | null>(null);
  const anew = async (by: By) => {
    setSure(null);
    setError(await http.resetSummary(by).then(() => null, (e: unknown) => (e instanceof Error ? e.message : String(e))));
    props.done();
  };
  return (
    <span class="anew">
      <Show when={sure() === props.by} fallback={<button type="button" class="small" id="summary-anew" onClick={() => setSure(props.by)}>Begin anew …</button>}>
        <button type="button" class="small" onClick={() => setSure(null)}>Leave it</button>
        <button type="button" class="small danger" id="summary-anew-now" onClick={() => void anew(props.by)}>Set {titleOf(props.by).toLowerCase()} to zero</button>
      </Show>
      <Show when={error()}>{(words) => <span class="problem" role="alert">{words()}</span>}</Show>
    </span>
  );
}
