/**
 * The event store, the bus and the read models that the configuration names: embedded, or servers, in any
 * combination. Adapters of servers are loaded when they are used: they weigh a second of starting time.
 */
import { join } from 'node:path';
import { type Config, isShared, type KafkaConfig } from './config.ts';
import { isAfter } from './contracts/envelope.ts';
import { serviceRoles } from './contracts/http/system.ts';
import type { ProjectionRuntime } from './contracts/projections.ts';
import { createInProcessSignalBus } from './infra/bus/in-process.ts';
import { createInProcessEventBus } from './infra/bus/in-process-events.ts';
import type { EventBus, SignalBus } from './infra/bus/port.ts';
import { type Engines, withoutCredentials } from './infra/engines/engines.ts';
import type { AvailabilityListener } from './infra/engines/port.ts';
import type { EventStore } from './infra/event-store/port.ts';
import { openSqliteEventStore } from './infra/event-store/sqlite.ts';
import { currentEvent, withCatalogue } from './infra/event-store/with-catalogue.ts';
import type {
  ReadModelStore,
  ReadModels,
  SharedReadModels,
  SnapshotStore,
} from './infra/read-models/port.ts';
import { openSqliteReadModels } from './infra/read-models/sqlite.ts';
import { createEmbedder } from './infra/search/embedder.ts';
import type { Embedder, SearchIndex } from './infra/search/port.ts';
import { openSqliteSearchIndex } from './infra/search/sqlite.ts';
import type { Logger, Metrics } from './infra/telemetry/port.ts';
import { projections } from './projections/list.ts';
import { type RestartableSearch, restartable, restartableSearch } from './projections/runtime/restartable.ts';
import { startProjections, type Trouble } from './projections/runtime/runtime.ts';
import {
  remoteSearchIndexing,
  type SearchIndexing,
  startSearchIndexing,
  withPart,
} from './projections/runtime/search.ts';
import { startSharedProjections } from './projections/runtime/shared.ts';
import type { ServiceRegistry } from './services.ts';

export interface Deployment {
  /** Upcasts what is read, and refuses what is not in the catalogue. */
  readonly store: EventStore;
  readonly signals: SignalBus;
  readonly events: EventBus;
  readonly readModels: ReadModels;
  readonly snapshots: SnapshotStore;
  /** The index for searching is among them, but nobody waits for it with the others. */
  readonly projections: ProjectionRuntime;
  /** Null in a process without the query role. */
  readonly search: SearchParts | null;
  /** Whether no other process can be at work on this log. */
  readonly alone: boolean;
}

export interface SearchParts {
  readonly index: SearchIndex;
  readonly embedder: Embedder;
  readonly indexing: SearchIndexing;
}

export interface OpenOptions {
  readonly config: Config;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'commit'>;
  readonly engines: Engines;
  /** Told what can be stopped and started. */
  readonly units: ServiceRegistry;
  /** Told what is to be closed, in the order of opening. */
  readonly onClose: (close: () => unknown) => void;
  /** Ends the waiting for servers. */
  readonly signal: AbortSignal;
}

export async function openDeployment(options: OpenOptions): Promise<Deployment> {
  const { config, logger, units, onClose } = options;
  const shared = isShared(config);
  const alone = config.eventStoreUrl === undefined && (!shared || config.roles.size === serviceRoles.length);

  // When one cannot be opened for good, the others are not waited for any longer, and what is open is closed.
  const failing = new AbortController();
  const opening = { ...options, signal: AbortSignal.any([options.signal, failing.signal]) };
  const kept = async <Opened extends { close(): unknown }>(open: Promise<Opened>): Promise<Opened> => {
    try {
      const opened = await open;
      onClose(() => opened.close());
      return opened;
    } catch (error) {
      failing.abort(error);
      throw error;
    }
  };
  const openings = [
    kept(openEventStore(opening, !alone)),
    kept<SharedReadModels | EmbeddedReadModels>(
      config.mongodbUrl === undefined
        ? openEmbeddedReadModels(opening)
        : openMongo(config.mongodbUrl, opening),
    ),
    kept(config.kafka === undefined ? openInProcess(opening) : openKafka(config.kafka, opening)),
  ] as const;
  await Promise.allSettled(openings);
  failing.signal.throwIfAborted();
  const [store, stored, bus] = await Promise.all(openings);
  await refuseOtherLog(await stored.copies(), store, config);

  const events = bus.openEvents(store, shared);
  onClose(() => events.close());
  const { startRelay } = bus;
  if (config.roles.has('projections') && startRelay !== undefined) {
    onClose(() => units.end('relay'));
    await units.add({ name: 'relay', profile: 'simple', start: async () => startRelay(store) });
  }

  const onError = (err: Error, trouble: Trouble) => {
    const { projections: names, event } = trouble;
    logger.error({ err, projections: names, event: event?.position ?? null }, 'A projection is in trouble');
  };
  const own = await restartable(
    (run) =>
      'partition' in stored && shared
        ? startSharedProjections({
            store,
            events,
            signals: bus.signals,
            readModels: stored,
            projections,
            run: run && config.roles.has('projections'),
            onError,
          })
        : startProjections({
            store,
            readModels: 'partition' in stored ? stored.partition(0) : stored,
            projections,
            onError,
          }),
    shared,
  );
  const search = config.roles.has('query') ? openSearch(options, store, bus.signals, onError) : null;
  const part = search?.indexing ?? (shared ? remoteSearchIndexing(bus.signals) : null);
  const runtime = part === null ? own.runtime : withPart(own.runtime, part);
  // Both at once: while Kafka is gone, each waits for it a while.
  onClose(() => Promise.all([runtime.stop(), units.end('relay')]));
  if (config.roles.has('projections')) {
    await units.add({ name: 'projections', profile: 'simple', start: own.start });
  }
  if (search !== null) await units.add({ name: 'search', profile: 'full', start: search.start });

  return {
    store,
    signals: bus.signals,
    events,
    readModels: stored,
    snapshots: stored.snapshots,
    projections: runtime,
    search,
    alone,
  };
}

async function openEventStore(
  { config, engines, metrics, signal }: OpenOptions,
  shared: boolean,
): Promise<EventStore> {
  const { eventStoreUrl: url, dataDir: directory } = config;
  const onCommit = metrics.commit;
  if (url === undefined) {
    const store = await openSqliteEventStore({ directory, shared, onCommit });
    engines.embedded('event store');
    return withCatalogue(store);
  }
  const { openEventStoreDb } = await import('./infra/event-store/event-store-db.ts');
  return withCatalogue(
    await engines.connect(
      { name: 'event store', address: withoutCredentials(url) },
      (onAvailability) => openEventStoreDb({ url, onAvailability, onCommit }),
      signal,
    ),
  );
}

type EmbeddedReadModels = ReadModelStore & { readonly snapshots: SnapshotStore };

async function openEmbeddedReadModels({ config, engines }: OpenOptions): Promise<EmbeddedReadModels> {
  const file = join(config.dataDir, 'read-models.db');
  try {
    const readModels = await openSqliteReadModels({ file });
    engines.embedded('read models');
    return readModels;
  } catch (error) {
    const { message } = error as Error;
    throw new Error(
      `${message}. If the file is damaged: delete it (and its -wal and -shm); it is made again from the log.`,
      { cause: error },
    );
  }
}

async function openMongo(url: string, { config, engines, signal }: OpenOptions): Promise<SharedReadModels> {
  const { openMongoReadModels } = await import('./infra/read-models/mongodb/store.ts');
  const partitions = isShared(config) ? config.kafka!.partitions : 1;
  return engines.connect(
    { name: 'read models', address: withoutCredentials(url) },
    (onAvailability) => openMongoReadModels({ url, partitions, onAvailability }),
    signal,
  );
}

/** Each process that answers searches has an index; where several share DATA_DIR, they share it, too. */
function openSearch(
  { config, onClose }: OpenOptions,
  store: EventStore,
  signals: SignalBus,
  onError: (error: Error, trouble: Trouble) => void,
): SearchParts & RestartableSearch {
  const embedder = createEmbedder();
  const { model } = embedder;
  const index = openSqliteSearchIndex({ file: join(config.dataDir, 'search.db'), model });
  onClose(() => Promise.all([index.close(), embedder.close()]));
  const indexing = restartableSearch(() => startSearchIndexing({ store, index, embedder, signals, onError }));
  return { index, embedder, ...indexing };
}

interface Bus {
  readonly signals: SignalBus;
  /** @param shared whether consumers in several processes divide the log among them */
  openEvents(store: EventStore, shared: boolean): EventBus;
  /** Where there is somewhere to relay the log to. */
  startRelay?(store: EventStore): { stop(): Promise<void> };
  close(): Promise<void>;
}

async function openInProcess({ engines, logger }: OpenOptions): Promise<Bus> {
  engines.embedded('bus');
  const signals = createInProcessSignalBus({
    onError: (err) => logger.error({ err }, 'A listener for signals failed'),
  });
  return { signals, openEvents: (store) => inProcessEvents(store, logger), close: () => signals.close() };
}

const inProcessEvents = (store: EventStore, logger: Logger): EventBus =>
  createInProcessEventBus({
    store,
    onError: (err, group) => logger.error({ err, group }, 'The work of a group failed; it is begun again'),
  });

async function openKafka(
  { brokers, topicPrefix, partitions, replicationFactor, ssl, sasl }: KafkaConfig,
  { engines, logger, signal }: OpenOptions,
): Promise<Bus> {
  const [{ createKafka }, { ensureTopics }, { openKafkaSignalBus }, { openKafkaEventBus }, { startRelay }] =
    await Promise.all([
      import('./infra/bus/kafka/client.ts'),
      import('./infra/bus/kafka/topics.ts'),
      import('./infra/bus/kafka/signals.ts'),
      import('./infra/bus/kafka/events.ts'),
      import('./infra/bus/kafka/relay.ts'),
    ]);
  const kafka = createKafka({
    brokers,
    clientId: 'odeon',
    ssl,
    ...(sasl !== undefined && { sasl }),
    onLog: ({ level, message, namespace, details }) =>
      logger.debug({ kafka: { level, namespace, ...details } }, message),
  });
  const onError = (err: unknown) => logger.warn({ err }, 'Kafka');
  return engines.connect(
    { name: 'bus', address: brokers.join(',') },
    async (onAvailability) => {
      const told = together(onAvailability);
      const topics = await ensureTopics({
        kafka,
        prefix: topicPrefix,
        partitions,
        replicationFactor,
        onWarning: (warning) => logger.warn({ warning }, 'A topic of Kafka is not as it should be'),
      });
      const signals = await openKafkaSignalBus({
        kafka,
        topic: topics.signals,
        onError,
        onAvailability: told(),
      });
      const common = { kafka, topic: topics.events, partitions, onError };
      return {
        signals,
        openEvents: (store, shared) =>
          shared
            ? openKafkaEventBus({
                ...common,
                store,
                groupPrefix: topicPrefix,
                current: currentEvent,
                onAvailability: told(),
              })
            : inProcessEvents(store, logger),
        startRelay: (store) =>
          startRelay({ ...common, store, group: `${topicPrefix}.relay`, onAvailability: told() }),
        close: () => signals.close(),
      };
    },
    signal,
  );
}

/** Several parts of one engine: it can be used when all of them can. */
function together(tell: AvailabilityListener): () => AvailabilityListener {
  const problems: (string | null)[] = [];
  return () => {
    const part = problems.push(null) - 1;
    return (problem) => {
      problems[part] = problem;
      tell(problems.find((one) => one !== null) ?? null);
    };
  };
}

/** Read models that are further than the log would skip what comes next, and show what is not in it. */
async function refuseOtherLog(
  copies: Awaited<ReturnType<(ReadModelStore | SharedReadModels)['copies']>>,
  store: EventStore,
  { dataDir, mongodbUrl }: Config,
): Promise<void> {
  const end = await store.end();
  const positions = copies.flatMap((copy) =>
    'checkpoints' in copy ? copy.checkpoints.map(({ position }) => position) : [copy.checkpoint.position],
  );
  const ahead = positions.find((position) => isAfter(position, end));
  if (ahead === undefined) return;
  const [where, remedy] =
    mongodbUrl === undefined
      ? [
          `in ${dataDir}`,
          'delete read-models.db (and its -wal and -shm): it is made again from the log. If not, restore log.db ' +
            'together with its -wal file.',
        ]
      : [
          `at ${withoutCredentials(mongodbUrl)}`,
          'name another database in MONGODB_URL: it is made again from the log; and where Kafka is used, delete the ' +
            'events topic, which is made again as well. If not, restore the log.',
        ];
  throw new Error(
    `the read models ${where} have seen position ${ahead} of the log, which ends at ${end}: ${mongodbUrl === undefined ? 'log.db' : 'the log'} was replaced, ` +
      `or restored from an older backup. If that was meant, ${remedy}`,
  );
}
