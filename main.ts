/** The composition root: reads the configuration, picks adapters, and starts the roles that were asked for. */
import { randomUUID } from 'node:crypto';
import { constants, existsSync, readFileSync } from 'node:fs';
import { access, mkdir } from 'node:fs/promises';
import type { RequestListener, Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { loadEnvFile } from 'node:process';
import { setTimeout as delay } from 'node:timers/promises';
import { ensureAdministrator } from './command-service/administrator.ts';
import { createAgents } from './command-service/agents.ts';
import { createCommandBus } from './command-service/bus.ts';
import { createChatCommands } from './command-service/chat.ts';
import { answerIdFor } from './command-service/domain/conversation.ts';
import { autonomousCommandEndpoints } from './command-service/http/autonomous.ts';
import { chatCommandEndpoints } from './command-service/http/chat.ts';
import { createIdempotencyRecords } from './command-service/http/idempotency.ts';
import { identityCommandEndpoints } from './command-service/http/identity.ts';
import { internalCommandEndpoints } from './command-service/http/internal.ts';
import { operatorCommandEndpoints } from './command-service/http/operators.ts';
import { orchestrationCommandEndpoints } from './command-service/http/orchestration.ts';
import { serviceEndpoints } from './command-service/http/services.ts';
import { startDeliberationProcess } from './command-service/processes/deliberations/process.ts';
import { startOrchestrationProcess } from './command-service/processes/orchestrations/process.ts';
import { startTurnProcess } from './command-service/processes/turns/process.ts';
import { createTools } from './command-service/processes/turns/tools/index.ts';
import { soleWorker, watchWorkers } from './command-service/processes/workers.ts';
import { provideReadyMadeAgents } from './command-service/ready-made-agents.ts';
import { type Config, isShared, keptKeyMs, readConfig } from './config.ts';
import { isAfter, type Position, START } from './contracts/envelope.ts';
import { refuse } from './contracts/errors.ts';
import { routes } from './contracts/http/all.ts';
import { serviceRoles } from './contracts/http/system.ts';
import type { UserDocument } from './contracts/read-models/documents.ts';
import { openDeployment } from './deployment.ts';
import { createAuthenticator } from './infra/auth/authenticator.ts';
import { createSessionCookies } from './infra/auth/cookies.ts';
import { type Keys, keysFromEnvironment, openKeys } from './infra/auth/keys.ts';
import { createLinkTokens } from './infra/auth/link-tokens.ts';
import { createLoginLimiter } from './infra/auth/login-limiter.ts';
import { createPasswords } from './infra/auth/passwords.ts';
import type { Tokens } from './infra/auth/port.ts';
import { createServiceTokens } from './infra/auth/service-tokens.ts';
import { createTokens } from './infra/auth/tokens.ts';
import { createVisitors } from './infra/auth/visitors.ts';
import { createRemoteChatCommands } from './infra/commands/remote.ts';
import { createEngines } from './infra/engines/engines.ts';
import { createHttpServer } from './infra/http/node-server.ts';
import type { Endpoint } from './infra/http/port.ts';
import { createRateLimits } from './infra/http/rate-limits.ts';
import { refuseForeign } from './infra/http/security.ts';
import { createHttpApp, createStartingApp } from './infra/http/server.ts';
import { createTwoWay } from './infra/http/two-way.ts';
import { createModels } from './infra/models/registry.ts';
import type { ReadModels } from './infra/read-models/port.ts';
import { createLogger } from './infra/telemetry/logger.ts';
import { createMetrics } from './infra/telemetry/metrics.ts';
import type { Logger } from './infra/telemetry/port.ts';
import { activityRow } from './projections/activity.ts';
import { deliberationsInThePast } from './projections/deliberations.ts';
import { createHistory } from './projections/history.ts';
import { createLazyGraphql } from './query-service/graphql/lazy.ts';
import { autonomousQueryEndpoints } from './query-service/http/autonomous.ts';
import { chatQueryEndpoints } from './query-service/http/chat.ts';
import { documentationEndpoints } from './query-service/http/documentation.ts';
import { identityQueryEndpoints } from './query-service/http/identity.ts';
import { modelQueryEndpoints } from './query-service/http/models.ts';
import { operatorQueryEndpoints } from './query-service/http/operators.ts';
import { orchestrationQueryEndpoints } from './query-service/http/orchestration.ts';
import { publicLinkStreamEndpoints } from './query-service/http/public-links.ts';
import { searchEndpoints } from './query-service/http/search.ts';
import { systemEndpoints } from './query-service/http/system.ts';
import { executionStreamEndpoints } from './query-service/live/executions.ts';
import { createLive, liveTiming } from './query-service/live/live.ts';
import { theaterEndpoints } from './query-service/live/theater.ts';
import { createSearch } from './query-service/search.ts';
import { createServices, type Unit } from './services.ts';

/** From SIGTERM to the end. */
const SHUTDOWN_MS = 4_500;
/** Of that, how long clients wait at most for turns to be given back before they are told. */
const RELEASE_MS = 1_500;
/** And how long answers to requests under way may take then. */
const DRAIN_MS = 1_500;
const KEYS_POLL_MS = 250;
/** When all is closed, what clients of servers still try keeps the process no longer. */
const LINGER_MS = 300;

const { version } = JSON.parse(readFileSync(join(import.meta.dirname, 'package.json'), 'utf8')) as {
  version: string;
};

/** For people; log lines go to standard error. */
const say = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

function sayCouldNotStart(error: unknown): void {
  process.stderr.write(`Odeon could not start: ${error instanceof Error ? error.message : error}\n`);
}

async function main(): Promise<void> {
  // Messages, and hashes of passwords: what is made in DATA_DIR is for nobody else on this machine to read.
  process.umask(0o077);
  let config: Config;
  try {
    if (existsSync('.env')) loadEnvFile('.env');
    config = readConfig(process.env);
  } catch (error) {
    sayCouldNotStart(error);
    process.exitCode = 1;
    return;
  }
  const logger = createLogger({ level: config.logLevel, destination: process.stderr });
  process.on('unhandledRejection', (err) => logger.error({ err }, 'A rejection that nobody handled'));

  const closing: (() => unknown)[] = [];
  /** What was opened last is closed first; what is opened while it ends already, too. */
  const onClose = (close: () => unknown): void => {
    closing.unshift(close);
    if (closed) void closeAll();
  };
  let closed = false;
  let problems = 0;
  async function closeAll(): Promise<void> {
    for (let close = closing.shift(); close !== undefined; close = closing.shift()) {
      try {
        await close();
      } catch (err) {
        logger.error({ err }, 'Could not be closed');
        problems += 1;
      }
    }
    closed = true;
  }
  const ending = new AbortController();
  let ready = false;
  const state = () => (ending.signal.aborted ? 'stopping' : ready ? 'healthy' : 'starting');

  async function end(reason: string, exitCode: number): Promise<void> {
    if (ending.signal.aborted) return;
    ending.abort();
    logger.info({ reason }, 'Shutting down');
    setTimeout(() => {
      logger.error({}, 'Shutting down took too long: ending now');
      process.exit(exitCode || 1);
    }, SHUTDOWN_MS).unref();
    await closeAll();
    process.exitCode = exitCode || (problems > 0 ? 1 : 0);
    // kafkajs goes on for seconds to look for a broker that is gone, whatever it was told.
    setTimeout(() => process.exit(), LINGER_MS).unref();
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void end(signal, 0));

  try {
    await start(config, logger, { onClose, state, ending: ending.signal });
    ready = true;
  } catch (error) {
    if (ending.signal.aborted) return;
    sayCouldNotStart(error);
    await end('start failed', 1);
  }
}

interface Life {
  /** What is told last is closed first. */
  readonly onClose: (close: () => unknown) => void;
  readonly state: () => 'starting' | 'healthy' | 'stopping';
  /** Aborted when it is to end. */
  readonly ending: AbortSignal;
}

async function start(config: Config, logger: Logger, { onClose, state, ending }: Life): Promise<void> {
  const { dataDir, roles } = config;
  const metrics = createMetrics();
  const engines = createEngines(logger);

  // ── the way in, at first for whoever asks how it is doing ───────────────
  const system = systemEndpoints({
    status: state,
    version,
    metrics,
    roles,
    engines: engines.status,
    routes,
    modelGateway: config.models.openai?.baseUrl ?? null,
  });
  let app: RequestListener = createStartingApp({
    endpoints: system,
    logger,
    metrics,
    corsOrigins: config.corsOrigins,
  });
  const server = createHttpServer((request, response) => app(request, response));
  await makeDirectory(dataDir);
  const url = await listen(server, config);
  onClose(() => closeServer(server));

  // ── what is kept ──────────────────────────────────────────────────────
  const units = createServices(logger);
  const deployment = await openDeployment({
    config,
    logger,
    metrics,
    engines,
    units,
    onClose,
    signal: ending,
  });
  const { store, signals, readModels, projections: runtime } = deployment;
  const keys = await openKeysOf(config, (await store.head()) === START, logger, ending);
  metrics.observeProjections(async () =>
    (await runtime.status()).map(({ name, lag, seen, expected, failed, waiting }) => ({
      projection: name,
      lag,
      missing: expected - seen,
      setAside: failed + waiting,
    })),
  );

  // ── who asks ──────────────────────────────────────────────────────────
  const { accessTokenMinutes, refreshTokenDays } = config;
  const tokens = createTokens({ keys, accessTokenMinutes, refreshTokenDays });
  await refuseOtherKeys(readModels, tokens);
  const passwords = createPasswords({ pepper: keys.secret('password pepper') });
  const authenticator = createAuthenticator({ tokens, readModels });
  const cookies = createSessionCookies({ tokens, secure: config.secureCookies });
  const limiter = createLoginLimiter({
    attempts: config.loginAttempts,
    windowMinutes: config.loginWindowMinutes,
  });
  const linkTokens = createLinkTokens({ secret: keys.secret('public links') });
  const visitors = createVisitors({ tokens: linkTokens, readModels });

  // ── what is done ──────────────────────────────────────────────────────
  const bus = createCommandBus({
    store,
    snapshots: deployment.snapshots,
    onSnapshotError: (err) => logger.warn({ err }, 'A snapshot could not be used'),
  });
  const services = createServiceTokens({ secret: keys.secret('calls between services') });
  const agents = createAgents({ readModels });
  const ownCommands = createChatCommands(bus, signals, agents);
  const { commandServiceUrl } = config;
  const commands =
    roles.has('command') || commandServiceUrl === undefined
      ? ownCommands
      : createRemoteChatCommands({ url: commandServiceUrl, tokens: services, logger });
  const models = createModels(config.models);
  const [first] = models.candidates(null, 'pro').models;
  const defaultModel = `${first?.provider}/${first?.model}`;
  const contextWindow = (model: string | null) => models.candidates(model, 'pro').models[0]!.contextWindow;
  const history = createHistory(store);
  const tools = createTools(models, agents);
  const settle = {
    position: () => runtime.position(),
    head: () => store.head(),
    // Whoever has stopped them knows that it would be in vain.
    waitFor: (position: Position, timeoutMs: number) =>
      runtime.waitFor(position, units.isStopped('projections') ? 0 : timeoutMs),
    isBehind: () => units.isStopped('projections') && isAfter(live.position(), runtime.position()),
    timeoutMs: config.readYourWritesMs,
  };
  const search =
    deployment.search &&
    createSearch({
      index: deployment.search.index,
      embedder: deployment.search.embedder,
      indexed: (position, timeoutMs) => deployment.search!.indexing.waitFor(position, timeoutMs),
      store,
      timeoutMs: config.readYourWritesMs,
    });
  const corsOrigins = new Set(config.corsOrigins);
  const rateLimits = createRateLimits(config.rateLimitsPerMinute);
  const twoWay = createTwoWay({ rateLimits, trustedProxies: config.trustedProxies });
  const live = await createLive({
    store,
    bus: signals,
    readModels,
    commands,
    settled: (position) => runtime.waitFor(position, config.readYourWritesMs),
    authenticator,
    logger,
    metrics,
    activityRow,
    refuseForeign: (headers) => refuseForeign(headers, corsOrigins),
    agents,
    socketIo: {
      ...twoWay,
      answerId: answerIdFor,
      corsOrigins: config.corsOrigins,
      async search(query, caller) {
        if (search === null) refuse('SERVICE_UNAVAILABLE', 'This process does not search.');
        const { hits } = await search.searchMessages(query, caller, { limit: 5, minScore: 0.3 });
        return hits;
      },
    },
  });

  const graphql = createLazyGraphql({
    ...live,
    ...twoWay,
    describe: twoWay.describeForGraphql,
    resume: live.streams.resume,
    readModels,
    commands,
    agents,
    search,
    settled: (position) => runtime.waitFor(position, config.readYourWritesMs),
    authenticator,
    refuseForeign: (headers) => refuseForeign(headers, corsOrigins),
    answerId: answerIdFor,
    answerTimeoutMs: config.answerTimeoutMs,
    defaultModel,
    metrics,
    logger,
    pingMs: 12_000,
  });
  const { port } = server.address() as AddressInfo;
  const worker = `worker-${randomUUID()}`;
  const endpoints: Endpoint[] = [
    ...system,
    ...serviceEndpoints({
      bus,
      services: units,
      process: `${hostname()}:${port}`,
      version,
      address: { host: config.host, port },
    }),
  ];
  if (roles.has('command')) {
    const { answerTimeoutMs } = config;
    const feeds = live.turnFeeds;
    endpoints.push(
      ...chatCommandEndpoints({
        bus,
        commands,
        readModels,
        feeds,
        agents,
        store,
        toolNames: tools.map(({ name }) => name),
        serves: models.serves,
        knows: models.knows,
        answerTimeoutMs,
        defaultModel,
        ...{ history, contextWindow, linkTokens, visitors },
      }),
      ...identityCommandEndpoints({
        bus,
        readModels,
        authenticator,
        passwords,
        tokens,
        signingKeys: keys,
        limiter,
        cookies,
      }),
      ...orchestrationCommandEndpoints({
        ...{ bus, store, readModels, agents, feeds, answerTimeoutMs, ending },
        modelConnected: first?.provider !== 'builtin',
        toolNames: tools.map(({ name }) => name),
      }),
      ...autonomousCommandEndpoints({ bus, readModels, signals, now: () => new Date() }),
      ...operatorCommandEndpoints({ bus, projections: runtime }),
      ...internalCommandEndpoints({ commands: ownCommands }),
    );
  }
  if (roles.has('query')) {
    endpoints.push(
      ...chatQueryEndpoints({
        readModels,
        store,
        history,
        ...{ contextWindow, linkTokens, visitors },
        agents,
        modelNames: models.list().map(({ provider, model }) => `${provider}/${model}`),
        serves: models.serves,
        defaultModel,
        dataDir,
      }),
      ...modelQueryEndpoints({ models, agents }),
      ...identityQueryEndpoints({ readModels, signingKeys: keys }),
      ...orchestrationQueryEndpoints({ readModels, agents, streams: live.streams }),
      ...theaterEndpoints({
        ...{ store, readModels, streams: live.streams, timing: liveTiming },
        isGone: (other) => deployment.alone && (other !== worker || !roles.has('processes')),
      }),
      ...autonomousQueryEndpoints({
        ...{ readModels, store, past: deliberationsInThePast(store), now: () => new Date() },
        speaking: models.candidates(null, 'pro').models.some(({ provider }) => provider !== 'builtin')
          ? 'model'
          : 'rule',
      }),
      ...operatorQueryEndpoints({ store, projections: runtime }),
      ...(search === null ? [] : searchEndpoints(search)),
      ...documentationEndpoints(routes, version),
      ...executionStreamEndpoints({ agents, store, streams: live.streams }),
      ...publicLinkStreamEndpoints({ readModels, store, linkTokens, visitors, streams: live.streams }),
      ...live.endpoints,
      ...graphql.endpoints,
    );
  }

  // ── the way in ────────────────────────────────────────────────────────
  app = createHttpApp({
    endpoints,
    authenticator,
    settle,
    idempotency: createIdempotencyRecords(bus),
    fingerprintSecret: keys.secret('fingerprints of requests').toString('base64url'),
    services,
    unavailable: engines.unavailable,
    rateLimits,
    routes,
    trustedProxies: config.trustedProxies,
    logger,
    metrics,
    corsOrigins: config.corsOrigins,
  });
  if (roles.has('query')) {
    const { socketIo } = live;
    const routed = app;
    app = (request, response) =>
      socketIo.owns(request.url ?? '') ? socketIo.handle(request, response) : routed(request, response);
    live.attachWebSockets(server, [graphql.upgrade]);
  }
  let released: Promise<void> | undefined;
  // Whatever turns still record, they record before the log is closed.
  onClose(() => released);
  onClose(() => closeServer(server));
  // Before the server, which waits for what is open.
  onClose(() => live.close());
  onClose(() => graphql.close());

  // Where others run the projections, they may be started later.
  if (roles.has('projections')) await caughtUp(await store.head());
  let announced: { email: string; password: string } | null = null;
  const { email, created } = roles.has('command')
    ? await ensureAdministrator({
        bus,
        store,
        passwords,
        tokens,
        email: config.adminEmail,
        password: config.adminPassword,
        announce: (made) => {
          announced = made;
          // Said before it is recorded: a crash in between makes and says the same one again.
          say(
            `\nE-mail    ${made.email}\nPassword  ${made.password}\n(made now and shown only once: keep it)`,
          );
        },
      })
    : { email: config.adminEmail, created: false };
  if (roles.has('command')) await provideReadyMadeAgents(bus);
  if (roles.has('projections')) await caughtUp(await store.head());
  // Not waited for: on a long log counting takes a while.
  let closing = false;
  onClose(() => {
    closing = true;
  });
  if (roles.has('projections')) void warnOfMissingEvents();

  if (roles.has('processes')) {
    const workers = deployment.alone ? soleWorker(worker) : watchWorkers({ self: worker, signals });
    const work = {
      ...{ bus, store, events: deployment.events, readModels, signals, workers },
      now: () => new Date(),
      reached: async (position: Position, signal: AbortSignal) => {
        while (!(signal.aborted || (await runtime.waitFor(position, 1_000))));
      },
      onError: (err: unknown, context: { stream?: string }) =>
        logger.error({ err, ...context }, 'A process met an unexpected error'),
    };
    const turns = {
      ...work,
      models,
      tools,
      metrics,
      concurrency: config.turnConcurrency,
      settled: async () => void (await runtime.waitFor(await store.head(), config.readYourWritesMs)),
    };
    const processes: readonly Unit[] = [
      { name: 'turns', profile: 'simple', start: () => startTurnProcess(turns) },
      { name: 'orchestrations', profile: 'full', start: () => startOrchestrationProcess(work) },
      {
        name: 'deliberations',
        profile: 'full',
        start: () => startDeliberationProcess({ ...turns, paceMs: config.councilPaceMs }),
      },
    ];
    // Before the streams and the server, so that clients see the last of their answers; but whatever the turns
    // do, clients are told in time.
    onClose(() => {
      released = units.end(...processes.map(({ name }) => name)).finally(() => workers.stop());
      return Promise.race([released, delay(RELEASE_MS, undefined, { ref: false })]);
    });
    for (const unit of processes) await units.add(unit);
  }

  logger.info({ url, roles: [...roles], dataDir, version }, 'Ready');
  if (!created && config.adminPassword !== undefined) say('ADMIN_PASSWORD is used on the first start only.');
  if (roles.size < serviceRoles.length) {
    say(`Odeon is ready at ${url} (${[...roles].join(', ')})`);
    return;
  }
  const known = (await readModels.get('users', tokens.userIdOf(email))) !== null;
  say(welcome(url, known ? email : null, announced));

  /** Waits for the read models, however long they take, and says how far they are. */
  async function caughtUp(position: Position): Promise<void> {
    while (!(await runtime.waitFor(position, 2_000))) {
      ending.throwIfAborted();
      const behind = (await runtime.status()).filter((projection) => projection.lag > 0);
      const list = behind.map(({ name, lag }) => `${name} (${lag} events to go)`).join(', ');
      say(`Catching up: ${list || 'almost there'}`);
    }
  }

  async function warnOfMissingEvents(): Promise<void> {
    try {
      const incomplete = (await runtime.status())
        .filter(({ complete }) => !complete)
        .map(({ name, seen, expected }) => ({ name, seen, expected }));
      if (incomplete.length === 0) return;
      logger.warn({ incomplete }, 'Projections have not seen every event of theirs: rebuild them');
    } catch (err) {
      if (!closing) logger.warn({ err }, 'The projections could not be compared with the log');
    }
  }
}

/** What users wrote is in it: nobody else on this machine needs to look. */
async function makeDirectory(dataDir: string): Promise<void> {
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
    await access(dataDir, constants.W_OK);
  } catch (error) {
    throw new Error(`DATA_DIR ${dataDir} cannot be written to: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/**
 * The keys of the deployment. Where several processes need the same ones, those that take commands make them, when
 * nothing depends on others yet, and the rest wait for them: each with keys of its own, none would trust another.
 */
async function openKeysOf(
  config: Config,
  isNew: boolean,
  logger: Logger,
  ending: AbortSignal,
): Promise<Keys> {
  if ('text' in config.keys) return keysFromEnvironment(config.keys.text);
  const { file } = config.keys;
  const create = isNew && (config.roles.has('command') || !isShared(config));
  if (!create && isNew && !existsSync(file)) {
    logger.warn(
      { file },
      'Waiting for the keys: a command node makes them there; share the file, or set KEYS',
    );
    while (!existsSync(file)) await delay(KEYS_POLL_MS, undefined, { signal: ending });
  }
  return openKeys({
    file,
    create,
    tokenLifetimeMs: keptKeyMs(config.accessTokenMinutes),
    onProblem: (err) => logger.error({ err }, 'The file of the signing keys'),
  });
}

/** User ids are made with the keys: those of a user who is there tell whether these are the right ones. */
async function refuseOtherKeys(readModels: ReadModels, tokens: Pick<Tokens, 'userIdOf'>): Promise<void> {
  const [user] = (await readModels.find<UserDocument>('users', { limit: 1 })).documents;
  if (user === undefined || tokens.userIdOf(user.body.email) === user.id) return;
  throw new Error(
    'the signing keys are not those of this deployment: every process needs the same KEYS, or the same KEYS_FILE ' +
      '(by default DATA_DIR/keys.json), or nobody could log in.',
  );
}

async function listen(server: Server, { host, port }: Config): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why =
        error.code === 'EADDRINUSE'
          ? `port ${port} of ${host} is in use: stop what uses it, or set PORT to another (0 picks a free one)`
          : `cannot listen on ${host}:${port}: ${error.message}`;
      reject(new Error(why));
    });
    server.listen(port, host, resolve);
  });
  const { address, family, port: bound } = server.address() as AddressInfo;
  const name = address === '0.0.0.0' || address === '::' ? '127.0.0.1' : address;
  return `http://${family === 'IPv6' && name === address ? `[${name}]` : name}:${bound}`;
}

/** Takes no more requests, lets those under way finish, and then ends what is still open. */
async function closeServer(server: Server): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve));
  server.closeIdleConnections();
  await Promise.race([closed, delay(DRAIN_MS, null, { ref: false })]);
  server.closeAllConnections();
  await closed;
}

/** What a first-time user copies and pastes. `known`: the administrator's e-mail, when there is such a user. */
function welcome(
  url: string,
  known: string | null,
  made: { email: string; password: string } | null,
): string {
  const email = known ?? 'YOUR-EMAIL';
  const given = known !== null && process.env.ADMIN_PASSWORD ? '$ADMIN_PASSWORD' : 'YOUR-PASSWORD';
  const password = made?.password ?? given;
  const json = `-H 'Content-Type: application/json'`;
  const token = `-H "Authorization: Bearer $TOKEN"`;
  return `
Odeon is ready at ${url}

Log in:
  TOKEN=$(curl -s ${url}/api/auth/login ${json} -d "{\\"email\\":\\"${email}\\",\\"password\\":\\"${password}\\"}" | sed 's/.*"accessToken":"\\([^"]*\\)".*/\\1/')

Send a message:
  SESSION=$(curl -s ${url}/api/chat/sessions ${token} ${json} -d '{}' | sed 's/.*"id":"\\([^"]*\\)".*/\\1/'); curl -N ${url}/api/chat/sessions/$SESSION/send ${token} ${json} -d '{"message":"What is 12.5% of 80?"}'

Watch what happens (in a second terminal, with the same TOKEN):
  curl -N ${url}/api/activity/stream ${token}
`;
}

await main();
