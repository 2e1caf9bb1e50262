/** Logs as JSON lines (pino). Secrets are taken out by name, in case one is passed by mistake. */
import { type DestinationStream, type LevelWithSilent, pino } from 'pino';
import type { Logger } from './port.ts';

export type LogLevel = LevelWithSilent;

const SECRETS = [
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
];

/** Under load lines go out together, off the main thread: a system call for each costs more than the request. */
const BATCH = { minLength: 8_192, periodicFlush: 200 /* ms */ } as const;

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
  return pino(
    {
      level: options.level,
      base: { service: 'odeon', pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: (error: unknown) => describeError(error) },
      redact: {
        paths: SECRETS.flatMap((name) => [`["${name}"]`, `*["${name}"]`, `*.*["${name}"]`]),
        censor: '[redacted]',
      },
    },
    options.destination ?? pino.destination({ fd: 1, sync: false, ...BATCH }),
  );
}
