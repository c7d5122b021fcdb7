/** Who was behind a public address and port at a time: the question of every abuse report. */

import { createEffect, createSignal, For, on, onMount, Show, untrack } from "solid-js";
import * as http from "../../protocol/http";
import type { NatBindingView, NatWhoView } from "../../protocol/types";
import { parseEndpoint } from "../../state/endpoint";
import { go, href, route } from "../../state/route";
import { status } from "../../state/status";
import { bytes, count, dateTime, duration, endpoint, plural } from "../../ui/format";
import { Hint } from "../../ui/Hint";
import { kindWords } from "../../ui/words";

const PROTOS = ["", "tcp", "udp", "icmp"];
const TIMES = ["now", "1m ago", "10m ago", "1h ago", "1d ago"];
const LIMIT = 200;

/** What was asked last outlives the panel. */
let kept: Record<string, string> = {};

export function Who() {
  const [whom, setWhom] = createSignal("");
  const [proto, setProto] = createSignal("");
  const [at, setAt] = createSignal("");
  const [busy, setBusy] = createSignal(false);
  const [problem, setProblem] = createSignal<string | null>(null);
  const [answer, setAnswer] = createSignal<NatWhoView | null>(null);
  let input!: HTMLInputElement;
  let flight: AbortController | null = null;

  const ask = async () => {
    flight?.abort();
    const mine = new AbortController();
    flight = mine;
    setProblem(null);
    setBusy(true);
    try {
      const { address, port } = parseEndpoint(whom());
      const next = await http.natWho(
        { address, ...(port === null ? {} : { port }), ...(proto() === "" ? {} : { proto: proto() }), ...(at().trim() === "" ? {} : { at: at().trim() }), limit: LIMIT },
        mine.signal,
      );
      if (flight === mine) setAnswer(next);
    } catch (error) {
      if (flight !== mine) return;
      setAnswer(null);
      setProblem(error instanceof Error ? error.message : String(error));
    } finally {
      if (flight === mine) setBusy(false);
    }
  };

  // The question stands in the address: it can be sent to somebody, and back and forward work.
  createEffect(on(route, (r) => {
    if (r.panel !== "nat" || r.room !== "who") return;
    const asked = Object.fromEntries(r.query);
    const query = asked["of"] === undefined ? kept : asked;
    kept = query;
    setWhom(query["of"] ?? "");
    setProto(query["proto"] ?? "");
    setAt(query["at"] ?? "");
    if (query["of"] !== undefined) untrack(() => void ask());
  }));
  onMount(() => untrack(whom) === "" && input.focus());

  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const query = { of: whom().trim(), ...(proto() === "" ? {} : { proto: proto() }), ...(at().trim() === "" ? {} : { at: at().trim() }) };
    kept = query;
    // The same question once more is no new address.
    if (href("nat/who", query) === location.hash) void ask();
    else go("nat/who", query);
  };

  return (
    <>
      <form class="who card" onSubmit={submit}>
        <label>
          <span>Public address and port</span>
          <input ref={input} class="filter-input" name="of" value={whom()} placeholder="203.0.113.5:40021" spellcheck={false} autocomplete="off" onInput={(e) => setWhom(e.currentTarget.value)} />
        </label>
        <label>
          <span>Protocol</span>
          <select name="proto" onChange={(e) => setProto(e.currentTarget.value)}>
            <For each={PROTOS}>{(p) => <option value={p} selected={p === proto()}>{p === "" ? "any" : p}</option>}</For>
          </select>
        </label>
        <label>
          <span>Time</span>
          <input class="filter-input" name="at" list="who-times" value={at()} placeholder="now" spellcheck={false} autocomplete="off" onInput={(e) => setAt(e.currentTarget.value)} />
          <datalist id="who-times"><For each={TIMES}>{(t) => <option value={t} />}</For></datalist>
        </label>
        <button type="submit" class="primary">{busy() ? "One moment" : "Who was it?"}</button>
        <p class="note">
          Without a port, any of the address is meant. Times are such as <code>2026-11-22T10:00:00Z</code>, <code>2026-11-22T11:00:00+01:00</code> or <code>10m ago</code>. Answers
          are in your local time; the pointer over one shows UTC.
        </p>
      </form>
      <Show when={problem()}>{(text) => <p class="problem" role="alert">{text()}</p>}</Show>
      <section class="card grow answers" aria-live="polite">
        <Show when={answer()} fallback={<Blank problem={problem() !== null} />}>{(a) => <Answer of={a()} />}</Show>
      </section>
    </>
  );
}

function Blank(props: { problem: boolean }) {
  const history = () => status()?.history ?? null;
  return (
    <Show when={!props.problem}>
      <Show
        when={status() === null || history() !== null}
        fallback={<Hint title="No history is kept." policy={"[history]\nenabled = true"}>Who had a port is known while the mapping lives, and afterwards from the history. This in the daemon's configuration keeps one:</Hint>}
      >
        <Hint title="Ask for a public address and port, and the time in the foreign log.">
          <Show when={history()}>
            {(h) => <>The history has been written {plural(h().written, "record")} since the daemon started, and keeps them for {duration(h().max_age_ms)}.</>}
          </Show>
        </Hint>
      </Show>
    </Show>
  );
}

function Answer(props: { of: NatWhoView }) {
  const asked = () => `${endpoint(props.of.address, props.of.port ?? 0)}${props.of.proto === null ? "" : `, ${props.of.proto},`} at ${dateTime(props.of.at)}`;
  const hosts = () => new Set([...props.of.bindings.map((b) => b.host), ...props.of.blocks.map((b) => b.host)]).size;
  return (
    <>
      <header class="card-head">
        <h2 title={props.of.at}>{asked()}</h2>
        <span class="dim">{hosts() === 0 ? "nobody is known" : `${plural(hosts(), "host")}, ${plural(props.of.bindings.length, "mapping")}`}</span>
      </header>
      <Show when={props.of.at < props.of.since}>
        <p class="warning" role="status">The history is whole from {dateTime(props.of.since)} on only: of the time you ask for something has been forgotten.</p>
      </Show>
      <For each={props.of.blocks}>
        {(b) => (
          <article class="answer">
            <a class="host num" href={href("nat/mappings", { filter: `inside=${b.host}` })}>{b.host}</a>
            <span class="tag">block</span>
            <span>ports <b class="num">{b.port_first}–{b.port_last}</b> of <span class="num">{b.address}</span> are this host's by arithmetic, by <code>{b.rule}</code></span>
            <span class="dim" title={`${b.start} to ${b.end ?? "now"}`}>since {dateTime(b.start)}{b.end === null ? "" : ` until ${dateTime(b.end)}`}</span>
          </article>
        )}
      </For>
      <For each={props.of.bindings} fallback={<Show when={props.of.blocks.length === 0}><Hint title="Nobody is known to have had it then.">Ask with the time of the foreign log and its port; where its clock may be off, ask for the moments around it, too.</Hint></Show>}>
        {(b) => <Binding of={b} />}
      </For>
      <Show when={props.of.more}><p class="note more">There are more than {count(LIMIT)}. Ask with a port, or with a protocol.</p></Show>
    </>
  );
}

function Binding(props: { of: NatBindingView }) {
  const b = () => props.of;
  const lived = () => (b().end === null ? null : Date.parse(b().end!) - Date.parse(b().start));
  return (
    <article class="answer">
      <a class="host num" href={href("nat/mappings", { filter: `inside=${b().host}` })} title="Its mappings that live now">{b().host}</a>
      <span class="tag" classList={{ netfilter: b().origin !== "sluice" }} title={b().origin === "sluice" ? kindWords(b().kind) : `${kindWords(b().kind)}; by the kernel's own netfilter, not by Sluice`}>
        {b().origin === "sluice" ? b().kind : `${b().origin}: ${b().kind}`}
      </span>
      <span class="path num">
        <span class="dim">{b().proto}</span> {endpoint(b().src, b().sport)} → {endpoint(b().dst, b().dport)}
        <span class="dim"> goes out as </span>{endpoint(b().to_src, b().to_sport)} → {endpoint(b().to_dst, b().to_dport)}
      </span>
      <span class="dim" title={`${b().start} to ${b().end ?? "now"}`}>
        {dateTime(b().start)}
        <Show when={lived() !== null} fallback={<>, <b class="lives">lives</b></>}> for {duration(lived()!)}, ended: {b().ended ?? "unknown"}</Show>
        <Show when={b().rule !== ""}>, by <code>{b().rule}</code></Show>
      </span>
      <span class="num totals" title={`${count(b().bytes)} B sent, ${count(b().reply_bytes)} B back; ${count(b().packets)} and ${count(b().reply_packets)} packets`}>
        {bytes(b().bytes)} sent, {bytes(b().reply_bytes)} back
      </span>
    </article>
  );
}
