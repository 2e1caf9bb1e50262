/**
 * The one check of credentials. A signature is checked once and remembered; whether the user, the session or
 * the API key still stands is asked of the read models on every call, so that a revocation counts at once.
 */
import { LRUCache } from 'lru-cache';
import type { Caller } from '../../contracts/caller.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import type { Role } from '../../contracts/events/identity.ts';
import { type Permission, permissions, rolePermissions } from '../../contracts/http/route.ts';
import type { ApiKeyDocument, SessionDocument, UserDocument } from '../../contracts/read-models/documents.ts';
import type { ReadModels } from '../read-models/port.ts';
import { accessTokensIn } from './cookies.ts';
import type { Authenticator, TokenClaims, Tokens } from './port.ts';

const REMEMBERED_TOKENS = 20_000;

const permissionsOf: Readonly<Record<Role, ReadonlySet<Permission>>> = {
  user: new Set(rolePermissions.user),
  auditor: new Set(rolePermissions.auditor),
  admin: new Set(rolePermissions.admin),
};

const invalid = (): never => refuse('UNAUTHORIZED', 'Invalid or expired token');

export interface AuthenticatorOptions {
  readonly tokens: Tokens;
  readonly readModels: ReadModels;
  readonly now?: () => number;
}

export function createAuthenticator({
  tokens,
  readModels,
  now = Date.now,
}: AuthenticatorOptions): Authenticator {
  const verified = new LRUCache<string, TokenClaims>({ max: REMEMBERED_TOKENS });

  /** Null when it is not a token of ours that is valid now. */
  function claimsOf(token: string): TokenClaims | null {
    const remembered = verified.get(token);
    if (remembered !== undefined) {
      if (remembered.expiresAtMs > now()) return remembered;
      verified.delete(token);
      return null;
    }
    const claims = tokens.verify(token);
    if (claims !== null) verified.set(token, claims);
    return claims;
  }

  async function userOf(userId: string): Promise<UserDocument> {
    const user = (await readModels.get<UserDocument>('users', userId))?.body;
    return user === undefined || user.disabled ? invalid() : user;
  }

  /** `tokenExpiresAtMs` null: the session is looked at without a token. */
  async function bySession(sessionId: string, tokenExpiresAtMs: number | null): Promise<Caller> {
    const session = (await readModels.get<SessionDocument>('sessions', sessionId))?.body;
    if (!session?.active) return invalid();
    const expiresAtMs = tokenExpiresAtMs ?? Date.parse(session.expiresAt);
    if (expiresAtMs <= now()) return invalid();
    const user = await userOf(session.owner);
    // A session from before the password changed has ended with it, recorded as ended or not yet.
    if (user.passwordChangedAt !== null && session.startedAt <= user.passwordChangedAt) return invalid();
    return {
      userId: user.id,
      email: user.email,
      displayName: user.displayName,
      role: user.role,
      actor: { kind: 'user', id: user.id },
      permissions: permissionsOf[user.role],
      sessionId,
      expiresAtMs,
    };
  }

  /** `presented` null: a token speaks for the key. */
  async function byApiKeyId(
    keyId: string,
    presented: string | null,
    expiresAtMs: number | null,
  ): Promise<Caller> {
    const key = (await readModels.get<ApiKeyDocument>('api-keys', keyId))?.body;
    if (key === undefined || key.revokedAt !== null) return invalid();
    if (presented !== null && tokens.hash(presented) !== key.keyHash) return invalid();
    const keyExpiresAtMs = key.expiresAt === null ? null : Date.parse(key.expiresAt);
    if (keyExpiresAtMs !== null && keyExpiresAtMs <= now()) return invalid();
    const user = await userOf(key.owner);
    return {
      userId: user.id,
      email: user.email,
      displayName: user.displayName,
      role: user.role,
      actor: { kind: 'apiKey', id: key.id },
      permissions: new Set(
        permissions.filter((name) => key.permissions.includes(name) && permissionsOf[user.role].has(name)),
      ),
      sessionId: null,
      expiresAtMs:
        keyExpiresAtMs === null || expiresAtMs === null
          ? (keyExpiresAtMs ?? expiresAtMs)
          : Math.min(keyExpiresAtMs, expiresAtMs),
    };
  }

  async function byApiKey(presented: string): Promise<Caller> {
    const keyId = tokens.apiKeyIdOf(presented);
    return keyId === null ? invalid() : byApiKeyId(keyId, presented, null);
  }

  async function byToken(token: string, types: readonly TokenClaims['type'][]): Promise<Caller> {
    const claims = claimsOf(token);
    if (claims === null) {
      if (tokens.sessionOf(token) !== null) refuse('UNAUTHORIZED', 'Invalid token type');
      return invalid();
    }
    if (!types.includes(claims.type)) refuse('UNAUTHORIZED', 'Invalid token type');
    const { credential, expiresAtMs } = claims;
    return credential.kind === 'session'
      ? bySession(credential.id, expiresAtMs)
      : byApiKeyId(credential.id, null, expiresAtMs);
  }

  /** Cookies come along without being chosen: the first one that is valid counts. */
  async function byCookie(header: string): Promise<Caller | null> {
    let refusal: unknown = null;
    for (const token of accessTokensIn(header)) {
      try {
        return await byToken(token, ['access']);
      } catch (error) {
        refusal ??= error;
      }
    }
    if (refusal !== null) throw refusal;
    return null;
  }

  return {
    async authenticate({ authorization, apiKey, queryToken, cookie }) {
      if (authorization !== undefined) {
        const presented = /^Bearer +(\S+) *$/i.exec(authorization)?.[1];
        if (presented === undefined) return invalid();
        return presented.startsWith('odeon_') ? byApiKey(presented) : byToken(presented, ['access']);
      }
      if (apiKey !== undefined) return byApiKey(apiKey);
      if (queryToken !== undefined) return byToken(queryToken, ['access', 'ws']);
      return cookie === undefined ? null : byCookie(cookie);
    },

    async recheck({ sessionId, actor }) {
      try {
        return await (sessionId === null ? byApiKeyId(actor.id, null, null) : bySession(sessionId, null));
      } catch (error) {
        if (error instanceof Refusal && error.code === 'UNAUTHORIZED') return null;
        throw error;
      }
    },
  };
}
