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
  /** The log goes up to `head` now, and what came since is only in the file. */
  skipTo(head: number): void;
  /** Wakes everybody who waits. */
  wake(): void;
  /** Rejects everybody who waits now. */
  interrupt(reason: Error): void;
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
  const waiting = new Set<(interruption?: Error) => void>();
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
    interrupt(reason) {
      for (const wakeOne of waiting) wakeOne(reason);
    },
    get head() {
      return head;
    },
    skipTo(newHead) {
      while (dropped < head) dropOldest();
      head = newHead;
      dropped = newHead;
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
      let resolve: (interruption: Error | undefined) => void = () => {};
      const wakeOne = (interruption?: Error) => {
        waiting.delete(wakeOne);
        resolve(interruption);
      };
      return {
        wake: () => wakeOne(),
        async wait() {
          let interruption: Error | undefined;
          if (failure === undefined) {
            const { promise, resolve: woken } = Promise.withResolvers<Error | undefined>();
            resolve = woken;
            waiting.add(wakeOne);
            interruption = await promise;
          }
          const reason = failure ?? interruption;
          if (reason !== undefined) throw reason;
        },
      };
    },
  };
}
