/** Live sets, as docs/protocol.md describes them; a mirror of `firewall-user/src/view/sets.rs`. */

export type SetKind = "addresses" | "pairs" | "ports";

/** A set whose entries change while the rules stay. */
export interface SetView {
  name: string;
  kind: SetKind;
  /** Of `ports`, how many ports. */
  entries: number;
  size: number | null;
  /** Most entries that there can be. */
  room: number;
  bytes: number;
  timeout_ms: number | null;
  file: string | null;
  /** Rules add to it. */
  grows: boolean;
  added: number;
  renewed: number;
  refused: number;
  busy: number;
}

export interface SetEntryView {
  entry: string;
  /** `null`: until it is deleted. */
  left_ms: number | null;
}

export interface SetPageView {
  name: string;
  kind: SetKind;
  total: number;
  rows: SetEntryView[];
}

export interface SetChangeView {
  name: string;
  added: number;
  renewed: number;
  deleted: number;
  entries: number;
}
