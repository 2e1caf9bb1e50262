/** Users, their sessions (families of refresh tokens) and API keys. Stored format: version with care. */
import { z } from 'zod';
import { event } from './define.ts';

export const role = z.enum(['user', 'auditor', 'admin']);
export type Role = z.infer<typeof role>;

export const identityEvents = {
  // user-<id>
  UserRegistered: event(
    z.strictObject({
      email: z.string(),
      displayName: z.string(),
      role,
      /** argon2id with the deployment's pepper. */
      passwordHash: z.string(),
    }),
    ['email', 'displayName'],
  ),
  UserRoleChanged: event(z.strictObject({ role })),
  UserDisabled: event(z.strictObject({})),
  UserEnabled: event(z.strictObject({})),
  UserPasswordChanged: event(z.strictObject({ passwordHash: z.string() })),

  // session-<id>
  SessionStarted: event(
    z.strictObject({
      userId: z.string(),
      /** HMAC-SHA256 of the refresh token that is valid now. */
      refreshHash: z.string(),
      expiresAt: z.string(),
      address: z.string(),
      userAgent: z.string(),
    }),
    ['address', 'userAgent'],
  ),
  SessionRefreshed: event(z.strictObject({ refreshHash: z.string(), expiresAt: z.string() })),
  SessionEnded: event(
    z.strictObject({
      reason: z.enum(['logout', 'refresh token reused', 'user disabled', 'password changed']),
    }),
  ),

  // login-<keyed hash of the account name>
  LoginFailed: event(
    z.strictObject({
      /** The account's id when there is such an account. */
      userId: z.string().nullable(),
      address: z.string(),
      reason: z.enum(['unknown account', 'wrong password', 'account disabled']),
    }),
    ['address'],
  ),

  // api-key-<id>
  ApiKeyCreated: event(
    z.strictObject({
      name: z.string(),
      permissions: z.array(z.string()),
      /** HMAC-SHA256 of the key. */
      keyHash: z.string(),
      /** The first characters of the key, for people to tell keys apart. */
      prefix: z.string(),
      expiresAt: z.string().nullable(),
    }),
    ['name'],
  ),
  ApiKeyRevoked: event(z.strictObject({})),

  // signing-keys
  SigningKeyRotated: event(z.strictObject({ kid: z.string(), previousKid: z.string().nullable() })),
};
