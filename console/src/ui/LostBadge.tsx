/** How many events are missing, always in view, never rounded. */

import { createSignal, Show } from "solid-js";
import { losses, stats } from "../state/stats";
import { Dialog } from "./Dialog";
import { count } from "./format";
import { Ledger } from "./Ledger";

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
      <Ledger
        what="class"
        rows={(stats()?.events ?? []).map((e) => ({ ...e, name: e.class }))}
        more={{ head: <span title="Held back by sampling, so that a flood can't drown the rest. Not lost.">sampled out</span>, of: (e) => e.suppressed }}
      />
      <p class="note">
        <b class="num">{count(losses().kernel)}</b> lost in the kernel, because its ring was full.{" "}
        <b class="num">{count(losses().page)}</b> not delivered to this page, because it was too slow. Rates, rules' hits and flows'
        totals come from the kernel's counters and miss nothing.
      </p>
    </>
  );
}
