/** Everything that is known of one socket. */

import { For, Show, type JSX } from "solid-js";
import type { SocketView } from "../../protocol/types";
import { termText, type Term } from "../../state/filtertext";
import { href } from "../../state/route";
import { between, endText, failed, nameText, ownerTerm, processText } from "../../state/sockets";
import { Dialog } from "../../ui/Dialog";
import { bytes, count, dateTime, duration, endpoint, millis, plural, short } from "../../ui/format";
import { confidenceWords, endWords, madeUnseen, nameWords, stateWords } from "../../ui/socketwords";
import { Attributes } from "./Attributes";
import { Kill } from "./Kill";
import { Learn } from "./Learn";
import { Over } from "./Over";

interface Props {
  of: SocketView;
  /** Whether it was in the last answer. */
  there: boolean;
  onTerm(term: Term): void;
  onClose(): void;
}

/** What a daemon may know of the owner besides its name; a field that doesn't come isn't shown. */
const BESIDES: [string, "cmdline" | "exe" | "unit" | "container"][] = [
  ["command", "cmdline"],
  ["program", "exe"],
  ["unit", "unit"],
  ["container", "container"],
];

export function Details(props: Props) {
  const s = () => props.of;
  const lived = () => between(s().created, s().closed);
  const tcp = () => s().proto === "tcp" || s().proto === "mptcp";
  const live = () => s().ended === null;

  const Fact = (fact: { name: string; children: JSX.Element }) => (<><dt>{fact.name}</dt><dd>{fact.children}</dd></>);
  /** A value that filters by itself. */
  const By = (by: { term: Term; children: JSX.Element }) => (
    <button type="button" class="by" title={`Filter by ${termText(by.term)}`} onClick={() => props.onTerm(by.term)}>{by.children}</button>
  );

  return (
    <Dialog title={`${s().proto} socket, ${s().state}`} onClose={props.onClose}>
      <Show when={!props.there}><p class="warning" role="status">It isn't in the list any more: it has {live() ? "ended, or" : "made room for later ones, or"} the filter leaves it out. This is what was known last.</p></Show>
      <Show when={s().note}>{(note) => <p class="warning"><b>Beside the filter:</b> this socket {note()}.</p>}</Show>
      <dl class="facts socket-facts">
        <Fact name="state"><By term={{ field: "state", value: s().state }}>{s().state}</By><span class="dim">: {stateWords(s().state)}</span></Fact>
        <Show when={s().ended}>
          {(why) => (
            <Fact name="ended">
              {dateTime(s().closed)}, <span classList={{ "warn-text": failed(s()) }}><By term={{ field: "ended", value: why() }}>{why()}</By></span><span class="dim">: {endWords(why())}</span>
            </Fact>
          )}
        </Show>
        <Show when={s().family !== 0}>
          <Fact name="local"><span class="num">{endText(s(), s().local, s().local_port)}</span></Fact>
          <Fact name="remote"><span class="num">{endText(s(), s().remote, s().remote_port)}</span></Fact>
        </Show>
        <Show when={s().name}>
          {(name) => <Fact name="name"><By term={{ field: "name", value: name() }}>{name()}</By><span class="dim">: {nameWords(s().name_source ?? null, s().other_names ?? 0)}</span></Fact>}
        </Show>
        <Fact name="owner">
          <By term={ownerTerm(s())}>{s().pid === null ? "unknown" : nameText(s().comm)}</By>
          <Show when={s().pid}>{(pid) => <>/<By term={{ field: "pid", value: pid() }}>{pid()}</By></>}</Show>{" "}
          <span class="dim" id="socket-confidence">{confidenceWords(s().confidence)}</span>
        </Fact>
        <Show when={s().owner_exited}>{(at) => <Fact name="owner exited"><span id="socket-owner-exited">{dateTime(at())}</span> <span class="dim">{live() ? "the socket lives on" : "before the socket ended"}</span></Fact>}</Show>
        <For each={BESIDES}>{([name, field]) => <Show when={s()[field]}>{(text) => <Fact name={name}><By term={{ field, value: text() }}>{nameText(text())}</By></Fact>}</Show>}</For>
        <Fact name="user">
          <Show when={s().user}>{(name) => <><By term={{ field: "user", value: name() }}>{name()}</By>, </>}</Show>
          <By term={{ field: "uid", value: s().uid }}>{s().user ? "the socket's " : ""}uid {s().uid}</By>
        </Fact>
        <Show when={processText(s().user_pid, s().user_comm)}>{(name) => <Fact name="used by">{name()} <span class="dim">sent or received last</span></Fact>}</Show>
        <Show when={live()}>
          <Fact name="held by">
            <For each={s().holders} fallback={<span class="dim">no process: the kernel's own, or waiting to be accepted</span>}>
              {(h, i) => <>{i() === 0 ? "" : ", "}{processText(h.pid, h.comm)} <span class="dim">as descriptor {h.descriptor}</span></>}
            </For>
          </Fact>
        </Show>
        <Fact name="made">
          <Show when={s().created} fallback={<span class="dim">{madeUnseen(s())}</span>}>
            {(at) => <>{dateTime(at())}<span class="dim">{lived() !== null ? `, lived ${duration(lived()!)}` : s().age_ms === null ? "" : `, ${duration(s().age_ms!)} ago`}</span></>}
          </Show>
        </Fact>
        <Show when={live() && s().idle_ms !== null}><Fact name="idle">{duration(s().idle_ms!)} <span class="dim">since it sent or received last</span></Fact></Show>
        <Show when={s().connect_us !== null}><Fact name="handshake"><span class="num">{millis(s().connect_us!)}</span></Fact></Show>
        <Fact name="sent"><Carried bytes={s().sent_bytes} calls={s().sends} segments={tcp() ? s().segments_out : null} rate={live() ? s().sent_rate : 0} /></Fact>
        <Fact name="received"><Carried bytes={s().received_bytes} calls={s().receives} segments={tcp() ? s().segments_in : null} rate={live() ? s().received_rate : 0} /></Fact>
        <Show when={tcp()}>
          <Fact name="round trip"><span class="num">{s().rtt_us === null ? "–" : millis(s().rtt_us!)}</span></Fact>
          <Fact name="sent again"><span class="num" classList={{ "warn-text": s().retransmits > 0 }}>{plural(s().retransmits, "segment")}</span></Fact>
        </Show>
        <Show when={(s().drops ?? 0) > 0}><Fact name="dropped"><span class="num warn-text">{plural(s().drops ?? 0, "packet")}</span> <span class="dim">by the stack, the last for {s().drop_reason}</span></Fact></Show>
        <Fact name="namespace">
          <By term={{ field: "netns", value: s().netns }}>{s().netns}</By>{" "}
          <span class="dim">{s().own_netns ? `the daemon's own${s().note === null ? ": the filter sees its packets" : ""}` : "another than the daemon's: the filter sees its packets only as they pass through"}</span>
        </Fact>
        <Show when={s().rule}>{(rule) => <Fact name="rule"><a href={href("rules", { rule: rule() })}>{rule()}</a> <span class="dim">{s().ended === "dropped" ? "refused it" : "let its flow in"}</span></Fact>}</Show>
        <Show when={s().flow}>{(flow) => <Fact name="flow"><a class="num" href={href("flows", { filter: `id=${flow()}` })}>{flow()}</a></Fact>}</Show>
        <Show when={s().nat}>
          {(nat) => <Fact name="translated"><span class="num">from {endpoint(nat().src, nat().sport)} to {endpoint(nat().dst, nat().dport)}</span> <span class="dim">by {nat().rule}, {nat().kind}</span></Fact>}
        </Show>
        <Fact name="id"><span class="num dim">{s().id}</span></Fact>
      </dl>
      <Over id={s().id} tcp={tcp()} />
      <Attributes id={s().id} />
      <Show when={s().own_netns && s().family !== 0}><Learn of={s()} /></Show>
      <Show when={live() && s().family !== 0}><Kill of={s()} /></Show>
    </Dialog>
  );
}

function Carried(props: { bytes: number; calls: number; segments: number | null; rate: number }) {
  return (
    <>
      <span class="num" title={`${count(props.bytes)} B`}>{bytes(props.bytes)}</span>
      <span class="dim"> in {plural(props.calls, "call")}{props.segments === null ? "" : `, ${plural(props.segments, "segment")}`}</span>
      <Show when={props.rate > 0}>, <span class="num">{short(props.rate, "B/s")}</span> now</Show>
    </>
  );
}
