/** Turns with a visitor of a public link: the conversation is the owner's, what is answered is the visitor's to read. */
import { expect } from 'chai';
import { defaultBudget, defaultPolicy } from '../../../contracts/commands/agent.ts';
import type { Run } from '../../../contracts/events/conversation.ts';
import { createAgents } from '../../agents.ts';
import { agentIdFor, createAgent } from '../../domain/agent.ts';
import { rememberFact } from '../../domain/fact.ts';
import { ask, dataOf, ends, metaFor, modelsOf, OWNER, openTurnWorld, say, scripted } from './testing.ts';
import { createTools } from './tools/index.ts';

const agent = { id: agentIdFor(OWNER, 'scout'), name: 'scout' };
const run: Run = {
  agent,
  trigger: 'public',
  parent: null,
  orchestrationId: null,
  tools: null,
  budget: defaultBudget,
  timeoutMs: 60_000,
  maxAttempts: 1,
  concurrency: 3,
};

describe('a turn with a visitor', () => {
  let world: Awaited<ReturnType<typeof openTurnWorld>>;
  beforeEach(async () => {
    world = await openTurnWorld();
    const definition = {
      ...{
        name: 'scout',
        description: 'Scouts.',
        instructions: 'You are the scout.',
        model: null,
        tools: null,
      },
      ...{ budget: defaultBudget, policy: defaultPolicy, shared: false, aliases: [] },
    };
    await world.bus.dispatch(createAgent, { owner: OWNER, definition }, metaFor('agent'));
    const told = await world.begun('told');
    const { position } = await world.bus.dispatch(
      rememberFact,
      {
        ...{ owner: OWNER, category: 'personal', key: 'safe', value: 'behind the painting', confidence: 1 },
        ...{ conversationId: told, turnId: 'turn_0' },
      },
      metaFor('fact'),
    );
    await world.base.reached(position!, AbortSignal.timeout(10_000));
  });
  afterEach(() => world.close());

  const owners = [
    ...['remember_fact', 'recall_facts', 'forget_fact', 'search_conversations', 'list_abilities'],
    ...['explain_setup', 'delegate'],
  ];
  /** Asks for the tools whether they are offered or not. */
  const greedy = () =>
    scripted('one', (_prompt, call) =>
      call === 1
        ? ask(
            ['recall_facts', {}],
            ['remember_fact', { key: 'safe', value: 'empty' }],
            ['forget_fact', { key: 'safe' }],
            ['search_conversations', { query: 'safe' }],
            ['calculate', { expression: '6*7' }],
          )
        : say('42'),
    );

  for (const [name, begin, sent] of [
    ['that comes by a link', { kind: 'public' as const, agent, linkId: 'l1' }, run],
    [
      "that the owner writes in a visitor's conversation",
      { kind: 'public' as const, agent, linkId: 'l1' },
      { ...run, trigger: 'chat' as const },
    ],
    ['of a run for the public, wherever it is', {}, run],
  ] as const) {
    it(`${name} is told nothing of the owner's, and changes nothing of it`, async () => {
      const model = greedy();
      const { start, begun, send, until, readModels } = world;
      const agents = createAgents({ readModels });
      await start(modelsOf(model), { tools: createTools(modelsOf(model), agents) });
      const id = await begun('c', begin as never);
      await send(id, 'Where is the safe?', 'asked', { run: sent });
      const all = await until(id, ends);
      expect(all.at(-1)?.type).to.equal('TurnCompleted');
      for (const { system, tools } of model.prompts) {
        expect(system).to.equal('You are the scout.');
        expect(tools.map((one) => one.name)).to.deep.equal(['calculate', 'current_time']);
      }
      const results = dataOf(all, 'ToolReturned');
      expect(results).to.have.length(5);
      for (const { tool, isError, result } of results) {
        expect(isError, tool).to.equal(owners.includes(tool));
        expect(JSON.stringify(result)).to.not.include('painting');
      }
      const [fact] = (await readModels.find<{ value: string }>('facts', { limit: 10 })).documents;
      expect(fact?.body.value).to.equal('behind the painting');
    });
  }

  it('is the only one: the owner’s own runs know what they knew', async () => {
    const model = scripted('one', () => say('Hi.'));
    await world.start(modelsOf(model), {
      tools: createTools(modelsOf(model), createAgents({ readModels: world.readModels })),
    });
    const id = await world.begun();
    await world.send(id, 'Hello', 'hello', { run: { ...run, trigger: 'chat' } });
    await world.until(id, ends);
    expect(model.prompts[0]?.system).to.include('behind the painting');
    expect(model.prompts[0]?.tools.map((one) => one.name)).to.include.members(owners);
  });
});
