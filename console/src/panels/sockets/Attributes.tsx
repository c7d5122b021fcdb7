/** What is known of a socket besides its row, with how it is known; and the operator's note on it. */

import { createSignal, For, Show } from "solid-js";
import * as http from "../../protocol/http";
import { createPolled } from "../../state/polled";

const EVERY_MS = 5_000;

/** What the row says already. */
const SAID = new Set(["exe", "cmdline", "user", "unit", "container", "netns", "note"]);

const SOURCES: Record<string, string> = {
  kernel: "stamped by the kernel", proc: "read while the process lived", others: "others had the same file or cgroup", users: "the machine's list of users", cgroup: "its cgroup's path says so", netns: "a name of the namespace",
};

export function Attributes(props: { id: string }) {
  const answer = createPolled((signal) => http.socketDetails(props.id, signal), EVERY_MS);
  const more = () => (answer.value()?.attributes ?? []).filter((a) => !SAID.has(a.name));
  const note = () => answer.value()?.attributes.find((a) => a.name === "note" && a.source === "operator")?.value ?? "";
  const [text, setText] = createSignal<string | null>(null);
  const [error, setError] = createSignal<string | null>(null);
  const changed = () => text() !== null && text()!.trim() !== note();
  const save = async () => {
    setError(await http.noteSocket(props.id, text() ?? "").then(() => null, (e: unknown) => (e instanceof Error ? e.message : String(e))));
    answer.again();
  };
  return (
    <>
      <dl class="facts socket-facts" id="socket-attributes">
        <For each={more()}>
          {(a) => (
            <>
              <dt>{a.name.replaceAll("_", " ")}</dt>
              <dd><span class="num">{a.value}</span> <span class="dim">{SOURCES[a.source] ?? a.source}</span></dd>
            </>
          )}
        </For>
        <dt><label for="socket-note">note</label></dt>
        <dd>
          <form
            class="note-line"
            onSubmit={(event) => {
              event.preventDefault();
              void save();
            }}
          >
            <input id="socket-note" type="text" maxlength="256" autocomplete="off" placeholder="yours, for as long as the socket is known" value={text() ?? note()} onInput={(event) => setText(event.currentTarget.value)} />
            <Show when={changed()}><button type="submit" class="small">Note it</button></Show>
          </form>
        </dd>
      </dl>
      <Show when={error()}>{(words) => <p class="problem" role="alert">{words()}</p>}</Show>
    </>
  );
}
