import { Dialog } from "../ui/Dialog";

/** The daemon refused an edit that would cut somebody's connection: do it all the same? */
export function Confirm(props: { message: string; go(): void; onClose(): void }) {
  return (
    <Dialog title="This would lock somebody out" onClose={props.onClose}>
      <p>{props.message}</p>
      <footer>
        <button type="button" onClick={() => props.onClose()}>Leave it</button>
        <button type="button" class="primary danger" onClick={() => { const { go } = props; props.onClose(); go(); }}>Do it anyway</button>
      </footer>
    </Dialog>
  );
}
