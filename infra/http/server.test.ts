import { expect } from 'chai';
import { as, eventually, type Fixture, failureOf, json, raw, serveFixture } from './fixture.ts';

describe('The HTTP app', () => {
  let app: Fixture;
  beforeEach(async () => {
    app = await serveFixture({ corsOrigins: ['https://friend.example'], settleMs: 50 });
  });
  afterEach(() => app.close());

  const get = (path: string, init?: RequestInit) => fetch(app.url + path, init);

  describe('answers', () => {
    it('carry the correlation id of the request, the position, and what keeps browsers safe', async () => {
      app.settle.advance('41');
      const answer = await get('/api/things/1', { headers: { 'X-Correlation-Id': 'abc-1' } });
      expect(answer.status).to.equal(200);
      expect(answer.headers.get('x-correlation-id')).to.equal('abc-1');
      expect(answer.headers.get('x-request-id')).to.equal('abc-1');
      expect(answer.headers.get('x-event-position')).to.equal('41');
      expect(answer.headers.get('x-read-model')).to.equal(null);
      expect(answer.headers.get('x-content-type-options')).to.equal('nosniff');
      expect(answer.headers.get('x-frame-options')).to.equal('DENY');
      expect(answer.headers.get('x-powered-by')).to.equal(null);
      expect(answer.headers.get('cache-control')).to.equal('no-store');
    });

    it('take X-Request-Id for the correlation id, and make one where none is sound', async () => {
      const given = await get('/api/things/1', { headers: { 'X-Request-Id': 'r-1' } });
      expect(given.headers.get('x-correlation-id')).to.equal('r-1');
      const unsound = await get('/api/things/1', { headers: { 'X-Correlation-Id': 'a b"c' } });
      expect(unsound.headers.get('x-correlation-id')).to.match(/^[0-9a-f-]{36}$/);
    });

    it('are found with a trailing slash, a query, or the whole URL as proxies send it', async () => {
      expect((await get('/api/things/1/')).status).to.equal(200);
      const whole = await raw(
        app.port,
        'GET http://example.org/api/things/1?limit=2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
      );
      expect(whole)
        .to.match(/^HTTP\/1\.1 200/)
        .and.include('"limit":2');
    });

    it('have decoded parameters', async () => {
      const body = await (await get('/api/things/a%2Fb%20%C3%A9')).json();
      expect(body).to.deep.equal({ params: { id: 'a/b é' }, query: { limit: 50 } });
    });
  });

  describe('access', () => {
    it('asks who it is, and whether they may', async () => {
      const nobody = await get('/api/mine');
      expect(nobody.status).to.equal(401);
      expect(nobody.headers.get('www-authenticate')).to.equal('Bearer');
      expect(await nobody.json()).to.deep.equal({ error: 'No authorization provided' });
      expect((await get('/api/mine', { headers: as('mallory') })).status).to.equal(401);
      expect(await (await get('/api/mine', { headers: as('ada') })).json()).to.deep.equal({ user: 'ada' });
      expect(await (await get('/api/mine', { headers: { 'X-API-Key': 'bob' } })).json()).to.deep.equal({
        user: 'bob',
      });
      const reader = await get('/api/send', json({ message: 'hi' }, as('reader')));
      expect(reader.status).to.equal(403);
      expect(app.calls).to.deep.equal([]);
    });

    it('is checked before the body is looked at', async () => {
      expect((await get('/api/send', json('{broken'))).status).to.equal(401);
    });

    it('speaks ZERG on ZERG routes', async () => {
      const answer = await get('/api/v1/send', json({ content: 'x' }));
      expect(await answer.json()).to.deep.equal({ ok: false, error: 'No authorization provided' });
    });
  });

  describe('commands with cookies', () => {
    const send = (headers: Record<string, string>) =>
      get('/api/send', json({ message: 'hi' }, { Cookie: 'session=ada', ...headers }));

    it('are served to pages of this origin and to clients that are no browsers', async () => {
      app.settle.advance('5');
      expect((await send({})).status).to.equal(201);
      expect((await send({ Origin: app.url })).status).to.equal(201);
      expect((await send({ Origin: 'https://friend.example' })).status).to.equal(201);
      const sameOrigin = await raw(
        app.port,
        `POST /api/send HTTP/1.1\r\nHost: a\r\nCookie: session=ada\r\nSec-Fetch-Site: same-origin\r\n` +
          'Connection: close\r\nContent-Length: 15\r\n\r\n{"message":"x"}',
      );
      expect(sameOrigin).to.match(/^HTTP\/1\.1 201/);
    });

    it('are refused to pages of other origins, before anything is done', async () => {
      for (const Origin of ['https://evil.example', 'null', 'nonsense']) {
        const answer = await send({ Origin });
        expect(answer.status, Origin).to.equal(403);
      }
      const crossSite = await raw(
        app.port,
        'POST /api/open HTTP/1.1\r\nHost: a\r\nSec-Fetch-Site: cross-site\r\nConnection: close\r\n' +
          'Content-Length: 15\r\n\r\n{"message":"x"}',
      );
      expect(crossSite).to.match(/^HTTP\/1\.1 403/);
      expect(app.calls).to.deep.equal([]);
    });

    it('need no origin when the credential is in a header, which no foreign page can add', async () => {
      app.settle.advance('5');
      expect((await send({ ...as('ada'), Origin: 'https://evil.example' })).status).to.equal(201);
    });
  });

  describe('validation', () => {
    it('names every field that is wrong, in the format of the surface', async () => {
      const luna = await get('/api/open', json({ message: 7, more: 1 }));
      expect(luna.status).to.equal(400);
      const { error, details } = await failureOf(luna);
      expect(error).to.equal('Validation error');
      expect(details.map(({ path }) => path.join('.'))).to.deep.equal(['body.message', 'body']);
      expect(details[1]?.message).to.include('more');

      const zerg = await get('/api/v1/send', json({}, as('ada')));
      expect(zerg.status).to.equal(400);
      const body = await failureOf(zerg);
      expect(body.ok).to.equal(false);
      expect(body.error).to.match(/^body\.content: /);
    });

    it('names parts of lists, and query and path parameters', async () => {
      const nested = await get('/api/nested', json({ items: [{ name: 'a' }, { name: 1 }] }));
      expect((await failureOf(nested)).details[0]?.path).to.deep.equal(['body', 'items', 1, 'name']);
      for (const [path, field] of [
        ['/api/things/1?limit=abc', 'query.limit'],
        ['/api/things/1?limit=1&limit=2', 'query.limit'],
        ['/api/things/1?after=1&after=2', 'query.after'],
        [`/api/things/${'x'.repeat(201)}`, 'params.id'],
        ['/api/things/a%00b', 'params.id'],
      ] as const) {
        const answer = await get(path);
        expect(answer.status, path).to.equal(400);
        expect((await failureOf(answer)).details[0]?.path.join('.'), path).to.equal(field);
      }
    });

    it('answers briefly, however much is wrong', async () => {
      const items = Array.from({ length: 50_000 }, () => ({}));
      const answer = await get('/api/nested', json({ items }));
      const { details } = await failureOf(answer);
      expect(details).to.have.length(20);
      const names = Object.fromEntries(items.map((_, i) => [`key${i}`, 1]));
      expect((await (await get('/api/open', json(names))).text()).length).to.be.lessThan(2_000);
    });
  });

  describe('failures', () => {
    const failing = (how: string) => get(`/api/failing/${how}`, { method: 'POST', headers: as('ada') });

    it('are told with their status', async () => {
      const conflict = await failing('conflict');
      expect(conflict.status).to.equal(409);
      expect(await conflict.json()).to.deep.equal({ error: 'The conversation has ended.' });
      const limit = await failing('limit');
      expect(limit.status).to.equal(429);
      expect(limit.headers.get('retry-after')).to.equal('7');
      expect(await limit.json()).to.deep.equal({ error: 'Rate limit exceeded', retryAfter: 7 });
      const store = await failing('store');
      expect(store.status).to.equal(503);
      expect(store.headers.get('retry-after')).to.equal('5');
      const zerg = await get('/api/v1/failing/missing');
      expect(zerg.status).to.equal(404);
      expect(await zerg.json()).to.deep.equal({ ok: false, error: 'Thing not found' });
    });

    it('that are bugs are logged with their stack, and told by correlation id only', async () => {
      const answer = await failing('bug');
      expect(answer.status).to.equal(500);
      const correlationId = answer.headers.get('x-correlation-id');
      expect(await answer.json()).to.deep.equal({ error: 'Internal error', correlationId });
      const line = app.logged.map((text) => JSON.parse(text)).find(({ level }) => level === 'error');
      expect(line).to.include({ correlationId });
      expect(line.err).to.include({ type: 'TypeError' });
      expect(line.err.stack).to.include('fixture.ts');
      const zerg = await get('/api/v1/failing/bug');
      expect(await zerg.json()).to.include({ ok: false, error: 'Internal error' });
    });
  });

  describe('paths and methods', () => {
    it('that do not exist are not found, in the format of the surface', async () => {
      const luna = await get('/api/nothing');
      expect([luna.status, await luna.json()]).to.deep.equal([404, { error: 'Not found' }]);
      const zerg = await get('/api/v1/nothing', { method: 'POST' });
      expect([zerg.status, await zerg.json()]).to.deep.equal([404, { ok: false, error: 'Not found' }]);
      expect(luna.headers.get('x-event-position')).to.equal('0');
      expect((await get('/', { method: 'OPTIONS' })).status).to.equal(404);
    });

    it('that do not fit each other are refused with those that do', async () => {
      const answer = await get('/api/things/1', { method: 'DELETE' });
      expect(answer.status).to.equal(405);
      expect(answer.headers.get('allow')).to.equal('GET, HEAD, OPTIONS');
      expect((await get('/api/send')).headers.get('allow')).to.equal('POST, OPTIONS');
      expect((await get('/api/v1/send')).status).to.equal(405);
      expect(await (await get('/api/v1/send')).json()).to.include({ ok: false });
    });

    it('answer HEAD like GET without a body, also where GET is a stream', async () => {
      const head = await get('/api/things/1', { method: 'HEAD' });
      expect(head.status).to.equal(200);
      expect(Number(head.headers.get('content-length'))).to.be.greaterThan(10);
      expect((await get('/api/feed/open', { method: 'HEAD' })).status).to.equal(200);
    });

    it('answer OPTIONS, and let only configured origins read', async () => {
      const foreign = await get('/api/send', {
        method: 'OPTIONS',
        headers: { Origin: 'https://evil.example' },
      });
      expect(foreign.status).to.equal(204);
      expect(foreign.headers.get('allow')).to.equal('POST, OPTIONS');
      expect(foreign.headers.get('access-control-allow-origin')).to.equal(null);
      const friend = await get('/api/send', {
        method: 'OPTIONS',
        headers: { Origin: 'https://friend.example' },
      });
      expect(friend.headers.get('access-control-allow-origin')).to.equal('https://friend.example');
      expect(friend.headers.get('access-control-allow-methods')).to.equal('POST, OPTIONS');
      const read = await get('/api/things/1', { headers: { Origin: 'https://friend.example' } });
      expect(read.headers.get('access-control-allow-origin')).to.equal('https://friend.example');
      expect(read.headers.get('access-control-expose-headers')).to.include('X-Event-Position');
      expect(await raw(app.port, 'OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')).to.match(
        /^HTTP\/1\.1 204/,
      );
    });
  });

  describe('reading one’s own writes', () => {
    const send = () => get('/api/send', json({ message: 'hi' }, as('ada')));

    it('answers a command when the projections have reached it', async () => {
      const answering = send();
      await eventually(() => app.calls.length === 1);
      app.settle.advance('5');
      const answer = await answering;
      expect(answer.headers.get('x-event-position')).to.equal('5');
      expect(answer.headers.get('x-read-model')).to.equal(null);
    });

    it('says so when they are behind after the bound', async () => {
      const answer = await send();
      expect(answer.status).to.equal(201);
      expect(answer.headers.get('x-event-position')).to.equal('5');
      expect(answer.headers.get('x-read-model')).to.equal('behind');
    });
  });

  describe('what is not there', () => {
    it('is looked for again once the read models show all of the log', async () => {
      app.settle.append('7');
      const answering = get('/api/written');
      await eventually(() => app.settle.waiters() === 1);
      app.settle.advance('7');
      expect((await answering).status).to.equal(200);
    });

    it('cannot be told while they are behind', async () => {
      app.settle.append('7');
      const answer = await get('/api/written');
      expect(answer.status).to.equal(503);
      expect(answer.headers.get('retry-after')).to.equal('1');
    });

    it('is absent at once when they are not', async () => {
      app.settle.append('6');
      app.settle.advance('6');
      expect((await get('/api/written')).status).to.equal(404);
    });
  });

  describe('the address of a client', () => {
    const headers = { 'X-Forwarded-For': '192.0.2.9, 198.51.100.7' };
    const addressAt = async (url: string) => (await fetch(`${url}/api/address`, { headers })).json();

    it('is that of the connection, whatever it says', async () => {
      expect(await addressAt(app.url)).to.equal('127.0.0.1');
    });

    it('is what a trusted proxy says of it, and no more', async () => {
      const behind = await serveFixture({ trustedProxies: ['127.0.0.0/8'] });
      try {
        expect(await addressAt(behind.url)).to.equal('198.51.100.7');
      } finally {
        await behind.close();
      }
    });
  });

  describe('streams', () => {
    it('begin with the position and correlation id, and are counted while they last', async () => {
      const gauge = async () =>
        /odeon_http_streams\{.*\/api\/feed\/:how"} (\d)/.exec((await app.metrics.render()).text)?.[1];
      const controller = new AbortController();
      const answer = await get('/api/feed/open', { signal: controller.signal });
      expect(answer.headers.get('content-type')).to.equal('text/event-stream');
      expect(answer.headers.get('x-event-position')).to.equal('0');
      expect(answer.headers.get('x-correlation-id')).to.not.equal(null);
      expect(await gauge()).to.equal('1');
      controller.abort();
      await eventually(async () => (await gauge()) === '0');
    });

    it('that fail are refused before they begin, and cut off afterwards', async () => {
      expect((await get('/api/feed/refused')).status).to.equal(404);
      const broken = await get('/api/feed/broken');
      expect(broken.status).to.equal(200);
      let cut = false;
      await broken.text().catch(() => {
        cut = true;
      });
      expect(cut).to.equal(true);
    });
  });

  describe('clients that go away', () => {
    it('abort the signal of their handler, and nothing is wrong', async () => {
      const controller = new AbortController();
      const answer = get('/api/waiting', { signal: controller.signal }).catch(() => null);
      await eventually(() => app.calls.length === 1);
      controller.abort();
      await answer;
      await app.abandoned;
      await eventually(() => app.logged.some((line) => line.includes('"status":499')));
      expect(app.logged.filter((line) => line.includes('"level":"error"'))).to.deep.equal([]);
    });
  });

  describe('the log', () => {
    it('has a line for each request, with the route and the caller and nothing that is theirs', async () => {
      app.settle.advance('5');
      await get('/api/things/private-id?after=private-query', { headers: { Authorization: 'Bearer ada' } });
      await get('/api/send', json({ message: 'private-text' }, { Cookie: 'session=ada; x=private-cookie' }));
      await eventually(() => app.logged.length >= 2);
      const lines = app.logged.map((line) => JSON.parse(line));
      expect(lines[0]).to.include({
        msg: 'request',
        surface: 'luna',
        method: 'GET',
        route: '/api/things/:id',
        status: 200,
        caller: null,
      });
      expect(lines[0].durationMs).to.be.a('number');
      expect(lines[0].correlationId).to.be.a('string');
      expect(lines[1]).to.include({ route: '/api/send', status: 201, caller: 'ada' });
      expect(app.logged.join('')).to.not.include('private');
    });

    it('agrees with the metrics', async () => {
      await get('/api/things/1');
      await get('/api/unknown');
      await eventually(() => app.logged.length >= 2);
      const { text } = await app.metrics.render();
      expect(text).to.include(
        'odeon_http_requests_total{surface="luna",method="GET",route="/api/things/:id",status="200"} 1',
      );
      expect(text).to.include(
        'odeon_http_requests_total{surface="luna",method="GET",route="(none)",status="404"} 1',
      );
    });
  });
});
