/** How long to wait before the next attempt to connect. */

export const FIRST_MS = 500;
export const MOST_MS = 30_000;

/**
 * Full jitter: uniform between 0.5 s and a ceiling that doubles with each failed attempt (1 s, 2 s, ... 30 s),
 * so that many consoles don't all come back in the same instant.
 *
 * @param attempt failed attempts so far, from 0
 * @param random uniform in [0, 1)
 */
export function backoff(attempt: number, random: number): number {
  const ceiling = Math.min(MOST_MS, 2 * FIRST_MS * 2 ** Math.min(attempt, 16));
  return Math.round(FIRST_MS + random * (ceiling - FIRST_MS));
}
