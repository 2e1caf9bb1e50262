/**
 * Tokens: RS256 JWTs for access and WebSockets, and opaque refresh tokens and API keys. All are derived from
 * what they stand for and the deployment's secrets, so none has to be stored to be given out again.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import jwt from 'jsonwebtoken';
import { z } from 'zod';
import { role } from '../../contracts/events/identity.ts';
import type { Keys } from './keys.ts';
import type { TokenClaims, TokenSubject, Tokens } from './port.ts';

const ISSUER = 'odeon';
const WEBSOCKET_TOKEN_SECONDS = 30;
const DAY_SECONDS = 24 * 60 * 60;

/** `userId` and `email` are where Luna's clients look; `sid` or `key` says which credential stands behind it. */
const claims = z.object({
  sub: z.string(),
  email: z.string(),
  role,
  type: z.enum(['access', 'ws']),
  exp: z.int(),
  sid: z.string().optional(),
  key: z.string().optional(),
});

/** Session, which of its tokens, and the MAC over both. */
const refreshToken = /^([0-9a-f]{32})\.([\w-]{22})\.([\w-]{43})$/;
const apiKey = /^odeon_([0-9a-f]{16})_([\w-]{43})$/;

export interface TokensOptions {
  readonly keys: Keys;
  readonly accessTokenMinutes?: number;
  readonly refreshTokenDays?: number;
  readonly now?: () => number;
}

export function createTokens({
  keys,
  accessTokenMinutes = 15,
  refreshTokenDays = 30,
  now = Date.now,
}: TokensOptions): Tokens {
  const secrets = {
    refresh: keys.secret('refresh tokens'),
    apiKey: keys.secret('API keys'),
    stored: keys.secret('hashes of tokens in the log'),
    account: keys.secret('account ids'),
    administrator: keys.secret('first administrator'),
  };
  const mac = (secret: Buffer, text: string): string =>
    createHmac('sha256', secret).update(text).digest('base64url');
  const isMac = (presented: string, secret: Buffer, text: string): boolean =>
    timingSafeEqual(Buffer.from(presented), Buffer.from(mac(secret, text)));

  function sign(
    type: TokenClaims['type'],
    { userId, email, role, credential }: TokenSubject,
    issuedAtMs: number,
    seconds: number,
  ): string {
    const { kid, signWith } = keys.current();
    const iat = Math.floor(issuedAtMs / 1_000);
    return jwt.sign(
      {
        sub: userId,
        userId,
        email,
        role,
        type,
        ...(credential.kind === 'session' ? { sid: credential.id } : { key: credential.id }),
        iat,
        exp: iat + seconds,
      },
      signWith,
      { algorithm: 'RS256', keyid: kid, issuer: ISSUER },
    );
  }

  const accessTokenSeconds = accessTokenMinutes * 60;
  return {
    accessTokenSeconds,
    refreshTokenSeconds: refreshTokenDays * DAY_SECONDS,
    accessToken: (subject, issuedAtMs) => sign('access', subject, issuedAtMs, accessTokenSeconds),
    webSocketToken: (subject, issuedAtMs) => sign('ws', subject, issuedAtMs, WEBSOCKET_TOKEN_SECONDS),

    verify(token) {
      let payload: unknown;
      try {
        const kid = jwt.decode(token, { complete: true })?.header.kid;
        const key = typeof kid === 'string' ? keys.verifyWith(kid) : null;
        if (key === null) return null;
        payload = jwt.verify(token, key, {
          algorithms: ['RS256'],
          issuer: ISSUER,
          clockTimestamp: Math.floor(now() / 1_000),
        });
      } catch {
        // Whatever cannot be read or verified (bad JSON included) is not a token of ours.
        return null;
      }
      const parsed = claims.safeParse(payload);
      if (!parsed.success) return null;
      const { sub: userId, email, role, type, exp, sid, key } = parsed.data;
      const credential =
        sid !== undefined
          ? ({ kind: 'session', id: sid } as const)
          : key !== undefined
            ? ({ kind: 'apiKey', id: key } as const)
            : null;
      return credential && { userId, email, role, type, credential, expiresAtMs: exp * 1_000 };
    },

    refreshToken(sessionId, commandId) {
      const which = mac(secrets.refresh, `which\n${commandId}`).slice(0, 22);
      return `${sessionId}.${which}.${mac(secrets.refresh, `${sessionId}.${which}`)}`;
    },
    sessionOf(token) {
      const [, sessionId, which, presented] = refreshToken.exec(token) ?? [];
      if (sessionId === undefined || presented === undefined) return null;
      return isMac(presented, secrets.refresh, `${sessionId}.${which}`) ? sessionId : null;
    },

    apiKey: (keyId) => `odeon_${keyId}_${mac(secrets.apiKey, keyId)}`,
    apiKeyIdOf(key) {
      const [, keyId, presented] = apiKey.exec(key) ?? [];
      if (keyId === undefined || presented === undefined) return null;
      return isMac(presented, secrets.apiKey, keyId) ? keyId : null;
    },

    hash: (token) => mac(secrets.stored, token),
    userIdOf: (email) =>
      createHmac('sha256', secrets.account).update(email.trim().toLowerCase()).digest('hex').slice(0, 24),
    administratorPassword: () => mac(secrets.administrator, 'password').slice(0, 24),
  };
}
