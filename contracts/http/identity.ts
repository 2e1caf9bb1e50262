/** The routes for logging in, users, API keys and signing keys. */
import { z } from 'zod';
import {
  apiKeyName,
  displayName,
  email,
  normaliseEmail,
  password,
  requestedPermission,
} from '../commands/identity.ts';
import { role } from '../events/identity.ts';
import type { ApiKeyDocument, UserDocument } from '../read-models/documents.ts';
import { permissions, rolePermissions, route } from './route.ts';

// ── what is shown of users and keys ───────────────────────────────────────
type ShownUser = Pick<UserDocument, 'id' | 'email' | 'displayName' | 'role'>;

/** A user to themselves, as Luna names things. */
export const lunaUser = z.object({
  id: z.string(),
  email: z.string(),
  displayName: z.string(),
  role,
  avatarUrl: z.string().nullable(),
  settings: z.record(z.string(), z.unknown()),
  createdAt: z.string(),
});
export const toLunaUser = (user: ShownUser & { createdAt: string }): z.infer<typeof lunaUser> => ({
  id: user.id,
  email: user.email,
  displayName: user.displayName,
  role: user.role,
  avatarUrl: null,
  settings: {},
  createdAt: user.createdAt,
});

/** A user to themselves, as ZERG names things. */
export const zergUser = z.object({
  id: z.string(),
  username: z.string(),
  email: z.string(),
  display_name: z.string(),
  role,
  permissions: z.array(z.enum(permissions)),
});
export const toZergUser = (
  user: ShownUser,
  held: Iterable<z.infer<typeof zergUser>['permissions'][number]> = rolePermissions[user.role],
): z.infer<typeof zergUser> => ({
  id: user.id,
  username: user.email,
  email: user.email,
  display_name: user.displayName,
  role: user.role,
  permissions: [...held],
});

/** A user to those who manage users. */
export const managedUser = z.object({
  id: z.string(),
  email: z.string(),
  displayName: z.string(),
  role,
  disabled: z.boolean(),
  createdAt: z.string(),
});
export const toManagedUser = (
  user: ShownUser & { disabled: boolean; createdAt: string },
): z.infer<typeof managedUser> => ({
  id: user.id,
  email: user.email,
  displayName: user.displayName,
  role: user.role,
  disabled: user.disabled,
  createdAt: user.createdAt,
});

export const shownApiKey = z.object({
  id: z.string(),
  /** Whose key it is. */
  userId: z.string(),
  name: z.string(),
  permissions: z.array(z.string()),
  prefix: z.string(),
  expiresAt: z.string().nullable(),
  revokedAt: z.string().nullable(),
  createdAt: z.string(),
});
export const toShownApiKey = (key: ApiKeyDocument): z.infer<typeof shownApiKey> => ({
  id: key.id,
  userId: key.owner,
  name: key.name,
  permissions: key.permissions,
  prefix: key.prefix,
  expiresAt: key.expiresAt,
  revokedAt: key.revokedAt,
  createdAt: key.createdAt,
});

// ── what comes in ─────────────────────────────────────────────────────────
/** Any text: whether there is such an account is not to be told from the answer. */
const account = z.string().max(254, 'an e-mail address has at most 254 characters').transform(normaliseEmail);
const presentedPassword = z.string().max(256, 'a password has at most 256 characters');
const presentedToken = z.string().max(4_096, 'this is not a token');
const ok = <Data extends z.ZodType>(data: Data) => z.object({ ok: z.literal(true), data });
const byId = z.object({ id: z.string().max(64) });
const limit = z.coerce.number().int().min(1).max(1_000).default(100);
const cursor = z.string().max(2_000).optional();
const success = z.object({ success: z.literal(true) });

// ── Luna ──────────────────────────────────────────────────────────────────
const tokenAnswer = z.object({
  accessToken: z.string(),
  refreshToken: z.string(),
  /** Seconds until the access token expires. */
  expiresIn: z.int(),
});

export const luna = {
  login: route({
    surface: 'luna',
    method: 'POST',
    path: '/api/auth/login',
    example: { body: { email: 'ada@example.org', password: 'correct horse battery staple' } },
    summary: 'Log in with e-mail address and password.',
    access: 'public',
    body: z.object({ email: account, password: presentedPassword }),
    answers: { 200: tokenAnswer.extend({ user: lunaUser }) },
    repeat: 'derived',
  }),
  refresh: route({
    surface: 'luna',
    method: 'POST',
    path: '/api/auth/refresh',
    example: { body: { refreshToken: 'the one that the login gave' } },
    summary: 'Exchange a refresh token (the cookie, else the body) for new tokens.',
    access: 'public',
    body: z.object({ refreshToken: presentedToken.optional() }),
    answers: { 200: tokenAnswer },
    repeat: 'derived',
  }),
  logout: route({
    surface: 'luna',
    method: 'POST',
    path: '/api/auth/logout',
    example: { body: {} },
    summary: 'End the session of the tokens that come with the request.',
    access: 'public',
    body: z.object({ refreshToken: presentedToken.optional() }),
    answers: { 200: success },
    repeat: 'derived', // the answer's cookies are part of it
  }),
  me: route({
    surface: 'luna',
    method: 'GET',
    path: '/api/auth/me',
    summary: 'Who is logged in.',
    access: 'authenticated',
    answers: { 200: lunaUser },
  }),
  wsToken: route({
    surface: 'luna',
    method: 'POST',
    path: '/api/auth/ws-token',
    summary: 'A token for 30 seconds, to open a WebSocket with.',
    access: 'authenticated',
    answers: { 200: z.object({ token: z.string() }) },
    repeat: 'derived',
  }),
};

// ── ZERG ──────────────────────────────────────────────────────────────────
const zergTokens = z.object({
  token: z.string(),
  access_token: z.string(),
  refresh_token: z.string(),
  /** Seconds until the token expires. */
  expires_in: z.int(),
  user: zergUser,
});

export const zerg = {
  login: route({
    surface: 'zerg',
    method: 'POST',
    path: '/api/v1/auth/login',
    example: { body: { username: 'ada@example.org', password: 'correct horse battery staple' } },
    summary: 'Log in; the user name is the e-mail address.',
    access: 'public',
    body: z
      .object({ username: account.optional(), email: account.optional(), password: presentedPassword })
      .refine((body) => (body.username ?? body.email) !== undefined, {
        path: ['username'],
        message: 'is missing',
      }),
    answers: { 200: ok(zergTokens) },
    repeat: 'derived',
  }),
  validate: route({
    surface: 'zerg',
    method: 'GET',
    path: '/api/v1/auth/validate',
    summary: 'Whether the token is valid, whose it is and what it allows.',
    access: 'authenticated',
    answers: {
      200: ok(
        z.object({
          valid: z.literal(true),
          user: zergUser,
          /** Unix seconds; null for an API key that does not expire. */
          expires_at: z.int().nullable(),
        }),
      ),
    },
  }),
  refresh: route({
    surface: 'zerg',
    method: 'POST',
    path: '/api/v1/auth/refresh',
    example: { body: { refresh_token: 'the one that the login gave' } },
    summary: 'Exchange the refresh token (else the valid access token of a session) for new tokens.',
    access: 'public',
    body: z.object({ refresh_token: presentedToken.optional() }),
    answers: { 200: ok(zergTokens) },
    repeat: 'derived',
  }),
  logout: route({
    surface: 'zerg',
    method: 'POST',
    path: '/api/v1/auth/logout',
    example: { body: {} },
    summary: 'End the session of the tokens that come with the request.',
    access: 'public',
    body: z.object({ refresh_token: presentedToken.optional() }),
    answers: { 200: ok(z.object({ logged_out: z.literal(true) })) },
    repeat: 'derived', // the answer's cookies are part of it
  }),
};

// ── administration ────────────────────────────────────────────────────────
export const administration = {
  createUser: route({
    surface: 'odeon',
    method: 'POST',
    path: '/api/users',
    example: {
      body: {
        email: 'ada@example.org',
        password: 'correct horse battery staple',
        displayName: 'Ada',
        role: 'user',
      },
    },
    summary: 'Create a user.',
    access: 'users:manage',
    body: z.strictObject({ email, password, displayName, role }),
    answers: { 201: managedUser },
  }),
  users: route({
    surface: 'odeon',
    method: 'GET',
    path: '/api/users',
    summary: 'All users, by when they were created.',
    access: 'all:read',
    query: z.strictObject({ limit, cursor }),
    answers: { 200: z.object({ users: z.array(managedUser), next: z.string().nullable() }) },
  }),
  changeUser: route({
    surface: 'odeon',
    method: 'PATCH',
    path: '/api/users/:id',
    example: { body: { role: 'auditor' } },
    summary:
      'Change the role or the password of a user, disable or enable them. The last three end sessions.',
    access: 'users:manage',
    params: byId,
    body: z
      .strictObject({
        role: role.optional(),
        disabled: z.boolean().optional(),
        password: password.optional(),
      })
      .refine((body) => Object.keys(body).length > 0, 'name at least one of role, disabled and password'),
    answers: { 200: managedUser },
  }),
  createApiKey: route({
    surface: 'odeon',
    method: 'POST',
    path: '/api/api-keys',
    example: { body: { name: 'my dashboard', permissions: ['chat:read'] } },
    summary: 'Make an API key. The key itself is shown in this answer only.',
    access: 'keys:manage',
    body: z.strictObject({
      name: apiKeyName,
      permissions: z
        .array(requestedPermission)
        .min(1, 'name at least one permission')
        .max(20, 'there are not so many permissions'),
      expiresAt: z.iso
        .datetime({ offset: true, error: 'must be an RFC 3339 time, e.g. 2030-01-31T12:00:00Z' })
        .transform((text) => new Date(text).toISOString())
        .nullable()
        .default(null),
    }),
    answers: { 201: shownApiKey.extend({ key: z.string() }) },
    repeat: 'derived',
  }),
  apiKeys: route({
    surface: 'odeon',
    method: 'GET',
    path: '/api/api-keys',
    summary: 'Your API keys, newest first; for those who may read all, everybody’s.',
    access: ['keys:manage', 'all:read'],
    query: z.strictObject({ limit, cursor }),
    answers: { 200: z.object({ apiKeys: z.array(shownApiKey), next: z.string().nullable() }) },
  }),
  revokeApiKey: route({
    surface: 'odeon',
    method: 'DELETE',
    path: '/api/api-keys/:id',
    summary: 'Revoke an API key, at once and for ever.',
    access: 'keys:manage',
    params: byId,
    answers: { 200: success },
  }),
  rotateSigningKey: route({
    surface: 'odeon',
    method: 'POST',
    path: '/api/signing-keys/rotate',
    summary: 'Sign tokens with a new key; those given out stay valid until they expire.',
    access: 'users:manage',
    answers: { 200: z.object({ kid: z.string(), previousKid: z.string().nullable() }) },
  }),
  jwks: route({
    surface: 'odeon',
    method: 'GET',
    path: '/.well-known/jwks.json',
    summary: 'The public keys that tokens can be checked with (RFC 7517).',
    access: 'public',
    answers: {
      200: z.object({
        keys: z.array(
          z.object({
            kty: z.literal('RSA'),
            n: z.string(),
            e: z.string(),
            kid: z.string(),
            alg: z.literal('RS256'),
            use: z.literal('sig'),
          }),
        ),
      }),
    },
  }),
};
