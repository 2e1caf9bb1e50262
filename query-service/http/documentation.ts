/** The API document, and Swagger UI from local files, which reads it. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { refuse } from '../../contracts/errors.ts';
import { getDocs, getDocsFile, getOpenApi } from '../../contracts/http/documentation.ts';
import type { RouteContract } from '../../contracts/http/route.ts';
import { type Endpoint, endpoint, type StreamAnswer } from '../../infra/http/port.ts';
import { openApiDocument } from './openapi.ts';

const page = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Odeon API</title>
    <link rel="icon" href="/docs/favicon-32x32.png">
    <link rel="stylesheet" href="/docs/swagger-ui.css">
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="/docs/swagger-ui-bundle.js"></script>
    <script src="/docs/initialise.js"></script>
  </body>
</html>
`;
const initialise = `SwaggerUIBundle({
  url: '/openapi.json',
  dom_id: '#swagger-ui',
  deepLinking: true,
  docExpansion: 'none',
  filter: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
`;
/** Swagger UI writes styles into its page; everything else comes from here, and goes nowhere else. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
  "connect-src 'self'; frame-ancestors 'none'";

interface File {
  readonly type: string;
  readonly text: () => Buffer | string;
}

/** Read when first asked for: few ever ask. */
const packaged = (name: string) => (): Buffer =>
  readFileSync(join(dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json')), name));
const files: Readonly<Record<string, File>> = {
  'swagger-ui.css': { type: 'text/css; charset=utf-8', text: packaged('swagger-ui.css') },
  'swagger-ui-bundle.js': { type: 'text/javascript; charset=utf-8', text: packaged('swagger-ui-bundle.js') },
  'favicon-32x32.png': { type: 'image/png', text: packaged('favicon-32x32.png') },
  'initialise.js': { type: 'text/javascript; charset=utf-8', text: () => initialise },
};

/** @param routes of the whole deployment */
export function documentationEndpoints(routes: readonly RouteContract[], version: string): Endpoint[] {
  let document: object | undefined;
  const cached = new Map<string, ServedFile>();
  return [
    endpoint(getOpenApi, () => {
      document ??= openApiDocument(routes, version);
      return { status: 200, body: document };
    }),
    endpoint(getDocs, ({ context }) => served(load(page, 'text/html; charset=utf-8'), context.headers)),
    endpoint(getDocsFile, ({ params: { file }, context }) => {
      const known = Object.hasOwn(files, file) ? files[file] : undefined;
      if (known === undefined) refuse('NOT_FOUND', 'Not found');
      const loaded = cached.get(file) ?? load(known.text(), known.type);
      cached.set(file, loaded);
      return served(loaded, context.headers);
    }),
  ];
}

interface ServedFile {
  readonly bytes: Buffer;
  readonly type: string;
  readonly tag: string;
}

function load(content: Buffer | string, type: string): ServedFile {
  const bytes = Buffer.from(content);
  return { bytes, type, tag: `"${createHash('sha256').update(bytes).digest('base64url')}"` };
}

/** Looked after by the browser's cache, which asks each time whether it has changed. */
function served({ bytes, type, tag }: ServedFile, headers: Readonly<Record<string, unknown>>): StreamAnswer {
  return {
    stream(response: ServerResponse) {
      const common = { ETag: tag, 'Cache-Control': 'no-cache', 'Content-Security-Policy': POLICY };
      if (headers['if-none-match'] === tag) {
        response.writeHead(304, common).end();
        return;
      }
      response.writeHead(200, { ...common, 'Content-Type': type, 'Content-Length': bytes.length }).end(bytes);
    },
  };
}
