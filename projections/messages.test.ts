import { expect } from 'chai';
import { createLog, outcome } from '../test/log.ts';
import { fold } from './fold.ts';
import { messages } from './messages.ts';

const stream = 'conversation-c1';

function sent() {
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
    turnId: 't1',
    content: '6 × 7?',
    model: 'nano',
    instructions: null,
    run: null,
    prompt: null,
  });
  return log;
}

describe('the messages projection', () => {
  it('has what the user sent', () => {
    expect(fold(messages, sent().events).get('m1')).to.deep.equal({
      id: 'm1',
      conversationId: 'c1',
      owner: 'ada',
      revision: 1,
      turnId: 't1',
      role: 'user',
      content: '6 × 7?',
      status: 'complete',
      reason: null,
      createdAt: '2026-03-01T10:00:01.000Z',
      answer: null,
    });
  });

  it('has the answer, with who gave it and what it cost', () => {
    const log = sent();
    log.add(stream, 'TurnCompleted', outcome('t1'));
    const answer = fold(messages, log.events).get('msg_of_t1');
    expect(answer).to.include({ role: 'assistant', status: 'complete', reason: null, revision: 2 });
    const { turnId, messageId, content, ...rest } = outcome('t1');
    expect(answer).to.include({ turnId, id: messageId, content });
    expect(answer?.answer).to.deep.equal(rest);
  });

  it('has an interrupted answer as far as it got', () => {
    const log = sent();
    log.add(stream, 'TurnInterrupted', outcome('t1', { content: 'Six times' }));
    expect(fold(messages, log.events).get('msg_of_t1')).to.include({
      status: 'interrupted',
      content: 'Six times',
    });
  });

  it('has a failed answer with its reason, even when nothing had been written', () => {
    const log = sent();
    const nobody = { content: '', provider: null, model: null };
    log.add(stream, 'TurnFailed', { ...outcome('t1', nobody), reason: 'every provider failed' });
    expect(fold(messages, log.events).get('msg_of_t1')).to.include({
      status: 'failed',
      content: '',
      reason: 'every provider failed',
    });
  });

  it('outlives the conversation', () => {
    const log = sent();
    log.add(stream, 'ConversationDeleted', {});
    expect([...fold(messages, log.events).keys()]).to.deep.equal(['m1']);
  });
});
