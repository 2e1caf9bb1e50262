/** What the main thread and the writer's thread say to each other. Flat and pre-serialised: cloning it is cheap. */
import type { ExpectedRevision, Imported } from '../port.ts';

/** What the writer needs of one event: id, type, schema version, owner, correlation id, meta JSON, data JSON. */
export type EventValues = readonly [string, string, number, string, string, string, string];

export type AppendRequest = readonly [
  stream: string,
  expected: ExpectedRevision,
  events: readonly EventValues[],
  imported?: Imported,
];

/** Appends in the order they were asked for. An empty batch, sent when all others are answered, ends the writer. */
export type WriterRequest = readonly AppendRequest[];

/** What became of one append. */
export type Outcome =
  | {
      readonly kind: 'appended';
      readonly position: number;
      readonly revision: number;
      /** Where it is not that of the whole transaction. */
      readonly time?: string;
    }
  /** The same batch was appended before, and stands from `position` on. */
  | { readonly kind: 'replayed'; readonly position: number }
  | { readonly kind: 'wrong revision'; readonly actual: number | null }
  | { readonly kind: 'id conflict'; readonly id: string }
  | { readonly kind: 'wrong end'; readonly actual: string | null }
  /** Of an import: the log ends with an event that is later. */
  | { readonly kind: 'too early'; readonly last: string };

/** What became of one transaction; `outcomes` answers the oldest appends not answered yet, in order. */
export type WriterReply =
  | { readonly kind: 'ready'; readonly head: number }
  | {
      readonly kind: 'committed';
      readonly outcomes: readonly Outcome[];
      readonly time: string;
      readonly durationMs: number;
    }
  | { readonly kind: 'failed'; readonly appends: number; readonly reason: string };

export interface WriterData {
  readonly directory: string;
  /** Whether other processes write to the log too. */
  readonly shared: boolean;
  readonly port: import('node:worker_threads').MessagePort;
  /** One counter, raised with every request: what the writer sleeps on. */
  readonly wakeups: Int32Array<SharedArrayBuffer>;
}
