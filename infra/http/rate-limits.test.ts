import { expect } from 'chai';
import { z } from 'zod';
import type { Caller } from '../../contracts/caller.ts';
import { route } from '../../contracts/http/route.ts';
import { as, type Fixture, json, serveFixture } from './fixture.ts';
import { endpoint } from './port.ts';
import { createRateLimits } from './rate-limits.ts';

const shared = { surface: 'agent-chat', summary: 'a thing', answers: { 200: z.unknown() } } as const;
const limited = route({
  ...shared,
  method: 'GET',
  path: '/api/limited',
  access: 'authenticated',
  rateLimit: 'default',
});
const chat = route({
  ...shared,
  method: 'POST',
  path: '/api/chatting',
  access: 'chat:write',
  rateLimit: 'chat',
  errors: 'openai',
  body: z.object({ text: z.string() }),
});
const open = route({ ...shared, method: 'GET', path: '/api/open', access: 'public', rateLimit: 'default' });
const free = route({ ...shared, method: 'GET', path: '/api/free', access: 'authenticated' });
const streamed = route({
  ...shared,
  method: 'GET',
  path: '/api/streaming',
  access: 'public',
  rateLimit: 'search',
  answers: { 200: 'stream' },
});

const ok = () => ({ status: 200, body: {} });
const endpoints = [
  endpoint(limited, ok),
  endpoint(chat, ok),
  endpoint(open, ok),
  endpoint(free, ok),
  endpoint(streamed, () => ({
    stream: (response) => void response.writeHead(200, { 'Content-Type': 'text/event-stream' }).end(),
  })),
];

const NAMES = [
  'x-ratelimit-limit',
  'x-ratelimit-remaining',
  'x-ratelimit-reset',
  'ratelimit-policy',
  'ratelimit',
];
const headersOf = ({ headers }: Response) => NAMES.map((name) => headers.get(name));

describe('Limits on requests', () => {
  let app: Fixture;
  const serve = async (perMinute: { default: number; chat: number; search: number }) => {
    app = await serveFixture({
      endpoints,
      rateLimits: createRateLimits(perMinute),
      trustedProxies: ['127.0.0.1'],
    });
  };
  const ask = (path: string, request: RequestInit = {}) => fetch(app.url + path, request);
  afterEach(() => app.close());

  it('are told with every answer, and once they are used up nothing else is', async () => {
    await serve({ default: 3, chat: 3, search: 3 });
    for (const left of [2, 1, 0]) {
      const answer = await ask('/api/limited', { headers: as('ada') });
      expect(answer.status).to.equal(200);
      const [limit, remaining, reset, policy, now] = headersOf(answer);
      expect([limit, remaining, policy]).to.deep.equal(['3', String(left), '"default";q=3;w=60']);
      const seconds = Number(/^"default";r=(\d+);t=(\d+)$/.exec(now ?? '')?.[2]);
      expect(seconds).to.be.within(1, 60);
      // Both say the same instant.
      expect(Number(reset)).to.be.closeTo(Date.now() / 1_000 + seconds, 1.2);
    }
    const refused = await ask('/api/limited', { headers: as('ada') });
    expect(refused.status).to.equal(429);
    const body = (await refused.json()) as { retry_after: number };
    expect(body).to.include({
      error: 'Rate limit exceeded',
      limit: 3,
      window: '1m',
      code: 'RATE_LIMIT_EXCEEDED',
    });
    expect(refused.headers.get('retry-after')).to.equal(String(body.retry_after));
    expect(headersOf(refused).slice(0, 2)).to.deep.equal(['3', '0']);
    expect(refused.headers.get('ratelimit')).to.equal(`"default";r=0;t=${body.retry_after}`);
    // Of others, of another class, and of routes without: nothing is used up.
    expect((await ask('/api/limited', { headers: as('bob') })).status).to.equal(200);
    expect((await ask('/api/chatting', json({ text: '' }, as('ada')))).status).to.equal(200);
    const unlimited = await ask('/api/free', { headers: as('ada') });
    expect([unlimited.status, ...headersOf(unlimited)]).to.deep.equal([200, ...NAMES.map(() => null)]);
  });

  it('count what is refused and what streams, and speak as the route does', async () => {
    await serve({ default: 9, chat: 2, search: 1 });
    const bad = await ask('/api/chatting', json({}, as('ada')));
    expect([bad.status, bad.headers.get('x-ratelimit-remaining')]).to.deep.equal([400, '1']);
    const forbidden = await ask('/api/chatting', json({ text: '' }, as('reader')));
    expect([forbidden.status, forbidden.headers.get('x-ratelimit-remaining')]).to.deep.equal([403, '1']);
    await ask('/api/chatting', json({ text: '' }, as('ada')));
    const refused = await ask('/api/chatting', json({ text: '' }, as('ada')));
    expect(refused.status).to.equal(429);
    expect(await refused.json()).to.deep.include({
      error: {
        message: 'Rate limit exceeded',
        type: 'rate_limit_error',
        param: null,
        code: 'RATE_LIMIT_EXCEEDED',
      },
      limit: 2,
      window: '1m',
    });
    const stream = await ask('/api/streaming');
    expect(headersOf(stream).slice(0, 2)).to.deep.equal(['1', '0']);
    expect((await ask('/api/streaming')).status).to.equal(429);
  });

  it('count those who are not logged in by their address, the wrong credentials among them', async () => {
    await serve({ default: 2, chat: 2, search: 2 });
    const from = (address: string, headers = {}) =>
      ask('/api/limited', { headers: { 'X-Forwarded-For': address, ...headers } });
    expect((await from('192.0.2.1')).status).to.equal(401);
    expect((await from('192.0.2.1', as('nobody-there'))).status).to.equal(401);
    expect((await from('192.0.2.1')).status).to.equal(429);
    expect((await from('192.0.2.2')).status).to.equal(401);
    expect((await from('192.0.2.1', as('ada'))).status, 'who is logged in').to.equal(200);
    // A network of IPv6 is one address.
    await from('2001:db8::1');
    await from('2001:db8::2');
    expect((await from('2001:db8::3')).status).to.equal(429);
  });

  it('let ten times as many come from an address in all', async () => {
    await serve({ default: 1, chat: 0, search: 0 });
    const statuses = [];
    for (let i = 0; i < 12; i++) {
      statuses.push((await ask('/api/limited', { headers: as(i === 0 ? 'ada' : 'bob') })).status);
    }
    expect(statuses).to.deep.equal([200, 200, ...Array.from({ length: 10 }, () => 429)]);
    const all = await ask('/api/limited', { headers: as('reader') });
    expect(all.status).to.equal(429);
    expect(all.headers.get('x-ratelimit-limit')).to.equal('10');
  });

  it('of 0 are none', async () => {
    await serve({ default: 0, chat: 0, search: 0 });
    for (let i = 0; i < 30; i++) {
      const answer = await ask('/api/open');
      expect([answer.status, ...headersOf(answer)]).to.deep.equal([200, ...NAMES.map(() => null)]);
    }
  });
});

describe('Limits on API keys', () => {
  const caller = (kind: 'user' | 'apiKey', id: string): Caller => ({
    ...{ userId: 'ada', email: 'ada@example.org', displayName: 'Ada', role: 'user' },
    ...{ permissions: new Set(), sessionId: null, expiresAtMs: null },
    actor: { kind, id },
  });

  it('are kept for each, and for all keys of a user together', async () => {
    const limits = createRateLimits({ default: 2, chat: 2, search: 2 });
    const exceeded = async (kind: 'user' | 'apiKey', id: string) =>
      (await limits.consume('default', caller(kind, id), '192.0.2.1'))?.exceeded;
    for (const expected of [false, false, true]) {
      expect(await exceeded('apiKey', 'k1')).to.equal(expected);
    }
    expect(await exceeded('apiKey', 'k2'), 'another key').to.equal(false);
    expect(await exceeded('user', 'ada'), 'a login').to.equal(false);
    for (let i = 0; i < 15; i++) await exceeded('apiKey', `more ${i}`);
    expect(await exceeded('user', 'ada'), 'all together').to.equal(true);
  });
});
