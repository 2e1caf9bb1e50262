/**
 * Catching up: the runtime with two projections (conversations, which many events touch, and messages, one a
 * document) against a loop written by hand that reads the same log, makes the same documents in tables of the
 * same shape, and commits as often. Both must end with the same documents.
 */
import { createHash, randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { catalogue } from '../contracts/events/catalogue.ts';
import type { ConversationDocument } from '../contracts/read-models/documents.ts';
import { INSERT, openForReading, openForWriting } from '../infra/event-store/sqlite/schema.ts';
import { openSqliteEventStore } from '../infra/event-store/sqlite.ts';
import { openSqliteReadModels } from '../infra/read-models/sqlite.ts';
import { conversations } from '../projections/conversations.ts';
import { messages } from '../projections/messages.ts';
import { startProjections } from '../projections/runtime/runtime.ts';
import { type ComparedResult, median } from './result.ts';

const CONVERSATIONS = 1_000;
const BATCH = 200;
const PAGE = 500;
const LONGEST_MS = 10 * 60_000;
/** One round of a million events is long enough to be steady; shorter ones are repeated. */
const roundsFor = (events: number): number => (events < 500_000 ? 3 : 1);

export async function benchCatchUp(events = 1_000_000): Promise<ComparedResult> {
  const directory = await mkdtemp(join(tmpdir(), 'odeon-bench-'));
  try {
    fillLog(directory, events);
    const rates = { floor: [] as number[], ours: [] as number[] };
    for (let round = 0; round < roundsFor(events); round++) {
      const folder = await mkdtemp(join(directory, 'round-'));
      const floor = catchUpByHand(directory, join(folder, 'floor.db'));
      const ours = await catchUp(directory, join(folder, 'ours.db'));
      if (floor.digest !== ours.digest) throw new Error('The two made different documents.');
      rates.floor.push((events / floor.durationMs) * 1_000);
      rates.ours.push((events / ours.durationMs) * 1_000);
      await rm(folder, { recursive: true });
    }
    const [floor, ours] = [median(rates.floor), median(rates.ours)];
    return {
      name: `projection catch-up of ${events.toLocaleString('en')} events / a loop written by hand`,
      unit: 'events/s',
      floor,
      ours,
      ratio: ours / floor,
      target: 0.5,
    };
  } finally {
    await rm(directory, { recursive: true });
  }
}

interface Run {
  readonly durationMs: number;
  /** Of all documents. */
  readonly digest: string;
}

async function catchUp(directory: string, file: string): Promise<Run> {
  const store = await openSqliteEventStore({ directory });
  const readModels = await openSqliteReadModels({ file });
  const began = performance.now();
  const runtime = await startProjections({
    store,
    readModels,
    projections: [conversations, messages],
    batchSize: BATCH,
  });
  const reached = await runtime.waitFor(await store.head(), LONGEST_MS);
  await readModels.count('messages'); // what is written behind its back is stored, too
  const durationMs = performance.now() - began;
  await runtime.stop();
  const copies = await readModels.copies();
  await readModels.close();
  await store.close();
  if (!reached) throw new Error('It did not catch up.');
  return {
    durationMs,
    digest: digest(
      file,
      copies.map(({ copy }) => `copy_${copy}`),
    ),
  };
}

/** As one would write it: knows its two event types, and that a message is always new. */
function catchUpByHand(directory: string, file: string): Run {
  const log = openForReading(directory);
  const db = new Sqlite(file);
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = NORMAL');
  db.pragma('wal_autocheckpoint = 2000');
  db.exec(`
    CREATE TABLE checkpoint (position TEXT NOT NULL, seen INTEGER NOT NULL);
    INSERT INTO checkpoint VALUES ('0', 0);
    CREATE TABLE conversations (id TEXT NOT NULL PRIMARY KEY, position TEXT NOT NULL, body TEXT NOT NULL,
      owner NOT NULL, kind NOT NULL, archived NOT NULL, status NOT NULL, agentId, linkId);
    CREATE INDEX c0 ON conversations (owner, kind, archived, position, id);
    CREATE INDEX c1 ON conversations (owner, kind, status, position, id);
    CREATE INDEX c2 ON conversations (kind, archived, position, id);
    CREATE INDEX c3 ON conversations (kind, status, position, id);
    CREATE INDEX c4 ON conversations (owner, agentId, kind, status, position, id);
    CREATE INDEX c5 ON conversations (agentId, kind, status, position, id);
    CREATE INDEX c6 ON conversations (linkId, position, id);
    CREATE TABLE messages (id TEXT NOT NULL PRIMARY KEY, position TEXT NOT NULL, body TEXT NOT NULL,
      conversationId NOT NULL, revision NOT NULL, owner NOT NULL);
    CREATE INDEX m0 ON messages (conversationId, revision, id);
    CREATE INDEX m1 ON messages (owner, position, id);
  `);
  const page = log.prepare<[number], { position: number; data: string } & Record<string, string>>(
    `SELECT position, stream, revision, type, owner, time, meta, data FROM events
     WHERE position > ? ORDER BY position LIMIT ${PAGE}`,
  );
  const select = db.prepare<[string], { body: string }>('SELECT body FROM conversations WHERE id = ?');
  const putConversation = db.prepare(
    `INSERT INTO conversations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET position = excluded.position,
     body = excluded.body, owner = excluded.owner, kind = excluded.kind, archived = excluded.archived,
     status = excluded.status, agentId = excluded.agentId, linkId = excluded.linkId`,
  );
  const putMessage = db.prepare(
    `INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET position = excluded.position,
     body = excluded.body, conversationId = excluded.conversationId, revision = excluded.revision, owner = excluded.owner`,
  );
  const setCheckpoint = db.prepare('UPDATE checkpoint SET position = ?, seen = seen + ?');

  const batch = db.transaction((rows: ReturnType<typeof page.all>) => {
    const touched = new Map<string, { body: ConversationDocument; position: string }>();
    for (const row of rows) {
      const data = JSON.parse(row.data);
      const id = row.stream!.slice('conversation-'.length);
      const position = String(row.position).padStart(20, '0');
      if (row.type === 'ConversationStarted') {
        const body = {
          id,
          owner: row.owner!,
          title: data.title,
          mode: data.mode,
          model: data.model,
          surface: JSON.parse(row.meta!).surface,
          status: 'active',
          archived: false,
          kind: data.kind,
          agentId: data.agent?.id ?? null,
          agentName: data.agent?.name ?? null,
          linkId: data.linkId,
          messageCount: 0,
          usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
          costUsd: 0,
          contextTokens: 0,
          answeredBy: null,
          lastMessageAt: null,
          createdAt: row.time!,
          updatedAt: row.time!,
        } as const;
        touched.set(id, { body, position });
        continue;
      }
      const body = touched.get(id)?.body ?? JSON.parse(select.get(id)!.body);
      touched.set(id, {
        body: {
          ...body,
          messageCount: body.messageCount + 1,
          lastMessageAt: row.time,
          updatedAt: row.time,
        },
        position,
      });
      const message = {
        id: data.messageId,
        conversationId: id,
        owner: row.owner,
        revision: row.revision,
        turnId: data.turnId,
        role: 'user',
        content: data.content,
        status: 'complete',
        reason: null,
        createdAt: row.time,
        answer: null,
      };
      putMessage.run(message.id, position, JSON.stringify(message), id, row.revision, row.owner);
    }
    for (const [id, { body, position }] of touched) {
      const text = JSON.stringify(body);
      const { owner, kind, archived, status, agentId, linkId } = body;
      putConversation.run(id, position, text, owner, kind, Number(archived), status, agentId, linkId);
    }
    setCheckpoint.run(String(rows.at(-1)!.position), rows.length);
  });

  const began = performance.now();
  let after = 0;
  for (let rows = page.all(after); rows.length > 0; rows = page.all(after)) {
    for (let from = 0; from < rows.length; from += BATCH) batch(rows.slice(from, from + BATCH));
    after = rows.at(-1)!.position;
  }
  const durationMs = performance.now() - began;
  log.close();
  db.close();
  return { durationMs, digest: digest(file, ['conversations', 'messages']) };
}

/** One stream a conversation, written in turns, in raw transactions: filling the log is not what is measured. */
function fillLog(directory: string, events: number): void {
  const db = openForWriting(directory);
  const insert = db.prepare(INSERT);
  const meta = { actor: { kind: 'user', id: 'ann' }, causationId: null, commandId: 'bench', surface: 'luna' };
  const write = db.transaction((from: number, upTo: number) => {
    const time = new Date().toISOString();
    for (let n = from; n < upTo; n++) {
      const started = n < CONVERSATIONS;
      const type = started ? 'ConversationStarted' : 'MessageSent';
      const data = started
        ? { title: null, mode: 'assistant', model: null, kind: 'chat', agent: null, linkId: null }
        : {
            messageId: randomUUID(),
            turnId: `turn-${n}`,
            content: 'What did the committee decide about the position in gold, and who voted against it?',
            model: null,
            instructions: null,
            run: null,
            prompt: null,
          };
      insert.run(
        n + 1,
        randomUUID(),
        `conversation-${(n * 7) % CONVERSATIONS}`,
        Math.floor(n / CONVERSATIONS),
        type,
        catalogue[type].version,
        `user-${n % 16}`,
        randomUUID(),
        time,
        JSON.stringify(meta),
        JSON.stringify(data),
      );
    }
  });
  for (let n = 0; n < events; n += 10_000) write(n, Math.min(events, n + 10_000));
  db.close();
}

function digest(file: string, tables: readonly string[]): string {
  const db = new Sqlite(file, { readonly: true });
  const hash = createHash('sha256');
  for (const table of tables) {
    const rows = db.prepare<[], [string, string, string]>(
      `SELECT id, position, body FROM ${table} ORDER BY id`,
    );
    for (const row of rows.raw().iterate()) hash.update(row.join('\n'));
  }
  db.close();
  return hash.digest('hex');
}

if (import.meta.main) {
  const events = process.argv[2] === undefined ? undefined : Number(process.argv[2]);
  const { name, floor, ours, unit, ratio, target } = await benchCatchUp(events);
  console.log(
    `${name}: ${Math.round(ours)} / ${Math.round(floor)} ${unit} = ${ratio.toFixed(2)} (target ${target})`,
  );
}
