/** A request with an Idempotency-Key: the key is bound to the first request that brings it, and to its answer. */
import { z } from 'zod';
import type { Position } from '../../contracts/envelope.ts';
import { refuse } from '../../contracts/errors.ts';
import type { DecidedEvent, OdeonEvent } from '../../contracts/events/catalogue.ts';
import type { Aggregate, Command } from '../command.ts';

export type RequestEventType = 'RequestAccepted' | 'RequestAnswered';
type Decided = DecidedEvent<RequestEventType>;

// ── state: only what deciding needs ───────────────────────────────────────
export type RequestState =
  | { readonly status: 'none' }
  | { readonly status: 'accepted'; readonly fingerprint: string }
  | {
      readonly status: 'answered';
      readonly fingerprint: string;
      readonly answer: { readonly status: number; readonly body: string | null };
      /** Of RequestAnswered. */
      readonly position: Position;
    };

function evolve(state: RequestState, event: OdeonEvent<RequestEventType>): RequestState {
  switch (event.type) {
    case 'RequestAccepted':
      return { status: 'accepted', fingerprint: event.data.fingerprint };
    case 'RequestAnswered':
      return state.status === 'none'
        ? state
        : {
            status: 'answered',
            fingerprint: state.fingerprint,
            answer: event.data,
            position: event.position,
          };
  }
}

/** `request-<SHA-256 of who asks and the key>`. */
export const request: Aggregate<RequestState, RequestEventType> = {
  category: 'request',
  initial: { status: 'none' },
  evolve,
  stateVersion: 1,
};

// ── decisions ─────────────────────────────────────────────────────────────
const common = { id: z.string().regex(/^[0-9a-f]{64}$/), owner: z.string() };
const acceptInput = z.strictObject({ ...common, fingerprint: z.string() });
const answerInput = z.strictObject({ ...common, status: z.int(), body: z.string().nullable() });

/** Decides nothing when the key is bound already: the state then says to which request. */
export const acceptRequest: Command<z.infer<typeof acceptInput>, RequestState, RequestEventType> = {
  name: 'AcceptRequest',
  aggregate: request,
  schema: acceptInput,
  id: ({ id }) => id,
  owner: ({ owner }) => owner,
  decide: ({ fingerprint }, state): Decided[] =>
    state.status === 'none' ? [{ type: 'RequestAccepted', data: { fingerprint } }] : [],
};

/** The first answer stays. */
export const answerRequest: Command<z.infer<typeof answerInput>, RequestState, RequestEventType> = {
  name: 'AnswerRequest',
  aggregate: request,
  schema: answerInput,
  id: ({ id }) => id,
  owner: ({ owner }) => owner,
  decide: ({ status, body }, state): Decided[] => {
    if (state.status === 'none') refuse('CONFLICT', 'A request is accepted before it is answered.');
    return state.status === 'accepted' ? [{ type: 'RequestAnswered', data: { status, body } }] : [];
  },
};
