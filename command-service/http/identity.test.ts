import { createPublicKey, verify } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { expect } from 'chai';
import { parseSetCookie } from 'cookie';
import { SYSTEM_OWNER } from '../../contracts/envelope.ts';
import type { UserDocument } from '../../contracts/read-models/documents.ts';
import { createAuthenticator } from '../../infra/auth/authenticator.ts';
import { createSessionCookies } from '../../infra/auth/cookies.ts';
import { openKeys } from '../../infra/auth/keys.ts';
import { createLoginLimiter } from '../../infra/auth/login-limiter.ts';
import { createPasswords } from '../../infra/auth/passwords.ts';
import type { Tokens } from '../../infra/auth/port.ts';
import { createTokens } from '../../infra/auth/tokens.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import { openSqliteEventStore } from '../../infra/event-store/sqlite.ts';
import { withCatalogue } from '../../infra/event-store/with-catalogue.ts';
import { createHttpServer } from '../../infra/http/node-server.ts';
import { createHttpApp } from '../../infra/http/server.ts';
import { openSqliteReadModels } from '../../infra/read-models/sqlite.ts';
import { createLogger } from '../../infra/telemetry/logger.ts';
import { createMetrics } from '../../infra/telemetry/metrics.ts';
import { apiKeys } from '../../projections/api-keys.ts';
import type { Projection } from '../../projections/projection.ts';
import { startProjections } from '../../projections/runtime/runtime.ts';
import { sessions } from '../../projections/sessions.ts';
import { users } from '../../projections/users.ts';
import { identityQueryEndpoints } from '../../query-service/http/identity.ts';
import { ensureAdministrator } from '../administrator.ts';
import { createCommandBus } from '../bus.ts';
import { createIdempotencyRecords } from './idempotency.ts';
import { identityCommandEndpoints } from './identity.ts';

// biome-ignore lint/suspicious/noExplicitAny: answers are held against what is expected field by field
type Body = any;
interface Answer {
  readonly status: number;
  readonly body: Body;
  readonly headers: Headers;
}
interface Call {
  readonly token?: string;
  readonly key?: string;
  readonly cookie?: string;
  readonly idempotencyKey?: string;
}

/** The identity routes over a real server, log and read models in a temporary folder. */
async function deploy() {
  const directory = await mkdtemp(join(tmpdir(), 'odeon-identity-'));
  let aheadMs = 0;
  const now = () => Date.now() + aheadMs;
  const store = withCatalogue(await openSqliteEventStore({ directory: join(directory, 'log') }));
  const readModels = await openSqliteReadModels({ file: join(directory, 'read-models.db') });
  const fail = (error: unknown): never => {
    throw error;
  };
  const bus = createCommandBus({ store, snapshots: readModels.snapshots, onSnapshotError: fail });
  const keys = await openKeys({
    file: join(directory, 'keys.json'),
    create: true,
    tokenLifetimeMs: 15 * 60_000,
    now,
  });
  const tokens = createTokens({ keys, now });
  const passwords = createPasswords({ pepper: keys.secret('passwords') });
  const runtime = await startProjections({
    store,
    readModels,
    projections: [users, sessions, apiKeys] as readonly unknown[] as readonly Projection[],
    onError: fail,
  });
  const announced: { email: string; password: string }[] = [];
  const ensure = () =>
    ensureAdministrator({
      bus,
      store,
      passwords,
      tokens,
      email: 'Admin@Example.org',
      announce: (made) => announced.push(made),
    });
  const administrator = await ensure();
  const authenticator = createAuthenticator({ tokens, readModels, now });
  const logged: string[] = [];
  const app = createHttpApp({
    endpoints: [
      ...identityCommandEndpoints({
        bus,
        readModels,
        authenticator,
        passwords,
        tokens,
        signingKeys: keys,
        limiter: createLoginLimiter(),
        cookies: createSessionCookies({ tokens, secure: false }),
        now,
      }),
      ...identityQueryEndpoints({ readModels, signingKeys: keys }),
    ],
    authenticator,
    settle: {
      position: runtime.position,
      head: () => store.head(),
      waitFor: runtime.waitFor,
      timeoutMs: 5_000,
    },
    idempotency: createIdempotencyRecords(bus),
    fingerprintSecret: 'a secret',
    logger: createLogger({
      level: 'debug',
      destination: new Writable({
        write(chunk, _encoding, done) {
          logged.push(String(chunk));
          done();
        },
      }),
    }),
    metrics: createMetrics(),
  });
  const server = createHttpServer(app);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  async function call(method: string, path: string, body?: unknown, by: Call = {}): Promise<Answer> {
    const answer = await fetch(url + path, {
      method,
      headers: {
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        ...(by.token === undefined ? {} : { Authorization: `Bearer ${by.token}` }),
        ...(by.key === undefined ? {} : { 'X-API-Key': by.key }),
        ...(by.cookie === undefined ? {} : { Cookie: by.cookie }),
        ...(by.idempotencyKey === undefined ? {} : { 'Idempotency-Key': by.idempotencyKey }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    return { status: answer.status, body: text === '' ? null : JSON.parse(text), headers: answer.headers };
  }

  return {
    call,
    ensure,
    administrator,
    announced,
    store,
    tokens,
    readModels,
    authenticator,
    logged,
    passTime(ms: number) {
      aheadMs += ms;
    },
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
      await runtime.stop();
      await readModels.close();
      await store.close();
      await rm(directory, { recursive: true });
    },
  };
}

const password = 'a long enough password';
const cookiesOf = ({ headers }: Answer) => headers.getSetCookie().map((text) => parseSetCookie(text));
const cookieHeader = (answer: Answer) =>
  cookiesOf(answer)
    .map(({ name, value }) => `${name}=${value}`)
    .join('; ');

async function typesIn(store: EventStore): Promise<string[]> {
  const types: string[] = [];
  for await (const page of store.readAll()) types.push(...page.events.map((event) => event.type));
  return types.filter((type) => !type.startsWith('Request'));
}

describe('identity over HTTP', () => {
  let odeon: Awaited<ReturnType<typeof deploy>>;
  let admin: string;
  before(async () => {
    odeon = await deploy();
    admin = (await odeon.call('POST', '/api/auth/login', odeon.announced[0])).body.accessToken;
  });
  after(() => odeon.close());

  let count = 0;
  /** A user of their own for each test, so that the tests are independent. */
  async function newUser(role = 'user') {
    const email = `user-${++count}@example.org`;
    const given = { email, password, displayName: `User ${count}`, role };
    const created = await odeon.call('POST', '/api/users', given, { token: admin });
    expect(created.status, JSON.stringify(created.body)).to.equal(201);
    const login = (idempotencyKey?: string) =>
      odeon.call('POST', '/api/auth/login', { email, password }, idempotencyKey ? { idempotencyKey } : {});
    return { id: created.body.id as string, email, login };
  }
  const me = (by: Call) => odeon.call('GET', '/api/auth/me', undefined, by);

  describe('the first administrator', () => {
    it('is made once, with a password that is told and that works', async () => {
      expect(odeon.administrator).to.deep.equal({ email: 'admin@example.org', created: true });
      expect(await odeon.ensure()).to.deep.equal({ email: 'admin@example.org', created: false });
      expect(odeon.announced).to.have.length(1);
      expect((await me({ token: admin })).body).to.include({ email: 'admin@example.org', role: 'admin' });
    });
  });

  describe('logging in on Luna', () => {
    it('answers the user, tokens and cookies', async () => {
      const { id, email, login } = await newUser();
      const answer = await login();
      expect(answer.status).to.equal(200);
      expect(answer.body).to.have.keys(['user', 'accessToken', 'refreshToken', 'expiresIn']);
      expect(answer.body.user).to.include({ id, email, role: 'user', avatarUrl: null });
      expect(answer.body.expiresIn).to.equal(900);
      expect(cookiesOf(answer)).to.deep.equal([
        ...['accessToken', 'session'].map((name) => ({
          name,
          value: answer.body.accessToken,
          maxAge: 900,
          path: '/',
          httpOnly: true,
          sameSite: 'lax',
        })),
        {
          name: 'refreshToken',
          value: answer.body.refreshToken,
          maxAge: 30 * 86_400,
          path: '/api/auth',
          httpOnly: true,
          sameSite: 'lax',
        },
      ]);
      expect((await me({ token: answer.body.accessToken })).body).to.deep.equal(answer.body.user);
      expect((await me({ cookie: `session=${answer.body.accessToken}` })).status).to.equal(200);
      expect(
        (await me({ cookie: `zerg_session=bad; accessToken=${answer.body.accessToken}` })).status,
      ).to.equal(200);
    });

    it('takes the e-mail address in any case, and what clients send besides', async () => {
      const { email } = await newUser();
      const body = { email: ` ${email.toUpperCase()}`, password, rememberMe: true };
      expect((await odeon.call('POST', '/api/auth/login', body)).status).to.equal(200);
    });

    it('does not tell an unknown account from a wrong password, and records both', async () => {
      const { id, email } = await newUser();
      const wrong = await odeon.call('POST', '/api/auth/login', { email, password: 'wrong' });
      const unknown = await odeon.call('POST', '/api/auth/login', { email: `no-${email}`, password });
      for (const answer of [wrong, unknown]) {
        expect(answer.status).to.equal(401);
        expect(answer.body).to.deep.equal({ error: 'Invalid credentials' });
      }
      const failures: unknown[] = [];
      for await (const page of odeon.store.readAll({ filter: { types: ['LoginFailed'] } })) {
        failures.push(...page.events.slice(-2).map(({ owner, data }) => ({ owner, data })));
      }
      const address = '127.0.0.1';
      expect(failures.slice(-2)).to.deep.equal([
        { owner: id, data: { userId: id, address, reason: 'wrong password' } },
        { owner: SYSTEM_OWNER, data: { userId: null, address, reason: 'unknown account' } },
      ]);
    });

    it('is limited, even for the right password, until the window ends', async () => {
      const { email, login } = await newUser();
      const guess = () => odeon.call('POST', '/api/auth/login', { email, password: 'wrong' });
      const statuses = (await Promise.all(Array.from({ length: 8 }, guess))).map(({ status }) => status);
      expect(statuses.toSorted()).to.deep.equal([401, 401, 401, 401, 401, 429, 429, 429]);
      const refused = await login();
      expect(refused.status).to.equal(429);
      expect(refused.body.error).to.equal('Too many login attempts, please try again later');
      const retryAfter = Number(refused.headers.get('Retry-After'));
      expect(retryAfter).to.be.within(880, 900);
      expect(refused.headers.get('RateLimit-Policy')).to.equal('5;w=900');
      expect(refused.headers.get('RateLimit-Limit')).to.equal('5');
      expect(refused.headers.get('RateLimit-Remaining')).to.equal('0');
      expect(Number(refused.headers.get('RateLimit-Reset'))).to.equal(retryAfter);
    });

    it('repeated with its Idempotency-Key gives the very same tokens, and one session', async () => {
      const { id, login } = await newUser();
      const first = await login('login-1');
      odeon.passTime(2_000);
      const again = await login('login-1');
      expect(again.headers.get('Idempotent-Replay')).to.equal('true');
      expect(again.body).to.deep.equal(first.body);
      const other = await login('login-2');
      expect(other.body.refreshToken).not.to.equal(first.body.refreshToken);
      const active = await odeon.readModels.count('sessions', { owner: id, active: true });
      expect(active).to.equal(2);
    });
  });

  describe('refreshing', () => {
    const refresh = (refreshToken: string | undefined, by: Call = {}) =>
      odeon.call('POST', '/api/auth/refresh', { refreshToken }, by);

    it('gives new tokens, by cookie before body', async () => {
      const { login } = await newUser();
      const answer = await login();
      const refreshed = await refresh('not a token', { cookie: cookieHeader(answer) });
      expect(refreshed.status).to.equal(200);
      expect(refreshed.body).to.have.keys(['accessToken', 'refreshToken', 'expiresIn']);
      expect((await me({ token: refreshed.body.accessToken })).status).to.equal(200);
      expect((await refresh(refreshed.body.refreshToken)).status).to.equal(200);
    });

    it('with a used token ends the family, for the thief and the robbed', async () => {
      const { login } = await newUser();
      const { body } = await login();
      const refreshed = await refresh(body.refreshToken);
      const reused = await refresh(body.refreshToken);
      expect([reused.status, reused.body]).to.deep.equal([401, { error: 'Invalid or expired token' }]);
      expect((await refresh(refreshed.body.refreshToken)).status).to.equal(401);
      expect((await me({ token: refreshed.body.accessToken })).status).to.equal(401);
      expect((await typesIn(odeon.store)).at(-1)).to.equal('SessionEnded');
    });

    it('with a forged token changes nothing', async () => {
      const { login } = await newUser();
      const { body } = await login();
      const forged = `${body.refreshToken.slice(0, -3)}AAA`;
      expect((await refresh(forged)).status).to.equal(401);
      expect((await me({ token: body.accessToken })).status).to.equal(200);
      expect((await refresh(body.refreshToken)).status).to.equal(200);
    });

    it('repeated with its Idempotency-Key gives the very same tokens, and is no reuse', async () => {
      const { login } = await newUser();
      const { body } = await login();
      const first = await refresh(body.refreshToken, { idempotencyKey: `refresh-${body.user.id}` });
      const again = await refresh(body.refreshToken, { idempotencyKey: `refresh-${body.user.id}` });
      expect(again.body).to.deep.equal(first.body);
      expect((await refresh(first.body.refreshToken)).status).to.equal(200);
    });

    it('is refused without a token, with a JWT, and once the token has expired', async () => {
      const { login } = await newUser();
      const { body } = await login();
      expect((await refresh(undefined)).body).to.deep.equal({ error: 'No authorization provided' });
      expect((await refresh(body.accessToken)).status).to.equal(401);
      odeon.passTime(31 * 86_400_000);
      expect((await refresh(body.refreshToken)).status).to.equal(401);
      odeon.passTime(-31 * 86_400_000);
    });
  });

  describe('tokens', () => {
    it('are refused where they do not belong', async () => {
      const { login } = await newUser();
      const { body } = await login();
      const ws = await odeon.call('POST', '/api/auth/ws-token', undefined, { token: body.accessToken });
      expect(ws.status).to.equal(200);
      for (const token of [ws.body.token, body.refreshToken]) {
        const refused = await me({ token });
        expect([refused.status, refused.body]).to.deep.equal([401, { error: 'Invalid token type' }]);
      }
      expect((await me({ token: 'nonsense' })).body).to.deep.equal({ error: 'Invalid or expired token' });
      expect((await me({})).body).to.deep.equal({ error: 'No authorization provided' });
      const caller = await odeon.authenticator.authenticate({ queryToken: ws.body.token });
      expect(caller).to.include({ userId: body.user.id });
    });

    it('expire, those that were checked before as well', async () => {
      const { login } = await newUser();
      const { body } = await login();
      expect((await me({ token: body.accessToken })).status).to.equal(200);
      odeon.passTime(15 * 60_000);
      expect((await me({ token: body.accessToken })).status).to.equal(401);
      odeon.passTime(-15 * 60_000);
    });

    it('can be checked with the published keys, through a rotation', async () => {
      const { login } = await newUser();
      const before = (await login()).body.accessToken;
      const rotated = await odeon.call('POST', '/api/signing-keys/rotate', undefined, { token: admin });
      expect(rotated.status).to.equal(200);
      const after = (await login()).body.accessToken;
      const { keys } = (await odeon.call('GET', '/.well-known/jwks.json')).body;
      for (const [token, kid] of [
        [before, rotated.body.previousKid],
        [after, rotated.body.kid],
      ] as const) {
        const [header, payload, signature] = token.split('.');
        expect(JSON.parse(Buffer.from(header, 'base64url').toString())).to.include({ alg: 'RS256', kid });
        const key = createPublicKey({ key: keys.find((one: Body) => one.kid === kid), format: 'jwk' });
        const signed = Buffer.from(`${header}.${payload}`);
        expect(verify('sha256', signed, key, Buffer.from(signature, 'base64url'))).to.equal(true);
        expect((await me({ token })).status).to.equal(200);
      }
    });
  });

  describe('logging out', () => {
    it('ends the session at once and clears the cookies', async () => {
      const { login } = await newUser();
      const answer = await login();
      const out = await odeon.call('POST', '/api/auth/logout', undefined, { cookie: cookieHeader(answer) });
      expect([out.status, out.body]).to.deep.equal([200, { success: true }]);
      expect(cookiesOf(out).map(({ name, maxAge }) => [name, maxAge])).to.deep.equal([
        ['accessToken', 0],
        ['session', 0],
        ['refreshToken', 0],
      ]);
      expect((await me({ token: answer.body.accessToken })).status).to.equal(401);
      const { refreshToken } = answer.body;
      expect((await odeon.call('POST', '/api/auth/refresh', { refreshToken })).status).to.equal(401);
    });

    it('may be repeated, and needs no valid access token', async () => {
      const { login } = await newUser();
      const { refreshToken } = (await login()).body;
      for (let round = 0; round < 2; round++) {
        expect((await odeon.call('POST', '/api/auth/logout', { refreshToken })).status).to.equal(200);
      }
      expect((await odeon.call('POST', '/api/auth/refresh', { refreshToken })).status).to.equal(401);
      expect((await odeon.call('POST', '/api/auth/logout')).status).to.equal(200);
    });
  });

  describe('ZERG', () => {
    const login = async (email: string) =>
      odeon.call('POST', '/api/v1/auth/login', { username: email, password });

    it('logs in, validates, refreshes and logs out in its own words', async () => {
      const { id, email } = await newUser();
      const answer = await login(email);
      expect(answer.status).to.equal(200);
      const { data } = answer.body;
      expect(answer.body.ok).to.equal(true);
      expect(data).to.have.keys(['token', 'access_token', 'refresh_token', 'expires_in', 'user']);
      expect(data.user).to.deep.equal({
        id,
        username: email,
        email,
        display_name: `User ${count}`,
        role: 'user',
        permissions: ['chat:read', 'chat:write', 'keys:manage', 'agents:manage'],
      });
      const cookie = `zerg_session=${data.token}`;
      expect(cookieHeader(answer)).to.equal(cookie);
      const validated = await odeon.call('GET', '/api/v1/auth/validate', undefined, { cookie });
      expect(validated.body.data).to.deep.include({ valid: true, user: data.user });
      expect(validated.body.data.expires_at - Date.now() / 1_000).to.be.within(880, 901);

      const byCookie = await odeon.call('POST', '/api/v1/auth/refresh', undefined, { cookie });
      expect(byCookie.status).to.equal(200);
      const byToken = await odeon.call('POST', '/api/v1/auth/refresh', {
        refresh_token: byCookie.body.data.refresh_token,
      });
      expect(byToken.status).to.equal(200);
      const { token } = byToken.body.data;
      expect((await odeon.call('POST', '/api/v1/auth/logout', undefined, { token })).body.ok).to.equal(true);
      const gone = await odeon.call('GET', '/api/v1/auth/validate', undefined, { token });
      expect([gone.status, gone.body]).to.deep.equal([401, { ok: false, error: 'Invalid or expired token' }]);
    });

    it('says what is missing', async () => {
      const answer = await odeon.call('POST', '/api/v1/auth/login', { password });
      expect([answer.status, answer.body]).to.deep.equal([
        400,
        { ok: false, error: 'body.username: is missing' },
      ]);
      const refused = await odeon.call('POST', '/api/v1/auth/refresh', {});
      expect([refused.status, refused.body.error]).to.deep.equal([401, 'No authorization provided']);
    });
  });

  describe('users', () => {
    const patch = (id: string, body: unknown, token = admin) =>
      odeon.call('PATCH', `/api/users/${id}`, body, { token });

    it('are created once for an e-mail address, and listed without secrets', async () => {
      const { id, email } = await newUser('auditor');
      const given = { email: email.toUpperCase(), password, displayName: 'Twin', role: 'user' };
      expect((await odeon.call('POST', '/api/users', given, { token: admin })).status).to.equal(409);
      const listed = await odeon.call('GET', '/api/users?limit=1000', undefined, { token: admin });
      const user = listed.body.users.find((one: Body) => one.id === id);
      expect(user).to.have.keys(['id', 'email', 'displayName', 'role', 'disabled', 'createdAt']);
      expect(user).to.include({ email, role: 'auditor', disabled: false });
      expect(listed.body.users.map((one: Body) => one.createdAt)).to.deep.equal(
        listed.body.users.map((one: Body) => one.createdAt).toSorted(),
      );
    });

    it('are checked field by field, strictly', async () => {
      const bad = { email: 'nonsense', password: 'short', displayName: ' ', role: 'king', extra: 1 };
      const { status, body } = await odeon.call('POST', '/api/users', bad, { token: admin });
      expect(status).to.equal(400);
      expect(body.error).to.equal('Validation error');
      expect(body.details.map((issue: Body) => issue.path.at(-1))).to.have.members([
        'email',
        'password',
        'displayName',
        'role',
        'body',
      ]);
      const { id } = await newUser();
      expect((await patch(id, {})).status).to.equal(400);
      expect((await patch('nobody', { disabled: true })).status).to.equal(404);
    });

    it('lose everything at once when they are disabled, and get only logins back', async () => {
      const { id, login } = await newUser();
      const { accessToken, refreshToken } = (await login()).body;
      const idle = (await login()).body.accessToken;
      const key = await odeon.call(
        'POST',
        '/api/api-keys',
        { name: 'laptop', permissions: ['read'] },
        { token: accessToken },
      );
      expect((await me({ key: key.body.key })).status).to.equal(200);
      expect((await patch(id, { disabled: true })).body).to.include({ id, disabled: true });
      expect((await me({ token: accessToken })).status).to.equal(401);
      expect((await me({ key: key.body.key })).status).to.equal(401);
      expect((await odeon.call('POST', '/api/auth/refresh', { refreshToken })).status).to.equal(401);
      expect((await login()).body).to.deep.equal({ error: 'Invalid credentials' });
      expect((await patch(id, { disabled: false })).body).to.include({ disabled: false });
      for (const token of [accessToken, idle]) expect((await me({ token })).status).to.equal(401);
      expect((await me({ key: key.body.key })).status).to.equal(200);
      expect((await login()).status).to.equal(200);
    });

    it('are logged out everywhere when their password changes', async () => {
      const { id, email, login } = await newUser();
      const [one, two] = [await login(), await login()];
      expect((await patch(id, { password: 'another long password' })).status).to.equal(200);
      for (const { body } of [one, two]) {
        expect((await me({ token: body.accessToken })).status).to.equal(401);
        const { refreshToken } = body;
        expect((await odeon.call('POST', '/api/auth/refresh', { refreshToken })).status).to.equal(401);
      }
      expect(await odeon.readModels.count('sessions', { owner: id, active: true })).to.equal(0);
      expect((await login()).status).to.equal(401);
      const renewed = { email, password: 'another long password' };
      const { body } = await odeon.call('POST', '/api/auth/login', renewed);
      expect((await me({ token: body.accessToken })).status).to.equal(200);
    });

    it('hold the permissions of their role as it is now', async () => {
      const { id, login } = await newUser();
      const token = (await login()).body.accessToken;
      const list = () => odeon.call('GET', '/api/users', undefined, { token });
      expect((await list()).status).to.equal(403);
      await patch(id, { role: 'auditor' });
      expect((await list()).status).to.equal(200);
      expect((await patch(id, { role: 'admin' }, token)).status).to.equal(403);
    });

    it('cannot be shut out by themselves', async () => {
      const { body } = await me({ token: admin });
      expect((await patch(body.id, { disabled: true })).status).to.equal(403);
      expect((await patch(body.id, { role: 'user' })).status).to.equal(403);
    });
  });

  describe('API keys', () => {
    const make = (token: string, body: unknown, idempotencyKey?: string) =>
      odeon.call('POST', '/api/api-keys', body, { token, ...(idempotencyKey ? { idempotencyKey } : {}) });

    it('are shown once, listed by prefix, and work in both headers', async () => {
      const { id, login } = await newUser();
      const token = (await login()).body.accessToken;
      const made = await make(token, { name: 'laptop', permissions: ['read', 'write'] });
      expect(made.status).to.equal(201);
      expect(made.body).to.deep.include({
        userId: id,
        name: 'laptop',
        permissions: ['chat:read', 'chat:write'],
        prefix: made.body.key.slice(0, 14),
        expiresAt: null,
      });
      expect((await me({ key: made.body.key })).status).to.equal(200);
      expect((await me({ token: made.body.key })).status).to.equal(200);
      const listed = await odeon.call('GET', '/api/api-keys', undefined, { token });
      const { key: _key, ...shown } = made.body;
      expect(listed.body.apiKeys).to.deep.equal([shown]);
    });

    it('repeated with an Idempotency-Key are the same key, which is stored nowhere', async () => {
      const { login } = await newUser();
      const token = (await login()).body.accessToken;
      const first = await make(token, { name: 'laptop', permissions: ['*'] }, 'make-1');
      const again = await make(token, { name: 'laptop', permissions: ['*'] }, 'make-1');
      expect(again.body).to.deep.equal(first.body);
      let log = '';
      for await (const page of odeon.store.readAll()) log += JSON.stringify(page.events);
      for (const secret of [first.body.key, token, password]) expect(log.includes(secret)).to.equal(false);
      for (const secret of [first.body.key, token, password]) {
        expect(odeon.logged.join('').includes(secret)).to.equal(false);
      }
    });

    it('hold what was asked for and what their user holds now, and no more', async () => {
      const { id, login } = await newUser('admin');
      const token = (await login()).body.accessToken;
      const { key } = (await make(token, { name: 'all', permissions: ['*'] })).body;
      const small = (await make(token, { name: 'small', permissions: ['chat:read'] })).body.key;
      const list = (by: Call) => odeon.call('GET', '/api/users', undefined, by);
      expect((await list({ key })).status).to.equal(200);
      expect((await list({ key: small })).status).to.equal(403);
      await odeon.call('PATCH', `/api/users/${id}`, { role: 'user' }, { token: admin });
      expect((await list({ key })).status).to.equal(403);
      expect((await me({ key })).status).to.equal(200);
      const ws = await odeon.call('POST', '/api/auth/ws-token', undefined, { key: small });
      const caller = await odeon.authenticator.authenticate({ queryToken: ws.body.token });
      expect([...(caller?.permissions ?? [])]).to.deep.equal(['chat:read']);
    });

    it('are refused to those who ask for more than they hold, and to keys', async () => {
      const { login } = await newUser();
      const token = (await login()).body.accessToken;
      expect((await make(token, { name: 'x', permissions: ['log:read'] })).status).to.equal(403);
      expect((await make(token, { name: 'x', permissions: [] })).status).to.equal(400);
      const past = { name: 'x', permissions: ['read'], expiresAt: '2020-01-01T00:00:00+02:00' };
      expect((await make(token, past)).status).to.equal(400);
      const { key } = (await make(token, { name: 'x', permissions: ['*'] })).body;
      const child = { name: 'child', permissions: ['read'] };
      expect((await odeon.call('POST', '/api/api-keys', child, { key })).status).to.equal(403);
      const auditor = (await (await newUser('auditor')).login()).body.accessToken;
      expect((await make(auditor, { name: 'x', permissions: ['read'] })).status).to.equal(403);
      expect((await odeon.call('GET', '/api/api-keys', undefined, { token: auditor })).status).to.equal(200);
    });

    it('end when they expire or are revoked by their owner or an administrator', async () => {
      const { login } = await newUser();
      const token = (await login()).body.accessToken;
      const expiresAt = new Date(Date.now() + 60_000).toISOString();
      const brief = (await make(token, { name: 'brief', permissions: ['read'], expiresAt })).body;
      expect((await me({ key: brief.key })).status).to.equal(200);
      odeon.passTime(60_000);
      expect((await me({ key: brief.key })).status).to.equal(401);
      odeon.passTime(-60_000);

      const stranger = (await (await newUser()).login()).body.accessToken;
      for (const revoker of [token, admin]) {
        const { id, key } = (await make(token, { name: 'x', permissions: ['read'] })).body;
        const revoke = (by: string) => odeon.call('DELETE', `/api/api-keys/${id}`, undefined, { token: by });
        expect((await revoke(stranger)).status).to.equal(404);
        expect((await me({ key })).status).to.equal(200);
        expect((await revoke(revoker)).status).to.equal(200);
        expect((await me({ key })).status).to.equal(401);
        expect((await revoke(revoker)).status).to.equal(200);
      }
    });
  });

  it('a user document holds no hash', async () => {
    const { id } = await newUser();
    const stored = await odeon.readModels.get<UserDocument>('users', id);
    expect(JSON.stringify(stored)).not.to.include('argon2');
  });

  it('a token of a session that the log does not know is refused', async () => {
    const { id, email } = await newUser();
    const tokens: Tokens = odeon.tokens;
    const credential = { kind: 'session', id: 'f'.repeat(32) } as const;
    const token = tokens.accessToken({ userId: id, email, role: 'admin', credential }, Date.now());
    expect((await me({ token })).status).to.equal(401);
  });
});
