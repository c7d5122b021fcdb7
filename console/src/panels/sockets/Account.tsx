/** How much the monitor of sockets knows, and what it has missed. */

import { createSignal, For, Show } from "solid-js";
import type { SocketStatsView } from "../../protocol/types";
import { Dialog } from "../../ui/Dialog";
import { count, millis, plural } from "../../ui/format";
import { Ledger } from "../../ui/Ledger";
import { Drops } from "./Drops";
import { NamesAccount } from "./NamesAccount";

export function AccountBadge(props: { of: SocketStatsView }) {
  const [open, setOpen] = createSignal(false);
  const lost = () => [...props.of.events, ...(props.of.names?.observed ?? [])].reduce((sum, e) => sum + e.lost, 0);
  return (
    <>
      <button type="button" class="pill lost" id="sockets-account" classList={{ some: lost() > 0 }} title="What is known of sockets, and what was missed" onClick={() => setOpen(true)}>
        <span class="roomy">descriptors <b id="socket-descriptors">{count(props.of.descriptors)}</b> · </span>
        events lost <b>{count(lost())}</b>
      </button>
      <Show when={open()}>
        <Dialog title="Sockets: the account" onClose={() => setOpen(false)}>
          <Ledger what="event" rows={props.of.events.map((e) => ({ ...e, name: e.class }))} />
          <p class="note">
            <b class="num">{count(props.of.live)}</b> live, <b class="num">{count(props.of.ended)}</b> ended and kept
            <Show when={props.of.ended_dropped > 0}>, <b class="num">{count(props.of.ended_dropped)}</b> older ones made room</Show>.
            The last look at all descriptors found {plural(props.of.descriptors, "descriptor")} in <span class="num">{millis(props.of.snapshot_us)}</span>.
          </p>
          <table class="plain">
            <thead>
              <tr><th>summary by</th><th class="end">rows</th><th class="end">at most</th><th class="end">folded</th><th class="end">without a row</th></tr>
            </thead>
            <tbody id="summary-tables">
              <For each={props.of.tables}>
                {(t) => (
                  <tr>
                    <td>{t.by}</td>
                    <td class="end num">{count(t.rows)}</td>
                    <td class="end num">{count(t.capacity)}</td>
                    <td class="end num" classList={{ "warn-text": t.folded > 0 }}>{count(t.folded)}</td>
                    <td class="end num" classList={{ "warn-text": t.lost > 0 }}>{count(t.lost)}</td>
                  </tr>
                )}
              </For>
            </tbody>
          </table>
          <p class="note" id="sockets-owners">
            Of {plural(props.of.owners_met ?? 0, "owner")} to look at <b class="num">{count(props.of.owners_seen ?? 0)}</b> were seen,{" "}
            <b class="num" classList={{ "warn-text": (props.of.owners_unseen ?? 0) > 0 }}>{count(props.of.owners_unseen ?? 0)}</b> were gone before,{" "}
            <b class="num">{count(props.of.owners_waiting ?? 0)}</b> wait, and{" "}
            <b class="num" classList={{ "warn-text": (props.of.owners_overflowed ?? 0) > 0 }}>{count(props.of.owners_overflowed ?? 0)}</b> found no room to wait.
            <Show when={(props.of.exits_unwatched ?? 0) + (props.of.exits_forgotten ?? 0) > 0}>
              {" "}Ends of owners: <b class="num warn-text">{count(props.of.exits_unwatched ?? 0)}</b> times one couldn't be watched for, <b class="num warn-text">{count(props.of.exits_forgotten ?? 0)}</b> found no room.
            </Show>
          </p>
          <p class="note">
            <b class="num">{count(props.of.owners_forgotten)}</b> processes, cgroups and programs were forgotten to make room; the rule of a socket may be missing for <b class="num">{count(props.of.rules_lost)}</b> judgements that weren't kept and <b class="num">{count(props.of.rules_unsettled)}</b> sockets that made room too early.
          </p>
          <Show when={props.of.names}>{(names) => <NamesAccount of={names()} />}</Show>
          <Show when={(props.of.samples_without ?? 0) + (props.of.samples_forgotten ?? 0) > 0}>
            <p class="note">Over time: <b class="num">{count(props.of.samples_without ?? 0)}</b> busy sockets have no room for samples, those of <b class="num">{count(props.of.samples_forgotten ?? 0)}</b> made room for others'.</p>
          </Show>
          <Drops />
          <p class="note">After a loss all descriptors are looked at again: what lives is known, what came and went in between isn't.</p>
        </Dialog>
      </Show>
    </>
  );
}
