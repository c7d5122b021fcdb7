/** A line of Sluice's filter language. The server reads it; what it can't read comes back with the column. */

import { createEffect, createSignal, For, on, Show } from "solid-js";
import type { ServerError } from "../protocol/messages";

interface Preset {
  label: string;
  filter: string;
}

interface Props {
  label: string;
  placeholder: string;
  value: string;
  error: ServerError | null;
  presets?: Preset[];
  onApply(filter: string): void;
}

export function FilterBox(props: Props) {
  const [text, setText] = createSignal(props.value);
  let input!: HTMLInputElement;
  createEffect(on(() => props.value, setText));

  const apply = (value: string) => {
    setText(value);
    props.onApply(value.trim());
  };
  const column = () => props.error?.column ?? null;
  // An error about a text that has been changed since says nothing.
  const current = () => (text().trim() === props.value ? props.error : null);
  const point = () => {
    const at = column();
    if (at === null) return;
    input.focus();
    input.setSelectionRange(at - 1, Math.max(at, input.value.length));
  };

  return (
    <form
      class="filter"
      classList={{ bad: current() !== null }}
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        apply(text());
      }}
    >
      <div class="filter-line">
        <input
          ref={input}
          class="filter-input"
          type="text"
          aria-label={props.label}
          aria-invalid={current() !== null}
          placeholder={props.placeholder}
          value={text()}
          spellcheck={false}
          autocomplete="off"
          autocapitalize="off"
          onInput={(event) => setText(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== "Escape") return;
            if (text() !== props.value) setText(props.value);
            else input.blur();
          }}
        />
        <Show when={text() !== ""}>
          <button type="button" class="quiet" aria-label="Clear the filter" title="Clear the filter" onClick={() => apply("")}>
            ✕
          </button>
        </Show>
        <Show when={text().trim() !== props.value}>
          <button type="submit" class="small">Apply ⏎</button>
        </Show>
      </div>
      <Show when={props.presets}>
        <div class="presets" role="group" aria-label="Presets">
          <For each={props.presets}>
            {(p) => (
              <button type="button" aria-pressed={props.value === p.filter} onClick={() => apply(p.filter)}>
                {p.label}
              </button>
            )}
          </For>
        </div>
      </Show>
      <Show when={current()}>
        {(error) => (
          <div class="filter-error" role="alert">
            <Show when={column() !== null}>
              <pre class="caret" aria-hidden="true">{`${text()}\n${" ".repeat(Math.max(0, column()! - 1))}^`}</pre>
              <button type="button" class="quiet" onClick={point}>column {column()}</button>
            </Show>
            <span>{error().message.replace(/^(?:filter, )?column \d+: */, "")}</span>
            <Show when={error().hint}><span class="note">{error().hint}</span></Show>
          </div>
        )}
      </Show>
    </form>
  );
}
