/** A user: the account of a person. The id is a keyed hash of the e-mail address, so an address has one user. */
import type { z } from 'zod';
import type { Caller } from '../../contracts/caller.ts';
import * as commands from '../../contracts/commands/identity.ts';
import { refuse } from '../../contracts/errors.ts';
import type { DecidedEvent, OdeonEvent } from '../../contracts/events/catalogue.ts';
import type { Role } from '../../contracts/events/identity.ts';
import type { Aggregate, Command } from '../command.ts';

export type UserEventType =
  | 'UserRegistered'
  | 'UserRoleChanged'
  | 'UserDisabled'
  | 'UserEnabled'
  | 'UserPasswordChanged';

// ── state: what deciding and logging in need ──────────────────────────────
export type UserState =
  | { readonly status: 'none' }
  | {
      readonly status: 'active' | 'disabled';
      readonly userId: string;
      readonly email: string;
      readonly displayName: string;
      readonly role: Role;
      readonly passwordHash: string;
      readonly passwordChangedAt: string | null;
      readonly createdAt: string;
    };
export type RegisteredUser = Exclude<UserState, { status: 'none' }>;

function evolve(state: UserState, event: OdeonEvent<UserEventType>): UserState {
  if (event.type === 'UserRegistered') {
    const { email, displayName, role, passwordHash } = event.data;
    return {
      status: 'active',
      userId: event.owner,
      email,
      displayName,
      role,
      passwordHash,
      passwordChangedAt: null,
      createdAt: event.time,
    };
  }
  if (state.status === 'none') return state;
  switch (event.type) {
    case 'UserRoleChanged':
      return { ...state, role: event.data.role };
    case 'UserDisabled':
      return { ...state, status: 'disabled' };
    case 'UserEnabled':
      return { ...state, status: 'active' };
    case 'UserPasswordChanged':
      return { ...state, passwordHash: event.data.passwordHash, passwordChangedAt: event.time };
  }
}

export const user: Aggregate<UserState, UserEventType> = {
  category: 'user',
  initial: { status: 'none' },
  evolve,
  stateVersion: 1,
};

// ── commands ──────────────────────────────────────────────────────────────
type UserCommand<Input> = Command<Input, UserState, UserEventType>;

export const registerUser: UserCommand<z.infer<typeof commands.registerUser>> = {
  name: 'RegisterUser',
  aggregate: user,
  schema: commands.registerUser,
  id: (input) => input.userId,
  owner: (input) => input.userId,
  decide: ({ email, displayName, role, passwordHash }, state) => {
    if (state.status !== 'none') refuse('CONFLICT', 'There is a user with this e-mail address already.');
    return [{ type: 'UserRegistered', data: { email, displayName, role, passwordHash } }];
  },
};

type ChangeUser = z.infer<typeof commands.changeUser>;

/** One command for all that changes at once, so that it happens as a whole. */
export const changeUser: UserCommand<ChangeUser> = {
  name: 'ChangeUser',
  aggregate: user,
  schema: commands.changeUser,
  id: (input) => input.userId,
  owner: (input) => input.userId,
  authorise: keepsOneself,
  decide: (input, state) => {
    if (state.status === 'none') return refuse('NOT_FOUND', 'User not found.');
    const events: DecidedEvent<UserEventType>[] = [];
    if (input.role !== undefined && input.role !== state.role) {
      events.push({ type: 'UserRoleChanged', data: { role: input.role } });
    }
    if (input.disabled === true && state.status === 'active') events.push({ type: 'UserDisabled', data: {} });
    if (input.disabled === false && state.status === 'disabled') {
      events.push({ type: 'UserEnabled', data: {} });
    }
    if (input.passwordHash !== undefined && input.passwordHash !== state.passwordHash) {
      events.push({ type: 'UserPasswordChanged', data: { passwordHash: input.passwordHash } });
    }
    return events;
  },
};

/** An administrator who could shut themselves out would leave nobody to let them in again. */
function keepsOneself(caller: Caller, input: ChangeUser, state: UserState): void {
  if (state.status === 'none' || caller.userId !== input.userId) return;
  if (input.disabled === true) refuse('FORBIDDEN', 'You cannot disable yourself: ask another administrator.');
  if (input.role !== undefined && input.role !== state.role) {
    refuse('FORBIDDEN', 'You cannot change your own role: ask another administrator.');
  }
}
