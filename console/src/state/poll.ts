/**
 * Asks the daemon the same question again and again, while somebody looks at the answer.
 *
 * Knows neither the DOM nor Solid; the clock is the caller's, so that tests drive it by hand. At most one question is on its
 * way. The answer to a question that nobody asks any more is dropped. An answer that took long is not asked for again soon:
 * at most a fifth of the daemon's time goes to one page.
 */

/** Pause after an answer, in times of what it took. */
const REST = 4;

export interface Tick {
  /** Milliseconds, monotonic. */
  now(): number;
  /** Runs something later; gives what calls it off. */
  after(ms: number, run: () => void): () => void;
  /** Whether asking makes sense now: the page is in view, the daemon is there. */
  ready(): boolean;
}

export interface Heard<T> {
  answer(value: T): void;
  failed(error: Error): void;
}

export class Poll<T> {
  private flight: AbortController | null = null;
  private cancel: (() => void) | null = null;
  private closed = false;

  /** `ms` is the shortest pause between an answer and the next question. */
  constructor(
    private readonly ask: (signal: AbortSignal) => Promise<T>,
    private readonly ms: number,
    private readonly tick: Tick,
    private readonly heard: Heard<T>,
  ) {}

  /** Asks at once: the first time, or because the question has changed. */
  again(): void {
    if (this.closed) return;
    this.cancel?.();
    this.cancel = null;
    this.flight?.abort();
    this.flight = null;
    if (this.tick.ready()) void this.go();
    else this.later(this.ms);
  }

  close(): void {
    this.closed = true;
    this.cancel?.();
    this.cancel = null;
    this.flight?.abort();
    this.flight = null;
  }

  private later(ms: number): void {
    this.cancel = this.tick.after(ms, () => {
      this.cancel = null;
      this.again();
    });
  }

  private async go(): Promise<void> {
    const mine = new AbortController();
    this.flight = mine;
    const asked = this.tick.now();
    try {
      const value = await this.ask(mine.signal);
      if (this.flight !== mine) return;
      this.heard.answer(value);
    } catch (error) {
      if (this.flight !== mine) return;
      this.heard.failed(error instanceof Error ? error : new Error(String(error)));
    }
    // The listener may have closed this, or asked again.
    if (this.flight !== mine) return;
    this.flight = null;
    this.later(Math.max(this.ms, REST * (this.tick.now() - asked)));
  }
}
