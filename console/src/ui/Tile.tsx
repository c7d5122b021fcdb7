/** One number to see from across the room. */

import { Show } from "solid-js";

interface Props {
  title: string;
  value: string;
  sub: string;
  /** What it is about, in a sentence. */
  tip?: string;
  /** `drop`, `warn`, `bad`. */
  kind?: string;
  href?: string;
  /** Percent of a bar along the foot. */
  meter?: number;
  id?: string;
}

export function Tile(props: Props) {
  const inside = (
    <>
      <span class="tile-title">{props.title}</span>
      <span class="tile-value" id={props.id}>{props.value}</span>
      <span class="tile-sub">{props.sub}</span>
      <Show when={props.meter !== undefined}>
        <span class="meter"><i style={{ width: `${Math.min(100, props.meter ?? 0)}%` }} /></span>
      </Show>
    </>
  );
  return (
    <Show when={props.href} fallback={<div class={`tile ${props.kind ?? ""}`} title={props.tip ?? ""}>{inside}</div>}>
      {(to) => <a class={`tile ${props.kind ?? ""}`} href={to()} title={props.tip ?? ""}>{inside}</a>}
    </Show>
  );
}
