/** Logs as JSON lines (pino). Secrets are taken out by name, in case one is passed by mistake. */
import { type DestinationStream, type LevelWithSilent, type Logger as Pino, pino } from 'pino';
import type { Logger } from './port.ts';

export type LogLevel = LevelWithSilent;

const SECRETS: ReadonlySet<string> = new Set([
  'authorization',
  'cookie',
  'set-cookie',
  'x-api-key',
  'apiKey',
  'key',
  'token',
  'accessToken',
  'refreshToken',
  'password',
  'passwordHash',
  'secret',
]);

/** Under load lines go out together, off the main thread: a system call for each costs more than the request. */
const BATCH = { minLength: 8_192, periodicFlush: 200 /* ms */ } as const;

/** As deep as secrets are looked for. */
const MAX_DEPTH = 4;

/**
 * The same fields, or a copy where one of them is a secret by its name. By hand, because pino's own redaction,
 * asked for these names at every depth, costs ten times as much as the rest of the line.
 */
function withoutSecrets<Fields extends object>(fields: Fields, depth = 1): Fields {
  let result = fields;
  for (const [name, value] of Object.entries(fields)) {
    const kept: unknown = SECRETS.has(name)
      ? '[redacted]'
      : typeof value === 'object' && value !== null && !(value instanceof Error) && depth < MAX_DEPTH
        ? withoutSecrets(value, depth + 1)
        : value;
    if (kept === value) continue;
    if (result === fields) result = (Array.isArray(fields) ? [...fields] : { ...fields }) as Fields;
    Object.assign(result, { [name]: kept });
  }
  return result;
}

/** As deep as causes are followed. */
const MAX_CAUSES = 5;

/**
 * Only what every error has: libraries hang requests, with their prompts and keys, on their errors, and none
 * of that may reach a log.
 */
function describeError(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return typeof error === 'object' ? 'not an Error' : String(error);
  const { code } = error as { code?: unknown };
  return {
    type: error.name,
    message: error.message,
    ...(typeof code === 'string' || typeof code === 'number' ? { code } : {}),
    ...(error.stack === undefined ? {} : { stack: error.stack }),
    ...(error.cause === undefined || depth === MAX_CAUSES
      ? {}
      : { cause: describeError(error.cause, depth + 1) }),
  };
}

/** Writes to standard output unless a destination is given. */
export function createLogger(options: {
  readonly level: LogLevel;
  readonly destination?: DestinationStream;
}): Logger {
  const logger = pino(
    {
      level: options.level,
      base: { service: 'odeon', pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: {
        level: (label) => ({ level: label }),
        log: (fields) => withoutSecrets(fields),
      },
      serializers: { err: (error: unknown) => describeError(error) },
    },
    options.destination ?? pino.destination({ fd: 1, sync: false, ...BATCH }),
  );
  return wrap(logger);
}

/** Fields of a child do not go through pino's formatters. */
const wrap = (logger: Pino): Logger => ({
  debug: logger.debug.bind(logger),
  info: logger.info.bind(logger),
  warn: logger.warn.bind(logger),
  error: logger.error.bind(logger),
  child: (fields) => wrap(logger.child(withoutSecrets(fields))),
});
