/**
 * A table of any length: only the rows in view exist in the document, and they are reused as it scrolls.
 *
 * Keyboard: arrows move the cell, Home/End and Page keys jump, Enter narrows the filter to the cell's value (or follows its
 * link, or presses its button), Shift+Enter excludes it.
 */

import { createEffect, createMemo, createSignal, For, Index, on, onCleanup, onMount, Show, type Accessor, type JSX } from "solid-js";
import type { Term } from "../state/filtertext";
import { termText } from "../state/filtertext";

export interface Column<R> {
  key: string;
  title: string;
  /** What the title means, where one word can't say it. */
  hint?: string;
  /** A track of `grid-template-columns`. */
  width: string;
  align?: "end";
  /** Shown only where the window is at least this wide, pixels. */
  min?: number;
  text?(row: R): string;
  tip?(row: R): string;
  /** For cells that are more than text. With a `tip` the cell says that, else what is in it speaks for itself. */
  cell?(row: Accessor<R>): JSX.Element;
  class?(row: R): string;
  sortable?: boolean;
  /** What a click adds to the filter. */
  term?(row: R): Term | null;
}

export interface Sort {
  key: string;
  down: boolean;
}

interface Props<R> {
  label: string;
  columns: Column<R>[];
  rows: R[];
  /** What a row is, whatever place it has: the current cell follows it. */
  keyOf(row: R): unknown;
  /** Rows are added at the top: whoever has scrolled down goes on reading where they were. */
  growsAtTop?: boolean;
  rowHeight?: number;
  rowClass?(row: R): string;
  sort?: Sort;
  onSort?(key: string): void;
  onTerm?(term: Term, not: boolean): void;
  /** The row that fills the whole width with a message instead of cells. */
  banner?(row: R): string | null;
  /** Row to bring into view and mark; a new object scrolls again. */
  mark?: { index: number } | null;
  empty: JSX.Element;
}

const OVERSCAN = 6;
let tables = 0;

const [viewport, setViewport] = createSignal(window.innerWidth);
window.addEventListener("resize", () => setViewport(window.innerWidth));

export function Table<R>(props: Props<R>) {
  const id = `t${++tables}`;
  const h = () => props.rowHeight ?? 26;
  let body!: HTMLDivElement;
  const [scroll, setScroll] = createSignal(0);
  const [height, setHeight] = createSignal(600);
  const [active, setActive] = createSignal<{ row: number; col: number } | null>(null);

  const columns = createMemo(() => props.columns.filter((c) => (c.min ?? 0) <= viewport()));
  const tracks = () => columns().map((c) => c.width).join(" ");
  const first = () => Math.max(0, Math.floor(scroll() / h()) - OVERSCAN);
  const slice = createMemo(() => props.rows.slice(first(), first() + Math.ceil(height() / h()) + 2 * OVERSCAN));

  onMount(() => {
    const sizes = new ResizeObserver(() => setHeight(body.clientHeight));
    sizes.observe(body);
    onCleanup(() => sizes.disconnect());
  });

  const reveal = (row: number) => {
    // The head sticks to the top and covers one row's height.
    const at = row * h();
    if (at < body.scrollTop) body.scrollTop = at;
    else if (at + 2 * h() > body.scrollTop + body.clientHeight) body.scrollTop = at + 2 * h() - body.clientHeight;
  };

  createEffect(
    on(
      () => props.rows,
      (rows, before) => {
        if (!before) return;
        const moved = (index: number): number | null => {
          const row = before[index];
          if (row === undefined || (rows[index] !== undefined && props.keyOf(rows[index]!) === props.keyOf(row))) return null;
          const key = props.keyOf(row);
          const to = rows.findIndex((r) => props.keyOf(r) === key);
          return to < 0 ? null : to;
        };
        const here = active();
        const to = here && moved(here.row);
        if (here && typeof to === "number") setActive({ row: to, col: here.col });
        if (!props.growsAtTop || scroll() < h()) return;
        const top = Math.floor(scroll() / h());
        const at = moved(top);
        if (at !== null) body.scrollTop += (at - top) * h();
      },
    ),
  );

  createEffect(() => {
    const mark = props.mark;
    if (mark && mark.index >= 0) {
      setActive({ row: mark.index, col: 0 });
      queueMicrotask(() => (body.scrollTop = Math.max(0, mark.index * h() - body.clientHeight / 3)));
    }
  });

  const act = (row: number, col: number, not: boolean) => {
    const r = props.rows[row];
    const term = r === undefined ? null : columns()[col]?.term?.(r);
    if (term) props.onTerm?.(term, not);
    // A cell that is a link is followed, one that offers something does it; neither is a tab stop of its own.
    else document.getElementById(`${id}-${row}-${col}`)?.querySelector<HTMLElement>("a, button.act")?.click();
  };

  const onKey = (event: KeyboardEvent) => {
    if (event.target !== body || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(body.clientHeight / h()) - 2);
    const last = props.rows.length - 1;
    const { row, col } = active() ?? { row: first() === 0 ? 0 : first() + OVERSCAN, col: 0 };
    const to = (r: number, c: number) => {
      setActive({ row: Math.min(Math.max(r, 0), Math.max(last, 0)), col: Math.min(Math.max(c, 0), columns().length - 1) });
      reveal(active()!.row);
    };
    switch (event.key) {
      case "ArrowDown": to(active() ? row + 1 : row, col); break;
      case "ArrowUp": to(row - 1, col); break;
      case "ArrowRight": to(row, col + 1); break;
      case "ArrowLeft": to(row, col - 1); break;
      case "PageDown": to(row + page, col); break;
      case "PageUp": to(row - page, col); break;
      case "Home": to(0, col); break;
      case "End": to(last, col); break;
      case "Enter": act(row, col, event.shiftKey); break;
      case "Escape": setActive(null); return;
      default: return;
    }
    event.preventDefault();
  };

  const onClick = (event: MouseEvent) => {
    const cell = (event.target as Element).closest<HTMLElement>(".td");
    if (!cell || (event.target as Element).closest("button, a, input")) return;
    const row = Number(cell.dataset["r"]);
    const col = Number(cell.dataset["c"]);
    setActive({ row, col });
    // Somebody who selects text doesn't mean to filter by it.
    if (window.getSelection()?.isCollapsed !== false && cell.classList.contains("can")) act(row, col, event.shiftKey || event.altKey);
  };

  // One text: a `class` that changes would take away what a `classList` beside it has set.
  const classes = (c: Column<R>, row: R, cursor: boolean): string =>
    ["td", c.class?.(row) ?? "", c.align === "end" ? "end" : "", props.onTerm && c.term?.(row) ? "can" : "", cursor ? "cursor" : ""].filter(Boolean).join(" ");

  const hint = (c: Column<R>, row: R): string => {
    const tip = c.tip?.(row) ?? c.text?.(row) ?? "";
    const term = props.onTerm ? c.term?.(row) : null;
    return term ? `${tip}\nclick: ${termText(term)}   shift: exclude` : tip;
  };

  return (
    <div
      class="table"
      ref={body}
      tabindex="0"
      role="grid"
      aria-label={props.label}
      aria-rowcount={props.rows.length + 1}
      aria-colcount={columns().length}
      aria-activedescendant={active() ? `${id}-${active()!.row}-${active()!.col}` : undefined}
      onScroll={() => setScroll(body.scrollTop)}
      onKeyDown={onKey}
      onClick={onClick}
    >
      <div class="thead" role="row" aria-rowindex="1" style={{ "grid-template-columns": tracks() }}>
        <For each={columns()}>
          {(c) => (
            <div
              class="th"
              classList={{ end: c.align === "end" }}
              role="columnheader"
              aria-sort={props.sort?.key === c.key ? (props.sort.down ? "descending" : "ascending") : undefined}
              title={c.hint ?? ""}
            >
              <Show when={c.sortable && props.onSort} fallback={c.title}>
                <button type="button" onClick={() => props.onSort?.(c.key)}>
                  {c.title}
                  <Show when={props.sort?.key === c.key}><span class="arrow">{props.sort?.down ? "↓" : "↑"}</span></Show>
                </button>
              </Show>
            </div>
          )}
        </For>
      </div>
      <Show when={props.rows.length > 0} fallback={<div class="empty">{props.empty}</div>}>
        <div class="tall" role="presentation" style={{ height: `${props.rows.length * h()}px` }}>
          <div class="window" role="presentation" style={{ transform: `translateY(${first() * h()}px)` }}>
            <Index each={slice()}>
              {(row, i) => {
                const r = () => first() + i;
                return (
                  <Show
                    when={(props.banner?.(row()) ?? null) === null}
                    fallback={
                      <div class="tr banner" role="row" style={{ height: `${h()}px` }}>
                        <div class="gap" role="gridcell">{props.banner?.(row())}</div>
                      </div>
                    }
                  >
                    <div
                      class={`tr ${props.rowClass?.(row()) ?? ""} ${active()?.row === r() ? "here" : ""}`}
                      role="row"
                      aria-rowindex={r() + 2}
                      style={{ height: `${h()}px`, "grid-template-columns": tracks() }}
                    >
                      <For each={columns()}>
                        {(c, col) => (
                          <div
                            id={`${id}-${r()}-${col()}`}
                            class={classes(c, row(), active()?.row === r() && active()?.col === col())}
                            role="gridcell"
                            data-r={r()}
                            data-c={col()}
                            title={c.cell && !c.tip ? "" : hint(c, row())}
                          >
                            {c.cell ? c.cell(row) : c.text?.(row())}
                          </div>
                        )}
                      </For>
                    </div>
                  </Show>
                );
              }}
            </Index>
          </div>
        </div>
      </Show>
    </div>
  );
}
