/** `sluice status`, asked again every ten seconds, after each reconnect, and when policy or alarms may have changed. */

import { createEffect, createMemo, createRoot, createSignal, on } from "solid-js";
import * as http from "../protocol/http";
import { ServerError } from "../protocol/messages";
import type { AlarmView, StatusView } from "../protocol/types";
import { generation, noteGeneration } from "./rules";
import { link } from "./session";
import { stats } from "./stats";

const [status, setStatus] = createSignal<StatusView | null>(null);
/** What needs somebody's eyes now; errors first. */
const alarms = (): AlarmView[] => [...(status()?.alarms ?? [])].sort((a, b) => Number(b.severity === "error") - Number(a.severity === "error"));
const [problem, setProblem] = createSignal<string | null>(null);

export { alarms, problem as statusProblem, status };

async function refresh(): Promise<void> {
  if (link().phase !== "live") return;
  try {
    const fresh = await http.status();
    setStatus(fresh);
    setProblem(null);
    noteGeneration(fresh.generation);
  } catch (error) {
    // The link says what it has to say about a daemon that is gone.
    if (error instanceof ServerError) setProblem(error.message);
  }
}

createRoot(() => {
  createEffect(on([() => link().phase === "live", generation], () => void refresh()));
  // The stream tells of pressure every second; alarms follow it within one.
  const pressed = createMemo(() => `${stats()?.table?.pressure} ${stats()?.nat?.exhausted_pools}`);
  createEffect(on(pressed, () => window.setTimeout(() => void refresh(), 1_200), { defer: true }));
});
window.setInterval(() => document.visibilityState === "visible" && void refresh(), 10_000);
