/** Events as they come, newest first, with a line wherever some are missing. */

import { createSignal, type Accessor } from "solid-js";
import type { ServerError } from "../protocol/messages";
import type { EventView } from "../protocol/types";
import { count, plural } from "../ui/format";
import { client } from "./session";
import { noteMissed } from "./stats";
import { throttle } from "./time";

export type FeedItem = { key: number; event: EventView; gap: null } | { key: number; event: null; gap: string };

/** Each refused packet once: a rule with `log` tells of it a second time, in class `log`. */
export const DROPS = "class in (verdict, call) and verdict in (drop, reject)";

export interface Feed {
  items: Accessor<FeedItem[]>;
  filter: Accessor<string>;
  error: Accessor<ServerError | null>;
  paused: Accessor<boolean>;
  /** Events that came while paused. */
  held: Accessor<number>;
  pause(on: boolean): void;
  refilter(filter: string): Promise<void>;
  close(): void;
}

/**
 * @param keep how many lines stay
 * @param counts whether what this feed misses is added to the page's account (one feed should)
 */
export function createFeed(first: string, keep: number, counts: boolean): Feed {
  let lines: FeedItem[] = [];
  let nextKey = 1;
  let fresh = 0;
  const [items, setItems] = createSignal<FeedItem[]>([]);
  const [filter, setFilter] = createSignal(first);
  const [error, setError] = createSignal<ServerError | null>(null);
  const [paused, setPaused] = createSignal(false);
  const [held, setHeld] = createSignal(0);

  const publish = throttle(250, () => {
    if (paused()) setHeld(fresh);
    else setItems(lines);
  });
  const add = (more: FeedItem[]) => {
    // Newest first; `more` comes oldest first.
    lines = more.reverse().concat(lines).slice(0, keep);
    publish();
  };
  const gap = (text: string) => add([{ key: nextKey++, event: null, gap: text }]);
  const wrap = (event: EventView): FeedItem => ({ key: nextKey++, event, gap: null });

  const sub = client.subscribe(
    "events",
    {
      snapshot(rows) {
        lines = rows.map(wrap).reverse();
        fresh = 0;
        setError(null);
        publish();
      },
      events(rows) {
        if (rows.length === 0) return;
        fresh += rows.length;
        add(rows.map(wrap));
      },
      lost(l) {
        if (l.class === undefined) {
          if (counts) noteMissed(l.n);
          gap(`${plural(l.n, "event")} missing here: this page was too slow for them`);
        } else {
          gap(`${count(l.n)} ${l.class} ${l.n === 1 ? "event" : "events"} lost here: the kernel's ring was full`);
        }
      },
      refused: setError,
    },
    first,
  );

  return {
    items,
    filter,
    error,
    paused,
    held,
    pause(on) {
      fresh = 0;
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

/** The feed of the Events panel; lives as long as the page, so that nothing is missed while looking elsewhere. */
export const mainFeed = createFeed(DROPS, 2_000, true);
