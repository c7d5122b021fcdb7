import { describe, expect, it } from "vitest";
import type { SocketView } from "../protocol/types";
import { between, endText, failed, localTerm, ownerTerm, processText, remoteTerm, ruleTerm, socketNatText } from "./sockets";

const socket = (some: Partial<SocketView> = {}): SocketView => ({
  id: "1", proto: "tcp", family: 4, state: "established", local: "10.0.0.1", local_port: 80, remote: "10.0.0.2", remote_port: 4000, netns: 1, own_netns: true, uid: 0,
  pid: 7, comm: "nginx", confidence: "stamped", user_pid: null, user_comm: null, holders: [], created: null, age_ms: null, idle_ms: null, connect_us: null, sent_bytes: 0,
  received_bytes: 0, sends: 0, receives: 0, sent_rate: 0, received_rate: 0, segments_out: 0, segments_in: 0, rtt_us: null, retransmits: 0, flow: null, rule: null, nat: null,
  closed: null, ended: null, note: null, ...some,
});

describe("ends", () => {
  it.each([
    [{}, "10.0.0.1:80", "10.0.0.2:4000"],
    [{ local: "0.0.0.0", remote: "0.0.0.0", remote_port: 0 }, "*:80", "*"],
    [{ family: 6, local: "::", remote: "2001:db8::1" }, "*:80", "[2001:db8::1]:4000"],
    [{ family: 0, local: "", local_port: 0, remote: "", remote_port: 0 }, "", ""],
  ])("%j", (some, local, remote) => {
    const s = socket(some);
    expect([endText(s, s.local, s.local_port), endText(s, s.remote, s.remote_port)]).toEqual([local, remote]);
  });

  it("filter by what distinguishes", () => {
    expect(localTerm(socket())).toEqual({ field: "local_port", value: 80 });
    expect(localTerm(socket({ local_port: 0 }))).toEqual({ field: "local", value: "10.0.0.1" });
    expect(localTerm(socket({ local: "::", local_port: 0 }))).toBeNull();
    expect(remoteTerm(socket())).toEqual({ field: "remote", value: "10.0.0.2" });
    expect(remoteTerm(socket({ remote: "0.0.0.0", remote_port: 0 }))).toBeNull();
    expect(remoteTerm(socket({ family: 0, remote: "" }))).toBeNull();
  });
});

describe("owners", () => {
  it("are a name and a number", () => {
    expect(processText(7, "nginx")).toBe("nginx/7");
    expect(processText(7, null)).toBe("?/7");
    expect(processText(null, null)).toBeNull();
  });

  it("can't break a line or turn it round", () => {
    expect(processText(8, "wor\nker")).toBe("wor�ker/8");
    expect(processText(8, "a\u202eb")).toBe("a�b/8");
  });

  it("filter by name, by number, or by being unknown", () => {
    expect(ownerTerm(socket())).toEqual({ field: "comm", value: "nginx" });
    expect(ownerTerm(socket({ comm: null }))).toEqual({ field: "pid", value: 7 });
    expect(ownerTerm(socket({ pid: null, comm: null }))).toEqual({ field: "confidence", value: "unknown" });
  });
});

it("rules filter, and so do namespaces without one", () => {
  expect(ruleTerm(socket({ rule: "web" }))).toEqual({ field: "rule", value: "web" });
  expect(ruleTerm(socket())).toBeNull();
  expect(ruleTerm(socket({ own_netns: false, netns: 99 }))).toEqual({ field: "netns", value: 99 });
});

it("every end but one is a failure", () => {
  expect([null, "closed", "refused", "timed-out", "abandoned", "of-a-kind-to-come"].map((ended) => failed(socket({ ended })))).toEqual([false, false, true, true, true, true]);
});

describe("translations", () => {
  const nat = { rule: "out", kind: "masquerade" };
  it("of a connection that began here", () => {
    expect(socketNatText(socket({ nat: { ...nat, src: "203.0.113.1", sport: 40000, dst: "10.0.0.2", dport: 4000 } }))).toBe("from 203.0.113.1:40000");
  });
  it("of one that was accepted", () => {
    expect(socketNatText(socket({ nat: { ...nat, src: "10.0.0.2", sport: 4000, dst: "10.0.0.9", dport: 8080 } }))).toBe("to 10.0.0.9:8080");
  });
  it("where there is none", () => expect(socketNatText(socket())).toBe(""));
});

it("time between is known where both ends are", () => {
  expect(between("2026-01-01T00:00:00Z", "2026-01-01T00:00:02.5Z")).toBe(2500);
  expect(between("2026-01-01T00:00:02Z", "2026-01-01T00:00:00Z")).toBe(0);
  expect(between(null, "2026-01-01T00:00:00Z")).toBeNull();
  expect(between("once", "2026-01-01T00:00:00Z")).toBeNull();
});
