/** The bus for signals: sent at once to whoever listens now, kept nowhere, in order for one turn. */
import type { Signal } from '../../contracts/live/signals.ts';

export interface SignalBus {
  publish(signal: Signal): void;
  /** Returns the function that ends the subscription. */
  subscribe(listener: (signal: Signal) => void): () => void;
  close(): Promise<void>;
}
