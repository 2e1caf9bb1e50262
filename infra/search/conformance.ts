/** What every adapter of the search index must do. An adapter's test hands in how to open an empty index. */
import { expect } from 'chai';
import fc from 'fast-check';
import { START } from '../../contracts/envelope.ts';
import type { IndexChange, IndexCopy, IndexQuery, SearchFound, SearchIndex } from './port.ts';

/** The suite's vectors have so many dimensions. */
export const DIMENSIONS = 32;

export interface IndexUnderTest {
  /** Opens an empty index. `reopen` closes it and opens the same data again; `another` as another process does. */
  open(): Promise<{
    index: SearchIndex;
    reopen(): Promise<SearchIndex>;
    another(): Promise<SearchIndex>;
    destroy(): Promise<void>;
  }>;
}

/** A direction for each topic; the same at every run. */
export function vectorOf(topic: number, nearness = 1, beside = topic + 1): Float32Array {
  const pure = (seed: number): Float32Array => {
    let state = (seed * 2_654_435_761 + 1) >>> 0;
    return Float32Array.from({ length: DIMENSIONS }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state / 2 ** 31 - 1;
    });
  };
  const [own, other] = [pure(topic), pure(beside)];
  const mixed = own.map((value, index) => nearness * value + (1 - nearness) * other[index]!);
  const length = Math.hypot(...mixed);
  return mixed.map((value) => value / length);
}

const at = (minute: number): string => new Date(Date.UTC(2026, 0, 1, 0, minute)).toISOString();

interface Said {
  readonly owner?: string;
  readonly conversationId?: string;
  readonly role?: 'user' | 'assistant';
  readonly model?: string | null;
  readonly text?: string;
  readonly topic?: number;
  readonly vectors?: readonly Float32Array[];
}

const said = (position: number, given: Said = {}): IndexChange => {
  const { owner = 'ada', role = 'user', model = null, text = `text ${position}`, topic = position } = given;
  return {
    kind: 'message',
    position: String(position),
    message: {
      id: `m${position}`,
      conversationId: given.conversationId ?? `of-${owner}`,
      owner,
      role,
      model,
      text,
      time: at(position),
      vectors: given.vectors ?? [vectorOf(topic)],
    },
  };
};
const deleted = (position: number, conversationId: string): IndexChange => ({
  kind: 'deleted',
  position: String(position),
  conversationId,
});

const query = (given: Partial<IndexQuery> = {}): IndexQuery => ({
  owner: 'ada',
  text: '',
  vectors: [],
  minScore: 0,
  limit: 100,
  ...given,
});
const ids = ({ hits }: SearchFound): string[] => hits.map(({ id }) => id);

export function searchIndexConformance(name: string, { open }: IndexUnderTest): void {
  describe(`${name} as a search index`, () => {
    let opened: Awaited<ReturnType<IndexUnderTest['open']>>;
    let index: SearchIndex;
    let live: IndexCopy;
    beforeEach(async () => {
      opened = await open();
      index = opened.index;
      expect(await index.lead()).to.equal(true);
      live = (await index.copies())[0]!;
    });
    afterEach(() => opened.destroy());

    const put = async (...changes: IndexChange[]): Promise<void> => {
      live = await index.write({ copy: live.copy, changes, position: changes.at(-1)!.position });
    };

    describe('writing', () => {
      it('begins with an empty live copy at the start of the log', async () => {
        expect(await index.copies()).to.deep.equal([
          { copy: live.copy, live: true, position: START, seen: 0, failed: 0 },
        ]);
        expect(await index.search(query({ vectors: [vectorOf(1)] }))).to.deep.equal({
          hits: [],
          total: 0,
          position: START,
        });
      });

      it('keeps a batch with its checkpoint', async () => {
        await put(said(3), { kind: 'nothing', position: '5' }, said(9));
        expect(live).to.include({ position: '9', seen: 3, failed: 0 });
        index = await opened.reopen();
        expect(await index.copies()).to.deep.equal([live]);
        expect(await index.count()).to.equal(2);
        expect(ids(await index.search(query({ vectors: [vectorOf(9)], minScore: 0.9 })))).to.deep.equal([
          'm9',
        ]);
      });

      it('moves the checkpoint without an event', async () => {
        live = await index.write({ copy: live.copy, changes: [], position: '12' });
        expect(live).to.include({ position: '12', seen: 0 });
      });

      it('puts nothing in twice', async () => {
        await put(said(1), said(2));
        await put(said(1), said(2), said(3));
        expect(live.seen).to.equal(3);
        expect(await index.count()).to.equal(3);
        expect(ids(await index.search(query({ text: 'text' })))).to.deep.equal(['m3', 'm2', 'm1']);
      });

      it('keeps nothing of a batch that fails', async () => {
        const bad = said(2, { vectors: [null as unknown as Float32Array] });
        const failure = await put(said(1), bad).catch((error: unknown) => error);
        expect(failure).to.be.instanceOf(Error);
        expect(await index.copies()).to.deep.equal([live]);
        expect(await index.count()).to.equal(0);
      });

      it('refuses a copy that is not there', async () => {
        const failure = await index
          .write({ copy: '99', changes: [], position: '1' })
          .catch((error: unknown) => error);
        expect(failure).to.be.instanceOf(Error);
      });

      it('sets events aside, and applies them in their place in the log', async () => {
        const event = {
          position: '2',
          eventId: 'e2',
          eventType: 'MessageSent',
          documentId: 'm2',
          error: 'broken',
          failedAt: at(2),
        };
        await put(said(1), { kind: 'failed', position: '2', event }, said(3));
        expect(live).to.include({ seen: 3, failed: 1, position: '3' });
        expect(await index.setAside(live.copy, 10)).to.deep.equal([event]);
        expect(await index.setAside(live.copy, 0)).to.deep.equal([]);
        const again = { ...event, error: 'still broken' };
        const retry = (change: IndexChange) =>
          index.write({ copy: live.copy, changes: [change], position: null });
        live = await retry({ kind: 'failed', position: '2', event: again });
        expect(await index.setAside(live.copy, 10)).to.deep.equal([again]);
        live = await retry(said(2));
        expect(live).to.include({ seen: 3, failed: 0, position: '3' });
        expect(ids(await index.search(query({ text: 'text' })))).to.deep.equal(['m3', 'm2', 'm1']);
        expect(ids(await index.search(query({ text: 'text', asOf: '2' })))).to.deep.equal(['m2', 'm1']);
      });
    });

    describe('one writer', () => {
      it('lets another write once this one is closed; till then it may search', async () => {
        await put(said(1));
        const other = await opened.another();
        expect(await other.lead()).to.equal(false);
        expect(await other.copies()).to.deep.equal([live]);
        expect(ids(await other.search(query({ vectors: [vectorOf(1)] })))).to.deep.equal(['m1']);
        const refused = await other
          .write({ copy: live.copy, changes: [], position: '2' })
          .catch((error: unknown) => error);
        expect(refused).to.be.instanceOf(Error);
        await put(said(2));
        expect(ids(await other.search(query({ text: 'text' })))).to.deep.equal(['m2', 'm1']);
        await index.close();
        expect(await other.lead()).to.equal(true);
        await other.write({ copy: live.copy, changes: [said(3)], position: '3' });
        expect(await other.count()).to.equal(3);
      });
    });

    describe('copies', () => {
      it('fills one beside the live one, and switches to it at once', async () => {
        await put(said(1), said(2));
        const made = await index.createCopy();
        expect(made).to.include({ live: false, position: START, seen: 0 });
        expect(await index.createCopy()).to.deep.equal(made);
        await index.write({ copy: made.copy, changes: [said(1)], position: '1' });
        expect(await index.count()).to.equal(2);
        index = await opened.reopen();
        expect(await index.lead()).to.equal(true);
        expect((await index.copies()).map((copy) => copy.position)).to.have.members(['2', '1']);
        await index.activate(made.copy);
        expect(await index.copies()).to.deep.equal([{ ...made, live: true, position: '1', seen: 1 }]);
        expect(ids(await index.search(query({ text: 'text' })))).to.deep.equal(['m1']);
      });
    });

    describe('searching', () => {
      it('ranks by meaning: 1 for the same, near 0 for what is unrelated', async () => {
        await put(
          said(1, { vectors: [vectorOf(1, 0.6, 50)] }),
          said(2, { vectors: [vectorOf(1)] }),
          said(3, { vectors: [vectorOf(1, 0.8, 51)] }),
          said(4, { vectors: [vectorOf(60)] }),
        );
        const found = await index.search(query({ vectors: [vectorOf(1)] }));
        expect(ids(found).slice(0, 3)).to.deep.equal(['m2', 'm3', 'm1']);
        expect(found.hits[0]!.score).to.equal(1);
        expect(found.hits.slice(3).every(({ score }) => score < 0.35)).to.equal(true);
        expect(found.total).to.equal(found.hits.length);
      });

      it('takes the best passage of a message', async () => {
        await put(said(1, { vectors: [vectorOf(7), vectorOf(8), vectorOf(9)] }), said(2, { topic: 40 }));
        for (const topic of [7, 8, 9]) {
          const { hits } = await index.search(query({ vectors: [vectorOf(topic)], limit: 1 }));
          expect(hits).to.deep.include.members([{ ...hits[0]!, id: 'm1', score: 1 }]);
        }
      });

      it('ranks by words, whatever their case and accents, and rare ones before frequent ones', async () => {
        await put(
          ...Array.from({ length: 20 }, (_, n) => said(n + 1, { text: 'the common note' })),
          said(30, { text: 'the Café by the river' }),
          said(31, { text: 'a common CAFE' }),
          said(32, { text: 'ζωή 図書館で本 🚀 x' }),
        );
        const found = await index.search(query({ text: 'cafe common' }));
        expect(ids(found).slice(0, 2)).to.deep.equal(['m31', 'm30']);
        expect(found.hits[0]!.score).to.equal(0.5);
        for (const text of ['図', 'ΖΩΉ', '🚀', 'X']) {
          expect(ids(await index.search(query({ text }))), text).to.deep.equal(['m32']);
        }
        expect(ids(await index.search(query({ text: 'caf' }))), 'whole words').to.deep.equal([]);
      });

      it('joins both: each makes a score higher, and neither lowers it', async () => {
        await put(
          said(1, { text: 'alpha', vectors: [vectorOf(1, 0.7, 50)] }),
          said(2, { text: 'beta', vectors: [vectorOf(1, 0.7, 50)] }),
          said(3, { text: 'alpha', vectors: [vectorOf(50)] }),
        );
        const { hits } = await index.search(query({ text: 'alpha', vectors: [vectorOf(1)] }));
        const scoreOf = (id: string) => hits.find((hit) => hit.id === id)?.score ?? 0;
        expect(scoreOf('m1')).to.be.above(scoreOf('m2')).and.above(scoreOf('m3'));
        expect(hits.map(({ score }) => score)).to.deep.equal(
          hits.map(({ score }) => score).toSorted((a, b) => b - a),
        );
      });

      it('leaves out what has less than the least score, and counts the rest', async () => {
        await put(
          ...Array.from({ length: 9 }, (_, n) => said(n + 1, { vectors: [vectorOf(1, (n + 1) / 9)] })),
        );
        const all = await index.search(query({ vectors: [vectorOf(1)] }));
        const least = all.hits[3]!.score;
        const some = await index.search(query({ vectors: [vectorOf(1)], minScore: least }));
        expect(some.hits).to.deep.equal(all.hits.filter(({ score }) => score >= least));
        expect(some.total).to.equal(some.hits.length);
        const one = await index.search(query({ vectors: [vectorOf(1)], minScore: least, limit: 1 }));
        expect(one).to.deep.include({ hits: some.hits.slice(0, 1), total: some.total });
      });

      it('filters by conversation, role, model and time', async () => {
        await put(
          said(1, { conversationId: 'a' }),
          said(2, { conversationId: 'a', role: 'assistant', model: 'm-1' }),
          said(3, { conversationId: 'b' }),
          said(4, { conversationId: 'b', role: 'assistant', model: 'm-2' }),
        );
        const minute = (number: number) => Date.parse(at(number));
        const cases: readonly [Partial<IndexQuery>, string[]][] = [
          [{}, ['m4', 'm3', 'm2', 'm1']],
          [{ conversationId: 'a' }, ['m2', 'm1']],
          [{ conversationId: 'c' }, []],
          [{ role: 'user' }, ['m3', 'm1']],
          [{ model: 'm-2' }, ['m4']],
          [{ model: 'm-2', conversationId: 'a' }, []],
          [{ from: minute(2) }, ['m4', 'm3', 'm2']],
          [{ before: minute(2) }, ['m1']],
          [{ from: minute(2), before: minute(4), role: 'user' }, ['m3']],
        ];
        for (const [filters, expected] of cases) {
          const byWords = await index.search(query({ text: 'text', ...filters }));
          expect(ids(byWords), JSON.stringify(filters)).to.deep.equal(expected);
          const byMeaning = await index.search(
            query({ vectors: [1, 2, 3, 4].map((n) => vectorOf(n)), ...filters }),
          );
          expect(expected, JSON.stringify(filters)).to.include.members(ids(byMeaning));
        }
      });

      it('shows a message as it was said, or its beginning, under the title of its conversation', async () => {
        await put(
          { kind: 'title', position: '1', conversationId: 'a', title: 'First' },
          said(2, { conversationId: 'a', text: 'short', role: 'assistant', model: 'm-1' }),
          { kind: 'title', position: '3', conversationId: 'a', title: 'Second' },
          said(4, { conversationId: 'b', text: `start ${'x'.repeat(20_000)} end` }),
        );
        const [short] = (await index.search(query({ text: 'short' }))).hits;
        expect(short).to.deep.equal({
          id: 'm2',
          conversationId: 'a',
          owner: 'ada',
          role: 'assistant',
          model: 'm-1',
          content: 'short',
          time: at(2),
          title: 'Second',
          score: 0.5,
        });
        expect((await index.search(query({ text: 'short', asOf: '2' }))).hits[0]!.title).to.equal('First');
        const [long] = (await index.search(query({ text: 'end' }))).hits;
        expect(long).to.include({ id: 'm4', title: null });
        expect(long!.content)
          .to.have.length(8_001)
          .and.match(/^start x+…$/);
      });

      it('forgets deleted conversations, and remembers them for the time before', async () => {
        await put(said(1, { conversationId: 'a' }), said(2, { conversationId: 'b' }));
        await put(deleted(3, 'a'), said(4, { conversationId: 'a' }), deleted(5, 'never seen'));
        const found = async (asOf?: string) =>
          ids(await index.search(query({ text: 'text', ...(asOf !== undefined && { asOf }) })));
        expect(await found()).to.deep.equal(['m2']);
        expect(await found('4')).to.deep.equal(['m2']);
        expect(await found('2')).to.deep.equal(['m2', 'm1']);
        expect(await found('1')).to.deep.equal(['m1']);
        expect(await found(START)).to.deep.equal([]);
        expect(ids(await index.search(query({ vectors: [vectorOf(1)], asOf: '2' })))).to.include('m1');
        expect(ids(await index.search(query({ vectors: [vectorOf(1)] })))).not.to.include('m1');
      });

      it('orders positions of two numbers as the log does', async () => {
        const message = said(1) as Extract<IndexChange, { kind: 'message' }>;
        const placed = (position: string, id: string): IndexChange => ({
          ...message,
          position,
          message: { ...message.message, id },
        });
        await put(placed('99-5', 'first'), placed('100-20', 'second'), placed('100-100', 'third'));
        const asOf = (position: string) => index.search(query({ text: 'text', asOf: position }));
        expect(ids(await asOf('99-5'))).to.deep.equal(['first']);
        expect(ids(await asOf('100-99'))).to.deep.equal(['second', 'first']);
        expect(ids(await asOf('101'))).to.deep.equal(['third', 'second', 'first']);
      });

      it('takes any text for words, and none for a query of its own', async () => {
        await put(said(1, { text: 'alpha "beta" (gamma) NEAR/2 delta* OR col:umn ^ -x' }));
        const hostile = [
          '"', "'", '""', '*', 'alpha*', 'NEAR(', 'a AND', 'OR', 'words:alpha', '^', '-', '{', '\u0000', '\ud800',
          '; DROP TABLE copies', 'alpha_1', '_1', '%', '🎉'.repeat(1_000), 'q'.repeat(32_768), 'w '.repeat(16_384),
          Array.from({ length: 3_000 }, (_, n) => `word${n}`).join(' '),
        ]; // biome-ignore format: a list of oddities
        for (const text of hostile) await index.search(query({ text }));
        expect(ids(await index.search(query({ text: '"gamma' })))).to.deep.equal(['m1']);
        expect(ids(await index.search(query({ text: 'OR' }))), 'stop words alone').to.deep.equal(['m1']);
        await fc.assert(
          fc.asyncProperty(fc.string({ unit: 'binary' }), async (text) => {
            await index.search(query({ text }));
          }),
          { numRuns: 100 },
        );
      });
    });

    describe('properties', () => {
      const OWNERS = ['ada', 'bob', 'eve'];
      const WORDS = ['alpha', 'beta', 'gamma', 'delta'];
      const step = fc.record({
        owner: fc.constantFrom(...OWNERS),
        conversation: fc.integer({ min: 1, max: 2 }),
        words: fc.array(fc.constantFrom(...WORDS), { minLength: 1, maxLength: 3 }),
        topic: fc.integer({ min: 1, max: 6 }),
        deletes: fc.integer({ min: 0, max: 9 }).map((number) => number === 0),
        gap: fc.integer({ min: 1, max: 12 }),
      });
      const steps = fc.array(step, { minLength: 1, maxLength: 25 });
      const changesOf = (given: typeof steps extends fc.Arbitrary<infer Steps> ? Steps : never) => {
        let position = 0;
        return given.map(({ owner, conversation, words, topic, deletes, gap }): IndexChange => {
          position += gap;
          const conversationId = `${owner}-${conversation}`;
          return deletes
            ? deleted(position, conversationId)
            : said(position, { owner, conversationId, text: words.join(' '), topic });
        });
      };
      const asked = fc.record({
        owner: fc.constantFrom(...OWNERS, null),
        text: fc.constantFrom('', ...WORDS, 'alpha gamma'),
        topic: fc.integer({ min: 0, max: 6 }),
      });
      const queryOf = ({ owner, text, topic }: { owner: string | null; text: string; topic: number }) =>
        query({ owner, text, vectors: topic === 0 ? [] : [vectorOf(topic)] });

      it('never shows what belongs to somebody else, nor lets it change a score', async () => {
        await fc.assert(
          fc.asyncProperty(steps, asked, async (given, question) => {
            const { copy } = await index.createCopy();
            const alone = changesOf(given);
            await index.write({ copy, changes: alone, position: alone.at(-1)!.position });
            await index.activate(copy);
            const found = await index.search(queryOf(question));
            if (question.owner === null) return;
            for (const { owner } of found.hits) expect(owner).to.equal(question.owner);
            const own = await index.createCopy();
            const ofOwner = alone.map(
              (change): IndexChange =>
                change.kind === 'message' && change.message.owner !== question.owner
                  ? { kind: 'nothing', position: change.position }
                  : change,
            );
            await index.write({ copy: own.copy, changes: ofOwner, position: alone.at(-1)!.position });
            await index.activate(own.copy);
            expect(await index.search(queryOf(question))).to.deep.equal(found);
          }),
          { numRuns: 30 },
        );
      });

      it('answers for the past what an index says that was built up to there', async () => {
        await fc.assert(
          fc.asyncProperty(steps, asked, fc.double({ min: 0, max: 1, noNaN: true }), async (...given) => {
            const [stepsGiven, question, share] = given;
            const changes = changesOf(stepsGiven);
            const cut = Math.floor(share * changes.length);
            const asOf = cut === 0 ? START : changes[cut - 1]!.position;
            const whole = await index.createCopy();
            await index.write({ copy: whole.copy, changes, position: changes.at(-1)!.position });
            await index.activate(whole.copy);
            const past = await index.search({ ...queryOf(question), asOf });
            const part = await index.createCopy();
            await index.write({ copy: part.copy, changes: changes.slice(0, cut), position: asOf });
            await index.activate(part.copy);
            const present = await index.search(queryOf(question));
            expect({ hits: past.hits, total: past.total }).to.deep.equal({
              hits: present.hits,
              total: present.total,
            });
          }),
          { numRuns: 30 },
        );
      });
    });
  });
}
