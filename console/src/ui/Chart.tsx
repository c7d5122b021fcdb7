/** Lines over time. uPlot draws; this keeps its size, colours and data current. */

import { createEffect, createSignal, For, on, onCleanup, onMount } from "solid-js";
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
  lines: Line[];
  /** Seconds shown. */
  range: number;
  format(value: number): string;
}

const SYNC = uPlot.sync("sluice");
const dark = window.matchMedia("(prefers-color-scheme: dark)");

const css = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Two to five ticks below the top, at 1, 2 or 5 times a power of ten. */
function top(max: number): number {
  if (max <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(max));
  const step = [1, 1.5, 2, 3, 4, 5, 8, 10].find((s) => s * power >= max * 1.05) ?? 12;
  return step * power;
}

const two = (n: number): string => String(n).padStart(2, "0");

export function Chart(props: Props) {
  let holder!: HTMLDivElement;
  let plot: uPlot | undefined;
  const [at, setAt] = createSignal<number | null>(null);

  const data = (): uPlot.AlignedData => [props.times, ...props.lines.map((l) => l.values)];
  const window_ = (): [number, number] => {
    const end = props.times[props.times.length - 1] ?? Date.now() / 1000;
    return [end - props.range, end];
  };

  const build = () => {
    plot?.destroy();
    const grid = { stroke: css("--line-soft"), width: 1 };
    const axis = { stroke: css("--dim"), font: `11px ${css("--font")}`, grid, ticks: { show: false } };
    plot = new uPlot(
      {
        width: holder.clientWidth,
        height: holder.clientHeight,
        legend: { show: false },
        padding: [8, 22, 0, 0],
        cursor: { sync: { key: SYNC.key }, y: false, drag: { x: false, y: false }, points: { size: 6 } },
        scales: { x: { time: true, range: () => window_() }, y: { range: (_u, _min, max) => [0, top(max ?? 0)] } },
        axes: [
          {
            ...axis,
            size: 24,
            gap: 4,
            space: 84,
            values: (_u, splits) =>
              splits.map((s) => {
                const d = new Date(s * 1000);
                const seconds = d.getSeconds();
                return `${two(d.getHours())}:${two(d.getMinutes())}${seconds === 0 && props.range > 300 ? "" : `:${two(seconds)}`}`;
              }),
          },
          { ...axis, size: 68, gap: 6, space: 34, values: (_u, splits) => splits.map((s) => (s === 0 ? "0" : props.format(s))) },
        ],
        series: [
          {},
          ...props.lines.map((l, i) => ({
            label: l.label,
            stroke: css(l.color),
            width: 1.5,
            points: { show: false },
            ...(i === 0 ? { fill: css(`${l.color}-fill`) } : {}),
          })),
        ],
        hooks: { setCursor: [(u) => setAt(u.cursor.idx ?? null)] },
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
  createEffect(on([() => props.times, () => props.lines, () => props.range], () => plot?.setData(data()), { defer: true }));

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
      <div class="plot" ref={holder} role="img" aria-label={`${props.title}: ${props.lines.map((l) => `${l.label} ${shown(l)}`).join(", ")}`} />
    </section>
  );
}
