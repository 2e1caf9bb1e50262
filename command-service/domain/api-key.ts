/** An API key: lets a program act for a user, with some of the user's permissions. */
import type { z } from 'zod';
import type { Caller } from '../../contracts/caller.ts';
import * as commands from '../../contracts/commands/identity.ts';
import { refuse } from '../../contracts/errors.ts';
import type { OdeonEvent } from '../../contracts/events/catalogue.ts';
import type { Aggregate, Command } from '../command.ts';

export type ApiKeyEventType = 'ApiKeyCreated' | 'ApiKeyRevoked';

// ── state: only what deciding needs ───────────────────────────────────────
export type ApiKeyState =
  | { readonly status: 'none' }
  | {
      readonly status: 'active' | 'revoked';
      readonly owner: string;
      readonly permissions: readonly string[];
      readonly keyHash: string;
      readonly createdAt: string;
    };

function evolve(state: ApiKeyState, event: OdeonEvent<ApiKeyEventType>): ApiKeyState {
  if (event.type === 'ApiKeyCreated') {
    const { permissions, keyHash } = event.data;
    return { status: 'active', owner: event.owner, permissions, keyHash, createdAt: event.time };
  }
  return state.status === 'none' ? state : { ...state, status: 'revoked' };
}

export const apiKey: Aggregate<ApiKeyState, ApiKeyEventType> = {
  category: 'api-key',
  initial: { status: 'none' },
  evolve,
  stateVersion: 1,
};

// ── commands ──────────────────────────────────────────────────────────────
type ApiKeyCommand<Input> = Command<Input, ApiKeyState, ApiKeyEventType>;
type CreateApiKey = z.infer<typeof commands.createApiKey>;

export const createApiKey: ApiKeyCommand<CreateApiKey> = {
  name: 'CreateApiKey',
  aggregate: apiKey,
  schema: commands.createApiKey,
  id: (input) => input.keyId,
  owner: (input) => input.owner,
  authorise: holdsNoMoreThanItsMaker,
  decide: ({ name, permissions, keyHash, prefix, expiresAt, at }, state) => {
    if (state.status !== 'none') {
      if (state.keyHash === keyHash) return []; // a repeat of the command that made it
      refuse('CONFLICT', 'There is such a key already.');
    }
    if (expiresAt !== null && expiresAt <= at) {
      refuse('VALIDATION_ERROR', 'expiresAt is in the past.');
    }
    return [{ type: 'ApiKeyCreated', data: { name, permissions, keyHash, prefix, expiresAt } }];
  },
};

function holdsNoMoreThanItsMaker(caller: Caller, input: CreateApiKey): void {
  if (caller.userId !== input.owner) refuse('FORBIDDEN', 'You can make API keys only for yourself.');
  // A key made by a key would outlive its maker's revocation.
  if (caller.sessionId === null) refuse('FORBIDDEN', 'Log in to make an API key: a key cannot make keys.');
  const beyond = input.permissions.filter((permission) => !caller.permissions.has(permission));
  if (beyond.length > 0) {
    refuse('FORBIDDEN', `You cannot give a key what you may not do yourself: ${beyond.join(', ')}.`);
  }
}

export const revokeApiKey: ApiKeyCommand<z.infer<typeof commands.revokeApiKey>> = {
  name: 'RevokeApiKey',
  aggregate: apiKey,
  schema: commands.revokeApiKey,
  id: (input) => input.keyId,
  owner: (_input, state) => (state.status === 'none' ? absent() : state.owner),
  authorise: (caller, _input, state) => {
    if (state.status === 'none') absent();
    else if (state.owner !== caller.userId && !caller.permissions.has('users:manage')) absent();
  },
  decide: (_input, state) => {
    if (state.status === 'none') return absent();
    return state.status === 'active' ? [{ type: 'ApiKeyRevoked', data: {} }] : [];
  },
};

function absent(): never {
  return refuse('NOT_FOUND', 'API key not found.');
}
