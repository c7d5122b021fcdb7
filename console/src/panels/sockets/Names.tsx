/** What remote addresses are called, as answers of DNS were seen to say. */

import { createEffect, createMemo, createSignal, on, Show, untrack } from "solid-js";
import * as http from "../../protocol/http";
import { ServerError } from "../../protocol/messages";
import type { NameView } from "../../protocol/types";
import { narrow, quote } from "../../state/filtertext";
import { createPolled } from "../../state/polled";
import { href, noteQuery, route } from "../../state/route";
import { FilterBox } from "../../ui/FilterBox";
import { clock, count, dateTime, plural } from "../../ui/format";
import { Hint } from "../../ui/Hint";
import { createSort, natural, sortRows, type SortColumn } from "../../ui/sorting";
import { Table } from "../../ui/Table";
import { Trouble, Waiting } from "../../ui/Trouble";
import { Rooms } from "./Rooms";

const EVERY_MS = 2_000;
const LIMIT = 5_000;

const PRESETS = [
  { label: "All", filter: "" },
  { label: "In force", filter: "expired=false" },
];

const COLUMNS: SortColumn<NameView>[] = [
  { key: "name", title: "Name", width: "minmax(140px, 2fr)", by: (r) => r.name, text: (r) => r.name, term: (r) => ({ field: "name", value: r.name }), class: (r) => (r.expired ? "dim" : "strong") },
  { key: "address", title: "Address", width: "minmax(112px, 1.2fr)", by: (r) => r.address, text: (r) => r.address, term: (r) => ({ field: "address", value: r.address }), class: () => "num" },
  { key: "answers", title: "Answers", hint: "How often that was answered", width: "78px", align: "end", min: 560, by: (r) => r.answers, text: (r) => count(r.answers), class: () => "num" },
  { key: "first", title: "First", width: "84px", min: 900, by: (r) => Date.parse(r.first), text: (r) => clock(r.first), tip: (r) => dateTime(r.first), class: () => "num dim" },
  { key: "last", title: "Last", width: "84px", min: 480, by: (r) => Date.parse(r.last), text: (r) => clock(r.last), tip: (r) => dateTime(r.last), class: () => "num dim" },
  { key: "until", title: "Until", hint: "Sockets that begin by then are taken to have meant it", width: "84px", min: 900, by: (r) => Date.parse(r.until), text: (r) => clock(r.until), tip: (r) => `${dateTime(r.until)}${r.expired ? ": over" : ""}`, class: () => "num dim" },
  { key: "server", title: "Answered by", width: "minmax(112px, 1fr)", min: 700, by: (r) => r.server, text: (r) => r.server, term: (r) => ({ field: "server", value: r.server }), class: () => "num" },
  { key: "netns", title: "Netns", hint: "Network namespace of who asked", width: "110px", align: "end", min: 1100, by: (r) => r.netns, text: (r) => String(r.netns), term: (r) => ({ field: "netns", value: r.netns }), class: () => "num dim" },
  {
    key: "see", title: "", width: "80px", min: 700,
    cell: (r) => <a class="jump dim" href={href("sockets", { filter: `name=${quote(r().name)}` })} title="Its sockets that live" tabindex="-1">sockets</a>,
  },
];
for (const c of COLUMNS) c.sortable = c.by !== undefined;

export function Names() {
  const read = () => route().query.get("filter") ?? "";
  const [filter, setFilter] = createSignal(untrack(read));
  const answer = createPolled(async (signal) => {
    const page = await http.names({ filter: filter(), limit: LIMIT }, signal);
    return { ...page, stats: await http.socketStats(signal).catch(() => null) };
  }, EVERY_MS);
  createEffect(on(filter, () => answer.again(), { defer: true }));
  createEffect(on(route, (r) => r.panel === "sockets" && r.room === "names" && setFilter(read()), { defer: true }));
  const apply = (text: string) => {
    noteQuery("sockets/names", { filter: text });
    setFilter(text);
  };

  const [sort, onSort] = createSort<NameView>({ key: "last", down: true }, COLUMNS);
  const rows = createMemo(() => sortRows(answer.value()?.rows ?? [], COLUMNS, sort(), (a, b) => natural(a.name, b.name) || natural(a.address, b.address)));
  const error = (code: string) => {
    const e = answer.error();
    return e instanceof ServerError && e.code === code ? e : null;
  };
  const off = () => error("names-off") ?? error("sockets-off");

  return (
    <div class="panel">
      <Rooms stats={answer.value()?.stats ?? null} filter="" />
      <div class="bar-top">
        <FilterBox label="Filter for names" placeholder="all names   (e.g. name~github and expired=false)" value={filter()} error={error("bad-filter")} presets={PRESETS} onApply={apply} />
        <span class="tally">
          <Show when={!off() && answer.value()}>{(p) => <>{p().total > p().rows.length ? `${count(p().rows.length)} of ${plural(p().total, "name")}` : plural(p().total, "name")}</>}</Show>
        </span>
      </div>
      <Show when={!error("bad-filter") && !off()}><Trouble of={answer} /></Show>
      <section class="card grow">
        <Table
          label="Names"
          columns={COLUMNS}
          rows={off() ? [] : rows()}
          sort={sort()}
          onSort={onSort}
          onTerm={(t, not) => apply(narrow(filter(), t, not))}
          keyOf={(r) => `${r.name} ${r.address} ${r.netns}`}
          empty={
            <Show when={off()} fallback={<Show when={answer.value()} fallback={error("bad-filter") ? "The filter can't be read." : <Waiting of={answer} />}>{filter() === "" ? "No program has asked DNS for a name since the daemon began to look." : "No name matches the filter."}</Show>}>
              {(e) => <Off why={e().message} />}
            </Show>
          }
        />
      </section>
    </div>
  );
}

function Off(props: { why: string }) {
  const wanted = () => props.why.includes("names = true");
  return (
    <Hint title="Names aren't read." {...(wanted() ? { policy: "[sockets]\nnames = true" } : {})}>
      {wanted() ? "Answers of DNS and ClientHellos on the wire tell what addresses are called. This in the daemon's configuration has them read:" : props.why}
    </Hint>
  );
}
