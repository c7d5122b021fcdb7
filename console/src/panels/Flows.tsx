/** Every flow that matches a filter, live. */

import { createEffect, createMemo, createSignal, on, onCleanup, Show, untrack } from "solid-js";
import { narrow, type Term } from "../state/filtertext";
import { ageOf, createFlows, idleOf, leftOf, rateOf, totalBytes, type FlowRow } from "../state/flows";
import { noteFilter, route } from "../state/route";
import { stats } from "../state/stats";
import { FilterBox } from "../ui/FilterBox";
import { bits, bytes, count, dateTime, duration, endpoint, natTerm, natText, short } from "../ui/format";
import { PauseButton } from "../ui/PauseButton";
import { Table, type Column, type Sort } from "../ui/Table";

interface FlowColumn extends Column<FlowRow> {
  /** Numbers sort largest first, text from A. */
  by(row: FlowRow): number | string;
}

/** The filter outlives the panel: whoever comes back finds what they left. */
let kept = "";
const [sort, setSort] = createSignal<Sort>({ key: "rate", down: true });
// Read by cells: moves with the rows, stands still while paused.
const [shownAt, setShownAt] = createSignal(performance.now());

const t = (field: string, value: (f: FlowRow["v"]) => string | number | null) => (row: FlowRow): Term | null => {
  const v = value(row.v);
  return v === null || v === "" ? null : { field, value: v };
};
const iface = (f: FlowRow["v"]) => [f.in_iface, f.out_iface].filter(Boolean).join(" → ") + (f.vlan ? ` .${f.vlan}` : "");

const COLUMNS: FlowColumn[] = [
  { key: "proto", title: "Proto", width: "minmax(50px, 62px)", text: (r) => r.v.proto, by: (r) => r.v.proto, term: t("proto", (f) => f.proto) },
  { key: "src", title: "Source", width: "minmax(102px, 1fr)", text: (r) => r.v.src, by: (r) => r.v.src, term: t("src", (f) => f.src), class: () => "num" },
  { key: "sport", title: "Port", width: "54px", min: 900, text: (r) => (r.v.sport ? String(r.v.sport) : ""), by: (r) => r.v.sport, term: t("sport", (f) => f.sport || null), class: () => "num dim" },
  { key: "dst", title: "Destination", width: "minmax(102px, 1fr)", text: (r) => r.v.dst, by: (r) => r.v.dst, term: t("dst", (f) => f.dst), class: () => "num" },
  { key: "dport", title: "Port", width: "minmax(48px, 54px)", text: (r) => (r.v.dport ? String(r.v.dport) : ""), by: (r) => r.v.dport, term: t("dport", (f) => f.dport || null), class: () => "num" },
  {
    key: "nat", title: "NAT", hint: "How it goes out: the source after “from”, the destination after “to”, where they are translated", width: "minmax(190px, 1.4fr)", min: 1100, text: (r) => natText(r.v), by: (r) => natText(r.v), term: (r) => natTerm(r.v),
    tip: (r) => (r.v.nat ? `goes out from ${endpoint(r.v.nat.src, r.v.nat.sport)} to ${endpoint(r.v.nat.dst, r.v.nat.dport)}, translated by ${r.v.nat.rule}` : "not translated"), class: () => "num",
  },
  {
    key: "state", title: "State", width: "94px", min: 480, text: (r) => r.v.ended ?? r.v.state, by: (r) => r.v.ended ?? r.v.state, term: t("state", (f) => f.state),
    tip: (r) => (r.v.ended ? `ended: ${r.v.ended}` : r.v.state), class: () => "dim",
  },
  { key: "rule", title: "Rule", width: "minmax(76px, 0.5fr)", min: 560, text: (r) => r.v.rule, by: (r) => r.v.rule, tip: (r) => `${r.v.verdict} by ${r.v.rule}, generation ${r.v.generation}`, term: t("rule", (f) => f.rule), class: (r) => (r.v.verdict === "allow" ? "" : `verdict ${r.v.verdict}`) },
  { key: "direction", title: "Dir", width: "66px", min: 1600, text: (r) => r.v.direction, by: (r) => r.v.direction, term: t("direction", (f) => f.direction), class: () => "dim" },
  { key: "iface", title: "Interface", width: "minmax(100px, 0.4fr)", min: 1300, text: (r) => iface(r.v), by: (r) => iface(r.v), term: t("iface", (f) => f.in_iface ?? f.out_iface), class: () => "dim" },
  { key: "rate", title: "Rate", hint: "Bits a second, both ways", width: "86px", align: "end", min: 480, text: (r) => { const v = rateOf(r, shownAt()); return v === 0 ? "" : bits(v); }, by: (r) => rateOf(r, shownAt()), class: () => "num strong" },
  {
    key: "bytes", title: "Bytes", hint: "Both ways, from the IP header on", width: "minmax(70px, 78px)", align: "end", text: (r) => bytes(totalBytes(r)), by: totalBytes, class: () => "num",
    tip: (r) => `${count(r.v.bytes)} B from the source, ${count(r.v.reply_bytes)} B back`,
  },
  {
    key: "packets", title: "Packets", width: "72px", align: "end", min: 1000, text: (r) => short(r.v.packets + r.v.reply_packets), by: (r) => r.v.packets + r.v.reply_packets, class: () => "num dim",
    tip: (r) => `${count(r.v.packets)} from the source, ${count(r.v.reply_packets)} back`,
  },
  { key: "age", title: "Age", hint: "Since the first packet", width: "66px", align: "end", min: 640, text: (r) => duration(ageOf(r, shownAt())), by: (r) => ageOf(r, shownAt()), tip: (r) => `first packet ${dateTime(r.v.first)}`, class: () => "num dim" },
  { key: "idle", title: "Idle", hint: "Since the last packet", width: "62px", align: "end", min: 1000, text: (r) => duration(idleOf(r, shownAt())), by: (r) => idleOf(r, shownAt()), tip: (r) => `last packet ${dateTime(r.v.last)}`, class: () => "num dim" },
  {
    key: "left", title: "Left", hint: "Until it is forgotten, if nothing more comes", width: "68px", align: "end", min: 760, text: (r) => (r.v.ended ? "" : duration(leftOf(r, shownAt()))), by: (r) => leftOf(r, shownAt()),
    tip: (r) => (r.v.ended ? "it has ended" : `forgotten in ${duration(leftOf(r, shownAt()))} if nothing more comes`), class: () => "num dim",
  },
];
for (const c of COLUMNS) c.sortable = true;

const EXAMPLES = [
  { label: "All", filter: "" },
  { label: "TCP", filter: "proto=tcp" },
  { label: "UDP", filter: "proto=udp" },
  { label: "NAT", filter: "nat=true" },
  { label: "Active", filter: "idle<5s" },
];

export function Flows() {
  const asked = untrack(() => route().query.get("filter"));
  const flows = createFlows(asked ?? kept);
  if (asked === null && kept !== "") noteFilter("flows", kept);
  kept = flows.filter();
  onCleanup(() => flows.close());

  const apply = (filter: string) => {
    kept = filter;
    noteFilter("flows", filter);
    void flows.refilter(filter);
  };
  // Links and the back button change the address; this follows.
  createEffect(on(route, (r) => {
    const filter = r.query.get("filter") ?? "";
    if (r.panel === "flows" && filter !== untrack(flows.filter)) apply(filter);
  }, { defer: true }));

  setShownAt(performance.now());
  const tick = window.setInterval(() => !flows.paused() && setShownAt(performance.now()), 1000);
  onCleanup(() => window.clearInterval(tick));

  const sorted = createMemo(() => {
    const column = COLUMNS.find((c) => c.key === sort().key) ?? COLUMNS[0]!;
    const keyed = flows.rows().map((row) => ({ row, k: untrack(() => column.by(row)) }));
    const sign = sort().down ? -1 : 1;
    keyed.sort((a, b) => {
      if (typeof a.k === "number" && typeof b.k === "number") {
        if (a.k !== b.k) return sign * (a.k - b.k);
      } else if (a.k !== b.k) return sign * (a.k < b.k ? -1 : 1);
      // Ties: the living first, then by traffic, then by id, so that the order stays put when nothing changes.
      if (!a.row.v.ended !== !b.row.v.ended) return a.row.v.ended ? 1 : -1;
      return totalBytes(b.row) - totalBytes(a.row) || (a.row.v.id < b.row.v.id ? -1 : 1);
    });
    return keyed.map((k) => k.row);
  });
  const ended = createMemo(() => flows.rows().reduce((n, r) => n + (r.v.ended ? 1 : 0), 0));
  const onSort = (key: string) => {
    const column = COLUMNS.find((c) => c.key === key)!;
    const numeric = column.align === "end" || key === "sport" || key === "dport";
    setSort((s) => (s.key === key ? { key, down: !s.down } : { key, down: numeric }));
  };

  return (
    <div class="panel">
      <div class="bar-top">
        <FilterBox
          label="Filter for flows"
          placeholder="all flows   (e.g. proto=tcp and port in (22, 80) and bytes > 1M)"
          value={flows.filter()}
          error={flows.error()}
          presets={EXAMPLES}
          onApply={apply}
        />
        <span class="tally">
          <b class="num" id="flow-count">{count(flows.rows().length - ended())}</b> of <b class="num">{count(stats()?.flows ?? 0)}</b> flows
          <Show when={ended() > 0}> · {count(ended())} just ended</Show>
        </span>
        <PauseButton paused={flows.paused()} held={flows.held()} what="changes" onPause={flows.pause} />
      </div>
      <section class="card grow">
        <Table
          label="Flows"
          columns={COLUMNS}
          rows={sorted()}
          sort={sort()}
          onSort={onSort}
          onTerm={(term, not) => apply(narrow(flows.filter(), term, not))}
          keyOf={(r) => r.v.id}
          rowClass={(r) => (r.v.ended ? "ended" : "")}
          empty={flows.arrived() ? (flows.filter() === "" ? "No flows: nothing is going through." : "No flow matches the filter.") : "Waiting for the daemon."}
        />
      </section>
    </div>
  );
}
