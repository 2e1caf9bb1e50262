import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { ApiKeyDocument, SessionDocument, UserDocument } from '../../contracts/read-models/documents.ts';
import type { ReadModelStore } from '../read-models/port.ts';
import { openSqliteReadModels } from '../read-models/sqlite.ts';
import { createAuthenticator } from './authenticator.ts';
import { openKeys } from './keys.ts';
import type { Authenticator, Credentials, Tokens } from './port.ts';
import { createTokens } from './tokens.ts';

const startedAt = '2026-01-01T00:00:00.000Z';
const ada: UserDocument = {
  id: 'ada',
  email: 'ada@example.org',
  displayName: 'Ada',
  role: 'user',
  disabled: false,
  passwordChangedAt: null,
  createdAt: startedAt,
};
const session: SessionDocument = {
  id: 'first',
  owner: 'ada',
  active: true,
  startedAt,
  refreshedAt: startedAt,
  expiresAt: '2026-02-01T00:00:00.000Z',
};

describe('checking credentials', () => {
  let directory: string;
  let readModels: ReadModelStore;
  let tokens: Tokens;
  let authenticator: Authenticator;
  let nowMs: number;
  const copies = new Map<string, string>();

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'odeon-authenticator-'));
    const now = () => nowMs;
    nowMs = Date.parse(startedAt);
    tokens = createTokens({
      keys: await openKeys({
        file: join(directory, 'keys.json'),
        create: true,
        tokenLifetimeMs: 900_000,
        now,
      }),
      now,
    });
    readModels = await openSqliteReadModels({ file: join(directory, 'read-models.db') });
    for (const projection of ['users', 'sessions', 'api-keys']) {
      copies.set(projection, await readModels.createCopy({ projection, version: 1, indexes: [] }));
    }
  });
  after(async () => {
    await readModels.close();
    await rm(directory, { recursive: true });
  });
  beforeEach(async () => {
    nowMs = Date.parse(startedAt);
    authenticator = createAuthenticator({ tokens, readModels, now: () => nowMs });
    await put('users', ada);
    await put('sessions', session);
    await put('sessions', { ...session, id: 'second' });
    await put('api-keys', key());
  });

  const keyId = '0123456789abcdef';
  const key = (): ApiKeyDocument => ({
    id: keyId,
    owner: 'ada',
    name: 'laptop',
    permissions: ['chat:read', 'log:read'],
    keyHash: tokens.hash(tokens.apiKey(keyId)),
    prefix: 'odeon_01234567',
    expiresAt: null,
    revokedAt: null,
    createdAt: startedAt,
  });

  const put = (projection: string, body: UserDocument | SessionDocument | ApiKeyDocument) =>
    readModels.write([
      {
        copy: copies.get(projection)!,
        puts: [{ id: body.id, position: '1', body }],
        deletes: [],
        checkpoint: { position: '1', seen: 1 },
      },
    ]);
  const access = (id = 'first') =>
    tokens.accessToken(
      { userId: 'ada', email: ada.email, role: 'user', credential: { kind: 'session', id } },
      nowMs,
    );
  /** The caller's session or key; or what the refusal says; null when nothing was presented. */
  const outcome = (credentials: Credentials): Promise<string | null> =>
    authenticator.authenticate(credentials).then(
      (caller) => caller && (caller.sessionId ?? caller.actor.id),
      (error: Error) => error.message,
    );
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
  const invalid = 'Invalid or expired token';

  it('answers null when nothing is presented', async () => {
    expect(await outcome({})).to.equal(null);
    expect(await outcome({ cookie: 'theme=dark; session=' })).to.equal(null);
  });

  it('takes the header before the key, the key before the query, the query before cookies', async () => {
    const apiKey = tokens.apiKey(keyId);
    const cookie = `session=${access()}`;
    expect(await outcome({ ...bearer(access('second')), apiKey, cookie })).to.equal('second');
    expect(await outcome({ apiKey, queryToken: access('second'), cookie })).to.equal(keyId);
    expect(await outcome({ queryToken: access('second'), cookie })).to.equal('second');
    expect(await outcome({ cookie })).to.equal('first');
  });

  it('refuses what is presented and bad, whatever else would be good', async () => {
    const cookie = `session=${access()}`;
    for (const authorization of [
      '',
      'Bearer',
      'Basic YTpi',
      'Bearer a b',
      `Bearer ${access()}x`,
      'Bearer odeon_x',
    ]) {
      expect(await outcome({ authorization, cookie }), authorization).to.equal(invalid);
    }
    expect(await outcome({ apiKey: access(), cookie })).to.equal(invalid);
  });

  it('takes the first cookie that is valid', async () => {
    const cookie = `accessToken=bad; session=${access('ended')}; zerg_session=${access()}`;
    expect(await outcome({ cookie })).to.equal('first');
    expect(await outcome({ cookie: 'accessToken=bad; session=worse' })).to.equal(invalid);
  });

  it('asks on every call whether user and session still stand', async () => {
    const token = bearer(access());
    expect(await outcome(token)).to.equal('first');
    await put('sessions', { ...session, active: false });
    expect(await outcome(token)).to.equal(invalid);
    await put('sessions', session);
    await put('users', { ...ada, disabled: true });
    expect(await outcome(token)).to.equal(invalid);
    await put('users', { ...ada, passwordChangedAt: startedAt });
    expect(await outcome(token)).to.equal(invalid);
    await put('users', { ...ada, passwordChangedAt: '2025-12-31T23:59:59.999Z' });
    expect(await outcome(token)).to.equal('first');
  });

  it('takes role and permissions from the user as they are now, not from the token', async () => {
    const token = bearer(access());
    await put('users', { ...ada, role: 'auditor' });
    const caller = await authenticator.authenticate(token);
    expect(caller?.role).to.equal('auditor');
    expect([...caller!.permissions]).to.have.members(['chat:read', 'log:read', 'all:read']);
    expect(caller!.expiresAtMs).to.equal(nowMs + 900_000);
  });

  it('gives an API key what it and its user hold', async () => {
    const presented = { apiKey: tokens.apiKey(keyId) };
    expect([...(await authenticator.authenticate(presented))!.permissions]).to.deep.equal(['chat:read']);
    await put('users', { ...ada, role: 'admin' });
    const caller = await authenticator.authenticate(presented);
    expect([...caller!.permissions]).to.have.members(['chat:read', 'log:read']);
    expect(caller).to.deep.include({
      actor: { kind: 'apiKey', id: keyId },
      sessionId: null,
      expiresAtMs: null,
    });
  });

  it('refuses an API key that is revoked, expired, unknown, or another one than was recorded', async () => {
    const presented = { apiKey: tokens.apiKey(keyId) };
    for (const bad of [
      { revokedAt: startedAt },
      { expiresAt: startedAt },
      { keyHash: tokens.hash('another') },
      { owner: 'nobody' },
    ]) {
      await put('api-keys', { ...key(), ...bad });
      expect(await outcome(presented), JSON.stringify(bad)).to.equal(invalid);
    }
    expect(await outcome({ apiKey: tokens.apiKey('f'.repeat(16)) })).to.equal(invalid);
  });

  it('lets WebSocket tokens in by the query only, for 30 seconds, with no more than their API key holds', async () => {
    const ws = tokens.webSocketToken(
      { userId: 'ada', email: ada.email, role: 'user', credential: { kind: 'apiKey', id: keyId } },
      nowMs,
    );
    expect(await outcome(bearer(ws))).to.equal('Invalid token type');
    expect(await outcome({ cookie: `session=${ws}` })).to.equal('Invalid token type');
    const caller = await authenticator.authenticate({ queryToken: ws });
    expect([...caller!.permissions]).to.deep.equal(['chat:read']);
    expect(caller!.expiresAtMs).to.equal(nowMs + 30_000);
    nowMs += 30_000;
    expect(await outcome({ queryToken: ws })).to.equal(invalid);
  });

  describe('again, for a connection that stays open', () => {
    /** Of the session or key now; null when it has ended. */
    const again = async (credentials: Credentials) => {
      const caller = (await authenticator.authenticate(credentials))!;
      return async () => {
        const now = await authenticator.recheck(caller);
        return now && [...now.permissions];
      };
    };
    const ofUser = ['chat:read', 'chat:write', 'keys:manage', 'agents:manage'];

    it('lets the session count, not the token that expired', async () => {
      const recheck = await again(bearer(access()));
      nowMs += 86_400_000;
      expect(await recheck()).to.deep.equal(ofUser);
      nowMs = Date.parse(session.expiresAt);
      expect(await recheck()).to.equal(null);
    });

    it('ends with the session, a change of password, and the user', async () => {
      const recheck = await again({ queryToken: access() });
      expect(await recheck()).to.deep.equal(ofUser);
      await put('sessions', { ...session, active: false });
      expect(await recheck()).to.equal(null);
      await put('sessions', session);
      await put('users', { ...ada, disabled: true });
      expect(await recheck()).to.equal(null);
      await put('users', { ...ada, passwordChangedAt: startedAt });
      expect(await recheck()).to.equal(null);
      await put('users', { ...ada, role: 'auditor' });
      expect(await recheck()).to.deep.equal(['chat:read', 'log:read', 'all:read']);
    });

    it('ends with the API key, also when a token spoke for it', async () => {
      const ws = tokens.webSocketToken(
        { userId: 'ada', email: ada.email, role: 'user', credential: { kind: 'apiKey', id: keyId } },
        nowMs,
      );
      const rechecks = [await again({ apiKey: tokens.apiKey(keyId) }), await again({ queryToken: ws })];
      nowMs += 30_000;
      for (const recheck of rechecks) expect(await recheck()).to.deep.equal(['chat:read']);
      await put('api-keys', { ...key(), expiresAt: new Date(nowMs).toISOString() });
      for (const recheck of rechecks) expect(await recheck()).to.equal(null);
      await put('api-keys', { ...key(), revokedAt: startedAt });
      for (const recheck of rechecks) expect(await recheck()).to.equal(null);
    });

    it('is not taken for an end when it cannot be checked', async () => {
      const caller = (await authenticator.authenticate(bearer(access())))!;
      const failing = createAuthenticator({
        tokens,
        readModels: { ...readModels, get: () => Promise.reject(new Error('The disk is gone.')) },
        now: () => nowMs,
      });
      expect(await failing.recheck(caller).catch((error: Error) => error.message)).to.equal(
        'The disk is gone.',
      );
    });
  });
});
