/**
 * One process with all roles, with each of the engines alone beside the embedded others, and with two of them:
 * it answers, is killed (-9) in mid-answer, and goes on. What others find in the topic of events is as documented.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Kafka, type KafkaMessage, logLevel, Partitioners } from 'kafkajs';
import { eventEnvelope, isAfter } from '../contracts/envelope.ts';
import type { OdeonEvent } from '../contracts/events/catalogue.ts';
import { describeWithEngines, FIRST_START_MS } from './engines/availability.ts';
import { type EventStoreServer, startEventStoreServer } from './engines/event-store-server.ts';
import { type FerretDb, startFerretDb } from './engines/ferretdb.ts';
import { type KafkaBroker, startKafka } from './engines/kafka.ts';
import { faultsOf, openTurns } from './log-invariants.ts';
import { client, condition, login, type Program, startProgram } from './program.ts';
import { readTurn } from './turn-reader.ts';

const PARTITIONS = 3;

describeWithEngines(['kafka', 'ferretdb'], 'one process', function (this: Mocha.Suite) {
  this.timeout(60_000);

  let kafka: KafkaBroker;
  let ferretDb: FerretDb;
  let eventStore: EventStoreServer;
  let dataDir: string;
  let program: Program | undefined;
  const closing = new AbortController();

  before(async function () {
    this.timeout(FIRST_START_MS);
    [kafka, ferretDb, eventStore] = await Promise.all([
      startKafka(),
      startFerretDb(),
      startEventStoreServer(),
    ]);
  });
  beforeEach(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'odeon-alone-'));
  });
  afterEach(async () => {
    await program?.[Symbol.asyncDispose]();
    await rm(dataDir, { recursive: true });
  });
  after(async () => {
    closing.abort();
    await Promise.all([kafka?.stop(), ferretDb?.stop(), eventStore?.stop()]);
  });

  const kafkaAs = (prefix: string) => ({
    KAFKA_BROKERS: kafka.brokers,
    KAFKA_TOPIC_PREFIX: prefix,
    KAFKA_PARTITIONS: String(PARTITIONS),
  });
  const mongoAs = (database: string) => ({ MONGODB_URL: `${ferretDb.url}${database}` });

  async function readLog(url: string, token: string): Promise<OdeonEvent[]> {
    const log: OdeonEvent[] = [];
    for (let next: string | null = '0'; next !== null; ) {
      const { status, body } = await client(url, token).get(`/api/log/events?from=${next}&limit=1000`);
      expect(status, JSON.stringify(body)).to.equal(200);
      log.push(...body.events);
      next = body.next;
    }
    return log;
  }

  /** Answers, is killed in mid-answer, and finishes what it had begun. Resolves to the log. */
  async function livesThrough(engines: Readonly<Record<string, string>>, counted = true) {
    const env = { ...engines, BUILTIN_DELAY_MS: '25', ACCESS_TOKEN_MINUTES: '60' };
    program = await startProgram({ dataDir, env });
    const { post, token } = await login(program.url);
    const { id } = (await post('/api/v1/chat', {})).body.data;
    const first = await post(`/api/chat/sessions/${id}/send`, { message: 'What is 6 * 7?', stream: false });
    expect(first.status, JSON.stringify(first.body)).to.equal(200);
    expect(first.body.content).to.include('42');

    const content = 'Count from 1 to 100.';
    const sent = await post(`/api/v1/chat/${id}/message`, { content });
    expect(sent.status, JSON.stringify(sent.body)).to.equal(202);
    const turnId: string = sent.body.data.turn_id;
    const cut = readTurn(program.url, token, turnId, closing.signal);
    await condition(() => cut.text !== '', { withinMs: 10_000, what: 'the answer to begin' });
    await program.kill('SIGKILL');

    program = await startProgram({ dataDir, env, readyWithinMs: 60_000 });
    const { url } = program;
    const again = readTurn(url, token, turnId, closing.signal);
    await again.done;
    expect(again.text).to.match(/99.*100/s);
    const { body } = await client(url, token).get(`/api/v1/chat/${id}/history`);
    expect(body.data.map(({ role }: { role: string }) => role)).to.deep.equal([
      'user',
      'assistant',
      'user',
      'assistant',
    ]);
    const log = await readLog(url, token);
    expect(openTurns(log)).to.deep.equal([]);
    expect(faultsOf(log, [{ content, turnId }], counted)).to.deep.equal([]);
    const projections = await client(url, token).get('/api/projections');
    for (const one of projections.body.projections)
      expect(one, one.name).to.include({ complete: true, problem: null });
    return { log, url, token };
  }

  it('lives on Kafka alone, and relays its log in the documented format', async () => {
    const { log, url, token } = await livesThrough(kafkaAs('alone'));
    await expectRelayed('alone.events', () => readLog(url, token), log.length);
    await program!.stop();
  });

  it('lives on MongoDB alone', async () => {
    await livesThrough(mongoAs('alone'));
    await program!.stop();
  });

  it('lives on EventStoreDB alone', async () => {
    await livesThrough({ EVENT_STORE_URL: eventStore.url }, false);
    await program!.stop();
  });

  it('lives on Kafka and MongoDB beside the embedded log, with all roles', async () => {
    const { log, url, token } = await livesThrough({ ...kafkaAs('both'), ...mongoAs('both') });
    await expectRelayed('both.events', () => readLog(url, token), log.length);
    await program!.stop();
  });

  /** As anybody reads the topic, with nothing of Odeon's own but the documentation. */
  async function expectRelayed(topic: string, logNow: () => Promise<OdeonEvent[]>, atLeast: number) {
    const reader = new Kafka({ brokers: [kafka.brokers], logLevel: logLevel.NOTHING }).consumer({
      groupId: `of ${topic}`,
      readUncommitted: false,
    });
    const records: { partition: number; message: KafkaMessage }[] = [];
    const header = ({ headers }: KafkaMessage, name: string) => String(headers?.[name]);
    const isEvent = ({ message }: { message: KafkaMessage }) => !header(message, 'type').startsWith('$');
    await reader.connect();
    try {
      await reader.subscribe({ topic, fromBeginning: true });
      await reader.run({
        eachMessage: async ({ partition, message }) => void records.push({ partition, message }),
      });
      await condition(
        async () => records.filter(isEvent).length >= Math.max(atLeast, (await logNow()).length),
        {
          withinMs: 20_000,
          what: 'the whole log in the topic',
        },
      );
    } finally {
      await reader.disconnect();
    }

    const log = new Map((await logNow()).map((event) => [event.position as string, event]));
    const partitionMetadata = Array.from({ length: PARTITIONS }, (_, partitionId) => ({
      ...{ partitionErrorCode: 0, partitionId, leader: 1, replicas: [1], isr: [1] },
    }));
    const partitionOf = Partitioners.DefaultPartitioner();
    const complete = new Map<number, string>();
    let events = 0;
    for (const { partition, message } of records) {
      const position = header(message, 'position');
      expect(header(message, 'after'), `after of ${position}`).to.equal(complete.get(partition) ?? '0');
      expect(isAfter(position as never, (complete.get(partition) ?? '0') as never)).to.equal(true);
      complete.set(partition, position);
      if (!isEvent({ message })) {
        expect([message.key, message.value?.length ?? 0, header(message, 'type')]).to.deep.equal([
          null,
          0,
          '$progress',
        ]);
        continue;
      }
      events++;
      const event = eventEnvelope.parse(JSON.parse(String(message.value)));
      expect(event).to.deep.equal(log.get(position));
      expect(
        Object.fromEntries(Object.keys(message.headers!).map((name) => [name, header(message, name)])),
      ).to.include({
        type: event.type,
        position: event.position,
        owner: event.owner,
        schemaVersion: String(event.schemaVersion),
      });
      expect(String(message.key)).to.equal(event.owner);
      expect(partitionOf({ topic, partitionMetadata, message: { key: event.owner, value: '' } })).to.equal(
        partition,
      );
    }
    expect(events).to.equal(log.size);
  }
});
