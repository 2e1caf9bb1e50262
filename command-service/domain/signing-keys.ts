/** The keys that sign tokens: that they were rotated, and by whom. The keys themselves are never in the log. */
import type { z } from 'zod';
import * as commands from '../../contracts/commands/identity.ts';
import { SYSTEM_OWNER } from '../../contracts/envelope.ts';
import type { Aggregate, Command } from '../command.ts';

interface SigningKeysState {
  /** The key that signs; null until the first rotation. */
  readonly kid: string | null;
}

/** One stream, `signing-keys`. */
export const signingKeys: Aggregate<SigningKeysState, 'SigningKeyRotated'> = {
  category: 'signing',
  initial: { kid: null },
  evolve: (_state, event) => ({ kid: event.data.kid }),
  stateVersion: 1,
};

export const rotateSigningKey: Command<
  z.infer<typeof commands.rotateSigningKey>,
  SigningKeysState,
  'SigningKeyRotated'
> = {
  name: 'RotateSigningKey',
  aggregate: signingKeys,
  schema: commands.rotateSigningKey,
  id: () => 'keys',
  owner: () => SYSTEM_OWNER,
  decide: ({ kid, previousKid }, state) =>
    kid === state.kid ? [] : [{ type: 'SigningKeyRotated', data: { kid, previousKid } }],
};
