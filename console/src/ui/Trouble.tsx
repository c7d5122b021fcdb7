/** What a room that asks again and again says while no answer comes. */

import { Show } from "solid-js";
import type { Polled } from "../state/polled";

/** An error over figures that are still in view. */
export function Trouble(props: { of: Polled<unknown> }) {
  return (
    <Show when={props.of.value() !== null && props.of.error()}>
      {(error) => <p class="problem" role="alert">What you see is older: {error().message}</p>}
    </Show>
  );
}

/** Before the first answer: that it is awaited, or why it doesn't come. */
export function Waiting(props: { of: Polled<unknown> }) {
  return (
    <Show when={props.of.error()} fallback={<>Waiting for the daemon.</>}>
      {(error) => <span class="problem" role="alert">{error().message}</span>}
    </Show>
  );
}
