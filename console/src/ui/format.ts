/** Numbers, durations and times as people read them. Pure. */

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** Exact, with thousands separated: `1,234,567`. */
export const count = (n: number): string => grouped.format(n);

const STEPS = ["", "k", "M", "G", "T", "P"];

/** Three digits and a decimal prefix: `12.3 M`. Below 1,000 whole numbers stay whole. */
export function short(n: number, unit = ""): string {
  if (!Number.isFinite(n)) return "–";
  const negative = n < 0;
  let value = Math.abs(n);
  let step = 0;
  // 999.5 would print as 1000: it belongs to the next step.
  while (value >= 999.5 && step < STEPS.length - 1) {
    value /= 1000;
    step += 1;
  }
  const digits = step === 0 ? (Number.isInteger(value) || value >= 99.95 ? 0 : 1) : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  const suffix = `${STEPS[step]}${unit}`;
  return `${negative ? "-" : ""}${value.toFixed(digits)}${suffix === "" ? "" : ` ${suffix}`}`;
}

export const bytes = (n: number): string => short(n, "B");
export const bits = (perSecond: number): string => short(perSecond, "b/s");
export const rate = (perSecond: number): string => short(perSecond, "/s");

/** `0 %`, `<0.1 %`, `4.2 %`, `87 %`. */
export const percent = (n: number): string => (n > 0 && n < 0.1 ? "<0.1 %" : `${n.toFixed(n > 0 && n < 9.95 ? 1 : 0)} %`);

/** `0.4 s`, `12 s`, `3m 07s`, `2h 05m`, `4d 3h`. */
export function duration(ms: number): string {
  if (!Number.isFinite(ms) || ms < 0) return "–";
  if (ms < 9_950) return `${(ms / 1000).toFixed(1)} s`;
  const s = Math.round(ms / 1000);
  if (s < 60) return `${s} s`;
  const two = (n: number) => String(n).padStart(2, "0");
  if (s < 3600) return `${Math.floor(s / 60)}m ${two(s % 60)}s`;
  if (s < 86_400) return `${Math.floor(s / 3600)}h ${two(Math.floor(s / 60) % 60)}m`;
  const hours = Math.floor(s / 3600) % 24;
  return `${Math.floor(s / 86_400)}d${hours === 0 ? "" : ` ${hours}h`}`;
}

/** Microseconds as milliseconds: `<0.01 ms`, `0.04 ms`, `1.2 ms`, `100 ms`. Cut, not rounded, as the command line has them. */
export function millis(us: number): string {
  const cut = (digits: number) => (Math.floor(us / 10 ** (3 - digits)) / 10 ** digits).toFixed(digits);
  return us > 0 && us < 10 ? "<0.01 ms" : `${cut(us < 1_000 ? 2 : us < 100_000 ? 1 : 0)} ms`;
}

/** Time of day, local, to the millisecond where asked. */
export function clock(rfc3339: string | null | undefined, milliseconds = false): string {
  if (!rfc3339) return "–";
  const d = new Date(rfc3339);
  if (Number.isNaN(d.getTime())) return rfc3339;
  const two = (n: number) => String(n).padStart(2, "0");
  const day = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
  return milliseconds ? `${day}.${String(d.getMilliseconds()).padStart(3, "0")}` : day;
}

/** Date and time, local: for tooltips and status. */
export function dateTime(rfc3339: string | null | undefined): string {
  if (!rfc3339) return "–";
  const d = new Date(rfc3339);
  if (Number.isNaN(d.getTime())) return rfc3339;
  const two = (n: number) => String(n).padStart(2, "0");
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${clock(rfc3339)}`;
}

/** `just now`, `12 s ago`; `never` for null. */
export function ago(rfc3339: string | null | undefined, now: number): string {
  if (!rfc3339) return "never";
  const ms = now - Date.parse(rfc3339);
  return ms < 1_500 ? "just now" : `${duration(ms)} ago`;
}

/** `10.0.0.1:443`, `[2001:db8::1]:443`; the port is left out where it is 0. */
export function endpoint(address: string, port: number): string {
  if (port === 0) return address;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** `1 rule`, `2 rules`. */
export const plural = (n: number, one: string, many = `${one}s`): string => `${count(n)} ${n === 1 ? one : many}`;

interface Translated {
  src: string;
  sport: number;
  dst: string;
  dport: number;
  nat?: { src: string; sport: number; dst: string; dport: number } | null;
}

/** What a translation changes: `from 203.0.113.5:40021`, `to 10.0.0.5:8080`, or both; empty where there is none. */
export function natText(flow: Translated): string {
  const { nat } = flow;
  if (!nat) return "";
  const parts = [];
  if (nat.src !== flow.src || nat.sport !== flow.sport) parts.push(`from ${endpoint(nat.src, nat.sport)}`);
  if (nat.dst !== flow.dst || nat.dport !== flow.dport) parts.push(`to ${endpoint(nat.dst, nat.dport)}`);
  // The same on both sides, as one to one and lucky ports can be.
  return parts.length === 0 ? "unchanged" : parts.join(" ");
}

/** The translated end that is worth filtering by. */
export function natTerm(flow: Translated): { field: string; value: string } | null {
  const { nat } = flow;
  if (!nat) return null;
  return nat.src !== flow.src || nat.dst === flow.dst ? { field: "nat_src", value: nat.src } : { field: "nat_dst", value: nat.dst };
}
