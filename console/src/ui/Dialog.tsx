import { onCleanup, onMount, type JSX } from "solid-js";

/** A modal window; Esc and the cross close it, focus goes back to where it was. */
export function Dialog(props: { title: string; onClose(): void; children: JSX.Element }) {
  let dialog!: HTMLDialogElement;
  const before = document.activeElement;
  onMount(() => dialog.showModal());
  onCleanup(() => before instanceof HTMLElement && before.focus());
  return (
    <dialog
      ref={dialog}
      aria-label={props.title}
      onClose={() => props.onClose()}
      onClick={(event) => event.target === dialog && dialog.close()}
    >
      <div class="dialog">
        <header>
          <h2>{props.title}</h2>
          <button type="button" class="quiet" aria-label="Close" onClick={() => dialog.close()}>✕</button>
        </header>
        {props.children}
      </div>
    </dialog>
  );
}
