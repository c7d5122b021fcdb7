/** Traffic for lab.mjs: `serve` at the gate, `ask` at the client, `outside` in the world. Bounded in rate and in time. */

import dgram from "node:dgram";
import net from "node:net";
import { spawn } from "node:child_process";

const TEN_MINUTES = 600_000;
const GATES = ["10.77.0.1", "fd77::1"];
const WORLD = "203.0.113.80";
/** Behind masquerade, behind a pool, and behind netfilter. */
const HOSTS = ["10.77.0.2", "10.77.0.11", "10.77.0.12", "10.77.0.13", "10.77.0.14", "10.77.0.15", "10.77.0.66"];
/** Has sixteen ports, and wants more. */
const GREEDY = "10.77.0.16";
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
setTimeout(() => process.exit(0), TEN_MINUTES);
process.on("SIGTERM", () => process.exit(0));

function serve() {
  for (const port of [8080, 8443]) {
    net
      .createServer((socket) => {
        socket.on("error", () => {});
        // Asked for N bytes, it sends N.
        socket.on("data", (data) => socket.write(Buffer.alloc(Math.min(1_000_000, Number(String(data).trim()) || 100), 46)));
      })
      .listen(port, "::");
  }
  const dns = dgram.createSocket("udp6");
  dns.on("message", (message, from) => dns.send(Buffer.concat([message, Buffer.alloc(60)]), from.port, from.address));
  dns.bind(5353, "::");
}

function connect(host, port, localAddress) {
  const socket = net.connect({ host, port, localAddress });
  socket.on("error", () => {});
  socket.on("data", () => {});
  return socket;
}

async function long(host, from, part = 1) {
  for (;;) {
    const socket = connect(host, 8443, from);
    for (let i = 0; i < 200 && !socket.destroyed; i++) {
      socket.write(`${Math.round(part * (20_000 + 30_000 * (1 + Math.sin(Date.now() / 4000))))}\n`);
      await sleep(150);
    }
    socket.destroy();
  }
}

/** From `from` at regular times: a socket of its own each, as a resolver makes them. */
async function questions(from, every, stays) {
  for (let i = 0; ; i++) {
    const socket = dgram.createSocket("udp4");
    socket.on("error", () => {});
    socket.bind(0, from, () => socket.send(`question ${i}`, 5353, WORLD, () => {}));
    setTimeout(() => socket.close(), stays);
    await sleep(every);
  }
}

/** Through the gate to the world outside. */
function through() {
  // What the port forward leads to.
  serve();
  HOSTS.forEach((host, i) => {
    void long(WORLD, host, 1 / (2 + i));
    void questions(host, 700 + 130 * i, 300);
  });
  for (let i = 0; i < 40; i++) setTimeout(() => void questions(GREEDY, 8_000, 7_900), 150 * i);
}

async function outside() {
  serve();
  for (let i = 0; ; i++) {
    const shop = connect("203.0.113.1", 80);
    shop.write(`${1_000 + (i % 5) * 2_000}\n`);
    setTimeout(() => shop.end(), 900);
    await sleep(600);
  }
}

async function ask() {
  through();
  for (const host of GATES) void long(host);
  for (const host of GATES) spawn("ping", ["-q", "-i", "1", "-w", "600", host], { stdio: "ignore" });
  for (let i = 0; ; i++) {
    const host = GATES[i % 2];
    const web = connect(host, 8080);
    web.write(`${2_000 + (i % 7) * 3_000}\n`);
    setTimeout(() => web.end(), 500 + (i % 5) * 900);
    const dns = dgram.createSocket(host.includes(":") ? "udp6" : "udp4");
    dns.on("error", () => {});
    dns.send(`question ${i}`, 5353, host);
    setTimeout(() => dns.close(), 400);
    // Refused by a rule, by another, and by the default.
    for (const port of [23, 79, 1000 + ((i * 37) % 5000)]) {
      if (i % 3 !== 0 && port > 100) continue;
      const probe = connect(host, port);
      setTimeout(() => probe.destroy(), 700);
    }
    await sleep(200);
  }
}

const roles = { serve, ask, outside };
void roles[process.argv[2]]();
