/** The main thread's end of the writer: sends transactions, and settles each when it is committed. */
import { Worker } from 'node:worker_threads';
import { StoreUnavailable } from '../event-store/port.ts';
import type { Outcome, Transaction, Value, WriterData } from './sqlite-writer.ts';

export type Run = readonly [sql: string, ...bound: Value[]];

export interface WriteQueue {
  /** Runs the statements as one transaction. Rejects with StoreUnavailable when nothing was written. */
  write(runs: readonly Run[]): Promise<void>;
  /** Finishes what was asked for, then closes the writer's connection. */
  close(): Promise<void>;
}

export function startWriteQueue(data: WriterData): WriteQueue {
  // No flags of the main thread: those for `--eval` would stop the writer from starting.
  const worker = new Worker(new URL('./sqlite-writer.ts', import.meta.url), {
    workerData: data,
    execArgv: [],
  });
  const waiting: PromiseWithResolvers<void>[] = [];
  const ended = Promise.withResolvers<void>();
  let gone: StoreUnavailable | null = null;

  const failure = (why: string, cause?: unknown) =>
    new StoreUnavailable(`The read models in ${data.file} cannot be used: ${why}`, {
      cause,
      engine: 'read models',
    });

  function fail(reason: StoreUnavailable): void {
    gone ??= reason;
    for (const { reject } of waiting.splice(0)) reject(reason);
  }

  worker.on('message', (outcome: Outcome) => {
    const { resolve, reject } = waiting.shift()!;
    if (outcome === null) resolve();
    else reject(failure(outcome.message, outcome));
  });
  worker.on('error', (error) => fail(failure(`their writer failed: ${error.message}`, error)));
  worker.on('exit', () => {
    fail(failure('their writer has ended'));
    ended.resolve();
  });

  return {
    write(runs) {
      if (gone !== null) return Promise.reject(gone);
      const indexes = new Map<string, number>();
      const numbered = runs.map(([sql, ...bound]) => {
        let index = indexes.get(sql);
        if (index === undefined) {
          index = indexes.size;
          indexes.set(sql, index);
        }
        return [index, bound] as const;
      });
      const settled = Promise.withResolvers<void>();
      waiting.push(settled);
      worker.postMessage({ sql: [...indexes.keys()], runs: numbered } satisfies Transaction);
      return settled.promise;
    },
    async close() {
      gone ??= new StoreUnavailable(`The read models in ${data.file} are closed.`, { engine: 'read models' });
      worker.postMessage('close');
      await ended.promise;
    },
  };
}
