/** The bus: committed events on their way to projections and processes, and signals on their way to live feeds. */
import type { Position } from '../../contracts/envelope.ts';
import type { Signal } from '../../contracts/live/signals.ts';
import type { EventFilter, EventPage } from '../event-store/port.ts';

/**
 * Signals: sent at once to whoever listens now, kept nowhere for long, in order for one turn. Where sending takes a
 * while, a newer beat of a worker may stand for the older ones, and so may the newest progress of a partition.
 */
export interface SignalBus {
  publish(signal: Signal): void;
  /** Returns the function that ends the subscription. */
  subscribe(listener: (signal: Signal) => void): () => void;
  close(): Promise<void>;
}

/**
 * A part of the log: the events of some of the owners, all of theirs. It is one consumer's at a time (of each
 * group), whatever the number of processes.
 */
export interface Partition {
  /** 0, 1, 2, … */
  readonly number: number;
  /** Whether the events of this owner are in it. */
  holds(owner: string): boolean;
  /**
   * The events of this partition after a position, then what is committed, as `EventStore.subscribe` gives them
   * (`caughtUp` of a page: at the time, nothing more was known). The position of a page also moves on while
   * events are committed in other partitions only. Reads only as fast as it is iterated.
   */
  subscribe(options: {
    readonly after: Position;
    readonly filter?: EventFilter;
    readonly signal: AbortSignal;
  }): AsyncIterable<EventPage>;
  /** Aborted when the partition is given to another consumer, or this one stops. */
  readonly signal: AbortSignal;
}

export interface EventBus {
  /** How many partitions the log has. */
  readonly partitions: number;
  /** In which partition the events of an owner are. */
  partitionOf(owner: string): number;
  /**
   * Joins a group of consumers: `work` runs for each partition that this process is given, from when it is given
   * until it has ended after `signal` was aborted; only then may another process be given it, unless this one is
   * too slow and counts as gone. `work` that ends or throws before is begun again after a pause.
   */
  consume(group: string, work: (partition: Partition) => Promise<void>): Promise<Consumer>;
  close(): Promise<void>;
}

export interface Consumer {
  /** Gives the partitions back. Resolves when all work has ended. */
  stop(): Promise<void>;
}
