import { expect } from 'chai';
import { answered, createLog, decision, outcome } from '../test/log.ts';
import { fold } from './fold.ts';
import { turns } from './turns.ts';

const stream = 'conversation-c1';
const turnId = 't1';

function asked() {
  const log = createLog();
  log.add(stream, 'ConversationStarted', {
    title: null,
    mode: 'assistant',
    model: null,
    kind: 'chat',
    agent: null,
    linkId: null,
  });
  log.add(stream, 'MessageSent', {
    messageId: 'm1',
    turnId,
    content: '6 × 7?',
    model: null,
    instructions: null,
    run: null,
    prompt: null,
  });
  return log;
}
const turnOf = (log: ReturnType<typeof createLog>) => fold(turns, log.events).get(turnId);

describe('the turns projection', () => {
  it('begins with the message that asks for the turn', () => {
    expect(turnOf(asked())).to.deep.equal({
      id: turnId,
      conversationId: 'c1',
      owner: 'ada',
      userMessageId: 'm1',
      answerId: null,
      agentId: null,
      run: null,
      runAt: null,
      usage: null,
      costUsd: null,
      status: 'queued',
      attempt: 0,
      firstRevision: 1,
      lastRevision: null,
      decision: null,
      calls: [],
      tools: [],
      reason: null,
      requestedAt: '2026-03-01T10:00:01.000Z',
      startedAt: null,
      endedAt: null,
    });
  });

  it('says of a run whose it is, what asked for it and what it used', () => {
    const log = createLog();
    log.add(stream, 'MessageSent', {
      ...{ messageId: 'm1', turnId, content: '6 × 7?', model: null, instructions: null, prompt: null },
      run: {
        agent: { id: 'a1', name: 'scout' },
        trigger: 'agent',
        parent: { conversationId: 'c0', turnId: 't0' },
        ...{ orchestrationId: null, tools: ['calculate'] },
        budget: { tokens: 900, cost: null, turns: null },
        ...{ timeoutMs: 60_000, maxAttempts: 2, concurrency: 1 },
      },
    });
    expect(turnOf(log)).to.deep.include({
      agentId: 'a1',
      run: {
        agentName: 'scout',
        trigger: 'agent',
        actor: { kind: 'user', id: 'ada' },
        parentTurnId: 't0',
        sourceAgent: null,
        orchestrationId: null,
        message: '6 × 7?',
        maxAttempts: 2,
      },
    });
    log.add(stream, 'TurnCompleted', outcome(turnId));
    const { messageId, usage, costUsd } = outcome(turnId);
    expect(turnOf(log)).to.deep.include({ answerId: messageId, usage, costUsd, status: 'completed' });
  });

  it('follows the turn through its steps to its end', () => {
    const log = asked();
    log.add(stream, 'TurnStarted', { turnId, attempt: 1, worker: 'w1' });
    log.add(stream, 'MessageRouted', { turnId, decision });
    log.add(stream, 'ModelFailed', {
      ...{ turnId, callId: 'a', provider: 'anthropic', model: 'opus' },
      ...{ reason: '529', text: '', durationMs: 30 },
    });
    log.add(stream, 'ModelAnswered', answered(turnId));
    log.add(stream, 'ToolReturned', {
      ...{ turnId, toolCallId: 'k', tool: 'calculate' },
      ...{ result: '42', isError: false, durationMs: 3 },
    });
    expect(turnOf(log)).to.include({ status: 'running', attempt: 1, endedAt: null });
    log.add(stream, 'TurnCompleted', outcome(turnId));

    const turn = turnOf(log);
    expect(turn).to.include({ status: 'completed', lastRevision: 7, reason: null });
    expect(turn).to.include({
      startedAt: '2026-03-01T10:00:02.000Z',
      endedAt: '2026-03-01T10:00:07.000Z',
    });
    expect(turn?.decision).to.deep.equal(decision);
    expect(turn?.calls).to.deep.equal([
      ...[{ provider: 'anthropic', model: 'opus', usage: null, costUsd: null, durationMs: 30, error: '529' }],
      {
        provider: 'openai',
        model: 'gpt-5',
        usage: { promptTokens: 100, completionTokens: 20, cachedTokens: 10 },
        costUsd: 0.002,
        durationMs: 1_500,
        error: null,
      },
    ]);
    expect(turn?.tools).to.deep.equal([{ tool: 'calculate', isError: false, durationMs: 3 }]);
  });

  it('waits again when it was given back, and keeps when it first began', () => {
    const log = asked();
    log.add(stream, 'TurnStarted', { turnId, attempt: 1, worker: 'w1' });
    log.add(stream, 'TurnReleased', { turnId, worker: 'w1' });
    expect(turnOf(log)).to.include({ status: 'queued' });
    log.add(stream, 'TurnStarted', { turnId, attempt: 2, worker: 'w2' });
    expect(turnOf(log)).to.include({
      status: 'running',
      attempt: 2,
      startedAt: '2026-03-01T10:00:02.000Z',
    });
  });

  it('keeps why it failed', () => {
    const log = asked();
    log.add(stream, 'TurnFailed', { ...outcome(turnId), reason: 'three attempts failed' });
    expect(turnOf(log)).to.include({ status: 'failed', reason: 'three attempts failed' });
  });

  it('may end before it began', () => {
    const log = asked();
    log.add(stream, 'TurnInterrupted', outcome(turnId));
    expect(turnOf(log)).to.include({ status: 'interrupted', startedAt: null });
  });
});
