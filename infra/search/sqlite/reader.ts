/**
 * The thread that searches. What it looks at closely are some hundred candidates: the messages whose passages are
 * nearest in the coarse pass, and those that hold most of the query's words. Each gets a score from 0 to 1:
 *
 *   score = 1 − (1 − meaning) × (1 − WORDS_WEIGHT × words)
 *
 * - `meaning`: the cosine of the vectors, the best passage of the message for each of the query's, with what unrelated
 *   texts have too taken off: (cosine − UNRELATED) / (1 − UNRELATED), at least 0.
 * - `words`: which share of the query's words the message holds, each weighed by how rare it is among the messages
 *   that are searched (the inverse document frequency of BM25).
 *
 * So the same text has 1, an unrelated one 0 or little more, and one with every word of the query at least
 * WORDS_WEIGHT. All that goes into a score are messages up to the position that is asked about, of the owner that is
 * asked about: a search of the past answers what it answered then, and nothing of others shows in it.
 */
import { workerData } from 'node:worker_threads';
import type { Database } from 'better-sqlite3';
import { positionSortKey, START } from '../../../contracts/envelope.ts';
import type { SetAsideEvent } from '../../../contracts/projections.ts';
import type { IndexCopy, IndexQuery, SearchFound, SearchHit, SearchRole } from '../port.ts';
import { serveCalls } from '../thread.ts';
import { bitsOf, openFile, PASSAGES, readCopies, type ThreadData, tableOf, toBlob } from './schema.ts';
import { hashOf, matching, queryWordsOf } from './words.ts';

const UNRELATED = 0.15;
const WORDS_WEIGHT = 0.5;
/** Passages that the coarse pass leaves, for each vector of the query. */
const NEAREST = 512;
/** Messages with the query's words that are looked at closely, besides those of the coarse pass. */
const WITH_WORDS = 200;
/** So many messages with a word are looked at, the newest; a word that more of them hold tells little. */
const POSTINGS = 2_000;
const MAX_VECTORS = 4;

const { file, format } = workerData as ThreadData;
let opened: Database | null = null;

function db(): Database {
  opened ??= openFile(file);
  return opened;
}

/** All from the same moment. After a failure the file is opened again: it may be another one then. */
function reading<Input, Result>(read: (input: Input) => Result): (input: Input) => Result {
  return (input) => {
    try {
      return db()
        .transaction(() => read(input))
        .deferred();
    } catch (error) {
      opened?.close();
      opened = null;
      reader = null;
      throw error;
    }
  };
}

const copies = (): IndexCopy[] => readCopies(db(), format);

function setAside({ copy, limit }: { copy: string; limit: number }): SetAsideEvent[] {
  return db()
    .prepare<[number, number], string>('SELECT event FROM set_aside WHERE copy = ? ORDER BY position LIMIT ?')
    .pluck()
    .all(Number(copy), limit)
    .map((event) => JSON.parse(event));
}

/** What a search needs of one copy. Made anew when another copy is live. */
type CopyReader = ReturnType<typeof copyReader>;
let reader: CopyReader | null = null;

function readerOf(copy: IndexCopy): CopyReader {
  if (reader?.copy !== copy.copy) reader = copyReader(copy.copy);
  return reader;
}

interface CandidateRow {
  readonly number: number;
  readonly words: Buffer;
}

function copyReader(copy: string) {
  const table = (name: string) => tableOf(name, Number(copy));
  const on = db();
  const numbered = (name: string) =>
    on.prepare<[string], number>(`SELECT number FROM ${table(name)} WHERE id = ?`).pluck();
  return {
    copy,
    ownerNumber: numbered('owners'),
    conversationNumber: numbered('conversations'),
    momentUpTo: on
      .prepare<[string], number>(
        `SELECT number FROM ${table('moments')} WHERE position <= ? ORDER BY position DESC LIMIT 1`,
      )
      .pluck(),
    countOfOwner: on
      .prepare<[number, number, number], number>(
        `SELECT count(*) FROM ${table('messages')} WHERE owner = ? AND number >= ? AND number <= ?`,
      )
      .pluck(),
    count: on
      .prepare<[number, number], number>(
        `SELECT count(*) FROM ${table('messages')} WHERE number >= ? AND number <= ?`,
      )
      .pluck(),
    postings: on
      .prepare<[string, number], number>(
        `SELECT rowid FROM ${table('words')} WHERE ${table('words')} MATCH ? AND rowid <= ? ORDER BY rowid DESC LIMIT ${POSTINGS}`,
      )
      .pluck(),
    coarse: (where: string) =>
      on
        .prepare<unknown[], number>(
          `SELECT passage FROM ${table('coarse')} WHERE ${where}
           ORDER BY vec_distance_hamming(vec_bit(bits), vec_bit(?)), passage DESC LIMIT ${NEAREST}`,
        )
        .pluck(),
    // CROSS: by their numbers, and not by going through all of an owner's.
    candidates: (where: string) =>
      on.prepare<unknown[], CandidateRow>(
        `SELECT number, words FROM json_each(?) CROSS JOIN ${table('messages')} ON number = value WHERE ${where}`,
      ),
    cosines: on
      .prepare<[Uint8Array, string], [number, number]>(
        `SELECT passage / ${PASSAGES}, 1 - vec_distance_cosine(vector, ?) FROM json_each(?)
         JOIN ${table('exact')} ON passage BETWEEN value * ${PASSAGES} AND value * ${PASSAGES} + ${PASSAGES - 1}`,
      )
      .raw(),
    hit: on.prepare<[number, number], Omit<SearchHit, 'score'>>(
      `SELECT message.id, conversation.id AS conversationId, owner.id AS owner, role, model, content, time,
         (SELECT title FROM ${table('titles')} AS title
          WHERE title.conversation = message.conversation AND since <= ? ORDER BY since DESC LIMIT 1) AS title
       FROM ${table('messages')} AS message
       JOIN ${table('conversations')} AS conversation ON conversation.number = message.conversation
       JOIN ${table('owners')} AS owner ON owner.number = message.owner
       WHERE message.number = ?`,
    ),
  };
}

/** What is searched: numbers of this copy in place of ids. */
interface Scope {
  readonly owner: number | null;
  /** The last event that counts. */
  readonly upTo: number;
  readonly conversation: number | null;
  readonly role: SearchRole | undefined;
  readonly model: string | undefined;
  readonly from: number | undefined;
  readonly before: number | undefined;
}

/** Null when nothing can be in it. */
function scopeOf(from: CopyReader, copy: IndexCopy, query: IndexQuery): Scope | null {
  const owner = query.owner === null ? null : from.ownerNumber.get(query.owner);
  const conversation =
    query.conversationId === undefined ? null : from.conversationNumber.get(query.conversationId);
  const upTo = query.asOf === undefined ? copy.seen : (from.momentUpTo.get(positionSortKey(query.asOf)) ?? 0);
  if (owner === undefined || conversation === undefined || upTo === 0) return null;
  const { role, model, from: since, before } = query;
  return { owner, upTo, conversation, role, model, from: since, before };
}

/** The conditions that messages and their passages share. */
function conditions(scope: Scope, upTo: string): [where: string, bound: unknown[]] {
  const given: (readonly [string, unknown])[] = [
    ['owner = ?', scope.owner],
    [upTo, scope.upTo],
    ['until > ?', scope.upTo],
    ['conversation = ?', scope.conversation],
    ['role = ?', scope.role],
    ['model = ?', scope.model],
    ['ms >= ?', scope.from],
    ['ms < ?', scope.before],
  ];
  const used = given.filter(([, value]) => value !== null && value !== undefined);
  return [used.map(([sql]) => sql).join(' AND '), used.map(([, value]) => value)];
}

interface QueryWord {
  readonly hash: number;
  /** How much it tells; together they are 1. */
  readonly weight: number;
  /** Messages that hold it, the newest ones. */
  readonly messages: readonly number[];
}

function wordsOfQuery(from: CopyReader, scope: Scope, text: string): QueryWord[] {
  const { owner, upTo } = scope;
  const countSince = (first: number): number =>
    (owner === null ? from.count.get(first, upTo) : from.countOfOwner.get(owner, first, upTo)) ?? 0;
  const found = queryWordsOf(text).map((word) => ({
    hash: hashOf(word),
    messages: from.postings.all(matching(word, owner), upTo),
  }));
  if (found.length === 0) return [];
  const all = countSince(0);
  const told = found.map(({ hash, messages }) => {
    // Of a frequent word the newest messages tell how frequent it is.
    const frequency =
      messages.length < POSTINGS
        ? messages.length
        : (messages.length * all) / Math.max(1, countSince(messages.at(-1)!));
    return { hash, messages, rarity: Math.log(1 + (all - frequency + 0.5) / (frequency + 0.5)) };
  });
  const sum = told.reduce((total, { rarity }) => total + rarity, 0);
  return told.map(({ hash, messages, rarity }) => ({ hash, messages, weight: sum > 0 ? rarity / sum : 0 }));
}

/** Those with most of the query's words first; of equal ones the newest. */
function messagesWith(words: readonly QueryWord[]): number[] {
  const weights = new Map<number, number>();
  for (const { weight, messages } of words) {
    for (const message of messages) weights.set(message, (weights.get(message) ?? 0) + weight);
  }
  return [...weights].sort((a, b) => b[1] - a[1] || b[0] - a[0]).map(([message]) => message);
}

/** Which share of the query's words the message holds. */
function wordsIn(message: Buffer, weights: ReadonlyMap<number, number>): number {
  let share = 0;
  if (weights.size === 0) return share;
  for (let at = 0; at + 4 <= message.length; at += 4) share += weights.get(message.readUInt32LE(at)) ?? 0;
  return Math.min(1, share);
}

const unrelatedTakenOff = (cosine: number): number =>
  Math.min(1, Math.max(0, (cosine - UNRELATED) / (1 - UNRELATED)));

/** By message: the mean over the query's vectors of the best cosine among the message's passages. */
function meanings(from: CopyReader, candidates: readonly number[], vectors: readonly Float32Array[]) {
  const sums = new Map<number, number>();
  const list = JSON.stringify(candidates);
  for (const vector of vectors) {
    const best = new Map<number, number>();
    for (const [message, cosine] of from.cosines.all(toBlob(vector), list)) {
      if (cosine > (best.get(message) ?? -1)) best.set(message, cosine);
    }
    for (const [message, cosine] of best) sums.set(message, (sums.get(message) ?? 0) + cosine);
  }
  return (message: number): number => unrelatedTakenOff((sums.get(message) ?? 0) / vectors.length || 0);
}

function search(query: IndexQuery): SearchFound {
  const copy = copies().find(({ live }) => live);
  const nothing = { hits: [], total: 0, position: copy?.position ?? START };
  if (copy === undefined) return nothing;
  const from = readerOf(copy);
  const scope = scopeOf(from, copy, query);
  if (scope === null) return nothing;
  const vectors = query.vectors.slice(0, MAX_VECTORS);

  const [wherePassages, boundPassages] = conditions(scope, `passage < (? + 1) * ${PASSAGES}`);
  const nearest = from.coarse(wherePassages);
  const candidates = new Set<number>();
  for (const vector of vectors) {
    for (const passage of nearest.all(...boundPassages, bitsOf(vector))) {
      candidates.add(Math.floor(passage / PASSAGES));
    }
  }

  const [where, bound] = conditions(scope, 'number <= ?');
  const visible = from.candidates(where);
  const words = wordsOfQuery(from, scope, query.text);
  const rows = new Map(
    visible.all(JSON.stringify([...candidates]), ...bound).map((row) => [row.number, row.words]),
  );
  let added = 0;
  const withWords = messagesWith(words).filter((message) => !rows.has(message));
  for (let at = 0; at < withWords.length && added < WITH_WORDS; at += WITH_WORDS) {
    const some = withWords.slice(at, at + WITH_WORDS);
    const found = new Map(visible.all(JSON.stringify(some), ...bound).map((row) => [row.number, row.words]));
    for (const message of some) {
      const held = found.get(message);
      if (held === undefined || added === WITH_WORDS) continue;
      rows.set(message, held);
      added += 1;
    }
  }

  const weights = new Map(words.map(({ hash, weight }) => [hash, weight]));
  const meaning = meanings(from, [...rows.keys()], vectors);
  const scored: { message: number; score: number }[] = [];
  for (const [message, held] of rows) {
    const exact = 1 - (1 - meaning(message)) * (1 - WORDS_WEIGHT * wordsIn(held, weights));
    const score = Math.round(exact * 10_000) / 10_000;
    if (score > 0 && score >= query.minScore) scored.push({ message, score });
  }
  scored.sort((a, b) => b.score - a.score || b.message - a.message);
  return {
    hits: scored
      .slice(0, query.limit)
      .map(({ message, score }) => ({ ...from.hit.get(scope.upTo, message)!, score })),
    total: scored.length,
    position: copy.position,
  };
}

serveCalls({
  copies: reading(copies),
  setAside: reading(setAside),
  search: reading(search),
  count: reading(() => {
    const copy = copies().find(({ live }) => live);
    return copy === undefined ? 0 : readerOf(copy).count.get(0, Number.MAX_SAFE_INTEGER);
  }),
  close: () => opened?.close(),
});
