#!/usr/bin/env node
/** The command line for operators: moves a log between stores, as a file, and makes keys. `odeon --help` says how. */
import { existsSync, readFileSync } from 'node:fs';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { loadEnvFile } from 'node:process';
import { parseArgs } from 'node:util';
import { keptKeyMs } from './config.ts';
import { newKeys, rotatedKeys } from './infra/auth/keys.ts';
import { type EventStore, StoreUnavailable } from './infra/event-store/port.ts';
import { openSqliteEventStore, readSqliteLog } from './infra/event-store/sqlite.ts';
import { exportLog, importLog, type OnProgress, type Phase } from './infra/event-store/transfer.ts';

const USAGE = `odeon export [--from <log>] <file>
odeon import [--to <log>] <file>
odeon keys [--rotate]

Moves a log of events to another store, by way of a file; makes the keys of a deployment.

  export   Writes every event of the log to <file>, a line of JSON each, and at its end their number and a digest
           (SHA-256). The log may be in use: what is committed meanwhile is left out. To move to another store,
           stop Odeon first, so that nothing is left behind.
  import   Checks the file, appends its events to a log that is empty, and reads that log again to compare the
           two. Stopped or killed in between, it goes on where it was when it is started again. The log may not
           be in use. Streams, revisions, order, ids and times stay as they are; positions are the new log's own.
  keys     Prints new keys, for KEYS in the environment of every process of a new deployment. With --rotate it
           prints those in KEYS with another one to sign with: start every process again with what it prints.

A <log> is one of
  sqlite:<folder>   an embedded log, in a DATA_DIR
  esdb://…          EventStoreDB or KurrentDB (also kurrentdb://…), as in EVENT_STORE_URL
and, when it is not given, what the program uses: EVENT_STORE_URL, else DATA_DIR (./data), also from .env.

The log is not all of a deployment: its keys (keys.json in DATA_DIR, or KEYS_FILE) have to be taken along as well,
as passwords and logins depend on them. Read models are made again from the log.

Where odeon is not a command of its own: npm run odeon -- export …`;

/** A store as the command line names it. */
interface KnownLog {
  /** @returns the log, and how many events it holds where that is known at once */
  read(url: string): Promise<Pick<EventStore, 'head' | 'readAll' | 'close'> & { readonly events?: number }>;
  write(url: string): Promise<EventStore>;
}

/** By the scheme of their URLs. */
const knownLogs: Readonly<Record<string, KnownLog>> = {
  sqlite: {
    read: (url) => readSqliteLog(folderOf(url)),
    write: (url) => openSqliteEventStore({ directory: folderOf(url) }),
  },
  esdb: { read: openServer, write: openServer },
  kurrentdb: { read: openServer, write: openServer },
};

async function openServer(url: string): Promise<EventStore> {
  const { openEventStoreDb } = await import('./infra/event-store/event-store-db.ts');
  // What goes wrong on the way is thrown by what is asked then.
  return openEventStoreDb({ url, onAvailability: () => {} });
}

const folderOf = (url: string): string => url.slice('sqlite:'.length);

class UsageError extends Error {}

async function main(): Promise<void> {
  // What users wrote is in the file and in the log: nobody else on this machine needs to look.
  process.umask(0o077);
  if (existsSync('.env')) loadEnvFile('.env');
  const options = {
    help: { type: 'boolean', short: 'h' },
    from: { type: 'string' },
    to: { type: 'string' },
    rotate: { type: 'boolean' },
  } as const;
  const { values, positionals } = parse(() => parseArgs({ options, allowPositionals: true }));
  const [command, file, ...more] = positionals;
  if (values.help || command === undefined) {
    process.stdout.write(`${USAGE}\n`);
    if (!values.help) process.exitCode = 2;
    return;
  }
  if (command === 'keys') {
    if (file !== undefined || values.from !== undefined || values.to !== undefined) {
      throw new UsageError('odeon keys takes nothing but --rotate');
    }
    await printKeys(values.rotate === true);
    return;
  }
  if (values.rotate) throw new UsageError(`odeon ${command} takes no --rotate`);
  if (command !== 'export' && command !== 'import') throw new UsageError(`there is no command ${command}`);
  if (file === undefined) throw new UsageError('which file?');
  if (more.length > 0) throw new UsageError(`one file, not ${positionals.length - 1}`);
  const [mine, other] = command === 'export' ? (['from', 'to'] as const) : (['to', 'from'] as const);
  if (values[other] !== undefined) throw new UsageError(`odeon ${command} takes --${mine}, not --${other}`);

  const { EVENT_STORE_URL: storeUrl, DATA_DIR: dataDir } = process.env;
  const url = values[mine] ?? (storeUrl || `sqlite:${dataDir || './data'}`);
  const known = knownLogs[/^([a-z]+)(?:\+[a-z]+)?:./.exec(url)?.[1] ?? ''];
  if (known === undefined) {
    throw new UsageError(`${withoutCredentials(url)} is no log that is known: sqlite:<folder> or esdb://…`);
  }
  if (command === 'export') await runExport(known, url, file);
  else await runImport(known, url, file);
}

async function printKeys(rotate: boolean): Promise<void> {
  const { KEYS, ACCESS_TOKEN_MINUTES } = process.env;
  if (rotate && !KEYS) throw new UsageError('KEYS is not set: there is nothing to rotate');
  const longestTokenMs = keptKeyMs(Number(ACCESS_TOKEN_MINUTES || 0));
  process.stdout.write(`${rotate ? await rotatedKeys(KEYS!, longestTokenMs) : await newKeys()}\n`);
}

async function runExport(known: KnownLog, url: string, file: string): Promise<void> {
  const source = withoutCredentials(url);
  const store = await known.read(url);
  const progress = startProgress();
  try {
    const expected = store.events ?? null;
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, 'package.json'), 'utf8'));
    const { count, sha256 } = await exportLog({
      store,
      file,
      version,
      source,
      expected,
      onProgress: progress.tell,
    });
    progress.stop();
    process.stdout.write(`${file} holds the ${count} events of ${source}.\nsha256 ${sha256}\n`);
  } finally {
    progress.stop();
    await store.close();
  }
}

async function runImport(known: KnownLog, url: string, file: string): Promise<void> {
  await access(file); // before a log is made for nothing
  const store = await known.write(url);
  const progress = startProgress();
  try {
    const result = await importLog({ store, file, onProgress: progress.tell });
    progress.stop();
    const { count, sha256, contentSha256 } = result.file;
    const before = result.held === 0 ? '' : `, ${result.held} of them from before`;
    process.stdout.write(
      `${file}: ${count} events, sha256 ${sha256}\n` +
        `  without positions, sha256 ${contentSha256}\n` +
        `${withoutCredentials(url)}: ${result.count} events${before}, read again\n` +
        `  without positions, sha256 ${result.contentSha256}: the same\n` +
        'Take the keys of the deployment along too; read models are made again from the log.\n',
    );
  } catch (error) {
    if (!(error instanceof StoreUnavailable)) throw error;
    throw new Error(`${error.message}\nOnce that is mended, the same command goes on where it was.`, {
      cause: error,
    });
  } finally {
    progress.stop();
    await store.close();
  }
}

/** Says on standard error how far it is: in place on a terminal, every ten seconds elsewhere. */
function startProgress(): { readonly tell: OnProgress; stop(): void } {
  const terminal = process.stderr.isTTY === true;
  let now: { phase: Phase; began: number; events: number; part: number | null } | undefined;

  function say(): void {
    if (now === undefined) return;
    const { phase, began, events, part } = now;
    const seconds = (performance.now() - began) / 1_000;
    const left = part === null || part === 0 ? null : (seconds / part) * (1 - part);
    const text = [
      `${phase}: ${events} events`,
      ...(part === null ? [] : [`${Math.floor(part * 100)} %`]),
      `${Math.round(events / seconds)} events/s`,
      ...(left === null ? [] : [`${Math.ceil(left)} s left`]),
    ].join(', ');
    process.stderr.write(terminal ? `\r\x1b[K${text}` : `${text}\n`);
  }

  const timer = setInterval(say, terminal ? 1_000 : 10_000);
  return {
    tell(phase, events, part) {
      const began = now?.phase === phase ? now.began : performance.now();
      now = { phase, began, events, part };
    },
    stop() {
      clearInterval(timer);
      if (terminal && now !== undefined) process.stderr.write('\r\x1b[K');
      now = undefined;
    },
  };
}

function parse<Result>(parsing: () => Result): Result {
  try {
    return parsing();
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

const withoutCredentials = (url: string): string => url.replace(/\/\/[^/]*@/, '//…@');

try {
  await main();
} catch (error) {
  const { message } = error as Error;
  process.stderr.write(`odeon: ${message}\n${error instanceof UsageError ? 'odeon --help says how.\n' : ''}`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
