/** Messages of the WebSocket (docs/protocol.md), and the one place where text becomes a message. */

import type { StreamName } from "./types";

/** Where a subscription has got to: valid within one epoch (one life of the daemon). */
export interface Position {
  epoch: string;
  seq: number;
}

export type ClientMessage =
  | { type: "subscribe"; id: number; stream: StreamName; filter?: string; resume?: Position }
  | { type: "unsubscribe"; id: number }
  | { type: "command"; id: number; verb: string; args?: unknown }
  | { type: "ping"; t: number };

export interface Hello {
  type: "hello";
  version: number;
  server?: string;
  epoch: string;
  role: string;
  capabilities: string[];
  heartbeat_s: number;
  time?: string;
}

export interface Snapshot {
  type: "snapshot";
  id: number;
  epoch: string;
  seq: number;
  rows: unknown[];
  generation?: number;
}

export interface Delta {
  type: "delta";
  id: number;
  seq: number;
  upsert?: unknown[];
  remove?: string[];
  events?: unknown[];
}

export interface Lost {
  type: "lost";
  id: number;
  from: number;
  to: number;
  n: number;
  /** Set: the kernel's ring was full. Unset: this connection was too slow. */
  class?: string;
}

export interface Reset {
  type: "reset";
  id: number;
  reason: string;
}

export interface ErrorBody {
  code: string;
  message: string;
  details?: unknown;
}

export interface Result {
  type: "result";
  id: number;
  ok: boolean;
  data?: unknown;
  error?: ErrorBody;
}

export interface ErrorMessage extends ErrorBody {
  type: "error";
  id?: number;
}

export type ServerMessage =
  | Hello
  | Snapshot
  | Delta
  | Lost
  | Reset
  | Result
  | ErrorMessage
  | { type: "unsubscribed"; id: number }
  | { type: "pong"; t: number };

const KNOWN = new Set(["hello", "snapshot", "delta", "lost", "reset", "result", "error", "unsubscribed", "pong"]);

/**
 * Reads one message. `null`: a type this console doesn't know, to be ignored (the protocol may grow).
 * Throws where the text is no message at all.
 */
export function decode(text: string): ServerMessage | null {
  const value: unknown = JSON.parse(text);
  if (typeof value !== "object" || value === null || typeof (value as { type?: unknown }).type !== "string") {
    throw new Error("message without a type");
  }
  return KNOWN.has((value as { type: string }).type) ? (value as ServerMessage) : null;
}

/** An error the server answered with. */
export class ServerError extends Error {
  readonly code: string;
  readonly details: unknown;

  constructor(body: ErrorBody) {
    super(body.message);
    this.name = "ServerError";
    this.code = body.code;
    this.details = body.details;
  }

  /** Where in the filter or line the error is, counted from 1, if the server said. */
  get column(): number | null {
    const d = this.details;
    if (typeof d === "object" && d !== null && "column" in d && typeof d.column === "number") return d.column;
    return null;
  }

  /** What to do about it, if the server said. */
  get hint(): string | null {
    const d = this.details;
    return typeof d === "object" && d !== null && "hint" in d && typeof d.hint === "string" ? d.hint : null;
  }
}
