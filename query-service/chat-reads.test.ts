import { expect } from 'chai';
import { activityDocument } from '../contracts/read-models/documents.ts';
import type { Query, ReadModels } from '../infra/read-models/port.ts';
import { projections } from '../projections/list.ts';
import { presentReads } from './chat-reads.ts';

/** Read models that hold nothing, and remember what they were asked. */
function asked() {
  const queries: { collection: string; query: Query }[] = [];
  const readModels: ReadModels = {
    get: async () => null,
    find: async (collection, query) => {
      queries.push({ collection, query });
      return { documents: [], next: null };
    },
    count: async () => 0,
  };
  return { queries, reads: presentReads(readModels) };
}

/** An index that begins with the fields that are compared and goes on with the order: nothing is read in vain. */
const hasIndex = (collection: string, { where = {}, orderBy }: Query): boolean =>
  projections
    .find(({ name }) => name === collection)!
    .indexes.some((index) => {
      const compared = new Set(index.slice(0, -1));
      return (
        index.at(-1) === orderBy?.field &&
        compared.size === Object.keys(where).length &&
        Object.keys(where).every((field) => compared.has(field))
      );
    });

describe('what the chat routes ask of the read models', () => {
  const owners = [{}, { owner: 'ada' }];
  const { category, level } = activityDocument.shape;

  it('has an index for every list of conversations, messages and activity', async () => {
    const { queries, reads } = asked();
    for (const owner of owners) {
      for (const kind of [{ archived: false }, { status: 'active' }] as const) {
        await reads.conversations({ ...owner, ...kind }, { limit: 10, offset: 0 });
      }
      for (const kind of [
        {},
        { category: 'error' },
        { level: 'error' },
        { category: 'error', level: 'warn' },
      ] as const) {
        await reads.activity({ ...owner, ...kind }, { limit: 10 });
        await reads.activity({ ...owner, ...kind, conversationId: 'c' }, { limit: 10, after: '7' });
      }
    }
    await reads.messages('c', { limit: 10 });
    for (const { collection, query } of queries) {
      expect(hasIndex(collection, query), `${collection} ${JSON.stringify(query)}`).to.equal(true);
    }
    expect(new Set(queries.map(({ collection }) => collection)).size).to.equal(3);
  });

  it('asks once where neither category nor level is chosen, and for both at once where both are', async () => {
    const count = async (kind: object) => {
      const { queries, reads } = asked();
      await reads.activity(kind, { limit: 10 });
      return queries.length;
    };
    expect(await count({})).to.equal(1);
    expect(await count({ category: 'error', level: 'warn' })).to.equal(1);
    expect(await count({ category: 'error' })).to.equal(level.options.length);
    expect(await count({ level: 'error' })).to.equal(category.options.length);
  });
});
