/** Engines are built once on a machine, outside the repository, however many test processes ask for them at once. */
import { createHash } from 'node:crypto';
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';

const POLL_MS = 200;

/**
 * The directory of an engine that is built from `sources`, built now if it is not yet.
 * @param name of the engine; the directory's name begins with it
 * @param sources the files that decide what is built: other contents, another directory
 * @param build fills the empty directory. It is called in one process at a time, and once more, in an empty directory,
 * after a build that failed or was killed.
 * @throws what `build` throws
 */
export async function cached(
  name: string,
  sources: readonly string[],
  build: (directory: string) => Promise<void>,
): Promise<string> {
  const hash = createHash('sha256');
  for (const source of sources) hash.update(await readFile(source)).update('\0');
  const root = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'odeon', 'engines');
  const directory = join(root, `${name}-${hash.digest('hex').slice(0, 16)}`);
  const complete = join(directory, 'complete');
  if (await exists(complete)) return directory;

  await mkdir(root, { recursive: true });
  const release = await lock(`${directory}.lock`);
  try {
    if (await exists(complete)) return directory; // built while this one waited
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory);
    await build(directory);
    await writeFile(complete, '');
    return directory;
  } finally {
    release();
  }
}

/** A SQLite file in an exclusive transaction: the operating system lets go of it however this process ends. */
async function lock(path: string): Promise<() => void> {
  for (;;) {
    const database = new DatabaseSync(path, { timeout: 0 });
    try {
      database.exec('BEGIN EXCLUSIVE');
      return () => database.close();
    } catch (error) {
      database.close();
      if (!(error instanceof Error && error.message.includes('locked'))) throw error;
    }
    await delay(POLL_MS);
  }
}

const exists = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  );
