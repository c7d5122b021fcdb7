/** Every way that packets enter and leave by, and whether Sluice judges and counts them there. */

import { createMemo, For, Show } from "solid-js";
import * as http from "../protocol/http";
import type { PathView, Share } from "../protocol/types";
import { aboutWords, kindWords, placeWords, programTip, programWords, shareWords, worstFirst } from "../state/paths";
import { createPolled } from "../state/polled";
import { clock, count, plural } from "../ui/format";
import { Trouble, Waiting } from "../ui/Trouble";

/** Milliseconds between an answer and the next question: the machine's ways change seldom. */
const EVERY_MS = 5_000;

export function Paths() {
  const answer = createPolled((signal) => http.paths(signal), EVERY_MS);
  const rows = createMemo(() => worstFirst(answer.value()?.rows ?? []));
  const summary = () => answer.value()?.summary;

  return (
    <div class="panel paths-panel">
      <Trouble of={answer} />
      <Show when={summary()} fallback={<p class="empty"><Waiting of={answer} /></p>}>
        {(s) => (
          <p class="tally" id="paths-summary">
            <b class="num">{count(s().ways)}</b> {s().ways === 1 ? "way" : "ways"} in and out · <b class="num">{count(s().filtered.yes)}</b> filtered ·{" "}
            <b class="num">{count(s().filtered.part)}</b> in part · <b class="num">{count(s().filtered.no)}</b> not
            <Show when={s().todo > 0}> · <span class="warn-text">{plural(s().todo, "thing")} to look at</span></Show>
            <span class="dim"> · read at {clock(s().time)}</span>
          </p>
        )}
      </Show>
      <Show when={rows().length > 0}>
        <section class="card grow scroll">
          <table class="plain" aria-label="Paths">
            <thead>
              <tr><th>What</th><th>Where</th><th title="Whether the policy decides about its packets">Filtered</th><th title="Whether its packets are in flows and totals">Counted</th><th>What packets meet, and whose it is</th><th>Why, and what to do</th></tr>
            </thead>
            <tbody><For each={rows()}>{(row) => <Row row={row} />}</For></tbody>
          </table>
        </section>
      </Show>
      <Show when={answer.value()?.unread.length}>
        <section class="card">
          <header class="card-head"><h2>What couldn't be read</h2><span class="dim">there may be more ways</span></header>
          <ul class="limits">
            <For each={answer.value()!.unread}>{(u) => <li><b>{u.what}:</b> {u.why}</li>}</For>
          </ul>
        </section>
      </Show>
    </div>
  );
}

function Mark(props: { share: Share }) {
  return <span class={`share ${props.share}`}>{shareWords(props.share)}</span>;
}

function Row(props: { row: PathView }) {
  const kind = () => kindWords(props.row.kind);
  return (
    <tr>
      <td title={kind()[1]}>{kind()[0]}</td>
      <td>
        <span class="strong num">{placeWords(props.row)}</span>
        <Show when={props.row.netns}>{(netns) => <div class="dim">in namespace {netns()}</div>}</Show>
        <div class="dim">{aboutWords(props.row)}</div>
      </td>
      <td data-label="filtered"><Mark share={props.row.filtered} /></td>
      <td data-label="counted"><Mark share={props.row.accounted} /></td>
      <td>
        <Show when={props.row.attached.length > 0}>
          <ol class="chain">
            <For each={props.row.attached}>
              {(at) => <li class={at.ours ? "ours" : ""} title={programTip(at)}><span class="dim">{at.hook}</span> {programWords(at)}</li>}
            </For>
          </ol>
        </Show>
        <For each={props.row.owners}>
          {(owner) => <div title={owner.exe ?? undefined}>{owner.comm} <span class="dim num">{owner.pid}</span></div>}
        </For>
      </td>
      <td class="wrap">
        {props.row.why}
        <Show when={props.row.todo}>{(todo) => <div class="todo">{todo()}</div>}</Show>
      </td>
    </tr>
  );
}
