/** Projections that can be stopped and started again under the same runtime: readers go on with what is there. */
import { setTimeout as delay } from 'node:timers/promises';
import type { ProjectionRuntime } from '../../contracts/projections.ts';
import type { SearchIndexing } from './search.ts';

export interface RestartableProjections {
  /** Stands for whatever runs now; `stop` ends it for good. */
  readonly runtime: ProjectionRuntime;
  /** Resolves when they run. */
  start(): Promise<{ stop(): Promise<void> }>;
}

/**
 * @param open begins to run the projections; with `run` false only to watch those that other processes run
 * @param watches whether other processes may go on where this one has stopped
 */
export async function restartable(
  open: (run: boolean) => Promise<ProjectionRuntime>,
  watches: boolean,
): Promise<RestartableProjections> {
  let current = await open(true);
  let running = true;
  let ended = false;
  let changed = Promise.withResolvers<void>();

  function replaced(): void {
    changed.resolve();
    changed = Promise.withResolvers();
  }

  async function stop(): Promise<void> {
    running = false;
    await current.stop();
    if (watches && !ended) current = await open(false);
    replaced();
  }

  const runtime: ProjectionRuntime = {
    async waitFor(wanted, timeoutMs) {
      const deadline = performance.now() + timeoutMs;
      for (;;) {
        const now = current;
        if (await now.waitFor(wanted, Math.max(0, deadline - performance.now()))) return true;
        const leftMs = deadline - performance.now();
        if (ended || leftMs <= 0) return false;
        if (now !== current) continue;
        // Stopped: it may be started in time.
        const giveUp = new AbortController();
        await Promise.race([changed.promise, delay(leftMs, null, giveUp).catch(() => {})]);
        giveUp.abort();
      }
    },
    position: () => current.position(),
    status: () => current.status(),
    rebuild: (name) => current.rebuild(name),
    failures: (name) => current.failures(name),
    retry: (name) => current.retry(name),
    async stop() {
      ended = true;
      await current.stop();
      replaced();
    },
  };

  return {
    runtime,
    async start() {
      if (!running) {
        if (watches) await current.stop();
        current = await open(true);
        running = true;
        replaced();
      }
      return { stop };
    },
  };
}

export interface RestartableSearch {
  /** Stands for whatever runs now. */
  readonly indexing: SearchIndexing;
  start(): Promise<{ stop(): Promise<void> }>;
}

/** The same for the search index, which nobody but a search waits for. */
export function restartableSearch(open: () => SearchIndexing): RestartableSearch {
  let current = open();
  let running = true;
  return {
    indexing: {
      name: current.name,
      waitFor: (position, timeoutMs) => current.waitFor(position, timeoutMs),
      status: () => current.status(),
      rebuild: () => current.rebuild(),
      failures: () => current.failures(),
      retry: () => current.retry(),
      stop: () => current.stop(),
    },
    async start() {
      if (!running) current = open();
      running = true;
      return {
        async stop() {
          running = false;
          await current.stop();
        },
      };
    },
  };
}
