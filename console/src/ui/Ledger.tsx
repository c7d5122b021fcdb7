/** An account of what was told: `produced = delivered + lost`, a line each. */

import { For, type JSX } from "solid-js";
import { count } from "./format";

export interface Entry {
  name: string;
  produced: number;
  delivered: number;
  lost: number;
}

interface Props<E extends Entry> {
  /** What a line is about. */
  what: string;
  rows: E[];
  id?: string;
  /** One more column. */
  more?: { head: JSX.Element; of(row: E): number };
}

export function Ledger<E extends Entry>(props: Props<E>) {
  return (
    <table class="plain">
      <thead>
        <tr>
          <th>{props.what}</th>
          <th class="end">produced</th>
          <th class="end">delivered</th>
          <th class="end">lost</th>
          {props.more && <th class="end">{props.more.head}</th>}
        </tr>
      </thead>
      <tbody id={props.id}>
        <For each={props.rows}>
          {(row) => (
            <tr>
              <td>{row.name}</td>
              <td class="end num">{count(row.produced)}</td>
              <td class="end num">{count(row.delivered)}</td>
              <td class="end num" classList={{ "warn-text": row.lost > 0 }}>{count(row.lost)}</td>
              {props.more && <td class="end num">{count(props.more.of(row))}</td>}
            </tr>
          )}
        </For>
      </tbody>
    </table>
  );
}
