/** The columns of sockets. Keys are the server's words where it can sort by them. */

import { Show } from "solid-js";
import type { SocketView } from "../../protocol/types";
import { quote, type Term } from "../../state/filtertext";
import { href } from "../../state/route";
import { endText, failed, localTerm, nameText, ownerTerm, processText, remoteTerm, ruleTerm, socketNatText } from "../../state/sockets";
import { sortable } from "../../state/socketsort";
import { bytes, clock, count, dateTime, duration, endpoint, millis, natTerm, short } from "../../ui/format";
import { confidenceWords, endWords, madeUnseen, nameWords, noteMark, stateWords } from "../../ui/socketwords";
import type { Column } from "../../ui/Table";

type Socket = SocketView;

const speed = (perSecond: number): string => (perSecond === 0 ? "" : short(perSecond, "B/s"));
const local = (s: Socket) => endText(s, s.local, s.local_port);
const remote = (s: Socket) => endText(s, s.remote, s.remote_port);
const user = (s: Socket) => processText(s.user_pid, s.user_comm);

/** Who made it, how sure that is, and who uses it. What is known besides is told by the pointer. */
function ownerTip(s: Socket): string {
  return [
    `${processText(s.pid, s.comm) ?? "owner unknown"}, ${s.user ?? `uid ${s.uid}`}`,
    `${s.confidence}: ${confidenceWords(s.confidence)}`,
    s.owner_exited && `ended ${dateTime(s.owner_exited)}`,
    user(s) && `used last by ${user(s)}`,
    s.unit && `unit ${s.unit}`,
    s.container && `container ${s.container}`,
    (s.cmdline ?? s.exe) && nameText(s.cmdline ?? s.exe ?? null),
  ].filter(Boolean).join("\n");
}

/** A telephone has room for the name, and for the port at the local end: the rest is in the details. */
function Owner(props: { of: Socket }) {
  return (
    <Show when={props.of.pid !== null} fallback={<span class="dim">unknown</span>}>
      {nameText(props.of.comm)}<span class="roomy">/{props.of.pid}</span>
      <Show when={props.of.confidence === "held"}><span class="held">~</span></Show>
      <Show when={props.of.owner_exited && props.of.ended === null}><span class="dim"> exited</span></Show>
      <Show when={user(props.of)}><span class="dim"> → {user(props.of)}</span></Show>
    </Show>
  );
}

/** Where there is no room for both the address is cut, not the port. */
function End(props: { text: string; port: number; class?: string }) {
  const port = () => (props.port !== 0 && props.text !== "" ? `:${props.port}` : "");
  return (
    <span class={`end-text ${props.class ?? ""}`}>
      <span class="address">{props.text.slice(0, props.text.length - port().length)}</span>
      <span>{port()}</span>
    </span>
  );
}

/** What is beside the filter has no far end, as a rule: its mark stands there. */
function Remote(props: { of: Socket }) {
  const far = () => <End text={remote(props.of)} port={props.of.remote_port} />;
  return (
    <Show when={props.of.note} fallback={far()}>
      <span class="tag mark warn">{noteMark(props.of.proto)}</span>
      <Show when={remoteTerm(props.of)}>{remote(props.of)}</Show>
    </Show>
  );
}

function nameTip(s: Socket): string {
  return s.name ? `${s.name}: ${nameWords(s.name_source ?? null, s.other_names ?? 0)}` : "";
}

function ruleText(s: Socket): string {
  return s.rule ?? (s.own_netns ? "" : "other netns");
}

function ruleTip(s: Socket): string {
  if (s.rule !== null) return s.ended === "dropped" ? `refused by ${s.rule}` : `its flow was let in by ${s.rule}`;
  return s.own_netns ? "none of its packets made a flow that lives" : `of network namespace ${s.netns}, another than the daemon's: the filter sees its packets only as they pass through`;
}

const term = (field: string, value: (s: Socket) => string | null) => (s: Socket): Term | null => {
  const v = value(s);
  return v === null || v === "" ? null : { field, value: v };
};

const WHAT: Column<Socket>[] = [
  { key: "proto", title: "Proto", width: "minmax(44px, 66px)", text: (s) => s.proto, term: term("proto", (s) => s.proto) },
  { key: "state", title: "State", width: "104px", min: 560, text: (s) => s.state, tip: (s) => `${s.state}: ${stateWords(s.state)}`, term: term("state", (s) => s.state), class: (s) => (s.state === "listen" || s.state === "unconnected" ? "dim" : "") },
];
const LOCAL: Column<Socket> = { key: "local_port", title: "Local", hint: "Sorted by port", width: "minmax(58px, 1fr)", cell: (s) => <End text={local(s())} port={s().local_port} class={s().local_port === 0 ? "" : "mine"} />, tip: local, term: localTerm, class: () => "num" };
const REMOTE: Column<Socket> = { key: "remote", title: "Remote", width: "minmax(134px, 1fr)", cell: (s) => <Remote of={s()} />, tip: (s) => s.note ?? remote(s), term: remoteTerm, class: (s) => (remoteTerm(s) ? "num" : "num dim") };
const OWNER: Column<Socket> = {
    key: "comm", title: "Owner", hint: "Who made it; ~ where it was found holding an older one; behind an arrow who uses it, where that is another", width: "minmax(68px, 1.1fr)",
    cell: (s) => <Owner of={s()} />, tip: ownerTip, term: ownerTerm, class: () => "strong",
};
const CARRIED: Column<Socket>[] = [
  { key: "sent_bytes", title: "Sent", hint: "Bytes; TCP: acknowledged by the other end", width: "76px", align: "end", min: 860, text: (s) => bytes(s.sent_bytes), tip: (s) => `${count(s.sent_bytes)} B in ${count(s.sends)} calls`, class: () => "num" },
  { key: "received_bytes", title: "Received", hint: "Bytes", width: "78px", align: "end", min: 860, text: (s) => bytes(s.received_bytes), tip: (s) => `${count(s.received_bytes)} B in ${count(s.receives)} calls`, class: () => "num" },
];
const RATES: Column<Socket>[] = [
  { key: "sent_rate", title: "Out", hint: "Bytes sent a second", width: "82px", align: "end", min: 960, text: (s) => speed(s.sent_rate), class: () => "num strong" },
  { key: "received_rate", title: "In", hint: "Bytes received a second", width: "82px", align: "end", min: 960, text: (s) => speed(s.received_rate), class: () => "num strong" },
];
const TCP: Column<Socket>[] = [
  { key: "rtt", title: "RTT", hint: "TCP: smoothed round trip", width: "72px", align: "end", min: 1100, text: (s) => (s.rtt_us === null ? "" : millis(s.rtt_us)), class: () => "num dim" },
  { key: "retransmits", title: "Resent", hint: "TCP: segments sent again", width: "62px", align: "end", min: 1100, text: (s) => (s.retransmits === 0 ? "" : short(s.retransmits)), tip: (s) => `${count(s.retransmits)} of ${count(s.segments_out)} segments were sent again`, class: (s) => (s.retransmits > 0 ? "num warn-text" : "num") },
];
const AGE: Column<Socket> = {
  key: "age", title: "Age", width: "66px", align: "end", min: 1300, text: (s) => (s.age_ms === null ? "" : duration(s.age_ms)),
  tip: (s) => (s.created === null ? madeUnseen(s) : `made ${dateTime(s.created)}`), class: () => "num dim",
};
const RULE: Column<Socket>[] = [
  {
    key: "rule", title: "Rule", hint: "The rule that let its flow in, or refused it", width: "minmax(98px, 0.6fr)", min: 640, text: ruleText, term: ruleTerm,
    tip: ruleTip,
    class: (s) => (s.rule === null ? "dim" : s.ended === "dropped" ? "verdict drop" : ""),
  },
  {
    key: "nat", title: "NAT", hint: "How its flow goes out, where it is translated", width: "minmax(100px, 0.8fr)", min: 1500, text: socketNatText, class: () => "num",
    tip: (s) => (s.nat ? `goes out from ${endpoint(s.nat.src, s.nat.sport)} to ${endpoint(s.nat.dst, s.nat.dport)}, translated by ${s.nat.rule}` : ""),
    term: (s) => (s.nat ? natTerm({ src: s.local, sport: s.local_port, dst: s.remote, dport: s.remote_port, nat: s.nat }) : null),
  },
];
const ENDED: Column<Socket>[] = [
  { key: "closed", title: "Ended", hint: "The latest comes first, unless another column is chosen", width: "minmax(66px, 76px)", min: 480, text: (s) => clock(s.closed), tip: (s) => dateTime(s.closed), class: () => "num dim" },
  { key: "ended", title: "Why", width: "minmax(86px, 92px)", text: (s) => s.ended ?? "", tip: (s) => (s.ended === null ? "" : `${s.ended}: ${endWords(s.ended)}`), term: term("ended", (s) => s.ended), class: (s) => (failed(s) ? "warn-text" : "dim") },
];

const NAME: Column<Socket> = {
  key: "name", title: "Name", hint: "What the far end was called when the socket began, as it was seen on the wire", width: "minmax(112px, 1fr)", min: 760,
  text: (s) => s.name ?? "", tip: nameTip, term: term("name", (s) => s.name ?? null), class: () => "",
};

/** Where its flow and its rule are to be seen. */
const SEE: Column<Socket> = {
  key: "see", title: "", width: "88px", min: 1000,
  cell: (s) => (
    <span class="links">
      <Show when={s().flow} fallback={<span class="no-flow" />}>
        {(flow) => <a class="jump" href={href("flows", { filter: `id=${quote(flow())}` })} title="Its flow, if it still lives" tabindex="-1">flow</a>}
      </Show>
      <Show when={s().rule}>{(rule) => <a class="jump" href={href("rules", { rule: rule() })} title={`Go to rule ${rule()}`} tabindex="-1">rule</a>}</Show>
    </span>
  ),
};

/** `open` shows everything about one. */
export function socketColumns(ended: boolean, named: boolean, open: (s: Socket) => void): Column<Socket>[] {
  const more: Column<Socket> = {
    key: "more", title: "", width: "62px",
    cell: (s) => (
      <span class="row-actions">
        <button type="button" class="act" tabindex="-1" aria-label={`Details of ${s().proto} ${local(s())} of ${processText(s().pid, s().comm) ?? "nobody known"}`} onClick={() => open(s())}>More</button>
      </span>
    ),
  };
  // Of those that have ended the state says little, and a telephone has no room for both ends and the reason.
  const narrower: Record<string, Partial<Column<Socket>>> = { state: { min: 1200 }, local_port: { min: 480 }, remote: { width: "minmax(112px, 1fr)" } };
  const ends = [...WHAT, LOCAL, REMOTE, ...(named ? [NAME] : []), OWNER];
  const columns = ended
    ? [...ends.map((c) => ({ ...c, ...narrower[c.key] })), ...ENDED, ...CARRIED, ...TCP, ...RULE, SEE, more]
    : [...ends, ...CARRIED, ...RATES, ...TCP, AGE, ...RULE, SEE, more];
  return columns.map((c) => ({ ...c, sortable: sortable(c.key) }));
}
