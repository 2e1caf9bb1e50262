/** The event bus of one process: the whole log is one partition, straight from the event store. */
import { setTimeout as pause } from 'node:timers/promises';
import type { EventStore } from '../event-store/port.ts';
import type { EventBus, Partition } from './port.ts';

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;

export interface InProcessEventBusOptions {
  readonly store: EventStore;
  /** What the work of a group threw; it is begun again. Must not throw. */
  readonly onError: (error: unknown, group: string) => void;
}

export function createInProcessEventBus({ store, onError }: InProcessEventBusOptions): EventBus {
  const consumers = new Set<{ stop(): Promise<void> }>();
  let closed = false;
  return {
    partitions: 1,
    partitionOf: () => 0,
    async consume(group, work) {
      if (closed) throw new Error('The event bus is closed.');
      const stopping = new AbortController();
      const { signal } = stopping;
      const partition: Partition = {
        number: 0,
        holds: () => true,
        subscribe: (options) =>
          store.subscribe({ ...options, signal: AbortSignal.any([options.signal, signal]) }),
        signal,
      };
      const running = (async () => {
        for (
          let pauseMs = FIRST_PAUSE_MS;
          !signal.aborted;
          pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)
        ) {
          const began = performance.now();
          try {
            await work(partition);
          } catch (error) {
            if (!signal.aborted) onError(error, group);
          }
          if (performance.now() - began > LONGEST_PAUSE_MS) pauseMs = FIRST_PAUSE_MS; // it had worked meanwhile
          await pause(pauseMs, undefined, { signal }).catch(() => {});
        }
      })();
      const consumer = {
        async stop() {
          stopping.abort();
          await running;
          consumers.delete(consumer);
        },
      };
      consumers.add(consumer);
      return consumer;
    },
    async close() {
      closed = true;
      await Promise.all([...consumers].map((consumer) => consumer.stop()));
    },
  };
}
