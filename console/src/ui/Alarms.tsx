/** What needs somebody's eyes: a badge wherever one is, and the list. */

import { For, Show } from "solid-js";
import { href } from "../state/route";
import { alarms } from "../state/status";
import { now } from "../state/time";
import { dateTime, duration, plural } from "./format";

const ROOMS: Record<string, string> = {
  "nat-ports-exhausted": href("nat/pools"),
  "flow-table-pressure": href("flows"),
};

export function AlarmBadge() {
  return (
    <Show when={alarms().length > 0}>
      <a class="pill alarm" id="alarms" classList={{ error: alarms()[0]?.severity === "error" }} href={href("overview")} title={alarms().map((a) => a.text).join("\n")}>
        <b>{plural(alarms().length, "alarm")}</b>
      </a>
    </Show>
  );
}

export function AlarmList() {
  return (
    <Show when={alarms().length > 0}>
      <ul class="alarms" role="alert">
        <For each={alarms()}>
          {(a) => (
            <li classList={{ error: a.severity === "error" }}>
              <b>{a.severity}</b>
              <span class="alarm-text">{a.text}</span>
              <span class="dim" title={dateTime(a.since)}>for {duration(Math.max(0, now() - Date.parse(a.since)))}</span>
              <Show when={ROOMS[a.code]}>{(to) => <a href={to()}>look</a>}</Show>
            </li>
          )}
        </For>
      </ul>
    </Show>
  );
}
