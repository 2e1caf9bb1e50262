/** Turns that an agent answers. */
import { expect } from 'chai';
import { z } from 'zod';
import { defaultBudget, defaultPolicy } from '../../../contracts/commands/agent.ts';
import type { EventData } from '../../../contracts/events/catalogue.ts';
import type { Run } from '../../../contracts/events/conversation.ts';
import type { TurnDocument } from '../../../contracts/read-models/documents.ts';
import { ModelError, type ModelPart, type Prompt } from '../../../infra/models/port.ts';
import { createAgents } from '../../agents.ts';
import { agentIdFor, createAgent, deleteAgent } from '../../domain/agent.ts';
import {
  answerIdFor,
  claimTurn,
  recordSteps,
  requestInterrupt,
  type TurnStep,
  turnIdFor,
} from '../../domain/conversation.ts';
import { soleWorker } from '../workers.ts';
import {
  ask,
  dataOf,
  ends,
  hang,
  metaFor,
  modelsOf,
  OWNER,
  openTurnWorld,
  say,
  scripted,
  type TurnWorld,
  typesOf,
  usage,
} from './testing.ts';
import { type Tool, tool } from './tool.ts';
import { delegateTool } from './tools/delegate.ts';

const BUSY = { ...soleWorker('dead'), isAlive: () => true };

const runOf = (changes: Partial<Run> = {}, name = 'scout'): Run => ({
  agent: { id: agentIdFor(OWNER, name), name },
  trigger: 'manual',
  parent: null,
  orchestrationId: null,
  tools: null,
  budget: { tokens: null, cost: null, turns: null },
  timeoutMs: 60_000,
  maxAttempts: 1,
  concurrency: 3,
  ...changes,
});

const noop = (name: string, run: Tool['run'] = () => 'done'): Tool =>
  tool({ name, description: name, input: z.object({}), readOnly: true, run });

const interrupted = (turnId: string): TurnStep => ({
  type: 'TurnInterrupted',
  data: {
    turnId,
    messageId: answerIdFor(turnId),
    content: '',
    provider: null,
    model: null,
    requestedModel: null,
    decision: null,
    tried: [],
    toolsUsed: [],
    usage,
    costUsd: 0,
    durationMs: 0,
    finishReason: null,
    toolRequests: [],
  },
});

/** Waits that end when the test says so; shorter ones end by themselves. */
function waits() {
  const open: { milliseconds: number; end: () => void }[] = [];
  return {
    open,
    wait: (milliseconds: number, signal: AbortSignal): Promise<void> => {
      if (milliseconds < 1_000) return new Promise((resolve) => setTimeout(resolve, milliseconds));
      return new Promise((resolve, reject) => {
        open.push({ milliseconds, end: resolve });
        signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      });
    },
  };
}

describe('a run of an agent', () => {
  let world: TurnWorld;
  let { store, bus, readModels, base, start, begun, send, events, until } = {} as TurnWorld;

  beforeEach(async () => {
    world = await openTurnWorld();
    ({ store, bus, readModels, base, start, begun, send, events, until } = world);
  });
  afterEach(() => world.close());

  const agent = (name: string, policy: { concurrency?: number } = {}) =>
    bus.dispatch(
      createAgent,
      {
        owner: OWNER,
        definition: {
          name,
          description: `The ${name}.`,
          instructions: `You are the ${name}.`,
          model: null,
          tools: null,
          budget: defaultBudget,
          policy: { ...defaultPolicy, ...policy },
          shared: false,
          aliases: [],
        },
      },
      metaFor(`make ${name}`),
    );
  const run = (id: string, content: string, changes: Partial<Run> = {}, name = 'scout') =>
    send(id, content, content, { run: runOf(changes, name) });
  const whoIn = ({ system }: Prompt): string => /^You are the (\w+)\./.exec(system)?.[1] ?? 'nobody';

  it('has the agent’s instructions and those of the request, and the tools that it may use', async () => {
    await agent('scout');
    const model = scripted('one', (_prompt, call) =>
      call === 1 ? ask(['left', {}], ['right', {}]) : say('Seen.'),
    );
    await start(modelsOf(model), { tools: [noop('left'), noop('right')] });
    const id = await begun();
    await send(id, 'look', 'look', { instructions: 'Be quick.', run: runOf({ tools: ['left', 'absent'] }) });
    const all = await until(id, ends);
    expect(model.prompts[0]?.system).to.equal('You are the scout.\n\nBe quick.');
    expect(model.prompts[0]?.tools.map(({ name }) => name)).to.deep.equal(['left']);
    expect(dataOf(all, 'ContextPrepared')[0]?.tools).to.deep.equal(['left']);
    expect(
      dataOf(all, 'ToolReturned').map(({ tool: name, isError }) => [name, isError]),
    ).to.have.deep.members([
      ['left', false],
      ['right', true],
    ]);
    expect(dataOf(all, 'TurnCompleted')[0]).to.include({ content: 'Seen.', finishReason: 'stop' });
    for (const type of ['ModelCalled', 'ToolReturned', 'TurnCompleted'] as const) {
      expect(all.find((event) => event.type === type)?.actor).to.deep.equal({ kind: 'agent', id: 'scout' });
    }
  });

  it('is answered by the agent’s own model, whatever the conversation’s', async () => {
    await agent('scout');
    const asked: (string | null)[] = [];
    const model = scripted('one', () => say('Hi.'));
    await start({
      ...modelsOf(model),
      candidates: (requested) => {
        asked.push(requested);
        return { models: [model], served: true };
      },
    });
    const id = await begun('c', { model: 'another/model' });
    await run(id, 'hi');
    const [outcome] = dataOf(await until(id, ends), 'TurnCompleted');
    expect(asked).to.deep.equal([null]);
    expect(outcome?.requestedModel).to.equal(null);
    await send(id, 'and you?');
    expect(dataOf(await until(id, ends, 2), 'TurnCompleted')[1]?.requestedModel).to.equal('another/model');
  });

  it('fails with the reason when its agent was deleted before it began', async () => {
    await agent('scout');
    await bus.dispatch(deleteAgent, { agentId: agentIdFor(OWNER, 'scout') }, metaFor('delete'));
    await start(modelsOf(scripted('one', () => say('never'))));
    const id = await begun();
    await run(id, 'look', { maxAttempts: 3 });
    const all = await until(id, ends);
    expect(dataOf(all, 'TurnFailed')[0]?.reason).to.equal(
      'The agent scout was deleted before its run began.',
    );
    expect(dataOf(all, 'TurnStarted')).to.have.length(1);
  });

  describe('with a budget', () => {
    const looking = () =>
      scripted('one', (_prompt, call): ModelPart[] => [
        { type: 'text', text: `Look ${call}. ` },
        ...ask(['left', {}]),
      ]);

    it('fails when its calls are used up, keeps what was written, and runs no tool whose result nobody reads', async () => {
      await agent('scout');
      let ran = 0;
      const model = looking();
      await start(modelsOf(model), { tools: [noop('left', () => ++ran)] });
      const id = await begun();
      await run(id, 'look', { budget: { tokens: null, cost: null, turns: 2 }, maxAttempts: 3 });
      const [outcome] = dataOf(await until(id, ends), 'TurnFailed');
      expect(outcome?.reason).to.equal("The run's budget is used up: turns (2 of 2).");
      expect(outcome?.content).to.match(/^Look 1\.\s+Look 2\. $/);
      expect(model.prompts).to.have.length(2);
      expect(ran).to.equal(1);
    });

    it('makes no call that cannot fit, and lets an answer be no longer than what is left', async () => {
      await agent('scout');
      const model = scripted('one', () => say('Hi.'));
      await start(modelsOf(model));
      const id = await begun();
      await run(id, 'short', { budget: { tokens: 500, cost: null, turns: null } });
      await until(id, ends);
      const room = model.prompts[0]!.settings!.maxTokens!;
      expect(room).to.be.within(400, 499);
      await send(id, 'x'.repeat(4_000), 'long', {
        run: runOf({ budget: { tokens: 500, cost: null, turns: null } }),
      });
      const [outcome] = dataOf(await until(id, ends, 2), 'TurnFailed');
      expect(outcome?.reason).to.match(
        /^The run's budget is used up: tokens \(0 of 500, the next call needs/,
      );
      expect(model.prompts).to.have.length(1);
    });

    it('fails when the budget cut the answer, and when it cost more than it may', async () => {
      await agent('scout');
      const cut = { type: 'finish', finishReason: 'length', usage } as const;
      const dear = { promptTokens: 10, completionTokens: 500, cachedTokens: 0 };
      const model = scripted('one', (_prompt, call) =>
        call === 1
          ? [{ type: 'text', text: 'Half' }, cut]
          : [
              { type: 'text', text: 'Dear.' },
              { ...cut, finishReason: 'stop', usage: dear },
            ],
      );
      await start(modelsOf(model));
      const id = await begun();
      await run(id, 'one', { budget: { tokens: 500, cost: null, turns: null } });
      await until(id, ends);
      await run(id, 'two', { budget: { tokens: null, cost: 0.001, turns: null } });
      const outcomes = dataOf(await until(id, ends, 2), 'TurnFailed');
      expect(outcomes.map(({ content }) => content)).to.deep.equal(['Half', 'Dear.']);
      expect(outcomes[0]?.reason).to.contain('tokens (the answer was cut at what was left of 500)');
      expect(outcomes[1]?.reason).to.contain('cost ($0.00101 of $0.001)');
    });

    it('counts on after its worker died', async () => {
      await agent('scout');
      const budget = { tokens: null, cost: null, turns: 2 };
      const stuck = noop('left', () => new Promise(() => {}));
      await start(modelsOf(looking()), { workers: BUSY, tools: [stuck] });
      const id = await begun();
      await run(id, 'look', { budget });
      await until(id, ['ToolCalled']);
      const second = looking();
      await start(modelsOf(second), { workers: soleWorker('w2'), tools: [noop('left')] });
      const [outcome] = dataOf(await until(id, ends), 'TurnFailed');
      expect(outcome?.reason).to.equal("The run's budget is used up: turns (2 of 2).");
      expect(outcome?.usage).to.deep.equal({ promptTokens: 20, completionTokens: 10, cachedTokens: 0 });
      expect(second.prompts).to.have.length(1);
    });
  });

  describe('that fails', () => {
    it('is attempted again as often as its agent says, also after an answer that broke', async () => {
      await agent('scout');
      const model = scripted('one', async function* (_prompt, call) {
        if (call === 1) throw new ModelError('one/test: 503', { retryable: true });
        if (call === 2) {
          yield { type: 'text', text: 'Half' } as const;
          throw new ModelError('one/test: lost', { retryable: true });
        }
        yield* say('Whole.');
      });
      await start(modelsOf(model));
      const id = await begun();
      await run(id, 'look', { maxAttempts: 4 });
      const all = await until(id, ends);
      expect(dataOf(all, 'TurnStarted').map(({ attempt }) => attempt)).to.deep.equal([1, 2, 3]);
      const [outcome] = dataOf(all, 'TurnCompleted');
      expect(outcome).to.include({ content: 'Whole.', finishReason: 'stop' });
      // The broken answer was paid for, too.
      expect(outcome?.usage.completionTokens).to.equal(usage.completionTokens + 1);
    });

    it('is not attempted again when one attempt is all', async () => {
      await agent('scout');
      const model = scripted('one', () => {
        throw new ModelError('one/test: 503', { retryable: true });
      });
      await start(modelsOf(model));
      const id = await begun();
      await run(id, 'look');
      const all = await until(id, ends);
      expect(dataOf(all, 'TurnFailed')[0]).to.include({ reason: 'one/test: 503', finishReason: null });
      expect(model.prompts).to.have.length(1);
    });

    it('goes on after its worker died though one attempt is all', async () => {
      await agent('scout');
      await start(modelsOf(scripted('one', (_prompt, _call, signal) => hang('', signal))), { workers: BUSY });
      const id = await begun();
      await run(id, 'look');
      await until(id, ['ModelCalled']);
      await start(modelsOf(scripted('two', () => say('Done.'))), { workers: soleWorker('w2') });
      expect(dataOf(await until(id, ends), 'TurnCompleted')[0]?.content).to.equal('Done.');
    });
  });

  describe('that takes too long', () => {
    const hanging = () => scripted('one', (_prompt, call, signal) => hang(`Try ${call}`, signal));

    it('is attempted again with the time anew, then fails', async () => {
      await agent('scout');
      const { open, wait } = waits();
      await start(modelsOf(hanging()), { wait });
      const id = await begun();
      await run(id, 'look', { maxAttempts: 2, timeoutMs: 90_000 });
      for (const attempt of [1, 2]) {
        await until(id, ['ModelCalled'], attempt);
        expect(open).to.have.length(attempt);
        expect(open[attempt - 1]?.milliseconds).to.be.within(80_000, 90_000);
        open[attempt - 1]?.end();
      }
      const all = await until(id, ends);
      expect(dataOf(all, 'TurnFailed')[0]).to.include({ reason: 'timed out after 90 s', content: 'Try 2' });
      expect(dataOf(all, 'ModelFailed').map(({ reason, text }) => [reason, text])).to.deep.equal([
        ['timed out after 90 s', 'Try 1'],
        ['timed out after 90 s', 'Try 2'],
      ]);
    });

    it('has no more time for having been restarted', async () => {
      await agent('scout');
      const first = await start(modelsOf(hanging()), waits());
      const id = await begun();
      await run(id, 'look');
      await until(id, ['ModelCalled']);
      await first.stop();
      const second = waits();
      const between = await start(modelsOf(hanging()), {
        ...second,
        now: () => new Date(Date.now() + 40_000),
        workers: soleWorker('w2'),
      });
      await until(id, ['ModelCalled'], 2);
      expect(second.open[0]?.milliseconds).to.be.within(10_000, 20_000);
      await between.stop();
      const never = scripted('two', () => say('never'));
      await start(modelsOf(never), {
        wait: waits().wait,
        now: () => new Date(Date.now() + 61_000),
        workers: soleWorker('w3'),
      });
      const [outcome] = dataOf(await until(id, ends), 'TurnFailed');
      expect(outcome?.reason).to.equal('timed out after 60 s');
      expect(never.prompts).to.have.length(0);
    });

    it('tells the next attempt which of its tools did not return', async () => {
      await agent('scout');
      const { open, wait } = waits();
      const model = scripted('one', (_prompt, call) => (call === 1 ? ask(['slow', {}]) : say('Gave up.')));
      let runs = 0;
      const slow = noop('slow', () => {
        runs++;
        return new Promise(() => {});
      });
      await start(modelsOf(model), { wait, tools: [slow] });
      const id = await begun();
      await run(id, 'look', { maxAttempts: 2 });
      await until(id, ['ToolCalled']);
      open[0]?.end();
      const all = await until(id, ends);
      expect(dataOf(all, 'ToolReturned')[0]).to.deep.include({
        result: { error: 'timed out after 60 s' },
        isError: true,
      });
      expect(dataOf(all, 'TurnCompleted')[0]?.content).to.equal('Gave up.');
      expect(runs).to.equal(1);
    });
  });

  it('waits for others of the same agent, in order, and not for those of another', async () => {
    await agent('scout');
    await agent('other');
    const gates = new Map<string, () => void>();
    const order: string[] = [];
    const model = scripted('one', async function* (prompt) {
      const message = prompt.messages.at(-1);
      const content = message?.role === 'user' ? message.content : '';
      order.push(content);
      await new Promise<void>((resolve) => gates.set(content, resolve));
      yield* say(content);
    });
    await start(modelsOf(model));
    const ids: Record<string, string> = {};
    for (const name of ['a', 'b', 'c', 'd']) {
      ids[name] = await begun(name);
      await run(ids[name], name, { concurrency: 2 });
    }
    ids.x = await begun('x');
    await run(ids.x, 'x', {}, 'other');
    await until(ids.x, ['ModelCalled']);
    await until(ids.b!, ['ModelCalled']);
    expect(order).to.have.members(['a', 'b', 'x']);
    expect(typesOf(await events(ids.c!))).to.not.include('TurnStarted');
    // Cancelled while it waits, it never begins.
    await bus.dispatch(
      requestInterrupt,
      { conversationId: ids.c!, turnId: turnIdFor('c') },
      metaFor('cancel c'),
    );
    gates.get('a')!();
    await until(ids.d!, ['ModelCalled']);
    for (const name of ['b', 'd', 'x']) gates.get(name)!();
    for (const name of ['a', 'b', 'd', 'x']) await until(ids[name]!, ['TurnCompleted']);
    expect(typesOf(await events(ids.c!))).to.deep.equal([
      'ConversationStarted',
      'MessageSent',
      'TurnInterrupted',
    ]);
    expect(order).to.not.include('c');
  });

  describe('that hands a task on', () => {
    const delegate = () => delegateTool(createAgents({ readModels }));
    /** Each agent asks the next one, the last one answers. */
    const chain = (...names: string[]) =>
      scripted('one', (prompt) => {
        const last = prompt.messages.at(-1)!;
        const next = names[names.indexOf(whoIn(prompt)) + 1];
        if (last.role === 'tool') return say(`${whoIn(prompt)} heard ${JSON.stringify(last.result)}`);
        return next === undefined ? say('The end.') : ask(['delegate', { agent: next, task: `for ${next}` }]);
      });
    /** The conversation of the run that the turn asks for, once it has. */
    async function childOf(content: string): Promise<string> {
      const filter = { types: ['MessageSent'] };
      for await (const { events: sent } of store.subscribe({
        after: '0',
        filter,
        signal: AbortSignal.timeout(10_000),
      })) {
        const found = sent.find(
          (event) => (event.data as EventData<'MessageSent'>).run?.parent?.turnId === turnIdFor(content),
        );
        if (found !== undefined) return found.stream.slice('conversation-'.length);
      }
      throw new Error('No child was asked for.');
    }
    const turnsOf = async (): Promise<TurnDocument[]> => {
      await base.settled();
      return (await readModels.find<TurnDocument>('turns', { limit: 100 })).documents.map(({ body }) => body);
    };

    it('has the answer of a child run, whose cost stays its own', async () => {
      await agent('scout');
      await agent('clerk');
      await start(modelsOf(chain('scout', 'clerk')), { tools: [delegate()] });
      const id = await begun();
      await run(id, 'go');
      const all = await until(id, ends);
      const child = (await turnsOf()).find((turn) => turn.run?.agentName === 'clerk')!;
      expect(dataOf(all, 'ToolReturned')[0]?.result).to.deep.equal({
        execution_id: child.id,
        agent: 'clerk',
        status: 'success',
        response: 'The end.',
        cost_usd: 0.00002,
      });
      expect(child).to.deep.include({ owner: OWNER, costUsd: 0.00002 });
      expect(child.run).to.deep.include({
        trigger: 'agent',
        parentTurnId: turnIdFor('go'),
        message: 'for clerk',
      });
      expect(child.run?.actor).to.deep.equal({ kind: 'agent', id: 'scout' });
      expect(dataOf(all, 'TurnCompleted')[0]?.costUsd).to.equal(0.00004);
      const asked = (await events(child.conversationId)).find((event) => event.type === 'MessageSent');
      expect(asked?.causationId).to.equal(all.find((event) => event.type === 'ToolCalled')?.id);
      expect(asked?.correlationId).to.equal(all[1]?.correlationId);
      expect((await events(child.conversationId))[0]?.data).to.deep.include({ kind: 'run' });
    });

    it('holds no place meanwhile: three deep with room for one, and no deeper', async () => {
      const names = ['scout', 'clerk', 'scribe', 'page', 'squire'];
      for (const name of names) await agent(name, { concurrency: 1 });
      await start(modelsOf(chain(...names)), { tools: [delegate()], concurrency: 1 });
      const ids = [];
      for (const content of ['one', 'two']) {
        ids.push(await begun(content));
        await run(ids.at(-1)!, content, { concurrency: 1 });
      }
      for (const id of ids) {
        const [outcome] = dataOf(await until(id, ends), 'TurnCompleted');
        expect(outcome?.content)
          .to.contain('scout heard')
          .and.to.contain('Tasks are handed on at most 3 times');
      }
      const runs = (await turnsOf()).map((turn) => turn.run?.agentName);
      for (const name of names) {
        expect(runs.filter((found) => found === name)).to.have.length(name === 'squire' ? 0 : 2);
      }
    });

    it('may hand on several side by side, also to its own agent', async () => {
      await agent('scout', { concurrency: 1 });
      const model = scripted('one', (prompt) => {
        const first = prompt.messages[0];
        if (first?.role === 'user' && first.content !== 'go') return say(`did ${first.content}`);
        return prompt.messages.length > 1
          ? say('All done.')
          : ask(['delegate', { agent: 'scout', task: 'a' }], ['delegate', { agent: 'scout', task: 'b' }]);
      });
      await start(modelsOf(model), { tools: [delegate()], concurrency: 1 });
      const id = await begun();
      await run(id, 'go', { concurrency: 1 });
      const all = await until(id, ends);
      const answers = dataOf(all, 'ToolReturned').map(
        ({ result }) => (result as { response: string }).response,
      );
      expect(answers).to.have.members(['did a', 'did b']);
      expect(dataOf(all, 'TurnCompleted')[0]?.content).to.equal('All done.');
    });

    it('is told which agents there are when there is none of that name', async () => {
      await agent('scout');
      await start(modelsOf(chain('scout', 'ghost')), { tools: [delegate()] });
      const id = await begun();
      await run(id, 'go');
      expect(dataOf(await until(id, ends), 'ToolReturned')[0]).to.deep.include({
        isError: true,
        result: { error: 'There is no agent "ghost". There are: scout.' },
      });
    });

    it('does not hand it on again after its worker died', async () => {
      await agent('scout');
      await agent('clerk');
      const hung = scripted('one', (prompt, _call, signal) =>
        whoIn(prompt) === 'clerk'
          ? hang('', signal)
          : ask(['delegate', { agent: 'clerk', task: 'for clerk' }]),
      );
      await start(modelsOf(hung), { workers: BUSY, tools: [delegate()] });
      const id = await begun();
      await run(id, 'go');
      await until(id, ['ToolCalled']);
      const child = await childOf('go');
      await until(child, ['ModelCalled']);
      await bus.dispatch(deleteAgent, { agentId: agentIdFor(OWNER, 'clerk') }, metaFor('delete'));
      await start(modelsOf(chain('scout', 'clerk')), { workers: soleWorker('w2'), tools: [delegate()] });
      const all = await until(id, ends);
      expect(dataOf(all, 'TurnCompleted')[0]?.content).to.contain('The end.');
      expect(dataOf(all, 'ToolCalled')).to.have.length(1);
      expect((await turnsOf()).filter((turn) => turn.run?.agentName === 'clerk')).to.have.length(1);
      expect(hung.prompts.filter((prompt) => whoIn(prompt) === 'scout')).to.have.length(1);
    });

    it('stops it when it is stopped itself, or out of time', async () => {
      await agent('scout');
      await agent('clerk');
      const hung = () =>
        scripted('one', (prompt, _call, signal) =>
          whoIn(prompt) === 'clerk'
            ? hang('So far', signal)
            : ask(['delegate', { agent: 'clerk', task: 'x' }]),
        );
      const { open, wait } = waits();
      await start(modelsOf(hung()), { tools: [delegate()], wait });
      for (const content of ['interrupted', 'late']) {
        const id = await begun(content);
        await run(id, content);
        const child = await childOf(content);
        await until(child, ['ModelCalled']);
        if (content === 'interrupted') {
          await bus.dispatch(requestInterrupt, { conversationId: id, turnId: null }, metaFor('stop'));
          expect(typesOf(await until(id, ends)).at(-1)).to.equal('TurnInterrupted');
        } else {
          // The run of the clerk has ten minutes.
          open.findLast(({ milliseconds }) => milliseconds <= 60_000)?.end();
          expect(dataOf(await until(id, ends), 'TurnFailed')[0]?.reason).to.equal('timed out after 60 s');
        }
        const [outcome] = dataOf(await until(child, ['TurnInterrupted']), 'TurnInterrupted');
        expect(outcome?.content).to.equal('So far');
      }
    });

    it('leaves no run behind that whoever asked for it did not live to stop', async () => {
      await agent('scout');
      await agent('clerk');
      const hung = scripted('one', (prompt, _call, signal) =>
        whoIn(prompt) === 'clerk' ? hang('', signal) : ask(['delegate', { agent: 'clerk', task: 'x' }]),
      );
      const dead = await start(modelsOf(hung), { tools: [delegate()] });
      const id = await begun();
      await run(id, 'go');
      const child = await childOf('go');
      await until(child, ['ModelCalled']);
      await dead.stop();
      // As if the worker had recorded the end of the one, and died before it stopped the other.
      const turnId = turnIdFor('go');
      const held = { conversationId: id, turnId, worker: 'w2', takeOverFrom: null };
      const { state } = await bus.dispatch(claimTurn, held, metaFor('claim'));
      const { attempt } = state.running!;
      await bus.dispatch(
        recordSteps,
        { conversationId: id, turnId, worker: 'w2', attempt, steps: [interrupted(turnId)] },
        metaFor('end'),
      );
      const never = scripted('two', () => say('never'));
      await start(modelsOf(never), { workers: soleWorker('w3'), tools: [delegate()] });
      expect(typesOf(await until(child, ends)).at(-1)).to.equal('TurnInterrupted');
      expect(never.prompts).to.have.length(0);
    });
  });
});
