import { expect } from 'chai';
import type { Caller } from '../../contracts/caller.ts';
import { defaultBudget, defaultPolicy } from '../../contracts/commands/agent.ts';
import type { DecidedEvent } from '../../contracts/events/catalogue.ts';
import { type Permission, rolePermissions } from '../../contracts/http/route.ts';
import { given, OWNER } from '../testing.ts';
import {
  type AgentEventType,
  agent,
  agentIdFor,
  changeAgent,
  createAgent,
  deleteAgent,
  provideAgent,
} from './agent.ts';

const definition = {
  ...{ name: 'scout', description: 'Looks things up.', instructions: 'Look it up.', model: null },
  ...{ tools: ['calculate'], budget: defaultBudget, policy: defaultPolicy, shared: false, aliases: [] },
};
const { name: _name, ...rest } = definition;
const created = { type: 'AgentCreated', data: definition } as DecidedEvent<AgentEventType>;
const shared = {
  type: 'AgentCreated',
  data: { ...definition, shared: true },
} as DecidedEvent<AgentEventType>;
const deleted = { type: 'AgentDeleted', data: {} } as DecidedEvent<AgentEventType>;
const agentId = agentIdFor(OWNER, 'scout');
const callerOf = (userId: string, role: keyof typeof rolePermissions): Caller => ({
  ...{
    userId,
    email: `${userId}@example.org`,
    displayName: userId,
    role,
    sessionId: null,
    expiresAtMs: null,
  },
  actor: { kind: 'user', id: userId },
  permissions: new Set<Permission>(rolePermissions[role]),
});
const owner = callerOf(OWNER, 'user');
const stranger = callerOf('stranger', 'user');
const admin = callerOf('root', 'admin');

describe('an agent', () => {
  it('is made once, and again after it was deleted', () => {
    given(agent).when(createAgent, { owner: OWNER, definition }, owner).then(created);
    given(agent, created).when(createAgent, { owner: OWNER, definition }, owner).refused('CONFLICT');
    given(agent, created, deleted).when(createAgent, { owner: OWNER, definition }, owner).then(created);
  });

  it('is made for oneself only', () =>
    given(agent).when(createAgent, { owner: OWNER, definition }, stranger).refused('FORBIDDEN'));

  it('has an id of its owner and name', () => {
    expect(agentIdFor('ada', 'scout')).to.equal(agentIdFor('ada', 'scout'));
    expect(agentIdFor('bob', 'scout')).not.to.equal(agentIdFor('ada', 'scout'));
  });

  it('is not called orchestrate, nor answered by another agent', () => {
    const parse = (changes: object) =>
      createAgent.schema.safeParse({ owner: OWNER, definition: { ...definition, ...changes } }).success;
    expect(parse({})).to.equal(true);
    expect(parse({ name: 'orchestrate' })).to.equal(false);
    expect(parse({ name: 'Scout' })).to.equal(false);
    expect(parse({ model: 'agent:coder' })).to.equal(false);
    expect(parse({ tools: ['calculate', 'calculate'] })).to.equal(false);
  });

  it('changes in what is said, and not in what is left out', () =>
    given(agent, created)
      .when(changeAgent, { agentId, changes: { description: 'New.', budget: { turns: 3 } } }, owner)
      .then({
        type: 'AgentChanged',
        data: { ...rest, description: 'New.', budget: { ...defaultBudget, turns: 3 } },
      }));

  it('says nothing where nothing changes', () =>
    given(agent, created)
      .when(changeAgent, { agentId, changes: { shared: false } }, owner)
      .then());

  it('is changed and deleted by its owner and by admins', () => {
    given(agent, created).when(deleteAgent, { agentId }, owner).then(deleted);
    given(agent, created).when(deleteAgent, { agentId }, admin).then(deleted);
    given(agent, shared).when(deleteAgent, { agentId }, stranger).refused('FORBIDDEN');
    given(agent, created).when(deleteAgent, { agentId }, stranger).refused('NOT_FOUND');
    given(agent, created, deleted).when(deleteAgent, { agentId }, owner).refused('NOT_FOUND');
    given(agent, created)
      .when(changeAgent, { agentId, changes: { shared: true } }, stranger)
      .refused('NOT_FOUND');
  });

  it('that is ready-made stays as an administrator left it', () => {
    given(agent).when(provideAgent, { owner: 'system', definition }).then(created);
    given(agent, created).when(provideAgent, { owner: 'system', definition }).then();
    given(agent, created, deleted).when(provideAgent, { owner: 'system', definition }).then();
    given(agent).when(provideAgent, { owner: 'system', definition }, admin).refused('FORBIDDEN');
  });
});
