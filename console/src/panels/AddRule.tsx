import { createSignal, For, onMount, Show } from "solid-js";
import * as http from "../protocol/http";
import { ServerError } from "../protocol/messages";
import type { Diagnostic } from "../protocol/types";
import { generation } from "../state/rules";
import { toast } from "../state/toasts";
import { Dialog } from "../ui/Dialog";

/** The source line, with what is meant underlined. */
const withCaret = (d: Diagnostic): string => (d.snippet === "" || d.column < 1 ? d.snippet : `${d.snippet}\n${" ".repeat(d.column - 1)}${"^".repeat(Math.max(1, d.length))}`);

const KINDS = {
  rule: { title: "Add a rule", label: "The rule", example: "rule metrics allow in tcp from 10.0.0.0/8 to port 9100" },
  nat: { title: "Add a translation", label: "The translation", example: "nat out masquerade on eth0 from 10.0.0.0/8" },
};

/** One rule or translation in the policy's own words; what the compiler says comes back with its caret. */
export function AddRule(props: { kind: keyof typeof KINDS; places: string[]; onClose(): void; onLockOut(message: string, go: () => void): void }) {
  const [text, setText] = createSignal(`${props.kind} `);
  const [before, setBefore] = createSignal("");
  const [problem, setProblem] = createSignal<string | null>(null);
  const [diagnostics, setDiagnostics] = createSignal<Diagnostic[]>([]);
  let input!: HTMLTextAreaElement;
  onMount(() => {
    input.focus();
    input.setSelectionRange(input.value.length, input.value.length);
  });

  const submit = async (force = false) => {
    setProblem(null);
    setDiagnostics([]);
    const base = generation();
    try {
      const place = before() === "" ? {} : { before: before() };
      const done = await http.addRule(text().trim(), place, { ...(base === null ? {} : { base_generation: base }), ...(force ? { force } : {}) });
      toast("ok", `Added: policy ${done.generation} is live${done.warnings.length > 0 ? `, with a warning: ${done.warnings[0]!.message}` : ""}`);
      props.onClose();
    } catch (error) {
      if (error instanceof ServerError && error.code === "lock-out") return props.onLockOut(error.message, () => void submit(true));
      if (error instanceof ServerError && Array.isArray(error.details)) setDiagnostics(error.details as Diagnostic[]);
      setProblem(error instanceof Error ? error.message : String(error));
    }
  };

  return (
    <Dialog title={KINDS[props.kind].title} onClose={props.onClose}>
      <form onSubmit={(event) => { event.preventDefault(); void submit(); }}>
        <textarea
          ref={input}
          class="code"
          rows="3"
          aria-label={KINDS[props.kind].label}
          spellcheck={false}
          value={text()}
          onInput={(e) => setText(e.currentTarget.value)}
          onKeyDown={(e) => { if (e.key === "Enter" && !e.shiftKey) { e.preventDefault(); void submit(); } }}
        />
        <p class="note">For example <code>{KINDS[props.kind].example}</code></p>
        <label class="inline">
          Place
          <select onChange={(e) => setBefore(e.currentTarget.value)}>
            <option value="">at the end</option>
            <For each={props.places}>{(name) => <option value={name}>before {name}</option>}</For>
          </select>
        </label>
        <Show when={problem()}>
          <div class="problem" role="alert">
            <Show when={diagnostics().length > 0} fallback={problem()}>
              <For each={diagnostics()}>
                {(d) => (
                  <div class="diagnostic">
                    <b>{d.message}</b>
                    <pre class="snippet">{withCaret(d)}</pre>
                    <Show when={d.expected}><div class="note">expected {d.expected}</div></Show>
                    <Show when={d.hint}><div class="note">{d.hint}</div></Show>
                  </div>
                )}
              </For>
            </Show>
          </div>
        </Show>
        <footer>
          <button type="button" onClick={() => props.onClose()}>Cancel</button>
          <button type="submit" class="primary">Add</button>
        </footer>
      </form>
    </Dialog>
  );
}
