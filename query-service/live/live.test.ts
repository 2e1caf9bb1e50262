import { get, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { expect } from 'chai';
import { EventSource } from 'eventsource';
import { activityFrame, logFrame, lunaFrame, zergFeedFrame } from '../../contracts/live/frames.ts';
import { type Step, seeded, turnScript } from '../../test/live-scenario.ts';
import { type LiveServer, startLiveServer, until } from '../../test/live-server.ts';

const FACT = {
  factId: 'f',
  category: 'work',
  key: 'k',
  value: 'v',
  confidence: 1,
  conversationId: null,
  turnId: null,
};

/** An open response and the text that has come so far. */
interface Stream {
  readonly response: IncomingMessage;
  text(): string;
  /** The JSON of its data frames. */
  frames(): Record<string, unknown>[];
  ids(): string[];
  ended(): boolean;
  close(): void;
}

describe('live feeds over HTTP', () => {
  let live: LiveServer;
  const open: (() => void)[] = [];
  beforeEach(async () => {
    live = await startLiveServer({ heartbeatMs: 15, recheckMs: 15 });
  });
  afterEach(async () => {
    for (const close of open.splice(0)) close();
    await live.close();
    expect(live.errors).to.deep.equal([]);
  });

  function stream(path: string, headers: Record<string, string> = {}, user = 'ada'): Promise<Stream> {
    return new Promise((resolve, reject) => {
      const all = { Authorization: `Bearer ${user}`, ...headers };
      const request = get(live.url + path, { agent: false, headers: all }, (response) => {
        let text = '';
        let ended = false;
        response.setEncoding('utf8');
        response.on('data', (chunk) => {
          text += chunk;
        });
        response.on('error', () => {});
        response.on('close', () => {
          ended = true;
        });
        const matches = (pattern: RegExp) => [...text.matchAll(pattern)].map((match) => match[1]!);
        resolve({
          response,
          text: () => text,
          frames: () => matches(/^data: (\{.*\})$/gm).map((json) => JSON.parse(json)),
          ids: () => matches(/^id: (.*)$/gm),
          ended: () => ended,
          close: () => request.destroy(),
        });
        open.push(() => request.destroy());
      });
      request.on('error', (error) => (request.destroyed ? undefined : reject(error)));
    });
  }
  const refusal = async (path: string, headers: Record<string, string> = {}, user = 'ada') => {
    const answer = await stream(path, headers, user);
    await until(answer.ended);
    return { status: answer.response.statusCode, ...JSON.parse(answer.text()) };
  };
  const remember = (owner: string) => live.append(`fact-${owner}`, owner, 'FactRemembered', FACT);

  async function play(id: string, steps: readonly Step[]): Promise<void> {
    for (const step of steps) await live.play(id, 'ada', step);
  }
  const ID = 'aaaaaaaaaaaa';

  describe('the activity stream', () => {
    it('greets, then shows what happens to its user from then on, and pings', async () => {
      await remember('ada');
      await live.caughtUp();
      const feed = await stream('/api/activity/stream');
      await remember('bob');
      const mine = await remember('ada');
      // Both, in either order: on a loaded machine a ping may come first.
      const has = (type: string) => feed.frames().some((frame) => frame.type === type);
      await until(() => has('activity') && has('ping'), 'the activity and a ping');
      const frames = feed.frames().map((frame) => activityFrame.parse(frame));
      const shown = frames.filter((frame) => frame.type === 'activity');
      expect(frames[0]!.type).to.equal('connected');
      expect(shown.map(({ activity }) => [activity.id, activity.userId])).to.deep.equal([[mine.id, 'ada']]);
      expect(feed.text())
        .to.include(': hb\n\n')
        .and.to.match(/^retry: 3000\n/);
      expect(feed.response.headers).to.include({
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-cache, no-transform',
        'x-accel-buffering': 'no',
      });
    });

    it('shows everything to those who see everything', async () => {
      const feed = await stream('/api/activity/stream', {}, 'auditor');
      const events = [await remember('ada'), await remember('bob')];
      await until(() => feed.ids().length === 3);
      expect(feed.ids().slice(1)).to.deep.equal(events.map((event) => event.position));
    });

    it('resumes from its greeting, before any activity came', async () => {
      const first = await stream('/api/activity/stream');
      await until(() => first.ids().length === 1);
      first.close();
      const missed = await remember('ada');
      const second = await stream('/api/activity/stream', { 'Last-Event-ID': first.ids()[0]! });
      await until(() => second.ids().length === 2);
      expect(second.ids()[1]).to.equal(missed.position);
    });

    it('reconnects by itself with the eventsource package, without gap or repeat', async () => {
      const seen: string[] = [];
      let connections = 0;
      const source = new EventSource(`${live.url}/api/activity/stream`, {
        fetch: (url, init) => {
          connections++;
          return fetch(url, { ...init, headers: { ...init.headers, Authorization: 'Bearer ada' } });
        },
      });
      open.push(() => source.close());
      source.onmessage = ({ data }) => {
        const frame = JSON.parse(data);
        if (frame.type === 'activity') seen.push(frame.activity.id);
      };
      await until(() => source.readyState === EventSource.OPEN && live.live.stats().clients === 1);
      const sent = [(await remember('ada')).id];
      await until(() => seen.length === 1);
      live.server.closeAllConnections();
      sent.push((await remember('ada')).id, (await remember('ada')).id);
      await until(() => seen.length === 3);
      expect(seen).to.deep.equal(sent);
      expect(connections).to.equal(2);
    });
  });

  describe('the log', () => {
    it('sends envelopes, filtered, with their positions as ids', async () => {
      const all = await stream('/api/log/live', {}, 'auditor');
      const filtered = await stream('/api/log/live?owner=bob&type=FactForgotten', {}, 'auditor');
      const both = '/api/log/live?owner=bob&type=FactForgotten,FactRemembered';
      const ofBoth = await stream(both, {}, 'auditor');
      const ofStream = await stream('/api/log/live?stream=fact-ada', {}, 'auditor');
      const events = [
        await remember('ada'),
        await remember('bob'),
        await live.append('fact-bob', 'bob', 'FactForgotten', { factId: 'f', reason: 'asked' }),
      ];
      await until(() => all.frames().length === 3 && ofBoth.frames().length === 2);
      expect(all.frames()).to.deep.equal(events);
      await until(() => filtered.frames().length === 1 && ofStream.frames().length === 1);
      expect(filtered.frames()).to.deep.equal([events[2]]);
      expect(ofBoth.frames()).to.deep.equal(events.slice(1));
      expect(ofStream.frames()).to.deep.equal([events[0]]);
      expect(all.ids().slice(1)).to.deep.equal(events.map(({ position }) => position));
    });

    it('resumes from any position, by header or query', async () => {
      const events = [await remember('ada'), await remember('bob'), await remember('ada')];
      const after = events[0]!.position;
      const byQuery = await stream(`/api/log/live?lastEventId=${after}`, {}, 'admin');
      const byHeader = await stream('/api/log/live?lastEventId=0', { 'Last-Event-ID': after }, 'admin');
      for (const feed of [byQuery, byHeader]) {
        await until(() => feed.frames().length === 2);
        expect(feed.frames()).to.deep.equal(events.slice(1));
      }
    });

    it('begins after `from`, unless it resumes from further', async () => {
      const events = [await remember('ada'), await remember('bob'), await remember('ada')];
      const url = `/api/log/live?from=${events[0]!.position}`;
      const begun = await stream(url, {}, 'admin');
      const resumed = await stream(url, { 'Last-Event-ID': events[1]!.position }, 'admin');
      await until(() => begun.frames().length === 2 && resumed.frames().length === 1);
      expect(begun.frames()).to.deep.equal(events.slice(1));
      expect(resumed.frames()).to.deep.equal(events.slice(2));
    });

    it('refuses filters that it does not know, by name', async () => {
      for (const query of ['type=NoSuchEvent', 'from=999', 'from=x', 'typ=FactForgotten']) {
        const { status, error } = await refusal(`/api/log/live?${query}`, {}, 'admin');
        expect([query, status]).to.deep.equal([query, 400]);
        if (query === 'from=999') expect(error).to.include('from lies beyond the end of the log');
      }
    });

    it('takes an empty id for none', async () => {
      await remember('ada');
      const feed = await stream('/api/log/live?lastEventId=', { 'Last-Event-ID': '' }, 'admin');
      const next = await remember('bob');
      await until(() => feed.frames().length > 0);
      expect(feed.frames()).to.deep.equal([next]);
    });

    it('refuses ids that are none', async () => {
      for (const id of ['x', '-1', '1.2', '01', '1.2.zz', `1${'0'.repeat(30)}`]) {
        const { status, error } = await refusal('/api/log/live', { 'Last-Event-ID': id }, 'admin');
        expect([id, status, error]).to.deep.equal([
          id,
          400,
          'The Last-Event-ID header is not the id of a frame of this feed.',
        ]);
      }
      const { status, error } = await refusal('/api/log/live?lastEventId=x', {}, 'admin');
      expect(status).to.equal(400);
      expect(error).to.include('lastEventId');
    });
  });

  describe("a turn's stream", () => {
    it('shows a finished turn from its first event, in Luna Chat frames', async () => {
      await live.start(ID, 'ada');
      const { steps, turnId, content } = turnScript(seeded(5), '1'.repeat(24));
      await play(ID, steps);
      const feed = await stream(`/api/turns/${turnId}/stream`);
      await until(feed.ended);
      const frames = feed.frames().map((frame) => lunaFrame.parse(frame));
      const text = frames.map((frame) => (frame.type === 'content' ? frame.content : '')).join('');
      expect(text).to.equal(content);
      expect(frames[0]).to.deep.equal({ type: 'status', status: 'thinking' });
      expect(frames[1]).to.deep.include({ type: 'router_metadata' });
      expect(feed.text()).to.match(/data: \[DONE\]\n\n$/);
      const done = frames.at(-1)!;
      expect(done).to.deep.include({ type: 'done', messageId: `msg_${'1'.repeat(24)}`, tokensUsed: 19 });
      if (done.type !== 'done') return;
      expect(done.metrics).to.deep.include({ promptTokens: 12, completionTokens: 7, model: 'assistant' });
      expect(done.metrics.routeInfo).to.deep.equal({
        route: 'pro+tools',
        confidence: 'estimate',
        class: 'chat',
      });
      expect(done.metrics.llmBreakdown!.length).to.be.above(0);
      expect(done.router_metadata).to.deep.equal((frames[1] as { router_metadata: unknown }).router_metadata);
    });

    it('is not found by those who may not see it', async () => {
      await live.start(ID, 'ada');
      const { steps, turnId } = turnScript(seeded(1), '2'.repeat(24));
      await play(ID, steps);
      expect(await refusal(`/api/turns/${turnId}/stream`, {}, 'bob')).to.include({ status: 404 });
      expect(await refusal(`/api/turns/turn_${'0'.repeat(24)}/stream`)).to.include({ status: 404 });
      for (const path of ['/api/turns/never/stream', '/api/v1/chat/never/stream']) {
        expect(await refusal(path), path).to.include({ status: 404 });
      }
      expect((await stream(`/api/turns/${turnId}/stream`, {}, 'auditor')).response.statusCode).to.equal(200);
    });

    it('is not found once its conversation is deleted', async () => {
      await live.start(ID, 'ada');
      const { steps, turnId } = turnScript(seeded(1), '6'.repeat(24));
      await play(ID, steps);
      await live.append(`conversation-${ID}`, 'ada', 'ConversationDeleted', {});
      for (const user of ['ada', 'admin']) {
        const answer = await refusal(`/api/turns/${turnId}/stream`, {}, user);
        expect(answer, user).to.include({ status: 404, error: 'Turn not found.' });
      }
    });

    it('answers the request that began it, with its headers, and tells when it has ended', async () => {
      await live.start(ID, 'ada');
      const { steps, turnId, content } = turnScript(seeded(3), '3'.repeat(24));
      await play(ID, steps.slice(0, 1));
      const after = await live.store.head();
      const turn = { conversationId: ID, turnId, after };
      const ended = live.live.turnFeeds.turnEnded(turn, new AbortController().signal);
      live.handlers.set('/send', (response) =>
        live.live.turnFeeds.streamTurn(response, { ...turn, headers: { 'X-Turn-Id': turnId } }),
      );
      const feed = await stream('/send');
      await play(ID, steps.slice(1));
      expect((await ended).data.content).to.equal(content);
      expect(feed.response.headers['x-turn-id']).to.equal(turnId);
      await until(feed.ended);
      expect(feed.frames().at(-1)).to.include({ type: 'done', status: 'complete' });
      const again = await live.live.turnFeeds.turnEnded(turn, new AbortController().signal);
      expect(again.data.turnId).to.equal(turnId);
    });

    it('gives up waiting for the end of a turn when asked to', async () => {
      await live.start(ID, 'ada');
      const giveUp = new AbortController();
      const waiting = live.live.turnFeeds.turnEnded(
        { conversationId: ID, turnId: 't', after: '0' },
        giveUp.signal,
      );
      giveUp.abort(new Error('given up'));
      expect(await waiting.catch((error) => error.message)).to.equal('given up');
    });

    it('tells who waits for the end of a turn that the server shuts down, also who comes later', async () => {
      await live.start(ID, 'ada');
      const wait = () =>
        live.live.turnFeeds
          .turnEnded({ conversationId: ID, turnId: 't', after: '0' }, new AbortController().signal)
          .catch((error) => error.code);
      const waiting = wait();
      await live.live.close();
      expect([await waiting, await wait()]).to.deep.equal(['SERVICE_UNAVAILABLE', 'SERVICE_UNAVAILABLE']);
    });
  });

  describe("ZERG's stream", () => {
    it('begins with what there is of the running answer, and goes on with named events', async () => {
      await live.start(ID, 'ada');
      const { steps } = turnScript(seeded(9), '4'.repeat(24));
      const called = steps.findIndex((step) => step.kind === 'event' && step.type === 'ModelCalled');
      await play(ID, steps.slice(0, called + 1));
      await play(ID, [{ kind: 'text', offset: 0, text: 'Once upon' }]);
      await live.caughtUp();
      const feed = await stream(`/api/v1/chat/${ID}/stream`);
      await until(() => feed.text().includes('Once upon'));
      await play(ID, [{ kind: 'text', offset: 9, text: ' a time' }]);
      await until(() => feed.text().includes('a time'));
      const events = [...feed.text().matchAll(/event: (.*)\ndata: (.*)\n\n/g)].map(([, type, data]) =>
        zergFeedFrame.parse({ type, ...JSON.parse(data!) }),
      );
      expect(events).to.deep.equal([
        { type: 'connected', session_id: ID },
        { type: 'token', data: 'Once upon' },
        { type: 'token', data: ' a time' },
      ]);
    });

    it('ends when the conversation is deleted, and is not found by strangers', async () => {
      await live.start(ID, 'ada');
      expect(await refusal(`/api/v1/chat/${ID}/stream`, {}, 'bob')).to.include({ status: 404 });
      const feed = await stream(`/api/v1/chat/${ID}/stream`);
      await live.append(`conversation-${ID}`, 'ada', 'ConversationDeleted', {});
      await until(feed.ended);
      expect(feed.text()).to.include('event: error');
    });
  });

  describe('an id that lies beyond the end of the log', () => {
    const AHEAD = '99999999999999999999.7.0123abcd';

    it('is answered by a resync, then the feed from now on; the next id is sound', async () => {
      await live.start(ID, 'ada');
      const paths = ['/api/activity/stream', '/api/log/live', `/api/v1/chat/${ID}/stream`];
      const feeds = await Promise.all(paths.map((path) => stream(path, { 'Last-Event-ID': AHEAD }, 'admin')));
      await until(() => feeds.every(({ ids }) => ids().length === 2));
      const [activity, log, zerg] = feeds as [Stream, Stream, Stream];
      expect(activityFrame.parse(activity.frames()[0]).type).to.equal('resync');
      for (const { text } of [log, zerg])
        expect(text()).to.match(/^retry: 3000\n\nid: 1\S*\nevent: resync\n/);
      expect(logFrame.parse({ type: 'resync', ...log.frames()[0] })).to.have.property('reason');
      expect(zergFeedFrame.parse({ type: 'resync', ...zerg.frames()[0] })).to.have.property('reason');

      const { position } = await remember('ada');
      await until(() => activity.ids().at(-1) === position && log.ids().at(-1) === position);
      const again = await stream('/api/log/live', { 'Last-Event-ID': log.ids()[0]! }, 'admin');
      await until(() => again.ids().at(-1) === position);
      expect(again.text()).not.to.include('resync');
    });

    it("is answered by a resync and a turn's answer from its beginning, running or ended", async () => {
      await live.start(ID, 'ada');
      const { steps, turnId, content } = turnScript(seeded(3), '7'.repeat(24));
      await play(ID, steps.slice(0, 1));
      const url = `/api/turns/${turnId}/stream?lastEventId=${AHEAD}`;
      const running = await stream(url);
      await play(ID, steps.slice(1));
      await until(running.ended);
      const ended = await stream(url);
      await until(ended.ended);
      for (const { ids, frames } of [running, ended]) {
        const [first, ...others] = frames().map((frame) => lunaFrame.parse(frame));
        expect(first).to.have.property('type', 'resync');
        expect(ids()[0]).to.equal('0');
        const text = others.map((frame) => (frame.type === 'content' ? frame.content : '')).join('');
        expect(text).to.equal(content);
      }
    });
  });

  it('ends a stream whose login no longer holds', async () => {
    const feed = await stream('/api/activity/stream');
    const other = await stream('/api/activity/stream', {}, 'bob');
    await until(() => live.live.stats().clients === 2);
    live.logins.delete('ada');
    await until(feed.ended);
    expect(feed.text()).not.to.include('shutdown');
    expect(other.ended()).to.equal(false);
    await until(() => live.live.stats().clients === 1);
  });

  it('goes on with a stream whose access token has expired, as long as its session lives', async () => {
    const feed = await stream('/api/activity/stream');
    const ended = await stream('/api/activity/stream', {}, 'bob');
    await until(() => live.live.stats().clients === 2);
    live.expired.add('ada');
    live.logins.delete('bob');
    await until(ended.ended);
    await remember('ada');
    await until(() => feed.frames().some((frame) => frame.type === 'activity'));
    expect(feed.ended()).to.equal(false);
  });

  it('ends a stream of what its user may see no more', async () => {
    await live.start(ID, 'ada');
    const everything = await stream('/api/activity/stream', {}, 'auditor');
    const conversation = await stream(`/api/v1/chat/${ID}/stream`, {}, 'auditor');
    const own = await stream('/api/activity/stream', {}, 'ada');
    await until(() => live.live.stats().clients === 3);
    live.logins.set('auditor', { ...live.logins.get('auditor')!, permissions: new Set(['chat:read']) });
    await until(() => everything.ended() && conversation.ended());
    expect(own.ended()).to.equal(false);
  });

  it('forgets a client that has gone, however it went', async () => {
    const feed = await stream('/api/activity/stream');
    const raw = connect(live.port, '127.0.0.1');
    raw.on('error', () => {});
    raw.write('GET /api/log/live HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\n\r\n');
    await until(() => live.live.stats().clients === 2);
    feed.close();
    raw.resetAndDestroy();
    await until(() => live.live.stats().clients === 0);
    expect(live.live.stats()).to.deep.include({ topics: 0, replaying: 0 });
  });

  it('tells every stream in its own format that it shuts down, and ends it', async () => {
    await live.start(ID, 'ada');
    const { steps, turnId } = turnScript(seeded(1), '5'.repeat(24));
    await play(ID, steps.slice(0, 2));
    const turn = await stream(`/api/turns/${turnId}/stream`);
    const log = await stream('/api/log/live', {}, 'admin');
    const activity = await stream('/api/activity/stream');
    const zerg = await stream(`/api/v1/chat/${ID}/stream`);
    const all = [turn, log, activity, zerg];
    await until(() => turn.frames().length === 1 && live.live.stats().replaying === 0);
    await live.live.close();
    all.push(await stream('/api/log/live', {}, 'admin'));
    for (const { ended } of all) await until(ended);
    expect(all.map(({ response }) => response.complete)).to.deep.equal(all.map(() => true));
    expect(turn.frames().at(-1)).to.deep.equal({ type: 'status', status: 'server_shutdown' });
    expect(activityFrame.parse(activity.frames().at(-1)).type).to.equal('shutdown');
    for (const { text } of [log, zerg, all.at(-1)!]) {
      expect(text()).to.match(/\n\nevent: shutdown\ndata: \{"timestamp":"[^"]*Z"\}\n\n$/);
    }
  });
});
