/** Reads a public endpoint as people write it: `203.0.113.5:40021`, `[2001:db8::1]:40021`, or an address alone. Pure. */

export interface Endpoint {
  address: string;
  /** `null`: any. */
  port: number | null;
}

const EXPECTED = "an address, with or without a port: 203.0.113.5:40021 or [2001:db8::1]:40021";

/**
 * Throws an error for people where it can't be read. Whether the address is one is for the server to say: here only the port
 * is cut off.
 */
export function parseEndpoint(text: string): Endpoint {
  const whole = text.trim();
  if (whole === "") throw new Error(`whose port? Write ${EXPECTED}`);
  const bracket = /^\[([^\]]*)\](?::(.*))?$/.exec(whole);
  if (bracket) return { address: bracket[1]!, port: bracket[2] === undefined ? null : readPort(bracket[2]) };
  if (whole.startsWith("[")) throw new Error(`the bracket isn't closed, or something stands behind it; expected ${EXPECTED}`);
  const parts = whole.split(":");
  // Two colons or more: IPv6 without a port.
  if (parts.length === 2) return { address: parts[0]!, port: readPort(parts[1]!) };
  return { address: whole, port: null };
}

function readPort(digits: string): number {
  const port = /^\d{1,5}$/.test(digits) ? Number(digits) : Number.NaN;
  if (!(port <= 65_535)) throw new Error(`“${digits}” is no port from 0 to 65535; expected ${EXPECTED}`);
  return port;
}
