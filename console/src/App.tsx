/** The frame around the panels: navigation, what is lost, the link, keys. */

import { createEffect, createSignal, For, Match, onCleanup, onMount, Show, Switch } from "solid-js";
import { Events } from "./panels/Events";
import { Flows } from "./panels/Flows";
import { History } from "./panels/History";
import { Login } from "./panels/Login";
import { Nat } from "./panels/nat/Nat";
import { Overview } from "./panels/Overview";
import { Paths } from "./panels/Paths";
import { Rules } from "./panels/Rules";
import { Sets } from "./panels/Sets";
import { Names } from "./panels/sockets/Names";
import { Sockets } from "./panels/sockets/Sockets";
import { Summary } from "./panels/sockets/Summary";
import { Status } from "./panels/Status";
import { PANELS, href, go, route, type Panel } from "./state/route";
import { generation, rules } from "./state/rules";
import { client, link, login, signOut, staleSince } from "./state/session";
import { stats } from "./state/stats";
import { now } from "./state/time";
import { dismiss, toasts } from "./state/toasts";
import { AlarmBadge } from "./ui/Alarms";
import { Dialog } from "./ui/Dialog";
import { clock, count } from "./ui/format";
import { LinkState } from "./ui/LinkState";
import { LostBadge } from "./ui/LostBadge";
import { Logo } from "./ui/Logo";

const TITLES: Record<Panel, string> = {
  overview: "Overview", flows: "Flows", sockets: "Sockets", nat: "NAT", rules: "Rules", events: "Events", status: "Status", paths: "Paths", history: "History",
};

const KEYS: [string, string][] = [
  ["1 … 9", "go to a panel"],
  ["[ ]", "one room back or on (sockets, NAT, rules)"],
  ["/", "to the filter"],
  ["p", "pause or go on (flows, sockets, mappings, events)"],
  ["↑ ↓ ← →", "move through a table"],
  ["Enter", "narrow the filter to a cell's value, follow its link, or do what it offers"],
  ["Shift Enter", "exclude the cell's value"],
  ["Esc", "leave the filter, close a window"],
  ["?", "this list"],
];

export function App() {
  return (
    <Switch>
      <Match when={login() === "asking"}>
        <div class="boot" />
      </Match>
      <Match when={login() === "needed"}>
        <Login />
      </Match>
      <Match when={login() === "done"}>
        <Frame />
      </Match>
    </Switch>
  );
}

function Frame() {
  const [help, setHelp] = createSignal(false);
  const badge = (panel: Panel): string | null => {
    if (panel === "flows") return stats() ? count(stats()!.flows) : null;
    if (panel === "nat") return stats()?.nat ? count(stats()!.nat!.mappings_live) : null;
    if (panel === "rules") return rules().length > 0 ? count(rules().filter((r) => r.position > 0).length) : null;
    return null;
  };

  const onKey = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if ((event.target as Element).closest("input, textarea, select, dialog")) return;
    const panel = PANELS[Number(event.key) - 1];
    if (panel) go(panel);
    else if (event.key === "/") document.querySelector<HTMLInputElement>(".filter-input")?.focus();
    else if (event.key === "p") document.querySelector<HTMLButtonElement>(".pause")?.click();
    else if (event.key === "?") setHelp(true);
    else return;
    event.preventDefault();
  };
  createEffect(() => {
    document.title = staleSince() === null ? "Sluice" : "Sluice: not connected";
  });
  onMount(() => document.addEventListener("keydown", onKey));
  onCleanup(() => document.removeEventListener("keydown", onKey));

  return (
    <div class="frame" classList={{ stale: staleSince() !== null }}>
      <header class="top">
        <a class="brand" href={href("overview")} aria-label="Sluice, overview">
          <Logo />
          <span>Sluice</span>
        </a>
        <nav aria-label="Panels">
          <For each={PANELS}>
            {(panel, i) => (
              <a href={href(panel)} aria-current={route().panel === panel ? "page" : undefined} title={`${TITLES[panel]} (${i() + 1})`}>
                {TITLES[panel]}
                <Show when={badge(panel)}>{(n) => <span class="n">{n()}</span>}</Show>
              </a>
            )}
          </For>
        </nav>
        <div class="spring" />
        <AlarmBadge />
        <LostBadge />
        <a class="pill" href={href("rules")} title="Generation of the live policy" id="generation">
          policy <b>{generation() ?? "–"}</b>
        </a>
        <LinkState />
        <button type="button" class="quiet" aria-label="Keys" title="Keys (?)" onClick={() => setHelp(true)}>?</button>
        <button type="button" class="quiet" onClick={() => void signOut()}>Log out</button>
      </header>
      <Show when={staleSince() !== null}>
        <Outage />
      </Show>
      <main>
        <Switch>
          <Match when={route().panel === "overview"}><Overview /></Match>
          <Match when={route().panel === "flows"}><Flows /></Match>
          <Match when={route().panel === "sockets" && route().room === "summary"}><Summary /></Match>
          <Match when={route().panel === "sockets" && route().room === "names"}><Names /></Match>
          <Match when={route().panel === "sockets"}><Sockets /></Match>
          <Match when={route().panel === "nat"}><Nat /></Match>
          <Match when={route().panel === "rules" && route().room === "sets"}><Sets /></Match>
          <Match when={route().panel === "rules"}><Rules /></Match>
          <Match when={route().panel === "events"}><Events /></Match>
          <Match when={route().panel === "status"}><Status /></Match>
          <Match when={route().panel === "paths"}><Paths /></Match>
          <Match when={route().panel === "history"}><History /></Match>
        </Switch>
      </main>
      <div class="toasts" role="status" aria-live="polite">
        <For each={toasts()}>
          {(t) => (
            <div class={`toast ${t.kind}`}>
              <span>{t.text}</span>
              <button type="button" class="quiet" aria-label="Dismiss" onClick={() => dismiss(t.id)}>✕</button>
            </div>
          )}
        </For>
      </div>
      <Show when={help()}>
        <Dialog title="Keys" onClose={() => setHelp(false)}>
          <dl class="keys">
            <For each={KEYS}>{([key, what]) => (<><dt><kbd>{key}</kbd></dt><dd>{what}</dd></>)}</For>
          </dl>
        </Dialog>
      </Show>
    </div>
  );
}

function Outage() {
  const wait = () => {
    const l = link();
    if (l.phase !== "waiting") return "Connecting";
    // retryAt is on the monotonic clock; now() makes this line tick.
    void now();
    return `Reason: ${l.why}. Next attempt in ${Math.max(0, Math.ceil((l.retryAt - performance.now()) / 1000))} s`;
  };
  return (
    <div class="outage" role="status">
      <b>Not connected.</b>
      <span>What you see is from {clock(new Date(staleSince()!).toISOString())}. Filtering goes on in the kernel. {wait()}.</span>
      <button type="button" class="small" onClick={() => client.retryNow()}>Try now</button>
    </div>
  );
}
