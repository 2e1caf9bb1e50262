import { expect } from 'chai';
import { defaultBudget, defaultPolicy } from '../../../contracts/commands/agent.ts';
import type { EventEnvelope } from '../../../contracts/envelope.ts';
import type { EventType, OdeonEvent } from '../../../contracts/events/catalogue.ts';
import type { OrchestrationStep } from '../../../contracts/events/orchestration.ts';
import type { AgentDocument, OrchestrationDocument } from '../../../contracts/read-models/documents.ts';
import { ModelError, type Prompt } from '../../../infra/models/port.ts';
import { createAgents } from '../../agents.ts';
import { agentIdFor, createAgent } from '../../domain/agent.ts';
import { claimDeliberation, recordDeliberation } from '../../domain/deliberation.ts';
import { cancelOrchestration, orchestrationIdFor, requestOrchestration } from '../../domain/orchestration.ts';
import {
  dataOf,
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
} from '../turns/testing.ts';
import { soleWorker } from '../workers.ts';
import { delegationSteps, type Member, sharedTask, teamSteps } from './plans.ts';
import { type OrchestrationProcessOptions, startOrchestrationProcess } from './process.ts';

/** What a model is told. */
const told = ({ system, messages }: Prompt): string => {
  const last = messages.at(-1);
  return last?.role === 'user' ? `${system}\n${last.content}` : system;
};
/** A model that answers as `answer` says, by the task that it is shown. */
const answering = (answer: (task: string) => string) =>
  scripted('one', (prompt) => say(answer(told(prompt))));

describe('the orchestration process', () => {
  let world: TurnWorld;
  let closing: (() => Promise<unknown>)[];

  beforeEach(async () => {
    world = await openTurnWorld();
    closing = [];
  });
  afterEach(async () => {
    for (const close of closing) await close();
    await world.close();
  });

  async function orchestrate(options: Partial<OrchestrationProcessOptions> = {}) {
    const process = await startOrchestrationProcess({ ...world.base, workers: soleWorker('o1'), ...options });
    closing.unshift(() => process.stop());
    return process;
  }

  const definition = {
    description: 'Helps.',
    instructions: 'Help.',
    model: null,
    tools: null,
    shared: false,
  };
  async function member(name: string): Promise<Member> {
    const owner = OWNER;
    const made = { ...definition, name, budget: defaultBudget, policy: defaultPolicy, aliases: [] };
    await world.bus.dispatch(createAgent, { owner, definition: made }, metaFor(`create ${name}`));
    const id = agentIdFor(owner, name);
    const agent: AgentDocument = { id, owner, ...made, createdAt: '', updatedAt: '' };
    const { runOf } = createAgents({ readModels: world.readModels });
    return { calledAs: name, agent, run: runOf(agent, { trigger: 'fan_out' }) };
  }

  /** A task for agents with these names. */
  async function team(parallel: boolean, ...names: string[]) {
    const members: Member[] = [];
    for (const name of names) members.push(await member(name));
    return teamSteps(sharedTask('Write the report.', members), parallel);
  }

  const orchestrationId = orchestrationIdFor('test');
  const request = (
    steps: OrchestrationStep[],
    changes: { kind?: 'orchestration' | 'delegation'; timeoutMs?: number; context?: unknown } = {},
  ) =>
    world.bus.dispatch(
      requestOrchestration,
      {
        ...{ orchestrationId, owner: OWNER, kind: 'orchestration', task: 'Write the report.', context: null },
        ...{ steps, parallel: true, timeoutMs: 60_000, parent: null, ...changes },
      },
      metaFor('request'),
    );

  const stream = `orchestration-${orchestrationId}`;
  async function events(of = stream): Promise<EventEnvelope[]> {
    const all: EventEnvelope[] = [];
    for await (const page of world.store.readStream(of)) all.push(...page);
    return all;
  }
  /** Follows the log until `count` events of the type have come in the stream; gives all of the stream. */
  async function until(type: EventType, count = 1, of = stream): Promise<EventEnvelope[]> {
    const filter = { stream: of, types: [type] };
    let seen = 0;
    for await (const page of world.store.subscribe({
      after: '0',
      filter,
      signal: AbortSignal.timeout(8_000),
    })) {
      seen += page.events.length;
      if (seen >= count) return events(of);
    }
    throw new Error(`Waited for ${count} of ${type}; found ${typesOf(await events(of)).join(', ')}.`);
  }
  async function anywhere(type: EventType, count = 1): Promise<EventEnvelope[]> {
    const found: EventEnvelope[] = [];
    const signal = AbortSignal.timeout(8_000);
    for await (const page of world.store.subscribe({ after: '0', filter: { types: [type] }, signal })) {
      found.push(...page.events);
      if (found.length >= count) return found;
    }
    throw new Error(`Waited for ${count} of ${type}; found ${found.length}.`);
  }
  const outcomes = (all: readonly EventEnvelope[]) =>
    dataOf(all, 'StepEnded').map(({ stepId, outcome }) => `${stepId} ${outcome}`);
  const endOf = (all: readonly EventEnvelope[]) => dataOf(all, 'OrchestrationEnded')[0]!;

  it('runs agents at once, each in a conversation of its own, and puts together what they bring', async () => {
    let arrived = 0;
    let allThere: () => void;
    const together = new Promise<void>((resolve) => {
      allThere = resolve;
    });
    const model = scripted('one', async function* (prompt) {
      if (++arrived === 2) allThere();
      await together;
      yield* say(told(prompt).includes('yours as analyst') ? 'Sales rose.' : 'The report.');
    });
    await world.start(modelsOf(model));
    await orchestrate();
    await request(await team(true, 'analyst', 'writer'), { context: { source: 'sales.csv' } });
    const all = await until('OrchestrationEnded');
    expect(endOf(all)).to.deep.include({
      outcome: 'completed',
      reason: null,
      result: '## analyst\n\nSales rose.\n\n## writer\n\nThe report.',
      tokens: 2 * (usage.promptTokens + usage.completionTokens),
      costUsd: 0.00004,
    });
    expect(outcomes(all).sort()).to.deep.equal(['agent_1 completed', 'agent_2 completed']);
    for (const { messages } of model.prompts) {
      expect(JSON.stringify(messages)).to.include('<context>').and.to.include('sales.csv');
    }
    // Who asked, and why, is followed through.
    const sent = await anywhere('MessageSent', 2);
    const begun = all.filter(({ type }) => type === 'StepStarted').map(({ id }) => id);
    for (const message of sent as OdeonEvent<'MessageSent'>[]) {
      expect(message.data.run).to.include({ trigger: 'fan_out', orchestrationId });
      expect(message.correlationId).to.equal(all[0]!.correlationId);
      expect(begun).to.include(message.causationId);
      expect(message.actor).to.deep.equal(all[0]!.actor);
      expect(message.owner).to.equal(OWNER);
    }
    await world.base.settled();
    const doc = await world.readModels.get<OrchestrationDocument>('orchestrations', orchestrationId);
    expect(doc?.body).to.include({ status: 'completed', owner: OWNER });
    expect(doc?.body.steps.map(({ status, result }) => [status, result])).to.deep.equal([
      ['completed', 'Sales rose.'],
      ['completed', 'The report.'],
    ]);
  });

  it('in order shows each the results before it, and names those that failed', async () => {
    const model = answering((task) => {
      if (task.includes('yours as analyst')) throw new ModelError('out of order', { retryable: false });
      return task.includes('yours as writer') ? 'A draft.' : 'Well done.';
    });
    await world.start(modelsOf(model));
    await orchestrate();
    await request(await team(false, 'analyst', 'writer', 'critic'));
    const all = await until('OrchestrationEnded');
    expect(outcomes(all)).to.deep.equal(['agent_1 failed', 'agent_2 completed', 'agent_3 completed']);
    expect(endOf(all)).to.include({
      outcome: 'partial',
      result: '## writer\n\nA draft.\n\n## critic\n\nWell done.',
    });
    expect(endOf(all).reason).to.match(/^analyst \(agent_1\) failed: .*out of order/);
    const shown = model.prompts.map(told);
    const critics = shown.find((text) => text.includes('yours as critic'))!;
    expect(critics).to.match(
      /<result agent="analyst" step="agent_1" outcome="failed">\nanalyst brought no result/,
    );
    expect(critics).to.include(
      '<result agent="writer" step="agent_2" outcome="completed">\nA draft.\n</result>',
    );
    const types = typesOf(all).filter((type) => type.startsWith('Step'));
    expect(types).to.deep.equal(Array.from({ length: 3 }, () => ['StepStarted', 'StepEnded']).flat());
  });

  it('interrupts what runs at its time limit, and keeps what there is', async () => {
    await world.start(
      modelsOf(
        scripted('one', (prompt, _call, signal) =>
          told(prompt).includes('yours as analyst') ? say('Sales rose.') : hang('It was a', signal),
        ),
      ),
    );
    await orchestrate();
    await request(await team(true, 'analyst', 'writer'), { timeoutMs: 1_000 });
    const all = await until('OrchestrationEnded');
    expect(outcomes(all)).to.deep.equal(['agent_1 completed', 'agent_2 cancelled']);
    expect(endOf(all)).to.include({ outcome: 'timed out', reason: 'Its time limit of 1 s was reached.' });
    expect(dataOf(all, 'StepEnded')[1]).to.include({ result: 'It was a' });
    expect(dataOf(await anywhere('TurnInterrupted'), 'TurnInterrupted')).to.have.length(1);
  });

  it('keeps its time limit through restarts: what it finds too late, it ends', async () => {
    const turns = await world.start(modelsOf(scripted('one', (_prompt, _call, signal) => hang('', signal))));
    const first = await orchestrate();
    await request(await team(true, 'writer'), { timeoutMs: 60_000 });
    await anywhere('ModelCalled');
    await first.stop();
    expect(typesOf(await events()).at(-1)).to.equal('OrchestrationReleased');
    const later = () => new Date(Date.now() + 61_000);
    await orchestrate({ workers: soleWorker('o2'), now: later });
    const all = await until('OrchestrationEnded');
    expect(outcomes(all)).to.deep.equal(['agent_1 cancelled']);
    expect(endOf(all).outcome).to.equal('timed out');
    expect(turns.running()).to.equal(0);
  });

  it('is cancelled: runs are interrupted, and nothing else begins', async () => {
    await world.start(modelsOf(scripted('one', (_prompt, _call, signal) => hang('', signal))));
    await orchestrate();
    await request(await team(false, 'analyst', 'writer'));
    await anywhere('ModelCalled');
    await world.bus.dispatch(cancelOrchestration, { orchestrationId }, metaFor('cancel'));
    const all = await until('OrchestrationEnded');
    expect(outcomes(all)).to.deep.equal(['agent_1 cancelled', 'agent_2 cancelled']);
    expect(endOf(all)).to.include({ outcome: 'cancelled', reason: 'It was cancelled.' });
    expect(await anywhere('MessageSent')).to.have.length(1);
  });

  it('goes on where a worker died, whenever that was, and runs no step twice', async () => {
    let called = 0;
    await world.start(modelsOf(scripted('one', () => say(`Answer ${++called}.`))));
    const steps = await team(false, 'analyst', 'writer');
    await request(steps);
    // Each worker dies right after its next append, be it of the orchestration or of a run.
    const appended = new Set<string>();
    const over = AbortSignal.timeout(8_000);
    for (let life = 1; !typesOf(await events()).includes('OrchestrationEnded'); life++) {
      const died = Promise.withResolvers<void>();
      const grave = Promise.withResolvers<never>();
      grave.promise.catch(() => {});
      let dead = false;
      const bus: typeof world.bus = {
        load: (...given) => (dead ? grave.promise : world.bus.load(...given)),
        async dispatch(command, input, meta) {
          if (dead) return grave.promise;
          const result = await world.bus.dispatch(command, input, meta);
          const isNew = result.events.some(({ id }) => !appended.has(id));
          for (const { id } of result.events) appended.add(id);
          if (!isNew || command.name === 'ClaimOrchestration') return result;
          dead = true;
          died.resolve();
          return grave.promise;
        },
      };
      const process = await startOrchestrationProcess({
        ...{ ...world.base, bus, onError: () => {} },
        workers: soleWorker(`life ${life}`),
      });
      closing.push(async () => {
        grave.reject(new Error('It is dead.'));
        await process.stop();
      });
      await Promise.race([died.promise, new Promise((resolve) => over.addEventListener('abort', resolve))]);
      expect(over.aborted).to.equal(false);
    }
    const all = await events();
    expect(outcomes(all)).to.deep.equal(['agent_1 completed', 'agent_2 completed']);
    expect(dataOf(all, 'StepStarted')).to.have.length(2);
    // Two steps: each begins, has its conversation and its message, and ends; then all of it does.
    expect(dataOf(all, 'OrchestrationStarted')).to.have.length(9);
    expect(called).to.equal(2);
    expect(await anywhere('MessageSent', 2)).to.have.length(2);
    expect(endOf(all).outcome).to.equal('completed');
  });

  it('a run that cannot be asked for fails alone', async () => {
    await world.start(modelsOf(answering(() => 'Done.')));
    await orchestrate();
    const [gone, there] = await team(true, 'analyst', 'writer');
    if (gone?.kind !== 'run') throw new Error('It is a run.');
    const unknown = { ...gone, run: { ...gone.run, agent: { id: 'unknown', name: 'analyst' } } };
    await request([unknown, there!]);
    const all = await until('OrchestrationEnded');
    expect(outcomes(all).sort()).to.deep.equal(['agent_1 failed', 'agent_2 completed']);
    expect(endOf(all)).to.include({ outcome: 'partial', result: '## writer\n\nDone.' });
  });

  describe('a delegation that the Council judges', () => {
    /** Decides as the test says, by what is judged. */
    async function council(decide: (purpose: string) => 'approved' | 'rejected' | 'fails') {
      const stop = new AbortController();
      const filter = { types: ['DeliberationOpened'] };
      const sitting = (async () => {
        for await (const page of world.store.subscribe({ after: '0', filter, signal: stop.signal })) {
          for (const event of page.events as OdeonEvent<'DeliberationOpened'>[]) {
            await judge(event, decide(event.data.purpose));
          }
        }
      })();
      closing.unshift(async () => {
        stop.abort();
        await sitting;
      });
    }

    async function judge(
      { stream: opened, data: { purpose } }: OdeonEvent<'DeliberationOpened'>,
      outcome: 'approved' | 'rejected' | 'fails',
    ): Promise<void> {
      const deliberationId = opened.slice('deliberation-'.length);
      const held = { deliberationId, worker: 'council' };
      const claim = { ...held, takeOverFrom: null };
      await world.bus.dispatch(claimDeliberation, claim, metaFor(`claim ${deliberationId}`));
      const end = { reason: null, usage, costUsd: 0.5, durationMs: 3 };
      await world.bus.dispatch(
        recordDeliberation,
        {
          ...held,
          attempt: 1,
          steps:
            outcome === 'fails'
              ? [{ type: 'DeliberationEnded', data: { ...end, outcome: 'failed', reason: 'no judge' } }]
              : [
                  {
                    type: 'DecisionReached',
                    data: {
                      ...{ loop: 1, outcome, decision: `The ${purpose} is ${outcome}.`, by: 'majority' },
                      tally: { for: 3, against: 1, abstain: 0 },
                      dissent: [{ member: 'sceptic', reason: 'No numbers.' }],
                      voice: null,
                    },
                  },
                  { type: 'DeliberationEnded', data: { ...end, outcome: 'decided' } },
                ],
        },
        metaFor(`decide ${deliberationId}`),
      );
    }

    async function delegate() {
      const worker = await member('coder');
      const planner = { ...worker, run: { ...worker.run, tools: [] } };
      await request(delegationSteps('Write the report.', planner, worker, []), { kind: 'delegation' });
      return until('OrchestrationEnded');
    }

    const model = () =>
      answering((task) => (task.includes('write your plan') ? 'First I ask, then I write.' : 'The report.'));

    it('plans, is judged, works by its plan and the advice, and is judged again', async () => {
      const one = model();
      await world.start(modelsOf(one));
      await orchestrate();
      await council(() => 'approved');
      const all = await delegate();
      expect(outcomes(all)).to.deep.equal([
        ...['plan completed', 'plan_judgement completed', 'work completed', 'result_judgement completed'],
      ]);
      expect(endOf(all)).to.include({ outcome: 'completed', result: 'The report.', costUsd: 1.00004 });
      const [planning, working] = one.prompts;
      expect(planning?.tools).to.deep.equal([]);
      expect(told(working!)).to.include('First I ask, then I write.');
      expect(told(working!)).to.include('The plan is approved.\nDissent:\n- sceptic: No numbers.');
      const opened = (await anywhere('DeliberationOpened', 2)) as OdeonEvent<'DeliberationOpened'>[];
      expect(opened.map(({ data }) => data.purpose)).to.deep.equal(['plan', 'result']);
      const material = Object.fromEntries(opened[1]!.data.material.map(({ id, text }) => [id, text]));
      expect(material).to.deep.equal({
        task: 'Write the report.',
        result: 'The report.',
      });
      const decision = (await events(opened[0]!.stream)).find(({ type }) => type === 'DecisionReached')!;
      expect(dataOf(all, 'StepEnded')[1]?.verdict).to.deep.equal({
        ...{ outcome: 'approved', decisionId: decision.id },
        dissent: [{ member: 'sceptic', reason: 'No numbers.' }],
      });
    });

    it('does nothing when its plan is rejected', async () => {
      const one = model();
      await world.start(modelsOf(one));
      await orchestrate();
      await council(() => 'rejected');
      const all = await delegate();
      expect(outcomes(all)).to.deep.equal([
        ...['plan completed', 'plan_judgement completed', 'work skipped', 'result_judgement skipped'],
      ]);
      expect(endOf(all)).to.include({
        outcome: 'failed',
        result: '',
        reason: 'The Council rejected the plan: The plan is rejected. sceptic disagreed: No numbers.',
      });
      expect(one.prompts).to.have.length(1);
    });

    it('hands no result over that is rejected', async () => {
      await world.start(modelsOf(model()));
      await orchestrate();
      await council((purpose) => (purpose === 'plan' ? 'approved' : 'rejected'));
      const all = await delegate();
      expect(endOf(all)).to.include({ outcome: 'failed', result: '' });
      expect(endOf(all).reason).to.match(/^The Council rejected the result: The result is rejected\./);
    });

    it('stops when the Council comes to no decision', async () => {
      await world.start(modelsOf(model()));
      await orchestrate();
      await council(() => 'fails');
      const all = await delegate();
      expect(outcomes(all).slice(0, 2)).to.deep.equal(['plan completed', 'plan_judgement failed']);
      expect(endOf(all).reason).to.include('The Council came to no decision: no judge');
    });

    it('stops its deliberation when it is cancelled', async () => {
      await world.start(modelsOf(model()));
      await orchestrate();
      const worker = await member('coder');
      await request(delegationSteps('Write the report.', worker, worker, []), { kind: 'delegation' });
      await anywhere('DeliberationOpened');
      await world.bus.dispatch(cancelOrchestration, { orchestrationId }, metaFor('cancel'));
      const all = await until('OrchestrationEnded');
      expect(outcomes(all)[1]).to.equal('plan_judgement cancelled');
      expect(endOf(all).outcome).to.equal('cancelled');
      expect(dataOf(await anywhere('DeliberationEnded'), 'DeliberationEnded')[0]?.outcome).to.equal(
        'stopped',
      );
    });
  });
});
