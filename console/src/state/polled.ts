/** A `Poll` for a panel: asks while the panel is open, the page in view and the daemon there. */

import { createEffect, createSignal, on, onCleanup, type Accessor } from "solid-js";
import { Poll } from "./poll";
import { link } from "./session";

export interface Polled<T> {
  /** The last answer; `null` before the first. */
  value: Accessor<T | null>;
  /** Why there is no newer one. */
  error: Accessor<Error | null>;
  again(): void;
}

/**
 * @param ask reads signals as it likes: a question that has changed is asked at once with `again`
 * @param wanted asks only while this is so
 */
export function createPolled<T>(ask: (signal: AbortSignal) => Promise<T>, ms: number, wanted: () => boolean = () => true): Polled<T> {
  const [value, setValue] = createSignal<T | null>(null);
  const [error, setError] = createSignal<Error | null>(null);
  const poll = new Poll<T>(
    ask,
    ms,
    {
      after(wait, run) {
        const timer = window.setTimeout(run, wait);
        return () => window.clearTimeout(timer);
      },
      now: () => performance.now(),
      ready: () => link().phase === "live" && document.visibilityState === "visible" && wanted(),
    },
    {
      answer(next) {
        setError(null);
        setValue(() => next);
      },
      failed: setError,
    },
  );
  createEffect(on(() => link().phase === "live", () => poll.again()));
  onCleanup(() => poll.close());
  return { value, error, again: () => poll.again() };
}
