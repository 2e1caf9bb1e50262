/** The commands about users, their sessions and API keys. Hashes, ids and times are made by whoever issues them. */
import { z } from 'zod';
import { identityEvents, role } from '../events/identity.ts';
import { type Permission, permissions } from '../http/route.ts';

/** One account however its e-mail address is typed. */
export const normaliseEmail = (text: string): string => text.trim().toLowerCase();

export const email = z
  .string()
  .transform(normaliseEmail)
  .pipe(z.email('is not an e-mail address').max(254, 'an e-mail address has at most 254 characters'));
export const password = z
  .string()
  .min(8, 'a password has at least 8 characters')
  .max(256, 'a password has at most 256 characters')
  .refine((text) => text.isWellFormed(), 'the password holds a lone surrogate, which is not valid Unicode');
export const displayName = z
  .string()
  .trim()
  .min(1, 'the display name is empty')
  .max(100, 'a display name has at most 100 characters')
  .refine(
    (text) => text.isWellFormed(),
    'the display name holds a lone surrogate, which is not valid Unicode',
  );
export const apiKeyName = z
  .string()
  .trim()
  .min(1, 'the name is empty')
  .max(100, 'a name has at most 100 characters')
  .refine((text) => text.isWellFormed(), 'the name holds a lone surrogate, which is not valid Unicode');

const id = z.string().min(1).max(64);
const hash = z.string().min(1).max(256);
const instant = z.iso.datetime();

export const registerUser = z.strictObject({
  userId: id,
  email,
  displayName,
  role,
  passwordHash: hash,
});
/** What is left out stays as it is. */
export const changeUser = z.strictObject({
  userId: id,
  role: role.optional(),
  disabled: z.boolean().optional(),
  passwordHash: hash.optional(),
});

export const startSession = z.strictObject({
  sessionId: id,
  userId: id,
  refreshHash: hash,
  expiresAt: instant,
  address: z.string(),
  userAgent: z.string(),
});
/** `presentedHash` null: a valid access token of the session was shown in place of its refresh token. */
export const refreshSession = z.strictObject({
  sessionId: id,
  presentedHash: hash.nullable(),
  refreshHash: hash,
  expiresAt: instant,
  at: instant,
});
export const endSession = z.strictObject({
  sessionId: id,
  reason: identityEvents.SessionEnded.schema.shape.reason,
});

export const recordLoginFailure = z.strictObject({
  accountId: id,
  ...identityEvents.LoginFailed.schema.shape,
});

export const createApiKey = z.strictObject({
  keyId: id,
  owner: id,
  name: apiKeyName,
  permissions: z.array(z.enum(permissions)).min(1),
  keyHash: hash,
  prefix: z.string(),
  expiresAt: instant.nullable(),
  at: instant,
});
export const revokeApiKey = z.strictObject({ keyId: id });

export const rotateSigningKey = z.strictObject({ kid: id, previousKid: id.nullable() });

/** Names of permissions that clients of other systems use; a key keeps those that they stand for. */
export const requestedPermission = z.enum([...permissions, 'read', 'write', '*', 'admin']);
export type RequestedPermission = z.infer<typeof requestedPermission>;

/** What was asked for in this system's words, each once; `*` and `admin` are all that `held` holds. */
export function resolvePermissions(
  requested: readonly RequestedPermission[],
  held: ReadonlySet<Permission>,
): Permission[] {
  const resolved = new Set(
    requested.flatMap((name): readonly Permission[] => {
      if (name === '*' || name === 'admin') return [...held];
      if (name === 'read') return ['chat:read'];
      return name === 'write' ? ['chat:write'] : [name];
    }),
  );
  return permissions.filter((name) => resolved.has(name));
}
