/** Public addresses and how far their ports are used up. */

import { createMemo, Show } from "solid-js";
import * as http from "../../protocol/http";
import type { NatPoolView } from "../../protocol/types";
import { createPolled } from "../../state/polled";
import { poolState, sharePercent } from "../../state/pools";
import { href } from "../../state/route";
import { count, percent, plural, short } from "../../ui/format";
import { Hint } from "../../ui/Hint";
import { createSort, natural, sortRows, type SortColumn } from "../../ui/sorting";
import { Table } from "../../ui/Table";
import { Trouble, Waiting } from "../../ui/Trouble";
import { EVERY_MS } from "./shared";

const EXAMPLE = `interface wan = eth0
nat out  masquerade on wan from 10.0.0.0/8
nat many source     on wan from 10.8.0.0/16 => 203.0.113.8/29 ports 20000-59999`;

const WORDS = { ok: "", high: "nearly full", exhausted: "exhausted" };

const key = (p: NatPoolView) => `${p.address} ${p.proto} ${p.interface ?? ""}`;

function Use(props: { pool: NatPoolView }) {
  const state = () => poolState(props.pool);
  const share = () => sharePercent(props.pool, props.pool.in_use);
  return (
    <span
      class={`use worded ${state()}`}
      role="meter"
      aria-label={`Ports in use at ${props.pool.address}, ${props.pool.proto}`}
      aria-valuemin={0}
      aria-valuemax={props.pool.ports}
      aria-valuenow={props.pool.in_use}
      title={`${count(props.pool.in_use)} of ${plural(props.pool.ports, "port")} in use, ${count(props.pool.peak)} at most`}
    >
      <span class="use-track">
        <i class="use-fill" style={{ width: `${share()}%` }} />
        <i class="use-peak" style={{ left: `${sharePercent(props.pool, props.pool.peak)}%` }} />
      </span>
      <span class="num">{percent(share())}</span>
      <span class="use-word">{WORDS[state()]}</span>
    </span>
  );
}

const COLUMNS: SortColumn<NatPoolView>[] = [
  { key: "address", title: "Public address", width: "minmax(104px, 0.8fr)", text: (p) => p.address || "no longer known", by: (p) => p.address, class: () => "num strong" },
  { key: "proto", title: "Proto", width: "52px", text: (p) => p.proto, by: (p) => p.proto, class: () => "dim" },
  { key: "interface", title: "Interface", width: "84px", min: 1000, text: (p) => p.interface ?? "", tip: (p) => (p.interface === null ? "an address of the policy" : `the address of ${p.interface}`), by: (p) => p.interface ?? "", class: () => "dim" },
  { key: "rules", title: "Rules", width: "minmax(80px, 0.6fr)", min: 800, text: (p) => p.rules.join(", "), by: (p) => p.rules.join(", ") },
  { key: "use", title: "Ports in use", hint: "The mark is the most there ever were at once", width: "minmax(150px, 2fr)", cell: (p) => <Use pool={p()} />, by: (p) => p.used_percent },
  { key: "in_use", title: "In use", width: "76px", align: "end", min: 600, text: (p) => count(p.in_use), by: (p) => p.in_use, class: () => "num" },
  { key: "ports", title: "Of", hint: "Ports there are to use", width: "66px", align: "end", min: 600, text: (p) => count(p.ports), by: (p) => p.ports, class: () => "num dim" },
  { key: "peak", title: "Peak", hint: "Most ports in use at once", width: "68px", align: "end", min: 700, text: (p) => count(p.peak), by: (p) => p.peak, class: () => "num" },
  { key: "made", title: "Made", hint: "Mappings made", width: "78px", align: "end", min: 900, text: (p) => short(p.made), tip: (p) => `${plural(p.made, "mapping")} made`, by: (p) => p.made, class: () => "num dim" },
  {
    key: "failures", title: "Failed", hint: "Mappings that couldn't be made: no port was left", width: "64px", align: "end", text: (p) => short(p.failures),
    tip: (p) => `${plural(p.failures, "mapping")} couldn't be made: no port was left`, by: (p) => p.failures, class: (p) => (p.failures > 0 ? "num warn-text" : "num dim"),
  },
  {
    key: "see", title: "", width: "80px", min: 950,
    cell: (p) => (
      <Show when={p().address !== ""}>
        <a class="jump dim" href={href("nat/mappings", { filter: `public=${p().address} and proto=${p().proto}` })} title="Mappings that use it" tabindex="-1">mappings</a>
      </Show>
    ),
  },
];

export function Pools() {
  const answer = createPolled((signal) => http.natPools(signal), EVERY_MS);
  for (const c of COLUMNS) c.sortable = c.by !== undefined;
  const [sort, onSort] = createSort<NatPoolView>({ key: "use", down: true }, COLUMNS);
  const rows = () => answer.value()?.rows ?? [];
  const shown = createMemo(() => sortRows(rows(), COLUMNS, sort(), (a, b) => natural(key(a), key(b))));
  const exhausted = createMemo(() => rows().filter((p) => poolState(p) === "exhausted"));

  return (
    <>
      <Trouble of={answer} />
      <Show when={exhausted().length > 0}>
        <p class="warning" role="status">
          <b>{plural(exhausted().length, "pool is", "pools are")} exhausted:</b> new mappings take ports that are in use towards other far ends, and fail where there are none.
          Another address, a wider <code>ports</code> range, or shorter time-outs help.
        </p>
      </Show>
      <section class="card grow">
        <Table
          label="Pools"
          columns={COLUMNS}
          rows={shown()}
          sort={sort()}
          onSort={onSort}
          keyOf={key}
          rowHeight={30}
          rowClass={poolState}
          empty={
            <Show when={answer.value()} fallback={<Waiting of={answer} />}>
              <Hint title="No public address has ports to give." policy={EXAMPLE}>Ports are shared out by translations of sources:</Hint>
            </Show>
          }
        />
      </section>
    </>
  );
}
