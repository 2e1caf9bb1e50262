/** A Kafka broker that is its own controller. */
import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Kafka, logLevel } from 'kafkajs';
import { cached } from './cache.ts';
import { command } from './command.ts';
import { type Engine, startEngine } from './engine.ts';

const SOURCES = join(import.meta.dirname, 'kafka');
const READY_WITHIN_MS = 60_000;
const ASK_WITHIN_MS = 2_000;
const NODE_ID = '1';

/** One node, little memory, and quick: no waiting for members to join or for a killed broker's session to end. */
const SETTINGS: Readonly<Record<string, string>> = {
  'process.roles': 'broker,controller',
  'node.id': NODE_ID,
  'controller.listener.names': 'CONTROLLER',
  'broker.heartbeat.interval.ms': '250',
  'broker.session.timeout.ms': '2000',
  'auto.create.topics.enable': 'false',
  'offsets.topic.replication.factor': '1',
  'offsets.topic.num.partitions': '4',
  'transaction.state.log.replication.factor': '1',
  'transaction.state.log.min.isr': '1',
  'transaction.state.log.num.partitions': '4',
  'group.initial.rebalance.delay.ms': '0',
};

export interface KafkaBroker extends Engine {
  /** `127.0.0.1:<port>` */
  readonly brokers: string;
}

export interface KafkaOptions {
  /** Added to the broker's configuration, as in server.properties. */
  readonly properties?: Readonly<Record<string, string>>;
}

/** Starts a broker without topics. The first one on a machine fetches it. */
export async function startKafka({ properties = {} }: KafkaOptions = {}): Promise<KafkaBroker> {
  const built = await buildKafka();
  return start(built, properties, [`-XX:SharedArchiveFile=${join(built, 'classes.jsa')}`]);
}

/** @returns the directory with the jars, made if it was not */
export function buildKafka(): Promise<string> {
  const sources = ['pom.xml', 'log4j2.properties'].map((file) => join(SOURCES, file));
  return cached('kafka', [...sources, import.meta.filename], async (directory) => {
    const pom = join(SOURCES, 'pom.xml');
    const lib = join(directory, 'lib');
    await command('mvn', [
      '-q',
      '-B',
      '-f',
      pom,
      'dependency:copy-dependencies',
      `-DoutputDirectory=${lib}`,
      '-DincludeScope=runtime',
    ]);
    await copyFile(join(SOURCES, 'log4j2.properties'), join(directory, 'log4j2.properties'));
    await format(directory);
    await archiveClasses(directory);
  });
}

/** What formatting writes is the same for every broker, but for the identities. */
async function format(built: string): Promise<void> {
  const settings = join(built, 'format.properties');
  await writeFile(
    settings,
    toProperties({
      ...SETTINGS,
      'controller.quorum.voters': `${NODE_ID}@127.0.0.1:1`,
      listeners: 'PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:1',
      'advertised.listeners': 'PLAINTEXT://127.0.0.1:1',
      'log.dirs': join(built, 'formatted'),
    }),
  );
  const [program = '', ...args] = java(built, []);
  const clusterId = randomBytes(16).toString('base64url');
  await command(program, [...args, 'kafka.tools.StorageTool', 'format', '-t', clusterId, '-c', settings]);
}

/** A first run leaves an archive of the classes it loaded: brokers that start with it are ready in half the time. */
async function archiveClasses(built: string): Promise<void> {
  const broker = await start(built, {}, [`-XX:ArchiveClassesAtExit=${join(built, 'classes.jsa')}`]);
  try {
    await broker.kill('SIGTERM');
  } finally {
    await broker.stop();
  }
}

async function start(
  built: string,
  properties: Readonly<Record<string, string>>,
  jvm: readonly string[],
): Promise<KafkaBroker> {
  const clusterId = randomBytes(16).toString('base64url');
  const { engine, ports } = await startEngine({
    name: 'kafka',
    ports: 2,
    async prepare(data, [port, controllerPort]) {
      const logs = join(data, 'logs');
      await mkdir(logs);
      await copyFile(join(built, 'formatted', 'bootstrap.checkpoint'), join(logs, 'bootstrap.checkpoint'));
      const meta = { version: '1', 'node.id': NODE_ID, 'cluster.id': clusterId };
      await writeFile(join(logs, 'meta.properties'), toProperties(meta));
      await writeFile(
        join(data, 'server.properties'),
        toProperties({
          ...SETTINGS,
          'controller.quorum.voters': `${NODE_ID}@127.0.0.1:${controllerPort}`,
          listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
          'advertised.listeners': `PLAINTEXT://127.0.0.1:${port}`,
          'log.dirs': logs,
          ...properties,
        }),
      );
    },
    command: (data) => [...java(built, jvm), 'kafka.Kafka', join(data, 'server.properties')],
    ask: (_, [port]) => ask(`127.0.0.1:${port}`, clusterId),
    readyWithinMs: READY_WITHIN_MS,
  });
  return Object.assign(engine, { brokers: `127.0.0.1:${ports[0]}` });
}

function java(built: string, jvm: readonly string[]): string[] {
  return [
    'java',
    '-Xmx512m',
    '-XX:+UseSerialGC',
    '-XX:TieredStopAtLevel=1',
    ...jvm,
    `-Dlog4j2.configurationFile=${join(built, 'log4j2.properties')}`,
    '-cp',
    join(built, 'lib', '*'),
  ];
}

const toProperties = (settings: Readonly<Record<string, string>>) =>
  Object.entries(settings)
    .map(([name, value]) => `${name}=${value}\n`)
    .join('');

async function ask(broker: string, clusterId: string): Promise<void> {
  const admin = new Kafka({
    brokers: [broker],
    connectionTimeout: ASK_WITHIN_MS,
    requestTimeout: ASK_WITHIN_MS,
    retry: { retries: 0 },
    logLevel: logLevel.NOTHING,
  }).admin();
  try {
    await admin.connect();
    const cluster = await admin.describeCluster();
    if (cluster.clusterId !== clusterId) throw new Error(`${broker} is of cluster ${cluster.clusterId}`);
    if (cluster.brokers.length === 0) throw new Error('the broker is not yet part of its cluster');
  } finally {
    await admin.disconnect();
  }
}
