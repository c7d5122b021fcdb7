/** The rooms of sockets, and the keys that lead from one to the next. */

import { For, onCleanup, onMount, Show } from "solid-js";
import type { SocketStatsView } from "../../protocol/types";
import { go, href, route, type Place } from "../../state/route";
import { count } from "../../ui/format";
import { AccountBadge } from "./Account";

const ROOMS = ["", "ended", "summary", "names"] as const;
type Room = (typeof ROOMS)[number];

const TITLES: Record<Room, string> = { "": "Live", ended: "Ended", summary: "Summary", names: "Names" };
const place = (room: Room): Place => (room === "" ? "sockets" : `sockets/${room}`);

/** `filter` goes along, where the other room has one. */
export function Rooms(props: { stats: SocketStatsView | null; filter: string }) {
  const room = (): Room => ROOMS.find((r) => r === route().room) ?? "";
  const query = (to: Room): Record<string, string> => (to === "summary" || to === "names" || props.filter === "" ? {} : { filter: props.filter });
  const known = (r: Room) => (r === "" ? props.stats?.live : r === "ended" ? props.stats?.ended : undefined);

  const onKey = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if ((event.target as Element).closest("input, textarea, select, dialog")) return;
    const step = event.key === "[" ? -1 : event.key === "]" ? 1 : 0;
    if (step === 0) return;
    event.preventDefault();
    const next = ROOMS[(ROOMS.indexOf(room()) + step + ROOMS.length) % ROOMS.length]!;
    go(place(next), query(next));
  };
  onMount(() => document.addEventListener("keydown", onKey));
  onCleanup(() => document.removeEventListener("keydown", onKey));

  return (
    <div class="rooms-line">
      <nav class="rooms" aria-label="Sockets">
        <For each={ROOMS}>
          {(r) => (
            <a href={href(place(r), query(r))} aria-current={room() === r ? "page" : undefined} title="[ and ] go from one to the next">
              {TITLES[r]}
              <Show when={known(r) !== undefined}><span class="n">{count(known(r)!)}</span></Show>
            </a>
          )}
        </For>
      </nav>
      <Show when={props.stats}>{(s) => <AccountBadge of={s()} />}</Show>
    </div>
  );
}
