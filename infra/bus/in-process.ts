/** The signal bus of one process: listeners are called before `publish` returns. */
import type { Signal } from '../../contracts/live/signals.ts';
import type { SignalBus } from './port.ts';

export interface InProcessSignalBusOptions {
  /** What a listener threw: neither the publisher nor the other listeners see it. */
  readonly onError: (error: unknown) => void;
}

export function createInProcessSignalBus({ onError }: InProcessSignalBusOptions): SignalBus {
  const listeners = new Set<(signal: Signal) => void>();
  // A signal published by a listener waits until every listener has seen the one before it.
  const waiting: Signal[] = [];
  let delivering = false;

  return {
    publish(signal) {
      waiting.push(signal);
      if (delivering) return;
      delivering = true;
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        for (const listener of listeners) {
          try {
            listener(next);
          } catch (error) {
            onError(error);
          }
        }
      }
      delivering = false;
    },
    subscribe(listener) {
      // A wrapper of its own, so that the same function may listen twice.
      const own = (signal: Signal) => listener(signal);
      listeners.add(own);
      return () => {
        listeners.delete(own);
      };
    },
    async close() {
      listeners.clear();
    },
  };
}
