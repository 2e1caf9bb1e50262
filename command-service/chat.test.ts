import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { Caller } from '../contracts/caller.ts';
import { defaultBudget, defaultPolicy } from '../contracts/commands/agent.ts';
import type { ChatCommands, Issuer } from '../contracts/commands/conversation.ts';
import { Refusal } from '../contracts/errors.ts';
import type { EventData } from '../contracts/events/catalogue.ts';
import { rolePermissions } from '../contracts/http/route.ts';
import type { AgentDocument } from '../contracts/read-models/documents.ts';
import { createInProcessSignalBus } from '../infra/bus/in-process.ts';
import type { EventStore } from '../infra/event-store/port.ts';
import { openSqliteEventStore } from '../infra/event-store/sqlite.ts';
import { withCatalogue } from '../infra/event-store/with-catalogue.ts';
import { createAgents } from './agents.ts';
import { createCommandBus } from './bus.ts';
import { beginRun, createChatCommands, runBegunBy } from './chat.ts';
import type { CommandBus } from './command.ts';
import { conversation, conversationIdFor, startConversation } from './domain/conversation.ts';

const agentOf = (owner: string, name: string, changes: Partial<AgentDocument> = {}): AgentDocument => ({
  id: `${owner} ${name}`,
  owner,
  name,
  description: name,
  instructions: name,
  model: null,
  tools: ['calculate'],
  budget: defaultBudget,
  policy: defaultPolicy,
  shared: false,
  aliases: [],
  createdAt: '2026-01-01T00:00:00.000Z',
  updatedAt: '2026-01-01T00:00:00.000Z',
  ...changes,
});

const caller = (userId: string): Caller => ({
  userId,
  email: `${userId}@example.org`,
  displayName: userId,
  role: 'user',
  actor: { kind: 'user', id: userId },
  permissions: new Set(rolePermissions.user),
  sessionId: null,
  expiresAtMs: null,
});
const issuer = (userId = 'ada'): Issuer => ({
  caller: caller(userId),
  commandId: randomUUID(),
  correlationId: randomUUID(),
  surface: 'luna',
  retried: false,
});
async function codeOf(command: Promise<unknown>): Promise<string> {
  try {
    await command;
  } catch (error) {
    if (error instanceof Refusal) return error.code;
    throw error;
  }
  return 'not refused';
}

describe('the chat commands', () => {
  let directory: string;
  let store: EventStore;
  let bus: CommandBus;
  let known: AgentDocument[];
  let commands: ChatCommands;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'odeon-chat-'));
    store = withCatalogue(await openSqliteEventStore({ directory }));
    bus = createCommandBus({
      store,
      snapshots: { get: async () => null, put: async () => {} },
      onSnapshotError: (error) => expect.fail(String(error)),
    });
    known = [agentOf('ada', 'scout', { model: 'pro' }), agentOf('ada', 'clerk')];
    const { runOf } = createAgents({ readModels: {} as never });
    const visible = (to: Caller, found: AgentDocument | undefined): AgentDocument => {
      if (found === undefined || found.owner !== to.userId) {
        throw new Refusal('NOT_FOUND', 'Agent not found.');
      }
      return found;
    };
    const agents = {
      find: async (to: Caller, name: string) =>
        visible(
          to,
          known.find((agent) => agent.name === name),
        ),
      get: async (to: Caller, id: string) =>
        visible(
          to,
          known.find((agent) => agent.id === id),
        ),
      runOf,
    };
    const signals = createInProcessSignalBus({ onError: (error) => expect.fail(String(error)) });
    commands = createChatCommands(bus, signals, agents);
  });
  afterEach(async () => {
    await store.close();
    await rm(directory, { recursive: true });
  });

  async function messages(conversationId: string) {
    const sent: EventData<'MessageSent'>[] = [];
    for await (const page of store.readStream(`conversation-${conversationId}`)) {
      for (const { type, data } of page) if (type === 'MessageSent') sent.push(data as never);
    }
    return sent;
  }
  const begun = async (input: Parameters<ChatCommands['startConversation']>[0] = {}) =>
    (await commands.startConversation(input, issuer())).conversation;
  const say = (conversationId: string, model: string | null = null, by = issuer()) =>
    commands.sendMessage({ conversationId, content: 'hi', model }, by);

  it('let an agent answer a message that names it, with its own model', async () => {
    const { id } = await begun({ model: 'nano' });
    await say(id, 'agent:scout');
    await say(id, 'agent:clerk');
    await say(id, 'openai/gpt');
    const [scout, clerk, plain] = await messages(id);
    expect(scout).to.deep.include({ model: 'pro' });
    expect(scout?.run).to.deep.include({
      agent: { id: 'ada scout', name: 'scout' },
      trigger: 'chat',
      tools: ['calculate'],
      maxAttempts: defaultPolicy.maxAttempts,
      timeoutMs: defaultPolicy.timeoutMs,
      concurrency: defaultPolicy.concurrency,
    });
    expect(clerk?.model).to.equal(null);
    expect(clerk?.run?.agent.name).to.equal('clerk');
    expect(plain).to.deep.include({ model: 'openai/gpt', run: null });
  });

  it('let a conversation’s agent answer in it, unless the message names another or a model', async () => {
    const { id, agentName, model } = await begun({ model: 'agent:scout' });
    expect({ agentName, model }).to.deep.equal({ agentName: 'scout', model: null });
    await say(id);
    await say(id, 'agent:clerk');
    await say(id, 'nano');
    const sent = await messages(id);
    expect(sent.map(({ run }) => run?.agent.name)).to.deep.equal(['scout', 'clerk', undefined]);
    expect(sent.map(({ model }) => model)).to.deep.equal(['pro', null, 'nano']);
  });

  it('refuse an agent that is gone or not the caller’s, and change nothing', async () => {
    const { id } = await begun({ model: 'agent:scout' });
    known = known.filter(({ name }) => name !== 'scout');
    expect(await codeOf(say(id))).to.equal('NOT_FOUND');
    expect(await codeOf(say(id, 'agent:scout'))).to.equal('NOT_FOUND');
    expect(await codeOf(say(id, 'agent:'))).to.equal('NOT_FOUND');
    known.push(agentOf('bob', 'private'));
    expect(await codeOf(say(id, 'agent:private'))).to.equal('NOT_FOUND');
    expect(await codeOf(commands.startConversation({ model: 'agent:private' }, issuer()))).to.equal(
      'NOT_FOUND',
    );
    expect(await messages(id)).to.deep.equal([]);
  });

  it('tell a stranger nothing but that there is no such conversation', async () => {
    const { id } = await begun({ model: 'agent:scout' });
    for (const model of [null, 'agent:scout', 'agent:ghost']) {
      try {
        await say(id, model, issuer('bob'));
        expect.fail('it was sent');
      } catch (error) {
        expect((error as Error).message).to.equal('Conversation not found.');
      }
    }
  });

  it('begin a run once, in a conversation of its own, and find it again', async () => {
    const agent = known[0]!;
    const run = createAgents({ readModels: {} as never }).runOf(agent, { trigger: 'manual' });
    const by = issuer();
    const meta = { ...by, causationId: null, actor: by.caller.actor, caller: null };
    // Its id is taken.
    const taken = { owner: 'bob', title: null, mode: 'assistant', model: null, kind: 'chat' } as const;
    await bus.dispatch(
      startConversation,
      { ...taken, conversationId: conversationIdFor(by.commandId), agent: null, linkId: null },
      { ...meta, commandId: 'another' },
    );
    expect(await runBegunBy(store, by.commandId)).to.equal(null);
    const first = await beginRun(bus, { owner: 'ada', agent, run, task: 'Look.' }, meta);
    const second = await beginRun(
      bus,
      { owner: 'ada', agent, run, task: 'Look.' },
      { ...meta, retried: true },
    );
    expect(second).to.deep.equal(first);
    expect(await runBegunBy(store, by.commandId)).to.deep.equal(first);
    expect(first.conversationId).to.equal(conversationIdFor(by.commandId, 1));
    expect(await messages(first.conversationId)).to.have.length(1);
    const { state } = await bus.load(conversation, first.conversationId);
    expect(state).to.deep.include({ owner: 'ada', kind: 'run', agent: { id: 'ada scout', name: 'scout' } });
  });
});
