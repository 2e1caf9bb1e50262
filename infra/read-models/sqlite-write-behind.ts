/**
 * Writes batches behind the back of who asks for them: a batch counts as written once it is taken, batches that
 * wait go into one transaction, and what is not stored yet is read from here. So a command's answer does not wait
 * for the read models' file, and under load the pages that every batch changes are written once for many.
 *
 * Nothing is lost that the log does not hold: a checkpoint is stored in one transaction with what it stands for.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Stored } from './port.ts';
import type { Run, WriteQueue } from './sqlite-write-queue.ts';

/** Beyond so many waiting statements a batch waits to be taken. */
const MAX_WAITING = 1_000;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 5_000;

export interface WriteBehind {
  /** Takes a batch. Rejects (and takes nothing) while the file cannot be written. */
  take(runs: readonly Run[], changes: ReadonlyMap<string, Stored<unknown> | null>): Promise<void>;
  /** What a batch that is not stored yet says of a document; undefined when none does. */
  pending(key: string): Stored<unknown> | null | undefined;
  /** Resolves when everything taken so far is stored; rejects when it cannot be for now. */
  stored(): Promise<void>;
  /** Tries once more to store what is left. */
  close(): Promise<void>;
}

interface Group {
  readonly runs: Run[];
  readonly changes: Map<string, Stored<unknown> | null>;
  outcome: PromiseWithResolvers<void>;
}

/** @param onStored told of each change once a reader of the file sees it */
export function createWriteBehind(
  queue: WriteQueue,
  onStored: (key: string, document: Stored<unknown> | null) => void,
): WriteBehind {
  let gathering = newGroup();
  let storing: Group | null = null;
  let problem: unknown = null;
  const closing = new AbortController();
  let running = false;
  let loop: Promise<void> = Promise.resolve();

  async function storeAll(): Promise<void> {
    running = true;
    try {
      while (gathering.runs.length > 0) {
        storing = gathering;
        gathering = newGroup();
        await store(storing);
        for (const [key, document] of storing.changes) onStored(key, document);
        const { outcome } = storing;
        storing = null;
        outcome.resolve();
      }
    } finally {
      // In one go with the look at what was gathered: a batch that comes now begins the next round.
      running = false;
    }
  }

  /** Tries until it works, or until the end: then the log brings it back at the next start. */
  async function store(group: Group): Promise<void> {
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      try {
        await queue.write(group.runs);
        problem = null;
        return;
      } catch (error) {
        problem = error;
        // Whoever waits is told; who comes later waits for the next try.
        for (const waiting of [group, gathering]) {
          waiting.outcome.reject(error);
          waiting.outcome = newOutcome();
        }
        if (closing.signal.aborted) throw error;
        await pause(pauseMs, null, { signal: closing.signal }).catch(() => {});
      }
    }
  }

  return {
    async take(runs, changes) {
      if (problem !== null) throw problem;
      while (gathering.runs.length > MAX_WAITING) await gathering.outcome.promise;
      gathering.runs.push(...runs);
      for (const [key, document] of changes) gathering.changes.set(key, document);
      if (running) return;
      loop = storeAll();
      loop.catch(() => {}); // `close` asks for it
    },
    pending(key) {
      const newest = gathering.changes.get(key);
      return newest === undefined ? storing?.changes.get(key) : newest;
    },
    async stored() {
      if (problem !== null) throw problem;
      const last = gathering.runs.length > 0 ? gathering : storing;
      if (last !== null) await last.outcome.promise;
    },
    async close() {
      closing.abort();
      await loop;
    },
  };
}

const newOutcome = (): PromiseWithResolvers<void> => {
  const outcome = Promise.withResolvers<void>();
  outcome.promise.catch(() => {}); // nobody has to wait for it
  return outcome;
};

const newGroup = (): Group => ({ runs: [], changes: new Map(), outcome: newOutcome() });
