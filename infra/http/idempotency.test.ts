import { expect } from 'chai';
import { as, eventually, type Fixture, failureOf, json, memoryRecords, serveFixture } from './fixture.ts';

describe('A command route with an Idempotency-Key', () => {
  let app: Fixture;
  beforeEach(async () => {
    app = await serveFixture({ settleMs: 0 });
  });
  afterEach(() => app.close());

  const keyed = (path: string, key: string, body: unknown = { message: 'hi' }, headers = as('ada')) =>
    fetch(app.url + path, json(body, { ...headers, 'Idempotency-Key': key }));
  const replayed = (answer: Response): boolean => answer.headers.get('idempotent-replay') === 'true';

  it('is carried out once, and gives the first answer again', async () => {
    const first = await keyed('/api/send', 'k1');
    const second = await keyed('/api/send', 'k1');
    expect([first.status, second.status]).to.deep.equal([201, 201]);
    expect([replayed(first), replayed(second)]).to.deep.equal([false, true]);
    expect(second.headers.get('x-idempotent-replay')).to.equal('true');
    expect(await second.text()).to.equal(await first.text());
    expect(second.headers.get('x-event-position')).to.equal('5');
    expect(app.calls).to.have.length(1);
  });

  it('repeats empty answers', async () => {
    const answers = [await keyed('/api/bare/7', 'k1'), await keyed('/api/bare/7', 'k1')];
    expect(answers.map(({ status }) => status)).to.deep.equal([204, 204]);
    expect(replayed(answers[1]!)).to.equal(true);
    expect(app.calls).to.have.length(1);
  });

  it('takes a body for the same whatever the order of its keys and its white space', async () => {
    await keyed('/api/nested', 'k1', '{"a":1,"b":{"c":2,"d":3}}');
    const again = await keyed('/api/nested', 'k1', ' {"b": {"d":3,"c":2}, "a":1}');
    expect(replayed(again)).to.equal(true);
  });

  it('refuses the key for another body or another path, in the format of the surface', async () => {
    await keyed('/api/send', 'k1');
    const otherBody = await keyed('/api/send', 'k1', { message: 'other' });
    expect(otherBody.status).to.equal(422);
    expect((await failureOf(otherBody)).error).to.include('Idempotency-Key');
    const otherPath = await keyed('/api/v1/send', 'k1', { content: 'hi' });
    expect(otherPath.status).to.equal(422);
    expect((await failureOf(otherPath)).ok).to.equal(false);
    await keyed('/api/bare/1', 'k2');
    expect((await keyed('/api/bare/2', 'k2')).status).to.equal(422);
    expect(app.calls).to.have.length(2);
  });

  it('keeps callers apart', async () => {
    await keyed('/api/send', 'k1');
    const bob = await keyed('/api/send', 'k1', { message: 'from bob' }, as('bob'));
    expect(bob.status).to.equal(201);
    expect(app.calls[0]?.commandId).to.not.equal(app.calls[1]?.commandId);
  });

  it('derives the command id from caller and key; without a key each request has its own', async () => {
    await keyed('/api/secret', 'k1');
    await keyed('/api/secret', 'k1');
    await fetch(`${app.url}/api/secret`, json({}, as('ada')));
    await fetch(`${app.url}/api/secret`, json({}, as('ada')));
    const ids = app.calls.map(({ commandId }) => commandId);
    expect(ids[0])
      .to.equal(ids[1])
      .and.match(/^[0-9a-f-]{14}5/);
    expect(new Set(ids).size).to.equal(3);
    expect(app.calls.map(({ retried }) => retried)).to.deep.equal([false, true, false, false]);
  });

  it('refuses a key that is no visible ASCII, or too long', async () => {
    for (const key of ['a b', 'k'.repeat(256), 'é', '']) {
      const answer = await keyed('/api/send', key);
      expect(answer.status, key).to.equal(400);
      expect((await failureOf(answer)).details[0]?.path).to.deep.equal(['headers', 'Idempotency-Key']);
    }
    expect((await keyed('/api/send', 'k'.repeat(255))).status).to.equal(201);
  });

  it('records decisions, and neither invalid requests, nor missing rights, nor passing trouble', async () => {
    expect((await keyed('/api/send', 'k1', { wrong: 1 })).status).to.equal(400);
    expect((await keyed('/api/send', 'k1', { message: 'x' }, as('reader'))).status).to.equal(403);
    expect((await keyed('/api/send', 'k1')).status).to.equal(201); // the key was still free

    for (const [how, status, final] of [
      ['conflict', 409, true],
      ['missing', 404, true],
      ['limit', 429, false],
      ['store', 503, false],
      ['bug', 500, false],
    ] as const) {
      const first = await keyed(`/api/failing/${how}`, how);
      const again = await keyed(`/api/failing/${how}`, how);
      expect([first.status, again.status], how).to.deep.equal([status, status]);
      expect(replayed(again), how).to.equal(final);
    }
    const tries = app.calls.slice(1).map(({ retried }) => retried);
    expect(tries).to.deep.equal([false, false, false, true, false, true, false, true]);
  });

  it('does not record secrets and streams, but makes them again under the same command id', async () => {
    const secrets = [await keyed('/api/secret', 'k1'), await keyed('/api/secret', 'k1')];
    expect(replayed(secrets[1]!)).to.equal(true);
    expect(await secrets[1]!.text()).to.equal(await secrets[0]!.text());
    const streams = [await keyed('/api/streamed', 'k2'), await keyed('/api/streamed', 'k2')];
    expect(replayed(streams[1]!)).to.equal(true);
    expect(await Promise.all(streams.map((answer) => answer.text()))).to.deep.equal([
      'data: false\n\n',
      'data: true\n\n',
    ]);
    expect([...app.records.answers.values()].map(({ body }) => body)).to.deep.equal([null, null]);
  });

  it('is carried out once when it comes many times at once', async () => {
    const hold = Promise.withResolvers<void>();
    app.hold = hold.promise;
    const answers = Array.from({ length: 20 }, () => keyed('/api/send', 'k1'));
    await eventually(() => app.calls.length === 1);
    const other = await keyed('/api/send', 'k1', { message: 'other' });
    expect(other.status).to.equal(422); // known without waiting
    hold.resolve();
    const all = await Promise.all(answers);
    expect(all.map(({ status }) => status)).to.deep.equal(Array(20).fill(201));
    expect(all.filter(replayed)).to.have.length(19);
    expect(new Set(await Promise.all(all.map((answer) => answer.text()))).size).to.equal(1);
    expect(app.calls).to.have.length(1);
  });

  it('answers 409 when the first one runs for too long', async () => {
    await app.close();
    app = await serveFixture({ settleMs: 0, limits: { repeatWaitMs: 20 } });
    const hold = Promise.withResolvers<void>();
    app.hold = hold.promise;
    const first = keyed('/api/send', 'k1');
    await eventually(() => app.calls.length === 1);
    const second = await keyed('/api/send', 'k1');
    expect(second.status).to.equal(409);
    expect(second.headers.get('retry-after')).to.equal('1');
    hold.resolve();
    expect((await first).status).to.equal(201);
    expect(replayed(await keyed('/api/send', 'k1'))).to.equal(true);
  });

  it('is recorded even when its client did not wait for the answer', async () => {
    const hold = Promise.withResolvers<void>();
    app.hold = hold.promise;
    const controller = new AbortController();
    const gone = fetch(`${app.url}/api/send`, {
      ...json({ message: 'hi' }, { ...as('ada'), 'Idempotency-Key': 'k1' }),
      signal: controller.signal,
    }).catch(() => null);
    await eventually(() => app.calls.length === 1);
    controller.abort();
    await gone;
    hold.resolve();
    const again = await keyed('/api/send', 'k1');
    expect([again.status, replayed(again)]).to.deep.equal([201, true]);
    expect(app.calls).to.have.length(1);
  });

  it('runs again, as a retry, after a crash between accepting and answering', async () => {
    const records = memoryRecords();
    await app.close();
    const crashing = { ...records, answered: () => Promise.reject(new Error('killed')) };
    app = await serveFixture({ settleMs: 0, records, idempotency: crashing });
    expect((await keyed('/api/send', 'k1')).status).to.equal(500);
    const [before] = app.calls;
    await app.close();

    app = await serveFixture({ settleMs: 0, records });
    expect((await keyed('/api/send', 'k1', { message: 'other' })).status).to.equal(422);
    const again = await keyed('/api/send', 'k1');
    expect([again.status, replayed(again)]).to.deep.equal([201, false]);
    expect(app.calls[0]).to.deep.equal({ ...before, retried: true });
    expect(replayed(await keyed('/api/send', 'k1'))).to.equal(true);
  });

  it('belongs to the address and the route where there is no caller', async () => {
    const first = await keyed('/api/open', 'k1', { message: 'hi' }, {} as never);
    const again = await keyed('/api/open', 'k1', { message: 'hi' }, {} as never);
    expect([replayed(first), replayed(again)]).to.deep.equal([false, true]);
  });

  it('cannot be used without end by somebody who is not logged in', async () => {
    await app.close();
    app = await serveFixture({ settleMs: 0, limits: { anonymousKeysPerMinute: 2 } });
    const statuses: number[] = [];
    for (const key of ['k1', 'k2', 'k3']) {
      statuses.push((await keyed('/api/open', key, { message: 'hi' }, {} as never)).status);
    }
    expect(statuses).to.deep.equal([200, 200, 429]);
    expect((await keyed('/api/send', 'k3')).status).to.equal(201);
  });

  it('does nothing on reads', async () => {
    const read = await fetch(`${app.url}/api/things/1`, { headers: { 'Idempotency-Key': 'not valid' } });
    expect(read.status).to.equal(200);
  });
});
