/** The rooms of sockets. */

import { Show } from "solid-js";
import type { SocketStatsView } from "../../protocol/types";
import { route, type Place } from "../../state/route";
import { count } from "../../ui/format";
import { RoomsNav } from "../../ui/RoomsNav";
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

  return (
    <div class="rooms-line">
      <RoomsNav
        label="Sockets"
        rooms={ROOMS}
        here={room()}
        titles={TITLES}
        place={place}
        query={query}
        beside={(r) => <Show when={known(r) !== undefined}><span class="n">{count(known(r)!)}</span></Show>}
      />
      <Show when={props.stats}>{(s) => <AccountBadge of={s()} />}</Show>
    </div>
  );
}
