/** Rates from counters that are read now and then, one counter a key. Pure. */

/** Readings closer together than this make noise, not a rate. */
const OVER_MS = 400;

interface Mark {
  at: number;
  value: number;
  rate: number;
}

/** `null` is a rate that can't be known yet. */
export class Meter {
  private marks = new Map<string, Mark>();

  /** Takes one reading of all counters; keys that are missing are forgotten. Gives the rate a second by key. */
  read(at: number, values: Iterable<[string, number]>): Map<string, number | null> {
    const next = new Map<string, Mark>();
    const rates = new Map<string, number | null>();
    for (const [key, value] of values) {
      const before = this.marks.get(key);
      if (before === undefined || value < before.value) {
        // New, or begun again at zero: there is nothing to compare with.
        next.set(key, { at, value, rate: Number.NaN });
      } else if (at - before.at < OVER_MS) {
        next.set(key, before);
      } else {
        next.set(key, { at, value, rate: ((value - before.value) * 1000) / (at - before.at) });
      }
      const { rate } = next.get(key)!;
      rates.set(key, Number.isNaN(rate) ? null : rate);
    }
    this.marks = next;
    return rates;
  }
}
