/**
 * The whole program under hostile requests, frames and connections: whatever comes is answered with 2xx or 4xx in
 * the format of its surface, or its connection is closed with a reason; the process lives on, within its memory,
 * and what is refused leaves nothing in the log. `HOSTILE_RUNS` asks for more than a quick round, `HOSTILE_SEED`
 * for another one.
 */
import { readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { expect } from 'chai';
import fc from 'fast-check';
import type { EventEnvelope } from '../contracts/envelope.ts';
import { routes } from '../contracts/http/all.ts';
import { isCommand, type RouteContract } from '../contracts/http/route.ts';
import { openWork } from './agent-log-invariants.ts';
import {
  bodyFields,
  exchange,
  hostileRequest,
  pathOf,
  type RawAnswer,
  soundBody,
  type Things,
  takesObjects,
} from './hostile-input.ts';
import { openTurns } from './log-invariants.ts';
import { type Client, condition, login, type Program, startProgram } from './program.ts';

const RUNS = Number(process.env.HOSTILE_RUNS ?? 1_000);
const SEED = Number(process.env.HOSTILE_SEED ?? 20_260_801);
/** With more runs than usual there is more time for them. */
const bounds = { seed: SEED, interruptAfterTimeLimit: Math.max(20_000, RUNS * 20) };

const PASSWORD = 'a password that is long enough';
/**
 * Of it the model that searches by meaning takes some 110, the young generation of the main thread, which V8 lets grow
 * under floods, 128, what is loaded for GraphQL 30, and the program 65 and four threads 60.
 */
const MAX_RSS_MB = 560;

/** Logging in and out changes something whatever comes of it; the keys that sign are slow to make. */
const isAuth = ({ path }: RouteContract) =>
  path.includes('/auth/') || path === '/api/token' || path.endsWith('/rotate');

describe('Hostile clients', function () {
  this.timeout(bounds.interruptAfterTimeLimit + 20_000);
  let program: Program;
  let port: number;
  let admin: Client;
  let ada: Client;
  let eve: Client;
  let things: Things;
  let carl: string;
  let agents = 0;
  let deliberation: string;
  const sockets: Socket[] = [];

  before(async () => {
    program = await startProgram({
      env: { BUILTIN_DELAY_MS: '0', RATE_LIMIT_PER_MINUTE: '0', COUNCIL_PACE_MS: '0' },
    });
    port = Number(new URL(program.url).port);
    admin = await login(program.url);
    const register = async (name: string) => {
      const email = `${name}@example.org`;
      const account = { email, password: PASSWORD, displayName: name, role: 'user' };
      const { body } = await admin.post('/api/users', account);
      return { id: body.id as string, client: await login(program.url, account) };
    };
    ada = (await register('ada')).client;
    eve = (await register('eve')).client;
    carl = (await register('carl')).id;
  });
  after(() => program.stop());

  /** Made anew for each test: one of them may have deleted everything. */
  beforeEach(async () => {
    const conversation = (await ada.post('/api/chat/sessions', {})).body.id;
    const hello = { message: 'hello', stream: false };
    const turn = (await ada.post(`/api/chat/sessions/${conversation}/send`, hello)).body.turnId;
    const key = (await ada.post('/api/api-keys', { name: 'ada', permissions: ['chat:read'] })).body.id;
    const agent = `agent-${++agents}`;
    const own = { name: agent, description: 'For a test.', instructions: 'Do it.' };
    expect((await ada.post('/api/agents', own)).status).to.equal(201);
    const task = { message: 'hello', async_mode: true };
    const execution = (await ada.post(`/api/agents/${agent}/task`, task)).body.execution_id;
    const { id: link, token: linkToken } = (await ada.post(`/api/agents/${agent}/public-links`, {})).body;
    const work = { task: 'Compare them.', agents: [agent] };
    const orchestration = (await ada.post('/api/agents/orchestrate', work)).body.orchestration_id;
    const session = { taskDescription: 'Should we?' };
    // There is one at a time; a test may have left one.
    const { body: begun } = await ada.post('/api/autonomous/start', session);
    deliberation = begun.session?.deliberationId ?? deliberation;
    const ofAgents = { agent, execution, link, linkToken, orchestration, deliberation };
    for (const [name, id] of Object.entries(ofAgents)) expect(id, name).to.be.a('string');
    things = { conversation, turn, user: carl, key, ...ofAgents };
  });

  afterEach('the program is well', async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    const health = await fetch(`${program.url}/health`, { signal: AbortSignal.timeout(5_000) });
    expect(health.status).to.equal(200);
    const errors = program.stderr.split('\n').filter((line) => line.includes('"level":"error"'));
    expect(errors).to.deep.equal([]);
    expect(await rssMegabytes()).to.be.below(MAX_RSS_MB);
  });

  async function readLog(): Promise<EventEnvelope[]> {
    const log: EventEnvelope[] = [];
    for (let next: string | null = '0'; next !== null; ) {
      const { body } = await admin.get(`/api/log/events?from=${next}&limit=1000`);
      log.push(...body.events);
      next = body.next;
    }
    return log;
  }
  const rssMegabytes = async (): Promise<number> => {
    const status = await readFile(`/proc/${program.pid}/status`, 'utf8').catch(() => ''); // Linux only
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) / 1_024;
  };
  const bearer = ({ token }: Client): readonly string[] => [`Authorization: Bearer ${token}`];

  function expectSound({ status, headers, body }: RawAnswer, { surface, path, errors }: RouteContract): void {
    expect(status).to.satisfy(
      (code: number) => (code >= 200 && code < 300) || (code >= 400 && code < 500),
      path,
    );
    if (status < 400 || body === null || body === '') return;
    expect(headers.get('content-type')).to.match(/^application\/json/);
    const answer = JSON.parse(body);
    const { error } = answer;
    if ('detail' in answer) expect(answer.detail, body).not.to.be.oneOf([null, '']);
    else expect(errors === 'openai' ? (error?.message ?? error) : error, body).to.be.a('string');
    // What is no HTTP, or another path than the route's, is answered in the first surface's format.
    if (surface === 'zerg' && 'ok' in answer) expect(answer.ok).to.equal(false);
  }

  describe('requests', () => {
    for (const [index, who] of (['a user', 'an administrator', 'nobody'] as const).entries()) {
      it(`of ${who} get 2xx or 4xx on every route`, async () => {
        const credentials = { 'a user': bearer(ada), 'an administrator': bearer(admin), nobody: [] }[who];
        // Whoever stops the services is to get what was asked for.
        const others = routes.filter(({ path }) => path !== '/api/cli/stop');
        const open = who === 'nobody' ? others : others.filter((route) => !isAuth(route));
        await fc.assert(
          fc.asyncProperty(hostileRequest(open, things, credentials), async ({ route, bytes, complete }) => {
            const answer = await exchange(port, bytes, complete);
            if (answer !== null) expectSound(answer, route);
          }),
          { ...bounds, seed: SEED + index, numRuns: Math.ceil(RUNS / 3) },
        );
      });
    }

    it('that are refused leave nothing in the log', async () => {
      const commands = routes.filter((route) => isCommand(route) && !isAuth(route));
      const head = async () =>
        (await admin.get('/api/log/events?order=desc&limit=1')).body.events[0].position;
      const isOver = async () => {
        const log = await readLog();
        return openTurns(log).length === 0 && openWork(log).length === 0;
      };
      await condition(isOver, { withinMs: 30_000, what: 'the end of what was asked for before' });
      const before = await head();
      const refused = async (route: RouteContract, by: Client | null, body: unknown, statuses: number[]) => {
        const response = await fetch(program.url + pathOf(route, things), {
          method: route.method,
          headers: {
            'Content-Type': 'application/json',
            ...(by === null ? {} : { Authorization: `Bearer ${by.token}` }),
          },
          body: typeof body === 'string' ? body : JSON.stringify(body),
        });
        // What is between services is there for nobody.
        const wanted = route.surface === 'trinity' && statuses.includes(400) ? [...statuses, 422] : statuses;
        const expected = route.access === 'service' ? [404] : wanted;
        expect(response.status, `${route.method} ${route.path} ${await response.text()}`).to.be.oneOf(
          expected,
        );
      };
      for (const route of commands) {
        const isPublic = route.access === 'public';
        if (!isPublic) await refused(route, null, soundBody(route), [401]);
        if (!isPublic && /:(id|turnId)/.test(route.path))
          await refused(route, eve, soundBody(route), [403, 404]);
        if (route.body === undefined) continue;
        await refused(route, admin, `${JSON.stringify(soundBody(route))}}`, [400]);
        await refused(route, admin, [soundBody(route)], [400]);
        for (const [name, shape] of Object.entries(bodyFields(route))) {
          const { type, enum: values } = shape;
          if (!takesObjects(shape))
            await refused(route, admin, { ...soundBody(route), [name]: { a: [1] } }, [400]);
          if (type === 'string')
            await refused(route, admin, { ...soundBody(route), [name]: '\ud800' }, [400]);
          if (values !== undefined)
            await refused(route, admin, { ...soundBody(route), [name]: 'else' }, [400]);
        }
      }
      expect(await head()).to.equal(before);
    });

    it('that offer another protocol are answered in this one', async () => {
      for (const upgrade of ['h2c', 'TLS/1.3', 'foo']) {
        const lines = [
          'GET /health HTTP/1.1',
          'Host: x',
          `Upgrade: ${upgrade}`,
          'Connection: Upgrade',
          '',
          '',
        ];
        expect((await exchange(port, Buffer.from(lines.join('\r\n')))).status, upgrade).to.equal(200);
      }
    });
  });

  // ── WebSocket ───────────────────────────────────────────────────────────
  const handshake = (headers: readonly string[], path = `/api/v1/chat/${things.conversation}/ws`): Buffer =>
    Buffer.from(
      [
        `GET ${path} HTTP/1.1`,
        'Host: x',
        'Connection: Upgrade',
        'Upgrade: websocket',
        ...headers,
        '',
        '',
      ].join('\r\n'),
    );
  const KEY = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==';
  const VERSION = 'Sec-WebSocket-Version: 13';

  /** A connection on which frames are written by hand. */
  interface Line {
    readonly socket: Socket;
    /** All that came so far. */
    received(): Buffer;
    /** The code of the close frame, or 0 where the connection ended without one; null while it is open. */
    closed(): number | null;
  }

  /** @param greeting what comes first when the connection is there */
  async function open(path?: string, greeting = '"type":"history"'): Promise<Line> {
    const socket = connect(port, '127.0.0.1');
    sockets.push(socket);
    let received = Buffer.alloc(0);
    let ended = false;
    socket.on('data', (data) => {
      received = Buffer.concat([received, data]);
    });
    socket.on('close', () => {
      ended = true;
    });
    socket.on('error', () => {}); // `close` follows
    const protocol = path === '/graphql' ? ['Sec-WebSocket-Protocol: graphql-transport-ws'] : [];
    socket.write(handshake([...bearer(ada), ...protocol, KEY, VERSION], path));
    await condition(() => received.includes(greeting), { withinMs: 5_000, what: greeting });
    return {
      socket,
      received: () => received,
      closed() {
        // Close frames are the last, and have a code and a reason; Socket.IO's have neither.
        if (received.at(-2) === 0x88 && received.at(-1) === 0) return 1005;
        for (let at = received.length - 4; at >= Math.max(0, received.length - 128); at--) {
          const isClose = received[at] === 0x88 && received[at + 1] === received.length - at - 2;
          if (isClose) return received.readUInt16BE(at + 2);
        }
        return ended ? 0 : null;
      },
    };
  }

  const closes = (line: Line, codes: readonly number[], what: string) =>
    condition(() => line.closed() !== null, { withinMs: 5_000, what: `the end of ${what}` }).then(() =>
      expect(line.closed(), what).to.be.oneOf([...codes]),
    );

  interface FrameShape {
    readonly opcode?: number;
    readonly fin?: boolean;
    readonly reserved?: number;
    readonly masked?: boolean;
  }
  function frame(
    payload: Buffer | string,
    { opcode = 1, fin = true, reserved = 0, masked = true }: FrameShape = {},
  ) {
    const data = Buffer.from(payload);
    const first = (fin ? 0x80 : 0) | (reserved << 4) | opcode;
    const mask = masked ? 0x80 : 0;
    const length =
      data.length < 126
        ? Buffer.from([first, mask | data.length])
        : Buffer.from([first, mask | 126, data.length >> 8, data.length & 0xff]);
    // A mask of zeros leaves the payload as it is.
    return Buffer.concat([length, Buffer.alloc(masked ? 4 : 0), data]);
  }
  const repeated = (bytes: Buffer, times: number): Buffer => Buffer.concat(Array<Buffer>(times).fill(bytes));

  describe('WebSockets', () => {
    it('are not opened by bad handshakes', async () => {
      const asAda = bearer(ada);
      for (const [headers, status] of [
        [[KEY, VERSION], 401],
        [['Authorization: Bearer nonsense', KEY, VERSION], 401],
        [[...bearer(eve), KEY, VERSION], 404],
        [[...asAda, VERSION], 400],
        [[...asAda, 'Sec-WebSocket-Key: x', VERSION], 400],
        [[...asAda, KEY], 400],
        [[...asAda, KEY, 'Sec-WebSocket-Version: 99'], 400],
        [[...asAda, KEY, VERSION, 'Sec-WebSocket-Protocol: ,,'], 400],
        [[`Cookie: session=${ada.token}`, 'Origin: https://evil.example', KEY, VERSION], 403],
      ] as const) {
        const answer = await exchange(port, handshake(headers));
        expect(answer.status, headers.join()).to.equal(status);
        expect(JSON.parse(answer.body ?? ''), headers.join()).to.include({ ok: false });
      }
      for (const path of [
        '/',
        '/api/v1/chat/%/ws',
        '/api/v1/chat//ws',
        '/api/v1/chat/../../ws',
        '/api/v1/chat/a/ws/b',
      ]) {
        expect((await exchange(port, handshake([...asAda, KEY, VERSION], path))).status, path).to.equal(404);
      }
    });

    it('answer or close, whatever frames come', async () => {
      const frames = fc.array(
        fc.oneof(
          fc
            .record({
              payload: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
              opcode: fc.nat({ max: 15 }),
              fin: fc.boolean(),
              reserved: fc.constantFrom(0, 0, 0, 1, 4),
              masked: fc.constantFrom(true, true, true, false),
            })
            .map(({ payload, ...shape }) => frame(payload, shape)),
          fc
            .record({
              type: fc.constantFrom('message', 'auth', 'history', 'interrupt', 'x'),
              content: fc.anything(),
              token: fc.anything(),
              id: fc.anything(),
            })
            .map((data) => frame((JSON.stringify(data) ?? 'null').slice(0, 60_000))),
          fc
            .constantFrom(
              '{',
              '[]',
              'null',
              '"',
              `${'['.repeat(50_000)}`,
              '{"type":"message","content":"\\ud800"}',
            )
            .map((text) => frame(text)),
        ),
        { minLength: 1, maxLength: 6 },
      );
      await fc.assert(
        fc.asyncProperty(frames, async (sent) => {
          const line = await open();
          line.socket.write(Buffer.concat([...sent, frame('{"type":"ping"}')]));
          await condition(() => line.closed() !== null || line.received().includes('{"type":"pong"'), {
            withinMs: 5_000,
            what: 'a pong or the end',
          });
          line.socket.destroy();
        }),
        { ...bounds, numRuns: Math.ceil(RUNS / 20) },
      );
    });

    const anyJson = fc.anything().map((value) => JSON.parse(JSON.stringify(value) ?? 'null'));
    const some = <Value>(...values: Value[]) =>
      fc.oneof({ weight: 3, arbitrary: fc.constantFrom(...values) });
    const ofSocketIo = fc.oneof(
      fc
        .tuple(
          fc.constantFrom('chat_message', 'voice_command', 'subscribe', 'unsubscribe', 'error_event', 'x'),
          fc.record(
            {
              conversation_id: fc.oneof(some('1', '\ud800'), anyJson),
              message: fc.oneof(some('hello'), anyJson),
              transcription: anyJson,
              type: fc.oneof(some('conversation', 'agent_progress', 'orchestration'), anyJson),
              lastSeq: fc.oneof(some('1@conversation:1', '@'), anyJson),
              id: anyJson,
            },
            { requiredKeys: [] },
          ),
          fc.constantFrom('', '1', '99999999999999999999', '-1'),
        )
        .map(([name, data, ack]) => `42${ack}${JSON.stringify([name, data])}`),
      fc.constantFrom(
        '42',
        '42[]',
        '42{}',
        '42["connect"]',
        '451-["chat_message",{"_placeholder":true,"num":0}]',
      ),
      fc.constantFrom('40/other,', '41', '43[]', '2', '3', '5', '6', '9', '', `42["x",${'['.repeat(40_000)}`),
    );
    const ofGraphql = fc.oneof(
      fc
        .record(
          {
            type: fc.constantFrom('connection_init', 'subscribe', 'complete', 'ping', 'next', 'x'),
            id: fc.oneof(some('1', ''), anyJson),
            payload: fc.oneof(
              anyJson,
              fc.record({
                query: fc.oneof(
                  some(
                    '{ conversations { id } }',
                    'subscription { messageStream(conversationId: "1") { token } }',
                    `{ ${'a '.repeat(3_000)} }`,
                    `{${'a{'.repeat(5_000)}`,
                    'query ($a: Int = $a) { __typename }',
                    'fragment a on Query { ...a } { ...a }',
                  ),
                  fc.string({ unit: 'binary', maxLength: 40 }),
                ),
                variables: anyJson,
              }),
            ),
          },
          { requiredKeys: [] },
        )
        .map((message) => JSON.stringify(message)),
      fc.constantFrom('', '{', 'null', '[]', '['.repeat(40_000)),
    );
    for (const [name, path, greeting, begin, begun, text] of [
      ['Socket.IO', '/socket.io/?EIO=4&transport=websocket', '"pingInterval"', '40', '40{"sid"', ofSocketIo],
      [
        'GraphQL',
        '/graphql',
        '101 Switching Protocols',
        '{"type":"connection_init"}',
        'connection_ack',
        ofGraphql,
      ],
    ] as const) {
      it(`of ${name} answer or close, whatever comes`, async () => {
        await fc.assert(
          fc.asyncProperty(fc.array(text, { minLength: 1, maxLength: 6 }), async (sent) => {
            const line = await open(path, greeting);
            const ping = frame('still there', { opcode: 9 });
            line.socket.write(frame(begin));
            await condition(() => line.received().includes(begun), { withinMs: 5_000, what: begun });
            line.socket.write(Buffer.concat([...sent.map((one) => frame(one)), ping]));
            await condition(() => line.closed() !== null || line.received().includes('still there'), {
              withinMs: 5_000,
              what: 'a pong or the end',
            });
            line.socket.destroy();
          }),
          { ...bounds, numRuns: Math.ceil(RUNS / 20) },
        );
      });
    }

    it('are closed with the reason', async () => {
      const huge = Buffer.alloc(10, 0xff);
      huge.writeUInt16BE(0x81ff, 0);
      huge.writeBigUInt64BE(2n ** 40n, 2);
      const piece = Buffer.alloc(60_000, 0x78);
      for (const [what, codes, bytes] of [
        ['a frame that is announced to be huge', [1009], huge],
        [
          'a message that has no end',
          [1009],
          Buffer.concat([frame(piece, { fin: false }), repeated(frame(piece, { opcode: 0, fin: false }), 6)]),
        ],
        ['broken UTF-8', [1007], frame(Buffer.from([0xc0, 0x80]))],
        ['frames without a mask', [1002], frame('{}', { masked: false })],
        ['an unknown opcode', [1002], frame('', { opcode: 7 })],
        ['compression that was not agreed', [1002], frame('{}', { reserved: 4 })],
        ['a continuation of nothing', [1002], frame('', { opcode: 0 })],
        ['a large control frame', [1002], frame(Buffer.alloc(126), { opcode: 9 })],
        ['a close code that is none', [1002], frame(Buffer.from([0, 1]), { opcode: 8 })],
        ['nothing but nonsense', [1008], repeated(frame('{'), 1_000)],
      ] as const) {
        const line = await open();
        line.socket.write(bytes);
        await closes(line, codes, what);
      }
    });

    it('bear floods, and others are served meanwhile', async () => {
      const message = frame('{"type":"message","content":"hi"}');
      for (const [what, bytes, isRead] of [
        ['pings', repeated(frame('x'.repeat(100), { opcode: 9 }), 10_000), true],
        ['pings, whose pongs are not read', repeated(frame('x'.repeat(100), { opcode: 9 }), 10_000), false],
        ['empty fragments', repeated(frame('', { opcode: 0, fin: false }), 10_000), true],
        ['messages', repeated(message, 5_000), true],
        ['questions whose answers are not read', repeated(frame('{"type":"history"}'), 5_000), false],
      ] as const) {
        const line = await open();
        if (!isRead) line.socket.pause();
        for (let i = 0; i < 20; i++) line.socket.write(bytes);
        for (let i = 0; i < 20; i++) {
          const response = await fetch(`${program.url}/health`, { signal: AbortSignal.timeout(2_000) });
          expect(response.status, what).to.equal(200);
        }
        line.socket.destroy();
      }
    });
  });

  // ── connections ─────────────────────────────────────────────────────────
  describe('connections', () => {
    const dial = (bytes: string): Socket => {
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
      sockets.push(socket);
      socket.on('error', () => {});
      socket.pause();
      socket.write(bytes);
      return socket;
    };
    const clients = async (): Promise<number> => {
      const text = await (await fetch(`${program.url}/metrics`)).text();
      return [...text.matchAll(/^odeon_live_clients\{.*\} (\d+)$/gm)].reduce(
        (sum, [, count]) => sum + Number(count),
        0,
      );
    };
    const stream = (path: string) => `GET ${path} HTTP/1.1\r\nHost: x\r\n${bearer(ada).join()}\r\n\r\n`;

    it('that are half-open, never read or say nothing keep nobody else out', async () => {
      await condition(async () => (await clients()) === 0, {
        withinMs: 10_000,
        what: 'the streams before to end',
      });
      for (let i = 0; i < 100; i++) {
        dial('');
        dial('GET /health HT');
        dial('POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{"email":"');
        dial(stream('/api/activity/stream?lastEventId=0'));
        dial(stream(`/api/v1/chat/${things.conversation}/stream`)).end();
        dial(handshake([...bearer(ada), KEY, VERSION]).toString()).end();
      }
      await condition(async () => (await clients()) >= 100, { withinMs: 30_000, what: 'the streams' });
      expect((await ada.get('/api/chat/sessions')).status).to.equal(200);
      for (const socket of sockets.splice(0)) socket.destroy();
      await condition(async () => (await clients()) === 0, {
        withinMs: 10_000,
        what: 'the streams to be forgotten',
      });
    });
  });
});
