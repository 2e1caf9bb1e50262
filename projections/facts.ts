/** `facts`: what is known about each user. A forgotten fact has no document. */
import { type FactDocument, factDocument } from '../contracts/read-models/documents.ts';
import { projection } from './projection.ts';

const id = (event: { data: { factId: string } }): string => event.data.factId;

export const facts = projection<FactDocument>('facts', {
  version: 1,
  document: factDocument,
  // The fact mentioned last comes first: a document's position is that of its last mention.
  indexes: [
    ['owner', 'position'],
    ['owner', 'category', 'position'],
  ],
  on: {
    FactRemembered: {
      id,
      apply: (doc, { owner, time, data }) => ({
        id: data.factId,
        owner,
        category: data.category,
        key: data.key,
        value: data.value,
        confidence: data.confidence,
        mentionCount: (doc?.mentionCount ?? 0) + 1,
        firstMentioned: doc?.firstMentioned ?? time,
        lastMentioned: time,
      }),
    },
    FactForgotten: { id, apply: () => null },
  },
});
