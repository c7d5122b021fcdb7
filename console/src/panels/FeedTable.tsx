/** Events in a table; used large on its own panel and small on the overview. */

import { Show } from "solid-js";
import type { EventView } from "../protocol/types";
import type { FeedItem } from "../state/feed";
import { narrow, type Term } from "../state/filtertext";
import { href } from "../state/route";
import { clock, dateTime, endpoint, natTerm, natText } from "../ui/format";
import { Table, type Column } from "../ui/Table";
import { reasonWords } from "../ui/words";

/** The flows between the same two, on the port that was wanted. */
export function flowFilter(e: EventView): string {
  let text = narrow("", { field: "src", value: e.src });
  text = narrow(text, { field: "dst", value: e.dst });
  return e.dport === 0 ? text : narrow(text, { field: "dport", value: e.dport });
}

const term = (field: string, value: (e: EventView) => string | number | null) => (item: FeedItem): Term | null => {
  const v = item.event ? value(item.event) : null;
  return v === null || v === "" ? null : { field, value: v };
};
const of = (text: (e: EventView) => string) => (item: FeedItem) => (item.event ? text(item.event) : "");

/** Where a call comes from isn't known yet, but who calls is. */
const from = (e: EventView): string => (e.caller && e.direction === "out" ? e.caller.comm : e.src);

/** A translation came into force: it has a rule of its own kind, and no verdict. */
const isNat = (item: FeedItem): boolean => item.event?.class === "nat";

function RuleLink(props: { item: FeedItem }) {
  const rule = () => props.item.event?.rule ?? "";
  const to = () => (isNat(props.item) ? href("nat/rules", { find: rule() }) : href("rules", { rule: rule() }));
  return (
    <a class="jump" href={to()} title={rule() === "" ? "" : `Go to ${isNat(props.item) ? "translation" : "rule"} ${rule()}`} tabindex="-1">
      {rule()}
    </a>
  );
}

function FlowLink(props: { item: FeedItem }) {
  const mapping = () => (isNat(props.item) ? (props.item.event?.flow ?? null) : null);
  return (
    <Show
      when={mapping()}
      fallback={
        <a class="jump dim" href={href("flows", { filter: props.item.event ? flowFilter(props.item.event) : "" })} title="Flows between these two" tabindex="-1">
          flows
        </a>
      }
    >
      {(id) => <a class="jump dim" href={href("nat/mappings", { filter: `id=${id()}` })} title="The mapping, if it still lives" tabindex="-1">mapping</a>}
    </Show>
  );
}

const FULL: Column<FeedItem>[] = [
  { key: "time", title: "Time", width: "minmax(104px, 112px)", text: of((e) => clock(e.time, true)), tip: of((e) => dateTime(e.time)), class: () => "num dim" },
  { key: "class", title: "Event", width: "96px", min: 1000, text: of((e) => e.class), term: term("class", (e) => e.class), class: () => "dim" },
  { key: "verdict", title: "Verdict", width: "64px", min: 560, text: of((e) => (e.class === "nat" ? "" : e.verdict)), term: term("verdict", (e) => (e.class === "nat" ? null : e.verdict)), class: (i) => `verdict ${i.event?.verdict ?? ""}` },
  { key: "reason", title: "Reason", width: "minmax(90px, 0.8fr)", text: of((e) => (e.class === "nat" ? "translated" : e.reason)), tip: of((e) => (e.class === "nat" ? "a translation came into force" : `${e.reason}: ${reasonWords(e.reason)}`)), term: (i) => (isNat(i) ? { field: "class", value: "nat" } : term("reason", (e) => e.reason)(i)) },
  { key: "rule", title: "Rule", width: "minmax(76px, 0.8fr)", min: 480, cell: (item) => <RuleLink item={item()} /> },
  { key: "proto", title: "Proto", width: "64px", min: 640, text: of((e) => e.proto), term: term("proto", (e) => e.proto) },
  { key: "src", title: "Source", width: "minmax(102px, 1.3fr)", text: of(from), tip: of((e) => (e.caller ? `process ${e.caller.pid}, user ${e.caller.uid}` : "")), term: (i) => (i.event?.caller ? { field: "comm", value: i.event.caller.comm } : term("src", (e) => e.src)(i)), class: () => "num" },
  { key: "sport", title: "Port", width: "56px", text: of((e) => (e.sport ? String(e.sport) : "")), term: term("sport", (e) => e.sport || null), class: () => "num dim", min: 900 },
  { key: "dst", title: "Destination", width: "minmax(102px, 1.3fr)", text: of((e) => e.dst), term: term("dst", (e) => e.dst), class: () => "num" },
  { key: "dport", title: "Port", width: "56px", text: of((e) => (e.dport ? String(e.dport) : "")), term: term("dport", (e) => e.dport || null), class: () => "num" },
  {
    key: "nat", title: "NAT", hint: "How its flow goes out, where it is translated", width: "minmax(120px, 1.3fr)", min: 1300, text: of(natText), term: (i) => (i.event ? natTerm(i.event) : null), class: () => "num",
    tip: of((e) => (e.nat ? `goes out from ${endpoint(e.nat.src, e.nat.sport)} to ${endpoint(e.nat.dst, e.nat.dport)}, translated by ${e.nat.rule}` : "")),
  },
  { key: "tcp_flags", title: "Flags", width: "84px", min: 1200, text: of((e) => e.tcp_flags), class: () => "dim" },
  { key: "direction", title: "Dir", width: "44px", min: 1100, text: of((e) => e.direction), term: term("direction", (e) => e.direction), class: () => "dim" },
  { key: "iface", title: "Interface", width: "84px", min: 1000, text: of((e) => (e.vlan ? `${e.iface}.${e.vlan}` : e.iface)), term: term("iface", (e) => e.iface), class: () => "dim" },
  { key: "frame_len", title: "Bytes", width: "60px", align: "end", min: 1200, text: of((e) => (e.caller ? "" : String(e.frame_len || e.bytes))), class: () => "num dim" },
  { key: "flow", title: "", width: "74px", cell: (item) => <FlowLink item={item()} /> },
];

const BRIEF: Column<FeedItem>[] = [
  { key: "time", title: "Time", width: "76px", text: of((e) => clock(e.time)), tip: of((e) => dateTime(e.time)), class: () => "num dim" },
  { key: "verdict", title: "Verdict", width: "54px", text: of((e) => e.verdict), class: (i) => `verdict ${i.event?.verdict ?? ""}` },
  { key: "who", title: "From", width: "minmax(100px, 1fr)", text: of((e) => from(e) || e.proto), tip: of((e) => endpoint(e.src, e.sport)), class: () => "num" },
  { key: "what", title: "To", width: "minmax(120px, 1.1fr)", text: of((e) => endpoint(e.dst, e.dport)), class: () => "num" },
  { key: "proto", title: "Proto", width: "52px", min: 1700, text: of((e) => e.proto), class: () => "dim" },
  { key: "why", title: "Rule, or why", width: "minmax(84px, 1fr)", cell: (item) => <Why item={item()} /> },
  { key: "flow", title: "", width: "54px", min: 1100, cell: (item) => <FlowLink item={item()} /> },
];

/** Where a rule or a default decided, that one; else the reason: a rule may have let in what had no port left. */
function Why(props: { item: FeedItem }) {
  const reason = () => props.item.event?.reason ?? "";
  return (
    <Show when={props.item.event?.rule && (reason() === "rule" || reason() === "default")} fallback={<span class="dim" title={reasonWords(reason())}>{reason()}</span>}>
      <RuleLink item={props.item} />
    </Show>
  );
}

export function FeedTable(props: { label: string; items: FeedItem[]; empty: string; brief?: boolean; onTerm?(term: Term, not: boolean): void }) {
  return (
    <Table
      label={props.label}
      columns={props.brief ? BRIEF : FULL}
      rows={props.items}
      keyOf={(item) => item.key}
      growsAtTop
      rowHeight={24}
      banner={(item) => item.gap}
      empty={props.empty}
      {...(props.onTerm ? { onTerm: props.onTerm } : {})}
    />
  );
}
