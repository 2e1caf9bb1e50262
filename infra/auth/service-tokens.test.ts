import { expect } from 'chai';
import jwt from 'jsonwebtoken';
import { createServiceTokens } from './service-tokens.ts';

describe('Tokens for calls between services', () => {
  const secret = Buffer.alloc(32, 1);
  let nowMs = Date.parse('2026-01-01T00:00:00Z');
  const tokens = createServiceTokens({ secret, now: () => nowMs });
  const route = { method: 'POST', path: '/internal/commands/interrupt' };
  const body = Buffer.from('{"a":1}');
  const signed = () => tokens.sign({ ...route, body });
  const claims = (changed: object = {}) => {
    const { aud, ...rest } = jwt.decode(signed().slice('Bearer '.length)) as jwt.JwtPayload;
    return { aud, ...rest, ...changed };
  };
  const claimsWithout = (name: string) =>
    Object.fromEntries(Object.entries(claims()).filter(([claim]) => claim !== name));
  const refusal = (authorization: string | undefined, call = route): string => {
    const verified = tokens.verify(authorization, call);
    return typeof verified === 'string' ? verified : 'accepted';
  };
  const forged = (payload: object, key: string | Buffer = secret, options: jwt.SignOptions = {}) =>
    `Bearer ${jwt.sign(payload, key, options)}`;

  it('are good for their own body only', () => {
    const verified = tokens.verify(signed(), route);
    if (typeof verified === 'string') throw new Error(verified);
    expect(verified(body)).to.equal(true);
    expect(verified(Buffer.from('{"a":2}'))).to.equal(false);
    expect(verified(Buffer.alloc(0))).to.equal(false);
  });

  it('are good for their own route only', () => {
    expect(refusal(signed(), { ...route, path: '/internal/commands/send-message' })).to.match(
      /another route/,
    );
    expect(refusal(signed(), { ...route, method: 'GET' })).to.match(/another route/);
  });

  it('end after half a minute, with room for clocks that differ', () => {
    const token = signed();
    nowMs += 44_000;
    expect(refusal(token)).to.equal('accepted');
    nowMs += 1_000;
    expect(refusal(token)).to.match(/expired/);
    nowMs -= 60_000;
    expect(refusal(token)).to.equal('accepted');
    nowMs -= 1_000;
    expect(refusal(token)).to.match(/future/);
    nowMs += 16_000;
  });

  it('are accepted from this deployment only, and in no other form', () => {
    expect(refusal(undefined)).to.match(/no token/);
    expect(refusal('Basic abc')).to.match(/no token/);
    expect(refusal('Bearer abc')).to.match(/not valid/);
    expect(refusal(forged(claims()))).to.equal('accepted');
    expect(refusal(forged(claims(), Buffer.alloc(32, 2)))).to.match(/invalid signature/);
    expect(refusal(forged(claims(), secret, { algorithm: 'HS512' }))).to.match(/invalid algorithm/);
    expect(refusal(forged(claims(), '', { algorithm: 'none' }))).to.match(/not valid/);
    expect(refusal(forged(claims({ aud: 'users' })))).to.match(/audience/);
    expect(refusal(forged(claims({ iss: 'somebody' })))).to.match(/issuer/);
    expect(refusal(forged(claims({ exp: nowMs / 1_000 + 61 })))).to.match(/too long/);
    expect(refusal(forged(claimsWithout('body')))).to.match(/lacks a claim/);
    expect(refusal(forged(claimsWithout('exp')))).to.match(/lacks a claim/);
  });
});
