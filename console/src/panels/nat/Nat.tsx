/** Translation: who is behind what, what it has carried, whether the ports last, and who it was. */

import { For, Match, onCleanup, onMount, Show, Switch } from "solid-js";
import { go, href, route } from "../../state/route";
import { stats } from "../../state/stats";
import { count } from "../../ui/format";
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

  const onKey = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if ((event.target as Element).closest("input, textarea, select, dialog")) return;
    const step = event.key === "[" ? -1 : event.key === "]" ? 1 : 0;
    if (step === 0) return;
    event.preventDefault();
    go(`nat/${ROOMS[(ROOMS.indexOf(room()) + step + ROOMS.length) % ROOMS.length]!}`);
  };
  onMount(() => document.addEventListener("keydown", onKey));
  onCleanup(() => document.removeEventListener("keydown", onKey));

  return (
    <div class="panel">
      <nav class="rooms" aria-label="Translation">
        <For each={ROOMS}>
          {(r) => (
            <a href={href(`nat/${r}`)} aria-current={room() === r ? "page" : undefined} title="[ and ] go from one to the next">
              {TITLES[r]}
              <Show when={r === "mappings" && stats()?.nat}>{(nat) => <span class="n">{count(nat().mappings_live)}</span>}</Show>
              <Show when={r === "pools" && exhausted() > 0}><span class="n warn">{count(exhausted())}<span> exhausted</span></span></Show>
            </a>
          )}
        </For>
      </nav>
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
