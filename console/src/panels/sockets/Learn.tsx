/** Rules by owner that let a socket's owner do what was seen of it, and no more: to be read, and copied. */

import { createSignal, For, Show } from "solid-js";
import * as http from "../../protocol/http";
import type { LearnView, SocketView } from "../../protocol/types";

type By = "unit" | "exe" | "process" | "user";

export function Learn(props: { of: SocketView }) {
  const [busy, setBusy] = createSignal(false);
  const [done, setDone] = createSignal<LearnView | null>(null);
  const [error, setError] = createSignal<string | null>(null);
  const [copied, setCopied] = createSignal(false);
  const [past, setPast] = createSignal(false);
  const choices = (): [By, string][] => {
    const { unit, exe, comm } = props.of;
    const all: [By, string | null | undefined][] = [["unit", unit], ["exe", exe], ["process", comm]];
    return all.filter((choice): choice is [By, string] => choice[1] != null && !/\s/.test(choice[1]));
  };

  const learn = async ([by, owner]: [By, string]) => {
    setBusy(true);
    setError(null);
    setCopied(false);
    try {
      setDone(await http.learn({ by, owner, ...(past() ? { since: "24h" } : {}) }));
    } catch (e) {
      setError(e instanceof Error ? e.message : String(e));
    }
    setBusy(false);
  };
  const copy = async (text: string) => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
  };

  return (
    <Show when={choices().length > 0}>
      <Show when={error()}>{(words) => <p class="warning" role="alert">{words()}</p>}</Show>
      <Show when={done()}>
        {(view) => (
          <section class="learnt">
            <pre id="socket-learnt">{view().text}</pre>
            <footer>
              <button type="button" onClick={() => void copy(view().text)}>{copied() ? "Copied" : "Copy"}</button>
            </footer>
          </section>
        )}
      </Show>
      <p class="dim learn-line">
        Propose rules that let it do what was seen, and no more, for{" "}
        <For each={choices()}>
          {(choice, i) => (
            <>
              {i() === 0 ? "" : i() + 1 === choices().length ? " or " : ", "}
              <button type="button" class="by" data-learn={choice[0]} disabled={busy()} title={choice[1]} onClick={() => void learn(choice)}>the {choice[0] === "exe" ? "program" : choice[0]}</button>
            </>
          )}
        </For>
        {" "}
        <label><input id="learn-past" type="checkbox" checked={past()} onChange={(event) => setPast(event.currentTarget.checked)} /> from a day of history, too</label>
      </p>
    </Show>
  );
}
