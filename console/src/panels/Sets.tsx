/** Live sets: which there are, what one of them holds, and entries in and out. */

import { createEffect, createMemo, createSignal, on, Show } from "solid-js";
import * as http from "../protocol/http";
import type { SetEntryView, SetView } from "../protocol/sets";
import { createPolled } from "../state/polled";
import { route } from "../state/route";
import { mayEdit } from "../state/session";
import { changeText, fullPercent, setState } from "../state/sets";
import { toast } from "../state/toasts";
import { bytes, count, duration, percent, plural, short } from "../ui/format";
import { Dialog } from "../ui/Dialog";
import { Hint } from "../ui/Hint";
import { createSort, natural, sortRows, type SortColumn } from "../ui/sorting";
import { Table, type Column } from "../ui/Table";
import { Trouble, Waiting } from "../ui/Trouble";
import { AddEntries } from "./AddEntries";
import { PolicyRooms, setHref } from "./Policy";

const EVERY_MS = 2_000;
/** Entries in view at most: the filter finds the others. */
const LIMIT = 2_000;

const EXAMPLE = `set scanners live timeout 10m size 10000
rule scanned drop in from @scanners`;

const COLUMNS: SortColumn<SetView>[] = [
  { key: "name", title: "Name", width: "minmax(96px, 1.2fr)", by: (s) => s.name, cell: (s) => <a class="jump" href={setHref(s().name)} title="Its entries">{s().name}</a> },
  { key: "kind", title: "Holds", width: "84px", min: 560, by: (s) => s.kind, text: (s) => s.kind, class: () => "dim" },
  { key: "entries", title: "Entries", width: "88px", align: "end", by: (s) => s.entries, text: (s) => count(s.entries), class: () => "num strong" },
  { key: "full", title: "Full", hint: "Of the most that there can be", width: "64px", align: "end", by: fullPercent, text: (s) => percent(fullPercent(s)), tip: (s) => `${count(s.entries)} of at most ${count(s.room)}`, class: (s) => (setState(s) === "ok" ? "num dim" : "num warn-text") },
  { key: "bytes", title: "Memory", width: "76px", align: "end", min: 800, by: (s) => s.bytes, text: (s) => bytes(s.bytes), class: () => "num dim" },
  { key: "timeout", title: "Time-out", hint: "Of entries that come without a time of their own", width: "84px", align: "end", min: 700, by: (s) => s.timeout_ms, text: (s) => (s.timeout_ms === null ? "–" : duration(s.timeout_ms)), class: () => "num dim" },
  { key: "file", title: "File", width: "minmax(80px, 1fr)", min: 1000, by: (s) => s.file ?? "", text: (s) => s.file ?? "", class: () => "dim" },
  { key: "added", title: "Added", hint: "Entries that rules added", width: "76px", align: "end", min: 560, by: (s) => s.added, text: (s) => (s.grows ? short(s.added) : ""), tip: (s) => `${count(s.added)} added by rules, ${count(s.renewed)} given more time`, class: () => "num" },
  { key: "refused", title: "Refused", hint: "Entries that rules found no room for", width: "76px", align: "end", min: 560, by: (s) => s.refused, text: (s) => (s.grows ? short(s.refused) : ""), tip: (s) => `${count(s.refused)} found no room; ${count(s.busy)} came while somebody else was at the set`, class: (s) => (setState(s) === "refused" ? "num warn-text" : "num dim") },
];
for (const c of COLUMNS) c.sortable = c.by !== undefined;

export function Sets() {
  const answer = createPolled((signal) => http.sets(signal), EVERY_MS);
  const rows = () => answer.value()?.rows ?? [];
  const [sort, onSort] = createSort<SetView>({ key: "name", down: false }, COLUMNS);
  const shown = createMemo(() => sortRows(rows(), COLUMNS, sort(), (a, b) => natural(a.name, b.name)));
  // The one in the address, else the first.
  const chosen = createMemo(() => rows().find((s) => s.name === route().query.get("set")) ?? rows()[0] ?? null);
  const name = createMemo(() => chosen()?.name ?? null);

  return (
    <div class="panel">
      <PolicyRooms here="sets" sets={answer.value() === null ? null : rows().length} />
      <Trouble of={answer} />
      <section class="card sets">
        <Table
          label="Live sets"
          columns={COLUMNS}
          rows={shown()}
          sort={sort()}
          onSort={onSort}
          keyOf={(s) => s.name}
          rowHeight={30}
          rowClass={(s) => (s.name === name() ? "chosen" : "")}
          empty={
            <Show when={answer.value()} fallback={<Waiting of={answer} />}>
              <Hint title="The policy declares no live set." policy={EXAMPLE}>Entries of live sets change while the rules stay:</Hint>
            </Show>
          }
        />
      </section>
      <Show when={name()} keyed>
        {(name) => <Entries of={name} set={() => rows().find((s) => s.name === name) ?? null} again={answer.again} />}
      </Show>
    </div>
  );
}

function Entries(props: { of: string; set: () => SetView | null; again(): void }) {
  const [filter, setFilter] = createSignal("");
  const [adding, setAdding] = createSignal(false);
  const [flushing, setFlushing] = createSignal(false);
  const page = createPolled((signal) => http.setEntries(props.of, { filter: filter().trim(), limit: LIMIT }, signal), EVERY_MS);
  createEffect(on(filter, () => page.again(), { defer: true }));
  const again = () => {
    page.again();
    props.again();
  };
  const change = async (run: Promise<http.SetChange>) => {
    try {
      toast("ok", changeText(await run));
      again();
    } catch (error) {
      toast("bad", error instanceof Error ? error.message : String(error));
    }
  };

  const columns: Column<SetEntryView>[] = [
    { key: "entry", title: "Entry", width: "minmax(160px, 2fr)", text: (e) => e.entry, class: () => "num strong" },
    { key: "left", title: "Left", hint: "How long it stays", width: "110px", align: "end", text: (e) => (e.left_ms === null ? "–" : duration(e.left_ms)), tip: (e) => (e.left_ms === null ? "until it is deleted" : ""), class: () => "num dim" },
    {
      key: "edit", title: "", width: "84px",
      cell: (e) => (
        <Show when={mayEdit()}>
          <span class="row-actions">
            <button type="button" class="danger" onClick={() => void change(http.deleteFromSet(props.of, [e().entry]))}>Delete</button>
          </span>
        </Show>
      ),
    },
  ];

  return (
    <>
      <div class="bar-top">
        <input class="filter-input find" type="search" aria-label={`Find in ${props.of}`} placeholder="find an entry" value={filter()} spellcheck={false} onInput={(e) => setFilter(e.currentTarget.value)} onKeyDown={(e) => e.key === "Escape" && e.currentTarget.blur()} />
        <span class="tally">
          <b>{props.of}</b>
          <Show when={page.value()}>{(p) => <>: {p().total > p().rows.length ? `${count(p().rows.length)} of ${plural(p().total, "entry", "entries")}` : plural(p().total, "entry", "entries")}</>}</Show>
        </span>
        <span class="spring" />
        <Show when={mayEdit()}>
          <button type="button" class="danger" onClick={() => setFlushing(true)}>Delete all</button>
          <button type="button" class="primary" onClick={() => setAdding(true)}>Add entries</button>
        </Show>
      </div>
      <Trouble of={page} />
      <section class="card grow">
        <Table
          label={`Entries of ${props.of}`}
          columns={columns}
          rows={page.value()?.rows ?? []}
          keyOf={(e) => e.entry}
          rowHeight={30}
          empty={<Show when={page.value()} fallback={<Waiting of={page} />}>{filter().trim() === "" ? "It holds nothing." : "No entry matches."}</Show>}
        />
      </section>
      <Show when={adding() && props.set()}>
        {(set) => <AddEntries set={set()} onClose={() => setAdding(false)} onAdded={(done) => { toast("ok", changeText(done)); again(); }} />}
      </Show>
      <Show when={flushing()}>
        <Dialog title={`Delete all entries of ${props.of}?`} onClose={() => setFlushing(false)}>
          <p class="note">Rules that ask the set stay. Flows that were let in because of it are judged anew.</p>
          <footer>
            <button type="button" onClick={() => setFlushing(false)}>Keep them</button>
            <button type="button" class="primary danger" onClick={() => { setFlushing(false); void change(http.flushSet(props.of)); }}>Delete all</button>
          </footer>
        </Dialog>
      </Show>
    </>
  );
}
