/** Signals that wait to be sent, in the order they were published, in bounded memory. */
import type { Signal } from '../../../contracts/live/signals.ts';
import { CONVERSATION_STREAM } from '../../../contracts/read-models/conversation.ts';

export interface WaitingSignal {
  /** Grows by one with each signal that is published. */
  readonly number: number;
  /** Signals of one key stay in order. */
  readonly key: string;
  readonly value: Buffer;
  /** What it takes up here. */
  readonly bytes: number;
  readonly isText: boolean;
  readonly replaces: string | null;
}

export interface SignalQueue {
  readonly size: number;
  readonly bytes: number;
  push(signal: Signal): void;
  /** The oldest ones, at least one and otherwise at most so many bytes. They stay here until they are done. */
  next(maxBytes: number): readonly WaitingSignal[];
  done(signals: readonly WaitingSignal[]): void;
}

export interface SignalQueueOptions {
  readonly maxBytes: number;
  /** Told how many signals were thrown away because there were too many. */
  readonly onDropped: (signals: number) => void;
}

/** Map entries, headers and the like. */
const OVERHEAD_BYTES = 200;

/**
 * What is only true for now waits at most once: a newer beat of a worker takes the place of an older one, and so does
 * the progress of a partition. So after a broker was away no burst of old ones comes, of which each would count.
 *
 * When there is too much, the oldest words of answers go first, since events say them for good.
 */
export function createSignalQueue({ maxBytes, onDropped }: SignalQueueOptions): SignalQueue {
  const waiting = new Map<number, WaitingSignal>();
  const replaceable = new Map<string, WaitingSignal>();
  let published = 0;
  let bytes = 0;

  function remove(signal: WaitingSignal): void {
    if (!waiting.delete(signal.number)) return;
    bytes -= signal.bytes;
    const { replaces } = signal;
    if (replaces !== null && replaceable.get(replaces) === signal) replaceable.delete(replaces);
  }

  function shrink(): void {
    const before = waiting.size;
    // By some more than needed, so that not every further signal has to look for one to drop.
    for (const signal of waiting.values()) {
      if (bytes <= 0.75 * maxBytes) break;
      if (signal.isText) remove(signal);
    }
    for (const signal of waiting.values()) {
      if (bytes <= maxBytes) break;
      remove(signal);
    }
    onDropped(before - waiting.size);
  }

  return {
    get size() {
      return waiting.size;
    },
    get bytes() {
      return bytes;
    },
    push(signal) {
      const replaces = placeOf(signal);
      const earlier = replaces === null ? undefined : replaceable.get(replaces);
      if (earlier !== undefined) remove(earlier);
      const value = Buffer.from(JSON.stringify(signal));
      const added: WaitingSignal = {
        number: published++,
        key: keyOf(signal),
        value,
        bytes: value.byteLength + OVERHEAD_BYTES,
        isText: signal.kind === 'text' || signal.kind === 'reasoning',
        replaces,
      };
      waiting.set(added.number, added);
      if (replaces !== null) replaceable.set(replaces, added);
      bytes += added.bytes;
      if (bytes > maxBytes) shrink();
    },
    next(limit) {
      const signals: WaitingSignal[] = [];
      let sum = 0;
      for (const signal of waiting.values()) {
        sum += signal.bytes;
        if (sum > limit && signals.length > 0) break;
        signals.push(signal);
      }
      return signals;
    },
    done(signals) {
      for (const signal of signals) remove(signal);
    },
  };
}

/** What is said of a conversation stays in order; so does what is of one kind. */
const keyOf = (signal: Signal): string => {
  // What stops an answer comes in order with its words.
  if ('conversationId' in signal) return CONVERSATION_STREAM + signal.conversationId;
  return 'stream' in signal ? signal.stream : signal.kind;
};

function placeOf(signal: Signal): string | null {
  if (signal.kind === 'worker') return `worker ${signal.worker}`;
  if (signal.kind === 'progress') return `progress ${signal.partition}`;
  return null;
}
