/** A named agent. Its owner changes it; everybody uses it once it is shared. */
import type { z } from 'zod';
import { type Caller, sees } from '../../contracts/caller.ts';
import * as commands from '../../contracts/commands/agent.ts';
import { SYSTEM_OWNER } from '../../contracts/envelope.ts';
import { refuse } from '../../contracts/errors.ts';
import type { AgentDefinition, agentEvents } from '../../contracts/events/agent.ts';
import type { OdeonEvent } from '../../contracts/events/catalogue.ts';
import type { Aggregate, Command } from '../command.ts';
import { derivedId } from './derived-id.ts';

export type AgentEventType = keyof typeof agentEvents;

/** An owner's agents differ in their names. */
export const agentIdFor = (owner: string, name: string): string => derivedId(24, 'agent', owner, name);

// ── state: only what deciding needs ───────────────────────────────────────
export type AgentState =
  | { readonly status: 'none' }
  | { readonly status: 'deleted' }
  | { readonly status: 'active'; readonly owner: string; readonly definition: AgentDefinition };

function evolve(state: AgentState, event: OdeonEvent<AgentEventType>): AgentState {
  switch (event.type) {
    case 'AgentCreated':
      return { status: 'active', owner: event.owner, definition: event.data };
    case 'AgentChanged':
      if (state.status !== 'active') return state;
      return { ...state, definition: { ...event.data, name: state.definition.name } };
    case 'AgentDeleted':
      return { status: 'deleted' };
  }
}

export const agent: Aggregate<AgentState, AgentEventType> = {
  category: 'agent',
  initial: { status: 'none' },
  evolve,
  stateVersion: 1,
};

// ── commands ──────────────────────────────────────────────────────────────
type AgentCommand<Input> = Command<Input, AgentState, AgentEventType>;
type CreateAgent = z.infer<typeof commands.createAgent>;

const creation = {
  aggregate: agent,
  schema: commands.createAgent,
  id: ({ owner, definition }: CreateAgent) => agentIdFor(owner, definition.name),
  owner: ({ owner }: CreateAgent) => owner,
};

export const createAgent: AgentCommand<CreateAgent> = {
  ...creation,
  name: 'CreateAgent',
  authorise: (caller, { owner }) => {
    if (caller.userId !== owner) refuse('FORBIDDEN', 'You can make agents only for yourself.');
  },
  decide: ({ definition }, state) => {
    if (state.status === 'active') refuse('CONFLICT', `You have an agent ${definition.name} already.`);
    return [{ type: 'AgentCreated', data: definition }];
  },
};

/** Makes a ready-made agent unless it was made before: changed or deleted, it stays so. */
export const provideAgent: AgentCommand<CreateAgent> = {
  ...creation,
  name: 'ProvideAgent',
  authorise: () => refuse('FORBIDDEN', 'Only the system makes ready-made agents.'),
  decide: ({ definition }, state) =>
    state.status === 'none' ? [{ type: 'AgentCreated', data: definition }] : [],
};

/** What is shared can be seen to be somebody else's; what is not looks as if it did not exist. */
function authorise(caller: Caller, _input: unknown, state: AgentState): void {
  if (state.status !== 'active') absent();
  if (sees(caller, state.owner)) return;
  if (!state.definition.shared) absent();
  refuse(
    'FORBIDDEN',
    state.owner === SYSTEM_OWNER
      ? 'Only an administrator can change a ready-made agent: make one of your own.'
      : 'The agent belongs to somebody else: make one of your own.',
  );
}

const existing = {
  aggregate: agent,
  id: ({ agentId }: { agentId: string }) => agentId,
  owner: (_input: unknown, state: AgentState) => (state.status === 'active' ? state.owner : absent()),
  authorise,
};

export const changeAgent: AgentCommand<z.infer<typeof commands.changeAgent>> = {
  ...existing,
  name: 'ChangeAgent',
  schema: commands.changeAgent,
  decide: ({ changes }, state) => {
    if (state.status !== 'active') return absent();
    const { name: _name, ...before } = state.definition;
    const after = {
      ...before,
      ...defined(changes),
      budget: { ...before.budget, ...defined(changes.budget ?? {}) },
      policy: { ...before.policy, ...defined(changes.policy ?? {}) },
    };
    return JSON.stringify(after) === JSON.stringify(before) ? [] : [{ type: 'AgentChanged', data: after }];
  },
};

export const deleteAgent: AgentCommand<z.infer<typeof commands.deleteAgent>> = {
  ...existing,
  name: 'DeleteAgent',
  schema: commands.deleteAgent,
  decide: () => [{ type: 'AgentDeleted', data: {} }],
};

/** Without what is undefined, which would hide what was there. */
const defined = <Changes extends object>(changes: Changes) =>
  Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined)) as {
    [Name in keyof Changes]: Exclude<Changes[Name], undefined>;
  };

function absent(): never {
  return refuse('NOT_FOUND', 'Agent not found.');
}
