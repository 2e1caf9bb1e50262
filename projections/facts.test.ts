import { expect } from 'chai';
import type { EventData } from '../contracts/events/catalogue.ts';
import { createLog } from '../test/log.ts';
import { facts } from './facts.ts';
import { fold } from './fold.ts';

const fact: EventData<'FactRemembered'> = {
  factId: 'f1',
  category: 'personal',
  key: 'name',
  value: 'Ada',
  confidence: 0.9,
  conversationId: 'c1',
  turnId: 't1',
};

describe('the facts projection', () => {
  it('has what is known, as it was said last, and how often it was said', () => {
    const log = createLog();
    log.add('fact-f1', 'FactRemembered', fact);
    log.add('fact-f1', 'FactRemembered', { ...fact, value: 'Ada L.', confidence: 1 });
    expect([...fold(facts, log.events).values()]).to.deep.equal([
      {
        id: 'f1',
        owner: 'ada',
        category: 'personal',
        key: 'name',
        value: 'Ada L.',
        confidence: 1,
        mentionCount: 2,
        firstMentioned: '2026-03-01T10:00:00.000Z',
        lastMentioned: '2026-03-01T10:00:01.000Z',
      },
    ]);
  });

  it('has no document for what was forgotten, and begins anew when it is said again', () => {
    const log = createLog();
    log.add('fact-f1', 'FactRemembered', fact);
    log.add('fact-f1', 'FactForgotten', { factId: 'f1', reason: 'asked to' });
    expect(fold(facts, log.events).size).to.equal(0);
    log.add('fact-f1', 'FactRemembered', fact);
    expect(fold(facts, log.events).get('f1')).to.include({
      mentionCount: 1,
      firstMentioned: '2026-03-01T10:00:02.000Z',
    });
  });
});
