/**
 * A session: one login, and the family of refresh tokens that follow each other from it. One of them is valid
 * at a time; whoever shows another one of the family has a copy, so the family ends (RFC 9700, 4.14.2).
 */
import type { z } from 'zod';
import * as commands from '../../contracts/commands/identity.ts';
import { refuse } from '../../contracts/errors.ts';
import type { OdeonEvent } from '../../contracts/events/catalogue.ts';
import type { Aggregate, Command } from '../command.ts';

export type SessionEventType = 'SessionStarted' | 'SessionRefreshed' | 'SessionEnded';

// ── state: only what deciding needs ───────────────────────────────────────
export type SessionState =
  | { readonly status: 'none' }
  | {
      readonly status: 'active' | 'ended';
      readonly userId: string;
      /** Of the refresh token that is valid now. */
      readonly refreshHash: string;
      readonly startedAt: string;
      /** When that token was given out. */
      readonly refreshedAt: string;
      readonly expiresAt: string;
    };

function evolve(state: SessionState, event: OdeonEvent<SessionEventType>): SessionState {
  if (event.type === 'SessionStarted') {
    const { userId, refreshHash, expiresAt } = event.data;
    const { time } = event;
    return { status: 'active', userId, refreshHash, startedAt: time, refreshedAt: time, expiresAt };
  }
  if (state.status === 'none') return state;
  return event.type === 'SessionRefreshed'
    ? { ...state, ...event.data, refreshedAt: event.time }
    : { ...state, status: 'ended' };
}

export const session: Aggregate<SessionState, SessionEventType> = {
  category: 'session',
  initial: { status: 'none' },
  evolve,
  stateVersion: 1,
};

// ── commands ──────────────────────────────────────────────────────────────
type SessionCommand<Input> = Command<Input, SessionState, SessionEventType>;

/** Whose session it is. */
const ownerOf = (_input: unknown, state: SessionState): string => {
  if (state.status === 'none') throw new Error('A session that never began has no owner.');
  return state.userId;
};

export const startSession: SessionCommand<z.infer<typeof commands.startSession>> = {
  name: 'StartSession',
  aggregate: session,
  schema: commands.startSession,
  id: (input) => input.sessionId,
  owner: (input) => input.userId,
  decide: ({ userId, refreshHash, expiresAt, address, userAgent }, state) => {
    if (state.status !== 'none') {
      if (state.refreshHash === refreshHash) return []; // a repeat of the command that began it
      refuse('CONFLICT', 'There is such a session already.');
    }
    return [{ type: 'SessionStarted', data: { userId, refreshHash, expiresAt, address, userAgent } }];
  },
};

/** Gives out the next refresh token of the family, or ends the family when a used one is shown. */
export const refreshSession: SessionCommand<z.infer<typeof commands.refreshSession>> = {
  name: 'RefreshSession',
  aggregate: session,
  schema: commands.refreshSession,
  id: (input) => input.sessionId,
  owner: ownerOf,
  decide: ({ presentedHash, refreshHash, expiresAt, at }, state) => {
    if (state.status !== 'active' || state.expiresAt <= at) {
      return refuse('UNAUTHORIZED', 'Invalid or expired token');
    }
    if (state.refreshHash === refreshHash) return []; // a repeat of the command that gave it out
    if (presentedHash !== null && presentedHash !== state.refreshHash) {
      return [{ type: 'SessionEnded', data: { reason: 'refresh token reused' } }];
    }
    return [{ type: 'SessionRefreshed', data: { refreshHash, expiresAt } }];
  },
};

export const endSession: SessionCommand<z.infer<typeof commands.endSession>> = {
  name: 'EndSession',
  aggregate: session,
  schema: commands.endSession,
  id: (input) => input.sessionId,
  owner: ownerOf,
  decide: ({ reason }, state) =>
    state.status === 'active' ? [{ type: 'SessionEnded', data: { reason } }] : [],
};
