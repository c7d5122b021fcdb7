/** Takes mappings out of the flow table, after saying which and what that means. */

import { createSignal, Show } from "solid-js";
import * as http from "../../protocol/http";
import type { NatMappingView } from "../../protocol/types";
import { toast } from "../../state/toasts";
import { Dialog } from "../../ui/Dialog";
import { endpoint, plural } from "../../ui/format";

/** Those that were in view when somebody asked: what has come since is spared. */
export interface Asked {
  all: NatMappingView[];
}

/** Ids in one question: the daemon reads them as a filter. */
const AT_ONCE = 200;

export function Kill(props: { what: Asked; onClose(): void; onDone(): void }) {
  const [busy, setBusy] = createSignal(false);
  const [problem, setProblem] = createSignal<string | null>(null);
  const all = () => props.what.all;
  const one = () => (all().length === 1 ? all()[0]! : null);
  const kill = async () => {
    setBusy(true);
    setProblem(null);
    let killed = 0;
    try {
      const ids = all().map((m) => m.id);
      for (let at = 0; at < ids.length; at += AT_ONCE) {
        killed += (await http.killFlows(`id in (${ids.slice(at, at + AT_ONCE).join(", ")})`)).total;
      }
      const ended = ids.length - killed;
      toast("ok", `Killed ${plural(killed, "mapping")}${ended > 0 ? `; ${ended} had ended already` : ""}`);
      props.onDone();
      props.onClose();
    } catch (error) {
      setProblem(`${killed > 0 ? `${plural(killed, "mapping")} killed, then: ` : ""}${error instanceof Error ? error.message : String(error)}`);
      setBusy(false);
    }
  };

  return (
    <Dialog title={one() ? "Kill this mapping?" : `Kill these ${plural(all().length, "mapping")}?`} onClose={props.onClose}>
      <Show when={one()}>
        {(m) => (
          <dl class="facts">
            <dt>inside</dt><dd class="num">{endpoint(m().inside, m().inside_port)}</dd>
            <dt>public</dt><dd class="num">{endpoint(m().public, m().public_port)} <span class="dim">{m().proto}</span></dd>
            <dt>far end</dt><dd class="num">{endpoint(m().remote, m().remote_port)}</dd>
          </dl>
        )}
      </Show>
      <p class="note">
        Ports are given back, totals go to the accounts. What comes next is judged as new, and may be given another public port: most
        connections break by that.
      </p>
      <Show when={problem()}>{(text) => <p class="problem" role="alert">{text()}</p>}</Show>
      <footer>
        <button type="button" onClick={() => props.onClose()}>Keep</button>
        <button type="button" class="primary danger" autofocus disabled={busy()} onClick={() => void kill()}>Kill</button>
      </footer>
    </Dialog>
  );
}
