/** Every live translation that matches a filter. */

import { createEffect, createMemo, createSignal, on, Show, untrack } from "solid-js";
import * as http from "../../protocol/http";
import { ServerError } from "../../protocol/messages";
import type { NatMappingView } from "../../protocol/types";
import { narrow, type Term } from "../../state/filtertext";
import { Meter } from "../../state/meter";
import { createPolled } from "../../state/polled";
import { href, noteFilter, route } from "../../state/route";
import { mayEdit } from "../../state/session";
import { FilterBox } from "../../ui/FilterBox";
import { bits, bytes, count, dateTime, duration, endpoint, short } from "../../ui/format";
import { Hint } from "../../ui/Hint";
import { PauseButton } from "../../ui/PauseButton";
import { createSort, natural, sortRows, type SortColumn } from "../../ui/sorting";
import { Table, type Sort } from "../../ui/Table";
import { Trouble, Waiting } from "../../ui/Trouble";
import { kindWords } from "../../ui/words";
import { Kill, type Asked } from "./Kill";
import { EVERY_MS, EXAMPLE } from "./shared";

interface Row extends NatMappingView {
  /** Bits a second, both ways; `null` while unknown. */
  bps: number | null;
}

/** By what the server sorts, for a column of ours: it decides which rows come, where not all do. */
const SERVER_SORT: Record<string, string> = {
  proto: "proto", inside: "inside", public: "public", remote: "remote", kind: "kind", rule: "rule", rate: "bytes", bytes: "bytes", reply_bytes: "bytes", packets: "packets",
  // Oldest first is what the columns call largest.
  began: "-began", last: "-last",
};
const TEXT = new Set(["proto", "inside", "public", "remote", "kind", "rule"]);

/** The server's words for a sort: numbers from the largest and text from A, and a sign in front for the other way. */
function serverSort({ key, down }: Sort): string {
  const name = SERVER_SORT[key] ?? "bytes";
  const turned = down === TEXT.has(key);
  return turned ? (name.startsWith("-") ? name.slice(1) : `-${name}`) : name;
}

/** More than this isn't read by anybody, and is narrowed by the filter. */
const LIMIT = 5_000;

const PRESETS = [
  { label: "All", filter: "" },
  { label: "TCP", filter: "proto=tcp" },
  { label: "UDP", filter: "proto=udp" },
  { label: "Netfilter's", filter: "origin=netfilter" },
];

/** The filter outlives the panel. */
let kept = "";

/** Where both ends are translated there is a third address to tell; else the translated destination is the inside itself. */
const behind = (r: Row) => (r.remote_inside === null || (r.remote_inside === r.inside && r.remote_inside_port === r.inside_port) ? null : endpoint(r.remote_inside, r.remote_inside_port ?? 0));
const far = (r: Row) => endpoint(r.remote, r.remote_port) + (behind(r) === null ? "" : ` → ${behind(r)}`);
const total = (r: Row) => (r.bytes ?? 0) + (r.reply_bytes ?? 0);
const unknown = "netfilter doesn't count: net.netfilter.nf_conntrack_acct is 0";
/** Read by cells: moves with the rows, stands still while paused. */
const [shownAt, setShownAt] = createSignal(Date.now());
const since = (time: string | null) => (time === null ? null : Math.max(0, shownAt() - Date.parse(time)));
const term = (field: string, value: (r: Row) => string | number | null) => (r: Row): Term | null => {
  const v = value(r);
  return v === null || v === "" ? null : { field, value: v };
};

export function Mappings() {
  const asked = untrack(() => route().query.get("filter"));
  const [filter, setFilter] = createSignal(asked ?? kept);
  if (asked === null && kept !== "") noteFilter("nat/mappings", kept);
  kept = filter();
  const [paused, setPaused] = createSignal(false);
  const [killing, setKilling] = createSignal<Asked | null>(null);
  const meter = new Meter();

  const columns: SortColumn<Row>[] = [
    { key: "proto", title: "Proto", width: "48px", text: (r) => r.proto, by: (r) => r.proto, term: term("proto", (r) => r.proto) },
    { key: "inside", title: "Inside", hint: "The host behind the translation", width: "minmax(118px, 1.1fr)", text: (r) => endpoint(r.inside, r.inside_port), by: (r) => endpoint(r.inside, r.inside_port), term: term("inside", (r) => r.inside), class: () => "num strong" },
    { key: "public", title: "Public", hint: "What others see of it", width: "minmax(118px, 1.1fr)", text: (r) => endpoint(r.public, r.public_port), by: (r) => endpoint(r.public, r.public_port), term: term("public", (r) => r.public), class: () => "num" },
    { key: "remote", title: "Far end", hint: "Whom it talks to; behind an arrow where that is translated, too", width: "minmax(128px, 1.3fr)", text: far, by: far, term: term("remote", (r) => r.remote), class: () => "num dim", min: 480 },
    { key: "kind", title: "Kind", width: "96px", text: (r) => r.kind, tip: (r) => kindWords(r.kind), by: (r) => r.kind, term: term("kind", (r) => r.kind), class: () => "dim", min: 1000 },
    {
      key: "rule", title: "Rule", width: "minmax(88px, 0.6fr)", min: 700, by: (r) => r.rule ?? "",
      text: (r) => (r.origin === "sluice" ? (r.rule ?? "–") : r.origin),
      tip: (r) => (r.origin === "sluice" ? `translated by nat ${r.rule ?? "(a rule that is gone)"}` : "translated by the kernel's own netfilter, not by Sluice"),
      term: (r) => (r.origin !== "sluice" ? { field: "origin", value: r.origin } : r.rule === null ? null : { field: "rule", value: r.rule }),
      class: (r) => (r.origin === "sluice" ? "" : "origin"),
    },
    { key: "rate", title: "Rate", hint: "Bits a second, both ways", width: "84px", align: "end", text: (r) => (r.bps === null || r.bps === 0 ? "" : bits(r.bps)), by: (r) => r.bps, class: () => "num strong", min: 900 },
    { key: "bytes", title: "Sent", hint: "Bytes from whoever began", width: "78px", align: "end", text: (r) => (r.bytes === null ? "?" : bytes(r.bytes)), by: (r) => r.bytes, tip: (r) => (r.bytes === null ? unknown : `${count(r.bytes)} B`), class: () => "num", min: 600 },
    { key: "reply_bytes", title: "Back", hint: "Bytes of the answers", width: "78px", align: "end", text: (r) => (r.reply_bytes === null ? "?" : bytes(r.reply_bytes)), by: (r) => r.reply_bytes, tip: (r) => (r.reply_bytes === null ? unknown : `${count(r.reply_bytes)} B`), class: () => "num", min: 600 },
    {
      key: "packets", title: "Packets", width: "70px", align: "end", min: 1200, text: (r) => (r.packets === null ? "?" : short(r.packets + (r.reply_packets ?? 0))),
      by: (r) => (r.packets === null ? null : r.packets + (r.reply_packets ?? 0)), class: () => "num dim",
      tip: (r) => (r.packets === null ? unknown : `${count(r.packets)} from whoever began, ${count(r.reply_packets ?? 0)} back`),
    },
    { key: "began", title: "Age", hint: "Since the first packet", width: "68px", align: "end", min: 900, text: (r) => duration(since(r.began) ?? Number.NaN), by: (r) => since(r.began), tip: (r) => `began ${dateTime(r.began)}`, class: () => "num dim" },
    { key: "last", title: "Idle", hint: "Since the last packet", width: "62px", align: "end", min: 1000, text: (r) => duration(since(r.last) ?? Number.NaN), by: (r) => since(r.last), tip: (r) => `last packet ${dateTime(r.last)}`, class: () => "num dim" },
    {
      key: "see", title: "", width: "80px", min: 1200,
      cell: (r) => (
        <span class="links">
          <Show when={r().origin === "sluice"} fallback={<span class="no-flow" />}>
            <a class="jump" href={href("flows", { filter: `id=${r().id}` })} title="Its flow" tabindex="-1">flow</a>
          </Show>
          <a class="jump" href={href("nat/who", { of: endpoint(r().public, r().public_port), proto: r().proto })} title="Whose this public endpoint is and was" tabindex="-1">who</a>
        </span>
      ),
    },
    {
      key: "kill", title: "", width: "48px",
      cell: (r) => (
        <Show when={mayEdit() && r().origin === "sluice"}>
          <span class="row-actions">
            <button type="button" class="danger act" tabindex="-1" aria-label={`Kill the mapping of ${endpoint(r().inside, r().inside_port)}`} onClick={() => setKilling({ all: [r()] })}>Kill</button>
          </span>
        </Show>
      ),
    },
  ];
  for (const c of columns) c.sortable = c.by !== undefined;
  const [sort, onSort] = createSort<Row>({ key: "rate", down: true }, columns);

  const mappings = createPolled(
    async (signal) => {
      const page = await http.natMappings({ filter: filter(), limit: LIMIT, sort: serverSort(sort()) }, signal);
      const rates = meter.read(performance.now(), page.rows.map((r): [string, number] => [`${r.origin} ${r.id}`, (r.bytes ?? 0) + (r.reply_bytes ?? 0)]));
      setShownAt(Date.now());
      return { total: page.total, rows: page.rows.map((r): Row => ({ ...r, bps: bitsOf(rates.get(`${r.origin} ${r.id}`)) })) };
    },
    EVERY_MS,
    () => !paused(),
  );
  createEffect(on([filter, paused, sort], () => mappings.again(), { defer: true }));

  const apply = (text: string) => {
    kept = text;
    noteFilter("nat/mappings", text);
    setPaused(false);
    setFilter(text);
  };
  createEffect(on(route, (r) => {
    const text = r.query.get("filter") ?? "";
    if (r.panel === "nat" && (r.room === "mappings" || r.room === "") && text !== untrack(filter)) apply(text);
  }, { defer: true }));

  const filterError = () => {
    const error = mappings.error();
    return error instanceof ServerError && error.code === "bad-filter" ? error : null;
  };
  const rows = () => mappings.value()?.rows ?? [];
  const foreign = createMemo(() => rows().reduce((n, r) => n + (r.origin === "sluice" ? 0 : 1), 0));
  // Ties: by traffic, then by host, so that the order stays put when nothing changes.
  const sorted = createMemo(() => sortRows(rows(), columns, sort(), (a, b) => total(b) - total(a) || natural(a.inside, b.inside) || a.inside_port - b.inside_port));

  return (
    <>
      <div class="bar-top">
        <FilterBox
          label="Filter for mappings"
          placeholder="all mappings   (e.g. inside=10.0.0.5 and proto=tcp)"
          value={filter()}
          error={filterError()}
          presets={PRESETS}
          onApply={apply}
        />
        <span class="tally">
          <Show when={mappings.value()}>
            {(page) => (
              <>
                <b class="num" id="mapping-count">{count(page().rows.length)}</b>
                <Show when={page().total > page().rows.length} fallback={<> {page().total === 1 ? "mapping" : "mappings"}</>}> of <b class="num">{count(page().total)}</b>: the filter narrows them</Show>
                <Show when={foreign() > 0}><span class="roomy"> · {count(foreign())} of netfilter</span></Show>
              </>
            )}
          </Show>
        </span>
        <Show when={mayEdit()}>
          <button type="button" class="danger" disabled={!rows().some((r) => r.origin === "sluice")} onClick={() => setKilling({ all: rows().filter((r) => r.origin === "sluice") })}>Kill these</button>
        </Show>
        <PauseButton paused={paused()} held={0} what="changes" onPause={setPaused} />
      </div>
      <Show when={filterError() === null}><Trouble of={mappings} /></Show>
      <section class="card grow">
        <Table
          label="Mappings"
          columns={columns}
          rows={sorted()}
          sort={sort()}
          onSort={onSort}
          onTerm={(t, not) => apply(narrow(filter(), t, not))}
          keyOf={(r) => `${r.origin} ${r.id}`}
          rowClass={(r) => (r.origin === "sluice" ? "" : "foreign")}
          empty={
            <Show when={mappings.value()} fallback={<Waiting of={mappings} />}>
              <Show when={filter() === ""} fallback="No mapping matches the filter.">
                <Hint title="Nothing is translated right now." policy={EXAMPLE}>Where the policy asks for it, mappings come with the first packet. For example:</Hint>
              </Show>
            </Show>
          }
        />
      </section>
      <Show when={killing()}>{(what) => <Kill what={what()} onClose={() => setKilling(null)} onDone={() => mappings.again()} />}</Show>
    </>
  );
}

const bitsOf = (rate: number | null | undefined): number | null => (rate === null || rate === undefined ? null : 8 * rate);
