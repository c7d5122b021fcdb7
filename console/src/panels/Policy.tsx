/** The rooms of the live policy: its rules, and the sets that change while they stay. */

import { href } from "../state/route";
import { rules } from "../state/rules";
import { count } from "../ui/format";
import { RoomsNav } from "../ui/RoomsNav";

const ROOMS = ["list", "sets"] as const;
type Room = (typeof ROOMS)[number];

const TITLES: Record<Room, string> = { list: "Rules", sets: "Live sets" };

export function PolicyRooms(props: { here: Room; sets?: number | null }) {
  const beside = (room: Room) => {
    const n = room === "list" ? rules().filter((r) => r.position > 0).length : (props.sets ?? null);
    return n === null || n === 0 ? null : <span class="n">{count(n)}</span>;
  };
  return <RoomsNav label="Policy" rooms={ROOMS} here={props.here} titles={TITLES} place={(room) => `rules/${room}`} beside={beside} />;
}

/** A set's entries. */
export const setHref = (name: string) => href("rules/sets", { set: name });
