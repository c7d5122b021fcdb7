/** The live policy, rule by rule, with what each has done. */

import { createEffect, createMemo, createSignal, For, on, Show } from "solid-js";
import * as http from "../protocol/http";
import { createEdits } from "../state/edits";
import { quote } from "../state/filtertext";
import { href, route } from "../state/route";
import { generation, rules, rulesArrived, type RuleRow } from "../state/rules";
import { mayEdit } from "../state/session";
import { status } from "../state/status";
import { now } from "../state/time";
import { toast } from "../state/toasts";
import { ago, bytes, count, dateTime, rate, short } from "../ui/format";
import { Table, type Column, type Sort } from "../ui/Table";
import { ruleMarks } from "../ui/words";
import { AddRule } from "./AddRule";
import { Confirm, Delete } from "./Confirm";
import { PolicyRooms } from "./Policy";

const [sort, setSort] = createSignal<Sort>({ key: "position", down: false });

export function Rules() {
  const [adding, setAdding] = createSignal(false);
  const [deleting, setDeleting] = createSignal<string | null>(null);
  const edits = createEdits();
  const { edit } = edits;
  const [find, setFind] = createSignal("");

  const columns: (Column<RuleRow> & { by?(r: RuleRow): number | string })[] = [
    { key: "position", title: "#", width: "40px", align: "end", min: 480, text: (r) => (r.position === 0 ? "" : String(r.position)), by: (r) => r.position || 1e9, class: () => "num dim" },
    { key: "name", title: "Name", width: "minmax(84px, 0.8fr)", text: (r) => r.name, by: (r) => r.name, class: (r) => (r.position === 0 ? "dim" : "strong") },
    { key: "action", title: "Action", width: "minmax(76px, 88px)", text: (r) => r.action + (r.log ? ", log" : ""), tip: (r) => (r.log ? `${r.action}, and log` : r.action), by: (r) => r.action, class: (r) => `verdict ${r.action}` },
    {
      key: "text", title: "Rule", width: "minmax(140px, 3fr)", by: (r) => r.text, class: () => "code", min: 480,
      cell: (r) => (
        <span title={r().text}>
          <For each={ruleMarks(r().text)}>{([word, meaning]) => <span class="tag mark" title={meaning}>{word}</span>}</For>
          {r().text}
          {r().over > 0 ? <span class="tag mark" title={`${count(r().over)} packets were over its limit`}>{short(r().over)} over</span> : null}
        </span>
      ),
    },
    { key: "rate", title: "Now", hint: "Hits a second", width: "72px", align: "end", text: (r) => (r.rate < 0.05 ? "" : rate(r.rate)), by: (r) => r.rate, class: () => "num strong", min: 900 },
    { key: "hits", title: "Hits", hint: "Packets that were judged by the rule", width: "78px", align: "end", text: (r) => short(r.hits), tip: (r) => `${count(r.hits)} packets judged by this rule`, by: (r) => r.hits, class: () => "num" },
    { key: "packets", title: "Packets", hint: "All packets it decided, of established flows too", width: "78px", align: "end", text: (r) => short(r.packets), tip: (r) => `${count(r.packets)} packets decided, established flows included`, by: (r) => r.packets, class: () => "num", min: 900 },
    { key: "bytes", title: "Bytes", width: "80px", align: "end", min: 560, text: (r) => bytes(r.bytes), tip: (r) => `${count(r.bytes)} B`, by: (r) => r.bytes, class: () => "num" },
    { key: "last_hit", title: "Last hit", width: "104px", align: "end", text: (r) => ago(r.last_hit, now()), tip: (r) => dateTime(r.last_hit), by: (r) => (r.last_hit ? Date.parse(r.last_hit) : 0), class: () => "num dim", min: 1000 },
    {
      key: "see", title: "", width: "104px", min: 950,
      cell: (r) => (
        <span class="links">
          <a class="jump" href={href("flows", { filter: `rule=${quote(r().name)}` })} title="Flows this rule let in">flows</a>
          <a class="jump" href={href("events", { filter: `rule=${quote(r().name)}` })} title="Events of this rule">events</a>
        </span>
      ),
    },
    {
      key: "edit", title: "", width: "132px",
      cell: (r) => (
        <Show when={r().position > 0 && mayEdit()}>
          <span class="row-actions">
            <button type="button" onClick={() => void edit(`${r().enabled ? "Disabled" : "Enabled"} ${r().name}`, (e) => http.setRule(r().name, !r().enabled, e))}>
              {r().enabled ? "Disable" : "Enable"}
            </button>
            <button type="button" class="danger" onClick={() => setDeleting(r().name)}>Delete</button>
          </span>
        </Show>
      ),
    },
  ];
  for (const c of columns) c.sortable = c.title !== "";

  const shown = createMemo(() => {
    const needle = find().trim().toLowerCase();
    const rows = needle === "" ? [...rules()] : rules().filter((r) => r.name.toLowerCase().includes(needle) || r.text.toLowerCase().includes(needle));
    const column = columns.find((c) => c.key === sort().key)!;
    const sign = sort().down ? -1 : 1;
    return rows.sort((a, b) => {
      const x = column.by?.(a) ?? 0;
      const y = column.by?.(b) ?? 0;
      return x === y ? (a.position || 1e9) - (b.position || 1e9) : sign * (x < y ? -1 : 1);
    });
  });
  const onSort = (key: string) =>
    setSort((s) => (s.key === key ? { key, down: !s.down } : { key, down: columns.find((c) => c.key === key)?.align === "end" && key !== "position" }));

  // `#/rules?rule=NAME` brings that rule into view, once.
  const [mark, setMark] = createSignal<{ index: number } | null>(null);
  createEffect(on([() => route().query.get("rule"), rulesArrived], ([name]) => {
    if (name === null) return setMark(null);
    setFind("");
    const index = shown().findIndex((r) => r.name === name);
    setMark(index < 0 ? null : { index });
    if (index < 0 && rulesArrived()) toast("bad", `The live policy has no rule ${name}; it may have been removed since.`);
  }));

  return (
    <div class="panel">
      <PolicyRooms here="list" />
      <div class="bar-top">
        <input
          class="filter-input find"
          type="search"
          aria-label="Find a rule"
          placeholder="find by name or text"
          value={find()}
          onInput={(e) => setFind(e.currentTarget.value)}
          onKeyDown={(e) => e.key === "Escape" && e.currentTarget.blur()}
        />
        <span class="tally">
          policy <b class="num">{generation() ?? "–"}</b> from <code>{status()?.policy_file ?? "–"}</code>
        </span>
        <span class="spring" />
        <Show when={mayEdit()}>
          <button type="button" onClick={() => void resetAll()}>Reset counters</button>
          <button type="button" class="primary" onClick={() => setAdding(true)}>Add a rule</button>
        </Show>
      </div>
      <section class="card grow">
        <Table
          label="Rules"
          columns={columns}
          rows={shown()}
          keyOf={(r) => r.name}
          rowHeight={30}
          sort={sort()}
          onSort={onSort}
          mark={mark()}
          rowClass={(r) => `${r.enabled ? "" : "off"} ${r.position === 0 ? "default" : ""}`}
          empty={rulesArrived() ? "No rule matches." : "Waiting for the daemon."}
        />
      </section>
      <Show when={adding()}>
        <AddRule kind="rule" places={rules().filter((r) => r.position > 0).map((r) => r.name)} onClose={() => setAdding(false)} onLockOut={(message, go) => edits.setLockOut({ message, go })} />
      </Show>
      <Show when={deleting()}>
        {(name) => (
          <Delete
            what="rule"
            name={name()}
            text={rules().find((r) => r.name === name())?.text ?? ""}
            note="It is taken out of the live policy and of its file. Flows it let in are judged anew."
            onClose={() => setDeleting(null)}
            onDelete={() => { const n = name(); void edit(`Deleted ${n}`, (e) => http.deleteRule(n, e)); }}
          />
        )}
      </Show>
      <Confirm edits={edits} />
    </div>
  );
}

async function resetAll(): Promise<void> {
  try {
    await http.resetCounters();
    toast("ok", "Counters start again at zero");
  } catch (error) {
    toast("bad", error instanceof Error ? error.message : String(error));
  }
}
