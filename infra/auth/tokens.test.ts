import { createHmac, generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import jwt from 'jsonwebtoken';
import { type Keys, openKeys } from './keys.ts';
import type { TokenSubject, Tokens } from './port.ts';
import { createTokens } from './tokens.ts';

const start = Date.parse('2026-01-01T00:00:00Z');
const subject: TokenSubject = {
  userId: 'ada',
  email: 'ada@example.org',
  role: 'user',
  credential: { kind: 'session', id: 'a-session' },
};
const sessionId = '0123456789abcdef0123456789abcdef';

describe('tokens', () => {
  let directory: string;
  let keys: Keys;
  let tokens: Tokens;
  let nowMs: number;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'odeon-tokens-'));
  });
  beforeEach(async () => {
    nowMs = start;
    keys = await openKeys({
      file: join(directory, 'keys.json'),
      create: true,
      tokenLifetimeMs: 15 * 60_000,
      now: () => nowMs,
    });
    tokens = createTokens({ keys, now: () => nowMs });
  });
  after(() => rm(directory, { recursive: true }));

  const payload = {
    sub: 'ada',
    email: 'ada@example.org',
    role: 'admin',
    type: 'access',
    sid: 'a-session',
    iss: 'odeon',
    exp: start / 1_000 + 900,
  };
  const base64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');

  it('carry whose they are, and are the same for the same session and time', () => {
    const token = tokens.accessToken(subject, start);
    expect(tokens.accessToken(subject, start)).to.equal(token);
    expect(tokens.verify(token)).to.deep.equal({
      ...subject,
      type: 'access',
      expiresAtMs: start + 900_000,
    });
    expect(jwt.decode(token)).to.include({ sub: 'ada', userId: 'ada', type: 'access', iss: 'odeon' });
    const ws = tokens.webSocketToken({ ...subject, credential: { kind: 'apiKey', id: 'key' } }, start);
    expect(tokens.verify(ws)).to.deep.include({ type: 'ws', credential: { kind: 'apiKey', id: 'key' } });
  });

  it('expire', () => {
    const access = tokens.accessToken(subject, start);
    const ws = tokens.webSocketToken(subject, start);
    nowMs = start + 29_999;
    expect(tokens.verify(ws)).not.to.equal(null);
    nowMs = start + 30_000;
    expect(tokens.verify(ws)).to.equal(null);
    nowMs = start + 899_999;
    expect(tokens.verify(access)).not.to.equal(null);
    nowMs = start + 900_000;
    expect(tokens.verify(access)).to.equal(null);
  });

  it('outlive a rotation until they expire', async () => {
    const token = tokens.accessToken(subject, start);
    await keys.rotate(`rotation ${Math.random()}`);
    expect(tokens.accessToken(subject, start)).not.to.equal(token);
    expect(tokens.verify(token)).not.to.equal(null);
  });

  it('are refused when they are forged', () => {
    const { kid, signWith } = keys.current();
    const publicKey = keys.verifyWith(kid)!.export({ type: 'spki', format: 'pem' }).toString();
    const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    const sound = tokens.accessToken(subject, start);
    const [header, , signature] = sound.split('.');
    // jsonwebtoken refuses to sign so; an attacker does not ask it.
    const unsigned = `${base64({ alg: 'HS256', typ: 'JWT', kid })}.${base64(payload)}`;
    const hmacWithPublicKey = `${unsigned}.${createHmac('sha256', publicKey).update(unsigned).digest('base64url')}`;
    const { exp: _exp, ...endless } = payload;
    const { sid: _sid, ...homeless } = payload;
    const forged: Record<string, string> = {
      'no algorithm': `${base64({ alg: 'none', typ: 'JWT', kid })}.${base64(payload)}.`,
      'no algorithm, a signature': `${base64({ alg: 'none', typ: 'JWT', kid })}.${base64(payload)}.${signature}`,
      'HS256 with the public key': hmacWithPublicKey,
      'another key': jwt.sign(payload, stranger, { algorithm: 'RS256', keyid: kid }),
      'another hash': jwt.sign(payload, signWith, { algorithm: 'RS512', keyid: kid }),
      'unknown kid': jwt.sign(payload, signWith, { algorithm: 'RS256', keyid: 'unknown' }),
      'no kid': jwt.sign(payload, signWith, { algorithm: 'RS256' }),
      'another issuer': jwt.sign({ ...payload, iss: 'other' }, signWith, { algorithm: 'RS256', keyid: kid }),
      'another role': `${header}.${base64(payload)}.${signature}`,
      'no expiry': jwt.sign(endless, signWith, { algorithm: 'RS256', keyid: kid }),
      'no session': jwt.sign(homeless, signWith, { algorithm: 'RS256', keyid: kid }),
      'another type': jwt.sign({ ...payload, type: 'refresh' }, signWith, { algorithm: 'RS256', keyid: kid }),
      'bad JSON': `${Buffer.from('{').toString('base64url')}.${base64(payload)}.${signature}`,
      'no JWT': 'abc',
      nothing: '',
    };
    for (const [what, token] of Object.entries(forged)) expect(tokens.verify(token), what).to.equal(null);
    expect(tokens.verify(jwt.sign(payload, signWith, { algorithm: 'RS256', keyid: kid }))).not.to.equal(null);
  });

  it('to refresh with are made from the command, and tell only their session', () => {
    const token = tokens.refreshToken(sessionId, 'command 1');
    expect(tokens.refreshToken(sessionId, 'command 1')).to.equal(token);
    expect(tokens.refreshToken(sessionId, 'command 2')).not.to.equal(token);
    expect(tokens.sessionOf(token)).to.equal(sessionId);
    const other = sessionId.replace('0', '1');
    for (const forged of [
      token.replace(sessionId, other),
      `${token.slice(0, -2)}AA`,
      `${token}A`,
      '',
      'a.b.c',
    ]) {
      expect(tokens.sessionOf(forged), forged).to.equal(null);
    }
  });

  it('of API keys are made from their id', () => {
    const key = tokens.apiKey('0123456789abcdef');
    expect(key).to.match(/^odeon_0123456789abcdef_[\w-]{43}$/);
    expect(tokens.apiKeyIdOf(key)).to.equal('0123456789abcdef');
    expect(tokens.apiKeyIdOf(key.replace('_0', '_1'))).to.equal(null);
    expect(tokens.apiKeyIdOf(`${key.slice(0, -2)}AA`)).to.equal(null);
    expect(tokens.hash(key)).not.to.include(key.slice(-43));
  });

  it('give one user id to one e-mail address, however it is written', () => {
    expect(tokens.userIdOf(' Ada@Example.ORG ')).to.equal(tokens.userIdOf('ada@example.org'));
    expect(tokens.userIdOf('ada@example.org')).not.to.equal(tokens.userIdOf('bob@example.org'));
  });
});
