import { describe, expect, it } from "vitest";
import { Poll } from "./poll";

/** A daemon that answers when it is told to, and a clock that runs when it is told to. */
function stage(ready = true) {
  const asked: { signal: AbortSignal; answer(v: string): void; fail(e: unknown): void }[] = [];
  const waits: { ms: number; run(): void; off: boolean }[] = [];
  const said: string[] = [];
  const world = { ready, now: 0 };
  const poll = new Poll<string>(
    (signal) => new Promise((answer, fail) => void asked.push({ signal, answer, fail })),
    1000,
    {
      after(ms, run) {
        const wait = { ms, run, off: false };
        waits.push(wait);
        return () => void (wait.off = true);
      },
      ready: () => world.ready,
      now: () => world.now,
    },
    { answer: (v) => void said.push(v), failed: (e) => void said.push(`failed: ${e.message}`) },
  );
  const settle = () => new Promise((resolve) => setTimeout(resolve, 0));
  const pending = () => waits.filter((w) => !w.off);
  const ring = () => {
    const [wait] = pending();
    wait!.off = true;
    wait!.run();
  };
  return { poll, asked, said, settle, pending, ring, world, waited: () => waits.map((w) => w.ms) };
}

describe("Poll", () => {
  it("asks again after the answer, not before", async () => {
    const s = stage();
    s.poll.again();
    expect(s.asked.length).toBe(1);
    expect(s.pending().length).toBe(0);
    s.asked[0]!.answer("a");
    await s.settle();
    expect(s.said).toEqual(["a"]);
    expect(s.pending().map((w) => w.ms)).toEqual([1000]);
    s.ring();
    expect(s.asked.length).toBe(2);
  });

  it("gives a daemon that took long time to rest", async () => {
    const s = stage();
    s.poll.again();
    s.world.now = 100;
    s.asked[0]!.answer("soon");
    await s.settle();
    s.ring();
    s.world.now = 1100;
    s.asked[1]!.answer("late");
    await s.settle();
    s.ring();
    s.world.now = 3100;
    s.asked[2]!.fail(new Error("late, too"));
    await s.settle();
    expect(s.waited()).toEqual([1000, 4000, 8000]);
  });

  it("drops the answer to a question that has changed, and takes it off the wire", async () => {
    const s = stage();
    s.poll.again();
    s.poll.again();
    expect(s.asked[0]!.signal.aborted).toBe(true);
    s.asked[1]!.answer("new");
    s.asked[0]!.answer("old");
    await s.settle();
    expect(s.said).toEqual(["new"]);
    expect(s.pending().length).toBe(1);
  });

  it("says an error and goes on asking", async () => {
    const s = stage();
    s.poll.again();
    s.asked[0]!.fail(new Error("no"));
    await s.settle();
    expect(s.said).toEqual(["failed: no"]);
    s.ring();
    s.asked[1]!.answer("yes");
    await s.settle();
    expect(s.said).toEqual(["failed: no", "yes"]);
  });

  it("is silent once closed, whatever is on its way", async () => {
    const s = stage();
    s.poll.again();
    s.poll.close();
    s.asked[0]!.answer("late");
    await s.settle();
    expect(s.said).toEqual([]);
    expect(s.pending().length).toBe(0);
    s.poll.again();
    expect(s.asked.length).toBe(1);
  });

  it("waits while nobody looks, and asks once somebody does", () => {
    const s = stage(false);
    s.poll.again();
    expect(s.asked.length).toBe(0);
    s.ring();
    expect(s.asked.length).toBe(0);
    s.world.ready = true;
    s.ring();
    expect(s.asked.length).toBe(1);
  });
});
