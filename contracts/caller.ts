/** Who is asking, once a token, cookie or API key has been checked. */
import type { Actor } from './envelope.ts';
import type { Role } from './events/identity.ts';
import type { Permission } from './http/route.ts';

export interface Caller {
  readonly userId: string;
  readonly email: string;
  readonly displayName: string;
  readonly role: Role;
  readonly actor: Actor;
  /** For an API key: those of the key that its user still holds. */
  readonly permissions: ReadonlySet<Permission>;
  /** The login session; null for an API key. */
  readonly sessionId: string | null;
  /** When the credential ends (ms since the epoch); null when it does not. */
  readonly expiresAtMs: number | null;
}

/** A user sees what is theirs; what they may not see is to look as if it did not exist. */
export const sees = (caller: Caller, owner: string): boolean =>
  caller.userId === owner || caller.permissions.has('all:read');
