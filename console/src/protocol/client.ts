/**
 * The WebSocket conversation: connects, subscribes, resumes after an outage, notices silence.
 *
 * Knows neither the DOM nor Solid. Socket, timers, clock and chance come from a `Host`, so that tests drive every
 * second of it by hand.
 */

import { backoff } from "./backoff";
import { decode, ServerError, type ClientMessage, type Delta, type Hello, type Lost, type Position, type ServerMessage, type Snapshot } from "./messages";
import type { StreamName, StreamRows } from "./types";

/** What the client needs of a `WebSocket`. */
export interface SocketLike {
  send(text: string): void;
  close(code?: number, reason?: string): void;
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: (() => void) | null;
}

export interface Host {
  connect(): SocketLike;
  /** Milliseconds, monotonic. */
  now(): number;
  random(): number;
  after(ms: number, run: () => void): () => void;
  /** Is the login still good? Asked when a connection fails before its hello: a page can't see the 401. */
  authorized(): Promise<boolean>;
}

export type Link =
  | { phase: "connecting"; attempt: number }
  | { phase: "live"; since: number; resumed: boolean }
  | { phase: "waiting"; attempt: number; retryAt: number; why: string }
  | { phase: "unauthorized" }
  | { phase: "stopped" };

/** What a subscriber is told. */
export interface Listener<S extends StreamName> {
  /** Everything so far is replaced by these rows. */
  snapshot(rows: StreamRows[S][], about: { generation: number | null; epoch: string }): void;
  /** State streams. */
  change?(upsert: StreamRows[S][], remove: string[]): void;
  /** The event stream. */
  events?(events: StreamRows[S][]): void;
  lost?(lost: Lost): void;
  /** What was shown doesn't count any more; a snapshot follows. */
  reset?(reason: string): void;
  /** The subscription was refused (a filter that can't be read). */
  refused?(error: ServerError): void;
}

/** Nothing heard for this long: the connection is dead, whatever TCP thinks. */
export const SILENCE_MS = 45_000;
/** A connection that lived this long starts the next series of waits from the beginning. */
const STEADY_MS = 5_000;

interface Pending {
  id: number;
  filter: string;
  done(error: ServerError | null): void;
}

/** One subscription; survives reconnects. */
export class Subscription<S extends StreamName = StreamName> {
  position: Position | null = null;
  /** A filter that was asked for and not answered yet. The old one stays in force until then. */
  pending: Pending | null = null;

  constructor(
    private readonly client: Client,
    public id: number,
    readonly stream: S,
    public filter: string,
    readonly listener: Listener<S>,
  ) {}

  /** Asks for another filter. Resolves with `null` once it is in force, with the error where it isn't. */
  refilter(filter: string): Promise<ServerError | null> {
    return this.client.refilter(this as unknown as Subscription, filter);
  }

  close(): void {
    this.client.unsubscribe(this as unknown as Subscription);
  }
}

export interface ClientEvents {
  link?(link: Link): void;
  hello?(hello: Hello): void;
  /** Round trip of a ping, milliseconds. */
  roundTrip?(ms: number): void;
}

export class Client {
  private socket: SocketLike | null = null;
  private said: Hello | null = null;
  private readonly subscriptions = new Map<number, Subscription>();
  private nextId = 1;
  private attempt = 0;
  private openedAt = 0;
  private heardAt = 0;
  private everLive = false;
  private cancelRetry: (() => void) | null = null;
  private cancelPulse: (() => void) | null = null;

  constructor(
    private readonly host: Host,
    private readonly on: ClientEvents = {},
  ) {}

  start(): void {
    this.stop();
    this.attempt = 0;
    this.open();
  }

  /** Ends the conversation; subscriptions stay and are taken up again by `start`. */
  stop(): void {
    this.cancelRetry?.();
    this.cancelRetry = null;
    this.drop(1000);
    this.on.link?.({ phase: "stopped" });
  }

  /** Connects at once if a wait is going on. */
  retryNow(): void {
    if (this.cancelRetry === null) return;
    this.cancelRetry();
    this.cancelRetry = null;
    this.open();
  }

  subscribe<S extends StreamName>(stream: S, listener: Listener<S>, filter = ""): Subscription<S> {
    const sub = new Subscription(this, this.nextId++, stream, filter, listener);
    const held = sub as unknown as Subscription;
    this.subscriptions.set(sub.id, held);
    if (this.said) this.ask(sub.id, held, filter, null);
    return sub;
  }

  /** @internal */
  unsubscribe(sub: Subscription): void {
    for (const id of [sub.id, sub.pending?.id]) {
      if (id !== undefined && this.subscriptions.delete(id)) this.send({ type: "unsubscribe", id });
    }
    sub.pending = null;
  }

  /** @internal */
  refilter(sub: Subscription, filter: string): Promise<ServerError | null> {
    return new Promise((resolve) => {
      const superseded = sub.pending;
      if (superseded) {
        this.subscriptions.delete(superseded.id);
        this.send({ type: "unsubscribe", id: superseded.id });
        superseded.done(null);
      }
      sub.pending = { id: this.nextId++, filter, done: resolve };
      this.subscriptions.set(sub.pending.id, sub);
      if (this.said) this.ask(sub.pending.id, sub, filter, null);
    });
  }

  private open(): void {
    this.on.link?.({ phase: "connecting", attempt: this.attempt });
    const socket = this.host.connect();
    this.socket = socket;
    this.openedAt = this.heardAt = this.host.now();
    socket.onmessage = (event) => {
      if (this.socket === socket && typeof event.data === "string") this.receive(event.data);
    };
    socket.onclose = (event) => {
      if (this.socket === socket) void this.closed(event.code, event.reason);
    };
    // `close` always follows, and says as much as a page may know.
    socket.onerror = () => {};
    this.pulse(SILENCE_MS);
  }

  private drop(code: number): void {
    const socket = this.socket;
    this.socket = null;
    this.said = null;
    this.cancelPulse?.();
    this.cancelPulse = null;
    if (!socket) return;
    socket.onmessage = socket.onclose = socket.onerror = null;
    socket.close(code);
  }

  private async closed(code: number, reason: string): Promise<void> {
    const hadHello = this.said !== null;
    const steady = hadHello && this.host.now() - this.openedAt >= STEADY_MS;
    this.drop(1000);
    if (code === 4001) {
      this.on.link?.({ phase: "unauthorized" });
      return;
    }
    if (steady) this.attempt = 0;
    this.wait(describe(code, reason, hadHello));
    // The wait runs already; should the login turn out to be gone, it is called off.
    if (!hadHello && !(await this.host.authorized()) && this.cancelRetry) {
      this.cancelRetry();
      this.cancelRetry = null;
      this.on.link?.({ phase: "unauthorized" });
    }
  }

  private wait(why: string): void {
    const ms = backoff(this.attempt, this.host.random());
    this.attempt += 1;
    this.cancelRetry = this.host.after(ms, () => {
      this.cancelRetry = null;
      this.open();
    });
    this.on.link?.({ phase: "waiting", attempt: this.attempt, retryAt: this.host.now() + ms, why });
  }

  /** Pings now and then, and gives up on a connection that has gone silent. */
  private pulse(ms: number): void {
    this.cancelPulse?.();
    this.cancelPulse = this.host.after(ms, () => {
      this.cancelPulse = null;
      if (!this.socket) return;
      if (this.host.now() - this.heardAt >= SILENCE_MS) {
        this.drop(4002);
        this.wait("nothing heard for 45 s");
        return;
      }
      this.send({ type: "ping", t: this.host.now() });
      this.pulse(this.interval());
    });
  }

  private interval(): number {
    return Math.min(15_000, ((this.said?.heartbeat_s ?? 20) * 1000) / 2);
  }

  private receive(text: string): void {
    this.heardAt = this.host.now();
    let message: ServerMessage | null;
    try {
      message = decode(text);
    } catch {
      // Not our protocol: whatever is at the other end, it isn't a healthy Sluice.
      this.drop(1002);
      this.wait("the answer was not in Sluice's protocol");
      return;
    }
    if (message) this.dispatch(message);
  }

  private dispatch(message: ServerMessage): void {
    switch (message.type) {
      case "hello": {
        this.said = message;
        this.on.hello?.(message);
        this.on.link?.({ phase: "live", since: this.host.now(), resumed: this.everLive });
        this.everLive = true;
        for (const [id, sub] of this.subscriptions) {
          if (sub.pending?.id === id) this.ask(id, sub, sub.pending.filter, null);
          else this.ask(id, sub, sub.filter, sub.position);
        }
        this.send({ type: "ping", t: this.host.now() });
        this.pulse(this.interval());
        return;
      }
      case "pong":
        if (typeof message.t === "number") this.on.roundTrip?.(this.host.now() - message.t);
        return;
      case "result":
      case "unsubscribed":
        return;
      case "error": {
        const sub = message.id === undefined ? undefined : this.subscriptions.get(message.id);
        if (sub && message.id !== undefined) this.refuse(message.id, sub, new ServerError(message));
        return;
      }
    }
    const sub = this.subscriptions.get(message.id);
    if (!sub) return; // an answer that crossed our unsubscribe
    switch (message.type) {
      case "snapshot":
        this.snapshot(sub, message);
        return;
      case "delta":
        this.delta(sub, message);
        return;
      case "lost":
        sub.listener.lost?.(message);
        return;
      case "reset":
        sub.position = null;
        sub.listener.reset?.(message.reason);
        return;
    }
  }

  private snapshot(sub: Subscription, message: Snapshot): void {
    if (sub.pending?.id === message.id) {
      const { filter, done } = sub.pending;
      this.subscriptions.delete(sub.id);
      this.send({ type: "unsubscribe", id: sub.id });
      sub.id = message.id;
      sub.filter = filter;
      sub.pending = null;
      done(null);
    }
    sub.position = { epoch: message.epoch, seq: message.seq };
    sub.listener.snapshot(message.rows as never[], { generation: message.generation ?? null, epoch: message.epoch });
  }

  private delta(sub: Subscription, message: Delta): void {
    if (sub.id !== message.id) return;
    if (sub.position) sub.position.seq = message.seq;
    if (message.events) sub.listener.events?.(message.events as never[]);
    if (message.upsert || message.remove) {
      sub.listener.change?.((message.upsert ?? []) as never[], message.remove ?? []);
    }
  }

  private refuse(id: number, sub: Subscription, error: ServerError): void {
    if (sub.pending?.id === id) {
      this.subscriptions.delete(id);
      const { done } = sub.pending;
      sub.pending = null;
      done(error);
    } else {
      sub.position = null;
      sub.listener.refused?.(error);
    }
  }

  private ask(id: number, sub: Subscription, filter: string, resume: Position | null): void {
    this.send({
      type: "subscribe",
      id,
      stream: sub.stream,
      ...(filter === "" ? {} : { filter }),
      ...(resume === null ? {} : { resume: { ...resume } }),
    });
  }

  private send(message: ClientMessage): void {
    if (this.said && this.socket) this.socket.send(JSON.stringify(message));
  }
}

function describe(code: number, reason: string, hadHello: boolean): string {
  switch (code) {
    case 1001:
      return "the daemon is stopping";
    case 4002:
      return "the connection went silent";
    case 4003:
      return "this page was too slow";
    case 1006:
      return hadHello ? "the connection broke" : "no answer";
    default:
      return reason || `closed with ${code}`;
  }
}
