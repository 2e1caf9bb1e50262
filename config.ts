/** The configuration: environment variables, parsed once. `.env.example` lists every one of them. */
import { isIP } from 'node:net';
import { join } from 'node:path';
import { z } from 'zod';
import type { RateLimitClass } from './contracts/http/route.ts';
import { type ServiceRole, serviceRoles } from './contracts/http/system.ts';
import { type ModelsConfig, modelsConfigFrom, modelsEnvironment } from './infra/models/environment.ts';

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

function isNetwork(text: string): boolean {
  const [address = '', bits, ...more] = text.split('/');
  const version = isIP(address);
  const longest = version === 4 ? 32 : 128;
  return (
    version !== 0 &&
    more.length === 0 &&
    (bits === undefined || (/^\d+$/.test(bits) && Number(bits) <= longest))
  );
}

const yesOrNo = withDefault(
  z.enum(['true', 'false'], { error: 'must be true or false' }).transform((text) => text === 'true'),
  'false',
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
  COUNCIL_PACE_MS: withDefault(whole(0, 60_000), '250'),
  RATE_LIMIT_PER_MINUTE: withDefault(whole(0, 1_000_000), '600'),
  RATE_LIMIT_CHAT_PER_MINUTE: optional(whole(0, 1_000_000)),
  RATE_LIMIT_SEARCH_PER_MINUTE: optional(whole(0, 1_000_000)),
  SECURE_COOKIES: yesOrNo,
  CORS_ORIGINS: withDefault(
    list.refine(
      (origins) => origins.every((origin) => URL.canParse(origin) && new URL(origin).origin === origin),
      'must be origins as browsers name them (https://chat.example.com), with commas between them',
    ),
    '',
  ),
  TRUSTED_PROXIES: withDefault(
    list.refine(
      (networks) => networks.every(isNetwork),
      'must be addresses or networks (10.0.0.0/8), with commas between them',
    ),
    '',
  ),
  EVENT_STORE_URL: optional(
    z
      .string()
      .regex(
        /^(esdb|kurrentdb)(\+discover)?:\/\/[^\s/]+/,
        'must be the connection string of an EventStoreDB, e.g. esdb://localhost:2113?tls=false',
      ),
  ),
  KAFKA_BROKERS: optional(
    list.refine(
      (brokers) => brokers.length > 0 && brokers.every((broker) => /^[^\s:/]+:\d{1,5}$/.test(broker)),
      'must be host:port of one or several brokers, with commas between them',
    ),
  ),
  KAFKA_TOPIC_PREFIX: withDefault(
    z.string().regex(/^[\w.-]{1,200}$/, 'must be letters, digits, dots, hyphens and underscores'),
    'odeon',
  ),
  KAFKA_PARTITIONS: withDefault(whole(1, 1_000), '6'),
  KAFKA_REPLICATION_FACTOR: optional(whole(1, 100)),
  KAFKA_SSL: yesOrNo,
  KAFKA_USERNAME: optional(z.string()),
  KAFKA_PASSWORD: optional(z.string()),
  KAFKA_SASL_MECHANISM: withDefault(
    z.enum(['plain', 'scram-sha-256', 'scram-sha-512'], {
      error: 'must be plain, scram-sha-256 or scram-sha-512',
    }),
    'scram-sha-512',
  ),
  MONGODB_URL: optional(
    z
      .string()
      .regex(/^mongodb(\+srv)?:\/\/[^\s/]+/, 'must be the connection string of a MongoDB: mongodb://…'),
  ),
  COMMAND_SERVICE_URL: optional(
    z.url({ protocol: /^https?$/, error: 'must be the http(s) address of the command service' }),
  ),
  KEYS_FILE: optional(z.string()),
  KEYS: optional(z.string()),
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
  /** Before each speech by rule in a session of the Council. */
  readonly councilPaceMs: number;
  /** Requests, by class; 0 for no limit. */
  readonly rateLimitsPerMinute: Readonly<Record<RateLimitClass, number>>;
  readonly secureCookies: boolean;
  readonly corsOrigins: readonly string[];
  /** Addresses and networks. */
  readonly trustedProxies: readonly string[];
  /** Undefined: the log in `dataDir`. */
  readonly eventStoreUrl: string | undefined;
  /** Undefined: everything within this process. */
  readonly kafka: KafkaConfig | undefined;
  /** Undefined: the read models in `dataDir`. */
  readonly mongodbUrl: string | undefined;
  /** Where a process without the command role sends the commands that it gets. */
  readonly commandServiceUrl: string | undefined;
  /** The signing keys and the master secret: a file, or the text itself. */
  readonly keys: { readonly file: string } | { readonly text: string };
  readonly models: ModelsConfig;
}

export interface KafkaConfig {
  readonly brokers: readonly string[];
  readonly topicPrefix: string;
  /** Of the topic of events. */
  readonly partitions: number;
  /** Undefined: the brokers' default. */
  readonly replicationFactor: number | undefined;
  readonly ssl: boolean;
  readonly sasl:
    | {
        readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512';
        readonly username: string;
        readonly password: string;
      }
    | undefined;
}

/** Whether several processes may share the work: what they say to each other and what they show is outside them. */
export const isShared = ({ kafka, mongodbUrl }: Pick<Config, 'kafka' | 'mongodbUrl'>): boolean =>
  kafka !== undefined && mongodbUrl !== undefined;

const DAY_MS = 24 * 60 * 60 * 1_000;
/** How long a signing key still verifies after another has taken its place: no token lives longer. */
export const keptKeyMs = (accessTokenMinutes: number): number =>
  Math.max(accessTokenMinutes * 60_000, DAY_MS);

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
  refuseContradictions(env, variables);
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
    councilPaceMs: env.COUNCIL_PACE_MS,
    rateLimitsPerMinute: {
      default: env.RATE_LIMIT_PER_MINUTE,
      chat: env.RATE_LIMIT_CHAT_PER_MINUTE ?? env.RATE_LIMIT_PER_MINUTE,
      search: env.RATE_LIMIT_SEARCH_PER_MINUTE ?? env.RATE_LIMIT_PER_MINUTE,
    },
    secureCookies: env.SECURE_COOKIES,
    corsOrigins: env.CORS_ORIGINS,
    trustedProxies: env.TRUSTED_PROXIES,
    eventStoreUrl: env.EVENT_STORE_URL,
    kafka: kafkaConfigFrom(env),
    mongodbUrl: env.MONGODB_URL,
    commandServiceUrl: env.COMMAND_SERVICE_URL,
    keys:
      env.KEYS === undefined
        ? { file: env.KEYS_FILE ?? join(env.DATA_DIR, 'keys.json') }
        : { text: env.KEYS },
    models: modelsConfigFrom(env),
  };
}

type Environment = z.infer<typeof environment>;

function kafkaConfigFrom(env: Environment): KafkaConfig | undefined {
  if (env.KAFKA_BROKERS === undefined) return undefined;
  const { KAFKA_USERNAME: username, KAFKA_PASSWORD: password, KAFKA_SASL_MECHANISM: mechanism } = env;
  return {
    brokers: env.KAFKA_BROKERS,
    topicPrefix: env.KAFKA_TOPIC_PREFIX,
    partitions: env.KAFKA_PARTITIONS,
    replicationFactor: env.KAFKA_REPLICATION_FACTOR,
    ssl: env.KAFKA_SSL,
    sasl: username === undefined || password === undefined ? undefined : { mechanism, username, password },
  };
}

/** What is right by itself and wrong together. */
function refuseContradictions(
  env: Environment,
  variables: Readonly<Record<string, string | undefined>>,
): void {
  const wrong = (name: string, message: string): never => {
    throw new Error(
      `The configuration is not valid:\n  ${name}=${shown(name, variables[name])}: ${message}\n` +
        '.env.example says what each is for.',
    );
  };
  const { ROLES: roles } = env;
  const shared = isShared({ kafka: kafkaConfigFrom(env), mongodbUrl: env.MONGODB_URL });
  if (!shared && !roles.has('projections')) {
    wrong(
      'ROLES',
      'must include projections: without KAFKA_BROKERS and MONGODB_URL the other roles read what that one makes ' +
        'in the same process',
    );
  }
  if (shared && roles.has('query') && !roles.has('command') && env.COMMAND_SERVICE_URL === undefined) {
    wrong(
      'COMMAND_SERVICE_URL',
      'must be set where ROLES has query without command: WebSockets bring commands',
    );
  }
  const ofKafka = Object.keys(environment.shape).filter((name) => /^KAFKA_(?!BROKERS)/.test(name));
  const idle = env.KAFKA_BROKERS === undefined && ofKafka.find((name) => (variables[name] ?? '') !== '');
  if (idle) wrong(idle, 'does nothing without KAFKA_BROKERS');
  if ((env.KAFKA_USERNAME === undefined) !== (env.KAFKA_PASSWORD === undefined)) {
    wrong('KAFKA_USERNAME', 'and KAFKA_PASSWORD must be set together');
  }
  if (env.KEYS !== undefined && env.KEYS_FILE !== undefined)
    wrong('KEYS_FILE', 'cannot be set together with KEYS');
}

/** Keys and passwords are not repeated on a terminal, nor those within URLs. */
const shown = (name: string, value = ''): string =>
  /KEY(?!S_FILE)|PASSWORD/.test(name) ? '…' : value.replace(/\/\/[^/]*@/, '//…@');
