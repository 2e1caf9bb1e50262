/** Who is logged in. A session that ended keeps its document, so that its tokens are known to be void. */
import { type SessionDocument, sessionDocument } from '../contracts/read-models/documents.ts';
import { projection } from './projection.ts';

const sessionId = (event: { readonly stream: string }) => event.stream.slice('session-'.length);

export const sessions = projection<SessionDocument>('sessions', {
  version: 1,
  document: sessionDocument,
  indexes: [['owner', 'active']],
  on: {
    SessionStarted: {
      id: sessionId,
      apply: (_document, event) => ({
        id: sessionId(event),
        owner: event.owner,
        active: true,
        startedAt: event.time,
        refreshedAt: event.time,
        expiresAt: event.data.expiresAt,
      }),
    },
    SessionRefreshed: {
      id: sessionId,
      apply: (document, { time, data }) =>
        document && { ...document, refreshedAt: time, expiresAt: data.expiresAt },
    },
    SessionEnded: { id: sessionId, apply: (document) => document && { ...document, active: false } },
  },
});
