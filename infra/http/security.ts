/** What keeps browsers from being used against their users: headers, same-origin commands, CORS by name. */
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { Refusal } from '../../contracts/errors.ts';

/** On every answer. JSON is not a page: it may load nothing, be framed nowhere, and be kept by nobody. */
export const securityHeaders = {
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
  'Referrer-Policy': 'no-referrer',
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cache-Control': 'no-store',
} as const;

const EXPOSED = [
  'X-Correlation-Id',
  'X-Event-Position',
  'X-Read-Model',
  'X-Turn-Id',
  'X-Stream-Id',
  'X-Request-Id',
  'Idempotent-Replay',
  'Retry-After',
  'X-RateLimit-Limit',
  'X-RateLimit-Remaining',
  'X-RateLimit-Reset',
  'RateLimit',
  'RateLimit-Policy',
].join(', ');
const ALLOWED_HEADERS = [
  'Authorization',
  'Content-Type',
  'Idempotency-Key',
  'Last-Event-ID',
  'X-API-Key',
  'X-Correlation-Id',
  'X-Request-Id',
].join(', ');
const PREFLIGHT_SECONDS = 600;

const isSameHost = (origin: string, host: string | undefined): boolean => {
  const parsed = URL.parse(origin); // null for `null`, which sandboxed pages send
  return parsed !== null && host !== undefined && parsed.host === host.toLowerCase();
};

/**
 * Refuses commands and WebSockets that another site's page makes a browser send with the user's cookies. Browsers
 * say where a request comes from; clients that are not browsers send neither header nor cookies of other people. Requests
 * that carry their credential in a header need no check: no page can make a browser add it.
 */
export function refuseForeign(headers: IncomingHttpHeaders, corsOrigins: ReadonlySet<string>): void {
  if (headers.authorization !== undefined || headers['x-api-key'] !== undefined) return;
  const { origin } = headers;
  const site = headers['sec-fetch-site'];
  if (origin === undefined && site === undefined) return;
  if (origin !== undefined && corsOrigins.has(origin)) return;
  const own =
    site === undefined ? isSameHost(origin!, headers.host) : site === 'same-origin' || site === 'none';
  if (!own) throw new Refusal('FORBIDDEN', 'This request came from the page of another origin.');
}

/** Lets the pages of the configured origins read answers. True when one of them asks. */
export function allowOrigin(
  request: IncomingMessage,
  response: ServerResponse,
  corsOrigins: ReadonlySet<string>,
): boolean {
  if (corsOrigins.size === 0) return false;
  response.setHeader('Vary', 'Origin');
  const { origin } = request.headers;
  if (origin === undefined || !corsOrigins.has(origin)) return false;
  response.setHeader('Access-Control-Allow-Origin', origin);
  response.setHeader('Access-Control-Allow-Credentials', 'true');
  response.setHeader('Access-Control-Expose-Headers', EXPOSED);
  response.setHeader('Cross-Origin-Resource-Policy', 'cross-origin');
  return true;
}

export const preflightHeaders = (methods: string): Readonly<Record<string, string>> => ({
  'Access-Control-Allow-Methods': methods,
  'Access-Control-Allow-Headers': ALLOWED_HEADERS,
  'Access-Control-Max-Age': String(PREFLIGHT_SECONDS),
});
