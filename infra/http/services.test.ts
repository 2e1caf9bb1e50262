import { expect } from 'chai';
import { z } from 'zod';
import type { EngineName } from '../../contracts/engines.ts';
import { route } from '../../contracts/http/route.ts';
import { createServiceTokens } from '../auth/service-tokens.ts';
import { as, contracts, type Fixture, json, serveFixture } from './fixture.ts';
import { endpoint } from './port.ts';

describe('Routes that are for services', () => {
  const tokens = createServiceTokens({ secret: Buffer.alloc(32, 1) });
  const contract = route({
    surface: 'odeon',
    method: 'POST',
    path: '/internal/thing',
    summary: 'For services.',
    access: 'service',
    body: z.strictObject({ a: z.number() }),
    answers: { 200: z.unknown() },
  });
  const bare = route({
    surface: 'odeon',
    method: 'GET',
    path: '/internal/bare',
    summary: 'For services, without a body.',
    access: 'service',
    answers: { 200: z.unknown() },
  });
  let asked: unknown[];
  let away: EngineName | null;
  let app: Fixture;
  beforeEach(async () => {
    asked = [];
    away = null;
    app = await serveFixture({
      services: tokens,
      unavailable: () => away,
      endpoints: [
        endpoint(contract, ({ body, context }) => {
          asked.push(body);
          return { status: 200, body: { caller: context.caller } };
        }),
        endpoint(bare, () => ({ status: 200 })),
        endpoint(contracts.send, ({ body }) => {
          asked.push(body);
          return { status: 201 };
        }),
        endpoint(contracts.read, () => ({ status: 200, body: {} })),
      ],
    });
  });
  afterEach(() => app.close());

  const call = (body: string, headers: Record<string, string>, path = contract.path) =>
    fetch(app.url + path, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
      body,
    });
  const signed = (body: string, path: string = contract.path, method = 'POST') => ({
    Authorization: tokens.sign({ method, path, body: Buffer.from(body) }),
  });

  it('take what another process has signed', async () => {
    const answer = await call('{"a":1}', signed('{"a":1}'));
    expect(answer.status).to.equal(200);
    expect(await answer.json()).to.deep.equal({ caller: null });
    expect(asked).to.deep.equal([{ a: 1 }]);
    const headers = signed('', bare.path, 'GET');
    expect((await fetch(app.url + bare.path, { headers })).status).to.equal(200);
  });

  it('say to services what is wrong with a body', async () => {
    expect((await call('{"b":1}', signed('{"b":1}'))).status).to.equal(400);
  });

  it('answer everybody else as a path that does not exist', async () => {
    const other = createServiceTokens({ secret: Buffer.alloc(32, 2) });
    const body = '{"a":1}';
    const there = async (answer: Response) => {
      const headers = Object.fromEntries(answer.headers);
      for (const name of ['date', 'x-correlation-id', 'x-request-id']) delete headers[name];
      return { status: answer.status, headers, body: await answer.text() };
    };
    const missing = await there(await call(body, {}, '/internal/nothing'));
    expect(missing.status).to.equal(404);
    for (const headers of [
      {},
      as('ada'),
      { 'X-API-Key': 'ada' },
      { Cookie: 'session=ada' },
      as('mallory'),
      { Authorization: other.sign({ method: 'POST', path: contract.path, body: Buffer.from(body) }) },
      signed('{"a":2}'),
      signed(body, bare.path),
    ]) {
      expect(await there(await call(body, headers)), JSON.stringify(headers)).to.deep.equal(missing);
    }
    for (const method of ['OPTIONS', 'GET', 'DELETE']) {
      const known = await there(await fetch(app.url + contract.path, { method }));
      const unknown = await there(await fetch(`${app.url}/internal/nothing`, { method }));
      expect(known, method).to.deep.equal(unknown);
    }
    expect(asked).to.deep.equal([]);
    expect(app.logged.filter((line) => line.includes('for services was refused'))).to.have.length(8);
    expect(app.logged.join()).to.match(/its body is not the one that was signed/);
  });

  it('do not read the body of who has no token', async () => {
    const answer = await call('x'.repeat(2_000_000), {}).catch(() => null);
    // The server may cut off what it does not want before the answer is read.
    if (answer !== null) expect(answer.status).to.equal(404);
  });

  it('are there for nobody where the process takes no calls', async () => {
    const closed = await serveFixture({ endpoints: [endpoint(contract, () => ({ status: 200 }))] });
    const answer = await fetch(closed.url + contract.path, {
      method: 'POST',
      headers: signed('{"a":1}'),
      body: '{"a":1}',
    });
    expect(answer.status).to.equal(404);
    await closed.close();
  });

  describe('while an engine is away', () => {
    it('commands are refused before anything is done, with when to come again', async () => {
      away = 'event store';
      const answer = await fetch(`${app.url}/api/send`, json({ message: 'hello' }, as('ada')));
      expect(answer.status).to.equal(503);
      expect(answer.headers.get('retry-after')).to.equal('5');
      expect(await answer.json()).to.deep.equal({ error: 'The event store cannot answer now: try again.' });
      const keyed = { ...as('ada'), 'Idempotency-Key': 'k1' };
      expect((await fetch(`${app.url}/api/send`, json({ message: 'hello' }, keyed))).status).to.equal(503);
      expect((await call('{"a":1}', signed('{"a":1}'))).status).to.equal(503);
      expect(asked).to.deep.equal([]);
      expect((await fetch(`${app.url}/api/things/1`)).status).to.equal(200);

      away = null;
      // The key was not used up.
      expect((await fetch(`${app.url}/api/send`, json({ message: 'hello' }, keyed))).status).to.equal(201);
    });
  });

  describe('and routes of other processes', () => {
    let query: Fixture;
    beforeEach(async () => {
      query = await serveFixture({
        endpoints: [endpoint(contracts.read, () => ({ status: 200, body: {} }))],
        routes: [contracts.send, contracts.mine, contract],
        corsOrigins: ['https://friend.example'],
      });
    });
    afterEach(() => query.close());

    it('are told of when a page asks what it may send', async () => {
      const preflight = await fetch(`${query.url}/api/send`, {
        method: 'OPTIONS',
        headers: { Origin: 'https://friend.example', 'Access-Control-Request-Method': 'POST' },
      });
      expect(preflight.status).to.equal(204);
      expect(preflight.headers.get('access-control-allow-methods')).to.equal('POST, OPTIONS');
      expect(preflight.headers.get('access-control-allow-origin')).to.equal('https://friend.example');
      expect((await fetch(query.url + contract.path, { method: 'OPTIONS' })).status).to.equal(404);
    });

    it('are not served, and said to be elsewhere', async () => {
      const sent = await fetch(`${query.url}/api/send`, json({ message: 'hello' }, as('ada')));
      expect(sent.status).to.equal(404);
      expect(await sent.text()).to.match(/Another process serves this/);
      expect((await fetch(`${query.url}/api/mine`, { method: 'HEAD' })).status).to.equal(404);
      const wrong = await fetch(`${query.url}/api/send`);
      expect(wrong.status).to.equal(405);
      expect(wrong.headers.get('allow')).to.equal('POST, OPTIONS');
    });
  });
});
