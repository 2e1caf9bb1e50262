/** GraphiQL, as one page that loads nothing: script, style and workers are in it. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

/** What the thread gives. */
export interface RenderedPage {
  readonly bytes: Uint8Array;
  /** The sources that the page's policy lets run, by their hashes. */
  readonly scripts: readonly string[];
  readonly hash: string;
}

export interface PageFile {
  readonly bytes: Buffer;
  readonly headers: Readonly<Record<string, string>>;
}

let loading: Promise<PageFile> | null = null;

/** Nine megabytes, so they are read when the first one asks. */
export function graphiqlPage(): Promise<PageFile> {
  loading ??= load().catch((error) => {
    loading = null; // the next one tries again
    throw error;
  });
  return loading;
}

/** @throws Error when it cannot be rendered */
async function load(): Promise<PageFile> {
  const thread = new Worker(new URL('./page-thread.ts', import.meta.url), { execArgv: [] });
  const [page] = (await once(thread, 'message')) as [RenderedPage];
  const { bytes, scripts, hash } = page;
  return {
    bytes: Buffer.from(bytes.buffer),
    headers: {
      'Content-Type': 'text/html; charset=utf-8',
      ETag: `"${hash}"`,
      'Cache-Control': 'no-cache',
      'Content-Security-Policy': [
        "default-src 'none'",
        `script-src ${scripts.join(' ')}`,
        "style-src 'unsafe-inline'",
        "img-src 'self' data:",
        'font-src data:',
        "connect-src 'self'",
        'worker-src blob:',
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
      ].join('; '),
    },
  };
}
