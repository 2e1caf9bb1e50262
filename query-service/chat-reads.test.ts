import { expect } from 'chai';
import { type ActivityDocument, activityDocument } from '../contracts/read-models/documents.ts';
import type { Query, ReadModels, Stored } from '../infra/read-models/port.ts';
import { projections } from '../projections/list.ts';
import { presentReads } from './chat-reads.ts';

/** Read models that answer every query with the same document, and remember what they were asked. */
function asked() {
  const queries: { collection: string; query: Query }[] = [];
  const readModels: ReadModels = {
    get: async () => null,
    find: async (collection, query) => {
      queries.push({ collection, query });
      return { documents: [{ id: 'd', position: '1', body: {} as never }], next: null };
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
      for (const kind of [
        { kind: 'chat', archived: false },
        { kind: 'chat', status: 'active' },
        { agentId: 'a', kind: 'chat', status: 'active' },
      ] as const) {
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
    await reads.conversations({ linkId: 'l' }, { limit: 10, offset: 0 });
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
    // And once for where they all end.
    expect(await count({ category: 'error' })).to.equal(1 + level.options.length);
    expect(await count({ level: 'error' })).to.equal(1 + category.options.length);
  });

  it('shows every activity to who asks again and again, also while rows come in between the lists', async () => {
    const rows: Stored<Pick<ActivityDocument, 'category' | 'level'>>[] = [];
    const add = (of: ActivityDocument['level']) => {
      const position = String(rows.length + 1);
      rows.push({ id: position, position, body: { category: 'error', level: of } });
    };
    const readModels: ReadModels = {
      get: async () => null,
      count: async () => 0,
      find: async <Body>(_: string, { where = {}, range = { field: 'position' }, limit }: Query) => {
        const found = rows.filter(
          ({ position, body }) =>
            Object.entries(where).every(([field, value]) => body[field as keyof typeof body] === value) &&
            Number(position) > Number(range.after ?? 0) &&
            Number(position) <= Number(range.upTo ?? rows.length),
        );
        // One that this list lacks, and then one that the next list holds.
        const at = level.options.indexOf(where.level as ActivityDocument['level']);
        if (at >= 0 && rows.length < 50) for (const of of level.options.slice(at, at + 2)) add(of);
        return { documents: found.reverse().slice(0, limit) as unknown as Stored<Body>[], next: null };
      },
    };
    const reads = presentReads(readModels);
    const seen: string[] = [];
    let after: string | undefined;
    add(level.options[0]!);
    for (let poll = 0; poll < 50 && seen.at(-1) !== rows.at(-1)!.position; poll++) {
      const entries = await reads.activity({ category: 'error' }, { after, limit: 200 });
      seen.push(...entries.map(({ position }) => position).reverse());
      after = entries[0]?.position ?? after;
    }
    expect(rows).to.have.length.above(49);
    expect(seen).to.deep.equal(rows.map(({ position }) => position));
  });
});
