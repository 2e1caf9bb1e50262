/**
 * Signals: what is told at once and not kept, because an event will say it for good (the words of an answer), or
 * because it is only true for now (who is alive, how far projections are).
 */
import { z } from 'zod';
import { position } from '../envelope.ts';

/** A piece of a model's answer. */
export const textSignal = z.object({
  kind: z.enum(['text', 'reasoning']),
  owner: z.string(),
  conversationId: z.string(),
  turnId: z.string(),
  /** The position of the `ModelCalled` event that this belongs to. */
  call: position,
  /** Where `text` begins in the call's text (or reasoning), in UTF-16 code units. */
  offset: z.int().nonnegative(),
  text: z.string(),
});
export type TextSignal = z.infer<typeof textSignal>;

/** Asks the worker that carries out a piece of work to stop it now; the durable request is an event of its stream. */
export const interruptSignal = z.object({
  kind: z.literal('interrupt'),
  stream: z.string(),
  /** Which piece of work in the stream: of a conversation, the turn's id. */
  workId: z.string(),
});
export type InterruptSignal = z.infer<typeof interruptSignal>;

/** A worker is alive: sent every other second or so by each that runs turns. */
export const workerSignal = z.object({
  kind: z.literal('worker'),
  worker: z.string(),
  /** False in its last one. */
  alive: z.boolean(),
});
export type WorkerSignal = z.infer<typeof workerSignal>;

/** How far the read models of a partition are: what is up to there is stored. Sent also when nothing has changed. */
export const progressSignal = z.object({
  kind: z.literal('progress'),
  partition: z.int().nonnegative(),
  position,
  /** Why a projection does not get on in this partition at the moment, by its name. */
  problems: z.record(z.string(), z.string()),
});
export type ProgressSignal = z.infer<typeof progressSignal>;

/** Asks every process that runs projections: to look for a rebuild that was begun, or to retry what was set aside. */
export const projectionRequestSignal = z.object({
  kind: z.literal('projection request'),
  requestId: z.string(),
  projection: z.string(),
  action: z.enum(['rebuild', 'retry']),
});

/** What came of a retry in one partition: how many events were applied, and how many are set aside now. */
export const projectionRetriedSignal = z.object({
  kind: z.literal('projection retried'),
  requestId: z.string(),
  partition: z.int().nonnegative(),
  applied: z.int().nonnegative(),
  failed: z.int().nonnegative(),
  waiting: z.int().nonnegative(),
});

export const signal = z.discriminatedUnion('kind', [
  textSignal,
  interruptSignal,
  workerSignal,
  progressSignal,
  projectionRequestSignal,
  projectionRetriedSignal,
]);
export type Signal = z.infer<typeof signal>;
