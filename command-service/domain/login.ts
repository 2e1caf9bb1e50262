/** Failed logins, for auditors: one stream an account name, whether or not there is such an account. */
import type { z } from 'zod';
import * as commands from '../../contracts/commands/identity.ts';
import { SYSTEM_OWNER } from '../../contracts/envelope.ts';
import type { Aggregate, Command } from '../command.ts';

/** Nothing is decided from the failures before: the limits are the limiter's. */
type LoginState = Record<string, never>;

export const login: Aggregate<LoginState, 'LoginFailed'> = {
  category: 'login',
  initial: {},
  evolve: (state) => state,
  stateVersion: 1,
};

export const recordLoginFailure: Command<
  z.infer<typeof commands.recordLoginFailure>,
  LoginState,
  'LoginFailed'
> = {
  name: 'RecordLoginFailure',
  aggregate: login,
  schema: commands.recordLoginFailure,
  id: (input) => input.accountId,
  owner: (input) => input.userId ?? SYSTEM_OWNER,
  decide: ({ userId, address, reason }) => [{ type: 'LoginFailed', data: { userId, address, reason } }],
};
