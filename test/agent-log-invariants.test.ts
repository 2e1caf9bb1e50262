import { expect } from 'chai';
import { readyMadeMembers } from '../contracts/council.ts';
import type { EventData } from '../contracts/events/catalogue.ts';
import { agentFaultsOf, openWork } from './agent-log-invariants.ts';
import { createLog, outcome } from './log.ts';

const ORCHESTRATION = `orchestration-orch_${'0'.repeat(24)}`;
const DELIBERATION = `deliberation-delib_${'0'.repeat(24)}`;
const spent = { tokens: 0, costUsd: 0, durationMs: 0 };
const done = { outcome: 'completed' as const, result: 'Six times seven is 42.', reason: null, verdict: null };
const voice = {
  model: null,
  usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
  costUsd: 0,
  durationMs: 0,
};

/** An orchestration of one run, which was answered, up to the end of its step. */
function orchestration() {
  const log = createLog();
  const run: EventData<'OrchestrationRequested'>['steps'][number] = {
    ...{ kind: 'run', id: 's1', calledAs: 'coder', model: null, task: 'x', instructions: null, after: [] },
    run: {
      agent: { id: 'a1', name: 'coder' },
      tools: null,
      budget: { tokens: null, cost: null, turns: null },
      ...{ timeoutMs: 1_000, maxAttempts: 2, concurrency: 3 },
    },
  };
  log.add(ORCHESTRATION, 'OrchestrationRequested', {
    ...{ kind: 'orchestration', task: 'x', context: null, steps: [run], parallel: true },
    ...{ timeoutMs: 1_000, parent: null },
  });
  const start = () =>
    log.add(ORCHESTRATION, 'StepStarted', {
      ...{ kind: 'run', stepId: 's1', conversationId: 'aaaaaaaaaaaa', turnId: 'turn_1' },
    });
  start();
  log.add('conversation-aaaaaaaaaaaa', 'TurnCompleted', outcome('turn_1'));
  const end = (changes = {}) =>
    log.add(ORCHESTRATION, 'StepEnded', { stepId: 's1', ...done, ...spent, ...changes });
  const over = () =>
    log.add(ORCHESTRATION, 'OrchestrationEnded', {
      ...{ outcome: 'completed', reason: null, result: done.result, ...spent },
    });
  return { log, start, end, over };
}

/** A deliberation of which a member has spoken and voted. */
function deliberation() {
  const log = createLog();
  log.add(DELIBERATION, 'DeliberationOpened', {
    ...{ topic: 'Move it?', purpose: 'autonomous', material: [], members: [...readyMadeMembers] },
    ...{ maxLoops: 3, maxToolUses: 6, sessionId: 's', mode: 'standard' },
  });
  const speak = (loop = 1) =>
    log.add(DELIBERATION, 'MemberSpoke', {
      ...{ phase: 'statements', loop, member: 'judge', kind: 'statement', text: 'So.', cites: [], voice },
    });
  const vote = (loop = 1) =>
    log.add(DELIBERATION, 'VoteCast', { loop, member: 'judge', vote: 'for', reason: 'so', voice });
  const end = (changes = {}) =>
    log.add(DELIBERATION, 'DeliberationEnded', {
      ...{ outcome: 'stopped', reason: null, usage: voice.usage, costUsd: 0, durationMs: 1, ...changes },
    });
  speak();
  vote();
  return { log, speak, vote, end };
}

describe('the faults of what agents did', () => {
  it('are none when all is well', () => {
    const one = orchestration();
    one.end();
    expect(openWork(one.log.events)).to.deep.equal([ORCHESTRATION]);
    one.over();
    expect(openWork(one.log.events)).to.deep.equal([]);
    expect(agentFaultsOf(one.log.events)).to.deep.equal([]);
    const other = deliberation();
    other.speak(2);
    other.vote(2);
    other.end();
    expect(agentFaultsOf(other.log.events)).to.deep.equal([]);
    expect(openWork(other.log.events)).to.deep.equal([]);
  });

  it('are a step that begins or ends twice, brings something else, or is left out', () => {
    const faults = (change: (made: ReturnType<typeof orchestration>) => void) => {
      const made = orchestration();
      change(made);
      return agentFaultsOf(made.log.events);
    };
    expect(faults(({ start }) => start())).not.to.be.empty;
    expect(faults(({ end }) => [end(), end()])).to.have.length(1);
    expect(faults(({ end }) => end({ result: '41' }))).to.have.length(1);
    expect(faults(({ over }) => over())).to.have.length(1);
    expect(faults(({ end, over }) => [end(), over(), over()])).to.have.length(1);
  });

  it('are a word or a vote that is there twice, and whatever comes after the end', () => {
    const faults = (change: (made: ReturnType<typeof deliberation>) => void) => {
      const made = deliberation();
      change(made);
      return agentFaultsOf(made.log.events);
    };
    expect(faults(({ speak }) => speak())).to.have.length(1);
    expect(faults(({ vote }) => vote())).to.have.length(1);
    expect(faults(({ end }) => [end(), end()])).to.have.length(1);
    expect(faults(({ end, speak }) => [end(), speak(2)])).to.have.length(1);
    expect(faults(({ end }) => end({ outcome: 'failed', reason: 'why' }))).to.have.length(1);
    expect(faults(({ end }) => end({ outcome: 'decided' }))).to.have.length(1);
  });
});
