/**
 * The newest events, kept in memory, so that live subscribers need not read the database; and where they wait
 * for more.
 */
import type { EventEnvelope } from '../../../contracts/envelope.ts';

const MAX_EVENTS = 4_096;
const MAX_BYTES = 8 * 1024 * 1024;

export interface Tail {
  /** The position of the last event. */
  readonly head: number;
  /** Takes in the next event of the log; `bytes` is about what it weighs. */
  push(event: EventEnvelope, bytes: number): void;
  /** Wakes everybody who waits. */
  wake(): void;
  /** Nothing will come any more: whoever waits, now or later, is rejected. */
  fail(failure: Error): void;
  /** The events in (after, after + limit]; null when the oldest of them is no longer held. */
  after(after: number, limit: number): readonly EventEnvelope[] | null;
  /** A place to wait: `wait` resolves at the next `wake` of the tail or of the waiter itself. */
  waiter(): { wait(): Promise<void>; wake(): void };
}

export function createTail(initialHead: number): Tail {
  // Event p stands in slot p % MAX_EVENTS; held are the positions in (dropped, head].
  const events = new Array<EventEnvelope | undefined>(MAX_EVENTS).fill(undefined);
  const sizes = new Uint32Array(MAX_EVENTS);
  let head = initialHead;
  let dropped = initialHead;
  let bytesHeld = 0;
  const waiting = new Set<() => void>();
  let failure: Error | undefined;

  function dropOldest(): void {
    dropped += 1;
    const slot = dropped % MAX_EVENTS;
    bytesHeld -= sizes[slot]!;
    events[slot] = undefined;
  }

  function wake(): void {
    for (const wakeOne of waiting) wakeOne();
  }

  return {
    wake,
    fail(reason) {
      failure = reason;
      wake();
    },
    get head() {
      return head;
    },
    push(event, bytes) {
      if (head - dropped === MAX_EVENTS) dropOldest();
      head += 1;
      events[head % MAX_EVENTS] = event;
      sizes[head % MAX_EVENTS] = bytes;
      bytesHeld += bytes;
      while (bytesHeld > MAX_BYTES) dropOldest();
    },
    after(after, limit) {
      if (after < dropped) return null;
      const page: EventEnvelope[] = [];
      const end = Math.min(head, after + limit);
      for (let position = after + 1; position <= end; position += 1)
        page.push(events[position % MAX_EVENTS]!);
      return page;
    },
    waiter() {
      let resolve = () => {};
      const wakeOne = () => {
        waiting.delete(wakeOne);
        resolve();
      };
      return {
        wake: wakeOne,
        async wait() {
          if (failure === undefined) {
            const { promise, resolve: woken } = Promise.withResolvers<void>();
            resolve = woken;
            waiting.add(wakeOne);
            await promise;
          }
          if (failure !== undefined) throw failure;
        },
      };
    },
  };
}
