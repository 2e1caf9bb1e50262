/** The routes that read who is logged in, users, API keys and the public signing keys. */
import { refuse } from '../../contracts/errors.ts';
import {
  administration,
  luna,
  toLunaUser,
  toManagedUser,
  toShownApiKey,
  toZergUser,
  zerg,
} from '../../contracts/http/identity.ts';
import type { ApiKeyDocument, UserDocument } from '../../contracts/read-models/documents.ts';
import type { SigningKeys } from '../../infra/auth/port.ts';
import { callerOf, type Endpoint, endpoint } from '../../infra/http/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';

export interface IdentityQueryDependencies {
  readonly readModels: ReadModels;
  readonly signingKeys: Pick<SigningKeys, 'jwks'>;
}

export function identityQueryEndpoints({ readModels, signingKeys }: IdentityQueryDependencies): Endpoint[] {
  return [
    endpoint(luna.me, async ({ context }) => {
      const user = await readModels.get<UserDocument>('users', callerOf(context).userId);
      if (user === null) return refuse('NOT_FOUND', 'User not found.');
      return { status: 200, body: toLunaUser(user.body) };
    }),
    endpoint(zerg.validate, ({ context }) => {
      const caller = callerOf(context);
      const user = toZergUser({ ...caller, id: caller.userId }, caller.permissions);
      const expires_at = caller.expiresAtMs === null ? null : Math.floor(caller.expiresAtMs / 1_000);
      return { status: 200, body: { ok: true, data: { valid: true, user, expires_at } } };
    }),
    endpoint(administration.users, async ({ query: { limit, cursor } }) => {
      const page = await readModels.find<UserDocument>('users', {
        orderBy: { field: 'createdAt', direction: 'ascending' },
        limit,
        ...(cursor === undefined ? {} : { cursor }),
      });
      const users = page.documents.map(({ body }) => toManagedUser(body));
      return { status: 200, body: { users, next: page.next } };
    }),
    endpoint(administration.apiKeys, async ({ query: { limit, cursor }, context }) => {
      const { userId, permissions } = callerOf(context);
      const all = permissions.has('all:read');
      const page = await readModels.find<ApiKeyDocument>('api-keys', {
        ...(all ? {} : { where: { owner: userId } }),
        orderBy: { field: 'createdAt', direction: 'descending' },
        limit,
        ...(cursor === undefined ? {} : { cursor }),
      });
      const apiKeys = page.documents.map(({ body }) => toShownApiKey(body));
      return { status: 200, body: { apiKeys, next: page.next } };
    }),
    endpoint(administration.jwks, () => ({
      status: 200,
      body: signingKeys.jwks(),
      headers: { 'Cache-Control': 'public, max-age=300' },
    })),
  ];
}
