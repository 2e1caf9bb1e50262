/** The bus of committed events of one process: a single partition, straight from the event store. */
import { setTimeout as delay } from 'node:timers/promises';
import type { EventStore } from '../event-store/port.ts';
import type { EventBus, Partition } from './port.ts';

/** Before work that ended or threw is begun again. */
const PAUSE_MS = 1_000;

export interface InProcessEventBusOptions {
  readonly store: EventStore;
  /** What the work of a group threw: it is begun again. */
  readonly onError: (error: unknown, group: string) => void;
}

export function createInProcessEventBus({ store, onError }: InProcessEventBusOptions): EventBus {
  const closing = new AbortController();

  return {
    partitions: 1,
    partitionOf: () => 0,
    async consume(group, work) {
      const stopping = new AbortController();
      const signal = AbortSignal.any([stopping.signal, closing.signal]);
      const partition: Partition = {
        number: 0,
        holds: () => true,
        subscribe: (options) => store.subscribe(options),
        signal,
      };
      const working = (async () => {
        while (!signal.aborted) {
          try {
            await work(partition);
          } catch (error) {
            if (!signal.aborted) onError(error, group);
          }
          await delay(PAUSE_MS, undefined, { signal }).catch(() => {});
        }
      })();
      return {
        async stop() {
          stopping.abort();
          await working;
        },
      };
    },
    async close() {
      closing.abort();
    },
  };
}
