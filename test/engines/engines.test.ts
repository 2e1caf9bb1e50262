import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { Kafka, logLevel } from 'kafkajs';
import { MongoClient } from 'mongodb';
import { describeWithEngines, FIRST_START_MS } from './availability.ts';
import { cached } from './cache.ts';
import { type FerretDb, startFerretDb } from './ferretdb.ts';
import { type KafkaBroker, startKafka } from './kafka.ts';

const START = join(import.meta.dirname, 'start.ts');

async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (await condition()) return;
    await delay(50);
  }
  throw new Error(`Waited too long for ${what}`);
}

const runs = (pid: number) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

describeWithEngines(['kafka'], 'a Kafka broker for tests', () => {
  let broker: KafkaBroker;
  before(async function () {
    this.timeout(FIRST_START_MS);
    broker = await startKafka();
  });
  after(() => broker.stop());

  it('keeps its address and its topics over a kill and a restart', async () => {
    const topics = async (topic?: string) => {
      const admin = new Kafka({ brokers: [broker.brokers], logLevel: logLevel.NOTHING }).admin();
      await admin.connect();
      if (topic !== undefined) await admin.createTopics({ topics: [{ topic }] });
      const found = await admin.listTopics();
      await admin.disconnect();
      return found;
    };
    expect(await topics('kept')).to.deep.equal(['kept']);
    const { pid, brokers } = broker;
    await broker.kill();
    expect(runs(pid)).to.equal(false);
    await broker.restart();
    expect(broker.brokers).to.equal(brokers);
    expect(await topics()).to.deep.equal(['kept']);
  });

  it('says what the broker said when it does not start', async () => {
    const error = await startKafka({ properties: { 'log.retention.ms': 'a while' } }).catch(
      (reason) => reason,
    );
    expect(error).to.be.instanceOf(Error);
    expect(error.message).to.match(/^kafka did not start: it ended with 1\n[\s\S]*log\.retention\.ms/);
  });
});

describeWithEngines(['ferretdb'], 'a FerretDB for tests', () => {
  let ferretDb: FerretDb;
  before(async function () {
    this.timeout(FIRST_START_MS);
    ferretDb = await startFerretDb();
  });
  after(() => ferretDb.stop());

  it('keeps its address and its documents over a kill and a restart', async () => {
    const withClient = async <T>(work: (client: MongoClient) => Promise<T>): Promise<T> => {
      const client = new MongoClient(ferretDb.url);
      try {
        return await work(client);
      } finally {
        await client.close();
      }
    };
    type Kept = { _id: string };
    await withClient((client) => client.db('test').collection<Kept>('kept').insertOne({ _id: 'a' }));
    const { url } = ferretDb;
    await ferretDb.kill();
    await ferretDb.restart();
    expect(ferretDb.url).to.equal(url);
    const found = await withClient((client) => client.db('test').collection<Kept>('kept').find().toArray());
    expect(found).to.deep.equal([{ _id: 'a' }]);
  });
});

describe('the engines of a process', () => {
  let temporary: string;
  beforeEach(async () => {
    temporary = await mkdtemp(join(tmpdir(), 'odeon-engines-'));
  });
  afterEach(() => rm(temporary, { recursive: true }));

  const launch = (...args: string[]) =>
    spawn(process.execPath, args, {
      env: { ...process.env, TMPDIR: temporary },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
  const isEmpty = async () => (await readdir(temporary)).length === 0;

  for (const [engine, file, start] of [
    ['kafka', 'kafka.ts', 'startKafka'],
    ['ferretdb', 'ferretdb.ts', 'startFerretDb'],
  ] as const) {
    describeWithEngines([engine], `with ${engine}`, () => {
      it('ends when the process is killed, and leaves no data', async function () {
        this.timeout(FIRST_START_MS);
        const script = `const { ${start} } = await import(${JSON.stringify(join(import.meta.dirname, file))});
          console.log((await ${start}()).pid);`;
        const child = launch('--input-type=module', '-e', script);
        const [line] = await once(createInterface({ input: child.stdout }), 'line');
        const pid = Number(line);
        expect(runs(pid)).to.equal(true);
        child.kill('SIGKILL');
        await until('the end of the engine', () => !runs(pid));
        await until('its data to be gone', isEmpty);
      });
    });
  }

  describeWithEngines(['kafka', 'ferretdb'], 'from the command line', () => {
    it('are those that are named, until Ctrl-C', async function () {
      this.timeout(FIRST_START_MS);
      const child = launch(START, 'kafka', 'ferretdb');
      const lines: string[] = [];
      createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
      while (lines.length < 2 && child.exitCode === null) await delay(20);
      expect(lines.sort().join()).to.match(
        /^KAFKA_BROKERS=127\.0\.0\.1:\d+,MONGODB_URL=mongodb:\/\/127\.0\.0\.1:\d+\/$/,
      );
      child.kill('SIGINT');
      expect(await once(child, 'exit')).to.deep.equal([0, null]);
      expect(await isEmpty()).to.equal(true);
    });
  });

  it('from the command line are refused when there is no such engine', async () => {
    const child = spawn(process.execPath, [START, 'redis'], { stdio: ['ignore', 'ignore', 'pipe'] });
    const [[code], said] = await Promise.all([once(child, 'exit'), text(child.stderr)]);
    expect([code, said]).to.deep.equal([1, 'There is no engine redis; there are: kafka, ferretdb.\n']);
  });
});

describe('the cache of engines', () => {
  let temporary: string;
  let source: string;
  const before = process.env.XDG_CACHE_HOME;
  beforeEach(async () => {
    temporary = await mkdtemp(join(tmpdir(), 'odeon-engines-'));
    process.env.XDG_CACHE_HOME = temporary;
    source = join(temporary, 'source');
    await writeFile(source, 'one');
  });
  afterEach(async () => {
    if (before === undefined) delete process.env.XDG_CACHE_HOME;
    else process.env.XDG_CACHE_HOME = before;
    await rm(temporary, { recursive: true });
  });

  it('is filled once, however many ask for it at once', async () => {
    let builds = 0;
    const build = async (directory: string) => {
      builds++;
      await delay(20);
      await writeFile(join(directory, 'built'), 'yes');
    };
    const found = await Promise.all(Array.from({ length: 3 }, () => cached('x', [source], build)));
    expect(builds).to.equal(1);
    expect(new Set(found).size).to.equal(1);
    expect(await readFile(join(found[0]!, 'built'), 'utf8')).to.equal('yes');
  });

  it('is filled anew, from nothing, after a build that failed', async () => {
    const failing = cached('x', [source], async (directory) => {
      await writeFile(join(directory, 'half'), '');
      throw new Error('no network');
    });
    expect(await failing.catch((error) => error.message)).to.equal('no network');
    const directory = await cached('x', [source], async () => {});
    expect(await readdir(directory)).to.deep.equal(['complete']);
  });

  it('has a place for each version of the sources', async () => {
    const first = await cached('x', [source], async () => {});
    await writeFile(source, 'two');
    expect(await cached('x', [source], async () => {})).to.not.equal(first);
  });
});
