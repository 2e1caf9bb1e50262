import { expect } from 'chai';
import type { Caller } from '../../contracts/caller.ts';
import { resolvePermissions } from '../../contracts/commands/identity.ts';
import type { DecidedEvent } from '../../contracts/events/catalogue.ts';
import type { Role } from '../../contracts/events/identity.ts';
import { rolePermissions } from '../../contracts/http/route.ts';
import { given as givenOf, OWNER } from '../testing.ts';
import { type ApiKeyEventType, apiKey, createApiKey, revokeApiKey } from './api-key.ts';
import { login, recordLoginFailure } from './login.ts';
import { rotateSigningKey, signingKeys } from './signing-keys.ts';

type Decided = DecidedEvent<ApiKeyEventType>;
const given = (...events: Decided[]) => givenOf(apiKey, ...events);

const keyId = 'key-1';
const at = '2026-01-02T00:00:00.000Z';
const data = {
  name: 'laptop',
  permissions: ['chat:read' as const],
  keyHash: 'hash',
  prefix: 'odeon_12345678',
  expiresAt: null,
};
const create = { keyId, owner: OWNER, ...data, at };
const created: Decided = { type: 'ApiKeyCreated', data };
const revoked: Decided = { type: 'ApiKeyRevoked', data: {} };

const caller = (userId: string, role: Role, sessionId: string | null = 'session'): Caller => ({
  userId,
  email: `${userId}@example.org`,
  displayName: userId,
  role,
  actor: sessionId === null ? { kind: 'apiKey', id: 'maker' } : { kind: 'user', id: userId },
  permissions: new Set(rolePermissions[role]),
  sessionId,
  expiresAtMs: null,
});

describe('making an API key', () => {
  it('is recorded once, however often the command is repeated', () => {
    given().when(createApiKey, create, caller(OWNER, 'user')).then(created);
    given(created).when(createApiKey, create, caller(OWNER, 'user')).then();
  });
  it('is refused where the maker holds less, is a key itself, or makes it for another', () => {
    const permissions = ['chat:read', 'log:read'] as const;
    given()
      .when(createApiKey, { ...create, permissions: [...permissions] }, caller(OWNER, 'user'))
      .refused('FORBIDDEN');
    given()
      .when(createApiKey, create, caller(OWNER, 'user', null))
      .refused('FORBIDDEN');
    given().when(createApiKey, create, caller('other', 'admin')).refused('FORBIDDEN');
  });
  it('is refused when it would be expired already', () =>
    given()
      .when(createApiKey, { ...create, expiresAt: at })
      .refused('VALIDATION_ERROR'));
});

describe('revoking an API key', () => {
  it('is recorded once, for its owner and for administrators', () => {
    given(created).when(revokeApiKey, { keyId }, caller(OWNER, 'user')).then(revoked);
    given(created).when(revokeApiKey, { keyId }, caller('other', 'admin')).then(revoked);
    given(created, revoked).when(revokeApiKey, { keyId }, caller(OWNER, 'user')).then();
  });
  it('looks to others as if there were no such key', () => {
    given(created).when(revokeApiKey, { keyId }, caller('other', 'user')).refused('NOT_FOUND');
    given().when(revokeApiKey, { keyId }, caller(OWNER, 'user')).refused('NOT_FOUND');
  });
});

describe('the permissions asked for', () => {
  const held = new Set(rolePermissions.user);
  it('may be named as other systems name them', () => {
    expect(resolvePermissions(['read', 'write', 'chat:read'], held)).to.deep.equal([
      'chat:read',
      'chat:write',
    ]);
  });
  it('are all that the maker holds for * and admin, and no more', () => {
    expect(resolvePermissions(['*'], held)).to.have.members([...held]);
    expect(resolvePermissions(['admin'], held)).to.have.members([...held]);
  });
});

describe('a failed login', () => {
  it('is recorded, whether or not there is such an account', () => {
    const failure = { userId: null, address: '127.0.0.1', reason: 'unknown account' } as const;
    givenOf(login)
      .when(recordLoginFailure, { accountId: 'account', ...failure })
      .then({ type: 'LoginFailed', data: failure });
  });
});

describe('rotating the signing keys', () => {
  it('is recorded once for a new key', () => {
    const rotated = { kid: 'second', previousKid: 'first' };
    givenOf(signingKeys).when(rotateSigningKey, rotated).then({ type: 'SigningKeyRotated', data: rotated });
    givenOf(signingKeys, { type: 'SigningKeyRotated', data: rotated }).when(rotateSigningKey, rotated).then();
  });
});
