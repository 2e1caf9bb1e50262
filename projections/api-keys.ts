/** API keys, for their owners and for the check of credentials. */
import { type ApiKeyDocument, apiKeyDocument } from '../contracts/read-models/documents.ts';
import { projection } from './projection.ts';

const keyId = (event: { readonly stream: string }) => event.stream.slice('api-key-'.length);

export const apiKeys = projection<ApiKeyDocument>('api-keys', {
  version: 1,
  document: apiKeyDocument,
  indexes: [['owner', 'createdAt'], ['createdAt']],
  on: {
    ApiKeyCreated: {
      id: keyId,
      apply: (_document, event) => ({
        id: keyId(event),
        owner: event.owner,
        ...event.data,
        revokedAt: null,
        createdAt: event.time,
      }),
    },
    ApiKeyRevoked: { id: keyId, apply: (document, { time }) => document && { ...document, revokedAt: time } },
  },
});
