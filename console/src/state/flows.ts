/** The flows that match a filter, kept current by the stream while the panel is open. */

import { createSignal, type Accessor } from "solid-js";
import type { ServerError } from "../protocol/messages";
import type { FlowView } from "../protocol/types";
import { client } from "./session";
import { throttle } from "./time";

/** A flow as last told, when that was, and how fast it goes. */
export interface FlowRow {
  v: FlowView;
  /** Milliseconds, `performance.now()`. */
  at: number;
  /** Bits a second, both ways, between two tellings at least `RATE_OVER_MS` apart. */
  bps: number;
  /** The earlier of these. */
  mark: { at: number; bytes: number };
}

/** Tellings of one burst are too close together to make a rate of. */
const RATE_OVER_MS = 400;

/** A rate nobody has confirmed for this long is 0. */
const RATE_HOLDS_MS = 3_000;

export const rateOf = (row: FlowRow, now: number): number => (now - row.at > RATE_HOLDS_MS || row.v.ended ? 0 : row.bps);
export const idleOf = (row: FlowRow, now: number): number => row.v.idle_ms + (row.v.ended ? 0 : Math.max(0, now - row.at));
export const ageOf = (row: FlowRow, now: number): number => row.v.age_ms + (row.v.ended ? 0 : Math.max(0, now - row.at));
/** Until it is forgotten if nothing more comes. */
export const leftOf = (row: FlowRow, now: number): number => (row.v.ended ? 0 : Math.max(0, row.v.timeout_ms - Math.max(0, now - row.at)));
export const totalBytes = (row: FlowRow): number => row.v.bytes + row.v.reply_bytes;

export interface Flows {
  rows: Accessor<FlowRow[]>;
  arrived: Accessor<boolean>;
  filter: Accessor<string>;
  error: Accessor<ServerError | null>;
  paused: Accessor<boolean>;
  /** Changes that came while paused. */
  held: Accessor<number>;
  pause(on: boolean): void;
  refilter(filter: string): Promise<void>;
  close(): void;
}

export function createFlows(first: string): Flows {
  const byId = new Map<string, FlowRow>();
  let changes = 0;
  const [rows, setRows] = createSignal<FlowRow[]>([]);
  const [arrived, setArrived] = createSignal(false);
  const [filter, setFilter] = createSignal(first);
  const [error, setError] = createSignal<ServerError | null>(null);
  const [paused, setPaused] = createSignal(false);
  const [held, setHeld] = createSignal(0);

  // Rows are replaced, never changed, so a paused table keeps what it shows.
  const publish = throttle(500, () => {
    if (paused()) setHeld(changes);
    else setRows([...byId.values()]);
  });

  const put = (v: FlowView, now: number) => {
    const old = byId.get(v.id);
    const bytes = v.bytes + v.reply_bytes;
    if (!old) {
      byId.set(v.id, { v, at: now, bps: 0, mark: { at: now, bytes } });
      return;
    }
    const dt = now - old.mark.at;
    const rated = dt >= RATE_OVER_MS;
    byId.set(v.id, {
      v,
      at: now,
      bps: rated ? Math.max(0, ((bytes - old.mark.bytes) * 8 * 1000) / dt) : old.bps,
      mark: rated ? { at: now, bytes } : old.mark,
    });
  };

  const sub = client.subscribe(
    "flows",
    {
      snapshot(all) {
        const now = performance.now();
        // Flows that were known already go on with the rate they had.
        const known = new Map(byId);
        byId.clear();
        for (const v of all) {
          const old = known.get(v.id);
          if (old) byId.set(v.id, old);
          put(v, now);
        }
        setError(null);
        setArrived(true);
        publish();
      },
      change(upsert, remove) {
        const now = performance.now();
        changes += upsert.length + remove.length;
        for (const v of upsert) put(v, now);
        for (const id of remove) byId.delete(id);
        publish();
      },
      refused(e) {
        byId.clear();
        setError(e);
        setArrived(true);
        publish();
      },
    },
    first,
  );

  return {
    rows,
    arrived,
    filter,
    error,
    paused,
    held,
    pause(on) {
      changes = 0;
      setHeld(0);
      setPaused(on);
      publish();
    },
    async refilter(text) {
      // Whoever asks for something else wants to see it.
      if (paused()) this.pause(false);
      setFilter(text);
      const refused = await sub.refilter(text);
      if (filter() === text) setError(refused);
    },
    close: () => sub.close(),
  };
}
