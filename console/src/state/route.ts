/** Which panel is shown, and what it was asked to show: `#/flows?filter=...`. Back and forward work. */

import { createSignal } from "solid-js";

export const PANELS = ["overview", "flows", "rules", "events", "status"] as const;
export type Panel = (typeof PANELS)[number];

export interface Route {
  panel: Panel;
  query: URLSearchParams;
}

function read(): Route {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { panel: PANELS.find((p) => p === path) ?? "overview", query: new URLSearchParams(query) };
}

const [route, setRoute] = createSignal<Route>(read(), { equals: false });
window.addEventListener("hashchange", () => setRoute(read()));

export { route };

export function href(panel: Panel, query: Record<string, string> = {}): string {
  const text = new URLSearchParams(query).toString();
  return `#/${panel}${text === "" ? "" : `?${text}`}`;
}

export function go(panel: Panel, query: Record<string, string> = {}): void {
  location.hash = href(panel, query);
}

/** Notes the filter in the address without a step in the history. */
export function noteFilter(panel: Panel, filter: string): void {
  history.replaceState(null, "", href(panel, filter === "" ? {} : { filter }));
}
