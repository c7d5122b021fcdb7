/** How full the ports of a public address are, in words. Pure. */

import type { NatPoolView } from "../protocol/types";

export type PoolState = "ok" | "high" | "exhausted";

/** From here on it is time to think of another address. */
const HIGH_PERCENT = 80;

export function poolState(pool: NatPoolView): PoolState {
  if (pool.ports > 0 && pool.in_use >= pool.ports) return "exhausted";
  return pool.used_percent >= HIGH_PERCENT ? "high" : "ok";
}

/** Share of a pool's ports, in percent, of which there can't be more than 100. */
export const sharePercent = (pool: NatPoolView, ports: number): number => (pool.ports > 0 ? Math.min(100, (100 * ports) / pool.ports) : 0);
