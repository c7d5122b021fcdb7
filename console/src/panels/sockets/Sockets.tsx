/** The sockets of the machine: who talks to whom, by which program and which rule; and those that have ended, with why. */

import { createEffect, createMemo, createSignal, For, on, Show, untrack } from "solid-js";
import * as http from "../../protocol/http";
import { ServerError } from "../../protocol/messages";
import type { SocketView } from "../../protocol/types";
import { narrow } from "../../state/filtertext";
import { createPolled } from "../../state/polled";
import { noteQuery, route, type Place } from "../../state/route";
import { nextSort, sortOf } from "../../state/socketsort";
import { FilterBox } from "../../ui/FilterBox";
import { count } from "../../ui/format";
import { Hint } from "../../ui/Hint";
import { PauseButton } from "../../ui/PauseButton";
import { Table } from "../../ui/Table";
import { Trouble, Waiting } from "../../ui/Trouble";
import { socketColumns } from "./columns";
import { Details } from "./Details";
import { Rooms } from "./Rooms";

/** Milliseconds between an answer and the next question: the daemon looks at every descriptor for it. */
const EVERY_MS = 2_000;

/** More than this isn't read by anybody, and is narrowed by the filter. */
const LIMIT = 5_000;

const PRESETS = {
  live: [
    { label: "All", filter: "" },
    { label: "Listening", filter: "state=listen" },
    { label: "Connected", filter: "state in (established, connected)" },
    { label: "UDP", filter: "proto=udp" },
  ],
  ended: [
    { label: "All", filter: "" },
    { label: "Failed", filter: "ended!=closed" },
    { label: "Refused", filter: "ended=refused" },
    { label: "Dropped", filter: "ended=dropped" },
  ],
};

interface Asked {
  ended: boolean;
  filter: string;
  sort: string;
}

const place = (ended: boolean): Place => (ended ? "sockets/ended" : "sockets");
const query = ({ filter, sort }: Asked) => ({ filter, sort });

/** What was asked for outlives the panel. */
let kept = { filter: "", sort: "" };

function read(): Asked {
  const { room, query } = route();
  return { ended: room === "ended", filter: query.get("filter") ?? "", sort: query.get("sort") ?? "" };
}

export function Sockets() {
  const first = untrack(read);
  const bare = untrack(() => route().query.size === 0);
  const [asked, setAsked] = createSignal<Asked>(bare ? { ...first, ...kept } : first);
  if (bare) noteQuery(place(first.ended), kept);
  kept = query(untrack(asked));
  const [paused, setPaused] = createSignal(false);
  const [picked, setPicked] = createSignal<SocketView | null>(null);

  const answer = createPolled(
    async (signal) => {
      const { ended, filter, sort } = asked();
      const page = await http.sockets({ filter, limit: LIMIT, sort: sortOf(sort) ? sort : "", ended: String(ended) }, signal);
      // Afterwards: the rows made the daemon look, and the account is of that look. Rows don't wait for a figure that fails.
      const stats = await http.socketStats(signal).catch(() => null);
      return { ended, ...page, stats };
    },
    EVERY_MS,
    () => !paused(),
  );
  const stats = () => (off() ? null : (answer.value()?.stats ?? null));
  createEffect(on([asked, paused], () => answer.again(), { defer: true }));

  /** Whoever asks for something else wants to see it. */
  const take = (next: Asked) => {
    kept = query(next);
    setPaused(false);
    setAsked(next);
  };
  const apply = (some: Partial<Asked>) => {
    const next = { ...asked(), ...some };
    noteQuery(place(next.ended), query(next));
    take(next);
  };
  // Links and the back button change the address; this follows.
  createEffect(on(route, (r) => {
    const [now, next] = [untrack(asked), read()];
    if (r.panel === "sockets" && r.room !== "summary" && r.room !== "names" && (now.ended !== next.ended || now.filter !== next.filter || now.sort !== next.sort)) take(next);
  }, { defer: true }));

  const ended = createMemo(() => asked().ended);
  /** The rows of the room that is open; those of the other one say nothing here. */
  const page = () => (answer.value()?.ended === ended() ? answer.value() : null);
  const rows = () => page()?.rows ?? [];
  const error = (code: string) => {
    const e = answer.error();
    return e instanceof ServerError && e.code === code ? e : null;
  };
  const off = () => error("sockets-off");
  // Names are an option: no room for them where nobody has one.
  const named = createMemo(() => rows().some((r) => r.name));
  const columns = createMemo(() => socketColumns(ended(), named(), setPicked));
  const shown = createMemo(() => {
    const before = picked();
    const now = before && rows().find((r) => r.id === before.id);
    return before && { row: now ?? before, there: now !== undefined };
  });
  // What was known last stays in the window when the socket has gone.
  createEffect(() => shown()?.there && setPicked(shown()!.row));

  return (
    <div class="panel">
      <Rooms stats={stats()} filter={asked().filter} />
      <div class="bar-top">
        <FilterBox
          label="Filter for sockets"
          placeholder="all sockets   (e.g. comm=nginx and state=established and rtt > 10k)"
          value={asked().filter}
          error={error("bad-filter")}
          presets={ended() ? PRESETS.ended : PRESETS.live}
          onApply={(filter) => apply({ filter })}
        />
        <span class="tally">
          <Show when={page()}>
            {(p) => (
              <>
                <b class="num" id="socket-count">{count(p().rows.length)}</b>
                <Show when={p().total > p().rows.length} fallback={<> {p().total === 1 ? "socket" : "sockets"}</>}> of <b class="num">{count(p().total)}</b>: the filter narrows them</Show>
              </>
            )}
          </Show>
        </span>
        <PauseButton paused={paused()} held={0} what="changes" onPause={setPaused} />
      </div>
      <Show when={!error("bad-filter")}><Trouble of={answer} /></Show>
      <For each={page()?.limits ?? []}>{(limit) => <p class="note">{limit}</p>}</For>
      <section class="card grow">
        <Table
          label={ended() ? "Sockets that have ended" : "Sockets"}
          columns={columns()}
          rows={rows()}
          {...(sortOf(asked().sort) ? { sort: sortOf(asked().sort)! } : {})}
          onSort={(key) => apply({ sort: nextSort(asked().sort, key) })}
          onTerm={(t, not) => apply({ filter: narrow(asked().filter, t, not) })}
          keyOf={(r) => r.id}
          rowClass={(r) => (r.note === null ? "" : "noted")}
          empty={
            <Show when={page()} fallback={<Show when={off()} fallback={error("bad-filter") ? "The filter can't be read." : <Waiting of={answer} />}>{(e) => <Off why={e().message} />}</Show>}>
              <Show when={asked().filter === ""} fallback="No socket matches the filter.">
                {ended() ? "No socket has ended since the daemon began to look." : "No sockets: no program has one open."}
              </Show>
            </Show>
          }
        />
      </section>
      <Show when={picked()}>
        <Details
          of={shown()!.row}
          there={shown()!.there}
          onTerm={(t) => {
            setPicked(null);
            apply({ filter: narrow(asked().filter, t) });
          }}
          onClose={() => setPicked(null)}
        />
      </Show>
    </div>
  );
}


function Off(props: { why: string }) {
  return (
    <Hint title="Sockets aren't followed." {...(props.why.includes("[sockets]") ? { policy: "[sockets]\nenabled = true" } : {})}>
      {props.why.includes("[sockets]") ? "The daemon's configuration has them turned off. This turns them on:" : props.why.replace(/^sockets aren't followed: */, "")}
    </Hint>
  );
}
