/** FerretDB speaks MongoDB's protocol and stores in SQLite: what can be had from package registries alone. */
import { constants } from 'node:fs';
import { chmod, copyFile, cp, readFile, writeFile } from 'node:fs/promises';
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
  return cached('ferretdb', [...sources, import.meta.filename], async (directory) => {
    const modules = await mendIdIndex(directory);
    await command(
      'go',
      ['build', '-trimpath', '-modfile', modules, '-o', join(directory, 'ferretdb'), '.'],
      GO,
    );
  });
}

const GO = { cwd: SOURCES, env: { CGO_ENABLED: '0', GOWORK: 'off' } };
const MODULE = 'github.com/FerretDB/FerretDB';
const METADATA = 'internal/backends/sqlite/metadata/metadata.go';

/**
 * FerretDB 1.24 looks documents up by `->'$._id'` and keeps their index on `->"_id"`, which SQLite takes for another
 * expression: each look-up reads the whole collection. With the same one in both it is used.
 * @returns the go.mod that builds it so
 */
async function mendIdIndex(directory: string): Promise<string> {
  await command('go', ['mod', 'download', MODULE], GO);
  const found = await command('go', ['list', '-m', '-f', '{{.Dir}}', MODULE], GO);
  const copy = join(directory, 'source');
  await cp(found.trim(), copy, { recursive: true, mode: constants.COPYFILE_FICLONE });
  const file = join(copy, METADATA);
  const text = await readFile(file, 'utf8');
  const mended = text.replace(`"->'$._id'"`, '`->"_id"`');
  if (mended === text) throw new Error(`${file} is not that of FerretDB 1.24.`);
  await chmod(file, 0o644);
  await writeFile(file, mended);
  const modules = join(directory, 'go.mod');
  await copyFile(join(SOURCES, 'go.mod'), modules);
  await copyFile(join(SOURCES, 'go.sum'), join(directory, 'go.sum'));
  await command('go', ['mod', 'edit', '-replace', `${MODULE}=${copy}`, modules], GO);
  return modules;
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
