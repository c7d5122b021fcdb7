import { Show } from "solid-js";
import { Dialog } from "../ui/Dialog";
import type { Edits } from "../state/edits";

/** The daemon refused an edit that would cut somebody's connection: do it all the same? */
export function Confirm(props: { edits: Edits }) {
  const close = () => props.edits.setLockOut(null);
  return (
    <Show when={props.edits.lockOut()}>
      {(f) => (
        <Dialog title="This would lock somebody out" onClose={close}>
          <p>{f().message}</p>
          <footer>
            <button type="button" onClick={close}>Leave it</button>
            <button type="button" class="primary danger" onClick={() => { const { go } = f(); close(); go(); }}>Do it anyway</button>
          </footer>
        </Dialog>
      )}
    </Show>
  );
}

/** Takes a rule or a translation out of the policy, after showing it. */
export function Delete(props: { what: string; name: string; text: string; note: string; onClose(): void; onDelete(): void }) {
  return (
    <Dialog title={`Delete ${props.what} ${props.name}?`} onClose={props.onClose}>
      <pre class="snippet">{props.text}</pre>
      <p class="note">{props.note}</p>
      <footer>
        <button type="button" onClick={() => props.onClose()}>Keep it</button>
        <button type="button" class="primary danger" onClick={() => { props.onDelete(); props.onClose(); }}>Delete</button>
      </footer>
    </Dialog>
  );
}
