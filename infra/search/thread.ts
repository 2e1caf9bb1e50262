/** Calls into a worker thread: each is answered once, in whatever order the thread gets them done. */
import { parentPort, type Transferable, Worker } from 'node:worker_threads';

/** The name of the error of an embedding model that could not be loaded. */
export const MODEL_NOT_LOADED = 'ModelNotLoaded';

interface Call {
  readonly number: number;
  readonly name: string;
  readonly input: unknown;
}
type Answer = { readonly number: number } & (
  | { readonly output: unknown }
  | { readonly error: string; readonly name: string; readonly code?: string }
);

/** An error that a call threw within the thread. */
export class ThreadError extends Error {
  /** Of SQLite's errors. */
  readonly code: string | undefined;
  constructor(message: string, name: string, code: string | undefined) {
    super(message);
    this.name = name;
    this.code = code;
  }
}

/** The thread has ended, or was never started: what was asked for may or may not be done. */
export class ThreadEnded extends Error {}

export interface Thread {
  call<Output>(name: string, input: unknown, transfer?: readonly Transferable[]): Promise<Output>;
  /** Lets it finish what was asked for. */
  close(): Promise<void>;
}

/** A thread has little of its own to keep. Left to itself its heap would grow far beyond that before it is tidied. */
const HEAP = { maxYoungGenerationSizeMb: 8, maxOldGenerationSizeMb: 128 };

/** @param file of the code that runs in the thread: it calls `serveCalls`. */
export function startThread(file: URL, workerData: unknown): Thread {
  // No flags of the main thread: those for `--eval` would stop it from starting.
  const worker = new Worker(file, { workerData, execArgv: [], resourceLimits: HEAP });
  const waiting = new Map<number, PromiseWithResolvers<unknown>>();
  const ended = Promise.withResolvers<void>();
  let gone: Error | null = null;
  let last = 0;

  function end(error: Error): void {
    gone ??= error;
    for (const { reject } of waiting.values()) reject(gone);
    waiting.clear();
  }

  worker.on('message', (answer: Answer) => {
    const call = waiting.get(answer.number);
    waiting.delete(answer.number);
    if ('error' in answer) call?.reject(new ThreadError(answer.error, answer.name, answer.code));
    else call?.resolve(answer.output);
  });
  worker.on('error', (error) => end(new ThreadEnded(error.message, { cause: error })));
  worker.on('exit', (code) => {
    end(new ThreadEnded(`it has ended with code ${code}`));
    ended.resolve();
  });

  function call<Output>(
    name: string,
    input: unknown,
    transfer: readonly Transferable[] = [],
  ): Promise<Output> {
    if (gone !== null) return Promise.reject(gone);
    const number = ++last;
    const settled = Promise.withResolvers<unknown>();
    waiting.set(number, settled);
    worker.postMessage({ number, name, input } satisfies Call, transfer);
    return settled.promise as Promise<Output>;
  }

  return {
    call,
    async close() {
      if (gone === null) await call('close', null).catch(() => {});
      gone ??= new ThreadEnded('it is closed');
      await ended.promise;
    },
  };
}

/**
 * Within the thread: answers the calls, one after the other.
 * @param handlers by name; after `close`, which there must be, the thread ends
 */
export function serveCalls(handlers: Readonly<Record<string, (input: never) => unknown>>): void {
  const port = parentPort!;
  let turn: Promise<void> = Promise.resolve();

  async function answer({ number, name, input }: Call): Promise<void> {
    try {
      const output = await handlers[name]!(input as never);
      port.postMessage({ number, output } satisfies Answer);
    } catch (reason) {
      const error = reason instanceof Error ? reason : new Error(String(reason));
      const { code } = error as { code?: unknown };
      port.postMessage({
        number,
        error: error.message,
        name: error.name,
        ...(typeof code === 'string' && { code }),
      } satisfies Answer);
    }
    if (name === 'close') port.close();
  }

  port.on('message', (call: Call) => {
    turn = turn.then(() => answer(call));
  });
}
