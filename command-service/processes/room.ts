/** Room to work in: how much of what is done at the same time. */

/** Of the work that names `key`, so much is done at once. */
export interface Limit {
  readonly key: string;
  readonly atOnce: number;
}

export interface Place {
  leave(): void;
  /**
   * Gives the place to others until `meanwhile` has ended, then takes one again, before whoever only begins. Once
   * `signal` is aborted it waits for none: what is stopped is soon over.
   */
  lend<Result>(meanwhile: () => Promise<Result>, signal: AbortSignal): Promise<Result>;
}

export interface Room {
  /** Waits until all the limits leave room, first come, first served. Null when `signal` was aborted before. */
  enter(limits: readonly Limit[], signal: AbortSignal): Promise<Place | null>;
}

export function createRoom(): Room {
  const taken = new Map<string, number>();
  const waiting: { limits: readonly Limit[]; enter: () => void }[] = [];

  const fits = (limits: readonly Limit[]): boolean =>
    limits.every(({ key, atOnce }) => (taken.get(key) ?? 0) < atOnce);

  function take(limits: readonly Limit[]): void {
    for (const { key } of limits) taken.set(key, (taken.get(key) ?? 0) + 1);
  }

  function giveBack(limits: readonly Limit[]): void {
    for (const { key } of limits) {
      const left = taken.get(key)! - 1;
      if (left === 0) taken.delete(key);
      else taken.set(key, left);
    }
    for (let index = 0; index < waiting.length; ) {
      const next = waiting[index]!;
      if (fits(next.limits)) {
        waiting.splice(index, 1);
        next.enter();
      } else index++;
    }
  }

  /** True when the room was taken; false when `signal` was aborted before. */
  function wait(limits: readonly Limit[], signal: AbortSignal, where: 'push' | 'unshift'): Promise<boolean> {
    if (signal.aborted) return Promise.resolve(false);
    if (fits(limits)) {
      take(limits);
      return Promise.resolve(true);
    }
    return new Promise((resolve) => {
      const entry = {
        limits,
        enter() {
          signal.removeEventListener('abort', giveUp);
          take(limits);
          resolve(true);
        },
      };
      function giveUp() {
        waiting.splice(waiting.indexOf(entry), 1);
        resolve(false);
      }
      signal.addEventListener('abort', giveUp, { once: true });
      waiting[where](entry);
    });
  }

  return {
    async enter(limits, signal) {
      if (!(await wait(limits, signal, 'push'))) return null;
      return {
        leave: () => giveBack(limits),
        async lend(meanwhile, stopped) {
          giveBack(limits);
          try {
            return await meanwhile();
          } finally {
            if (!(await wait(limits, stopped, 'unshift'))) take(limits);
          }
        },
      };
    },
  };
}
