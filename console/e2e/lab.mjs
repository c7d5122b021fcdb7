/**
 * A gate to look at: a network namespace with `sluice daemon` between two others, a client's with hosts inside and one that is
 * the world outside. Everything is taken down again, whatever happens.
 *
 *   client0 10.77.0.2, .11-.16, .66 ─── gate0 10.77.0.1 [gate] wan0 203.0.113.1 ─── out0 203.0.113.80
 */

import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

const POLICY = `# What the browser test judges by.
interface lan = gate0
interface wan = wan0
default in drop
default out allow

# Sixteen ports for a host that wants forty: exhausted, and meant to be.
nat few  source      on wan udp from 10.77.0.16 => 203.0.113.9 ports 40000-40015
nat many source      on wan from 10.77.0.12-10.77.0.15 => 203.0.113.10-203.0.113.11
nat out  masquerade  on wan from 10.77.0.0/26
nat shop destination on wan tcp to 203.0.113.1 port 80 => 10.77.0.2 port 8080

set blocked live size 100
set odd live ports = { 65000-65100 }
rule blocked drop   in on wan from @blocked
rule odd     drop   in on wan tcp to port @odd
rule web     allow  in tcp to port { 8080, 8443 }
rule dns     allow  in udp to port 5353
rule pings   allow  in icmp type echo-request
rule pings6  allow  in icmpv6 type echo-request
rule telnet  drop   in tcp to port 23 log
rule finger  reject in tcp to port 79
rule syslog  allow  in udp to port 514 no-track
rule outward allow  in on lan to 203.0.113.0/24
`;

/** Beside Sluice's translations one of netfilter's, for hosts that Sluice leaves alone. */
const NETFILTER = `table ip beside {
  chain post {
    type nat hook postrouting priority srcnat;
    oifname "wan0" ip saddr 10.77.0.64/26 masquerade
  }
}
`;
const INSIDE = ["10.77.0.2/24", "10.77.0.11/24", "10.77.0.12/24", "10.77.0.13/24", "10.77.0.14/24", "10.77.0.15/24", "10.77.0.16/24", "10.77.0.66/24"];
const PORT = 8470;
const START_MS = 30_000;

const names = (dir) => (existsSync(dir) ? readdirSync(dir) : []);

/** Takes away what a run that was killed has left: its name holds its process id. */
function sweep() {
  const dead = (name) => {
    const pid = /^sl-web-(\d+)/.exec(name)?.[1];
    return pid !== undefined && !existsSync(`/proc/${pid}`);
  };
  for (const netns of names("/run/netns").filter(dead)) {
    for (const pid of execFileSync("ip", ["netns", "pids", netns], { encoding: "utf8" }).split("\n").filter(Boolean)) process.kill(Number(pid), "SIGKILL");
    execFileSync("ip", ["netns", "delete", netns]);
  }
  for (const dir of ["/sys/fs/bpf", tmpdir()]) {
    for (const left of names(dir).filter(dead)) rmSync(path.join(dir, left), { recursive: true, force: true });
  }
}

/** Runs the script at `script` inside the gate, with SLUICE_URL and the rest set; gives its exit code. */
export async function withLab(env, script) {
  if (process.getuid?.() !== 0) {
    console.log("SKIP browser: not root, and no SLUICE_URL");
    return 0;
  }
  if (!env.SLUICE_BIN || !existsSync(env.SLUICE_BIN)) throw new Error(`SLUICE_BIN is no file: ${env.SLUICE_BIN}`);
  sweep();
  const name = `sl-web-${process.pid}`;
  const [gate, client, outside] = [`${name}-g`, `${name}-c`, `${name}-o`];
  const [near, far, wan, out] = ["gate0", "client0", "wan0", "out0"];
  const dir = mkdtempSync(path.join(tmpdir(), `${name}-`));
  const pins = `/sys/fs/bpf/${name}`;
  const token = path.join(dir, "state/token");
  const policy = path.join(dir, "policy.sluice");
  const children = [];

  const ip = (...args) => execFileSync("ip", args, { stdio: ["ignore", "ignore", "pipe"] });
  // Not `ip netns exec`: that one hides the BPF file system behind a fresh /sys.
  const start = (netns, program, args, extra = {}, stdio = "ignore") => {
    const child = spawn("nsenter", [`--net=/run/netns/${netns}`, program, ...args], { env: { ...env, ...extra }, stdio });
    children.push(child);
    return child;
  };
  const gone = (child) => new Promise((resolve) => (child.exitCode !== null || child.signalCode !== null ? resolve() : child.once("exit", resolve)));
  const daemonArgs = ["daemon", "--pin-dir", pins, "--socket", path.join(dir, "sluice.sock"), "--state-dir", path.join(dir, "state")];
  // Addresses of one end of a veth pair.
  const address = (netns, dev, fours, six) => {
    for (const four of fours) ip("-n", netns, "addr", "add", four, "dev", dev);
    if (six) ip("-n", netns, "addr", "add", six, "dev", dev, "nodad");
    ip("-n", netns, "link", "set", dev, "up");
    ip("-n", netns, "link", "set", "lo", "up");
  };

  let daemon;
  let code = 1;
  const stop = async () => {
    for (const child of children.toReversed()) {
      if (child === daemon) continue;
      child.kill("SIGTERM");
      await gone(child);
    }
    if (daemon) {
      daemon.kill("SIGTERM");
      await gone(daemon);
      try {
        execFileSync("nsenter", [`--net=/run/netns/${gate}`, env.SLUICE_BIN, ...daemonArgs, "--unload"], { stdio: "ignore", timeout: 30_000 });
      } catch (error) {
        console.log(`  # unload: ${error.message}`);
      }
    }
    for (const netns of [gate, client, outside]) {
      try {
        ip("netns", "delete", netns);
      } catch {
        // Never made.
      }
    }
    rmSync(pins, { recursive: true, force: true });
    rmSync(dir, { recursive: true, force: true });
  };
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => void stop().then(() => process.exit(1)));

  try {
    for (const netns of [gate, client, outside]) ip("netns", "add", netns);
    ip("-n", gate, "link", "add", near, "type", "veth", "peer", "name", far, "netns", client);
    ip("-n", gate, "link", "add", wan, "type", "veth", "peer", "name", out, "netns", outside);
    address(gate, near, ["10.77.0.1/24"], "fd77::1/64");
    address(client, far, INSIDE, "fd77::2/64");
    address(gate, wan, ["203.0.113.1/24"]);
    address(outside, out, ["203.0.113.80/24"]);
    ip("-n", client, "route", "add", "default", "via", "10.77.0.1");
    // The pools' addresses are nobody's own: they are routed to the gate.
    ip("-n", outside, "route", "add", "203.0.113.8/29", "via", "203.0.113.1");
    const inGate = (program, ...args) => execFileSync("nsenter", [`--net=/run/netns/${gate}`, program, ...args], { stdio: ["pipe", "ignore", "pipe"] });
    inGate("sysctl", "-qw", "net.ipv4.ip_forward=1");
    const nft = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"].find(existsSync);
    if (nft) {
      const ruleset = path.join(dir, "beside.nft");
      writeFileSync(ruleset, NETFILTER);
      inGate(nft, "-f", ruleset);
      inGate("sysctl", "-qw", "net.netfilter.nf_conntrack_acct=1", "net.netfilter.nf_conntrack_timestamp=1");
    }
    writeFileSync(policy, POLICY);
    const config = path.join(dir, "sluice.toml");
    writeFileSync(config, "[sockets]\nnames = true\n");

    const log = [];
    daemon = start(gate, env.SLUICE_BIN, [...daemonArgs, "--config", config, "--policy", policy, "--iface", near, "--iface", wan, "--listen", `127.0.0.1:${PORT}`], { RUST_LOG: env.RUST_LOG ?? "info" }, ["ignore", "pipe", "pipe"]);
    for (const stream of [daemon.stdout, daemon.stderr]) stream.on("data", (data) => log.push(String(data)));
    const end = Date.now() + START_MS;
    const answers = () => {
      try {
        execFileSync(env.SLUICE_BIN, ["status", "--json"], { env: { ...env, SLUICE_SOCKET: path.join(dir, "sluice.sock") }, stdio: "ignore", timeout: 5_000 });
        return true;
      } catch {
        return false;
      }
    };
    while (!existsSync(token) || !answers()) {
      if (daemon.exitCode !== null || Date.now() > end) throw new Error(`the daemon does not answer:\n${log.join("")}`);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    const traffic = path.join(path.dirname(script), "traffic.mjs");
    start(gate, process.execPath, [traffic, "serve"]);
    start(client, process.execPath, [traffic, "ask"]);
    start(outside, process.execPath, [traffic, "outside"]);

    const test = start(
      gate,
      process.execPath,
      [script],
      { SLUICE_URL: `http://127.0.0.1:${PORT}`, SLUICE_TOKEN: readFileSync(token, "utf8").trim(), SLUICE_SOCKET: path.join(dir, "sluice.sock"), LAB: nft ? "nat netfilter" : "nat" },
      ["ignore", "inherit", "inherit"],
    );
    await gone(test);
    code = test.exitCode ?? 1;
    if (code !== 0) console.log(`the daemon's last words:\n${log.join("").split("\n").slice(-30).join("\n")}`);
    if (daemon.exitCode !== null) throw new Error(`the daemon ended with ${daemon.exitCode}`);
  } finally {
    await stop();
  }
  return code;
}
