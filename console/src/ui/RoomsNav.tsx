/** The rooms of a panel: links, and the keys [ and ] that go from one to the next. */

import { For, onCleanup, onMount, type JSX } from "solid-js";
import { go, href, type Place } from "../state/route";

interface Props<R extends string> {
  label: string;
  rooms: readonly R[];
  here: R;
  titles: Record<R, string>;
  place(room: R): Place;
  /** What goes along in the address. */
  query?(room: R): Record<string, string>;
  /** Beside a title: how many, as a rule. */
  beside?(room: R): JSX.Element;
}

export function RoomsNav<R extends string>(props: Props<R>) {
  const query = (room: R) => props.query?.(room) ?? {};

  const onKey = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if ((event.target as Element).closest("input, textarea, select, dialog")) return;
    const step = event.key === "[" ? -1 : event.key === "]" ? 1 : 0;
    if (step === 0) return;
    event.preventDefault();
    const next = props.rooms[(props.rooms.indexOf(props.here) + step + props.rooms.length) % props.rooms.length]!;
    go(props.place(next), query(next));
  };
  onMount(() => document.addEventListener("keydown", onKey));
  onCleanup(() => document.removeEventListener("keydown", onKey));

  return (
    <nav class="rooms" aria-label={props.label}>
      <For each={props.rooms}>
        {(room) => (
          <a href={href(props.place(room), query(room))} aria-current={props.here === room ? "page" : undefined} title="[ and ] go from one to the next">
            {props.titles[room]}
            {props.beside?.(room)}
          </a>
        )}
      </For>
    </nav>
  );
}
