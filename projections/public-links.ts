/** `public-links`: the links by which visitors talk to agents. A deleted one has no document. */
import { type PublicLinkDocument, publicLinkDocument } from '../contracts/read-models/documents.ts';
import { projection } from './projection.ts';

const id = (event: { readonly stream: string }): string => event.stream.slice('link-'.length);

export const publicLinks = projection<PublicLinkDocument>('public-links', {
  version: 1,
  document: publicLinkDocument,
  indexes: [['tokenHash'], ['agentId', 'createdAt']],
  on: {
    PublicLinkCreated: {
      id,
      apply: (_none, event) => ({
        id: id(event),
        owner: event.owner,
        agentId: event.data.agent.id,
        agentName: event.data.agent.name,
        name: event.data.name,
        tokenHash: event.data.tokenHash,
        expiresAt: event.data.expiresAt,
        enabled: true,
        createdAt: event.time,
        updatedAt: event.time,
      }),
    },
    PublicLinkChanged: {
      id,
      apply: (doc, { data, time }) => doc && { ...doc, ...data, updatedAt: time },
    },
    PublicLinkDeleted: { id, apply: () => null },
  },
});
