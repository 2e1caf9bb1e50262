/** The configuration: environment variables, parsed once. `.env.example` lists every one of them. */
import { z } from 'zod';
import { type ModelsConfig, modelsConfigFrom, modelsEnvironment } from './infra/models/environment.ts';

const serviceRoles = ['command', 'query', 'projections', 'processes'] as const;
export type ServiceRole = (typeof serviceRoles)[number];

/** A variable that is set to nothing counts as not set. */
const withDefault = <Schema extends z.ZodType>(schema: Schema, value: string) =>
  z.preprocess((given) => (given === undefined || given === '' ? value : given), schema);
const optional = <Schema extends z.ZodType>(schema: Schema) =>
  z.preprocess((given) => (given === '' ? undefined : given), schema.optional());
const whole = (least: number, most: number) =>
  z.coerce
    .number({ error: 'must be a number' })
    .int('must be a whole number')
    .min(least, `must be at least ${least}`)
    .max(most, `must be at most ${most}`);
const list = z.string().transform((text) =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== ''),
);

/** A variable for which there is no adapter in this version. */
const unset = optional(
  z.string().refine(() => false, 'is not supported in this version: leave it unset for the embedded adapter'),
);

/** Every variable that is read. */
export const environment = z.object({
  HOST: withDefault(z.string(), '127.0.0.1'),
  PORT: withDefault(whole(0, 65_535), '3080'),
  DATA_DIR: withDefault(z.string(), './data'),
  ADMIN_EMAIL: withDefault(z.email('must be an e-mail address'), 'admin@odeon.local'),
  ADMIN_PASSWORD: optional(
    z.string().min(8, 'must have at least 8 characters').max(256, 'must have at most 256 characters'),
  ),
  LOG_LEVEL: withDefault(
    z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], {
      error: 'must be trace, debug, info, warn, error, fatal or silent',
    }),
    'info',
  ),
  ROLES: withDefault(
    list
      .refine(
        (roles) =>
          roles.length > 0 &&
          roles.every((role) => role === 'all' || (serviceRoles as readonly string[]).includes(role)),
        `must be all, or any of ${serviceRoles.join(', ')} with commas between them`,
      )
      .refine(
        (roles) => roles.includes('all') || roles.includes('projections'),
        'must include projections: with the embedded adapters the other roles read what that one makes',
      )
      .transform((roles) => new Set(roles.includes('all') ? serviceRoles : (roles as ServiceRole[]))),
    'all',
  ),
  ACCESS_TOKEN_MINUTES: withDefault(whole(1, 1_440), '15'),
  REFRESH_TOKEN_DAYS: withDefault(whole(1, 365), '30'),
  LOGIN_ATTEMPTS: withDefault(whole(1, 1_000), '5'),
  LOGIN_WINDOW_MINUTES: withDefault(whole(1, 1_440), '15'),
  READ_YOUR_WRITES_MS: withDefault(whole(0, 60_000), '2000'),
  ANSWER_TIMEOUT_SECONDS: withDefault(whole(1, 3_600), '600'),
  TURN_CONCURRENCY: withDefault(whole(1, 10_000), '64'),
  SECURE_COOKIES: withDefault(
    z.enum(['true', 'false'], { error: 'must be true or false' }).transform((text) => text === 'true'),
    'false',
  ),
  CORS_ORIGINS: withDefault(
    list.refine(
      (origins) => origins.every((origin) => URL.canParse(origin) && new URL(origin).origin === origin),
      'must be origins as browsers name them (https://chat.example.com), with commas between them',
    ),
    '',
  ),
  // Reserved, so that nobody believes that they do something.
  EVENT_STORE_URL: unset,
  KAFKA_BROKERS: unset,
  MONGODB_URL: unset,
  ...modelsEnvironment.shape,
});

export interface Config {
  readonly host: string;
  readonly port: number;
  readonly dataDir: string;
  readonly adminEmail: string;
  readonly adminPassword: string | undefined;
  readonly logLevel: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';
  readonly roles: ReadonlySet<ServiceRole>;
  readonly accessTokenMinutes: number;
  readonly refreshTokenDays: number;
  readonly loginAttempts: number;
  readonly loginWindowMinutes: number;
  /** How long a command's answer waits for the projections. */
  readonly readYourWritesMs: number;
  /** How long a request that does not stream waits for its answer. */
  readonly answerTimeoutMs: number;
  readonly turnConcurrency: number;
  readonly secureCookies: boolean;
  readonly corsOrigins: readonly string[];
  readonly models: ModelsConfig;
}

/** @throws Error that names each variable that is wrong, and why */
export function readConfig(variables: Readonly<Record<string, string | undefined>>): Config {
  const parsed = environment.safeParse(variables);
  if (!parsed.success) {
    const wrong = parsed.error.issues.map((issue) => {
      const name = String(issue.path[0]);
      return `  ${name}=${shown(name, variables[name])}: ${issue.message}`;
    });
    throw new Error(
      `The configuration is not valid:\n${wrong.join('\n')}\n.env.example says what each is for.`,
    );
  }
  const env = parsed.data;
  return {
    host: env.HOST,
    port: env.PORT,
    dataDir: env.DATA_DIR,
    adminEmail: env.ADMIN_EMAIL,
    adminPassword: env.ADMIN_PASSWORD,
    logLevel: env.LOG_LEVEL,
    roles: env.ROLES,
    accessTokenMinutes: env.ACCESS_TOKEN_MINUTES,
    refreshTokenDays: env.REFRESH_TOKEN_DAYS,
    loginAttempts: env.LOGIN_ATTEMPTS,
    loginWindowMinutes: env.LOGIN_WINDOW_MINUTES,
    readYourWritesMs: env.READ_YOUR_WRITES_MS,
    answerTimeoutMs: env.ANSWER_TIMEOUT_SECONDS * 1_000,
    turnConcurrency: env.TURN_CONCURRENCY,
    secureCookies: env.SECURE_COOKIES,
    corsOrigins: env.CORS_ORIGINS,
    models: modelsConfigFrom(env),
  };
}

/** Keys and passwords are not repeated on a terminal, nor those within URLs. */
const shown = (name: string, value = ''): string =>
  /KEY|PASSWORD/.test(name) ? '…' : value.replace(/\/\/[^/]*@/, '//…@');
