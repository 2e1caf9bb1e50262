/** Several processes of the program on real engines, as an operator would run them. */
import { randomInt } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startFerretDb } from './engines/ferretdb.ts';
import { startKafka } from './engines/kafka.ts';
import { launchProgram, type Program } from './program.ts';

/** Many processes start at once, and none is ready before its engines are. */
const READY_WITHIN_MS = 120_000;

type Engine = Awaited<ReturnType<typeof startKafka>>;
type Database = Awaited<ReturnType<typeof startFerretDb>>;

/** A process of the cluster; started again it has the same address. */
export interface ClusterNode {
  readonly name: string;
  readonly roles: string;
  readonly url: string;
  /** The process that runs now, or ran last. */
  readonly program: Program;
  /** Starts it without waiting until it is ready. */
  start(): Promise<void>;
  /** kill -9. */
  kill(): Promise<void>;
}

export interface Cluster extends AsyncDisposable {
  readonly kafka: Engine;
  readonly database: Database;
  readonly nodes: readonly ClusterNode[];
  with(role: string): readonly ClusterNode[];
  /** Ends all of them with SIGTERM; throws when one does not end cleanly. */
  stop(): Promise<void>;
}

export interface ClusterOptions {
  /** How many processes of which roles (`command`, or several with commas between them). */
  readonly processes: Readonly<Record<string, number>>;
  readonly env?: Readonly<Record<string, string>>;
  /** Undefined: the processes share an embedded log. */
  readonly eventStoreUrl?: string;
}

/** Starts the engines and the processes, and waits until all are ready. */
export async function startCluster({ processes, env = {}, eventStoreUrl }: ClusterOptions): Promise<Cluster> {
  const dataDir = await mkdtemp(join(tmpdir(), 'odeon-cluster-'));
  const [kafka, database] = await Promise.all([startKafka(), startFerretDb()]);
  const planned = Object.entries(processes).flatMap(([roles, count]) =>
    Array.from({ length: count }, (_, at) => ({ roles, name: `${roles} ${at + 1}` })),
  );
  const ports = await freePorts(planned.length);
  const command = planned.findIndex(({ roles }) => roles.split(',').includes('command'));
  const shared = {
    KAFKA_BROKERS: kafka.brokers,
    MONGODB_URL: database.url,
    COMMAND_SERVICE_URL: `http://127.0.0.1:${ports[command]}`,
    ...(eventStoreUrl === undefined ? {} : { EVENT_STORE_URL: eventStoreUrl }),
    ...env,
  };

  const nodes = planned.map(({ roles, name }, at) => {
    const PORT = String(ports[at]);
    let program: Program | undefined;
    const node: ClusterNode = {
      name,
      roles,
      url: `http://127.0.0.1:${PORT}`,
      get program() {
        if (program === undefined) throw new Error(`${name} was never started.`);
        return program;
      },
      async start() {
        const env = { ...shared, ROLES: roles, PORT };
        program = await launchProgram({ dataDir, env, readyWithinMs: READY_WITHIN_MS });
      },
      async kill() {
        await program?.kill('SIGKILL');
      },
    };
    return node;
  });

  const cluster: Cluster = {
    kafka,
    database,
    nodes,
    with: (role) => nodes.filter(({ roles }) => roles.split(',').includes(role)),
    async stop() {
      await Promise.all(nodes.map(({ program }) => program.stop()));
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(nodes.map((node) => node.kill()));
      await Promise.all([kafka.kill(), database.kill()]);
      await rm(dataDir, { recursive: true, force: true });
    },
  };
  try {
    await Promise.all(nodes.map((node) => node.start()));
    await Promise.all(nodes.map(({ program }) => program.ready));
    return cluster;
  } catch (error) {
    await cluster[Symbol.asyncDispose]();
    throw error;
  }
}

/** Below those that the system gives to outgoing connections, which could take the one of a process that is down. */
const PORTS = { first: 12_000, last: 19_999 };

/** Ports that are free now, all different: processes that are started again need one that stays. */
export async function freePorts(count: number): Promise<number[]> {
  const free = new Set<number>();
  for (let tries = 0; free.size < count; tries++) {
    if (tries > 1_000) throw new Error('No free ports were found.');
    const port = randomInt(PORTS.first, PORTS.last + 1);
    if (await isFree(port)) free.add(port);
  }
  return [...free];
}

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
