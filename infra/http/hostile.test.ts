import { connect, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { expect } from 'chai';
import fc from 'fast-check';
import { as, eventually, type Fixture, failureOf, json, raw, serveFixture } from './fixture.ts';

const MIB = 1024 * 1024;

describe('Hostile requests', () => {
  let app: Fixture;
  before(async () => {
    app = await serveFixture({
      settleMs: 0,
      limits: { anonymousKeysPerMinute: 1_000 },
      server: { headersTimeoutMs: 300, requestTimeoutMs: 600, keepAliveTimeoutMs: 200 },
    });
  });
  after(() => app.close());

  afterEach('the server is alive, and nothing was a bug', async () => {
    expect((await fetch(`${app.url}/api/things/1`)).status).to.equal(200);
    expect(app.logged.filter((line) => line.includes('"level":"error"'))).to.deep.equal([]);
  });

  const post = (
    body: NonNullable<RequestInit['body']>,
    headers: Record<string, string> = {},
    path = '/api/nested',
  ) => fetch(app.url + path, { method: 'POST', headers, body });
  const asJson = { 'Content-Type': 'application/json' };
  /** The status of a request that is written by hand. */
  const statusOf = (answer: string): number => Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1]);
  const request = (line: string, headers: readonly string[] = [], body: string | Buffer = '') =>
    Buffer.concat([
      Buffer.from([line, 'Host: x', 'Connection: close', ...headers, '', ''].join('\r\n'), 'latin1'),
      Buffer.from(body),
    ]);

  describe('bodies', () => {
    it('that are no JSON are refused with the place', async () => {
      for (const body of ['{', '{"a":}', 'nonsense', '[1,]', '{"a":1}}', "{'a':1}", '\u0000', 'NaN']) {
        const answer = await post(body, asJson);
        expect(answer.status, body).to.equal(400);
        const { error, details } = await failureOf(answer);
        expect(error).to.equal('Validation error');
        expect(details[0]?.path).to.deep.equal(['body']);
        expect(details[0]?.message, body).to.match(/JSON/);
      }
    });

    it('that are JSON but no object are refused by the schema', async () => {
      for (const body of ['null', '1', '"text"', 'true', '[]']) {
        expect((await post(body, asJson)).status, body).to.equal(400);
      }
    });

    it('may be empty where an empty object would do, and have a byte order mark or no content type', async () => {
      expect(await (await post('', asJson)).json()).to.deep.equal({});
      expect(await (await fetch(`${app.url}/api/nested`, { method: 'POST' })).json()).to.deep.equal({});
      expect(await (await post('\ufeff{"a":1}', asJson)).json()).to.deep.equal({ a: 1 });
      const untyped = await post(new Uint8Array(Buffer.from('{"a":1}')));
      expect([untyped.status, await untyped.json()]).to.deep.equal([200, { a: 1 }]);
      expect((await post('', asJson, '/api/open')).status).to.equal(400);
    });

    it('of other types, character sets or encodings are refused', async () => {
      for (const headers of [
        { 'Content-Type': 'text/plain' },
        { 'Content-Type': 'application/x-www-form-urlencoded' },
        { 'Content-Type': 'multipart/form-data; boundary=x' },
        { 'Content-Type': 'application/json; charset=utf-16' },
        { 'Content-Type': ';;;' },
        { ...asJson, 'Content-Encoding': 'gzip' },
      ]) {
        expect((await post('{}', headers)).status, JSON.stringify(headers)).to.equal(415);
      }
      const bomb = gzipSync(Buffer.alloc(10 * MIB));
      expect((await post(new Uint8Array(bomb), { ...asJson, 'Content-Encoding': 'gzip' })).status).to.equal(
        415,
      );
      for (const type of ['application/json; charset=UTF-8', 'Application/JSON', 'application/ld+json']) {
        expect((await post('{}', { 'Content-Type': type })).status, type).to.equal(200);
      }
    });

    it('that are forms with one field very often, or very many, hold nobody up', async () => {
      const form = (body: string) =>
        post(body, { 'Content-Type': 'application/x-www-form-urlencoded' }, '/api/form');
      const started = performance.now();
      const often = await form('name=1&'.repeat(2_000));
      expect(await often.json()).to.deep.equal({ name: Array.from({ length: 2_000 }, () => '1') });
      expect((await form('name=1&'.repeat(140_000))).status).to.equal(413);
      expect(performance.now() - started).to.be.lessThan(2_000);
      expect(await (await form('name=1')).json()).to.deep.equal({ name: '1' });
    });

    it('that are too large are refused, announced or not, and the connection goes on', async () => {
      expect((await post(`"${'x'.repeat(MIB - 2)}"`, asJson)).status).to.equal(400); // just fits, and is no object
      const announced = await post('x'.repeat(MIB + 1), asJson);
      expect(announced.status).to.equal(413);
      expect((await failureOf(announced)).error).to.include('1048576');
      const chunk = `10000\r\n${'x'.repeat(0x10000)}\r\n`;
      const chunked = await raw(
        app.port,
        `POST /api/nested HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${chunk.repeat(20)}0\r\n\r\n` +
          'GET /api/things/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
      );
      expect(chunked.match(/HTTP\/1\.1 \d{3}/g)).to.deep.equal(['HTTP/1.1 413', 'HTTP/1.1 200']);
    });

    it('of absurd depth are refused without looking at all of it', async () => {
      const deep = (depth: number) => `{"a":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`;
      expect((await post(deep(64), asJson)).status).to.equal(200);
      expect((await post(deep(65), asJson)).status).to.equal(400);
      for (const body of ['['.repeat(MIB), '{"a":'.repeat(MIB / 5), deep(500_000)]) {
        expect((await post(body, asJson)).status).to.equal(400);
      }
      const text = JSON.stringify({ a: `\\"${'[{'.repeat(1_000)}` });
      expect((await post(text, asJson)).status).to.equal(200); // brackets in strings do not count
    });

    it('of broken UTF-8 are refused', async () => {
      for (const bytes of [[0xff], [0xc3, 0x28], [0xed, 0xa0, 0x80], [0xf0, 0x9f, 0x98], [0xc0, 0x80]]) {
        const body = Buffer.concat([Buffer.from('{"a":"'), Buffer.from(bytes), Buffer.from('"}')]);
        const answer = await post(new Uint8Array(body), asJson);
        expect(answer.status, bytes.join()).to.equal(400);
        expect((await failureOf(answer)).details[0]?.message).to.include('UTF-8');
      }
      const lone = await post('{"message":"\\ud800"}', asJson, '/api/open');
      expect((await failureOf(lone)).details[0]?.message).to.include('surrogate');
    });

    it('with the names of prototypes change nothing', async () => {
      const body = '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"a":1,"a":2}';
      expect(await (await post(body, asJson)).json()).to.include({ a: 2 });
      await post(body, { ...asJson, ...as('ada'), 'Idempotency-Key': 'p' });
      await fetch(`${app.url}/api/things/1?__proto__=1&__proto__[polluted]=1&constructor=1&toString=1`);
      expect(({} as { polluted?: unknown }).polluted).to.equal(undefined);
    });
  });

  describe('paths and headers', () => {
    it('that are not sound are refused', async () => {
      for (const [path, status] of [
        ['/api/things/%', 400],
        ['/api/things/%zz', 400],
        ['/api/things/%ff', 400],
        ['/api/things/%c0%80', 400],
        ['/api/things/%00', 400],
        ['/%', 400],
        ['/api/v1/%e0%a4', 400],
        ['/api/things/1?%=1&a=%ff&&&=', 200],
        [`/api/things/${'x'.repeat(600)}`, 404],
        ['/api/things/..%2f..%2fetc%2fpasswd', 200],
        ['//evil.example/api/things/1', 404],
        ['/api/../api/things/1', 404],
        ['/api;a=1/things/1', 404],
      ] as const) {
        const answer = await raw(app.port, request(`GET ${path} HTTP/1.1`));
        expect(statusOf(answer), path).to.equal(status);
        expect(answer, path).to.include('\r\nContent-Type: application/json');
      }
    });

    it('that are too large are refused with a reason', async () => {
      for (const bytes of [
        request('GET /api/things/1 HTTP/1.1', [`X-Large: ${'x'.repeat(20_000)}`]),
        request(
          'GET /api/things/1 HTTP/1.1',
          Array.from({ length: 3_000 }, (_, i) => `X-${i}: 1`),
        ),
        request(`GET /${'x'.repeat(20_000)} HTTP/1.1`),
        request('GET /api/things/1 HTTP/1.1', [`X-Large: ${'x'.repeat(5 * MIB)}`]),
      ]) {
        const answer = await raw(app.port, bytes);
        expect(statusOf(answer)).to.equal(431);
        expect(answer).to.include('{"error":"Request Header Fields Too Large"}');
      }
    });

    it('that are not HTTP are answered with 400, and the connection is closed', async () => {
      for (const bytes of [
        'nonsense\r\n\r\n',
        '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
        request('GET /api/things/1 HTTP/1.1', ['Content-Length: 1', 'Transfer-Encoding: chunked']),
        request('GET /api/things/1 HTTP/1.1', ['Content-Length: -1']),
        request('POST /api/nested HTTP/1.1', ['Transfer-Encoding: chunked'], 'zz\r\n'),
        request('GET /api/things/1 HTTP/1.1', ['X: a\0b']),
        request('GET /api/things/\u0001 HTTP/1.1'),
        'GET /api/things/1 HTTP/1.1\r\n\r\n', // no Host
      ]) {
        expect(statusOf(await raw(app.port, bytes)), String(bytes)).to.equal(400);
      }
    });

    it('with methods that nobody knows are refused', async () => {
      expect(statusOf(await raw(app.port, request('PROPFIND /api/things/1 HTTP/1.1')))).to.equal(405);
      expect(statusOf(await raw(app.port, request('TRACE /api/unknown HTTP/1.1')))).to.equal(404);
      expect(statusOf(await raw(app.port, request('BREW /api/things/1 HTTP/1.1')))).to.equal(400);
      expect(await raw(app.port, request('CONNECT example.org:443 HTTP/1.1'))).to.not.match(/^HTTP\/1\.1 2/);
    });

    it('that expect what is not there are refused, and 100-continue is told to go on', async () => {
      const continued = await raw(
        app.port,
        request('POST /api/nested HTTP/1.1', ['Expect: 100-continue', 'Content-Length: 2'], '{}'),
      );
      expect(continued.match(/^HTTP\/1\.1 \d{3}/gm)).to.deep.equal(['HTTP/1.1 100', 'HTTP/1.1 200']);
      const odd = await raw(app.port, request('POST /api/nested HTTP/1.1', ['Expect: miracles']));
      expect(statusOf(odd)).to.equal(417);
    });
  });

  describe('connections', () => {
    const open = (): Promise<Socket> =>
      new Promise((resolve, reject) => {
        const socket = connect(app.port, '127.0.0.1', () => resolve(socket)).on('error', reject);
      });

    it('that say nothing, or not all, are closed in time', async () => {
      const started = performance.now();
      const [silent, headers, body] = await Promise.all([
        raw(app.port, ''),
        raw(app.port, 'GET /api/things/1 HTTP/1.1\r\nHost:'),
        raw(app.port, request('POST /api/nested HTTP/1.1', ['Content-Length: 100'], '{')),
      ]);
      expect(statusOf(silent)).to.equal(408);
      expect(statusOf(headers)).to.equal(408);
      expect(statusOf(body)).to.equal(408);
      expect(performance.now() - started).to.be.lessThan(5_000);
    });

    it('that are idle after an answer are closed in time', async () => {
      expect(statusOf(await raw(app.port, 'GET /api/things/1 HTTP/1.1\r\nHost: x\r\n\r\n'))).to.equal(200);
    });

    it('that are half-closed still get their answer', async () => {
      const socket = await open();
      let text = '';
      socket.on('data', (chunk) => {
        text += String(chunk);
      });
      socket.end('GET /api/things/1 HTTP/1.1\r\nHost: x\r\n\r\n');
      await new Promise((resolve) => socket.on('close', resolve));
      expect(statusOf(text)).to.equal(200);
    });

    it('that break off within a request leave nothing behind', async () => {
      const before = app.calls.length;
      const sockets = await Promise.all(Array.from({ length: 50 }, open));
      for (const [i, socket] of sockets.entries()) {
        socket.write(request('POST /api/open HTTP/1.1', ['Content-Length: 1000'], '{"message":"'));
        if (i % 2 === 0) socket.resetAndDestroy();
        else socket.destroy();
      }
      await eventually(
        () => app.logged.filter((l) => l.includes('"status":499') && l.includes('/api/open')).length >= 50,
      );
      expect(app.calls.length).to.equal(before);
    });

    it('that send nonsense within a stream do not spoil it, and are cut', async () => {
      const socket = await open();
      let text = '';
      const closed = new Promise((resolve) => socket.on('close', resolve));
      socket.on('error', () => undefined);
      socket.on('data', (chunk) => {
        if (text === '') socket.write('nonsense\r\n\r\n');
        text += String(chunk);
      });
      socket.write('GET /api/feed/open HTTP/1.1\r\nHost: x\r\n\r\n');
      await closed;
      expect(text.match(/HTTP\/1\.1/g)).to.have.length(1);
    });
  });

  describe('fuzzed', function () {
    this.timeout(30_000);
    const bound = { numRuns: 300, interruptAfterTimeLimit: 8_000 };
    const fine = (status: number): void => {
      expect(status).to.be.within(200, 499);
    };

    it('bodies get 2xx or 4xx', async () => {
      const hostileJson = fc
        .tuple(fc.json({ maxDepth: 4 }), fc.nat(), fc.string({ unit: 'binary' }))
        .map(([text, at, noise]) => text.slice(0, at % text.length) + noise + text.slice(at % text.length));
      const bodies = fc.oneof(
        fc.json(),
        hostileJson,
        fc.jsonValue().map((value) => JSON.stringify({ message: value, items: value })),
        fc.uint8Array({ maxLength: 300 }),
      );
      const paths = fc.constantFrom('/api/nested', '/api/open', '/api/v1/send', '/api/bare/1', '/api/send');
      await fc.assert(
        fc.asyncProperty(bodies, paths, fc.boolean(), async (body, path, key) => {
          const answer = await post(
            body,
            { ...asJson, ...as('ada'), ...(key ? { 'Idempotency-Key': 'fuzz' } : {}) },
            path,
          );
          fine(answer.status);
          await answer.arrayBuffer();
        }),
        bound,
      );
    });

    it('paths and queries get 2xx or 4xx', async () => {
      const noise = fc.string({
        unit: fc.constantFrom(...'%/?&=.;:#a0[]{}~\\"\'é\u0000\u00ff|^'),
        maxLength: 30,
      });
      const prefix = fc.constantFrom('/', '/api/things/', '/api/v1/', '/api/things/1?', '', '*', 'http://');
      await fc.assert(
        fc.asyncProperty(prefix, noise, async (start, end) => {
          const answer = await raw(app.port, request(`GET ${start}${end} HTTP/1.1`));
          fine(statusOf(answer));
        }),
        bound,
      );
    });

    it('headers get 2xx or 4xx', async () => {
      const names = fc.constantFrom(
        ...['Authorization', 'Cookie', 'X-API-Key', 'Origin', 'Sec-Fetch-Site', 'Content-Type', 'Accept'],
        ...['Idempotency-Key', 'X-Correlation-Id', 'Content-Encoding', 'Content-Length', 'Transfer-Encoding'],
        ...['Expect', 'Upgrade', 'Connection', 'Host', 'Range', 'Last-Event-ID', 'If-Match'],
      );
      const value = fc.oneof(
        fc.string({ unit: 'binary-ascii', maxLength: 60 }),
        fc.constantFrom('chunked', 'gzip', '0', '1', 'websocket', 'keep-alive', 'null', 'https://[', 'a, b'),
      );
      const headers = fc.array(
        fc.tuple(names, value).map(([name, text]) => `${name}: ${text}`),
        { maxLength: 8 },
      );
      await fc.assert(
        fc.asyncProperty(headers, fc.constantFrom('/api/open', '/api/v1/send'), async (lines, path) => {
          const answer = await raw(
            app.port,
            request(`POST ${path} HTTP/1.1`, [...lines, 'Content-Length: 15'], '{"message":"x"}'),
          );
          fine(statusOf(answer.replace(/^HTTP\/1\.1 100 Continue\r\n\r\n/, '')));
        }),
        bound,
      );
    });
  });

  it('leave memory bounded', async function () {
    this.timeout(20_000);
    const { gc } = globalThis;
    const body = 'x'.repeat(MIB + 1);
    const round = async () => {
      await Promise.all(
        Array.from({ length: 50 }, async () => {
          await (await post(body, asJson)).arrayBuffer();
        }),
      );
      gc?.();
      return process.memoryUsage().rss;
    };
    await round();
    const before = await round();
    for (let i = 0; i < 3; i++) await round();
    expect((await round()) - before).to.be.lessThan(100 * MIB);
  });

  describe('that make the process hold much', () => {
    const large = JSON.stringify({ text: 'x'.repeat(200 * 1024) });
    let bounded: Fixture;
    let sockets: Socket[];
    before(async () => {
      bounded = await serveFixture({
        settleMs: 0,
        limits: { bodyBytesAtOnce: 300 * 1024, unreadBytes: 300 * 1024, unreadMs: 300 },
      });
    });
    after(() => bounded.close());
    beforeEach(() => {
      sockets = [];
    });
    afterEach(() => {
      for (const socket of sockets) socket.destroy();
    });
    const open = (): Socket => {
      const socket = connect(bounded.port, '127.0.0.1').on('error', () => undefined);
      sockets.push(socket);
      return socket;
    };
    const head = `POST /api/nested HTTP/1.1\r\nHost: x\r\nContent-Length: ${large.length}\r\n\r\n`;
    const send = (body: string) =>
      fetch(`${bounded.url}/api/nested`, { method: 'POST', headers: asJson, body });
    const status = async (body: string) => {
      const answer = await send(body);
      await answer.arrayBuffer();
      return answer.status;
    };

    it('of bodies that come slowly are refused beyond a bound, and small ones are not', async () => {
      expect(await status(large)).to.equal(200);
      open().write(head + large.slice(0, -1));
      await eventually(async () => (await status(large)) === 503);
      const refused = await send(large);
      expect(refused.headers.get('retry-after')).to.equal('5');
      expect((await failureOf(refused)).error).to.include('large bodies');
      expect(await status('{"small":true}')).to.equal(200);
      sockets[0]?.destroy();
      await eventually(async () => (await status(large)) === 200);
    });

    it('of answers that are not read are refused beyond a bound, and the reader is cut off', async () => {
      const lazy = open();
      lazy.pause();
      let isClosed = false;
      lazy.on('close', () => {
        isClosed = true;
      });
      for (let i = 0; i < 200; i++) lazy.write(head + large);
      await eventually(async () => (await status(large)) === 503);
      expect(await status('{"small":true}')).to.equal(200);
      await eventually(() => isClosed);
      expect(await status(large)).to.equal(200);
    });
  });

  it('do not use up the key of an honest client', async () => {
    const key = { 'Idempotency-Key': 'honest' };
    expect((await fetch(`${app.url}/api/open`, json('{broken', key))).status).to.equal(400);
    expect((await fetch(`${app.url}/api/open`, json({ message: 'hi' }, key))).status).to.equal(200);
  });
});
