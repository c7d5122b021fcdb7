/** The feed: what was dropped, by which rule, and why. */

import { createEffect, Show } from "solid-js";
import { DROPS, mainFeed as feed } from "../state/feed";
import { narrow, type Term } from "../state/filtertext";
import { noteFilter, route } from "../state/route";
import { stats } from "../state/stats";
import { FilterBox } from "../ui/FilterBox";
import { count, plural } from "../ui/format";
import { PauseButton } from "../ui/PauseButton";
import { FeedTable } from "./FeedTable";

const PRESETS = [
  { label: "Drops", filter: DROPS },
  { label: "Logged", filter: "class=log" },
  { label: "New flows", filter: "class=new" },
  { label: "Calls refused", filter: "class=call" },
  { label: "NAT", filter: "class=nat" },
  { label: "Everything", filter: "" },
];

export function Events() {
  const apply = (filter: string) => {
    noteFilter("events", filter);
    void feed.refilter(filter);
  };
  createEffect(() => {
    const asked = route().query.get("filter");
    if (asked !== null && asked !== feed.filter()) void feed.refilter(asked);
  });
  const heldBack = () => (stats()?.events ?? []).reduce((sum, e) => sum + e.suppressed, 0);

  return (
    <div class="panel">
      <div class="bar-top">
        <FilterBox
          label="Filter for events"
          placeholder="all events   (e.g. reason=no-syn and src=198.51.100.0/24)"
          value={feed.filter()}
          error={feed.error()}
          presets={PRESETS}
          onApply={apply}
        />
        <span class="tally">
          latest <b class="num">{count(feed.items().length)}</b>
          <Show when={heldBack() > 0}>
            <span title="A flood is sampled so that it can't drown the rest; every packet is counted all the same"> · {plural(heldBack(), "event")} sampled out</span>
          </Show>
        </span>
        <PauseButton paused={feed.paused()} held={feed.held()} what="events" onPause={feed.pause} />
      </div>
      <section class="card grow">
        <FeedTable
          label="Events"
          items={feed.items()}
          empty={feed.filter() === "" ? "No events yet." : "Nothing that matches the filter."}
          onTerm={(term: Term, not: boolean) => apply(narrow(feed.filter(), term, not))}
        />
      </section>
    </div>
  );
}
