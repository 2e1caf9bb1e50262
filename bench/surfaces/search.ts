/**
 * Searching 100,000 messages of one user.
 *
 * Making their vectors for real would take a quarter of an hour. So the messages are made of 400 beginnings and 400
 * ends, which are embedded for real (some seconds); a message's vector is that of its two halves together, as a model
 * that averages over words would give it, and its words are those of both. The queries are other sentences about the
 * same things, embedded for real, and each search is timed with its embedding and without.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { load } from 'sqlite-vec';
import { createEmbedder } from '../../infra/search/embedder.ts';
import type { IndexChange, IndexQuery } from '../../infra/search/port.ts';
import { openSqliteSearchIndex } from '../../infra/search/sqlite.ts';
import { type BenchResult, percentile } from '../result.ts';

const MESSAGES = 100_000;
const HALVES = 400;
const QUERIES = 200;
const BATCH = 500;
const NEAREST = 10;
const OWNER = 'owner';
/** How much faster than exact search it is to be, words and ranking included; and what share of its ten it finds. */
const SPEED_TARGET = 1.5;
const RECALL_TARGET = 0.95;

const people = 'my sister|the new client|our accountant|a neighbour|the landlord|my old teacher|the whole team|a customer in Oslo|the night nurse|my running partner'.split('|'); // biome-ignore format: lists
const verbs = 'asked about|cannot open|wants to change|keeps forgetting|was happy with|complained about|is writing about|has to pay for|lost|compared'.split('|'); // biome-ignore format: lists
const things = 'the quarterly tax report|a sourdough recipe|the Python script for invoices|the flight to Lisbon|a broken washing machine|the guitar lessons|the database migration|a birthday present|the marathon training plan|the rental contract|an allergy to nuts|the solar panels|the chess tournament|a scholarship essay|the garden in winter|the car insurance|a password that leaked|the museum in Vienna|the puppy that bites|the quantum physics exam'.split('|'); // biome-ignore format: lists
const times = 'before the weekend|since last winter|during the night shift|for the third time|after lunch|every single Monday|in front of everybody|without any reason|on the train home|while it was raining'.split('|'); // biome-ignore format: lists
const wishes = 'please draft an answer|what would you do|make me a list of steps|explain it like I am five|find out how much it costs|remind me tomorrow|translate it into German|check whether that is legal|suggest something cheaper|tell me the risks'.split('|'); // biome-ignore format: lists

/** Pseudo-random numbers that are the same at every run. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function sum(a: Float32Array, b: Float32Array): Float32Array {
  const both = a.map((value, index) => value + b[index]!);
  const length = Math.hypot(...both);
  return both.map((value) => value / length);
}

interface Corpus {
  readonly texts: readonly string[];
  readonly vectors: readonly Float32Array[];
  readonly queries: readonly { readonly text: string; readonly vector: Float32Array }[];
}

type Embed = (texts: readonly string[]) => Promise<Float32Array[]>;

async function makeCorpus(embed: Embed): Promise<Corpus> {
  const pick = numbers(7);
  const one = (list: readonly string[]) => list[pick(list.length)]!;
  const different = (make: () => string): string[] => {
    const found = new Set<string>();
    while (found.size < HALVES) found.add(make());
    return [...found];
  };
  const beginnings = different(() => `${one(people)} ${one(verbs)} ${one(things)}`);
  const ends = different(() => `${one(times)}, and about ${one(things)}: ${one(wishes)}`);
  const questions = Array.from({ length: QUERIES }, () => `what did ${one(people)} say of ${one(things)}`);
  const [first, second, asked] = [await embed(beginnings), await embed(ends), await embed(questions)];
  const texts: string[] = [];
  const vectors: Float32Array[] = [];
  for (let n = 0; n < MESSAGES; n++) {
    // Each pair once: 160,000 there are, and this walks through them.
    const pair = (n * 99_991) % (HALVES * HALVES);
    const [a, b] = [pair % HALVES, Math.floor(pair / HALVES)];
    texts.push(`${beginnings[a]} ${ends[b]}`);
    vectors.push(sum(first[a]!, second[b]!));
  }
  return { texts, vectors, queries: questions.map((text, at) => ({ text, vector: asked[at]! })) };
}

const query = (given: Partial<IndexQuery>): IndexQuery => ({
  owner: OWNER,
  text: '',
  vectors: [],
  minScore: 0,
  limit: NEAREST,
  ...given,
});

async function timed(work: () => Promise<unknown> | unknown): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

/** The floor: sqlite-vec compares the query with every vector. */
function exactSearch(file: string, vectors: readonly Float32Array[], dimensions: number) {
  const db = new Sqlite(file);
  load(db);
  db.exec(`CREATE VIRTUAL TABLE vectors USING vec0(embedding float[${dimensions}] distance_metric=cosine)`);
  const insert = db.prepare('INSERT INTO vectors (rowid, embedding) VALUES (?, ?)');
  db.transaction(() => {
    for (const [index, vector] of vectors.entries()) insert.run(BigInt(index), vector);
  })();
  const nearest = db
    .prepare<[Float32Array, number], number>(
      'SELECT rowid FROM vectors WHERE embedding MATCH ? AND k = ? ORDER BY distance',
    )
    .pluck();
  return { nearest: (vector: Float32Array) => nearest.all(vector, NEAREST), close: () => db.close() };
}

export async function benchSearch(): Promise<BenchResult[]> {
  const directory = await mkdtemp(join(tmpdir(), 'odeon-bench-search-'));
  const embedder = createEmbedder();
  const index = openSqliteSearchIndex({ file: join(directory, 'search.db'), model: embedder.model });
  try {
    const { texts, vectors, queries } = await makeCorpus(async (given) =>
      (await embedder.embed(given)).map(([vector]) => vector!),
    );
    await index.lead();
    const { copy } = (await index.copies())[0]!;
    const filling = await timed(async () => {
      for (let from = 0; from < MESSAGES; from += BATCH) {
        const changes = texts.slice(from, from + BATCH).map((text, at): IndexChange => {
          const number = from + at;
          return {
            kind: 'message',
            position: String(number + 1),
            message: {
              id: String(number),
              conversationId: `conversation ${number % 1_000}`,
              owner: OWNER,
              role: 'user',
              model: null,
              text,
              time: '2026-01-01T00:00:00.000Z',
              vectors: [vectors[number]!],
            },
          };
        });
        await index.write({ copy, changes, position: changes.at(-1)!.position });
      }
    });
    const exact = exactSearch(join(directory, 'exact.db'), vectors, embedder.dimensions);

    const floor: number[] = [];
    const searches: number[] = [];
    const whole: number[] = [];
    let found = 0;
    for (const [at, { text, vector }] of queries.entries()) {
      let nearest: number[] = [];
      floor.push(await timed(() => (nearest = exact.nearest(vector))));
      searches.push(await timed(() => index.search(query({ text, vectors: [vector] }))));
      whole.push(
        await timed(async () => {
          const [own] = await embedder.embed([text], { urgent: true });
          await index.search(query({ text, vectors: own! }));
        }),
      );
      // By meaning alone: what the coarse pass lets through. Of equal ones any is as good.
      const { hits } = await index.search(query({ vectors: [vector] }));
      const cosine = (number: number) =>
        vector.reduce((total, value, dimension) => total + value * vectors[number]![dimension]!, 0);
      const least = Math.min(...nearest.map(cosine)) - 1e-4;
      found += hits.filter(({ id }) => cosine(Number(id)) >= least).length;
      if (at === 0) for (const list of [floor, searches, whole]) list.length = 0; // the file is not in memory yet
    }
    exact.close();
    const recall = found / (queries.length * NEAREST);
    const figure = (name: string, ours: number, beside: number | null, unit = 'ms'): BenchResult => ({
      name: `search of ${MESSAGES.toLocaleString('en')}: ${name}`,
      floor: beside,
      ours,
      unit,
      ratio: beside === null ? null : beside / ours,
      target: null,
    });
    const [p50, exactP50] = [percentile(searches, 0.5), percentile(floor, 0.5)];
    return [
      { ...figure('p50, beside exact kNN of sqlite-vec', p50, exactP50), target: SPEED_TARGET },
      figure('p99, beside exact kNN of sqlite-vec', percentile(searches, 0.99), percentile(floor, 0.99)),
      figure('p50 with the query’s embedding', percentile(whole, 0.5), null),
      figure('p99 with the query’s embedding', percentile(whole, 0.99), null),
      { ...figure('recall@10 beside exact search', recall, 1, ''), ratio: recall, target: RECALL_TARGET },
      figure('messages put in, with their vectors at hand', MESSAGES / (filling / 1_000), null, '/s'),
    ];
  } finally {
    await index.close();
    await embedder.close();
    await rm(directory, { recursive: true });
  }
}
