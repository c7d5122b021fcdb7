/** What each host inside has carried through translations. */

import { createMemo, createSignal, Show } from "solid-js";
import * as http from "../../protocol/http";
import type { NatHostView } from "../../protocol/types";
import { Meter } from "../../state/meter";
import { createPolled } from "../../state/polled";
import { href } from "../../state/route";
import { bits, count, percent, plural } from "../../ui/format";
import { Hint } from "../../ui/Hint";
import { createSort, natural, sortRows, type SortColumn } from "../../ui/sorting";
import { Table } from "../../ui/Table";
import { Trouble, Waiting } from "../../ui/Trouble";
import { EVERY_MS, EXAMPLE, Sums, totalColumns } from "./shared";

interface Row extends NatHostView {
  bps: number | null;
  /** Percent of all hosts' bytes. */
  share: number;
}

/** As many as have an account of their own, and the one that the rest share. */
const LIMIT = 4_097;
const OTHER = "other";

const COLUMNS: SortColumn<Row>[] = [
  {
    key: "host", title: "Host", width: "minmax(112px, 1.2fr)", by: (r) => r.host, class: () => "num strong",
    text: (r) => (r.host === OTHER ? "all others" : r.host),
    tip: (r) => (r.host === OTHER ? "Hosts that came when all accounts were given away: they share this one" : r.host),
  },
  {
    key: "share", title: "Share", hint: "Of all hosts' bytes, both ways", width: "minmax(80px, 1fr)", min: 700, by: (r) => r.share,
    cell: (r) => (
      <span class="use" title={`${percent(r().share)} of all hosts' bytes`}>
        <span class="use-track"><i class="use-fill" style={{ width: `${r().share}%` }} /></span>
        <span class="num dim">{percent(r().share)}</span>
      </span>
    ),
  },
  { key: "rate", title: "Now", hint: "Bits a second, both ways", width: "84px", align: "end", text: (r) => (r.bps === null || r.bps === 0 ? "" : bits(r.bps)), by: (r) => r.bps, class: () => "num strong", min: 900 },
  ...totalColumns<Row>(),
  {
    key: "see", title: "", width: "80px", min: 950,
    cell: (r) => (
      <Show when={r().host !== OTHER}>
        <a class="jump dim" href={href("nat/mappings", { filter: `inside=${r().host}` })} title="Its mappings that live" tabindex="-1">mappings</a>
      </Show>
    ),
  },
];

export function Hosts() {
  const [find, setFind] = createSignal("");
  const meter = new Meter();
  const answer = createPolled(async (signal) => {
    const page = await http.natHosts({ limit: LIMIT }, signal);
    const both = (r: NatHostView) => r.bytes + r.reply_bytes;
    const all = Math.max(1, page.rows.reduce((sum, r) => sum + both(r), 0));
    const rates = meter.read(performance.now(), page.rows.map((r): [string, number] => [r.host, both(r)]));
    const rows = page.rows.map((r): Row => ({ ...r, share: (100 * both(r)) / all, bps: rates.get(r.host) == null ? null : 8 * rates.get(r.host)! }));
    return { total: page.total, rows };
  }, EVERY_MS);
  for (const c of COLUMNS) c.sortable = c.by !== undefined;
  const [sort, onSort] = createSort<Row>({ key: "share", down: true }, COLUMNS);
  const rows = () => answer.value()?.rows ?? [];
  const shown = createMemo(() => {
    const needle = find().trim().toLowerCase();
    return sortRows(rows().filter((r) => r.host.includes(needle)), COLUMNS, sort(), (a, b) => natural(a.host, b.host));
  });

  return (
    <>
      <div class="bar-top">
        <input
          class="filter-input find"
          type="search"
          aria-label="Find a host"
          placeholder="find by address"
          value={find()}
          onInput={(e) => setFind(e.currentTarget.value)}
          onKeyDown={(e) => e.key === "Escape" && e.currentTarget.blur()}
        />
        <Show when={answer.value()}>
          {(page) => <Sums rows={shown()} what={page().total > page().rows.length ? `${count(page().rows.length)} of ${plural(page().total, "host")}` : plural(shown().length, "host")} />}
        </Show>
      </div>
      <Trouble of={answer} />
      <section class="card grow">
        <Table
          label="Hosts"
          columns={COLUMNS}
          rows={shown()}
          sort={sort()}
          onSort={onSort}
          keyOf={(r) => r.host}
          empty={
            <Show when={answer.value()} fallback={<Waiting of={answer} />}>
              <Show when={rows().length === 0} fallback="No host matches.">
                <Hint title="No host's packets were translated yet." policy={EXAMPLE}>Accounts begin with a host's first mapping. For example:</Hint>
              </Show>
            </Show>
          }
        />
      </section>
    </>
  );
}
