/** What must be seen when an engine goes away under a deployment of several processes, and when it comes back. */
import { randomUUID } from 'node:crypto';
import { expect } from 'chai';
import type { OdeonEvent } from '../contracts/events/catalogue.ts';
import { type Cluster, startCluster } from './cluster.ts';
import { FIRST_START_MS } from './engines/availability.ts';
import { type EventStoreServer, startEventStoreServer } from './engines/event-store-server.ts';
import { type AcknowledgedMessage, faultsOf, openTurns } from './log-invariants.ts';
import { type Client, client, condition, login, type Reply } from './program.ts';
import { readTurn } from './turn-reader.ts';

/** An answer comes in this time, even while nobody knows yet that an engine does not answer any more. */
const ANSWERS_WITHIN_MS = 12_000;
/** And in this time once that is known. */
const REFUSES_WITHIN_MS = 500;
const TELLS_WITHIN_MS = 20_000;
const AGAIN_WITHIN_MS = 30_000;

export interface OutageFixture {
  readonly cluster: Cluster;
  readonly eventStore: EventStoreServer;
  /** An administrator, at the command node and at the query node. */
  readonly command: Client;
  readonly query: Client;
  /** Aborted when the tests are over. */
  readonly closing: AbortSignal;
  readonly acknowledged: AcknowledgedMessage[];
}

export interface Outage {
  /** As the title names it. */
  readonly engine: string;
  address(fixture: OutageFixture): string;
  begin(fixture: OutageFixture): Promise<void> | void;
  end(fixture: OutageFixture): Promise<void> | void;
}

export const addresses = {
  kafka: ({ cluster }: OutageFixture) => cluster.kafka.brokers,
  database: ({ cluster }: OutageFixture) => new URL(cluster.database.url).host,
  eventStore: ({ eventStore }: OutageFixture) => `127.0.0.1:${eventStore.port}`,
};

/** Starts a cluster on all three engines before the tests of a suite, and ends it after them. */
export function withCluster(): () => OutageFixture {
  let fixture: OutageFixture | undefined;
  let eventStore: EventStoreServer | undefined;
  const closing = new AbortController();

  before(async function () {
    this.timeout(FIRST_START_MS);
    eventStore = await startEventStoreServer();
    const cluster = await startCluster({
      processes: { command: 1, query: 1, projections: 1, processes: 2 },
      env: { BUILTIN_DELAY_MS: '40', KAFKA_PARTITIONS: '3', ACCESS_TOKEN_MINUTES: '1440' },
      eventStoreUrl: eventStore.url,
    });
    const command = await login(cluster.with('command')[0]!.url);
    const query = client(cluster.with('query')[0]!.url, command.token);
    fixture = { cluster, eventStore, command, query, closing: closing.signal, acknowledged: [] };
  });
  after(async () => {
    closing.abort();
    await fixture?.cluster[Symbol.asyncDispose]();
    await eventStore?.stop();
  });
  return () => fixture!;
}

/** A message whose answer takes seconds, and who reads it; resolves when the answer has begun. */
export async function begunAnswer({ cluster, command, acknowledged, closing }: OutageFixture, about: string) {
  const id: string = (await command.post('/api/v1/chat', {})).body.data.id;
  const content = `Count from 1 to 120. (${about})`;
  const { status, body } = await command.post(`/api/v1/chat/${id}/message`, { content });
  expect(status, JSON.stringify(body)).to.equal(202);
  const turnId: string = body.data.turn_id;
  acknowledged.push({ content, turnId });
  const reader = readTurn(cluster.with('query')[0]!.url, command.token, turnId, closing);
  await condition(() => reader.text !== '', { withinMs: 15_000, what: 'the answer to begin' });
  return { id, turnId, reader };
}

export const healthOf = async (url: string) => {
  const response = await fetch(`${url}/health`);
  const { waitingFor } = (await response.json()) as { readonly waitingFor: string | null };
  return { status: response.status, waitingFor };
};

/** Resolves when every process says that it waits for the engine. */
export async function known(fixture: OutageFixture, outage: Outage): Promise<void> {
  const told = async ({ url }: { url: string }) =>
    (await healthOf(url)).waitingFor?.includes(outage.address(fixture)) === true;
  await condition(async () => (await Promise.all(fixture.cluster.nodes.map(told))).every(Boolean), {
    withinMs: TELLS_WITHIN_MS,
    what: 'every process to say what it waits for',
  });
}

/** The test of one outage. */
export function outlasts(outage: Outage, fixtureOf: () => OutageFixture): void {
  it(`answers 503 in time while ${outage.engine}, does nothing by halves, and goes on by itself`, async () => {
    const fixture = fixtureOf();
    const { cluster, command, query, acknowledged } = fixture;
    const { id, turnId, reader } = await begunAnswer(fixture, outage.engine);
    const content = `What is 6 * 7? (${outage.engine})`;
    const key = randomUUID();
    const send = () =>
      timed(() => command.post(`/api/v1/chat/${id}/message`, { content }, { 'Idempotency-Key': key }));

    await outage.begin(fixture);
    const begunAt = performance.now();
    // Nobody knows yet: it may be refused, or, where the engine is not needed for it, taken.
    const first = await send();
    expect(first.ms, 'ms until the first answer').to.be.below(ANSWERS_WITHIN_MS);
    if (first.status !== 202) expectUnavailable(first);
    await known(fixture, outage);
    const knownMs = performance.now() - begunAt;
    for (const refused of [await send(), await timed(() => command.post('/api/chat/sessions', {}))]) {
      expectUnavailable(refused);
      expect(refused.ms, 'ms until a command is refused').to.be.below(REFUSES_WITHIN_MS);
    }
    for (const { roles, url } of cluster.nodes) {
      // Queries are answered from what is there.
      if (roles !== 'query') expect((await healthOf(url)).status, roles).to.equal(503);
      expect((await fetch(`${url}/health/live`)).status, roles).to.equal(200);
    }
    const reads = ['/api/chat/sessions', `/api/v1/chat/${id}/history`, '/api/projections', '/api/log/events'];
    const answers = await Promise.all(
      reads.map(async (path) => {
        const answer = await timed(() => query.get(path));
        if (answer.status !== 200) expectUnavailable(answer);
        expect(answer.ms, path).to.be.below(ANSWERS_WITHIN_MS);
        return `${path.replace(id, ':id')} ${answer.status} (${answer.ms} ms)`;
      }),
    );

    await outage.end(fixture);
    const endedAt = performance.now();
    const ready = async ({ url }: { url: string }) => (await healthOf(url)).status === 200;
    await condition(async () => (await Promise.all(cluster.nodes.map(ready))).every(Boolean), {
      withinMs: AGAIN_WITHIN_MS,
      what: 'every process to be ready again',
    });
    const readyMs = performance.now() - endedAt;
    const taken = await condition(
      async () => {
        const answer = await send();
        return answer.status !== 503 && answer;
      },
      { withinMs: AGAIN_WITHIN_MS, what: 'the message to be taken' },
    );
    expect(taken.status, JSON.stringify(taken.body)).to.equal(202);
    if (first.status === 202) expect(taken.body).to.deep.equal(first.body);
    acknowledged.push({ content, turnId: taken.body.data.turn_id });

    let log: OdeonEvent[] = [];
    await condition(
      async () => {
        log = await readLog(query);
        return openTurns(log).length === 0;
      },
      { withinMs: AGAIN_WITHIN_MS, what: 'the end of every turn' },
    );
    const endMs = performance.now() - endedAt;
    await reader.done;
    const completed = log.find(
      (event): event is OdeonEvent<'TurnCompleted'> =>
        event.type === 'TurnCompleted' && event.data.turnId === turnId,
    );
    expect(reader.text, 'what was read of the answer').to.equal(completed?.data.content);
    expect(faultsOf(log, acknowledged, false)).to.deep.equal([]);
    console.log(
      `${outage.engine}: first answer ${first.status} (${first.ms} ms), known after ${Math.round(knownMs)} ms; ` +
        `${answers.join(', ')}; back: ready after ${Math.round(readyMs)} ms, all answered after ${Math.round(endMs)} ms`,
    );
  });
}

async function timed(work: () => Promise<Reply>): Promise<Reply & { readonly ms: number }> {
  const since = performance.now();
  const reply = await work();
  return { ...reply, ms: Math.round(performance.now() - since) };
}

function expectUnavailable({ status, headers, body }: Reply): void {
  expect(status, JSON.stringify(body)).to.equal(503);
  expect(headers.get('retry-after')).to.match(/^\d+$/);
  expect(body.error).to.be.a('string');
}

async function readLog(query: Client): Promise<OdeonEvent[]> {
  const log: OdeonEvent[] = [];
  for (let next: string | null = '0'; next !== null; ) {
    const { status, body } = await query.get(`/api/log/events?from=${next}&limit=1000`);
    expect(status, JSON.stringify(body)).to.equal(200);
    log.push(...body.events);
    next = body.next;
  }
  return log;
}
