/** The flow table and the history, in exact numbers. */

import { Show } from "solid-js";
import { stats } from "../state/stats";
import { status } from "../state/status";
import { bytes, count, duration, percent, plural } from "../ui/format";

export function TableCard() {
  return (
    <Show when={stats()?.table}>
      {(t) => (
        <section class="card">
          <header class="card-head"><h2>Flow table</h2></header>
          <dl class="facts">
            <dt>in use</dt>
            <dd class="num">{count(t().flows)} of {count(t().capacity)}, {percent(t().used_percent)}; pressure <b classList={{ "warn-text": t().pressure !== "ok" }}>{t().pressure}</b></dd>
            <dt>half-open</dt><dd class="num">{count(t().half_open)}</dd>
            <dt>evicted</dt><dd class="num">{count(t().evicted)} half-open <span class="dim">({plural(t().evicted_packets, "packet")}, {count(t().evicted_bytes)} B)</span></dd>
            <dt>refused</dt><dd class="num">{count(t().refused)} <span class="dim">for want of a place</span></dd>
            <dt>source limit</dt><dd class="num">{count(t().source_limited)} <span class="dim">refused, because their source had its share</span></dd>
            <dt>busy</dt><dd class="num">{count(t().busy)} <span class="dim">judged without being tracked, because a lock was taken</span></dd>
            <Show when={(t().ended_unlisted ?? 0) > 0}>
              <dt>not listed</dt><dd class="num">{count(t().ended_unlisted ?? 0)} <span class="dim">flows ended too many at a time to be shown for their time</span></dd>
            </Show>
          </dl>
        </section>
      )}
    </Show>
  );
}

export function HistoryCard() {
  return (
    <section class="card">
      <header class="card-head"><h2>History</h2></header>
      <Show when={status()?.history} fallback={<p class="dim">{status() ? "None is kept: who had a public port is not known once the mapping has ended." : "Waiting for the daemon."}</p>}>
        {(h) => (
          <dl class="facts">
            <dt>file</dt><dd><code>{h().path}</code></dd>
            <dt>size</dt><dd class="num">{bytes(h().bytes)} of {bytes(h().max_bytes)}, for {duration(h().max_age_ms)}</dd>
            <dt>records</dt><dd class="num">{count(h().written)} written, {count(h().completed)} completed, {count(h().deleted)} deleted, {count(h().queued)} waiting</dd>
            <dt>lost</dt><dd class="num"><b classList={{ "warn-text": h().lost > 0 }}>{count(h().lost)}</b> <span class="dim">never written</span></dd>
            <Show when={h().trouble}>{(text) => <><dt>trouble</dt><dd class="problem">{text()}</dd></>}</Show>
          </dl>
        )}
      </Show>
    </section>
  );
}
