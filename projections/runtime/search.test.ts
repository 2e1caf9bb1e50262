import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { type NewEvent, type Position, START } from '../../contracts/envelope.ts';
import type { ProjectionRuntime } from '../../contracts/projections.ts';
import { createInProcessSignalBus } from '../../infra/bus/in-process.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import { openSqliteEventStore } from '../../infra/event-store/sqlite.ts';
import { vectorOf } from '../../infra/search/conformance.ts';
import { type Embedder, EmbedderUnavailable, type SearchIndex } from '../../infra/search/port.ts';
import { openSqliteSearchIndex } from '../../infra/search/sqlite.ts';
import { condition } from '../../test/program.ts';
import { remoteSearchIndexing, type SearchIndexing, startSearchIndexing, withPart } from './search.ts';

const within = { withinMs: 10_000 };

/** Each first letter is a direction of its own. */
function testEmbedder() {
  const embedder = {
    model: 'test',
    dimensions: 32,
    /** Texts that were asked for. */
    asked: [] as string[],
    /** What makes it throw, for a text. */
    fault: (_text: string): Error | null => null,
    /** Waited for before each answer. */
    hold: Promise.resolve() as Promise<void>,
    async embed(texts: readonly string[]) {
      await embedder.hold;
      embedder.asked.push(...texts);
      for (const text of texts) {
        const fault = embedder.fault(text);
        if (fault !== null) throw fault;
      }
      return texts.map((text) => [vectorOf(text.charCodeAt(0))]);
    },
    close: async () => {},
  } satisfies Embedder & Record<string, unknown>;
  return embedder;
}

describe('indexing for searches', () => {
  let directory: string;
  let store: EventStore;
  let embedder: ReturnType<typeof testEmbedder>;
  const signals = createInProcessSignalBus({ onError: () => {} });
  const opened: { index: SearchIndex; indexing: SearchIndexing }[] = [];
  const errors: string[] = [];

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'odeon-indexing-'));
    store = await openSqliteEventStore({ directory });
    embedder = testEmbedder();
    errors.length = 0;
  });
  afterEach(async () => {
    for (const one of opened.splice(0)) await close(one);
    await store.close();
    await rm(directory, { recursive: true });
  });

  function start() {
    const index = openSqliteSearchIndex({ file: join(directory, 'search.db'), model: 'test' });
    const onError = (error: Error) => void errors.push(error.message);
    const one = { index, indexing: startSearchIndexing({ store, index, embedder, signals, onError }) };
    opened.push(one);
    return one;
  }
  async function close({ index, indexing }: (typeof opened)[number]): Promise<void> {
    await indexing.stop();
    await index.close();
  }

  async function append(conversation: string, type: string, data: unknown, owner = 'ada'): Promise<Position> {
    const id = randomUUID();
    const event: NewEvent = {
      id,
      type,
      schemaVersion: 1,
      owner,
      actor: { kind: 'user', id: owner },
      correlationId: id,
      causationId: null,
      commandId: id,
      surface: 'odeon',
      data,
    };
    const stream = `conversation-${conversation}`;
    return (await store.append(stream, [event], { expectedRevision: 'any' })).position;
  }
  const say = (content: string, conversation = 'c', owner = 'ada') =>
    append(
      conversation,
      'MessageSent',
      { messageId: `id of ${content}`, turnId: 't', content, model: null },
      owner,
    );

  const find = async (index: SearchIndex, text: string, asOf?: Position): Promise<string[]> => {
    const { hits } = await index.search({
      owner: 'ada',
      text,
      vectors: [],
      minScore: 0,
      limit: 100,
      ...(asOf !== undefined && { asOf }),
    });
    return hits.map(({ content }) => content);
  };
  const reached = async (indexing: SearchIndexing) =>
    expect(await indexing.waitFor(await store.head(), 10_000)).to.equal(true);

  it('follows the log, and says how far it is', async () => {
    await say('alpha one');
    const { index, indexing } = start();
    await reached(indexing);
    expect(await find(index, 'one')).to.deep.equal(['alpha one']);
    await append('c', 'ConversationRenamed', { title: 'A title' });
    await append('c', 'SomethingElse', {});
    await say('beta one');
    await reached(indexing);
    expect(await find(index, 'one')).to.deep.equal(['beta one', 'alpha one']);
    expect(await indexing.status()).to.deep.equal({
      name: 'search',
      version: 1,
      state: 'live',
      position: await store.head(),
      lag: 0,
      seen: 3,
      expected: 3,
      complete: true,
      failed: 0,
      waiting: 0,
      problem: null,
      rebuild: null,
    });
    await append('c', 'ConversationDeleted', {});
    await reached(indexing);
    expect(await find(index, 'one')).to.deep.equal([]);
    expect(errors).to.deep.equal([]);
  });

  it('leaves out what runs of agents and visitors say, and empty answers', async () => {
    const started = { title: 'Run', mode: 'assistant', model: null, agent: null, linkId: null };
    await append('r', 'ConversationStarted', { ...started, kind: 'run' });
    await append('p', 'ConversationStarted', { ...started, kind: 'public' });
    await say('one', 'r');
    await say('one', 'p');
    await say('  ', 'c');
    const { index, indexing } = start();
    await reached(indexing);
    expect(await index.count()).to.equal(0);
    expect((await indexing.status()).complete).to.equal(true);
  });

  it('does not wait for ever, and not at all for what is there', async () => {
    const { indexing } = start();
    expect(await indexing.waitFor(START, 0)).to.equal(true);
    expect(await indexing.waitFor('99', 20)).to.equal(false);
  });

  it('goes on from where it was when it starts again', async () => {
    await say('alpha');
    const first = start();
    await reached(first.indexing);
    await close(first);
    await say('beta');
    embedder.asked.length = 0;
    const { index, indexing } = start();
    await reached(indexing);
    expect(embedder.asked).to.deep.equal(['beta']);
    expect(await index.count()).to.equal(2);
  });

  it('rebuilds beside the live index, and gives the same results after it', async () => {
    for (let n = 0; n < 40; n++) await say(`note ${n}`);
    await append('d', 'ConversationDeleted', {});
    const { index, indexing } = start();
    await reached(indexing);
    const before = await find(index, 'note');
    expect(before).to.have.length(40);

    const gate = Promise.withResolvers<void>();
    embedder.hold = gate.promise;
    await indexing.rebuild();
    await indexing.rebuild(); // joins the one that runs
    await condition(async () => (await index.copies()).length === 2, within);
    const status = await indexing.status();
    expect(status).to.deep.include({ state: 'rebuilding', lag: 0, seen: 41, complete: true });
    expect(status.rebuild).to.deep.include({ lag: 41, failed: 0 });
    expect(await find(index, 'note')).to.deep.equal(before);
    const head = await say('note 40');
    gate.resolve();
    await condition(async () => (await indexing.status()).rebuild === null, within);
    expect(await indexing.waitFor(head, 10_000)).to.equal(true);
    expect(await index.copies()).to.have.length(1);
    expect(await find(index, 'note')).to.deep.equal(['note 40', ...before]);
    expect(await find(index, 'note', String(Number(head) - 1))).to.deep.equal(before);
    expect(await indexing.status()).to.include({ seen: 42, expected: 42, state: 'live' });
  });

  it('goes on with a rebuild that was stopped', async () => {
    for (let n = 0; n < 40; n++) await say(`note ${n}`);
    const first = start();
    await reached(first.indexing);
    const [live] = await first.index.copies();
    const gate = Promise.withResolvers<void>();
    embedder.hold = gate.promise;
    await first.indexing.rebuild();
    const stopped = close(first);
    gate.resolve();
    await stopped;
    const { index, indexing } = start();
    await condition(async () => (await index.copies()).every(({ copy }) => copy !== live!.copy), within);
    await reached(indexing);
    expect(await find(index, 'note')).to.have.length(40);
  });

  it('sets aside what cannot be indexed, shows it, and tries it again when asked', async () => {
    embedder.fault = (text) => (text.includes('poison') ? new Error('No vector for that') : null);
    await say('alpha one');
    await say('poison one');
    await append('c', 'MessageSent', { content: 7 });
    await say('beta one');
    const { index, indexing } = start();
    await reached(indexing);
    expect(await find(index, 'one')).to.deep.equal(['beta one', 'alpha one']);
    expect(await indexing.status()).to.include({ failed: 2, seen: 4, complete: true, problem: null });
    expect(await indexing.failures())
      .to.deep.include.members([])
      .and.to.have.length(2);
    const [poisoned, malformed] = await indexing.failures();
    expect(poisoned).to.include({ documentId: 'id of poison one', error: 'No vector for that' });
    expect(malformed!.error).to.match(/content/);
    expect(errors).to.have.length(2);

    embedder.fault = () => null;
    expect(await indexing.retry()).to.deep.equal({ applied: 1, failed: 1, waiting: 0 });
    expect(await find(index, 'one')).to.deep.equal(['beta one', 'poison one', 'alpha one']);
  });

  it('sets nothing aside while the model cannot be run, says so, and goes on', async () => {
    embedder.fault = () => new EmbedderUnavailable('The model is gone');
    await say('alpha');
    const { index, indexing } = start();
    await condition(async () => (await indexing.status()).problem === 'The model is gone', within);
    expect(await indexing.status()).to.include({ failed: 0, seen: 0, state: 'catching up', lag: 1 });
    embedder.fault = () => null;
    await reached(indexing);
    expect(await find(index, 'alpha')).to.deep.equal(['alpha']);
    expect((await indexing.status()).problem).to.equal(null);
  });

  it('begins anew when the index knows of more than the log holds', async () => {
    const ahead = openSqliteSearchIndex({ file: join(directory, 'search.db'), model: 'test' });
    await ahead.lead();
    const [live] = await ahead.copies();
    await ahead.write({ copy: live!.copy, changes: [], position: '900' });
    const other = await ahead.createCopy();
    await ahead.write({ copy: other.copy, changes: [], position: '800' });
    await ahead.close();
    await say('alpha');
    const { index, indexing } = start();
    await condition(async () => (await find(index, 'alpha')).length === 1, within);
    expect(await indexing.status()).to.include({ position: '1', seen: 1, complete: true });
  });

  it('lets one of several processes write, and another when that one has ended', async () => {
    const first = start();
    await say('alpha');
    await reached(first.indexing);
    const second = start();
    await reached(second.indexing);
    await say('beta');
    await reached(second.indexing);
    expect(embedder.asked).to.deep.equal(['alpha', 'beta']);
    await close(first);
    await say('gamma');
    await reached(second.indexing);
    expect(await second.index.count()).to.equal(3);
  });

  it('hears of rebuilds and retries that are asked for in another process', async () => {
    embedder.fault = (text) => (text === 'poison' ? new Error('No') : null);
    await say('poison');
    const { index, indexing } = start();
    await reached(indexing);
    embedder.fault = () => null;
    const remote = remoteSearchIndexing(signals);
    expect(await remote.retry()).to.deep.equal({ applied: 1, failed: 0, waiting: 0 });
    const [before] = await index.copies();
    await remote.rebuild();
    await condition(async () => (await index.copies()).every(({ copy }) => copy !== before!.copy), within);
    await close(opened.pop()!);
    const failure = await remote.retry().catch((error: unknown) => error);
    expect(failure).to.include({ code: 'SERVICE_UNAVAILABLE' });
  });

  it('stands beside the other projections, and no command waits for it', async () => {
    const gate = Promise.withResolvers<void>();
    embedder.hold = gate.promise;
    const { indexing } = start();
    const asked: string[] = [];
    const others = {
      waitFor: async () => true,
      position: () => '7',
      status: async () => [],
      rebuild: async (name: string) => void asked.push(`rebuild ${name}`),
      failures: async () => [],
      retry: async (name: string) => {
        asked.push(`retry ${name}`);
        return { applied: 0, failed: 0, waiting: 0 };
      },
      stop: async () => {},
    } satisfies ProjectionRuntime;
    const joined = withPart(others, indexing);
    const position = await say('alpha');
    expect(await joined.waitFor(position, 0)).to.equal(true);
    expect(joined.position()).to.equal('7');
    expect((await joined.status()).map(({ name }) => name)).to.deep.equal(['search']);
    await joined.rebuild('messages');
    await joined.retry('messages');
    expect(asked).to.deep.equal(['rebuild messages', 'retry messages']);
    expect(await joined.failures('search')).to.deep.equal([]);
    gate.resolve();
    await reached(indexing);
  });
});
