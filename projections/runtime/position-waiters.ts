/**
 * Callers waiting for the read models to reach a position, in the order of their positions. Commands wait for
 * what they have just appended, so a new waiter nearly always belongs at the end: adding, timing out and
 * resolving are each a few steps, however many wait.
 */
import { isAfter, type Position } from '../../contracts/envelope.ts';

interface Waiter {
  readonly position: Position;
  readonly settle: (reached: boolean) => void;
  readonly timer: NodeJS.Timeout;
  previous: Waiter | null;
  next: Waiter | null;
}

export interface PositionWaiters {
  /** Resolves to true once `reached` was told this position or a later one, to false after the timeout. */
  wait(position: Position, timeoutMs: number): Promise<boolean>;
  /** Settles those who wait for this position or one before it. */
  reached(position: Position): void;
  /** Settles all the others: they will not get there. */
  end(): void;
  readonly size: number;
}

export function positionWaiters(): PositionWaiters {
  let first: Waiter | null = null;
  let last: Waiter | null = null;
  let size = 0;

  function insert(waiter: Waiter): void {
    let before = last;
    while (before !== null && isAfter(before.position, waiter.position)) before = before.previous;
    waiter.previous = before;
    waiter.next = before === null ? first : before.next;
    if (waiter.previous === null) first = waiter;
    else waiter.previous.next = waiter;
    if (waiter.next === null) last = waiter;
    else waiter.next.previous = waiter;
    size++;
  }

  function settle(waiter: Waiter, reached: boolean): void {
    if (waiter.previous === null) first = waiter.next;
    else waiter.previous.next = waiter.next;
    if (waiter.next === null) last = waiter.previous;
    else waiter.next.previous = waiter.previous;
    size--;
    clearTimeout(waiter.timer);
    waiter.settle(reached);
  }

  return {
    wait: (position, timeoutMs) =>
      new Promise((resolve) => {
        const timer = setTimeout(() => settle(waiter, false), timeoutMs);
        const waiter: Waiter = { position, settle: resolve, timer, previous: null, next: null };
        insert(waiter);
      }),
    reached(position) {
      while (first !== null && !isAfter(first.position, position)) settle(first, true);
    },
    end() {
      while (first !== null) settle(first, false);
    },
    get size() {
      return size;
    },
  };
}
