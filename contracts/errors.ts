/** What a request can be refused for: one table, rendered by each surface in its own words and envelope. */

export const refusals = {
  VALIDATION_ERROR: 400,
  UNAUTHORIZED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  CONFLICT: 409,
  PAYLOAD_TOO_LARGE: 413,
  UNSUPPORTED_MEDIA_TYPE: 415,
  UNPROCESSABLE: 422,
  RATE_LIMIT_EXCEEDED: 429,
  PROVIDER_ERROR: 502,
  SERVICE_UNAVAILABLE: 503,
  TIMEOUT: 504,
} as const;

export type RefusalCode = keyof typeof refusals;

/** One thing that is wrong with a request. `path` names the field, e.g. `['body', 'message']`. */
export interface Issue {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

export interface RateLimit {
  readonly limit: number;
  readonly windowSeconds: number;
  /** Of a limit on requests: its class. Every answer of its routes says how it stands. */
  readonly policy?: string;
}

/** A request that is refused and changed nothing. `message` says what to do about it. */
export class Refusal extends Error {
  readonly code: RefusalCode;
  readonly issues: readonly Issue[];
  /** Seconds after which the same request may succeed, where that is known. */
  readonly retryAfterSeconds: number | undefined;
  /** The limit that was exceeded: so many tries in a window. */
  readonly rateLimit: RateLimit | undefined;
  /** What Trinity's clients are told in place of the message. */
  readonly detail: Readonly<Record<string, unknown>> | undefined;

  constructor(
    code: RefusalCode,
    message: string,
    options: {
      issues?: readonly Issue[];
      retryAfterSeconds?: number;
      rateLimit?: RateLimit;
      detail?: Readonly<Record<string, unknown>>;
    } = {},
  ) {
    super(message);
    this.name = 'Refusal';
    this.code = code;
    this.issues = options.issues ?? [];
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.rateLimit = options.rateLimit;
    this.detail = options.detail;
  }

  get status(): number {
    return refusals[this.code];
  }
}

export function refuse(code: RefusalCode, message: string): never {
  throw new Refusal(code, message);
}
