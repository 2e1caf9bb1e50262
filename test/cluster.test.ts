/**
 * A cluster on a real Kafka and a real FerretDB: one process for commands, two for queries, two for projections, two
 * for turns. While clients converse, processes are killed (-9) and started again at random, the broker is away, and
 * partitions move. In the end all must be as if nothing had happened. CONVERSATIONS (24) says how many there are at
 * least, BROKER_AWAY_MS (6000) how long the broker is away. Once with the log that processes of one machine share, and
 * once, shorter, with one behind EventStoreDB's protocol.
 */
import { randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { AssertionError, expect } from 'chai';
import { type EventEnvelope, isAfter, type Position } from '../contracts/envelope.ts';
import { openMongoReadModels } from '../infra/read-models/mongodb/store.ts';
import { type Cluster, type ClusterNode, startCluster } from './cluster.ts';
import { createConversing, type Service, Unavailable } from './conversing.ts';
import { describeWithEngines, FIRST_START_MS } from './engines/availability.ts';
import { startEventStoreServer } from './engines/event-store-server.ts';
import { faultsOf, openTurns } from './log-invariants.ts';
import { client, condition, login } from './program.ts';

const CONVERSATIONS = Number(process.env.CONVERSATIONS ?? 24);
const BROKER_AWAY_MS = Number(process.env.BROKER_AWAY_MS ?? 6_000);
/** Clients at the same time. */
const CLIENTS = 8;
const MESSAGES_EACH = 3;
const PARTITIONS = 4;
const SETTLES_WITHIN_MS = 120_000;
/** As long as a process that is killed may be away before a client gives up. */
const PATIENCE_MS = 90_000;

interface Trial {
  readonly log: string;
  readonly conversations: number;
  /** At least; the broker's comes on top. */
  readonly kills: number;
  readonly startLog?: () => Promise<{ readonly url: string; stop(): Promise<void> }>;
}

const trials: readonly Trial[] = [
  { log: 'a shared embedded log', conversations: CONVERSATIONS, kills: 8 },
  {
    log: 'a log behind EventStoreDB’s protocol',
    conversations: Math.ceil(CONVERSATIONS / 3),
    kills: 4,
    startLog: startEventStoreServer,
  },
];

for (const { log: where, conversations, kills: wantedKills, startLog } of trials) {
  const title = `a cluster with ${where}, killed at random during ${conversations} conversations,`;
  describeWithEngines(['kafka', 'ferretdb'], title, function (this: Mocha.Suite) {
    this.timeout(120_000 + conversations * 10_000 + BROKER_AWAY_MS * 3);

    let eventStore: { readonly url: string; stop(): Promise<void> } | undefined;
    let cluster: Cluster;
    let token: string;

    before(async function () {
      this.timeout(FIRST_START_MS);
      eventStore = await startLog?.();
      cluster = await startCluster({
        ...(eventStore !== undefined && { eventStoreUrl: eventStore.url }),
        processes: { command: 1, query: 2, projections: 2, processes: 2 },
        env: {
          ACCESS_TOKEN_MINUTES: '1440',
          LOG_LEVEL: 'error',
          KAFKA_PARTITIONS: String(PARTITIONS),
          LOGIN_ATTEMPTS: '1000',
        },
      });
      token = (await login(cluster.with('command')[0]!.url)).token;
    });
    after(async () => {
      await cluster?.[Symbol.asyncDispose]();
      await eventStore?.stop();
    });

    /** As a client behind a proxy: any process of the kind, and the next one when that fails. */
    async function persist<Result>(
      service: Service,
      work: (url: string) => Promise<Result>,
    ): Promise<Result> {
      const candidates = cluster.with(service);
      const deadline = performance.now() + PATIENCE_MS;
      for (let at = randomInt(candidates.length); ; at++) {
        try {
          return await work(candidates[at % candidates.length]!.url);
        } catch (error) {
          if (error instanceof AssertionError || performance.now() > deadline) throw error;
          if (!(error instanceof TypeError || error instanceof Unavailable)) throw error;
          await delay(100);
        }
      }
    }
    const conversing = createConversing({ persist, token: () => token });

    async function readLog(): Promise<EventEnvelope[]> {
      const log: EventEnvelope[] = [];
      for (let next: string | null = '0'; next !== null; ) {
        const from = next;
        next = await persist('query', async (url) => {
          const { status, body } = await client(url, token).get(`/api/log/events?from=${from}&limit=1000`);
          if (status === 503) throw new Unavailable();
          expect(status, JSON.stringify(body)).to.equal(200);
          log.push(...body.events);
          return body.next;
        });
      }
      return log;
    }

    const restart = async (node: ClusterNode): Promise<void> => {
      await node.kill();
      await delay(randomInt(1_000));
      await node.start();
    };

    it('loses, doubles and repeats nothing, and finishes every answer', async () => {
      let begun = 0;
      let done = false;
      const kills: string[] = [];
      const clients = Array.from({ length: CLIENTS }, async () => {
        while (begun < conversations || kills.length < wantedKills) {
          begun++;
          let sent = 0;
          await conversing.converse(() => sent++ < MESSAGES_EACH);
        }
      });
      const finished = Promise.all(clients).finally(() => {
        done = true;
      });
      finished.catch(() => {}); // reported below

      const killing = (async () => {
        for (let round = 0; !done; round++) {
          await delay(500 + randomInt(2_500));
          if (done) break;
          if (round === 3) {
            await cluster.kafka.kill();
            await delay(BROKER_AWAY_MS);
            await cluster.kafka.restart();
            continue;
          }
          const node = cluster.nodes[randomInt(cluster.nodes.length)]!;
          kills.push(node.name);
          await restart(node);
          await Promise.race([node.program.ready.catch(() => {}), delay(10_000, undefined, { ref: false })]);
        }
      })();
      await finished;
      await killing;
      console.log(`${begun} conversations; killed: ${kills.join(', ')}`);
      await Promise.all(cluster.nodes.map(({ program }) => program.ready));

      let log: EventEnvelope[] = [];
      await condition(
        async () => {
          log = await readLog();
          return openTurns(log).length === 0;
        },
        { withinMs: SETTLES_WITHIN_MS, what: 'the end of every turn' },
      );
      expect(
        faultsOf(log, conversing.acknowledged, eventStore === undefined),
        'faults of the log',
      ).to.deep.equal([]);
      expect(conversing.acknowledged.length).to.be.at.least(conversations * MESSAGES_EACH);
      conversing.compareWith(log);
    });

    it('has read models that are, byte for byte, those of a rebuild', async () => {
      const command = client(cluster.with('command')[0]!.url, token);
      const query = client(cluster.with('query')[0]!.url, token);
      const current = async (): Promise<boolean> => {
        const { status, body } = await query.get('/api/projections');
        if (status !== 200) return false;
        return body.projections.every(
          (one: Record<string, unknown>) => one.state === 'live' && one.lag === 0 && one.complete === true,
        );
      };
      const settled = { withinMs: SETTLES_WITHIN_MS, what: 'the projections to catch up' };
      await condition(current, settled);
      const head = (await query.get('/api/log/events?order=desc&limit=1')).body.events[0].position;
      const kept = await dump(head);
      const names = new Set(kept.map((line) => line.split(' ')[0]!));
      for (const name of names) {
        const { status } = await command.post(`/api/projections/${name}/rebuild`);
        expect(status).to.equal(202);
      }
      await condition(async () => (await current()) && (await versionsSwitched(names)), settled);
      // What asked for the rebuilds has left rows in the activity.
      expect(await dump(head)).to.deep.equal(kept);
    });

    /** The copies that were live when the documents were last looked at, by projection. */
    const liveBefore = new Map<string, string>();

    async function versionsSwitched(names: ReadonlySet<string>): Promise<boolean> {
      await using models = await open();
      const live = (await models.store.copies()).filter((copy) => copy.live);
      return [...names].every((name) =>
        live.some((copy) => copy.projection === name && copy.copy !== liveBefore.get(name)),
      );
    }

    async function open() {
      const store = await openMongoReadModels({
        url: cluster.database.url,
        partitions: PARTITIONS,
        onAvailability: () => {},
      });
      return { store, [Symbol.asyncDispose]: () => store.close() };
    }

    /** Every document of every live copy up to a position, as text. */
    async function dump(upTo: Position): Promise<string[]> {
      await using models = await open();
      const lines: string[] = [];
      for (const { copy, projection, live } of await models.store.copies()) {
        if (!live) continue;
        liveBefore.set(projection, copy);
        for await (const document of models.store.partition(0).dump(copy)) {
          if (!isAfter(document.position, upTo)) lines.push(`${projection} ${JSON.stringify(document)}`);
        }
      }
      return lines.sort();
    }
  });
}
