/** What runs where, what it can't do, and the account of events. */

import { For, Show } from "solid-js";
import { href } from "../state/route";
import { hello, link, reconnects, roundTrip } from "../state/session";
import { stats } from "../state/stats";
import { status, statusProblem } from "../state/status";
import { now } from "../state/time";
import { count, dateTime, duration, plural } from "../ui/format";
import { AlarmList } from "../ui/Alarms";
import { Account } from "../ui/LostBadge";
import { HistoryCard, TableCard } from "./StateCards";
import { hookWords } from "../ui/words";

export function Status() {
  return (
    <div class="status-panel">
      <Show when={statusProblem()}>{(text) => <p class="problem" role="alert">{text()}</p>}</Show>
      <div class="column">
        <section class="card">
          <header class="card-head"><h2>Alarms</h2></header>
          <Show when={status()?.alarms?.length} fallback={<p class="dim">{status()?.alarms ? "None." : "Not told by this daemon."}</p>}><AlarmList /></Show>
        </section>
        <section class="card">
          <header class="card-head"><h2>Interfaces</h2></header>
          <table class="plain">
            <thead><tr><th>name</th><th>ingress</th><th>egress</th><th>asked for</th><th>why</th></tr></thead>
            <tbody>
              <For each={status()?.interfaces ?? []} fallback={<tr><td colspan="5" class="dim">No interface: nothing is filtered.</td></tr>}>
                {(i) => (
                  <tr classList={{ "warn-row": i.ingress === "none" || i.egress === "none" }}>
                    <td class="strong">{i.name} <span class="dim num">{i.ifindex}</span></td>
                    <td title={hookWords(i.ingress)}><span class="hook">{i.ingress}</span></td>
                    <td title={hookWords(i.egress)}><span class="hook">{i.egress}</span></td>
                    <td class="dim">{i.mode_asked}</td>
                    <td class="wrap">
                      {i.why}
                      <Show when={i.fast_path}><div class="dim">fast path {i.fast_path}</div></Show>
                    </td>
                  </tr>
                )}
              </For>
            </tbody>
          </table>
        </section>
        <section class="card">
          <header class="card-head"><h2>Daemon</h2></header>
          <Show when={status()} fallback={<p class="empty">Waiting for the daemon.</p>}>
            {(s) => (
              <dl class="facts">
                <dt>version</dt><dd>{s().version} <span class="dim">(maps: ABI {s().abi_version})</span></dd>
                <dt>process</dt><dd class="num">{s().pid}</dd>
                <dt>up since</dt><dd class="num">{dateTime(s().started)} <span class="dim">({duration(now() - Date.parse(s().started))})</span></dd>
                <dt>filter</dt><dd>{s().adopted ? "was running already; this daemon took it over" : "loaded by this daemon"}</dd>
                <dt>epoch</dt><dd class="num" id="epoch">{s().epoch}</dd>
                <dt>policy</dt><dd>generation <b class="num">{s().generation}</b>, {plural(s().rules, "rule")}, from <code>{s().policy_file}</code></dd>
                <dt>flows</dt><dd class="num">{count(stats()?.flows ?? s().flows)} of {count(stats()?.flows_max ?? 0)} per address family</dd>
                <Show when={s().paths}>
                  {(p) => <><dt>ways in and out</dt><dd><a href={href("paths")}><b class="num">{count(p().ways)}</b>: {count(p().filtered.yes)} filtered, {count(p().filtered.part)} in part, {count(p().filtered.no)} not</a></dd></>}
                </Show>
                <dt>console</dt><dd><code>{s().console}</code></dd>
              </dl>
            )}
          </Show>
        </section>
      </div>
      <div class="column">
        <TableCard />
        <HistoryCard />
        <section class="card">
          <header class="card-head"><h2>What Sluice can't see or do here</h2></header>
          <ul class="limits">
            <For each={status()?.limits ?? []} fallback={<li class="dim">Nothing known.</li>}>{(l) => <li>{l}</li>}</For>
          </ul>
        </section>
        <section class="card">
          <header class="card-head"><h2>Events: the account</h2></header>
          <Account />
        </section>
        <section class="card">
          <header class="card-head"><h2>This page</h2></header>
          <dl class="facts">
            <dt>link</dt><dd>{link().phase}</dd>
            <dt>role</dt><dd>{hello()?.role ?? "–"}</dd>
            <dt>round trip</dt><dd class="num">{roundTrip() === null ? "–" : `${roundTrip()!.toFixed(1)} ms`}</dd>
            <dt>reconnects</dt><dd class="num" id="reconnects">{count(reconnects())}</dd>
            <dt>protocol</dt><dd class="num">{hello()?.version ?? "–"}</dd>
          </dl>
        </section>
      </div>
    </div>
  );
}
