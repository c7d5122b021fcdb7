/** What stands where nothing is to be seen: why, and what would change that. */

import { Show, type JSX } from "solid-js";

export function Hint(props: { title: string; children?: JSX.Element; policy?: string; action?: JSX.Element }) {
  return (
    <div class="hint">
      <p class="strong">{props.title}</p>
      <Show when={props.children}><p>{props.children}</p></Show>
      <Show when={props.policy}><pre class="snippet">{props.policy}</pre></Show>
      {props.action}
    </div>
  );
}
