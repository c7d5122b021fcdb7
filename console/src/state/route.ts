/** Which panel is shown, and what it was asked to show: `#/flows?filter=...`, `#/nat/hosts`. Back and forward work. */

import { createSignal } from "solid-js";

export const PANELS = ["overview", "flows", "sockets", "nat", "rules", "events", "status", "paths", "history"] as const;
export type Panel = (typeof PANELS)[number];

export interface Route {
  panel: Panel;
  /** The room within the panel; empty for its first. */
  room: string;
  query: URLSearchParams;
}

function read(): Route {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [panel, room = ""] = path.split("/", 2);
  return { panel: PANELS.find((p) => p === panel) ?? "overview", room, query: new URLSearchParams(query) };
}

const [route, setRoute] = createSignal<Route>(read(), { equals: false });
window.addEventListener("hashchange", () => setRoute(read()));

export { route };

/** A panel, or a room of one: `nat/hosts`. */
export type Place = Panel | `${Panel}/${string}`;

export function href(place: Place, query: Record<string, string> = {}): string {
  const text = new URLSearchParams(query).toString();
  return `#/${place}${text === "" ? "" : `?${text}`}`;
}

export function go(place: Place, query: Record<string, string> = {}): void {
  location.hash = href(place, query);
  // Now, and not when the event comes: a second key in between would start from the old place.
  setRoute(read());
}

/** Notes the filter in the address without a step in the history. */
export function noteFilter(panel: Place, filter: string): void {
  noteQuery(panel, { filter });
}

/** The same for more than the filter; what is empty is left out. */
export function noteQuery(panel: Place, query: Record<string, string>): void {
  history.replaceState(null, "", href(panel, Object.fromEntries(Object.entries(query).filter(([, value]) => value !== ""))));
}
