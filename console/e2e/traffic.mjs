/** Traffic for lab.mjs: `serve` at the gate, `ask` at the client. Bounded in rate and in time. */

import dgram from "node:dgram";
import net from "node:net";
import { spawn } from "node:child_process";

const TEN_MINUTES = 600_000;
const GATES = ["10.77.0.1", "fd77::1"];
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

function connect(host, port) {
  const socket = net.connect({ host, port });
  socket.on("error", () => {});
  socket.on("data", () => {});
  return socket;
}

async function long(host) {
  for (;;) {
    const socket = connect(host, 8443);
    for (let i = 0; i < 200 && !socket.destroyed; i++) {
      socket.write(`${20_000 + Math.round(30_000 * (1 + Math.sin(Date.now() / 4000)))}\n`);
      await sleep(150);
    }
    socket.destroy();
  }
}

async function ask() {
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

if (process.argv[2] === "serve") serve();
else void ask();
