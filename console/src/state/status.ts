/** `sluice status`, asked again every ten seconds, after each reconnect and after each change of the policy. */

import { createEffect, createRoot, createSignal, on } from "solid-js";
import * as http from "../protocol/http";
import { ServerError } from "../protocol/messages";
import type { StatusView } from "../protocol/types";
import { generation, noteGeneration } from "./rules";
import { link } from "./session";

const [status, setStatus] = createSignal<StatusView | null>(null);
const [problem, setProblem] = createSignal<string | null>(null);

export { problem as statusProblem, status };

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
});
window.setInterval(() => document.visibilityState === "visible" && void refresh(), 10_000);
