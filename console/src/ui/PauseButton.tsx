import { Show } from "solid-js";
import { count } from "./format";

/** Stands the picture still; what comes meanwhile is counted and shown at once on going on. */
export function PauseButton(props: { paused: boolean; held: number; what: string; onPause(on: boolean): void }) {
  return (
    <button type="button" class="pause" aria-pressed={props.paused} title={props.paused ? "Go on (p)" : "Pause (p)"} onClick={() => props.onPause(!props.paused)}>
      {props.paused ? "▶ Go on" : "❚❚ Pause"}
      <Show when={props.paused && props.held > 0}>
        <span class="n">{count(props.held)} {props.what}</span>
      </Show>
    </button>
  );
}
