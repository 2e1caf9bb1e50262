/** A fact about a user: one small stream each, so that remembering it again is a decision, not a search. */
import { z } from 'zod';
import { refuse } from '../../contracts/errors.ts';
import { factCategory, type memoryEvents } from '../../contracts/events/memory.ts';
import type { Aggregate, Command } from '../command.ts';
import { derivedId } from './derived-id.ts';

type FactEventType = keyof typeof memoryEvents;

/** The same category and key of the same owner is the same fact. */
export const factIdFor = (owner: string, category: string, key: string): string =>
  `fact_${derivedId(24, owner, category, key.trim().toLowerCase())}`;

// ── state ─────────────────────────────────────────────────────────────────
export interface FactState {
  readonly owner: string | null;
  readonly known: boolean;
}

export const fact: Aggregate<FactState, FactEventType> = {
  category: 'fact',
  initial: { owner: null, known: false },
  evolve: (_state, event) => ({ owner: event.owner, known: event.type === 'FactRemembered' }),
  stateVersion: 1,
};

// ── commands ──────────────────────────────────────────────────────────────
const text = (maximum: number) =>
  z
    .string()
    .trim()
    .min(1)
    .max(maximum)
    .refine((value) => value.isWellFormed(), 'not valid Unicode');

const rememberInput = z.strictObject({
  owner: z.string(),
  category: factCategory,
  key: text(200),
  value: text(2_000),
  confidence: z.number().min(0).max(1),
  conversationId: z.string().nullable(),
  turnId: z.string().nullable(),
});

/** Remembers a fact. Said again it is recorded again: how often it was mentioned counts. */
export const rememberFact: Command<z.infer<typeof rememberInput>, FactState, FactEventType> = {
  name: 'RememberFact',
  aggregate: fact,
  schema: rememberInput,
  id: (input) => factIdFor(input.owner, input.category, input.key),
  owner: (input) => input.owner,
  decide: ({ owner, category, key, value, confidence, conversationId, turnId }) => [
    {
      type: 'FactRemembered',
      data: {
        factId: factIdFor(owner, category, key),
        category,
        key,
        value,
        confidence,
        conversationId,
        turnId,
      },
    },
  ],
};

const forgetInput = z.strictObject({ owner: z.string(), factId: z.string(), reason: text(500) });

export const forgetFact: Command<z.infer<typeof forgetInput>, FactState, FactEventType> = {
  name: 'ForgetFact',
  aggregate: fact,
  schema: forgetInput,
  id: (input) => input.factId,
  owner: (input) => input.owner,
  decide: ({ owner, factId, reason }, state) => {
    if (!state.known || state.owner !== owner) refuse('NOT_FOUND', 'Fact not found.');
    return [{ type: 'FactForgotten', data: { factId, reason } }];
  },
};
