/** What the kernel's stack dropped, and why: asked for when it is looked at. */

import { createResource, For, Show } from "solid-js";
import * as http from "../../protocol/http";
import { count, plural } from "../../ui/format";

export function Drops() {
  const [drops] = createResource(() => http.socketDrops().catch(() => null));
  return (
    <Show when={drops()}>
      {(d) => (
        <>
          <table class="plain">
            <thead>
              <tr><th>the stack dropped</th><th class="end">packets</th><th class="end">of a known socket</th></tr>
            </thead>
            <tbody id="socket-drops">
              <For each={d().rows} fallback={<tr><td colspan="3" class="dim">nothing</td></tr>}>
                {(row) => <tr><td>{row.reason}</td><td class="end num">{count(row.packets)}</td><td class="end num">{count(row.known)}</td></tr>}
              </For>
            </tbody>
          </table>
          <p class="note">
            TCP sent {plural(d().retransmits, "segment")} again; <b class="num">{count(d().resets_sent)}</b> resets were sent, <b class="num">{count(d().resets_received)}</b> came in. Filters at TC, Sluice's own among them, are <i>tc-ingress</i> and <i>tc-egress</i>.
          </p>
        </>
      )}
    </Show>
  );
}
