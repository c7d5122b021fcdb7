/** The page's one conversation with the daemon: login, link, and who we are. */

import { createSignal } from "solid-js";
import { Client, type Host, type Link, type SocketLike } from "../protocol/client";
import * as http from "../protocol/http";
import type { Hello } from "../protocol/messages";

export type Login = "asking" | "needed" | "done";

const [login, setLogin] = createSignal<Login>("asking");
const [link, setLink] = createSignal<Link>({ phase: "stopped" });
const [hello, setHello] = createSignal<Hello | null>(null);
const [roundTrip, setRoundTrip] = createSignal<number | null>(null);
const [reconnects, setReconnects] = createSignal(0);
/** A login that was good once is gone: the daemon restarted, or twelve hours passed. */
const [expired, setExpired] = createSignal(false);
/** When the picture on the screen stopped being current; `null` while it is. */
const [staleSince, setStaleSince] = createSignal<number | null>(null);

export { expired, hello, link, login, reconnects, roundTrip, staleSince };

const host: Host = {
  connect: () => new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1/ws`) as unknown as SocketLike,
  now: () => performance.now(),
  random: Math.random,
  after: (ms, run) => {
    const timer = window.setTimeout(run, ms);
    return () => window.clearTimeout(timer);
  },
  authorized: http.authorized,
};

export const client = new Client(host, {
  link: (next) => {
    setLink(next);
    if (next.phase === "live") {
      setStaleSince(null);
      if (next.resumed) setReconnects((n) => n + 1);
    } else if (next.phase === "waiting") {
      setStaleSince((since) => since ?? Date.now());
    } else if (next.phase === "unauthorized") {
      client.stop();
      setExpired(true);
      setLogin("needed");
    }
  },
  hello: setHello,
  roundTrip: setRoundTrip,
});

/** Is there a login already? */
export async function begin(): Promise<void> {
  if (await http.authorized()) enter();
  else setLogin("needed");
}

function enter(): void {
  setExpired(false);
  setLogin("done");
  client.start();
}

/** Throws what the server said. */
export async function signIn(token: string): Promise<void> {
  await http.login(token);
  enter();
}

export async function signOut(): Promise<void> {
  client.stop();
  await http.logout().catch(() => {});
  setLogin("needed");
}

export const mayEdit = (): boolean => hello()?.role !== "viewer";

// Somebody looks at the page again, or the network is back: no reason to sit out a long wait.
window.addEventListener("online", () => client.retryNow());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") client.retryNow();
});
