/** Short messages at the foot of the page. */

import { createSignal } from "solid-js";

export interface Toast {
  id: number;
  kind: "ok" | "bad";
  text: string;
}

const [toasts, setToasts] = createSignal<Toast[]>([]);
let next = 1;

export { toasts };

export const dismiss = (id: number): void => void setToasts((all) => all.filter((t) => t.id !== id));

export function toast(kind: Toast["kind"], text: string): void {
  const id = next++;
  setToasts((all) => [...all.slice(-2), { id, kind, text }]);
  window.setTimeout(() => dismiss(id), kind === "ok" ? 4_000 : 10_000);
}
