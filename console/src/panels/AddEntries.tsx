import { createSignal, onMount, Show } from "solid-js";
import * as http from "../protocol/http";
import type { SetChangeView, SetView } from "../protocol/sets";
import { EXAMPLES, splitEntries } from "../state/sets";
import { duration } from "../ui/format";
import { Dialog } from "../ui/Dialog";

/** Entries for a live set, all or none; what the daemon says of one that can't be stays beside it. */
export function AddEntries(props: { set: SetView; onClose(): void; onAdded(change: SetChangeView): void }) {
  const [text, setText] = createSignal("");
  const [timeout, setTimeout] = createSignal("");
  const [problem, setProblem] = createSignal<string | null>(null);
  let input!: HTMLTextAreaElement;
  onMount(() => input.focus());
  const entries = () => splitEntries(text());

  const submit = async () => {
    if (entries().length === 0) return;
    setProblem(null);
    try {
      const wanted = timeout().trim();
      props.onAdded(await http.addToSet(props.set.name, entries(), wanted === "" ? undefined : wanted));
      props.onClose();
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
    }
  };

  return (
    <Dialog title={`Add to ${props.set.name}`} onClose={props.onClose}>
      <form onSubmit={(event) => { event.preventDefault(); void submit(); }}>
        <textarea ref={input} class="code" rows="4" aria-label="Entries" spellcheck={false} placeholder={EXAMPLES[props.set.kind]} value={text()} onInput={(e) => setText(e.currentTarget.value)} />
        <p class="note">Entries with blanks, commas or ends of lines between. Those that are there get their time anew.</p>
        <Show when={props.set.kind !== "ports"}>
          <label class="inline">
            Time-out
            <input class="filter-input find" name="timeout" spellcheck={false} autocomplete="off" placeholder={props.set.timeout_ms === null ? "none" : duration(props.set.timeout_ms)} value={timeout()} onInput={(e) => setTimeout(e.currentTarget.value)} />
            <span class="dim">for example <code>10m</code></span>
          </label>
        </Show>
        <Show when={problem()}>{(why) => <p class="problem" role="alert">{why()}</p>}</Show>
        <footer>
          <button type="button" onClick={() => props.onClose()}>Cancel</button>
          <button type="submit" class="primary" disabled={entries().length === 0}>Add</button>
        </footer>
      </form>
    </Dialog>
  );
}
