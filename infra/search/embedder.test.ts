import { expect } from 'chai';
import fc from 'fast-check';
import { condition } from '../../test/program.ts';
import { createEmbedder, passagesOf } from './embedder.ts';
import { EmbedderUnavailable } from './port.ts';

const cosine = (a: Float32Array, b: Float32Array): number =>
  a.reduce((sum, value, index) => sum + value * b[index]!, 0);

describe('the embedding model', () => {
  const embedder = createEmbedder();
  after(() => embedder.close());

  it('brings together what means the same in other words', async () => {
    const [csv, table, weather] = (
      await embedder.embed([
        'How do I read a CSV file in Python?',
        'Loading comma-separated values with pandas',
        'The weather in Zagreb is sunny today.',
      ])
    ).map((vectors) => vectors[0]!);
    expect(csv).to.have.length(embedder.dimensions);
    expect(cosine(csv!, csv!)).to.be.closeTo(1, 1e-4);
    expect(cosine(csv!, table!)).to.be.above(cosine(csv!, weather!) + 0.2);
  });

  it('gives the same vectors whatever is asked for beside', async () => {
    const texts = ['one', 'a much longer text '.repeat(10), 'two and three'];
    const together = await embedder.embed(texts);
    for (const [index, text] of texts.entries()) {
      const [alone] = await embedder.embed([text], { urgent: true });
      for (const [at, value] of alone![0]!.entries()) {
        expect(value).to.be.closeTo(together[index]![0]![at]!, 1e-5);
      }
    }
  });

  it('ends its thread when nothing has come for a while, and starts it again', async () => {
    const idle = createEmbedder({ idleMs: 1 });
    const threads = () => process.getActiveResourcesInfo().filter((name) => name === 'MessagePort').length;
    const others = threads();
    const [first] = await idle.embed(['hello']);
    await condition(() => threads() === others, { withinMs: 5_000, what: 'the end of the thread' });
    expect(await idle.embed(['hello'])).to.deep.equal([first]);
    await idle.close();
  });

  it('takes any text; one without a sign has no vector', async () => {
    const texts = [
      '',
      ' \n\u0000',
      '\ud800',
      '🎉'.repeat(500),
      '日本語'.repeat(200),
      '\u200b',
      '\ufe0f',
      'x'.repeat(9_000),
    ];
    const vectors = await embedder.embed(texts);
    expect(vectors.map(({ length }) => length)).to.deep.equal([0, 0, 1, 5, 3, 1, 1, 8]);
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'binary', maxLength: 60 }), async (text) => {
        for (const vector of (await embedder.embed([text]))[0]!) {
          expect(cosine(vector, vector)).to.be.closeTo(1, 1e-3);
        }
      }),
      { numRuns: 40 },
    );
    expect(await embedder.embed([])).to.deep.equal([]);
  });

  it('cuts long texts where sentences or words end', () => {
    const sentence = 'All of this is one sentence that goes on for a while.';
    const passages = passagesOf(Array(20).fill(sentence).join(' '));
    expect(passages.join(' ')).to.equal(Array(20).fill(sentence).join(' '));
    for (const passage of passages) expect(passage).to.match(/^All.*while\.$/);
    fc.assert(
      fc.property(fc.array(fc.string({ minLength: 1, maxLength: 90 }), { maxLength: 80 }), (words) => {
        const text = words
          .join(' ')
          .replace(/[\s\p{Cc}]+/gu, ' ')
          .trim();
        const cut = passagesOf(words.join(' '));
        expect(cut.every((passage) => passage !== '' && passage.length <= 240)).to.equal(true);
        if (cut.length < 8) expect(cut.join('').replaceAll(' ', '')).to.equal(text.replaceAll(' ', ''));
      }),
    );
    expect(passagesOf('x'.repeat(1_000_000))).to.have.length(8);
    const spread = passagesOf(Array.from({ length: 2_000 }, (_, n) => `Sentence ${n}.`).join(' '));
    expect([spread[0], spread.at(-1)].join()).to.match(/^Sentence 0\..*Sentence 1999\.$/s);
  });

  it('says that it is closed', async () => {
    const other = createEmbedder();
    const begun = other.embed(['hello']);
    await other.close();
    expect((await begun)[0]).to.have.length(1);
    const failure = await other.embed(['hello']).catch((error: unknown) => error);
    expect(failure).to.be.instanceOf(EmbedderUnavailable);
  });
});
