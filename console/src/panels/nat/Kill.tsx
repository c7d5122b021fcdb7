/** Takes mappings out of the flow table, after saying which and what that means. */

import { createSignal, onMount, Show } from "solid-js";
import * as http from "../../protocol/http";
import type { NatMappingView } from "../../protocol/types";
import { toast } from "../../state/toasts";
import { Dialog } from "../../ui/Dialog";
import { endpoint, plural } from "../../ui/format";

/** One mapping, or all that match a filter. */
export type Asked = { one: NatMappingView } | { filter: string; count: number };

export function Kill(props: { what: Asked; onClose(): void; onDone(): void }) {
  const [busy, setBusy] = createSignal(false);
  const [problem, setProblem] = createSignal<string | null>(null);
  let go!: HTMLButtonElement;
  onMount(() => go.focus());

  const one = () => ("one" in props.what ? props.what.one : null);
  const kill = async () => {
    setBusy(true);
    setProblem(null);
    try {
      const what = props.what;
      const done = await http.killFlows("one" in what ? `id=${what.one.id}` : what.filter);
      toast("ok", done.total === 0 ? "It had ended already" : `Killed ${plural(done.total, "mapping")}`);
      props.onDone();
      props.onClose();
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
      setBusy(false);
    }
  };

  return (
    <Dialog title={one() ? "Kill this mapping?" : "Kill these mappings?"} onClose={props.onClose}>
      <Show when={one()} fallback={<p>{"filter" in props.what && `${plural(props.what.count, "mapping")}: ${props.what.filter === "" ? "all there are" : props.what.filter}`}</p>}>
        {(m) => (
          <dl class="facts">
            <dt>inside</dt><dd class="num">{endpoint(m().inside, m().inside_port)}</dd>
            <dt>public</dt><dd class="num">{endpoint(m().public, m().public_port)} <span class="dim">{m().proto}</span></dd>
            <dt>far end</dt><dd class="num">{endpoint(m().remote, m().remote_port)}</dd>
          </dl>
        )}
      </Show>
      <p class="note">
        Its port is given back and its totals go to the accounts. What comes next is judged as new, and may be given another public port:
        most connections break by that.
      </p>
      <Show when={problem()}>{(text) => <p class="problem" role="alert">{text()}</p>}</Show>
      <footer>
        <button type="button" onClick={() => props.onClose()}>Keep</button>
        <button ref={go} type="button" class="primary danger" disabled={busy()} onClick={() => void kill()}>Kill</button>
      </footer>
    </Dialog>
  );
}
