import { expect } from 'chai';
import { seeded, turnScript } from '../../test/live-scenario.ts';
import { type LiveServer, startLiveServer, until } from '../../test/live-server.ts';
import { conversationFeed } from '../live/feed.ts';
import { answers } from '../live/socket-io/formats.ts';
import { fromNow } from '../live/zerg.ts';
import { graphql, iterate } from './feeds.ts';

const ID = 'dddddddddddd';

describe('a feed as an async iterable', () => {
  let live: LiveServer;
  let left = 0;
  const begin = async (...how: Parameters<typeof startLiveServer>) => {
    left = 0;
    live = await startLiveServer(...how);
    await live.start(ID, 'ada');
    await live.caughtUp();
  };
  afterEach(async () => {
    await live.close();
    expect(live.errors).to.deep.equal([]);
  });
  const subscribe = () => {
    const { hub, logins } = live.live;
    const feed = conversationFeed(
      answers(ID, (turnId) => turnId),
      graphql,
      ID,
      null,
    );
    const login = { caller: live.logins.get('ada')!, may: () => true };
    const start = { cursor: fromNow(hub.position()), resync: null };
    return iterate(feed, start, login, { hub, logins, left: () => left++ });
  };
  /** Answers of a mebibyte each. */
  async function playLong(turns: number): Promise<void> {
    for (let turn = 0; turn < turns; turn++) {
      const { steps, turnId } = turnScript(seeded(1), `${turn}`.padStart(24, '0'));
      for (const type of ['MessageSent', 'TurnStarted', 'ModelCalled']) {
        await live.play(ID, 'ada', steps.find((step) => step.kind === 'event' && step.type === type)!);
      }
      const call = { turnId, callId: 'call_1', provider: 'builtin', model: 'assistant', reasoning: '' };
      const data = {
        ...{ ...call, text: 'x'.repeat(2 ** 20), toolRequests: [], finishReason: 'stop', costUsd: null },
        ...{
          durationMs: 1,
          firstTokenMs: 1,
          usage: { promptTokens: 1, completionTokens: 1, cachedTokens: 0 },
        },
      };
      await live.play(ID, 'ada', { kind: 'event', type: 'ModelAnswered', data });
    }
  }

  it('gives what happens in order, and ends when it is left', async () => {
    await begin();
    const feed = subscribe();
    const { steps, content } = turnScript(seeded(4), '1'.repeat(24));
    for (const step of steps) await live.play(ID, 'ada', step);
    let text = '';
    for await (const frame of feed as AsyncIterable<{ token: string; finished: boolean; restarted?: true }>) {
      text = frame.restarted ? '' : text + frame.token;
      if (frame.finished) break;
    }
    expect(text).to.equal(content);
    expect(left).to.equal(1);
    expect(live.live.stats().clients).to.equal(0);
    expect((await feed.next()).done).to.equal(true);
  });

  it('holds little for who does not read, and gives them all of it when they do', async () => {
    await begin();
    const feed = subscribe();
    await playLong(8);
    await live.caughtUp();
    await until(() => live.live.stats().replaying === 1, 'it to be sent back to the log');
    let length = 0;
    while (length < 8 * 2 ** 20) {
      const { value } = await feed.next();
      length += (value as { token: string }).token.length;
    }
    expect(length).to.equal(8 * 2 ** 20);
    await feed.return!();
  });

  it('gives up who reads nothing for too long', async () => {
    await begin({ heartbeatMs: 20, stalledMs: 100 });
    const feed = subscribe();
    await playLong(1);
    await until(() => left === 1, 'it to be given up');
    const error = await feed.next().then(
      () => null,
      (reason: unknown) => reason,
    );
    expect(error).to.have.property('code', 'SERVICE_UNAVAILABLE');
    expect(live.live.stats().clients).to.equal(0);
  });

  it('ends with the login', async () => {
    await begin({ recheckMs: 20 });
    const feed = subscribe();
    const next = feed.next().then(
      () => null,
      (reason: unknown) => reason,
    );
    live.logins.delete('ada');
    expect(await next).to.have.property('code', 'UNAUTHORIZED');
    expect(left).to.equal(1);
  });
});
