import { expect } from 'chai';
import type { TokenUsage } from '../contracts/events/conversation.ts';
import { createLog, outcome } from '../test/log.ts';
import { conversations } from './conversations.ts';
import { fold } from './fold.ts';

const stream = 'conversation-c1';

function begun() {
  const log = createLog();
  log.add(stream, 'ConversationStarted', {
    title: null,
    mode: 'assistant',
    model: 'openai/gpt-5',
    kind: 'chat',
    agent: null,
    linkId: null,
  });
  return log;
}
const sum = (...usages: TokenUsage[]) =>
  usages.reduce((a, b) => ({
    promptTokens: a.promptTokens + b.promptTokens,
    completionTokens: a.completionTokens + b.completionTokens,
    cachedTokens: a.cachedTokens + b.cachedTokens,
  }));
const documentOf = (log: ReturnType<typeof createLog>) => fold(conversations, log.events).get('c1');

describe('the conversations projection', () => {
  it('begins with what the conversation was started with', () => {
    expect(documentOf(begun())).to.deep.equal({
      id: 'c1',
      owner: 'ada',
      title: null,
      mode: 'assistant',
      model: 'openai/gpt-5',
      surface: 'luna',
      status: 'active',
      archived: false,
      kind: 'chat',
      agentId: null,
      agentName: null,
      linkId: null,
      messageCount: 0,
      usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
      costUsd: 0,
      contextTokens: 0,
      answeredBy: null,
      lastMessageAt: null,
      createdAt: '2026-03-01T10:00:00.000Z',
      updatedAt: '2026-03-01T10:00:00.000Z',
    });
  });

  it('says who answers in it, and the link that its visitor came by', () => {
    const log = createLog();
    log.add(stream, 'ConversationStarted', {
      ...{ title: null, mode: 'assistant', model: null },
      ...{ kind: 'public', agent: { id: 'a1', name: 'scout' }, linkId: 'l1' },
    });
    expect(documentOf(log)).to.include({
      ...{ kind: 'public', agentId: 'a1', agentName: 'scout', linkId: 'l1' },
    });
  });

  it('follows title, mode and archive, and when it last changed', () => {
    const log = begun();
    log.add(stream, 'ConversationRenamed', { title: 'Sums' });
    log.add(stream, 'ConversationModeChanged', { mode: 'build' });
    log.add(stream, 'ConversationArchived', {});
    expect(documentOf(log)).to.include({ title: 'Sums', mode: 'build', archived: true });
    log.add(stream, 'ConversationUnarchived', {});
    expect(documentOf(log)).to.include({ archived: false, updatedAt: '2026-03-01T10:00:04.000Z' });
  });

  it('counts what was sent and what was answered, whatever the outcome', () => {
    const log = begun();
    for (const [turnId, end] of [
      ['t1', 'TurnCompleted'],
      ['t2', 'TurnInterrupted'],
      ['t3', 'TurnFailed'],
    ] as const) {
      log.add(stream, 'MessageSent', {
        messageId: turnId,
        turnId,
        content: 'hi',
        model: null,
        instructions: null,
        run: null,
        prompt: null,
      });
      if (end === 'TurnFailed') log.add(stream, end, { ...outcome(turnId), reason: 'nobody answered' });
      else log.add(stream, end, outcome(turnId));
    }
    expect(documentOf(log)).to.include({ messageCount: 6, updatedAt: '2026-03-01T10:00:06.000Z' });
  });

  it('adds up what its turns took, as far as it is known, and says who answered last', () => {
    const log = begun();
    const usage = { promptTokens: 10, completionTokens: 4, cachedTokens: 2 };
    const by = { provider: 'openai', model: 'gpt-5', usage };
    log.add(stream, 'TurnCompleted', outcome('t1', { ...by, costUsd: 0.1 }));
    log.add(stream, 'TurnCompleted', outcome('t2', { ...by, costUsd: 0.2 }));
    log.add(stream, 'TurnInterrupted', outcome('t3', { provider: null, model: null, costUsd: null }));
    expect(documentOf(log)).to.deep.include({
      costUsd: 0.3,
      answeredBy: 'openai/gpt-5',
      lastMessageAt: '2026-03-01T10:00:03.000Z',
    });
    expect(documentOf(log)!.usage).to.deep.equal(sum(usage, usage, outcome('t3').usage));
  });

  it('ends without going away', () => {
    const log = begun();
    log.add(stream, 'ConversationEnded', {});
    expect(documentOf(log)).to.include({ status: 'ended' });
  });

  it('is gone when deleted, and a turn that ends later does not bring it back', () => {
    const log = begun();
    log.add(stream, 'MessageSent', {
      messageId: 'm',
      turnId: 't',
      content: 'hi',
      model: null,
      instructions: null,
      run: null,
      prompt: null,
    });
    log.add(stream, 'ConversationDeleted', {});
    log.add(stream, 'TurnInterrupted', outcome('t'));
    expect(fold(conversations, log.events).size).to.equal(0);
  });

  it('does not change when a turn merely goes on', () => {
    const log = begun();
    const before = documentOf(log);
    log.add(stream, 'TurnStarted', { turnId: 't', attempt: 1, worker: 'w' });
    expect(documentOf(log)).to.deep.equal(before);
  });
});
