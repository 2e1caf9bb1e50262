/** The Council of a user: its members, and the one session in which they deliberate on the user's own topic. */
import type { z } from 'zod';
import * as commands from '../../contracts/commands/deliberation.ts';
import { JUDGE, readyMadeMembers } from '../../contracts/council.ts';
import { refuse } from '../../contracts/errors.ts';
import type { DecidedEvent, OdeonEvent } from '../../contracts/events/catalogue.ts';
import type { CouncilMember } from '../../contracts/events/deliberation.ts';
import type { Aggregate, Command, CommandBus } from '../command.ts';
import { derivedId } from './derived-id.ts';

export type CouncilEventType =
  | 'CouncilMemberChanged'
  | 'CouncilMemberRemoved'
  | 'AutonomousSessionStarted'
  | 'AutonomousSessionStopRequested'
  | 'AutonomousSessionEnded';
type Decided = DecidedEvent<CouncilEventType>;

export const sessionIdFor = (commandId: string): string => `session_${derivedId(24, 'session', commandId)}`;

// ── state: only what deciding needs ───────────────────────────────────────
export interface CouncilState {
  readonly members: readonly CouncilMember[];
  /** The one that is active. */
  readonly session: {
    readonly sessionId: string;
    readonly deliberationId: string;
    readonly stopRequested: boolean;
    readonly startedAt: string;
  } | null;
}

function evolve(state: CouncilState, event: OdeonEvent<CouncilEventType>): CouncilState {
  switch (event.type) {
    case 'CouncilMemberChanged':
      return { ...state, members: [...without(state, event.data.name), event.data] };
    case 'CouncilMemberRemoved':
      return { ...state, members: without(state, event.data.name) };
    case 'AutonomousSessionStarted': {
      const { sessionId, deliberationId } = event.data;
      return {
        ...state,
        session: { sessionId, deliberationId, stopRequested: false, startedAt: event.time },
      };
    }
    case 'AutonomousSessionStopRequested':
      return { ...state, session: state.session && { ...state.session, stopRequested: true } };
    case 'AutonomousSessionEnded':
      return { ...state, session: null };
  }
}

const without = ({ members }: CouncilState, name: string): readonly CouncilMember[] =>
  members.filter((member) => member.name !== name);

export const council: Aggregate<CouncilState, CouncilEventType> = {
  category: 'council',
  initial: { members: readyMadeMembers, session: null },
  evolve,
  stateVersion: 1,
};

/** The active members of a user's council, in the order in which they speak. */
export async function membersOf(bus: CommandBus, owner: string): Promise<CouncilMember[]> {
  const { state } = await bus.load(council, owner);
  return state.members.filter(({ active }) => active).sort(byOrder);
}

const byOrder = (a: CouncilMember, b: CouncilMember): number =>
  a.order - b.order || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);

// ── commands ──────────────────────────────────────────────────────────────
type CouncilCommand<Input> = Command<Input, CouncilState, CouncilEventType>;

/** Only the owner changes their council. */
const command = <Input extends { owner: string }>(
  name: string,
  schema: z.ZodType<Input>,
  decide: CouncilCommand<Input>['decide'],
): CouncilCommand<Input> => ({
  name,
  aggregate: council,
  schema,
  id: (input) => input.owner,
  owner: (input) => input.owner,
  authorise(caller, input) {
    if (caller.userId !== input.owner) refuse('FORBIDDEN', 'A council is changed by its owner only.');
  },
  decide,
});

export const changeMember = command(
  'ChangeMember',
  commands.changeMember,
  ({ name, changes, create }, state) => {
    const before = state.members.find((member) => member.name === name);
    if (before === undefined && !create) absent(name);
    const member = { ...(before ?? newMember(name, state)), ...defined(changes) };
    if (member.role === '' || member.instructions === '') {
      refuse('VALIDATION_ERROR', 'A new member needs a role and instructions.');
    }
    if (before !== undefined && JSON.stringify(before) === JSON.stringify(member)) return [];
    if (before === undefined && state.members.length >= commands.MAX_MEMBERS) {
      refuse('CONFLICT', `A council has at most ${commands.MAX_MEMBERS} members: remove one first.`);
    }
    refuseIncomplete([...without(state, name), member]);
    return [{ type: 'CouncilMemberChanged', data: member }];
  },
);

export const removeMember = command('RemoveMember', commands.removeMember, ({ name }, state) => {
  if (!state.members.some((member) => member.name === name)) absent(name);
  refuseIncomplete(without(state, name));
  return [{ type: 'CouncilMemberRemoved', data: { name } }];
});

export const resetCouncil = command('ResetCouncil', commands.resetCouncil, ({ name }, state) => {
  const wanted = readyMadeMembers.filter((member) => name === null || member.name === name);
  if (wanted.length === 0) absent(name ?? '');
  const added = state.members.filter((member) => !readyMadeMembers.some((made) => made.name === member.name));
  return [
    ...(name === null ? added : []).map(
      (member): Decided => ({ type: 'CouncilMemberRemoved', data: { name: member.name } }),
    ),
    ...wanted
      .filter(
        (member) =>
          JSON.stringify(member) !== JSON.stringify(state.members.find((one) => one.name === member.name)),
      )
      .map((member): Decided => ({ type: 'CouncilMemberChanged', data: member })),
  ];
});

/** Begins a session, of which a user has one at a time. */
export const startSession = command(
  'StartSession',
  commands.startSession,
  ({ owner: _owner, ...session }, state) => {
    if (state.session !== null) refuse('VALIDATION_ERROR', 'A session is active already: stop it first.');
    return [{ type: 'AutonomousSessionStarted', data: session }];
  },
);

export const requestSessionStop = command(
  'RequestSessionStop',
  commands.requestSessionStop,
  ({ sessionId }, { session }) =>
    session?.sessionId !== sessionId || session.stopRequested
      ? []
      : [{ type: 'AutonomousSessionStopRequested', data: { sessionId } }],
);

export const endSession = command('EndSession', commands.endSession, ({ sessionId, outcome }, { session }) =>
  session?.sessionId === sessionId ? [{ type: 'AutonomousSessionEnded', data: { sessionId, outcome } }] : [],
);

const newMember = (name: string, { members }: CouncilState): CouncilMember => ({
  name,
  displayName: name,
  role: '',
  personality: 'Speaks plainly and to the point.',
  instructions: '',
  avatarEmoji: '💬',
  color: '#94a3b8',
  // Before the judge, who speaks last.
  order: Math.max(0, ...members.filter((member) => member.name !== JUDGE).map(({ order }) => order)),
  active: true,
});

function refuseIncomplete(members: readonly CouncilMember[]): void {
  const active = members.filter((member) => member.active);
  if (!active.some(({ name }) => name === JUDGE)) {
    refuse('CONFLICT', 'The judge decides where the others do not agree: change it, but keep it active.');
  }
  if (active.length < 2) refuse('CONFLICT', 'At least one active member must remain beside the judge.');
}

const absent = (name: string): never => refuse('NOT_FOUND', `The council has no member ${name}.`);

/** Without what is undefined, which would hide what was there. */
const defined = <Changes extends object>(changes: Changes) =>
  Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined)) as {
    [Name in keyof Changes]: Exclude<Changes[Name], undefined>;
  };
