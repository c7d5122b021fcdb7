/** Ends one socket, and may refuse its remote address from then on. */

import { createSignal, For, Show } from "solid-js";
import * as http from "../../protocol/http";
import type { KilledSocketsView, SocketView } from "../../protocol/types";
import { href } from "../../state/route";

export function Kill(props: { of: SocketView }) {
  const [sure, setSure] = createSignal(false);
  const [block, setBlock] = createSignal(false);
  const [busy, setBusy] = createSignal(false);
  const [done, setDone] = createSignal<KilledSocketsView | null>(null);
  const [error, setError] = createSignal<string | null>(null);
  /** Rules see nothing of what stays on the machine. */
  const refusable = () => props.of.remote_port !== 0 && !/^(127\.|::1$)/.test(props.of.remote);

  const kill = async () => {
    setBusy(true);
    setError(null);
    try {
      setDone(await http.killSockets(`id=${props.of.id}`, block()));
    } catch (e) {
      setError(e instanceof Error ? e.message : String(e));
    }
    setBusy(false);
  };

  return (
    <>
      <Show when={error()}>{(words) => <p class="warning" role="alert">{words()}</p>}</Show>
      <Show when={done()}>{(d) => <Outcome of={d()} />}</Show>
      <Show when={done() === null}>
        <footer>
          <Show when={sure()} fallback={<button type="button" class="danger" id="socket-kill" onClick={() => setSure(true)}>End it …</button>}>
            <Show when={refusable()}>
              <label><input type="checkbox" checked={block()} onChange={(e) => setBlock(e.currentTarget.checked)} /> and refuse {props.of.remote} from now on</label>
            </Show>
            <button type="button" onClick={() => setSure(false)}>Leave it</button>
            <button type="button" class="primary danger" id="socket-kill-now" disabled={busy()} onClick={() => void kill()}>End it</button>
          </Show>
        </footer>
      </Show>
    </>
  );
}

function Outcome(props: { of: KilledSocketsView }) {
  const words = () =>
    props.of.total > 0 ? "It was ended: its owner's next call fails."
    : props.of.failed[0] ? `It couldn't be ended: ${props.of.failed[0].why}.`
    : props.of.spared > 0 ? "It was left: it is the daemon's own."
    : "It had ended already.";
  return (
    <p class="note" role="status" id="socket-killed">
      {words()}
      <Show when={props.of.blocked.length > 0}>
        {" "}Its remote address is refused by{" "}
        <For each={props.of.blocked}>{(rule, i) => <>{i() === 0 ? "" : " and "}<a href={href("rules", { rule })}>{rule}</a></>}</For>: deleting them undoes that.
      </Show>
    </p>
  );
}
