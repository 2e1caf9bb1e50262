/**
 * The program as its clients see it: message commands over HTTP against a bare Express route, their latency on a
 * short and on a very long stream, idle memory and the time until it is ready. Servers run in processes of their
 * own; this one makes the load.
 */
import { execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import autocannon from 'autocannon';
import type { Actor, NewEvent } from '../contracts/envelope.ts';
import { catalogue, type DecidedEvent } from '../contracts/events/catalogue.ts';
import { openSqliteEventStore } from '../infra/event-store/sqlite.ts';
import { withCatalogue } from '../infra/event-store/with-catalogue.ts';
import { login, type Program, startProgram } from '../test/program.ts';
import { type BenchResult, median, percentile } from './result.ts';

const ROUNDS = 5;
const ROUND_SECONDS = 3;
const CONNECTIONS = 32;
/** A conversation takes 100 messages that wait for an answer, so the load is spread over many. */
const CONVERSATIONS = 1_000;
const BODY = JSON.stringify({ content: 'What is 12.5% of 80, and how sure are you of that?' });

/** Without the role `processes`, nobody answers the messages: what is measured is the command alone. */
export const benchMessageCommand = (): Promise<BenchResult> =>
  benchMessages('message command over HTTP, answers not begun / bare Express', 0.4, {
    ROLES: 'command,query,projections',
  });

/** With every role: the same process answers the messages as well, as fast as the built-in assistant can. */
export const benchMessageCommandAndAnswers = (): Promise<BenchResult> =>
  benchMessages('message command over HTTP, while answers are written / bare Express', null, {
    BUILTIN_DELAY_MS: '0',
  });

async function benchMessages(
  name: string,
  target: number | null,
  env: Record<string, string>,
): Promise<BenchResult> {
  await using program = await startProgram({ env });
  const user = await login(program.url);
  const made = await pooled(CONNECTIONS, CONVERSATIONS, () => user.post('/api/v1/chat', {}));
  const ids = made.map(({ body }) => body.data.id as string);
  await using bare = await startBareExpress();

  const rates = { floor: [] as number[], ours: [] as number[] };
  for (let round = 0; round <= ROUNDS; round += 1) {
    const floor = await load(bare.url, ids, user.token);
    const ours = await load(program.url, ids, user.token);
    if (round === 0) continue; // warms up
    rates.floor.push(floor);
    rates.ours.push(ours);
  }
  const [floor, ours] = [median(rates.floor), median(rates.ours)];
  return { name, floor, ours, unit: 'requests/s', ratio: ours / floor, target };
}

let nextConversation = 0;

/** @returns answered requests a second */
async function load(url: string, ids: readonly string[], token: string): Promise<number> {
  const result = await autocannon({
    url,
    connections: CONNECTIONS,
    duration: ROUND_SECONDS,
    requests: [
      {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${token}` },
        body: BODY,
        setupRequest(request) {
          nextConversation += 1;
          return { ...request, path: `/api/v1/chat/${ids[nextConversation % ids.length]}/message` };
        },
      },
    ],
  });
  const refused = result.non2xx + result.errors + result.timeouts;
  if (refused > 0) throw new Error(`${refused} of ${result.requests.total} requests failed at ${url}`);
  return result['2xx'] / result.duration;
}

async function startBareExpress(): Promise<AsyncDisposable & { url: string }> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'bare-express.ts')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = await once(child.stdout, 'data');
  return {
    url: String(line).trim(),
    async [Symbol.asyncDispose]() {
      child.kill();
      await once(child, 'exit');
    },
  };
}

const SHORT = 10;
const LONG = 100_000;
const LATENCY_ROUNDS = 200;

/** One caller, by turns on a long stream and on streams that have 10 events. */
export async function benchLatencyByStreamLength(): Promise<BenchResult[]> {
  const dataDir = await mkdtemp(join(tmpdir(), 'odeon-bench-'));
  const env = { ROLES: 'command,query,projections' };
  try {
    const owner = await administrator(dataDir, env);
    const long = conversationId();
    const short = Array.from({ length: LATENCY_ROUNDS }, conversationId);
    await writeConversations(dataDir, owner, [[long, LONG], ...short.map((id) => [id, SHORT] as const)]);

    await using program = await startProgram({ dataDir, env, readyWithinMs: 300_000 });
    const user = await login(program.url);
    const timed = async (id: string): Promise<number> => {
      const begun = performance.now();
      const { status, body } = await user.post(`/api/v1/chat/${id}/message`, { content: 'And now?' });
      if (status !== 202) throw new Error(`${status} ${JSON.stringify(body)}`);
      return performance.now() - begun;
    };
    // The first command after a start folds the stream and leaves a snapshot; the others are what is asked for.
    const first = await timed(long);
    const times = { short: [] as number[], long: [] as number[] };
    for (const [round, id] of short.entries()) {
      times.short.push(await timed(id));
      // A conversation takes 100 messages that wait, so not in every round.
      if (round % 3 === 0) times.long.push(await timed(long));
    }
    const [floor, ours] = [median(times.short), median(times.long)];
    const measured = (what: string, value: number): BenchResult => ({
      name: `command latency, ${what}`,
      floor: null,
      ours: value,
      unit: 'ms',
      ratio: null,
      target: null,
    });
    return [
      {
        name: `command latency, median, stream of ${LONG} events / of ${SHORT}`,
        floor,
        ours,
        unit: 'ms',
        ratio: floor / ours,
        target: 0.8,
      },
      measured(`p99, stream of ${LONG} events`, percentile(times.long, 0.99)),
      measured(`the very first on a stream of ${LONG} events`, first),
    ];
  } finally {
    await rm(dataDir, { recursive: true });
  }
}

/** Makes the administrator of a data folder, and gives their user id. */
async function administrator(dataDir: string, env: Record<string, string>): Promise<string> {
  const program = await startProgram({ dataDir, env });
  const { body } = await (await login(program.url)).get('/api/auth/me');
  await program.stop();
  return body.id;
}

/** Conversations of so many events each, whose turns have all ended. */
async function writeConversations(
  dataDir: string,
  owner: string,
  conversations: readonly (readonly [id: string, events: number])[],
): Promise<void> {
  const store = withCatalogue(await openSqliteEventStore({ directory: dataDir }));
  const actor: Actor = { kind: 'user', id: owner };
  const newEvent = ({ type, data }: DecidedEvent): NewEvent => ({
    id: randomUUID(),
    type,
    schemaVersion: catalogue[type].version,
    owner,
    actor,
    correlationId: 'bench',
    causationId: null,
    commandId: 'bench',
    surface: 'zerg',
    data,
  });
  for (const [id, length] of conversations) {
    const events: NewEvent[] = [
      newEvent({
        type: 'ConversationStarted',
        data: { title: null, mode: 'build', model: null, kind: 'chat', agent: null, linkId: null },
      }),
    ];
    while (events.length < length) events.push(...interruptedTurn().map(newEvent));
    for (let from = 0; from < length; from += 1_000) {
      const batch = events.slice(from, Math.min(from + 1_000, length));
      await store.append(`conversation-${id}`, batch, { expectedRevision: 'any' });
    }
  }
  await store.close();
}

/** The shortest whole turn: three events. */
function interruptedTurn(): DecidedEvent[] {
  const turnId = `turn_${randomHex(24)}`;
  return [
    {
      type: 'MessageSent',
      data: {
        messageId: `msg_${randomHex(24)}`,
        turnId,
        content: 'Hello?',
        model: null,
        instructions: null,
        run: null,
        prompt: null,
      },
    },
    { type: 'TurnStarted', data: { turnId, attempt: 1, worker: 'bench' } },
    {
      type: 'TurnInterrupted',
      data: {
        turnId,
        messageId: `msg_${randomHex(24)}`,
        content: '',
        provider: null,
        model: null,
        requestedModel: null,
        decision: null,
        tried: [],
        toolsUsed: [],
        usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
        costUsd: null,
        durationMs: 0,
        finishReason: null,
        toolRequests: [],
      },
    },
  ];
}

const STARTS = 5;
const IDLE_MS = 3_000;

/** An empty data folder, every role. */
export async function benchIdle(): Promise<BenchResult[]> {
  const readyMs: number[] = [];
  const memory: number[] = [];
  for (let start = 0; start < STARTS; start += 1) {
    const begun = performance.now();
    await using program = await startProgram();
    readyMs.push(performance.now() - begun);
    await delay(IDLE_MS);
    memory.push(residentMebibytes(program));
  }
  const figure = (name: string, values: number[], unit: string): BenchResult => ({
    name,
    floor: null,
    ours: median(values),
    unit,
    ratio: null,
    target: null,
  });
  return [
    figure('time to ready, first start', readyMs, 'ms'),
    figure(`resident memory, idle for ${IDLE_MS / 1_000} s`, memory, 'MiB'),
  ];
}

const residentMebibytes = ({ pid }: Program): number =>
  Number(execFileSync('ps', ['-o', 'rss=', '-p', String(pid)], { encoding: 'utf8' })) / 1_024;

/** Does the work `times` times, `width` at once. */
async function pooled<Result>(width: number, times: number, work: () => Promise<Result>): Promise<Result[]> {
  const results: Result[] = [];
  let begun = 0;
  await Promise.all(
    Array.from({ length: width }, async () => {
      while (begun < times) {
        begun += 1;
        results.push(await work());
      }
    }),
  );
  return results;
}

const randomHex = (digits: number): string => randomUUID().replaceAll('-', '').slice(0, digits);
const conversationId = (): string => randomHex(12);
