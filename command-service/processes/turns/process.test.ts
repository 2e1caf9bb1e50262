import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { setImmediate as othersRan } from 'node:timers/promises';
import { expect } from 'chai';
import { z } from 'zod';
import { SYSTEM_OWNER } from '../../../contracts/envelope.ts';
import type { EventData } from '../../../contracts/events/catalogue.ts';
import type { EventBus, Partition } from '../../../infra/bus/port.ts';
import { ModelError } from '../../../infra/models/port.ts';
import { createCommandBus } from '../../bus.ts';
import type { CommandBus } from '../../command.ts';
import {
  conversation,
  deleteConversation,
  endConversation,
  requestInterrupt,
  turnIdFor,
} from '../../domain/conversation.ts';
import { soleWorker } from '../workers.ts';
import { promptOf, readHistory } from './history.ts';
import {
  ask,
  dataOf,
  ends,
  hang,
  metaFor as meta,
  modelsOf,
  OWNER,
  openTurnWorld,
  say,
  scripted,
  stop,
  type TurnWorld,
  typesOf,
} from './testing.ts';
import { describe as describeTool, type Tool, tool } from './tool.ts';
import { begin, fold } from './transcript.ts';

describe('the turn process', () => {
  let world: TurnWorld;
  let { store, bus, shown, errors, base, start, begun, send, events, until } = {} as TurnWorld;

  beforeEach(async () => {
    world = await openTurnWorld();
    ({ store, bus, shown, errors, base, start, begun, send, events, until } = world);
  });

  afterEach(() => world.close());

  it('answers a message, and records each step', async () => {
    await start(modelsOf(scripted('one', () => say('Hel', 'lo.'))));
    const id = await begun();
    await send(id, 'hi');
    const all = await until(id, ends);
    expect(typesOf(all)).to.deep.equal([
      'ConversationStarted',
      'MessageSent',
      'TurnStarted',
      'MessageRouted',
      'ContextPrepared',
      'ModelCalled',
      'ModelAnswered',
      'TurnCompleted',
    ]);
    const [outcome] = dataOf(all, 'TurnCompleted');
    expect(outcome).to.include({ content: 'Hello.', provider: 'one', model: 'test', costUsd: 0.00002 });
    expect(outcome?.tried).to.deep.equal([
      { provider: 'one', model: 'test', outcome: 'answered', reason: null },
    ]);
    const request = all[1]!;
    for (const event of all.slice(2)) {
      expect(event).to.include({
        correlationId: request.correlationId,
        causationId: request.id,
        owner: OWNER,
      });
    }
    expect(all[0]?.owner).not.to.equal(SYSTEM_OWNER);
    const call = all.find((event) => event.type === 'ModelCalled')?.position;
    const pieces = shown.map((signal) => signal.kind === 'text' && [signal.call, signal.offset, signal.text]);
    expect(pieces).to.deep.equal([
      [call, 0, 'Hel'],
      [call, 3, 'lo.'],
    ]);
  });

  it('runs the tools that a model asks for side by side, and gives it their results and errors', async () => {
    let both = 0;
    let arrived: () => void;
    const together = new Promise<void>((resolve) => {
      arrived = resolve;
    });
    const meeting = tool({
      name: 'meet',
      description: 'Returns once both have come.',
      input: z.object({ who: z.string() }),
      readOnly: true,
      run: async ({ who }) => {
        if (++both === 2) arrived();
        await together;
        return { met: who };
      },
    });
    const broken = tool({
      name: 'broken',
      description: 'Fails.',
      input: z.object({}),
      readOnly: false,
      run: () => {
        throw new Error('out of order');
      },
    });
    const slow = tool({
      name: 'slow',
      description: 'Never ends.',
      input: z.object({}),
      readOnly: true,
      timeoutMs: 20,
      run: () => new Promise(() => {}),
    });
    const model = scripted('one', (_prompt, call) =>
      call === 1
        ? ask(
            ['meet', { who: 'a' }],
            ['meet', { who: 'b' }],
            ['broken', {}],
            ['slow', {}],
            ['absent', {}],
            ['meet', { who: 7 }],
          )
        : say('Done.'),
    );
    await start(modelsOf(model), { tools: [meeting, broken, slow] });
    const id = await begun();
    await send(id, 'go');
    const all = await until(id, ends);
    const results = model.prompts[1]!.messages.filter((message) => message.role === 'tool');
    expect(results.map(({ result, isError }) => [result, isError])).to.deep.equal([
      [{ met: 'a' }, false],
      [{ met: 'b' }, false],
      [{ error: 'out of order' }, true],
      [{ error: 'The tool took longer than 0.02 s.' }, true],
      [{ error: 'There is no tool named "absent".' }, true],
      [{ error: 'The arguments do not fit: who: Invalid input: expected string, received number' }, true],
    ]);
    expect(dataOf(all, 'TurnCompleted')[0]?.content).to.equal('Done.');
    // Only the tool that may change something has a checkpoint, right before its call.
    const types = typesOf(all);
    expect(types.filter((type) => type === 'CheckpointTaken')).to.have.length(1);
    const after = all[types.indexOf('CheckpointTaken') + 1];
    expect((after!.data as EventData<'ToolCalled'>).tool).to.equal('broken');
  });

  it('tries the next provider when one fails before its first token', async () => {
    const failing = scripted('bad', () => {
      throw new ModelError('bad/test: 500', { retryable: true });
    });
    await start(
      modelsOf(
        failing,
        scripted('good', () => say('Hi.')),
      ),
    );
    const id = await begun();
    await send(id, 'hi');
    const [outcome] = dataOf(await until(id, ends), 'TurnCompleted');
    expect(outcome?.provider).to.equal('good');
    expect(outcome?.tried).to.deep.equal([
      { provider: 'bad', model: 'test', outcome: 'failed', reason: 'bad/test: 500' },
      { provider: 'good', model: 'test', outcome: 'answered', reason: null },
    ]);
  });

  it('does not switch after the first token: the turn fails and keeps what came', async () => {
    const breaking = scripted('bad', async function* () {
      yield { type: 'text', text: 'Half an' } as const;
      throw new ModelError('bad/test: connection lost', { retryable: true });
    });
    const other = scripted('good', () => say('Hi.'));
    await start(modelsOf(breaking, other));
    const id = await begun();
    await send(id, 'hi');
    const [outcome] = dataOf(await until(id, ends), 'TurnFailed');
    expect(outcome).to.include({ content: 'Half an', provider: 'bad', reason: 'bad/test: connection lost' });
    expect(other.prompts).to.have.length(0);
  });

  it('does not switch between two calls of one answer either, once its first words are out', async () => {
    const starting = scripted('first', (_prompt, call) => {
      if (call > 1) throw new ModelError('first/test: 500', { retryable: true });
      return [{ type: 'text', text: 'Let me see.' }, ...ask(['absent', {}])];
    });
    const other = scripted('good', () => say('Hi.'));
    await start(modelsOf(starting, other));
    const id = await begun();
    await send(id, 'hi');
    const [outcome] = dataOf(await until(id, ends), 'TurnFailed');
    expect(outcome).to.include({ content: 'Let me see.', provider: 'first', reason: 'first/test: 500' });
    expect(other.prompts).to.have.length(0);
    expect(starting.prompts).to.have.length(4);
  });

  it('takes an empty answer for a failure, and estimates what a broken one cost', async () => {
    const empty = scripted('empty', () => [stop]);
    const breaking = scripted('bad', async function* () {
      yield { type: 'text', text: 'Half an answer' } as const;
      throw new ModelError('bad/test: connection lost', { retryable: true });
    });
    await start(modelsOf(empty, breaking));
    const id = await begun();
    await send(id, 'hi');
    const [outcome] = dataOf(await until(id, ends), 'TurnFailed');
    expect(outcome?.tried.map((each) => each.reason)).to.deep.equal([
      'empty/test gave an empty answer',
      'bad/test: connection lost',
    ]);
    expect(outcome?.usage.completionTokens).to.equal(4);
    expect(outcome?.costUsd).to.be.above(0);
  });

  it('fails after three attempts, with the reason', async () => {
    const failing = scripted('bad', () => {
      throw new ModelError('bad/test: 503', { retryable: true });
    });
    await start(modelsOf(failing));
    const id = await begun();
    await send(id, 'hi');
    const all = await until(id, ends);
    expect(dataOf(all, 'TurnStarted').map((started) => started.attempt)).to.deep.equal([1, 2, 3]);
    expect(dataOf(all, 'TurnFailed')[0]).to.include({ reason: 'bad/test: 503', content: '' });
    expect(failing.prompts).to.have.length(3);
  });

  it('an interrupt ends generation at once and keeps the text so far', async () => {
    await start(modelsOf(scripted('one', (_prompt, _call, signal) => hang('So far', signal))));
    const id = await begun();
    await send(id, 'hi');
    await until(id, ['ModelCalled']);
    await bus.dispatch(requestInterrupt, { conversationId: id, turnId: null }, meta('interrupt'));
    const all = await until(id, ends);
    const [outcome] = dataOf(all, 'TurnInterrupted');
    expect(outcome).to.include({ content: 'So far', provider: 'one' });
    expect(outcome?.tried.at(-1)?.outcome).to.equal('interrupted');
    expect(outcome?.usage.completionTokens).to.be.above(0);
  });

  it('answers messages that came meanwhile one at a time, in their order', async () => {
    let running = 0;
    const model = scripted('one', async function* (prompt) {
      expect(++running).to.equal(1);
      const asked = prompt.messages.at(-1);
      yield { type: 'text', text: `answer to ${asked?.role === 'user' ? asked.content : ''}` } as const;
      await new Promise((resolve) => setImmediate(resolve));
      running--;
      yield stop;
    });
    await start(modelsOf(model));
    const id = await begun();
    const asked = ['one', 'two', 'three', 'four'];
    await Promise.all(asked.map((content) => send(id, content)));
    const all = await until(id, ends, 4);
    const order = dataOf(all, 'MessageSent').map((message) => `answer to ${message.content}`);
    expect(dataOf(all, 'TurnCompleted').map((outcome) => outcome.content)).to.deep.equal(order);
    expect(model.prompts[3]?.messages).to.have.length(7);
  });

  it('goes on with what another worker left when it died, and fences it off', async () => {
    let letGo: () => void = () => {};
    const stuck = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    const dying = scripted('one', async function* () {
      yield { type: 'text', text: 'first try' } as const;
      await stuck;
      yield stop;
    });
    await start(modelsOf(dying), { workers: { ...soleWorker('dead'), isAlive: () => true } });
    const id = await begun();
    await send(id, 'hi');
    await until(id, ['ModelCalled']);
    await start(modelsOf(scripted('two', () => say('second try'))), { workers: soleWorker('w2') });
    await until(id, ends);
    letGo();
    await send(id, 'next');
    const all = await until(id, ends, 2);
    expect(dataOf(all, 'TurnStarted').slice(0, 2)).to.deep.equal([
      { turnId: turnIdFor('hi'), attempt: 1, worker: 'dead' },
      { turnId: turnIdFor('hi'), attempt: 2, worker: 'w2' },
    ]);
    expect(dataOf(all, 'TurnCompleted').map((outcome) => outcome.content)[0]).to.equal('second try');
    expect(dataOf(all, 'TurnCompleted')).to.have.length(2);
  });

  it('does not run a finished tool call again, and runs an unfinished one under the same id', async () => {
    const ran: string[] = [];
    const used = (name: string, run: Tool['run']): Tool =>
      tool({ name, description: name, input: z.object({}), readOnly: false, run });
    const quick = used('quick', (_input, { toolCallId }) => {
      ran.push(`quick ${toolCallId}`);
      return 'done';
    });
    const slow = used('slow', (_input, { toolCallId }) => {
      ran.push(`slow ${toolCallId}`);
      return new Promise(() => {});
    });
    const model = scripted('one', (_prompt, call) =>
      call === 1 ? ask(['quick', {}], ['slow', {}]) : say('Both.'),
    );
    await start(modelsOf(model), {
      workers: { ...soleWorker('dead'), isAlive: () => true },
      tools: [quick, slow],
    });
    const id = await begun();
    await send(id, 'go');
    await until(id, ['ToolReturned']);
    const finished = used('slow', (_input, { toolCallId }) => {
      ran.push(`slow ${toolCallId}`);
      return 'done too';
    });
    await start(modelsOf(model), { workers: soleWorker('w2'), tools: [quick, finished] });
    const all = await until(id, ends);
    const calls = dataOf(all, 'ToolCalled').map((called) => called.toolCallId);
    expect(calls).to.have.length(2);
    expect(ran).to.deep.equal([`quick ${calls[0]}`, `slow ${calls[1]}`, `slow ${calls[1]}`]);
    expect(dataOf(all, 'ToolReturned').map((returned) => returned.result)).to.deep.equal([
      'done',
      'done too',
    ]);
    expect(dataOf(all, 'ModelAnswered')).to.have.length(2);
  });

  it('a turn whose workers died three times ends as failed', async () => {
    const id = await begun();
    await send(id, 'poison');
    for (const worker of ['w1', 'w2', 'w3']) {
      const dying = scripted('one', (_prompt, _call, signal) => hang('', signal));
      await start(modelsOf(dying), {
        workers: { ...soleWorker(worker), isAlive: (other) => other === worker },
      });
      // Until it hangs in its call: before that, it would take the turn back.
      await until(id, ['ModelCalled'], Number(worker[1]));
    }
    await start(modelsOf(scripted('two', () => say('never'))), { workers: soleWorker('w4') });
    const [outcome] = dataOf(await until(id, ends), 'TurnFailed');
    expect(outcome?.reason).to.match(/tried 3 times/);
  });

  it('gives a running turn back when it is stopped, which does not count as an attempt', async () => {
    const process = await start(modelsOf(scripted('one', (_prompt, _call, signal) => hang('half', signal))));
    const id = await begun();
    await send(id, 'hi');
    await until(id, ['ModelCalled']);
    await process.stop();
    await start(modelsOf(scripted('two', () => say('whole'))), { workers: soleWorker('w2') });
    const all = await until(id, ends);
    expect(dataOf(all, 'TurnStarted').map((started) => started.attempt)).to.deep.equal([1, 1]);
    expect(dataOf(all, 'TurnCompleted')[0]?.content).to.equal('whole');
  });

  it('two processes on one log never both run a turn', async () => {
    const alive = (name: string) => ({ ...soleWorker(name), isAlive: () => true });
    const running = new Set<string>();
    const model = scripted('one', async function* (prompt) {
      const key = JSON.stringify(prompt.messages);
      expect(running.has(key)).to.equal(false);
      running.add(key);
      yield { type: 'text', text: 'ok' } as const;
      await new Promise((resolve) => setImmediate(resolve));
      running.delete(key);
      yield stop;
    });
    await start(modelsOf(model), { workers: alive('w1') });
    const second = createCommandBus({
      store,
      snapshots: { get: async () => null, put: async () => {} },
      onSnapshotError: () => {},
    });
    await start(modelsOf(model), { workers: alive('w2'), bus: second });
    const ids = await Promise.all(Array.from({ length: 30 }, (_, index) => begun(`c${index}`)));
    await Promise.all(ids.map((id, index) => send(id, `message ${index}`)));
    for (const id of ids) {
      const all = await until(id, ends);
      expect(dataOf(all, 'TurnStarted')).to.have.length(1);
      expect(dataOf(all, 'TurnCompleted')).to.have.length(1);
    }
    expect(model.prompts).to.have.length(30);
  });

  it('carries a turn on that it dropped on an error, though its partition has moved meanwhile', async () => {
    const moved = new AbortController();
    const inProcess = base.events;
    const events: EventBus = {
      ...inProcess,
      consume: (group, work) =>
        inProcess.consume(group, async (partition) => {
          const signal = AbortSignal.any([partition.signal, moved.signal]);
          if (!signal.aborted) await work({ ...partition, signal });
        }),
    };
    const failing: CommandBus = {
      ...bus,
      async dispatch(command, input, meta) {
        if (command.name === 'RecordSteps' && !moved.signal.aborted) {
          moved.abort();
          throw new Error('The store is away.');
        }
        return bus.dispatch(command, input, meta);
      },
    };
    await start(modelsOf(scripted('one', () => say('done'))), { events, bus: failing });
    const id = await begun();
    await send(id, 'hi');
    const all = await until(id, ends);
    expect(dataOf(all, 'TurnStarted').map(({ attempt }) => attempt)).to.deep.equal([1, 2]);
    expect(dataOf(all, 'TurnCompleted').map(({ content }) => content)).to.deep.equal(['done']);
    expect(errors.splice(0).map(String)).to.deep.equal(['Error: The store is away.']);
  });

  it('reads every partition on once there is room again', async () => {
    const CONVERSATIONS = 2_000;
    const gate = Promise.withResolvers<void>();
    const waiting: CommandBus = {
      ...bus,
      async load(aggregate) {
        await gate.promise;
        return { state: aggregate.initial, revision: null } as never;
      },
    };
    const given = [false, false];
    const readOn = [false, false];
    const stopped = new AbortController();
    const partitionOf = (number: number): Partition => ({
      number,
      holds: () => true,
      signal: stopped.signal,
      async *subscribe({ signal }) {
        const events = Array.from({ length: CONVERSATIONS }, (_, at) => ({
          type: 'MessageSent',
          stream: `conversation-${number}-${at}`,
        }));
        given[number] = true;
        yield { events: events as never, position: '1', caughtUp: true };
        readOn[number] = true;
        await once(signal, 'abort');
      },
    });
    const events: EventBus = {
      partitions: 2,
      partitionOf: () => 0,
      async consume(_group, work) {
        const works = [0, 1].map((number) => work(partitionOf(number)));
        return {
          async stop() {
            stopped.abort();
            await Promise.all(works);
          },
        };
      },
      close: async () => {},
    };
    await start(modelsOf(), { events, bus: waiting });
    while (given.includes(false)) await othersRan();
    await othersRan();
    expect(readOn).to.deep.equal([false, false]);
    gate.resolve();
    const deadline = performance.now() + 5_000;
    while (readOn.includes(false) && performance.now() < deadline) await othersRan();
    stopped.abort(); // also where a partition still waits
    expect(readOn).to.deep.equal([true, true]);
  });

  it('compacts the history at 70 % of the window, and goes on with the summary', async () => {
    const long = 'a fact that takes room. '.repeat(40);
    const model = scripted(
      'one',
      (prompt) => (prompt.purpose === 'summarise' ? say('What was said before.') : say(long)),
      1_500,
    );
    await start(modelsOf(model));
    const id = await begun();
    for (let turn = 1; turn <= 5; turn++) {
      await send(id, `question ${turn}`);
      await until(id, ends, turn);
    }
    const all = await events(id);
    const [compacted] = dataOf(all, 'ContextCompacted');
    expect(compacted).to.include({ summary: 'What was said before.', provider: 'one' });
    expect(compacted?.tokensBefore).to.be.above(1_500 * 0.7);
    expect(compacted?.tokensAfter).to.be.below(1_500 * 0.7);
    expect(compacted?.fromRevision).to.equal(1);
    const last = model.prompts.at(-1)!;
    expect(last.system).to.contain('What was said before.');
    expect(last.messages.length).to.be.below(9);
  });

  it('records a digest that the events of the stream rebuild the prompt of', async () => {
    const clock = tool({
      name: 'clock',
      description: 'Tells.',
      input: z.object({}),
      readOnly: true,
      run: () => ({ time: 'noon' }),
    });
    const model = scripted('one', (_prompt, call) => (call % 2 === 1 ? ask(['clock', {}]) : say('Noon.')));
    await start(modelsOf(model), { tools: [clock] });
    const id = await begun();
    await send(id, 'first');
    await until(id, ends);
    await send(id, 'second');
    const all = await until(id, ends, 2);
    const request = dataOf(all, 'MessageSent')[1]!;
    const from = all.findIndex((event) => event.type === 'MessageSent' && event.data === request);
    const called = all.findLastIndex((event) => event.type === 'ModelCalled');
    const transcript = all
      .slice(from + 1, called)
      .reduce((current, event) => fold(current, event as never), begin(all[from] as never));
    const history = await readHistory(store, `conversation-${id}`, from);
    const prompt = promptOf(transcript, transcript.context!, history, [describeTool(clock)]);
    const digest = createHash('sha256').update(JSON.stringify(prompt)).digest('hex');
    expect((all[called]!.data as EventData<'ModelCalled'>).promptDigest).to.equal(digest);
    expect(prompt).to.deep.equal(model.prompts.at(-1));
  });

  it('stops when its conversation is ended or deleted, and every turn ends', async () => {
    await start(modelsOf(scripted('one', (_prompt, _call, signal) => hang('half', signal))));
    for (const [name, command] of [
      ['ended', endConversation],
      ['deleted', deleteConversation],
    ] as const) {
      const id = await begun(name);
      await send(id, 'hi', `hi ${name}`);
      await send(id, 'later', `later ${name}`);
      await until(id, ['ModelCalled']);
      await bus.dispatch(command, { conversationId: id }, meta(name));
      const all = await until(id, ends, 2);
      expect(dataOf(all, 'TurnInterrupted').map((outcome) => outcome.content)).to.have.members(['', 'half']);
      const { state } = await bus.load(conversation, id);
      expect(state).to.deep.include({ running: null, waiting: [] });
    }
  });
});
