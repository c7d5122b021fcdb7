/** What has been: sockets and flows that ended, verdicts and rules by minute, mappings, deeds. Rows, or sums of them. */

import { createEffect, createMemo, createSignal, For, on, Show } from "solid-js";
import * as http from "../protocol/http";
import { ServerError } from "../protocol/messages";
import type { DeedView, FlowView, HistoryAnswer, HistorySumView, NatMappingView, RuleMinuteView, SocketView, VerdictMinuteView } from "../protocol/types";
import { askQuestion, byOf, KINDS, kindTitle, readQuestion, seconds, series, SINCE, TOPS, writeQuestion, type Kind, type Question } from "../state/history";
import { createPolled } from "../state/polled";
import { noteQuery, route } from "../state/route";
import { endText } from "../state/sockets";
import { Chart } from "../ui/Chart";
import { FilterBox } from "../ui/FilterBox";
import { bytes, clock, count, dateTime, duration, endpoint } from "../ui/format";
import { createSort, sortRows, type SortColumn } from "../ui/sorting";
import { Table } from "../ui/Table";
import { Trouble, Waiting } from "../ui/Trouble";

/** Milliseconds between an answer and the next question: what has been changes slowly. */
const EVERY_MS = 10_000;

type Any = Record<string, unknown>;
type Columns = SortColumn<Any>[];

/** The time of day, with the day where that is another. */
function moment(time: string | null | undefined): string {
  if (!time) return "";
  const today = new Date().toDateString() === new Date(time).toDateString();
  return today ? clock(time, true) : dateTime(time);
}

/** A column of rows that are known to be of type `R`. */
function col<R>(key: string, title: string, width: string, text: (r: R) => string, more: Omit<SortColumn<R>, "key" | "title" | "width" | "text"> = {}): SortColumn<Any> {
  return { key, title, width, text, ...more } as unknown as SortColumn<Any>;
}

const when = <R,>(key: string, title: string, of: (r: R) => string | null | undefined) =>
  col<R>(key, title, "minmax(104px, 160px)", (r) => moment(of(r)), { by: (r) => of(r) ?? null, tip: (r) => of(r) ?? "", class: () => "num" });
const number = <R,>(key: string, title: string, of: (r: R) => number | null | undefined, show: (n: number) => string, min = 0) =>
  col<R>(key, title, "84px", (r) => { const n = of(r); return n == null ? "" : show(n); }, { align: "end", by: (r) => of(r) ?? null, class: () => "num", min });
const word = <R,>(key: string, title: string, width: string, of: (r: R) => string | null | undefined, min = 0) =>
  col<R>(key, title, width, (r) => of(r) ?? "", { by: (r) => of(r) ?? null, tip: (r) => of(r) ?? "", min });

const ROWS: Record<Kind, Columns> = {
  sockets: [
    when<SocketView>("closed", "Ended", (s) => s.closed),
    word<SocketView>("proto", "Proto", "60px", (s) => s.proto, 700),
    word<SocketView>("local", "Local", "minmax(110px, 1fr)", (s) => endText(s, s.local, s.local_port), 800),
    word<SocketView>("remote", "Remote", "minmax(110px, 1fr)", (s) => endText(s, s.remote, s.remote_port)),
    word<SocketView>("name", "Name", "minmax(90px, 1fr)", (s) => s.name, 1200),
    word<SocketView>("owner", "Owner", "minmax(90px, 1fr)", (s) => (s.pid === null ? "unknown" : `${s.comm ?? "?"}/${s.pid}`)),
    word<SocketView>("user", "User", "80px", (s) => s.user, 1100),
    word<SocketView>("unit", "Unit", "minmax(80px, 1fr)", (s) => s.container ?? s.unit, 1300),
    number<SocketView>("sent", "Sent", (s) => s.sent_bytes, bytes),
    number<SocketView>("received", "Received", (s) => s.received_bytes, bytes),
    number<SocketView>("lived", "Lived", (s) => s.age_ms, duration, 900),
    word<SocketView>("why", "Why", "90px", (s) => s.ended),
    word<SocketView>("rule", "Rule", "minmax(70px, 1fr)", (s) => s.rule, 500),
  ],
  flows: [
    when<FlowView>("last", "Last packet", (f) => f.last),
    word<FlowView>("proto", "Proto", "60px", (f) => f.proto, 700),
    word<FlowView>("src", "From", "minmax(110px, 1fr)", (f) => endpoint(f.src, f.sport)),
    word<FlowView>("dst", "To", "minmax(110px, 1fr)", (f) => endpoint(f.dst, f.dport)),
    number<FlowView>("bytes", "Bytes", (f) => f.bytes, bytes),
    number<FlowView>("back", "Back", (f) => f.reply_bytes, bytes),
    number<FlowView>("packets", "Packets", (f) => f.packets + f.reply_packets, count, 1000),
    number<FlowView>("lived", "Lived", (f) => f.age_ms, duration, 900),
    word<FlowView>("why", "Why", "100px", (f) => f.ended),
    word<FlowView>("rule", "Rule", "minmax(70px, 1fr)", (f) => f.rule, 500),
  ],
  verdicts: [
    when<VerdictMinuteView>("minute", "Minute", (v) => v.minute),
    word<VerdictMinuteView>("verdict", "Verdict", "90px", (v) => v.verdict),
    word<VerdictMinuteView>("reason", "Reason", "minmax(110px, 1fr)", (v) => v.reason),
    number<VerdictMinuteView>("packets", "Packets", (v) => v.packets, count),
    number<VerdictMinuteView>("bytes", "Bytes", (v) => v.bytes, bytes),
  ],
  rules: [
    when<RuleMinuteView>("minute", "Minute", (r) => r.minute),
    word<RuleMinuteView>("rule", "Rule", "minmax(110px, 1fr)", (r) => r.rule),
    word<RuleMinuteView>("action", "Action", "90px", (r) => r.action),
    number<RuleMinuteView>("hits", "Hits", (r) => r.hits, count),
    number<RuleMinuteView>("packets", "Packets", (r) => r.packets, count),
    number<RuleMinuteView>("bytes", "Bytes", (r) => r.bytes, bytes),
  ],
  nat: [
    when<NatMappingView>("began", "Began", (m) => m.began),
    when<NatMappingView>("last", "Ended", (m) => m.last),
    word<NatMappingView>("proto", "Proto", "60px", (m) => m.proto, 700),
    word<NatMappingView>("inside", "Inside", "minmax(110px, 1fr)", (m) => endpoint(m.inside, m.inside_port)),
    word<NatMappingView>("public", "Public", "minmax(110px, 1fr)", (m) => endpoint(m.public, m.public_port)),
    word<NatMappingView>("remote", "Remote", "minmax(110px, 1fr)", (m) => endpoint(m.remote, m.remote_port), 600),
    word<NatMappingView>("kind", "Kind", "100px", (m) => m.kind, 900),
    number<NatMappingView>("bytes", "Bytes", (m) => (m.bytes ?? 0) + (m.reply_bytes ?? 0), bytes),
    word<NatMappingView>("rule", "Rule", "minmax(70px, 1fr)", (m) => m.rule, 700),
  ],
  audit: [
    when<DeedView>("time", "Time", (d) => d.time),
    word<DeedView>("who", "Who", "minmax(100px, 1fr)", (d) => d.who),
    word<DeedView>("verb", "What", "130px", (d) => d.verb),
    word<DeedView>("outcome", "Outcome", "120px", (d) => d.outcome),
    word<DeedView>("detail", "Detail", "minmax(140px, 4fr)", (d) => d.detail),
  ],
};

const title = (by: string): string => by.charAt(0).toUpperCase() + by.slice(1);

const sums = (by: string): Columns => [
  by === "minute" ? when<HistorySumView>("key", "Minute", (s) => s.key) : word<HistorySumView>("key", title(by), "minmax(140px, 3fr)", (s) => s.key),
  number<HistorySumView>("count", "Count", (s) => s.count, count),
  number<HistorySumView>("bytes", "Bytes", (s) => s.bytes, bytes),
  number<HistorySumView>("back", "Back", (s) => s.reply_bytes, bytes),
  number<HistorySumView>("packets", "Packets", (s) => s.packets + s.reply_packets, count, 700),
  when<HistorySumView>("first", "First", (s) => s.first),
  when<HistorySumView>("last", "Last", (s) => s.last),
];

/** What was asked last outlives the panel. */
let kept: Question | null = null;

interface Got {
  asked: Question;
  answer: HistoryAnswer<Any>;
  minutes: HistoryAnswer<HistorySumView> | null;
  at: number;
}

export function History() {
  const first = route().query.size > 0 || kept === null ? readQuestion(route().query) : kept;
  const [question, setQuestion] = createSignal<Question>(first, { equals: (a, b) => JSON.stringify(a) === JSON.stringify(b) });
  createEffect(on(route, (r) => r.panel === "history" && r.query.size > 0 && setQuestion(readQuestion(r.query)), { defer: true }));
  const change = (next: Partial<Question>) => {
    const q = { ...question(), ...next };
    setQuestion(byOf(q.kind).includes(q.by) ? q : { ...q, by: "" });
  };
  createEffect(() => {
    kept = question();
    noteQuery("history", writeQuestion(question()));
  });

  const polled = createPolled<Got>(async (signal) => {
    const asked = question();
    const [answer, minutes] = await Promise.all([
      http.history<Any>(askQuestion(asked), signal),
      asked.kind === "audit" ? null : http.history<HistorySumView>({ kind: asked.kind, filter: asked.filter, since: asked.since, by: "minute" }, signal),
    ]);
    return { asked, answer, minutes, at: Date.now() / 1000 };
  }, EVERY_MS);
  createEffect(on(question, () => polled.again(), { defer: true }));

  const got = () => {
    const value = polled.value();
    return value !== null && value.asked.kind === question().kind && value.asked.by === question().by ? value : null;
  };
  const cols = createMemo(() => (question().by === "" ? ROWS[question().kind] : sums(question().by)).map((c) => ({ ...c, sortable: c.by !== undefined })));
  // None: as the server has them, the latest or the largest first.
  const [sort, onSort] = createSort<Any>({ key: "", down: true }, []);
  const sorted = (key: string) => onSort(key);
  const rows = createMemo(() => {
    const all = got()?.answer.rows ?? [];
    return cols().some((c) => c.key === sort().key) ? sortRows(all, cols(), sort(), () => 0) : all;
  });
  const chart = createMemo(() => {
    const value = polled.value();
    if (value?.minutes == null) return null;
    const range = seconds(value.asked.since);
    const of = (pick: (s: HistorySumView) => number) => series(value.minutes!.rows.map((s) => ({ key: s.key, value: pick(s) })), value.at, range);
    const moved = of((s) => s.bytes + s.reply_bytes);
    const things = value.asked.kind === "verdicts" || value.asked.kind === "rules" ? of((s) => s.packets) : of((s) => s.count);
    return { times: moved.times, range, bytes: moved.values, things: things.values, what: value.asked.kind };
  });
  const refused = () => (polled.error() instanceof ServerError && (polled.error() as ServerError).code === "bad-filter" ? (polled.error() as ServerError) : null);

  return (
    <div class="panel history">
      <div class="rooms-line">
        <div class="presets" role="group" aria-label="What of the history">
          <For each={KINDS}>
            {(k) => <button type="button" class="preset" aria-pressed={question().kind === k} onClick={() => change({ kind: k, by: "", filter: "" })}>{kindTitle(k)}</button>}
          </For>
        </div>
      </div>
      <div class="bar-top">
        <FilterBox label="Filter the history" placeholder={PLACEHOLDERS[question().kind]} value={question().filter} error={refused()} onApply={(filter) => change({ filter })} />
        <label class="pick">
          <span>since</span>
          <select name="since" onChange={(e) => change({ since: e.currentTarget.value })}>
            <For each={SINCE}>{([word]) => <option value={word} selected={word === question().since}>{word} ago</option>}</For>
          </select>
        </label>
        <label class="pick">
          <span>by</span>
          <select name="by" onChange={(e) => change({ by: e.currentTarget.value })}>
            <option value="" selected={question().by === ""}>nothing: rows</option>
            <For each={byOf(question().kind)}>{(by) => <option value={by} selected={by === question().by}>{by}</option>}</For>
          </select>
        </label>
        <label class="pick">
          <span>at most</span>
          <select name="top" onChange={(e) => change({ top: Number(e.currentTarget.value) })}>
            <For each={TOPS}>{(n) => <option value={n} selected={n === question().top}>{count(n)}</option>}</For>
          </select>
        </label>
        <span class="tally">
          <Show when={got()}>
            {(g) => (
              <>
                <b class="num" id="history-count">{count(g().answer.rows.length)}</b>
                <Show when={g().answer.more}> of {g().answer.total === null ? "more" : count(g().answer.total!)}</Show>
                <Show when={g().answer.whole_since > g().answer.since}>
                  <span class="warn-text" title={`What ended before ${g().answer.whole_since} isn't kept, or was before the history began`}> whole since {moment(g().answer.whole_since)}</span>
                </Show>
              </>
            )}
          </Show>
        </span>
      </div>
      <Show when={refused() === null}><Trouble of={polled} /></Show>
      <Show when={chart()}>
        {(c) => (
          <Chart
            title="A minute"
            times={c().times}
            range={c().range}
            format={(n) => bytes(n)}
            lines={[{ label: c().what === "verdicts" || c().what === "rules" ? "bytes counted" : `bytes of ${c().what} that ended`, color: "--pass", values: c().bytes }]}
          />
        )}
      </Show>
      <section class="card grow">
        <Table
          label={`History of ${question().kind}`}
          columns={cols()}
          rows={rows()}
          sort={sort()}
          onSort={sorted}
          keyOf={(r) => r}
          empty={<Show when={got()} fallback={<Waiting of={polled} />}>Nothing that matches has ended in this time.</Show>}
        />
      </section>
    </div>
  );
}

const PLACEHOLDERS: Record<Kind, string> = {
  sockets: "comm=curl and remote=192.0.2.0/24 …",
  flows: "rule=web and bytes>1M …",
  verdicts: "verdict=drop …",
  rules: "rule=web …",
  nat: "inside=10.0.0.5 …",
  audit: "who~root …",
};
