/** How much the monitor of sockets knows, and what it has missed. */

import { createSignal, For, Show } from "solid-js";
import type { SocketStatsView } from "../../protocol/types";
import { Dialog } from "../../ui/Dialog";
import { count, millis, plural } from "../../ui/format";

export function AccountBadge(props: { of: SocketStatsView }) {
  const [open, setOpen] = createSignal(false);
  const lost = () => props.of.events.reduce((sum, e) => sum + e.lost, 0);
  return (
    <>
      <button type="button" class="pill lost" id="sockets-account" classList={{ some: lost() > 0 }} title="What is known of sockets, and what was missed" onClick={() => setOpen(true)}>
        <span class="roomy">descriptors <b id="socket-descriptors">{count(props.of.descriptors)}</b> · </span>
        events lost <b>{count(lost())}</b>
      </button>
      <Show when={open()}>
        <Dialog title="Sockets: the account" onClose={() => setOpen(false)}>
          <table class="plain">
            <thead>
              <tr><th>event</th><th class="end">produced</th><th class="end">delivered</th><th class="end">lost</th></tr>
            </thead>
            <tbody>
              <For each={props.of.events}>
                {(e) => (
                  <tr>
                    <td>{e.class}</td>
                    <td class="end num">{count(e.produced)}</td>
                    <td class="end num">{count(e.delivered)}</td>
                    <td class="end num" classList={{ "warn-text": e.lost > 0 }}>{count(e.lost)}</td>
                  </tr>
                )}
              </For>
            </tbody>
          </table>
          <p class="note">
            <b class="num">{count(props.of.live)}</b> live, <b class="num">{count(props.of.ended)}</b> ended and kept
            <Show when={props.of.ended_dropped > 0}>, <b class="num">{count(props.of.ended_dropped)}</b> older ones made room</Show>.
            The last look at all descriptors found {plural(props.of.descriptors, "descriptor")} in <span class="num">{millis(props.of.snapshot_us)}</span>.
          </p>
          <p class="note">After a loss all descriptors are looked at again: what lives is known, what came and went in between isn't.</p>
        </Dialog>
      </Show>
    </>
  );
}
