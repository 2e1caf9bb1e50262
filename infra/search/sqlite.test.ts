import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { StoreUnavailable } from '../event-store/port.ts';
import { searchIndexConformance, vectorOf } from './conformance.ts';
import type { IndexChange, SearchIndex } from './port.ts';
import { openSqliteSearchIndex } from './sqlite.ts';

async function openTemporary() {
  const directory = await mkdtemp(join(tmpdir(), 'odeon-search-'));
  const file = join(directory, 'search.db');
  const opened: SearchIndex[] = [];
  const open = (model = 'test') => {
    const index = openSqliteSearchIndex({ file, model });
    opened.push(index);
    return index;
  };
  return {
    file,
    index: open(),
    open,
    async reopen() {
      await opened[0]!.close();
      return open();
    },
    another: async () => open(),
    async destroy() {
      for (const index of opened) await index.close();
      await rm(directory, { recursive: true });
    },
  };
}

searchIndexConformance('SQLite', { open: openTemporary });

const hello: IndexChange = {
  kind: 'message',
  position: '1',
  message: {
    id: 'm1',
    conversationId: 'c1',
    owner: 'ada',
    role: 'user',
    model: null,
    text: 'hello',
    time: '2026-01-01T00:00:00.000Z',
    vectors: [vectorOf(1)],
  },
};

describe('a search index in SQLite', () => {
  let opened: Awaited<ReturnType<typeof openTemporary>>;
  beforeEach(async () => {
    opened = await openTemporary();
  });
  afterEach(() => opened.destroy());

  it('begins anew where the vectors are of another model', async () => {
    const { index, open } = opened;
    await index.lead();
    const [live] = await index.copies();
    await index.write({ copy: live!.copy, changes: [hello], position: '1' });
    await index.close();
    const other = open('another');
    await other.lead();
    expect((await other.copies())[0]).to.include({ live: true, position: '0', seen: 0 });
    expect(await other.count()).to.equal(0);
  });

  it('begins anew where the file is damaged', async () => {
    await writeFile(opened.file, 'not a database, but long enough to be taken for one '.repeat(100));
    const failure = await opened.index.copies().catch((error: unknown) => error);
    expect(failure).to.be.instanceOf(StoreUnavailable);
    expect(await opened.index.lead()).to.equal(true);
    expect(await opened.index.copies()).to.have.length(1);
    expect(await opened.index.count()).to.equal(0);
  });

  it('says so when it is closed', async () => {
    await opened.index.lead();
    await opened.index.close();
    const failure = await opened.index.count().catch((error: unknown) => error);
    expect(failure).to.be.instanceOf(StoreUnavailable);
    expect((failure as Error).message)
      .to.include(opened.file)
      .and.include('closed');
  });
});
