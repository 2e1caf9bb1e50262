/** GraphiQL, as one page that loads nothing: script, style and workers are in it. */
import { createHash } from 'node:crypto';

export interface PageFile {
  readonly bytes: Buffer;
  readonly headers: Readonly<Record<string, string>>;
}

let loading: Promise<PageFile> | null = null;

/** Nine megabytes, so they are read when the first one asks. */
export function graphiqlPage(): Promise<PageFile> {
  loading ??= load();
  return loading;
}

async function load(): Promise<PageFile> {
  const { renderGraphiQL } = await import('@graphql-yoga/render-graphiql');
  const html = renderGraphiQL({
    title: 'GraphiQL: Odeon',
    endpoint: '/graphql',
    credentials: 'same-origin',
    defaultQuery:
      '# Log in first: POST /api/auth/login gives a cookie, and an accessToken to put under Headers:\n' +
      '# {"Authorization": "Bearer …"}\n{\n  conversations(limit: 10) {\n    id\n    title\n    messageCount\n  }\n}\n',
  }).trim();
  const bytes = Buffer.from(html);
  const scripts = [...html.matchAll(/<script>([\s\S]*?)<\/script>/g)].map(
    ([, script]) => `'sha256-${createHash('sha256').update(script!).digest('base64')}'`,
  );
  return {
    bytes,
    headers: {
      'Content-Type': 'text/html; charset=utf-8',
      ETag: `"${createHash('sha256').update(bytes).digest('base64url')}"`,
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
