/** The picture to leave open all day. */

import { createMemo, createSignal, For, onCleanup, Show } from "solid-js";
import { createFeed, DROPS } from "../state/feed";
import { href } from "../state/route";
import { rules } from "../state/rules";
import { reasonRates, samples, stats } from "../state/stats";
import { Chart } from "../ui/Chart";
import { bits, count, plural, rate, short } from "../ui/format";
import { AlarmList } from "../ui/Alarms";
import { Tile } from "../ui/Tile";
import { reasonWords } from "../ui/words";
import { FeedTable } from "./FeedTable";
import { StateTiles } from "./StateTiles";

const RANGES: [string, number][] = [["2 min", 120], ["10 min", 600], ["1 h", 3600]];
const [range, setRange] = createSignal(120);

/** Reasons that say nothing is wrong. */
const PASSED = new Set(["established", "arp", "neighbour-discovery", "related", "untracked", "no-policy", "unknown-interface"]);

const magnitude = (rate: number): number => (rate < 0.05 ? -9 : Math.round(1.5 * Math.log2(rate)));

export function Overview() {
  const drops = createFeed(DROPS, 100, false);
  onCleanup(() => drops.close());

  const view = createMemo(() => {
    const all = samples();
    const end = all[all.length - 1]?.t ?? 0;
    // One sample more than fits, so that the line begins at the edge.
    const from = all.findIndex((s) => s.t >= end - range() - 1);
    return from <= 0 ? all : all.slice(from);
  });
  const times = createMemo(() => view().map((s) => s.t));
  const last = () => samples()[samples().length - 1];

  const busy = createMemo(() => {
    const live = rules().filter((r) => r.enabled && r.hits > 0);
    // By order of magnitude, then by place: rules that are about as busy don't trade places every second.
    live.sort((a, b) => magnitude(b.rate) - magnitude(a.rate) || (a.position || 1e9) - (b.position || 1e9));
    return live.slice(0, 8);
  });
  const most = () => Math.max(1e-9, ...busy().map((r) => r.rate));

  const why = createMemo(() => {
    const list = (stats()?.reasons ?? []).map((r) => ({ ...r, rate: reasonRates().get(r.reason) ?? 0 }));
    return list.sort((a, b) => b.packets - a.packets).slice(0, 8);
  });
  const whyAll = () => Math.max(1, stats()?.packets ?? 1);

  return (
    <div class="overview">
      <AlarmList />
      <div class="tiles">
        <Tile title="Passed" value={rate(last()?.passed ?? Number.NaN)} sub={`${count(stats()?.passed_packets ?? 0)} packets`} />
        <Tile title="Dropped" kind={(last()?.dropped ?? 0) > 0 ? "drop" : ""} value={rate(last()?.dropped ?? Number.NaN)} sub={`${count(stats()?.dropped_packets ?? 0)} packets`} href={href("events")} />
        <Tile title="Throughput" value={bits(last()?.bits ?? Number.NaN)} sub={`${short(stats()?.bytes ?? 0, "B")} seen`} />
        <Tile title="New flows" value={rate(last()?.newFlows ?? Number.NaN)} sub="began in the last second" />
        <Tile title="Live flows" id="tile-flows" value={count(stats()?.flows ?? 0)} sub="entered and not ended" href={href("flows")} />
        <div class="ranges" role="group" aria-label="Time shown">
          <For each={RANGES}>
            {([label, seconds]) => (
              <button type="button" aria-pressed={range() === seconds} onClick={() => setRange(seconds)}>{label}</button>
            )}
          </For>
        </div>
        <StateTiles />
      </div>
      <div class="charts">
        <Chart
          title="Packets"
          times={times()}
          range={range()}
          format={rate}
          lines={[
            { label: "passed", color: "--pass", values: view().map((s) => s.passed) },
            { label: "dropped", color: "--drop", values: view().map((s) => s.dropped) },
          ]}
        />
        <Chart
          title="Bits"
          times={times()}
          range={range()}
          format={bits}
          lines={[
            { label: "passed", color: "--pass", values: view().map((s) => s.bits) },
            { label: "dropped", color: "--drop", values: view().map((s) => s.droppedBits) },
          ]}
        />
        <Chart title="New flows" times={times()} range={range()} format={rate} lines={[{ label: "new", color: "--flow", values: view().map((s) => s.newFlows) }]} />
      </div>
      <div class="lower">
        <section class="card">
          <header class="card-head"><h2>Busiest rules</h2><a href={href("rules")}>all rules</a></header>
          <div class="bars">
            <For each={busy()} fallback={<p class="empty">No rule was hit yet.</p>}>
              {(r) => (
                <a class={`bar ${r.action}`} href={href("rules", { rule: r.name })} title={r.text}>
                  <span class={`verdict ${r.action}`}>{r.action}</span>
                  <span class="name">{r.name}</span>
                  <span class="value">{rate(r.rate)}</span>
                  <span class="value total">{short(r.hits)} {r.hits === 1 ? "hit" : "hits"}</span>
                  <span class="track"><i style={{ width: `${(100 * r.rate) / most()}%` }} /></span>
                </a>
              )}
            </For>
          </div>
        </section>
        <section class="card">
          <header class="card-head"><h2>Why packets passed or not</h2></header>
          <div class="bars">
            <For each={why()} fallback={<p class="empty">No packet has met a hook yet.</p>}>
              {(r) => (
                <div class={`bar ${PASSED.has(r.reason) ? "allow" : /^(rule|default|unknown-ethertype)$/.test(r.reason) ? "" : "drop"}`} title={reasonWords(r.reason)}>
                  <span class="name">{r.reason}</span>
                  <span class="value">{rate(r.rate)}</span>
                  <span class="value total">{short(r.packets)}</span>
                  <span class="track"><i style={{ width: `${(100 * r.packets) / whyAll()}%` }} /></span>
                </div>
              )}
            </For>
          </div>
        </section>
        <section class="card feed">
          <header class="card-head">
            <h2>Latest drops</h2>
            <Show when={suppressed() > 0}>
              <span class="dim" title="A flood of drops is sampled so that it can't drown the rest; all are counted">{plural(suppressed(), "event")} sampled out</span>
            </Show>
            <a href={href("events")}>all events</a>
          </header>
          <FeedTable label="Latest drops" items={drops.items()} brief empty="Nothing was dropped yet." />
        </section>
      </div>
    </div>
  );
}

const suppressed = () => stats()?.events.find((e) => e.class === "verdict")?.suppressed ?? 0;
