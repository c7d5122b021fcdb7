/** One clock for the whole page, so that ages tick together. */

import { createSignal } from "solid-js";

const [now, setNow] = createSignal(Date.now());
window.setInterval(() => setNow(Date.now()), 1000);

/** Unix time, milliseconds; moves once a second. */
export { now };

/**
 * Calls `run` soon after the first of many calls, at most once in `ms`: streams change many times a second,
 * eyes don't.
 */
export function throttle(ms: number, run: () => void): () => void {
  let timer = 0;
  let last = -Infinity;
  return () => {
    if (timer !== 0) return;
    const wait = Math.max(0, last + ms - performance.now());
    timer = window.setTimeout(() => {
      timer = 0;
      last = performance.now();
      run();
    }, wait);
  };
}
