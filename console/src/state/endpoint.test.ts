import { describe, expect, it } from "vitest";
import { parseEndpoint } from "./endpoint";

describe("parseEndpoint", () => {
  it.each([
    ["203.0.113.5:40021", "203.0.113.5", 40021],
    [" 203.0.113.5 ", "203.0.113.5", null],
    ["203.0.113.5:0", "203.0.113.5", 0],
    ["[2001:db8::1]:40021", "2001:db8::1", 40021],
    ["[2001:db8::1]", "2001:db8::1", null],
    ["2001:db8::1", "2001:db8::1", null],
    // Nothing is guessed: the server says that this is no address.
    ["gate", "gate", null],
  ])("%s", (text, address, port) => expect(parseEndpoint(text)).toEqual({ address, port }));

  it.each(["", "203.0.113.5:", "203.0.113.5:65536", "203.0.113.5:1e3", "203.0.113.5:-1", "[2001:db8::1", "[2001:db8::1]4", "[2001:db8::1]:x"])(
    "refuses %j",
    (text) => expect(() => parseEndpoint(text)).toThrow(/expected|Write/),
  );
});
