/**
 * The thread that renders GraphiQL's page: its nine megabytes of source would stay in the memory of who does, and hold
 * everything else up while they are read.
 */
import { createHash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';
import { renderGraphiQL } from '@graphql-yoga/render-graphiql';
import type { RenderedPage } from './page.ts';

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
const page: RenderedPage = { bytes, scripts, hash: createHash('sha256').update(bytes).digest('base64url') };
parentPort!.postMessage(page, [bytes.buffer as ArrayBuffer]);
