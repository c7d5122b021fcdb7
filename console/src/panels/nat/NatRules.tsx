/** The policy's translations with their accounts, and those that are gone and have carried something. */

import { createMemo, createSignal, Show, untrack } from "solid-js";
import * as http from "../../protocol/http";
import type { Applied, NatRuleView } from "../../protocol/types";
import { createEdits } from "../../state/edits";
import { quote } from "../../state/filtertext";
import { Meter } from "../../state/meter";
import { createPolled } from "../../state/polled";
import { href, route } from "../../state/route";
import { mayEdit } from "../../state/session";
import { bits, plural } from "../../ui/format";
import { Hint } from "../../ui/Hint";
import { createSort, natural, sortRows, type SortColumn } from "../../ui/sorting";
import { Table } from "../../ui/Table";
import { Trouble, Waiting } from "../../ui/Trouble";
import { kindWords } from "../../ui/words";
import { AddRule } from "../AddRule";
import { Confirm, Delete } from "../Confirm";
import { EVERY_MS, EXAMPLE, Sums, totalColumns } from "./shared";

interface Row extends NatRuleView {
  bps: number | null;
}

const NOTE = "It is taken out of the live policy and of its file. Live mappings stay translated until they end, and its account stays.";

/** A disabled translation stands in the policy and does nothing. */
const disabled = (r: Row): boolean => r.text?.startsWith("disabled ") ?? false;

/** What stands behind name and kind, which have columns of their own. */
const rest = (r: Row): string => {
  const text = r.text?.replace(/^disabled /, "") ?? "";
  const head = `nat ${r.name} ${r.kind} `;
  return text.startsWith(head) ? text.slice(head.length) : text;
};

const COLUMNS: SortColumn<Row>[] = [
  { key: "name", title: "Name", width: "minmax(84px, 0.7fr)", text: (r) => r.name, by: (r) => r.name, class: (r) => (r.text === null ? "dim" : "strong") },
  { key: "kind", title: "Kind", width: "104px", text: (r) => r.kind, tip: (r) => kindWords(r.kind), by: (r) => r.kind, class: () => "dim", min: 700 },
  {
    key: "text", title: "Translation", width: "minmax(120px, 3fr)", text: (r) => (r.text === null ? "no longer in the policy" : rest(r)), by: rest, tip: (r) => r.text ?? "Its account stays: what it has carried was carried.",
    class: (r) => (r.text === null ? "dim" : "code"), min: 480,
  },
  { key: "rate", title: "Now", hint: "Bits a second, both ways", width: "84px", align: "end", text: (r) => (r.bps === null || r.bps === 0 ? "" : bits(r.bps)), by: (r) => r.bps, class: () => "num strong", min: 900 },
  ...totalColumns<Row>(),
  {
    key: "see", title: "", width: "80px", min: 950,
    cell: (r) => <a class="jump dim" href={href("nat/mappings", { filter: `rule=${quote(r().name)}` })} title="Mappings it has made that live" tabindex="-1">mappings</a>,
  },
];

export function NatRules() {
  // `#/nat/rules?find=NAME` comes from the events.
  const [find, setFind] = createSignal(untrack(() => route().query.get("find") ?? ""));
  const [adding, setAdding] = createSignal(false);
  const [deleting, setDeleting] = createSignal<Row | null>(null);
  const edits = createEdits();
  const meter = new Meter();
  const answer = createPolled(async (signal) => {
    const { rows } = await http.natRules(signal);
    const rates = meter.read(performance.now(), rows.map((r): [string, number] => [r.name, r.bytes + r.reply_bytes]));
    return rows.map((r): Row => ({ ...r, bps: rates.get(r.name) == null ? null : 8 * rates.get(r.name)! }));
  }, EVERY_MS);
  const change = (what: string, run: (edit: http.Edit) => Promise<Applied>) => void edits.edit(what, run).then(() => answer.again());
  const columns: SortColumn<Row>[] = [
    ...COLUMNS,
    {
      key: "edit", title: "", width: "132px", min: 560,
      cell: (r) => (
        <Show when={r().text !== null && mayEdit()}>
          <span class="row-actions">
            <button type="button" onClick={() => { const { name } = r(); const on = disabled(r()); change(`${on ? "Enabled" : "Disabled"} ${name}`, (e) => http.setRule(name, on, e)); }}>
              {disabled(r()) ? "Enable" : "Disable"}
            </button>
            <button type="button" class="danger" onClick={() => setDeleting(r())}>Delete</button>
          </span>
        </Show>
      ),
    },
  ];
  for (const c of columns) c.sortable = c.by !== undefined;
  // The policy's order, in which the first that matches translates, until somebody wants another.
  const [sort, onSort] = createSort<Row>({ key: "", down: false }, columns);
  const rows = () => answer.value() ?? [];
  const shown = createMemo(() => {
    const needle = find().trim().toLowerCase();
    const some = rows().filter((r) => needle === "" || r.name.toLowerCase().includes(needle) || (r.text ?? "").toLowerCase().includes(needle));
    return sort().key === "" ? some : sortRows(some, columns, sort(), (a, b) => natural(a.name, b.name));
  });
  const places = () => rows().filter((r) => r.text !== null).map((r) => r.name);

  return (
    <>
      <div class="bar-top">
        <input
          class="filter-input find"
          type="search"
          aria-label="Find a translation"
          placeholder="find by name or text"
          value={find()}
          onInput={(e) => setFind(e.currentTarget.value)}
          onKeyDown={(e) => e.key === "Escape" && e.currentTarget.blur()}
        />
        <Show when={answer.value()}><Sums rows={shown()} what={plural(shown().length, "translation")} /></Show>
        <span class="spring" />
        <Show when={mayEdit()}><button type="button" class="primary" onClick={() => setAdding(true)}>Add a translation</button></Show>
      </div>
      <Trouble of={answer} />
      <section class="card grow">
        <Table
          label="Translations"
          columns={columns}
          rows={shown()}
          sort={sort()}
          onSort={onSort}
          keyOf={(r) => r.name}
          rowHeight={30}
          rowClass={(r) => (r.text === null ? "gone" : disabled(r) ? "off" : "")}
          empty={
            <Show when={answer.value()} fallback={<Waiting of={answer} />}>
              <Show when={rows().length === 0} fallback="No translation matches.">
                <Hint title="The policy translates nothing." policy={EXAMPLE}>A translation is a line of the policy, such as one of these:</Hint>
              </Show>
            </Show>
          }
        />
      </section>
      <Show when={adding()}>
        <AddRule kind="nat" places={places()} onClose={() => setAdding(false)} onLockOut={(message, go) => edits.setLockOut({ message, go })} />
      </Show>
      <Show when={deleting()}>
        {(r) => (
          <Delete what="translation" name={r().name} text={r().text ?? ""} note={NOTE} onClose={() => setDeleting(null)} onDelete={() => { const { name } = r(); change(`Deleted ${name}`, (e) => http.deleteRule(name, e)); }} />
        )}
      </Show>
      <Confirm edits={edits} />
    </>
  );
}
