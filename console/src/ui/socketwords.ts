/** What the short names of the Sockets room mean, in a sentence. A name that isn't here is shown as it is. */

import { plural } from "./format";

const STATES: Record<string, string> = {
  listen: "waits for connections",
  "syn-sent": "has asked for a connection, no answer yet",
  "syn-received": "was asked for a connection and has answered, the last word is missing",
  "new-syn-received": "was asked for a connection, no program has it yet",
  established: "connected",
  "fin-wait-1": "has closed its side, the other end hasn't heard it yet",
  "fin-wait-2": "has closed its side, the other end is still open",
  "close-wait": "the other end has closed, the program here hasn't yet",
  "last-ack": "both have closed, the last word is missing",
  closing: "both closed at once",
  "time-wait": "closed, kept for packets that come late",
  closed: "not connected",
  connected: "talks to one far end only",
  unconnected: "takes from anybody and sends to anybody",
  open: "knows no connections",
};

export const stateWords = (state: string): string => STATES[state] ?? state;

const ENDS: Record<string, string> = {
  closed: "closed as it should be",
  refused: "the far end, or a filter on the way, refused the connection",
  denied: "a rule by owner refused the call",
  dropped: "a rule of this gate refused the connection",
  "timed-out": "no answer came in time",
  "no-route": "there is no way to the far end",
  reset: "the far end broke the connection off",
  killed: "ended by an operator",
  abandoned: "the program gave up before the connection stood",
  aborted: "broken off at this end: data was left unread, or the program asked for it",
  failed: "the system reported another error",
};

export const endWords = (ended: string): string => ENDS[ended] ?? ended;

const CONFIDENCES: Record<string, string> = {
  stamped: "certain: noted when the socket was made",
  held: "found holding the socket, not seen making it: another process may have made it",
  unknown: "nobody was seen making or holding it",
};

/** How the owner is known. */
export const confidenceWords = (confidence: string): string => CONFIDENCES[confidence] ?? confidence;

/** How a name is known, and that it is what others say. */
export function nameWords(source: string | null, others: number): string {
  if (source === "sni") return "its ClientHello asked for it";
  if (source === "sni-outer") return "its ClientHello asked for it, with another inside that can't be read: perhaps a front";
  if (source !== "dns") return source ?? "";
  return others === 0 ? "as DNS answered" : `as DNS answered last; the address had ${plural(others, "other name")} then`;
}

/** Why it isn't known when a socket was made. */
export const madeUnseen = (socket: { family: number }): string => (socket.family === 0 ? "not seen: sockets of this kind are only found" : "before the monitor began");

/** A mark for a socket that the filter isn't all there is to. */
export function noteMark(proto: string): string {
  if (proto === "packet") return "sees packets";
  if (proto === "xdp") return "past the stack";
  return proto.startsWith("raw/") ? "own headers" : "note";
}
