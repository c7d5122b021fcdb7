import { beforeEach, describe, expect, it } from "vitest";
import { backoff } from "./backoff";
import { Client, SILENCE_MS, type Host, type Link, type SocketLike } from "./client";
import type { ServerError } from "./messages";
import type { EventView, FlowView } from "./types";

class FakeSocket implements SocketLike {
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: (() => void) | null = null;
  readonly sent: Record<string, unknown>[] = [];
  closedWith: number | null = null;

  send(text: string) {
    this.sent.push(JSON.parse(text) as Record<string, unknown>);
  }
  close(code?: number) {
    this.closedWith = code ?? 1005;
  }
  say(message: unknown) {
    this.onmessage?.({ data: typeof message === "string" ? message : JSON.stringify(message) });
  }
  hello(epoch = "e1") {
    this.say({ type: "hello", version: 1, epoch, role: "admin", capabilities: [], heartbeat_s: 20 });
  }
  die(code = 1006) {
    this.onclose?.({ code, reason: "" });
  }
  of(type: string) {
    return this.sent.filter((m) => m["type"] === type);
  }
}

/** Time moves only when told to. */
class FakeHost implements Host {
  time = 0;
  chance = 0.5;
  good = true;
  sockets: FakeSocket[] = [];
  private timers: { at: number; run: () => void }[] = [];

  connect() {
    const socket = new FakeSocket();
    this.sockets.push(socket);
    return socket;
  }
  now = () => this.time;
  random = () => this.chance;
  after = (ms: number, run: () => void) => {
    const timer = { at: this.time + ms, run };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((t) => t !== timer);
    };
  };
  authorized = async () => this.good;
  advance(ms: number) {
    const end = this.time + ms;
    for (;;) {
      const due = this.timers.filter((t) => t.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.timers = this.timers.filter((t) => t !== due);
      this.time = due.at;
      due.run();
    }
    this.time = end;
  }
  get last() {
    return this.sockets[this.sockets.length - 1]!;
  }
}

const flow = (id: string) => ({ id }) as FlowView;

let host: FakeHost;
let links: Link[];
let client: Client;
const phase = () => links[links.length - 1]!.phase;

beforeEach(() => {
  host = new FakeHost();
  links = [];
  client = new Client(host, { link: (l) => links.push(l) });
});

describe("backoff", () => {
  it("stays within half a second and a ceiling that doubles to 30 s", () => {
    const ceilings = [1000, 2000, 4000, 8000, 16000, 30000, 30000];
    ceilings.forEach((ceiling, attempt) => {
      expect(backoff(attempt, 0)).toBe(500);
      expect(backoff(attempt, 0.999999)).toBeLessThanOrEqual(ceiling);
      expect(backoff(attempt, 0.999999)).toBeGreaterThan(ceiling - 2);
    });
    expect(backoff(5000, 0.999999)).toBeLessThanOrEqual(30000);
  });
});

describe("subscriptions", () => {
  const log: string[] = [];
  const listener = {
    snapshot: (rows: FlowView[]) => void log.push(`snapshot ${rows.map((r) => r.id).join()}`),
    change: (upsert: FlowView[], remove: string[]) => void log.push(`+${upsert.map((r) => r.id).join()} -${remove.join()}`),
    reset: (reason: string) => void log.push(`reset ${reason}`),
    refused: (e: ServerError) => void log.push(`refused ${e.column}`),
  };
  beforeEach(() => void (log.length = 0));

  it("are asked for after hello, not before, and deliver rows", () => {
    client.start();
    const sub = client.subscribe("flows", listener, "proto=tcp");
    expect(host.last.sent).toEqual([]);
    host.last.hello();
    expect(host.last.of("subscribe")).toEqual([{ type: "subscribe", id: sub.id, stream: "flows", filter: "proto=tcp" }]);
    host.last.say({ type: "snapshot", id: sub.id, epoch: "e1", seq: 5, rows: [flow("a")] });
    host.last.say({ type: "delta", id: sub.id, seq: 9, upsert: [flow("b")], remove: ["a"] });
    expect(log).toEqual(["snapshot a", "+b -a"]);
    expect(sub.position).toEqual({ epoch: "e1", seq: 9 });
  });

  it("leave an empty filter out", () => {
    client.start();
    host.last.hello();
    client.subscribe("flows", listener);
    expect(host.last.of("subscribe")[0]).not.toHaveProperty("filter");
  });

  it("resume from the last position after an outage", () => {
    client.start();
    const sub = client.subscribe("flows", listener);
    host.last.hello();
    host.last.say({ type: "snapshot", id: sub.id, epoch: "e1", seq: 5, rows: [] });
    host.last.say({ type: "delta", id: sub.id, seq: 12, upsert: [], remove: [] });
    host.last.die();
    host.advance(30_000);
    host.last.hello();
    expect(host.sockets).toHaveLength(2);
    expect(host.last.of("subscribe")).toEqual([{ type: "subscribe", id: sub.id, stream: "flows", resume: { epoch: "e1", seq: 12 } }]);
    // The zero-event case: an empty delta, and the rows stay.
    log.length = 0;
    host.last.say({ type: "delta", id: sub.id, seq: 12, upsert: [], remove: [] });
    expect(log).toEqual(["+ -"]);
  });

  it("start anew after a reset", () => {
    client.start();
    const sub = client.subscribe("flows", listener);
    host.last.hello();
    host.last.say({ type: "snapshot", id: sub.id, epoch: "e1", seq: 5, rows: [flow("a")] });
    host.last.die();
    host.advance(30_000);
    host.last.hello("e2");
    host.last.say({ type: "reset", id: sub.id, reason: "epoch" });
    expect(sub.position).toBeNull();
    host.last.say({ type: "snapshot", id: sub.id, epoch: "e2", seq: 1, rows: [flow("z")] });
    expect(log).toEqual(["snapshot a", "reset epoch", "snapshot z"]);
    expect(sub.position).toEqual({ epoch: "e2", seq: 1 });
  });

  it("go on with the old filter until the new one is in force", async () => {
    client.start();
    const sub = client.subscribe("flows", listener, "proto=tcp");
    host.last.hello();
    const first = sub.id;
    host.last.say({ type: "snapshot", id: first, epoch: "e1", seq: 1, rows: [] });
    const answer = sub.refilter("proto=udp");
    const second = host.last.of("subscribe")[1]!["id"];
    host.last.say({ type: "delta", id: first, seq: 2, upsert: [flow("old")], remove: [] });
    host.last.say({ type: "snapshot", id: second, epoch: "e1", seq: 2, rows: [flow("new")] });
    host.last.say({ type: "delta", id: first, seq: 3, upsert: [flow("late")], remove: [] });
    await expect(answer).resolves.toBeNull();
    expect(log).toEqual(["snapshot ", "+old -", "snapshot new"]);
    expect(host.last.of("unsubscribe")).toEqual([{ type: "unsubscribe", id: first }]);
    expect(sub.filter).toBe("proto=udp");
  });

  it("keep the old filter when the new one is refused, with the column", async () => {
    client.start();
    const sub = client.subscribe("flows", listener, "proto=tcp");
    host.last.hello();
    host.last.say({ type: "snapshot", id: sub.id, epoch: "e1", seq: 1, rows: [] });
    const answer = sub.refilter("proto=");
    const id = host.last.of("subscribe")[1]!["id"];
    host.last.say({ type: "error", id, code: "bad-filter", message: "expected a value", details: { column: 7 } });
    expect((await answer)?.column).toBe(7);
    expect(sub.filter).toBe("proto=tcp");
    host.last.say({ type: "delta", id: sub.id, seq: 2, upsert: [flow("a")], remove: [] });
    expect(log).toEqual(["snapshot ", "+a -"]);
  });

  it("say so when the first filter is refused, and recover with the next", async () => {
    client.start();
    const sub = client.subscribe("flows", listener, "x=");
    host.last.hello();
    host.last.say({ type: "error", id: sub.id, code: "bad-filter", message: "?", details: { column: 3 } });
    expect(log).toEqual(["refused 3"]);
    const answer = sub.refilter("");
    host.last.say({ type: "snapshot", id: host.last.of("subscribe")[1]!["id"], epoch: "e1", seq: 1, rows: [] });
    await expect(answer).resolves.toBeNull();
  });

  it("ignore answers that crossed an unsubscribe, and messages they don't know", () => {
    client.start();
    const sub = client.subscribe("flows", listener);
    host.last.hello();
    sub.close();
    host.last.say({ type: "snapshot", id: sub.id, epoch: "e1", seq: 1, rows: [flow("a")] });
    host.last.say({ type: "gossip", id: sub.id });
    expect(log).toEqual([]);
    expect(phase()).toBe("live");
  });
});

describe("losses", () => {
  it("reach the listener in order and exactly", () => {
    const log: string[] = [];
    client.start();
    const sub = client.subscribe("events", {
      snapshot: () => {},
      events: (e: EventView[]) => void log.push(`events ${e.length}`),
      lost: (l) => void log.push(`lost ${l.n} ${l.from}-${l.to} ${l.class ?? "queue"}`),
    });
    host.last.hello();
    host.last.say({ type: "snapshot", id: sub.id, epoch: "e1", seq: 0, rows: [] });
    host.last.say({ type: "delta", id: sub.id, seq: 2, events: [{}, {}] });
    host.last.say({ type: "lost", id: sub.id, from: 3, to: 1002, n: 1000 });
    host.last.say({ type: "lost", id: sub.id, from: 7, to: 9, n: 3, class: "verdict" });
    host.last.say({ type: "delta", id: sub.id, seq: 1003, events: [{}] });
    expect(log).toEqual(["events 2", "lost 1000 3-1002 queue", "lost 3 7-9 verdict", "events 1"]);
    expect(sub.position?.seq).toBe(1003);
  });
});

describe("outages", () => {
  it("wait longer each time, and start over after a steady connection", () => {
    host.chance = 1;
    client.start();
    const waits: number[] = [];
    for (let i = 0; i < 7; i++) {
      host.last.die();
      const link = links[links.length - 1]!;
      if (link.phase !== "waiting") throw new Error(`phase ${link.phase}`);
      waits.push(link.retryAt - host.time);
      host.advance(link.retryAt - host.time);
    }
    expect(waits).toEqual([1000, 2000, 4000, 8000, 16000, 30000, 30000]);
    host.last.hello();
    host.advance(6_000);
    host.last.die();
    expect(links[links.length - 1]).toMatchObject({ phase: "waiting", retryAt: host.time + 1000 });
  });

  it("don't start over when the connection breaks right after each hello", () => {
    host.chance = 1;
    client.start();
    host.last.hello();
    host.last.die();
    host.advance(1000);
    host.last.hello();
    host.last.die();
    expect(links[links.length - 1]).toMatchObject({ phase: "waiting", retryAt: host.time + 2000 });
  });

  it("are noticed by silence", () => {
    client.start();
    const first = host.last;
    first.hello();
    host.advance(SILENCE_MS + 15_000);
    expect(first.of("ping").length).toBeGreaterThan(1);
    expect(first.closedWith).toBe(4002);
    expect(host.sockets.length).toBeGreaterThan(1);
  });

  it("are not seen where the server answers pings", () => {
    client.start();
    const first = host.last;
    first.hello();
    for (let i = 0; i < 30; i++) {
      host.advance(10_000);
      first.say({ type: "pong", t: host.time });
    }
    expect(host.sockets).toHaveLength(1);
    expect(phase()).toBe("live");
  });

  it("end the wait when told to retry now, with one connection, not two", () => {
    client.start();
    host.last.die();
    client.retryNow();
    client.retryNow();
    host.advance(60_000 - SILENCE_MS);
    expect(host.sockets).toHaveLength(2);
  });

  it("ask for the login again only when it is gone", async () => {
    client.start();
    host.last.die();
    await Promise.resolve();
    expect(phase()).toBe("waiting");
    host.good = false;
    host.advance(1000);
    host.last.die();
    await Promise.resolve();
    await Promise.resolve();
    expect(phase()).toBe("unauthorized");
    const before = host.sockets.length;
    host.advance(120_000);
    expect(host.sockets).toHaveLength(before);
  });

  it("take a logged-out session for what it is", () => {
    client.start();
    host.last.hello();
    host.last.die(4001);
    expect(phase()).toBe("unauthorized");
  });

  it("follow when the other end doesn't speak the protocol", () => {
    client.start();
    host.last.say("<html>");
    expect(host.last.closedWith).toBe(1002);
    expect(phase()).toBe("waiting");
  });

  it("don't follow a stop", () => {
    client.start();
    host.last.hello();
    client.stop();
    host.advance(120_000);
    expect(host.sockets).toHaveLength(1);
    expect(phase()).toBe("stopped");
  });
});
