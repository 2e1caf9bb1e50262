import { expect } from 'chai';
import { readyMadeMembers } from '../../contracts/council.ts';
import type { DecidedEvent } from '../../contracts/events/catalogue.ts';
import { given, OWNER } from '../testing.ts';
import {
  claimDeliberation,
  type DeliberationEventType,
  type DeliberationState,
  deliberation,
  openDeliberation,
  recordDeliberation,
  requestDeliberationStop,
} from './deliberation.ts';

const having = (...events: DecidedEvent<DeliberationEventType>[]) =>
  given<DeliberationState, DeliberationEventType>(deliberation, ...events);
const deliberationId = `delib_${'0'.repeat(24)}`;
const data = {
  ...{ topic: 'Move it?', purpose: 'autonomous' as const, material: [], members: [...readyMadeMembers] },
  ...{ maxLoops: 3, maxToolUses: 6, sessionId: null, mode: 'standard' as const },
};
const opened = { type: 'DeliberationOpened' as const, data };
const started = (attempt: number, worker = 'w1') => ({
  type: 'DeliberationStarted' as const,
  data: { attempt, worker },
});
const released = { type: 'DeliberationReleased' as const, data: { worker: 'w1' } };
const begun = { type: 'PhaseStarted' as const, data: { phase: 'planning', loop: 1 } };
const stopRequested = { type: 'DeliberationStopRequested' as const, data: {} };
const usage = { promptTokens: 10, completionTokens: 5, cachedTokens: 0 };
const voted = {
  type: 'VoteCast' as const,
  data: {
    ...{ loop: 1, member: 'judge', vote: 'for' as const, reason: 'so' },
    voice: { model: 'openai/x', usage, costUsd: 0.25, durationMs: 1 },
  },
};
const ended = (spent = {}) => ({
  type: 'DeliberationEnded' as const,
  data: {
    ...{ outcome: 'stopped' as const, reason: null, costUsd: 0, durationMs: 1_000 },
    usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
    ...spent,
  },
});
const stop = { deliberationId, at: '2026-01-01T00:00:01.000Z' };

describe('a deliberation', () => {
  it('is opened once, however often it is asked for', () => {
    having()
      .when(openDeliberation, { deliberationId, owner: OWNER, ...data })
      .then(opened);
    having(opened)
      .when(openDeliberation, { deliberationId, owner: OWNER, ...data })
      .then();
  });

  it('is held by one worker; after one that was lost, it is another attempt', () => {
    const claim = { deliberationId, worker: 'w2', takeOverFrom: null };
    having().when(claimDeliberation, claim).refused('NOT_FOUND');
    having(opened).when(claimDeliberation, claim).then(started(1, 'w2'));
    having(opened, started(1)).when(claimDeliberation, claim).refused('CONFLICT');
    having(opened, started(1))
      .when(claimDeliberation, { ...claim, takeOverFrom: 'w1' })
      .then(started(2, 'w2'));
    having(opened, started(1), released).when(claimDeliberation, claim).then(started(1, 'w2'));
    having(opened, ended()).when(claimDeliberation, claim).refused('CONFLICT');
  });

  it('counts the workers that were lost one after the other without a step', () => {
    const stateAfter = (...events: DecidedEvent<DeliberationEventType>[]) =>
      having(opened, ...events).state.fruitless;
    expect(stateAfter(started(1), started(2), started(3))).to.equal(2);
    expect(stateAfter(started(1), started(2), voted)).to.equal(0);
    expect(stateAfter(started(1), started(2), begun, started(3))).to.equal(1);
    expect(stateAfter(started(1), released, started(1))).to.equal(0);
  });

  it('takes steps of the worker that holds it only', () => {
    const record = { deliberationId, worker: 'w1', attempt: 1, steps: [voted] };
    having(opened, started(1)).when(recordDeliberation, record).then(voted);
    having(opened, started(2)).when(recordDeliberation, record).refused('CONFLICT');
    having(opened, started(1, 'w2')).when(recordDeliberation, record).refused('CONFLICT');
    having(opened, released).when(recordDeliberation, record).refused('CONFLICT');
  });

  it('is stopped by its worker, and at once where nobody holds it', () => {
    having(opened, started(1)).when(requestDeliberationStop, stop).then(stopRequested);
    having(opened, started(1), stopRequested).when(requestDeliberationStop, stop).then();
    having(opened).when(requestDeliberationStop, stop).then(stopRequested, ended());
    having(opened, started(1), voted, released)
      .when(requestDeliberationStop, stop)
      .then(stopRequested, ended({ usage, costUsd: 0.25 }));
    having(opened, ended()).when(requestDeliberationStop, stop).then();
  });
});
