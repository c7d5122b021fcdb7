/** What names are read from, and what was missed of it. */

import { For } from "solid-js";
import type { NameStatsView } from "../../protocol/types";
import { count, plural } from "../../ui/format";

export function NamesAccount(props: { of: NameStatsView }) {
  const forgotten = () => props.of.addresses_forgotten + props.of.names_forgotten + props.of.questions_forgotten + props.of.hellos_forgotten;
  return (
    <>
      <table class="plain">
        <thead>
          <tr><th>seen for names</th><th class="end">produced</th><th class="end">delivered</th><th class="end">lost</th><th class="end">not understood</th></tr>
        </thead>
        <tbody id="names-account">
          <For each={props.of.observed}>
            {(o) => (
              <tr>
                <td>{o.kind}</td>
                <td class="end num">{count(o.produced)}</td>
                <td class="end num">{count(o.delivered)}</td>
                <td class="end num" classList={{ "warn-text": o.lost > 0 }}>{count(o.lost)}</td>
                <td class="end num">{count(o.unread)}</td>
              </tr>
            )}
          </For>
        </tbody>
      </table>
      <p class="note">
        {plural(props.of.addresses, "address", "addresses")} have names. Not believed: <b class="num">{count(props.of.unasked)}</b> answers that no socket had asked for; <b class="num">{count(props.of.incomplete)}</b> hellos were cut off, <b class="num">{count(props.of.nameless)}</b> say no name; <b class="num">{count(forgotten())}</b> entries made room for later ones.
      </p>
    </>
  );
}
