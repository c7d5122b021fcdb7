/** Translation: who is behind what, what it has carried, whether the ports last, and who it was. */

import { Match, Show, Switch } from "solid-js";
import { route } from "../../state/route";
import { stats } from "../../state/stats";
import { count } from "../../ui/format";
import { RoomsNav } from "../../ui/RoomsNav";
import { Hosts } from "./Hosts";
import { Mappings } from "./Mappings";
import { Pools } from "./Pools";
import { NatRules } from "./NatRules";
import { Who } from "./Who";

export const ROOMS = ["mappings", "rules", "hosts", "pools", "who"] as const;
export type Room = (typeof ROOMS)[number];

const TITLES: Record<Room, string> = { mappings: "Mappings", rules: "Rules", hosts: "Hosts", pools: "Pools", who: "Who was it" };

export function Nat() {
  const room = (): Room => ROOMS.find((r) => r === route().room) ?? "mappings";
  const exhausted = () => stats()?.nat?.exhausted_pools ?? 0;

  return (
    <div class="panel">
      <RoomsNav
        label="Translation"
        rooms={ROOMS}
        here={room()}
        titles={TITLES}
        place={(r) => `nat/${r}`}
        beside={(r) => (
          <>
            <Show when={r === "mappings" && stats()?.nat}>{(nat) => <span class="n">{count(nat().mappings_live)}</span>}</Show>
            <Show when={r === "pools" && exhausted() > 0}><span class="n warn">{count(exhausted())}<span> exhausted</span></span></Show>
          </>
        )}
      />
      <Switch>
        <Match when={room() === "mappings"}><Mappings /></Match>
        <Match when={room() === "rules"}><NatRules /></Match>
        <Match when={room() === "hosts"}><Hosts /></Match>
        <Match when={room() === "pools"}><Pools /></Match>
        <Match when={room() === "who"}><Who /></Match>
      </Switch>
    </div>
  );
}
