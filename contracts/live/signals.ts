/**
 * Signals: what is shown at once and not kept, because an event will say it for good. Published by the
 * processes, kept by the query service while their turn runs.
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

/** Asks the worker that runs a turn to stop it now; the durable request is `InterruptRequested`. */
export const interruptSignal = z.object({
  kind: z.literal('interrupt'),
  conversationId: z.string(),
  turnId: z.string(),
});
export type InterruptSignal = z.infer<typeof interruptSignal>;

export const signal = z.discriminatedUnion('kind', [textSignal, interruptSignal]);
export type Signal = z.infer<typeof signal>;
