/**
 * The embedded index: one SQLite file with sqlite-vec and FTS5. One thread writes, another searches, and neither holds
 * up the event loop. Several processes of one machine may share the file: one of them writes, and when it ends, another
 * takes over. A file that is damaged, or was made by another version or with another model, is filled anew.
 */
import { StoreUnavailable } from '../event-store/port.ts';
import type { SearchIndex } from './port.ts';
import { formatOf, type ThreadData } from './sqlite/schema.ts';
import { startThread, type Thread, ThreadEnded, ThreadError } from './thread.ts';

export interface SqliteSearchIndexOptions {
  /** Made when it does not exist. A lock file is kept beside it. */
  readonly file: string;
  /** Of the embedder whose vectors are put and looked for. */
  readonly model: string;
}

export function openSqliteSearchIndex({ file, model }: SqliteSearchIndexOptions): SearchIndex {
  const data: ThreadData = { file, format: formatOf(model) };
  const threads = new Map<string, Thread>();
  /** Who writes knows the copies as well; the thread that searches is started with the first search. */
  let leads = false;
  let closed = false;

  const unavailable = (error: Error) =>
    new StoreUnavailable(`The search index in ${file} cannot be used: ${error.message}`, {
      cause: error,
      engine: 'read models',
    });

  async function call<Output>(name: 'reader' | 'writer', method: string, input: unknown): Promise<Output> {
    if (closed) throw unavailable(new Error('it is closed'));
    let thread = threads.get(name);
    if (thread === undefined) {
      thread = startThread(new URL(`./sqlite/${name}.ts`, import.meta.url), data);
      threads.set(name, thread);
    }
    try {
      return await thread.call<Output>(method, input);
    } catch (error) {
      if (error instanceof ThreadEnded) {
        if (threads.get(name) === thread) threads.delete(name); // the next call gets a new one
        if (name === 'writer') leads = false;
        throw unavailable(error);
      }
      if (error instanceof ThreadError && error.code?.startsWith('SQLITE_')) throw unavailable(error);
      throw error;
    }
  }

  return {
    async lead() {
      leads = await call<boolean>('writer', 'lead', null);
      return leads;
    },
    createCopy: () => call('writer', 'createCopy', null),
    write: (batch) => call('writer', 'write', batch),
    activate: (copy) => call('writer', 'activate', copy),
    copies: () => call(leads ? 'writer' : 'reader', 'copies', null),
    setAside: (copy, limit) => call('reader', 'setAside', { copy, limit }),
    search: (query) => call('reader', 'search', query),
    count: () => call('reader', 'count', null),
    async close() {
      closed = true;
      await Promise.all([...threads.values()].map((thread) => thread.close()));
    },
  };
}
