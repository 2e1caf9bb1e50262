import { expect } from 'chai';
import { answered, createLog } from '../test/log.ts';
import { fold } from './fold.ts';
import { usage } from './usage.ts';

const stream = 'conversation-c1';

describe('the usage projection', () => {
  it('adds up calls, tokens and cost by owner, day and model', () => {
    const log = createLog();
    log.add(stream, 'ModelAnswered', answered('t1'));
    log.add(stream, 'ModelAnswered', answered('t2', { costUsd: null, durationMs: 500 }));
    log.add(stream, 'ModelAnswered', answered('t3', { provider: 'zai', model: 'glm-4.7' }));
    expect([...fold(usage, log.events)]).to.deep.equal([
      [
        'ada:2026-03-01',
        {
          owner: 'ada',
          day: '2026-03-01',
          requests: 3,
          errors: 0,
          totalDurationMs: 3_500,
          models: {
            'openai/gpt-5': {
              requests: 2,
              inputTokens: 200,
              outputTokens: 40,
              cachedTokens: 20,
              costUsd: 0.002,
            },
            'zai/glm-4.7': {
              requests: 1,
              inputTokens: 100,
              outputTokens: 20,
              cachedTokens: 10,
              costUsd: 0.002,
            },
          },
        },
      ],
    ]);
  });

  it('counts a failed call as a request and an error', () => {
    const log = createLog();
    log.add(stream, 'ModelFailed', {
      ...{ turnId: 't', callId: 'a', provider: 'openai', model: 'gpt-5' },
      ...{ reason: 'time-out', text: '', durationMs: 60_000 },
    });
    const doc = fold(usage, log.events).get('ada:2026-03-01');
    expect(doc).to.include({ requests: 1, errors: 1, totalDurationMs: 60_000 });
    expect(doc?.models['openai/gpt-5']).to.include({ requests: 1, inputTokens: 0, costUsd: 0 });
  });

  it('keeps owners and UTC days apart', () => {
    const log = createLog('ada', '2026-03-01T23:59:59.000Z');
    log.add(stream, 'ModelAnswered', answered('t1'));
    log.add(stream, 'ModelAnswered', answered('t2'));
    log.add('conversation-c2', 'ModelAnswered', answered('t3'), { owner: 'bob' });
    expect([...fold(usage, log.events).keys()]).to.deep.equal([
      'ada:2026-03-01',
      'ada:2026-03-02',
      'bob:2026-03-02',
    ]);
  });

  it('adds what members of the Council say through models, and not what they say by rule', () => {
    const log = createLog();
    const tokens = { promptTokens: 100, completionTokens: 20, cachedTokens: 0 };
    const vote = (model: string | null) => ({
      ...{ loop: 1, member: 'judge', vote: 'for' as const, reason: 'so' },
      voice: { model, usage: tokens, costUsd: 0.5, durationMs: 10 },
    });
    log.add('deliberation-d1', 'VoteCast', vote('openai/gpt-5'));
    log.add('deliberation-d1', 'VoteCast', vote(null));
    const [document] = [...fold(usage, log.events).values()];
    expect(document).to.include({ requests: 1, totalDurationMs: 10 });
    expect(document!.models['openai/gpt-5']).to.include({ requests: 1, inputTokens: 100, costUsd: 0.5 });
  });
});
