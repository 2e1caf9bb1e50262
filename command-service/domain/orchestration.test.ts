import { expect } from 'chai';
import type { Caller } from '../../contracts/caller.ts';
import type { DecidedEvent, EventData } from '../../contracts/events/catalogue.ts';
import type { OrchestrationStep } from '../../contracts/events/orchestration.ts';
import { given, OWNER } from '../testing.ts';
import {
  cancelOrchestration,
  claimOrchestration,
  endOf,
  orchestration,
  orchestrationIdFor,
  recordProgress,
  requestOrchestration,
  stepsToDo,
} from './orchestration.ts';

const orchestrationId = orchestrationIdFor('test');
type Decided = DecidedEvent<
  | 'OrchestrationRequested'
  | 'OrchestrationStarted'
  | 'OrchestrationReleased'
  | 'OrchestrationCancelRequested'
  | 'OrchestrationEnded'
  | 'StepStarted'
  | 'StepEnded'
>;

const run = (id: string, after: string[] = []): OrchestrationStep => ({
  ...{ kind: 'run', id, calledAs: id, model: null, task: `Do ${id}.`, instructions: null, after },
  run: {
    agent: { id: `id of ${id}`, name: id },
    tools: null,
    budget: { tokens: null, cost: null, turns: null },
    ...{ timeoutMs: 60_000, maxAttempts: 1, concurrency: 1 },
  },
});
const judgement = (id: string, judges: string): OrchestrationStep => ({
  ...{ kind: 'judgement', id, purpose: 'plan', judges, question: 'May it?', after: [judges] },
});
const asked = (
  steps: OrchestrationStep[],
  kind: 'orchestration' | 'delegation' = 'orchestration',
): EventData<'OrchestrationRequested'> => ({
  ...{ kind, task: 'Do it.', context: null, steps, parallel: true, timeoutMs: 1_000, parent: null },
});
const requested = (...steps: OrchestrationStep[]): Decided => ({
  type: 'OrchestrationRequested',
  data: asked(steps),
});
const delegated = (...steps: OrchestrationStep[]): Decided => ({
  type: 'OrchestrationRequested',
  data: asked(steps, 'delegation'),
});
const started = (worker: string, attempt = 1): Decided => ({
  type: 'OrchestrationStarted',
  data: { attempt, worker },
});
const released: Decided = { type: 'OrchestrationReleased', data: { worker: 'w1' } };
const cancelling: Decided = { type: 'OrchestrationCancelRequested', data: {} };
const stepStarted = (stepId: string): Decided => ({
  type: 'StepStarted',
  data: { kind: 'run', stepId, conversationId: 'c', turnId: 't' },
});
const stepEnded = (stepId: string, changes: Partial<EventData<'StepEnded'>> = {}) => ({
  type: 'StepEnded' as const,
  data: {
    stepId,
    outcome: 'completed' as const,
    result: `Result of ${stepId}`,
    reason: null,
    verdict: null,
    tokens: 10,
    costUsd: 0.25,
    durationMs: 5,
    ...changes,
  },
});
const failed = (stepId: string) => stepEnded(stepId, { outcome: 'failed', result: '', reason: 'no model' });
const judged = (stepId: string, outcome: 'approved' | 'rejected') =>
  stepEnded(stepId, {
    result: 'So be it.',
    verdict: { outcome, decisionId: 'd', dissent: [{ member: 'sceptic', reason: 'Too dear.' }] },
  });
const ended: Decided = {
  type: 'OrchestrationEnded',
  data: { outcome: 'completed', reason: null, result: '', tokens: 0, costUsd: 0, durationMs: 0 },
};

describe('an orchestration', () => {
  const input = { ...asked([run('a'), run('b', ['a'])]), orchestrationId, owner: OWNER };
  const user = (userId: string, permissions: string[] = []) =>
    ({ userId, permissions: new Set(permissions) }) as unknown as Caller;

  it('is requested once', () => {
    const expected: Decided = { type: 'OrchestrationRequested', data: asked([run('a'), run('b', ['a'])]) };
    given(orchestration).when(requestOrchestration, input).then(expected);
    given(orchestration, requested(run('a')))
      .when(requestOrchestration, input)
      .refused('CONFLICT');
  });

  it('has steps that can be done in their order', () => {
    const fits = (...steps: OrchestrationStep[]) =>
      requestOrchestration.schema.safeParse({ ...input, steps }).success;
    expect(fits(run('a'), run('b', ['a']))).to.equal(true);
    expect(fits(run('a', ['b']), run('b'))).to.equal(false);
    expect(fits(run('a'), run('a'))).to.equal(false);
    expect(fits(judgement('j', 'a'), run('a'))).to.equal(false);
    expect(fits()).to.equal(false);
  });

  it('is one worker’s at a time', () => {
    const claim = { orchestrationId, worker: 'w2', takeOverFrom: null };
    const asking = requested(run('a'));
    given(orchestration, asking).when(claimOrchestration, claim).then(started('w2'));
    given(orchestration, asking, started('w1')).when(claimOrchestration, claim).refused('CONFLICT');
    given(orchestration, asking, started('w1'))
      .when(claimOrchestration, { ...claim, takeOverFrom: 'w1' })
      .then(started('w2', 2));
    given(orchestration, asking, started('w1'), released)
      .when(claimOrchestration, claim)
      .then(started('w2', 2));
    given(orchestration, asking, started('w1'), ended).when(claimOrchestration, claim).refused('CONFLICT');
    given(orchestration).when(claimOrchestration, claim).refused('CONFLICT');
  });

  it('records what its worker does, each step once', () => {
    const record = (worker: string, attempt: number) => ({
      ...{ orchestrationId, worker, attempt },
      events: [stepEnded('a')],
    });
    const world = [requested(run('a')), started('w1'), stepStarted('a')];
    given(orchestration, ...world)
      .when(recordProgress, record('w1', 1))
      .then(stepEnded('a'));
    given(orchestration, ...world)
      .when(recordProgress, record('w2', 1))
      .refused('CONFLICT');
    given(orchestration, ...world, started('w2', 2))
      .when(recordProgress, record('w1', 1))
      .refused('CONFLICT');
    given(orchestration, ...world, stepEnded('a'))
      .when(recordProgress, record('w1', 1))
      .refused('CONFLICT');
    given(orchestration, ...world)
      .when(recordProgress, { ...record('w1', 1), events: [stepStarted('a') as never] })
      .refused('CONFLICT');
  });

  it('is cancelled by whom it belongs to, once', () => {
    const world = [requested(run('a')), started('w1')];
    const cancel = { orchestrationId };
    given(orchestration, ...world)
      .when(cancelOrchestration, cancel, user(OWNER))
      .then(cancelling);
    given(orchestration, ...world, cancelling)
      .when(cancelOrchestration, cancel)
      .then();
    given(orchestration, ...world, ended)
      .when(cancelOrchestration, cancel)
      .then();
    given(orchestration, ...world)
      .when(cancelOrchestration, cancel, user('other'))
      .refused('NOT_FOUND');
    given(orchestration)
      .when(cancelOrchestration, cancel, user(OWNER, ['all:read']))
      .refused('NOT_FOUND');
  });
});

describe('what is to be done in an orchestration', () => {
  const todo = (...events: Decided[]) => stepsToDo(given(orchestration, ...events).state).map(({ id }) => id);

  it('is what has begun, and whose predecessors have ended, however they did', () => {
    const asking = requested(run('a'), run('b'), run('c', ['a', 'b']));
    expect(todo(asking)).to.deep.equal(['a', 'b']);
    expect(todo(asking, stepStarted('a'), stepEnded('a'))).to.deep.equal(['b']);
    expect(todo(asking, failed('a'), stepEnded('b'))).to.deep.equal(['c']);
    expect(todo(asking, failed('a'), stepEnded('b'), stepEnded('c'))).to.deep.equal([]);
  });

  it('is nothing more once the Council rejects, or a part of a delegation fails', () => {
    const asking = delegated(run('plan'), judgement('j', 'plan'), run('work', ['plan', 'j']));
    expect(todo(asking, stepEnded('plan'))).to.deep.equal(['j']);
    expect(todo(asking, stepEnded('plan'), judged('j', 'approved'))).to.deep.equal(['work']);
    expect(todo(asking, stepEnded('plan'), judged('j', 'rejected'))).to.deep.equal([]);
    expect(todo(asking, failed('plan'))).to.deep.equal([]);
  });
});

describe('how an orchestration ends', () => {
  const now = new Date('2026-01-01T00:00:03.000Z');
  const end = (cutOff: Parameters<typeof endOf>[1], ...events: Decided[]) => {
    const decided = endOf(given(orchestration, ...events).state, cutOff, now);
    const last = decided.at(-1)!;
    if (last.type !== 'OrchestrationEnded') throw new Error('It did not end.');
    const steps = decided.flatMap((event) =>
      event.type === 'StepEnded' ? [`${event.data.stepId} ${event.data.outcome}`] : [],
    );
    return { ...last.data, steps };
  };

  it('completed, with the results put together and what they cost', () => {
    const all = end(null, requested(run('a'), run('b')), stepEnded('a'), stepEnded('b', { costUsd: null }));
    expect(all).to.deep.equal({
      ...{ outcome: 'completed', reason: null, tokens: 20, costUsd: null, durationMs: 3_000, steps: [] },
      result: '## a\n\nResult of a\n\n## b\n\nResult of b',
    });
  });

  it('in part, or failed, and says of whom', () => {
    const asking = requested(run('a'), run('b'));
    expect(end(null, asking, failed('a'), stepEnded('b'))).to.include({
      outcome: 'partial',
      reason: 'a (a) failed: no model',
      result: '## b\n\nResult of b',
    });
    expect(end(null, asking, failed('a'), failed('b'))).to.include({ outcome: 'failed', result: '' });
  });

  it('cut off: what has not begun is cancelled, what has brought something is kept', () => {
    const asking = requested(run('a'), run('b', ['a']));
    const cut = end('timed out', asking, stepEnded('a'));
    expect(cut).to.include({ outcome: 'timed out', reason: 'Its time limit of 1 s was reached.' });
    expect(cut).to.deep.include({ steps: ['b cancelled'], result: '## a\n\nResult of a' });
    expect(end('cancelled', asking)).to.include({ outcome: 'cancelled', reason: 'It was cancelled.' });
    // It had brought everything by then.
    expect(end('cancelled', asking, stepEnded('a'), stepEnded('b')).outcome).to.equal('completed');
  });

  it('a delegation: with the result of the work, or with why the Council rejected it', () => {
    const asking = delegated(
      ...[run('plan'), judgement('j1', 'plan'), run('work', ['j1']), judgement('j2', 'work')],
    );
    const approved = [asking, stepEnded('plan'), judged('j1', 'approved'), stepEnded('work')];
    expect(end(null, ...approved, judged('j2', 'approved'))).to.include({
      outcome: 'completed',
      result: 'Result of work',
    });
    const rejected = end(null, ...approved, judged('j2', 'rejected'));
    expect(rejected).to.include({ outcome: 'failed', result: '' });
    expect(rejected.reason).to.equal('The Council rejected the plan: So be it. sceptic disagreed: Too dear.');
    const stopped = end(null, asking, stepEnded('plan'), judged('j1', 'rejected'));
    expect(stopped.steps).to.deep.equal(['work skipped', 'j2 skipped']);
    expect(stopped.outcome).to.equal('failed');
  });
});
