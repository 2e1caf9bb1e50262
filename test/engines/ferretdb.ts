/** FerretDB speaks MongoDB's protocol and stores in SQLite: what can be had from package registries alone. */
import { join } from 'node:path';
import { MongoClient } from 'mongodb';
import { cached } from './cache.ts';
import { command } from './command.ts';
import { type Engine, startEngine } from './engine.ts';

const SOURCES = join(import.meta.dirname, 'ferretdb');
const READY_WITHIN_MS = 30_000;
const ASK_WITHIN_MS = 2_000;

export interface FerretDb extends Engine {
  /** `mongodb://127.0.0.1:<port>/` */
  readonly url: string;
}

/** Starts a FerretDB without data. The first one on a machine builds it, which takes a minute or two. */
export async function startFerretDb(): Promise<FerretDb> {
  const directory = await buildFerretDb();
  const { engine, ports } = await startEngine({
    name: 'ferretdb',
    ports: 1,
    command: (data, [port]) => [join(directory, 'ferretdb'), `127.0.0.1:${port}`, data],
    ask: (_, [port], pid) => ask(urlOf(port), pid),
    readyWithinMs: READY_WITHIN_MS,
  });
  return Object.assign(engine, { url: urlOf(ports[0]) });
}

/** @returns the directory with the program, built if it was not */
export function buildFerretDb(): Promise<string> {
  const sources = ['go.mod', 'go.sum', 'main.go'].map((file) => join(SOURCES, file));
  return cached('ferretdb', sources, (directory) =>
    command('go', ['build', '-trimpath', '-o', join(directory, 'ferretdb'), '.'], {
      cwd: SOURCES,
      env: { CGO_ENABLED: '0', GOWORK: 'off' },
    }),
  );
}

const urlOf = (port: number | undefined) => `mongodb://127.0.0.1:${port}/`;

async function ask(url: string, pid: number): Promise<void> {
  const client = new MongoClient(url, { serverSelectionTimeoutMS: ASK_WITHIN_MS });
  try {
    const status = await client.db('admin').command({ serverStatus: 1 });
    if (Number(status.pid) !== pid) throw new Error(`${url} is process ${status.pid}, not ${pid}`);
  } finally {
    await client.close();
  }
}
