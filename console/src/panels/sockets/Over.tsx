/** One socket over time: what the daemon has kept of it, and what is seen while it is looked at. */

import { Show } from "solid-js";
import * as http from "../../protocol/http";
import type { SocketSampleView } from "../../protocol/types";
import { createPolled } from "../../state/polled";
import { Chart, type Line } from "../../ui/Chart";
import { bytes, count, millis } from "../../ui/format";

/** The daemon samples no more often than each second. */
const EVERY_MS = 1_500;

type Field = "rtt_us" | "retransmits" | "sent_rate" | "received_rate";

export function Over(props: { id: string; tcp: boolean }) {
  const answer = createPolled((signal) => http.socketSamples(props.id, signal), EVERY_MS);
  const rows = (): SocketSampleView[] => answer.value()?.rows ?? [];
  const times = () => rows().map((r) => Date.parse(r.time) / 1000);
  const span = () => Math.max(10, (times().at(-1) ?? 0) - (times()[0] ?? 0));
  const line = (label: string, color: string, field: Field): Line => ({ label, color, values: rows().map((r) => r[field]) });
  return (
    <Show when={rows().length > 2}>
      <div class="socket-over" id="socket-over">
        <Show when={props.tcp}>
          <Chart title="Round trip" times={times()} range={span()} format={millis} lines={[line("smoothed", "--flow", "rtt_us")]} />
          <Show when={rows().some((r) => (r.retransmits ?? 0) > 0)}>
            <Chart title="Segments sent again" times={times()} range={span()} format={count} lines={[line("between two looks", "--drop", "retransmits")]} />
          </Show>
        </Show>
        <Chart title="Bytes a second" times={times()} range={span()} format={bytes} lines={[line("sent", "--pass", "sent_rate"), line("received", "--flow", "received_rate")]} />
      </div>
    </Show>
  );
}
