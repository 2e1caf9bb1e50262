import { once } from 'node:events';
import { expect } from 'chai';
import type { EventEnvelope } from '../../../contracts/envelope.ts';
import type { FactDocument } from '../../../contracts/read-models/documents.ts';
import { ModelError, type ModelPart, type Prompt } from '../../../infra/models/port.ts';
import type { CommandBus } from '../../command.ts';
import { council, sessionIdFor, startSession } from '../../domain/council.ts';
import { deliberationIdFor, requestDeliberationStop } from '../../domain/deliberation.ts';
import { rememberFact } from '../../domain/fact.ts';
import {
  ask,
  dataOf,
  hang,
  metaFor,
  modelsOf,
  OWNER,
  say,
  scripted,
  typesOf,
  usage,
} from '../turns/testing.ts';
import { soleWorker } from '../workers.ts';
import { BY_RULE } from './by-rule.ts';
import { noModels, openCouncilWorld, piece } from './testing.ts';

type World = Awaited<ReturnType<typeof openCouncilWorld>>;

const archive = [
  piece('m1', 'The archive costs 310 dollars a month. 310 * 12 = 3720.'),
  piece('m2', 'Cold storage saves 900 dollars a month. It was tested in May.'),
];
/** What was done, without who did it when. */
const course = (events: readonly EventEnvelope[]) =>
  events
    .filter(({ type }) => type !== 'DeliberationStarted' && type !== 'DeliberationReleased')
    .map(({ type, data, actor }) => {
      const { durationMs: _ms, decisionId: _id, ...rest } = data as Record<string, unknown>;
      return { type, actor: actor.id, ...rest };
    });
const stopMeta = metaFor('stop');

describe('the process of the Council', () => {
  let world: World;
  beforeEach(async () => {
    world = await openCouncilWorld();
  });
  afterEach(() => world.close());

  it('carries a topic through every phase to a decision that an action cites, by rule', async () => {
    await world.bus.dispatch(
      rememberFact,
      {
        ...{ owner: OWNER, category: 'work', key: 'archive size', value: '40 terabytes', confidence: 1 },
        ...{ conversationId: null, turnId: null },
      },
      metaFor('fact'),
    );
    await world.start();
    const id = await world.open('a', { material: archive });
    const events = await world.until(id);

    expect(dataOf(events, 'PhaseStarted').map(({ phase }) => phase)).to.deep.equal(
      'planning gathering statements objections vote decision act'.split(' '),
    );
    const found = dataOf(events, 'MaterialGathered');
    expect(found.map(({ tool }) => tool)).to.include.members([
      'calculate',
      'recall_facts',
      'search_conversations',
    ]);
    expect(found.find(({ tool }) => tool === 'calculate')?.material.text).to.equal('310 * 12 = 3720');
    expect(found.some(({ material }) => material.text.includes('40 terabytes'))).to.equal(true);

    const said = dataOf(events, 'MemberSpoke');
    expect(said.filter(({ phase }) => phase === 'statements').map(({ member }) => member)).to.deep.equal(
      'planner sceptic advocate ethicist judge'.split(' '),
    );
    expect(said.filter(({ text }) => text.includes(BY_RULE))).to.have.length(1);
    expect(said.every(({ voice }) => voice.model === null)).to.equal(true);
    const advocate = said.find(({ member, phase }) => member === 'advocate' && phase === 'statements')!;
    expect(advocate.text)
      .to.include('benefits of 900 USD a month')
      .and.include('exceed costs of 310 USD a month by 590 USD a month');
    expect(advocate.cites).to.have.members(['m1', 'm2']);

    const votes = dataOf(events, 'VoteCast');
    expect(votes).to.have.length(5);
    expect(votes.every(({ reason }) => reason.length > 10)).to.equal(true);
    const [decision] = dataOf(events, 'DecisionReached');
    expect(decision).to.include({ outcome: 'approved', by: 'majority', loop: 1 });
    const reached = events.find(({ type }) => type === 'DecisionReached')!;
    expect(dataOf(events, 'ActionTaken')).to.have.length(1);
    expect(dataOf(events, 'ActionTaken')[0]!.decisionId).to.equal(reached.id);
    expect(typesOf(events).at(-1)).to.equal('DeliberationEnded');
    expect(dataOf(events, 'DeliberationEnded')[0]).to.deep.include({ outcome: 'decided', costUsd: 0 });

    await world.base.settled();
    const { documents } = await world.readModels.find<FactDocument>('facts', {
      where: { owner: OWNER, category: 'context' },
      limit: 10,
    });
    expect(documents.map(({ body }) => body.key)).to.deep.equal(['decision: Should we move the archive?']);
    expect(documents[0]!.body.value).to.equal(decision!.decision);
  });

  it('answers other material with other words and votes', async () => {
    await world.start();
    const dear = [
      piece('m1', 'The archive costs 310 dollars a month.'),
      piece('m2', 'Cold storage saves 100 dollars a month. It probably breaks restores.'),
    ];
    const one = await world.until(await world.open('one', { material: archive }));
    const other = await world.until(await world.open('other', { material: dear }));
    const statements = (events: readonly EventEnvelope[]) =>
      dataOf(events, 'MemberSpoke').filter(({ phase }) => phase === 'statements');
    expect(dataOf(one, 'DecisionReached')[0]!.outcome).to.equal('approved');
    expect(dataOf(other, 'DecisionReached')[0]!.outcome).to.equal('rejected');
    for (const member of ['advocate', 'sceptic', 'judge']) {
      const text = (events: readonly EventEnvelope[]) =>
        statements(events).find((said) => said.member === member)!.text;
      expect(text(one)).to.not.equal(text(other));
    }
    expect(dataOf(other, 'MemberSpoke').some(({ text }) => text.startsWith('Objection: '))).to.equal(true);
  });

  it('judges plans and results: what destroys is rejected, what is sound approved', async () => {
    await world.start();
    const task = piece('task', 'Summarise the sales report for March and compare it with February');
    const judged = async (name: string, purpose: 'plan' | 'result', text: string, asked = task) => {
      const material = [asked, piece(purpose, text)];
      const changes = { purpose, topic: `May it go on with this ${purpose}?`, material, maxToolUses: 0 };
      const events = await world.until(await world.open(name, changes));
      expect(typesOf(events)).to.not.include('DeliberationLimited');
      return { ...dataOf(events, 'DecisionReached')[0]!, action: dataOf(events, 'ActionTaken')[0]!.action };
    };
    const sound =
      '1. Read the sales report for March and the one for February\n2. Compare the totals\n3. Write a summary\n4. Check the figures';
    expect(await judged('a', 'plan', sound)).to.include({ outcome: 'approved', action: 'handed over' });
    const bad = await judged('b', 'plan', '1. Delete all customer data\n2. Say that it is done');
    expect(bad).to.include({ outcome: 'rejected', action: 'withheld' });
    expect(bad.decision).to.include('Delete all customer data');
    const sum = piece('task', 'What is 12.5% of 80?');
    expect(await judged('c', 'result', 'That is 10.', sum)).to.include({ outcome: 'approved' });
    expect(await judged('d', 'result', 'That is 12.', sum)).to.include({ outcome: 'rejected' });
    expect(await judged('e', 'result', '', sum)).to.include({ outcome: 'rejected' });
  });

  it('lets the judge decide after as many rounds without a majority as there may be', async () => {
    await world.start();
    const id = await world.open('a', { topic: 'Paint the wall blue', maxLoops: 2, maxToolUses: 0 });
    const events = await world.until(id);
    expect(dataOf(events, 'VoteCast').map(({ vote }) => vote)).to.deep.equal(Array(10).fill('abstain'));
    expect(dataOf(events, 'DecisionReached')).to.have.length(1);
    expect(dataOf(events, 'DecisionReached')[0]).to.deep.include({
      by: 'judge',
      loop: 2,
      outcome: 'rejected',
    });
    const again = dataOf(events, 'MemberSpoke').filter(
      ({ loop, phase }) => loop === 2 && phase === 'statements',
    );
    expect(again.every(({ text }) => text.includes('nothing new since round 1'))).to.equal(true);
  });

  it('uses as many tools as it may, and says when there are no more', async () => {
    await world.start();
    const events = await world.until(await world.open('a', { material: archive, maxToolUses: 2 }));
    expect(dataOf(events, 'MaterialGathered')).to.have.length(2);
    expect(dataOf(events, 'DeliberationLimited')).to.have.length(1);
    expect(dataOf(events, 'DeliberationLimited')[0]).to.include({ limit: 'tools' });
  });

  it('lets experts answer each other', async () => {
    await world.start();
    const material = [...archive, piece('m3', 'It violates the contract and harms customers.')];
    const events = await world.until(await world.open('a', { material, mode: 'expert_discussion' }));
    expect(dataOf(events, 'PhaseStarted').map(({ phase }) => phase)).to.include('discussion');
    const answers = dataOf(events, 'MemberSpoke').filter(({ phase }) => phase === 'discussion');
    expect(answers).to.have.length(5);
  });

  it('goes on after a crash at any step, and does none twice', async function () {
    this.timeout(60_000);
    const changes = { material: archive, maxToolUses: 2 };
    const whole = await world.start();
    const expected = course(await world.until(await world.open('whole', { ...changes, owner: 'whole' })));
    await world.stop(whole);

    /** Crashes with the nth record: before it is on disk, or right after. */
    const crashing = (n: number, after: boolean, crashed: () => void): CommandBus => {
      let records = 0;
      let dead = false;
      return {
        load: world.bus.load,
        async dispatch(command, input, meta) {
          if (command.name === 'RecordDeliberation') records++;
          if (records >= n && !(after && records === n && !dead)) dead = true;
          if (dead) {
            crashed();
            throw new Error('crashed');
          }
          const result = await world.bus.dispatch(command, input, meta);
          if (records >= n) dead = true;
          return result;
        },
      };
    };
    // Every phase takes three steps or more.
    for (let n = 1; n < expected.length; n += 3) {
      const gone = new AbortController();
      const bus = crashing(n, n % 2 === 0, () => gone.abort());
      const process = await world.start(noModels, { bus, onError: () => {} });
      const id = await world.open(`crash ${n}`, { ...changes, owner: `crash ${n}` });
      if (!gone.signal.aborted) await once(gone.signal, 'abort');
      await world.stop(process);
      const next = await world.start(noModels, { workers: soleWorker('w2') });
      const events = await world.until(id);
      await world.stop(next);
      expect(course(events), `after a crash at record ${n}`).to.deep.equal(expected);
    }
  });

  it('is given back on a shutdown, and goes on with the next start', async () => {
    const process = await world.start(noModels, { paceMs: 20 });
    const id = await world.open('a', { material: archive });
    await world.until(id, 'MemberSpoke', 2);
    await world.stop(process);
    expect(typesOf(await world.events(id)).at(-1)).to.equal('DeliberationReleased');
    await world.start();
    const events = await world.until(id);
    expect(dataOf(events, 'DeliberationStarted').map(({ attempt }) => attempt)).to.deep.equal([1, 1]);
    expect(dataOf(events, 'MemberSpoke')).to.have.length(11);
  });

  it('stops when it is asked to, while it runs and before, and ends its session', async () => {
    const start = async (name: string) => {
      const sessionId = sessionIdFor(name);
      const deliberationId = deliberationIdFor(name);
      await world.bus.dispatch(
        startSession,
        { owner: OWNER, sessionId, deliberationId, task: 'Move it?', mode: 'standard' },
        metaFor(`session ${name}`),
      );
      return world.open(name, { sessionId, material: archive });
    };
    const stop = (deliberationId: string) =>
      world.bus.dispatch(
        requestDeliberationStop,
        { deliberationId, at: new Date().toISOString() },
        { ...stopMeta, commandId: `stop ${deliberationId}` },
      );
    await world.start(noModels, { paceMs: 60_000 });
    const id = await start('a');
    await world.until(id, 'PhaseStarted');
    await stop(id);
    const events = await world.until(id);
    expect(dataOf(events, 'DeliberationEnded')[0]).to.include({ outcome: 'stopped' });
    expect((await world.bus.load(council, OWNER)).state.session).to.equal(null);
  });

  // ── through a model ─────────────────────────────────────────────────────
  const lastLine = (prompt: Prompt) => String((prompt.messages.at(-1) as { content: string }).content);
  const speaking = (name = 'openai') =>
    scripted(name, (prompt): ModelPart[] => {
      const asked = lastLine(prompt);
      if (asked.includes('VOTE: FOR')) {
        const against = prompt.system.includes('(sceptic)');
        return say(
          against
            ? '**Vote: against**\nReason: the figures are untested'
            : 'VOTE: FOR\nREASON: [m1] convinces',
        );
      }
      if (asked.includes('answer: ENOUGH')) return say('ENOUGH');
      return say(`I say so because of [m1].`);
    });

  it('speaks through a model where one is connected, with what it cost', async () => {
    const model = speaking();
    const builtIn = scripted('builtin', () => say('never asked'));
    await world.start(modelsOf(builtIn, model));
    const events = await world.until(await world.open('a', { material: archive }));
    const said = dataOf(events, 'MemberSpoke');
    expect(said.every(({ voice }) => voice.model === 'openai/test')).to.equal(true);
    expect(said[0]).to.deep.include({ text: 'I say so because of [m1].', cites: ['m1'] });
    expect(said[0]!.voice).to.deep.include({ usage, costUsd: 0.00002 });
    expect(dataOf(events, 'VoteCast').map(({ vote }) => vote)).to.deep.equal([
      'for',
      'against',
      'for',
      'for',
      'for',
    ]);
    expect(dataOf(events, 'DecisionReached')[0]!.dissent).to.deep.equal([
      { member: 'sceptic', reason: 'the figures are untested' },
    ]);
    const spoken = said.length + 5;
    expect(dataOf(events, 'DeliberationEnded')[0]!.usage.promptTokens).to.equal(10 * spoken);
    expect(builtIn.prompts).to.have.length(0);
    const sceptic = model.prompts.find(({ system }) => system.includes('Dry, exact and hard to impress'))!;
    expect(lastLine(sceptic))
      .to.include('The archive costs 310 dollars a month.')
      .and.include('310 * 12 = 3720');
  });

  it('lets the model choose tools, and breaks off when it asks the same again and again', async () => {
    const model = scripted('openai', (prompt) =>
      lastLine(prompt).includes('ENOUGH')
        ? ask(['calculate', { expression: '6*7' }])
        : say('VOTE: ABSTAIN\nREASON: no view'),
    );
    await world.start(modelsOf(model));
    const events = await world.until(
      await world.open('a', { topic: 'Paint it?', maxLoops: 1, maxToolUses: 50 }),
    );
    const used = dataOf(events, 'MaterialGathered').filter(({ tool }) => tool === 'calculate');
    expect(used.map(({ material }) => material.text)).to.deep.equal(['6*7 = 42', '6*7 = 42']);
    expect(dataOf(events, 'DeliberationLimited').map(({ limit }) => limit)).to.deep.equal(['repetition']);
    const offered = model.prompts.find(({ tools }) => tools.length > 0)!;
    expect(offered.tools.map(({ name }) => name))
      .to.include('calculate')
      .and.not.include('remember_fact');
  });

  it('goes on by rule, and says so, when no model answers', async () => {
    const broken = scripted('openai', () => {
      throw new ModelError('openai/test answered with status 500', { retryable: true });
    });
    await world.start(modelsOf(broken));
    const events = await world.until(await world.open('a', { material: archive }));
    expect(dataOf(events, 'VoiceFailed')[0]!.reason).to.equal('openai/test answered with status 500');
    expect(dataOf(events, 'MemberSpoke').every(({ voice }) => voice.model === null)).to.equal(true);
    expect(dataOf(events, 'DecisionReached')[0]!.outcome).to.equal('approved');
  });

  it('stops in the middle of a call of a model', async () => {
    const slow = scripted('openai', (_prompt, _call, signal) => hang('Well, ', signal));
    await world.start(modelsOf(slow));
    const id = await world.open('a', { material: archive, maxToolUses: 0 });
    await world.until(id, 'PhaseStarted');
    await world.bus.dispatch(
      requestDeliberationStop,
      { deliberationId: id, at: new Date().toISOString() },
      stopMeta,
    );
    const events = await world.until(id);
    expect(dataOf(events, 'DeliberationEnded')[0]).to.include({ outcome: 'stopped' });
    expect(typesOf(events)).to.not.include('MemberSpoke');
  });
});
