/** A process whose engines cannot be reached when it starts: it says so, waits, ends when told to, and goes on alone. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { freePorts } from './cluster.ts';
import { describeWithEngines, FIRST_START_MS } from './engines/availability.ts';
import type { Engine } from './engines/engine.ts';
import { type EventStoreServer, startEventStoreServer } from './engines/event-store-server.ts';
import { startFerretDb } from './engines/ferretdb.ts';
import { startKafka } from './engines/kafka.ts';
import { client, condition, launchProgram, login, type Program } from './program.ts';

/** What SIGTERM may take. */
const ENDS_WITHIN_MS = 5_000;
/** The longest pause between two tries is 10 s. */
const READY_AGAIN_WITHIN_MS = 25_000;

interface Away {
  /** As /health names it. */
  readonly name: string;
  readonly variable: string;
  readonly url: string;
  readonly address: string;
  come(): Promise<void>;
}

describeWithEngines(['kafka', 'ferretdb'], 'a start without engines', function (this: Mocha.Suite) {
  this.timeout(60_000);

  let dataDir: string;
  const engines: Engine[] = [];
  let eventStore: EventStoreServer;
  let away: readonly Away[];
  const programs: Program[] = [];

  before(async function () {
    this.timeout(FIRST_START_MS);
    const [kafka, ferretDb, double] = await Promise.all([
      startKafka(),
      startFerretDb(),
      startEventStoreServer(),
    ]);
    engines.push(kafka, ferretDb);
    eventStore = double;
    away = [
      {
        name: 'event store',
        variable: 'EVENT_STORE_URL',
        url: eventStore.url,
        address: `127.0.0.1:${eventStore.port}`,
        come: () => eventStore.accept(),
      },
      {
        name: 'bus',
        variable: 'KAFKA_BROKERS',
        url: kafka.brokers,
        address: kafka.brokers,
        come: () => kafka.restart(),
      },
      {
        name: 'read models',
        variable: 'MONGODB_URL',
        url: ferretDb.url,
        address: new URL(ferretDb.url).host,
        come: () => ferretDb.restart(),
      },
    ];
  });
  beforeEach(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'odeon-start-'));
    await Promise.all([...engines.map((engine) => engine.kill()), eventStore.refuse()]);
  });
  afterEach(async () => {
    await Promise.all(programs.splice(0).map((program) => program[Symbol.asyncDispose]()));
    await rm(dataDir, { recursive: true });
  });
  after(async () => {
    await Promise.all([...engines.map((engine) => engine.stop()), eventStore?.stop()]);
  });

  async function launch(which: readonly Away[], more: Readonly<Record<string, string>> = {}) {
    const [port] = await freePorts(1);
    const program = await launchProgram({
      dataDir,
      env: {
        ...Object.fromEntries(which.map(({ variable, url }) => [variable, url])),
        PORT: String(port),
        LOG_LEVEL: 'info',
        ...more,
      },
    });
    programs.push(program);
    const url = `http://127.0.0.1:${port}`;
    const within = { withinMs: 30_000, what: 'an answer', or: program.exited };
    await condition(() => fetch(`${url}/health/live`).catch(() => null), within);
    return { program, url };
  }

  const lines = ({ stderr }: Program): Record<string, unknown>[] =>
    stderr
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line));

  for (const [at, name] of ['the event store', 'Kafka', 'MongoDB'].entries()) {
    it(`waits for ${name}, and is ready by itself once it is there`, async () => {
      const engine = away[at]!;
      const { program, url } = await launch([engine]);
      const warned = await condition(
        () => lines(program).find(({ msg }) => msg === 'An engine cannot be used'),
        { withinMs: 15_000, what: `the log to name ${name}` },
      );
      expect(warned).to.include({ name: engine.name });
      expect(warned.level).to.be.oneOf([40, 'warn']);
      expect(warned.address).to.include(engine.address);
      expect(warned.problem)
        .to.be.a('string')
        .and.match(/refused|ECONNREFUSED|UNAVAILABLE|connect/i);

      const { get, post } = client(url, '');
      const live = await get('/health/live');
      expect(live.status).to.equal(200);
      for (const path of ['/health', '/health/ready']) {
        const { status, headers, body } = await get(path);
        expect(status, path).to.equal(503);
        expect(headers.get('retry-after'), path).to.match(/^\d+$/);
        expect(body).to.include({ status: 'starting' });
        expect(body.waitingFor).to.include(engine.name).and.to.include(engine.address);
      }
      for (const answer of [
        await get('/api/chat/sessions'),
        await post('/api/auth/login', { email: 'a@example.org', password: 'whatever it is' }),
      ]) {
        expect(answer.status).to.equal(503);
        expect(answer.headers.get('retry-after')).to.match(/^\d+$/);
        expect(Object.keys(answer.body)).to.deep.equal(['error']);
      }
      const zerg = await post('/api/v1/chat', {});
      expect(zerg.status).to.equal(503);
      expect(zerg.headers.get('retry-after')).to.match(/^\d+$/);
      expect(Object.keys(zerg.body)).to.deep.equal(['ok', 'error']);
      expect(zerg.body.ok).to.equal(false);

      const pauses = await condition(
        () => {
          const seconds = lines(program).flatMap(({ msg, seconds }) =>
            msg === 'Trying again' ? [seconds] : [],
          );
          return seconds.length >= 2 && (seconds as number[]);
        },
        { withinMs: 20_000, what: 'two more tries' },
      );
      expect(pauses[1]).to.be.greaterThan(pauses[0]!);

      await engine.come();
      const since = performance.now();
      await condition(async () => (await get('/health/ready')).status === 200, {
        withinMs: READY_AGAIN_WITHIN_MS,
        what: 'it to be ready',
        or: program.exited,
      });
      console.log(`${name}: ready ${Math.round(performance.now() - since)} ms after it came`);
      await program.ready;
      const { post: send } = await login(url);
      const made = await send('/api/chat/sessions', {});
      expect(made.status).to.equal(201);
      await program.stop();
    });

    it(`ends in time while it waits for ${name}`, async () => {
      const engine = away[at]!;
      const { program } = await launch([engine]);
      await condition(() => program.stderr.includes('Trying again'), {
        withinMs: 15_000,
        what: 'the first try to fail',
      });
      const since = performance.now();
      const ending = await program.kill('SIGTERM');
      const tookMs = performance.now() - since;
      console.log(`${name}: ended after ${Math.round(tookMs)} ms`);
      expect(ending).to.deep.equal({ code: 0, signal: null });
      expect(tookMs).to.be.below(ENDS_WITHIN_MS);
    });
  }

  it('names all that it waits for, in every role', async () => {
    const roles = ['command', 'query', 'projections', 'processes'];
    const launched = await Promise.all(
      roles.map(async (ROLES) => ({
        ROLES,
        ...(await launch(away, { ROLES, COMMAND_SERVICE_URL: 'http://127.0.0.1:9' })),
      })),
    );
    const ended = launched.map(async ({ ROLES, program, url }) => {
      const { get } = client(url, '');
      const body = await condition(
        async () => {
          const { body } = await get('/health');
          return away.every(({ address }) => body.waitingFor?.includes(address)) && body;
        },
        { withinMs: 20_000, what: `${ROLES} to name all three`, or: program.exited },
      );
      expect(body.roles).to.deep.equal([ROLES]);
      const since = performance.now();
      expect(await program.kill('SIGTERM'), ROLES).to.deep.equal({ code: 0, signal: null });
      expect(performance.now() - since, `the end of ${ROLES}`).to.be.below(ENDS_WITHIN_MS);
    });
    await Promise.all(ended);
  });
});
