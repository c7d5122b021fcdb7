/** How many events are missing, always in view, never rounded. */

import { createSignal, For, Show } from "solid-js";
import { losses, stats } from "../state/stats";
import { Dialog } from "./Dialog";
import { count } from "./format";

export function LostBadge() {
  const [open, setOpen] = createSignal(false);
  return (
    <>
      <button
        type="button"
        class="pill lost"
        id="lost"
        classList={{ some: losses().total > 0 }}
        title="Events that were lost. Packets are counted in the kernel and miss nothing."
        onClick={() => setOpen(true)}
      >
        lost <b>{count(losses().total)}</b>
      </button>
      <Show when={open()}>
        <Dialog title="Events: the account" onClose={() => setOpen(false)}>
          <Account />
        </Dialog>
      </Show>
    </>
  );
}

/** `produced = delivered + lost`, by class. */
export function Account() {
  return (
    <>
      <table class="plain">
        <thead>
          <tr>
            <th>class</th>
            <th class="end">produced</th>
            <th class="end">delivered</th>
            <th class="end">lost</th>
            <th class="end" title="Held back by sampling, so that a flood can't drown the rest. Not lost.">sampled out</th>
          </tr>
        </thead>
        <tbody>
          <For each={stats()?.events ?? []}>
            {(e) => (
              <tr>
                <td>{e.class}</td>
                <td class="end num">{count(e.produced)}</td>
                <td class="end num">{count(e.delivered)}</td>
                <td class="end num" classList={{ "warn-text": e.lost > 0 }}>{count(e.lost)}</td>
                <td class="end num">{count(e.suppressed)}</td>
              </tr>
            )}
          </For>
        </tbody>
      </table>
      <p class="note">
        <b class="num">{count(losses().kernel)}</b> lost in the kernel, because its ring was full.{" "}
        <b class="num">{count(losses().page)}</b> not delivered to this page, because it was too slow. Rates, rules' hits and flows'
        totals come from the kernel's counters and miss nothing.
      </p>
    </>
  );
}
