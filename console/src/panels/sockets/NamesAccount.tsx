/** What names are read from, and what was missed of it. */

import type { NameStatsView } from "../../protocol/types";
import { count, plural } from "../../ui/format";
import { Ledger } from "../../ui/Ledger";

export function NamesAccount(props: { of: NameStatsView }) {
  const forgotten = () => props.of.addresses_forgotten + props.of.names_forgotten + props.of.questions_forgotten + props.of.hellos_forgotten;
  return (
    <>
      <Ledger id="names-account" what="seen for names" rows={props.of.observed.map((o) => ({ ...o, name: o.kind }))} more={{ head: "not understood", of: (o) => o.unread }} />
      <p class="note">
        {plural(props.of.addresses, "address", "addresses")} have names. Not believed: <b class="num">{count(props.of.unasked)}</b> answers that no socket had asked for; <b class="num">{count(props.of.incomplete)}</b> hellos were cut off, <b class="num">{count(props.of.nameless)}</b> say no name; <b class="num">{count(forgotten())}</b> entries made room for later ones.
      </p>
    </>
  );
}
