/** Hostile requests for any route of the table, and a client that sends bytes as they are. */
import { connect } from 'node:net';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { z } from 'zod';
import type { RouteContract } from '../contracts/http/route.ts';

// ── what a route takes ────────────────────────────────────────────────────
interface Shape {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly items?: Shape;
  readonly const?: unknown;
  readonly anyOf?: readonly Shape[];
}
type Fields = Readonly<Record<string, Shape>>;

const fieldsOf = (schema: z.ZodType | undefined): Fields =>
  schema === undefined
    ? {}
    : ((z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }).properties ?? {}) as Fields);

/** Any object at all may be right there. */
export const takesObjects = ({ type, enum: values, const: value, anyOf }: Shape): boolean =>
  anyOf?.some(takesObjects) ??
  (type === 'object' || (type === undefined && values === undefined && value === undefined));

export const bodyFields = (route: RouteContract): Fields => fieldsOf(route.body);

function sound(name: string, { type, enum: values, items }: Shape): unknown {
  if (values !== undefined) return values[0];
  if (type === 'array') return [sound(name, items ?? {})];
  if (type === 'boolean') return true;
  if (type === 'integer') return 1;
  if (name === 'email') return 'somebody@example.org';
  if (name === 'model') return 'nano';
  if (name === 'expiresAt') return null;
  // In UTC that is another year, which RFC 3339 cannot write.
  if (name === 'asOf') return '9999-12-31T23:59:59-23:59';
  return 'nothing special';
}

/** A body that the route's schema accepts. */
export const soundBody = (route: RouteContract): Record<string, unknown> =>
  (route.example?.body as Record<string, unknown> | undefined) ??
  Object.fromEntries(Object.entries(bodyFields(route)).map(([name, shape]) => [name, sound(name, shape)]));

/** What is under an id in a path. */
export interface Things {
  readonly conversation: string;
  readonly turn: string;
  readonly user: string;
  readonly key: string;
  /** An agent by its name, and what there is of it. */
  readonly agent: string;
  readonly execution: string;
  readonly link: string;
  readonly linkToken: string;
  readonly orchestration: string;
  readonly deliberation: string;
}

export const pathOf = ({ path }: RouteContract, things: Things): string =>
  path
    .replace(':turnId', things.turn)
    .replace(/^\/api\/agents\/:name/, `/api/agents/${things.agent}`)
    .replace('/executions/:id', `/executions/${things.execution}`)
    .replace('/public-links/:id', `/public-links/${things.link}`)
    .replace(':token/:id', `${things.linkToken}/${things.execution}`)
    .replace(':token', things.linkToken)
    .replace('/orchestrate/:id', `/orchestrate/${things.orchestration}`)
    .replace('/deliberations/:id', `/deliberations/${things.deliberation}`)
    .replace('/council/:name', '/council/sceptic')
    .replace(':model', 'pro')
    .replace(':file', 'swagger-ui.css')
    .replace(':conversationId', things.conversation)
    .replace(':stream', `conversation-${things.conversation}`)
    .replace(':name', 'facts')
    .replace(/^\/api\/users\/:id/, `/api/users/${things.user}`)
    .replace(/^\/api\/api-keys\/:id/, `/api/api-keys/${things.key}`)
    .replace(':id', things.conversation);

// ── values ────────────────────────────────────────────────────────────────
const nested = (depth: number): unknown => JSON.parse('['.repeat(depth) + ']'.repeat(depth));

/** Strings that something or other stumbles over. */
const text = fc.oneof(
  fc.constantFrom(
    ...[
      '',
      ' ',
      '\0',
      '\ud800',
      '\udfff\ud800',
      '\u202e',
      'a\r\nSet-Cookie: x=1',
      '__proto__',
      'constructor',
    ],
    ...['../../etc/passwd', '%00', '%', "' OR 1=1 --", '"; DROP TABLE events', '<script>', 'null'],
    ...['NaN', '-1', '1e400', '0x10', '18446744073709551616', '99999999999999999999', '9'.repeat(400)],
    ...['9999-12-31T23:59:59-23:59', '0000-01-01T00:00:00+23:59', '2026-02-30T00:00:00Z'],
    ...['turn_000000000000000000000000', '000000000000', '1.999999999.ffffffff.999999999'],
  ),
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.constantFrom('x', 'é', '𝄞', '\ud800', '\n', 'a@').map((unit) => unit.repeat(40_000)),
);

const value = fc.oneof(
  text,
  fc.constantFrom<unknown>(null, true, 0, -0, -1, 0.5, 2 ** 53, 1e308, {}, [], [[]], nested(60), nested(90)),
  fc.constantFrom<unknown>(Array(1_000).fill(0), { length: 1e9 }, { toString: null }),
  fc.jsonValue({ maxDepth: 3 }),
);

const among = <Value>(weight: number, sample: Value, hostile: fc.Arbitrary<Value>) =>
  fc.oneof({ weight, arbitrary: fc.constant(sample) }, { weight: 1, arbitrary: hostile });

/** Any of the fields is sound, missing or hostile; others may come along. */
const object = (fields: Fields): fc.Arbitrary<Record<string, unknown>> =>
  fc
    .tuple(
      fc.record(
        Object.fromEntries(
          Object.entries(fields).map(([name, shape]) => [name, among(2, sound(name, shape), value)]),
        ),
        { requiredKeys: [] },
      ),
      fc.option(fc.tuple(text, value), { freq: 4 }),
    )
    .map(([known, extra]) => (extra === null ? known : { ...known, [extra[0].slice(0, 100)]: extra[1] }));

/** The text of a body: mostly the object's, else something that is wrong in itself. */
const bodyBytes = (fields: Fields, isForm: boolean): fc.Arbitrary<Buffer> =>
  fc
    .tuple(object(fields), fc.nat({ max: 30 }), fc.nat(), fc.string({ unit: 'binary', maxLength: 5 }))
    .map(([body, how, at, noise]) => {
      const json = isForm ? formOf(body) : JSON.stringify(body);
      const cut = at % (json.length + 1);
      const wrong: readonly (() => string | Buffer)[] = [
        () => json.slice(0, cut),
        () => json.slice(0, cut) + noise + json.slice(cut),
        () => json.replace('{', '{"__proto__":{"role":"admin"},'),
        () => json.replace('{', `${json.slice(0, -1)},`),
        () => `[${json}]`,
        () => `\ufeff${json}`,
        () => `${json}${json}`,
        () => json.replace(/:[^,}]+/, ':1e99999'),
        () => `{"a":${'['.repeat(50_000)}`,
        () => '['.repeat(200_000),
        () => Buffer.from(json, 'utf16le'),
        () => Buffer.concat([Buffer.from(json.slice(0, cut)), Buffer.from([0xff, 0xc0, 0x80])]),
        () => gzipSync(json),
        () => '',
        () => Buffer.alloc(1_100_000, 0x20),
      ];
      return Buffer.from(wrong[how]?.() ?? json);
    });

const formOf = (body: Readonly<Record<string, unknown>>): string =>
  Object.entries(body)
    .map(([name, content]) => `${encodeURIComponent(name.toWellFormed())}=${inQuery(content)}`)
    .join('&');

// ── requests ──────────────────────────────────────────────────────────────
export interface HostileRequest {
  readonly route: RouteContract;
  readonly bytes: Buffer;
  /** False: more is announced than comes. */
  readonly complete: boolean;
}

const headerName = fc.constantFrom(
  ...[
    'Authorization',
    'X-API-Key',
    'Cookie',
    'Idempotency-Key',
    'Last-Event-ID',
    'X-Correlation-Id',
    'Origin',
  ],
  ...['Content-Type', 'Content-Encoding', 'Accept', 'User-Agent', 'Range', 'If-None-Match', 'Sec-Fetch-Site'],
  ...['X-Forwarded-For', 'X-HTTP-Method-Override', 'Upgrade', 'Connection', 'Expect', 'X-Whatever'],
);
const headerValue = fc.oneof(
  fc.constantFrom(
    ...[
      '',
      'Bearer',
      'Bearer a.b.c',
      'Bearer odeon_',
      `Bearer ${'A'.repeat(9_000)}`,
      'Basic YTpi',
      'websocket',
      'h2c',
    ],
    ...[
      'session=x; session=y',
      'accessToken=%; zerg_session=',
      'null',
      '0',
      '99999999999999999999',
      '1.2.3',
      'é',
    ],
    ...[
      'text/plain',
      'application/json; charset=utf-16',
      'gzip',
      'https://evil.example',
      'cross-site',
      'close',
    ],
  ),
  fc.string({ maxLength: 40 }),
  fc.nat({ max: 300 }).map((length) => '\u00ff'.repeat(length)),
);
/** Without line ends, each is one header line. */
const headerLine = fc
  .tuple(headerName, headerValue)
  .map(([name, content]) => `${name}: ${content.replace(/[\r\n\0]/g, ' ')}`);

const percentNoise = fc.constantFrom(
  '%',
  '%zz',
  '%ff',
  '%00',
  '%c0%80',
  '..%2f..%2f',
  '/../',
  ';',
  '?',
  '#',
  '\\',
  '//',
);

function withoutLine(target: string): string {
  return target.replace(/[^\x21-\x7e]/g, (character) => encodeURIComponent(character.toWellFormed()));
}

/** `credentials`: header lines that let somebody in. */
export function hostileRequest(
  routes: readonly RouteContract[],
  things: Things,
  credentials: readonly string[],
): fc.Arbitrary<HostileRequest> {
  return fc.constantFrom(...routes).chain((route) => {
    const fields = bodyFields(route);
    const query = object({ ...fieldsOf(route.query), asOf: {}, lastEventId: {} }).map(formOf);
    const path = fc
      .tuple(
        among(3, pathOf(route, things), fc.constant(route.path)),
        fc.option(percentNoise, { freq: 5 }),
        fc.nat(),
      )
      .map(([sample, noise, at]) => {
        const slash = sample.lastIndexOf('/', at % sample.length) + 1;
        return noise === null ? sample : sample.slice(0, slash) + noise + sample.slice(slash);
      });
    return fc
      .record({
        method: among(
          15,
          route.method as string,
          fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS'),
        ),
        path,
        query: among(
          1,
          '',
          fc.oneof(
            query,
            query.map((one) => `${one}&${one}`),
            text.map(inQuery),
          ),
        ),
        who: among(6, credentials, fc.constant([])),
        headers: fc
          .array(headerLine, { maxLength: 3 })
          .map((lines) => (lines.length > 2 ? lines : lines.slice(1))),
        body: bodyBytes(fields, route.bodyType === 'form'),
        length: among(9, 'right', fc.constantFrom('none', 'longer', 'shorter', 'chunked', 'both', 'garbage')),
      })
      .map(({ method, path, query, who, headers, body, length }) => {
        const sent = route.method === 'GET' ? Buffer.alloc(0) : body;
        const target = withoutLine(query === '' ? path : `${path}?${query}`).slice(0, 14_000);
        const lines = [
          `${method} ${target} HTTP/1.1`,
          'Host: 127.0.0.1',
          ...who,
          ...(route.bodyType === 'form' ? ['Content-Type: application/x-www-form-urlencoded'] : []),
          ...headers,
          ...framing(length, sent),
        ];
        const head = `${lines.join('\r\n')}\r\n\r\n`;
        const bytes = Buffer.concat([
          Buffer.from(head, 'latin1'),
          length === 'chunked' ? chunked(sent) : sent,
        ]);
        return {
          route,
          bytes,
          complete: length !== 'longer',
          [fc.toStringMethod]: () =>
            `${route.method} ${route.path}: ${JSON.stringify(bytes.toString().slice(0, 2_000))}`,
        };
      });
  });
}

/** Some 100 characters keep a request line within what a server reads. */
const inQuery = (content: unknown): string =>
  encodeURIComponent(
    String(JSON.stringify(content) ?? '')
      .slice(0, 100)
      .replace(/^"|"$/g, '')
      .toWellFormed(),
  );

const chunked = (body: Buffer): Buffer =>
  Buffer.concat([Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from('\r\n0\r\n\r\n')]);

function framing(length: string, { length: bytes }: Buffer): readonly string[] {
  switch (length) {
    case 'none':
      return [];
    case 'longer':
      return [`Content-Length: ${bytes + 10}`];
    case 'shorter':
      return [`Content-Length: ${bytes >> 1}`];
    case 'chunked':
      return ['Transfer-Encoding: chunked'];
    case 'both':
      return ['Transfer-Encoding: chunked', `Content-Length: ${bytes}`];
    case 'garbage':
      return ['Content-Length: 1e3'];
    default:
      return bytes === 0 ? [] : [`Content-Length: ${bytes}`];
  }
}

// ── sending ───────────────────────────────────────────────────────────────
const WITHIN_MS = 10_000;

export interface RawAnswer {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  /** Null for a stream, which is left as soon as it has begun. */
  readonly body: string | null;
}

/**
 * Sends the bytes and gives the first final answer. Where they are no complete request the sending side is closed,
 * and null means that the connection was then closed without an answer.
 * @throws Error when a complete request got no answer: its connection was closed, or 10 s were not enough
 */
export function exchange(port: number, bytes: Buffer): Promise<RawAnswer>;
export function exchange(port: number, bytes: Buffer, complete: boolean): Promise<RawAnswer | null>;
export function exchange(port: number, bytes: Buffer, complete = true): Promise<RawAnswer | null> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  let received = Buffer.alloc(0);
  const isHead = bytes.subarray(0, 5).toString() === 'HEAD ';
  return new Promise<RawAnswer | null>((resolve, reject) => {
    const fail = (why: string) =>
      reject(new Error(`${why} after ${JSON.stringify(received.toString('latin1'))}`));
    const timer = setTimeout(() => fail(`Nothing came within ${WITHIN_MS} ms`), WITHIN_MS);
    const look = (closed: boolean) => {
      const answer = parseAnswer(received, closed, isHead);
      if (answer !== null) resolve(answer);
      else if (closed && complete) fail('The connection was closed');
      else if (closed) resolve(null);
    };
    socket.on('data', (data) => {
      received = Buffer.concat([received, data]);
      look(false);
    });
    socket.on('end', () => look(true));
    socket.on('close', () => {
      clearTimeout(timer);
      look(true);
    });
    socket.on('error', () => {}); // `close` follows
    socket.write(bytes);
    if (!complete) socket.end();
  }).finally(() => socket.destroy());
}

/** Null while it is not complete. */
function parseAnswer(received: Buffer, closed: boolean, isHead: boolean): RawAnswer | null {
  const end = received.indexOf('\r\n\r\n');
  if (end < 0) return null;
  const [first = '', ...lines] = received.subarray(0, end).toString('latin1').split('\r\n');
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(`${first} `)?.[1]);
  const rest = received.subarray(end + 4);
  if (status < 200) return parseAnswer(rest, closed, isHead);
  const headers = new Map(
    lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 2)]),
  );
  if (headers.get('content-type')?.startsWith('text/event-stream')) return { status, headers, body: null };
  const announced = Number(headers.get('content-length') ?? Number.POSITIVE_INFINITY);
  const length = isHead || status === 204 ? 0 : announced;
  if (rest.length < length && !closed) return null;
  return { status, headers, body: rest.subarray(0, length).toString() };
}
