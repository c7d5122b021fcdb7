/** Lines over time. uPlot draws; this keeps its size, colours and data current. */

import { createEffect, createSignal, For, Index, on, onCleanup, onMount } from "solid-js";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

export interface Line {
  label: string;
  /** Name of a CSS custom property with the colour. */
  color: string;
  values: (number | null)[];
}

interface Props {
  title: string;
  /** Unix seconds. */
  times: number[];
  /** One strip each, with a scale of its own: beside what passes, what is dropped would be a line along the floor. */
  lines: Line[];
  /** Seconds shown. */
  range: number;
  format(value: number): string;
}

const SYNC = uPlot.sync("sluice");
const dark = window.matchMedia("(prefers-color-scheme: dark)");

const css = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Round tops of a scale, and into how many round parts each can be cut. */
const TOPS: [top: number, parts: number][] = [[1, 5], [1.5, 3], [2, 4], [3, 3], [4, 4], [5, 5], [8, 4], [10, 5], [15, 3]];

/** The top of a scale that holds `max` with a little air. */
function scale(max: number): [top: number, parts: number] {
  if (max <= 0) return [1, 5];
  const power = 10 ** Math.floor(Math.log10(max));
  const [top, parts] = TOPS.find(([t]) => t * power >= max * 1.05) ?? [15, 3];
  return [top * power, parts];
}

/** Where the scale is labelled: both ends, and as much between them as there is room for. */
function ticks(top: number, height: number): number[] {
  const parts = height < 55 ? 1 : height < 110 ? 2 : scale(top / 1.06)[1];
  return Array.from({ length: parts + 1 }, (_, i) => (top * i) / parts);
}

const two = (n: number): string => String(n).padStart(2, "0");

interface StripProps {
  times: number[];
  line: Line;
  range: number;
  format(value: number): string;
  /** The time axis is drawn once, under the last strip. */
  last: boolean;
  onCursor(index: number | null): void;
}

function Strip(props: StripProps) {
  let holder!: HTMLDivElement;
  let plot: uPlot | undefined;

  const data = (): uPlot.AlignedData => [props.times, props.line.values];
  const span = (): [number, number] => {
    const end = props.times[props.times.length - 1] ?? Date.now() / 1000;
    return [end - props.range, end];
  };

  const build = () => {
    plot?.destroy();
    const grid = { stroke: css("--line-soft"), width: 1 };
    const axis = { stroke: css("--dim"), font: `11px ${css("--font")}`, grid, ticks: { show: false } };
    const clock = (s: number) => {
      const d = new Date(s * 1000);
      const seconds = d.getSeconds();
      return `${two(d.getHours())}:${two(d.getMinutes())}${seconds === 0 && props.range > 300 ? "" : `:${two(seconds)}`}`;
    };
    plot = new uPlot(
      {
        width: holder.clientWidth,
        height: holder.clientHeight,
        legend: { show: false },
        padding: [8, 22, props.last ? 0 : 4, 0],
        cursor: { sync: { key: SYNC.key }, y: false, drag: { x: false, y: false }, points: { size: 6 } },
        scales: { x: { time: true, range: span }, y: { range: (_u, _min, max) => [0, scale(max ?? 0)[0]] } },
        axes: [
          { ...axis, size: props.last ? 24 : 0, gap: 4, space: 84, values: (_u, splits) => splits.map((s) => (props.last ? clock(s) : "")) },
          { ...axis, size: 68, gap: 6, splits: (u, _axis, _min, max) => ticks(max, u.height - (props.last ? 24 : 0)), values: (_u, splits) => splits.map((s) => (s === 0 ? "0" : props.format(s))) },
        ],
        series: [
          {},
          { label: props.line.label, stroke: css(props.line.color), fill: css(`${props.line.color}-fill`), width: 1.5, points: { show: false } },
        ],
        hooks: { setCursor: [(u) => props.onCursor(u.cursor.idx ?? null)] },
      },
      data(),
      holder,
    );
  };

  onMount(() => {
    build();
    const sizes = new ResizeObserver(() => plot?.setSize({ width: holder.clientWidth, height: holder.clientHeight }));
    sizes.observe(holder);
    dark.addEventListener("change", build);
    onCleanup(() => {
      sizes.disconnect();
      dark.removeEventListener("change", build);
      plot?.destroy();
    });
  });
  createEffect(on([() => props.times, () => props.line.values, () => props.range], () => plot?.setData(data()), { defer: true }));

  return <div class="plot" classList={{ last: props.last }} ref={holder} />;
}

export function Chart(props: Props) {
  const [at, setAt] = createSignal<number | null>(null);
  const shown = (line: Line): string => {
    const value = line.values[at() ?? line.values.length - 1];
    return value === null || value === undefined ? "–" : props.format(value);
  };

  return (
    <section class="card chart">
      <header class="card-head">
        <h2>{props.title}</h2>
        <ul class="legend">
          <For each={props.lines}>
            {(line) => (
              <li>
                <i class="swatch" classList={{ [line.color.slice(2)]: true }} />
                <span>{line.label}</span>
                <b>{shown(line)}</b>
              </li>
            )}
          </For>
        </ul>
      </header>
      <div class="strips" role="img" aria-label={`${props.title}: ${props.lines.map((l) => `${l.label} ${shown(l)}`).join(", ")}`}>
        <Index each={props.lines}>
          {(line, i) => (
            <Strip times={props.times} line={line()} range={props.range} format={props.format} last={i === props.lines.length - 1} onCursor={setAt} />
          )}
        </Index>
      </div>
    </section>
  );
}
