/**
 * A test double for the protocol of EventStoreDB, not a store, and never shipped: a gRPC server with the service
 * definitions of the client's own package and a log in memory. It answers as EventStoreDB 24 does, as far as Odeon
 * asks: reads, subscriptions, appends, deletions, gossip and server features; batch append is not there, Odeon must
 * not use it. It can be broken on purpose.
 *
 * As a process of its own: `node test/engines/event-store-server.ts [port]`, which prints `ready <url>`. SIGUSR2
 * makes it drop all connections and refuse new ones, another SIGUSR2 ends that; its log stays.
 */
import { once } from 'node:events';
import gossipServices from '@eventstore/db-client/generated/gossip_grpc_pb.js';
import gossip from '@eventstore/db-client/generated/gossip_pb.js';
import featureServices from '@eventstore/db-client/generated/serverfeatures_grpc_pb.js';
import features from '@eventstore/db-client/generated/serverfeatures_pb.js';
import shared from '@eventstore/db-client/generated/shared_pb.js';
import streamServices from '@eventstore/db-client/generated/streams_grpc_pb.js';
import streams from '@eventstore/db-client/generated/streams_pb.js';
import grpc from '@grpc/grpc-js';
import {
  type Appending,
  type At,
  EventStoreLog,
  type Expected,
  type Proposed,
  type Stored,
} from './event-store-log.ts';

/** As the server reads and buffers. */
const PAGE = 32;
const MAX_APPEND_BYTES = 1024 * 1024;

type Reading = grpc.ServerWritableStream<streams.ReadReq, streams.ReadResp>;
type Appended = grpc.ServerReadableStream<streams.AppendReq, streams.AppendResp>;
type Deleting = grpc.ServerUnaryCall<streams.DeleteReq, streams.DeleteResp>;
type Failure = Partial<grpc.StatusObject> & { readonly code: grpc.status };

export interface EventStoreServerOptions {
  /** A free one unless given. */
  readonly port?: number;
  /** In PEM. Without it the server speaks without TLS. */
  readonly tls?: { readonly certificate: string; readonly key: string };
  /** Whoever calls must say so; only with TLS, without it clients send no password. */
  readonly login?: { readonly username: string; readonly password: string };
  readonly maxAppendBytes?: number;
}

export interface EventStoreServer {
  /** A connection string without credentials. */
  readonly url: string;
  readonly port: number;
  readonly log: EventStoreLog;
  /** Names of the calls that came in, in order: `read`, `append`, `delete`, `subscribe`, … */
  readonly calls: readonly string[];
  /** Subscriptions that are open now. */
  readonly subscriptions: number;
  /** How many events were sent over subscriptions. */
  readonly delivered: number;
  stop(): Promise<void>;
  /** Cuts all connections; new ones are taken at once. */
  dropConnections(): Promise<void>;
  /** Fails all subscriptions as if the connection was lost. */
  dropSubscriptions(): void;
  /** Cuts all connections and refuses new ones, until `accept`. */
  refuse(): Promise<void>;
  accept(): Promise<void>;
  /** The next call of this name fails so. */
  failNext(call: string, failure: Failure): void;
  /** Runs before the next append is decided. */
  beforeNextAppend(action: () => void): void;
  /** Connections stay open, and nothing is answered until `hold(false)`. */
  hold(held: boolean): void;
  /** Of a subscription, nothing is sent until `pauseDelivery(false)`. */
  pauseDelivery(paused: boolean): void;
}

export async function startEventStoreServer(
  options: EventStoreServerOptions = {},
): Promise<EventStoreServer> {
  const log = new EventStoreLog();
  const calls: string[] = [];
  const failures: { call: string; failure: Failure }[] = [];
  const beforeAppends: (() => void)[] = [];
  const held = gate();
  const paused = gate();
  const following = new Set<Reading>();
  let delivered = 0;
  // TLS knows no names that are addresses.
  const host = options.tls === undefined ? '127.0.0.1' : 'localhost';
  let port = options.port ?? 0;
  let server: grpc.Server | undefined;

  /** What every call goes through first; the status that it is to fail with, if it is. */
  async function begin(name: string, metadata: grpc.Metadata): Promise<Failure | null> {
    calls.push(name);
    await held.passed();
    const { login } = options;
    if (login !== undefined) {
      const given = metadata.get('authorization')[0];
      const wanted = `Basic ${Buffer.from(`${login.username}:${login.password}`).toString('base64')}`;
      if (given === undefined)
        return exception(grpc.status.PERMISSION_DENIED, 'Access Denied', 'access-denied');
      if (given !== wanted) return { code: grpc.status.UNAUTHENTICATED, details: 'Unauthenticated' };
    }
    const index = failures.findIndex(({ call }) => call === name);
    return index === -1 ? null : failures.splice(index, 1)[0]!.failure;
  }

  async function read(call: Reading): Promise<void> {
    const asked = call.request.getOptions()!;
    const isSubscription = asked.hasSubscription();
    const failure = await begin(isSubscription ? 'subscribe' : 'read', call.metadata);
    if (failure !== null) return fail(call, failure);
    const backwards = asked.getReadDirection() === 1;
    const send = sender(call);
    if (asked.hasStream()) {
      const from = asked.getStream()!;
      const name = nameOf(from.getStreamIdentifier());
      const start = from.hasStart() ? 'start' : from.hasEnd() ? 'end' : Number(from.getRevision());
      const found = log.readStream(name, start, backwards, Number(asked.getCount()));
      if (found.kind === 'deleted for ever') return fail(call, deletedForEver(name));
      if (found.kind === 'no stream') {
        const missing = new streams.ReadResp.StreamNotFound();
        missing.setStreamIdentifier(from.getStreamIdentifier());
        await send(new streams.ReadResp().setStreamNotFound(missing));
      } else for (const event of found.events) await send(eventResponse(event));
      call.end();
      return;
    }
    const from = asked.getAll()!;
    const start = from.hasStart() ? 'start' : from.hasEnd() ? 'end' : at(from.getPosition()!);
    if (isSubscription) {
      following.add(call);
      try {
        await subscribe(call, send, start, filterOf(asked.getFilter()));
      } finally {
        following.delete(call);
      }
      return;
    }
    const found = log.readAll(start, backwards, Number(asked.getCount()));
    if (found === null) {
      return fail(call, { code: grpc.status.UNKNOWN, details: 'Unexpected ReadAllResult: InvalidPosition' });
    }
    for (const event of found) await send(eventResponse(event));
    call.end();
  }

  /** Catches up in pages, then sends what is appended; one that is too slow for that catches up again. */
  async function subscribe(
    call: Reading,
    send: (response: streams.ReadResp) => Promise<void>,
    from: At | 'start' | 'end',
    filter: Filter,
  ): Promise<void> {
    const first = log.indexOf(from);
    await send(new streams.ReadResp().setConfirmation(new streams.ReadResp.SubscriptionConfirmation()));
    if (first === null) {
      return fail(call, {
        code: grpc.status.INVALID_ARGUMENT,
        details: 'Trying to read from an invalid position.',
      });
    }
    const wake = signal();
    const unlisten = log.onAppend(wake.set);
    for (const over of ['cancelled', 'error']) call.once(over, wake.set);
    const place = typeof from === 'string' ? null : from;
    let index = first;
    // A subscription begins after the place that it names, a read at it.
    const isThere = (record: Stored) => record.commit === place?.commit && record.prepare === place.prepare;
    if (log.records[index] !== undefined && isThere(log.records[index]!)) index += 1;
    let sinceCheckpoint = 0;
    let live = false;
    const checkpoint = async () => {
      sinceCheckpoint = 0;
      const { commit, prepare } = log.placeAfter(index);
      const reached = new streams.ReadResp.Checkpoint();
      reached.setCommitPosition(String(commit)).setPreparePosition(String(prepare));
      await send(new streams.ReadResp().setCheckpoint(reached));
    };
    try {
      while (following.has(call) && !call.cancelled && !call.writableEnded) {
        await paused.passed();
        const waiting = log.records.length - index;
        if (live && waiting > PAGE) {
          live = false;
          await send(new streams.ReadResp().setFellBehind(new streams.ReadResp.FellBehind()));
          await checkpoint();
        }
        for (const record of log.records.slice(index, index + PAGE)) {
          if (call.cancelled || call.writableEnded) return;
          index += 1;
          sinceCheckpoint += 1;
          if (filter.passes(record)) {
            await send(eventResponse(record));
            delivered += 1;
          }
          if (sinceCheckpoint >= filter.checkpointEvery) await checkpoint();
        }
        if (index < log.records.length) continue;
        if (!live) {
          live = true;
          await checkpoint();
          await send(new streams.ReadResp().setCaughtUp(new streams.ReadResp.CaughtUp()));
        }
        if (index === log.records.length) await wake.wait();
      }
    } finally {
      unlisten();
    }
  }

  async function append(call: Appended, answer: grpc.sendUnaryData<streams.AppendResp>): Promise<void> {
    let target: streams.AppendReq.Options | undefined;
    const events: Proposed[] = [];
    let bytes = 0;
    const { maxAppendBytes = MAX_APPEND_BYTES } = options;
    for await (const request of call as AsyncIterable<streams.AppendReq>) {
      target ??= request.getOptions();
      const message = request.getProposedMessage();
      if (message === undefined) continue;
      const metadata = message.getMetadataMap();
      const event: Proposed = {
        id: message.getId()!.getString(),
        type: metadata.get('type')!,
        contentType: metadata.get('content-type')!,
        data: message.getData_asU8(),
        metadata: message.getCustomMetadata_asU8(),
      };
      bytes += event.data.length + event.metadata.length + event.type.length * 2;
      if (bytes > maxAppendBytes) {
        const details = `Maximum Append Size of ${maxAppendBytes} Exceeded.`;
        const more = { 'maximum-append-size': String(maxAppendBytes) };
        answer(exception(grpc.status.INVALID_ARGUMENT, details, 'maximum-append-size-exceeded', more));
        return;
      }
      events.push(event);
    }
    const failure = await begin('append', call.metadata);
    if (failure !== null) return answer(failure);
    beforeAppends.shift()?.();
    const name = nameOf(target!.getStreamIdentifier());
    const appended = log.append(name, events, expectedOf(target!));
    if (appended.kind === 'deleted for ever') return answer(deletedForEver(name));
    const response = new streams.AppendResp();
    if (appended.kind === 'appended') {
      const success = new streams.AppendResp.Success().setCurrentRevision(String(appended.revision));
      response.setSuccess(success.setPosition(positionOf(new streams.AppendResp.Position(), appended.last)));
    } else {
      const wrong = new streams.AppendResp.WrongExpectedVersion();
      if (appended.current < 0) wrong.setCurrentNoStream(new shared.Empty());
      else wrong.setCurrentRevision(String(appended.current));
      response.setWrongExpectedVersion(wrong.setExpectedAny(new shared.Empty()));
    }
    answer(null, response);
  }

  async function remove(call: Deleting, answer: grpc.sendUnaryData<streams.DeleteResp>): Promise<void> {
    const failure = await begin('delete', call.metadata);
    if (failure !== null) return answer(failure);
    const target = call.request.getOptions()!;
    const name = nameOf(target.getStreamIdentifier());
    const deleted: Appending = log.softDelete(name, expectedOf(target));
    if (deleted.kind === 'deleted for ever') return answer(deletedForEver(name));
    if (deleted.kind === 'wrong revision') {
      const more = {
        'stream-name': name,
        'expected-version': '0',
        'actual-version': String(deleted.current),
      };
      return answer(
        exception(grpc.status.FAILED_PRECONDITION, 'Wrong version', 'wrong-expected-version', more),
      );
    }
    answer(
      null,
      new streams.DeleteResp().setPosition(positionOf(new streams.DeleteResp.Position(), deleted.last)),
    );
  }

  async function members(answer: grpc.sendUnaryData<gossip.ClusterInfo>): Promise<void> {
    calls.push('gossip');
    await held.passed();
    const endPoint = new gossip.EndPoint().setAddress(host).setPort(port);
    const leader = new gossip.MemberInfo().setState(gossip.MemberInfo.VNodeState.LEADER).setIsAlive(true);
    answer(null, new gossip.ClusterInfo().setMembersList([leader.setHttpEndPoint(endPoint)]));
  }

  async function supported(answer: grpc.sendUnaryData<features.SupportedMethods>): Promise<void> {
    await held.passed();
    const methods = Object.values(streamServices.StreamsService).map(({ path }) => {
      const [, service = '', method = ''] = path.toLowerCase().split('/');
      return new features.SupportedMethod().setServiceName(service).setMethodName(method);
    });
    answer(
      null,
      new features.SupportedMethods().setMethodsList(methods).setEventStoreServerVersion('24.10.0-double'),
    );
  }

  async function listen(): Promise<void> {
    server = new grpc.Server({ 'grpc.max_receive_message_length': 17 * 1024 * 1024 });
    const status = (error: unknown): Failure => ({ code: grpc.status.UNKNOWN, details: String(error) });
    server.addService(streamServices.StreamsService, {
      read: (call: Reading) => void read(call).catch((error) => fail(call, status(error))),
      append: (call: Appended, answer: grpc.sendUnaryData<streams.AppendResp>) =>
        void append(call, answer).catch((error) => answer(status(error))),
      delete: (call: Deleting, answer: grpc.sendUnaryData<streams.DeleteResp>) =>
        void remove(call, answer).catch((error) => answer(status(error))),
    });
    server.addService(gossipServices.GossipService, {
      read: (_: unknown, answer: grpc.sendUnaryData<gossip.ClusterInfo>) => members(answer),
    });
    server.addService(featureServices.ServerFeaturesService, {
      getSupportedMethods: (_: unknown, answer: grpc.sendUnaryData<features.SupportedMethods>) =>
        supported(answer),
    });
    const { tls } = options;
    const security =
      tls === undefined
        ? grpc.ServerCredentials.createInsecure()
        : grpc.ServerCredentials.createSsl(null, [
            { cert_chain: Buffer.from(tls.certificate), private_key: Buffer.from(tls.key) },
          ]);
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    server.bindAsync(`127.0.0.1:${port}`, security, (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
    port = await promise;
  }

  await listen();
  return {
    url: `esdb://${host}:${port}${options.tls === undefined ? '?tls=false' : ''}`,
    port,
    log,
    calls,
    get subscriptions() {
      return following.size;
    },
    get delivered() {
      return delivered;
    },
    async stop() {
      held.close(false);
      paused.close(false);
      server?.forceShutdown();
      server = undefined;
    },
    async dropConnections() {
      server?.forceShutdown();
      await listen();
    },
    dropSubscriptions() {
      for (const call of following)
        fail(call, { code: grpc.status.UNAVAILABLE, details: 'Connection dropped' });
    },
    async refuse() {
      server?.forceShutdown();
      server = undefined;
    },
    accept: listen,
    failNext: (call, failure) => void failures.push({ call, failure }),
    beforeNextAppend: (action) => void beforeAppends.push(action),
    hold: held.close,
    pauseDelivery: paused.close,
  };
}

/** Open unless closed. */
function gate() {
  let opened = Promise.withResolvers<void>();
  opened.resolve();
  return {
    passed: () => opened.promise,
    close(closed: boolean): void {
      opened.resolve();
      if (closed) opened = Promise.withResolvers<void>();
    },
  };
}

function signal() {
  let next = Promise.withResolvers<void>();
  return {
    set: () => next.resolve(),
    async wait(): Promise<void> {
      await next.promise;
      next = Promise.withResolvers<void>();
    },
  };
}

/** Sends as fast as it is taken. Rejects once nobody is there. */
function sender(call: Reading): (response: streams.ReadResp) => Promise<void> {
  const gone = once(call, 'cancelled');
  gone.catch(() => {});
  return async (response) => {
    if (call.cancelled || call.writableEnded) return;
    if (!call.write(response)) await Promise.race([once(call, 'drain'), gone]);
  };
}

function fail(call: Reading, failure: Failure): void {
  if (!call.writableEnded) call.emit('error', failure);
}

function exception(
  code: grpc.status,
  details: string,
  name: string,
  more: Readonly<Record<string, string>> = {},
): Failure {
  const metadata = new grpc.Metadata();
  metadata.set('exception', name);
  for (const [key, value] of Object.entries(more)) metadata.set(key, value);
  return { code, details, metadata };
}

const deletedForEver = (name: string): Failure =>
  exception(grpc.status.FAILED_PRECONDITION, `Event stream '${name}' is deleted.`, 'stream-deleted', {
    'stream-name': encodeURIComponent(name),
  });

/** The failure of a server that follows another. */
export const notLeader = (host: string, port: number): Failure =>
  exception(grpc.status.NOT_FOUND, 'Leader info available', 'not-leader', {
    'leader-endpoint-host': host,
    'leader-endpoint-port': String(port),
  });

const nameOf = (identifier: shared.StreamIdentifier | undefined): string =>
  Buffer.from(identifier!.getStreamName_asU8()).toString();

const at = (position: streams.ReadReq.Options.Position): At => ({
  commit: BigInt(position.getCommitPosition()),
  prepare: BigInt(position.getPreparePosition()),
});

function positionOf<Message extends streams.AppendResp.Position | streams.DeleteResp.Position>(
  message: Message,
  { commit, prepare }: At,
): Message {
  message.setCommitPosition(String(commit));
  message.setPreparePosition(String(prepare));
  return message;
}

function expectedOf(target: streams.AppendReq.Options | streams.DeleteReq.Options): Expected {
  if (target.hasAny()) return 'any';
  if (target.hasNoStream()) return 'no stream';
  return target.hasStreamExists() ? 'exists' : Number(target.getRevision());
}

interface Filter {
  passes(record: Stored): boolean;
  readonly checkpointEvery: number;
}

function filterOf(filter: streams.ReadReq.Options.FilterOptions | undefined): Filter {
  if (filter === undefined) return { passes: () => true, checkpointEvery: Number.POSITIVE_INFINITY };
  const expression = filter.getStreamIdentifier() ?? filter.getEventType()!;
  const pattern = expression.getRegex();
  const prefixes = expression.getPrefixList();
  const regex = pattern === '' ? null : new RegExp(pattern);
  const onStream = filter.hasStreamIdentifier();
  return {
    passes(record) {
      const name = onStream ? record.stream : record.type;
      return regex === null ? prefixes.some((prefix) => name.startsWith(prefix)) : regex.test(name);
    },
    checkpointEvery: filter.getCheckpointintervalmultiplier() * (filter.hasMax() ? filter.getMax() : PAGE),
  };
}

function eventResponse(stored: Stored): streams.ReadResp {
  const event = new streams.ReadResp.ReadEvent.RecordedEvent();
  event.setId(new shared.UUID().setString(stored.id));
  event.setStreamIdentifier(new shared.StreamIdentifier().setStreamName(Buffer.from(stored.stream)));
  event.setStreamRevision(String(stored.revision));
  event.setCommitPosition(String(stored.commit));
  event.setPreparePosition(String(stored.prepare));
  event.setData(stored.data);
  event.setCustomMetadata(stored.metadata);
  const metadata = event.getMetadataMap();
  metadata.set('type', stored.type);
  metadata.set('content-type', stored.contentType);
  metadata.set('created', String(stored.created * 10_000));
  const response = new streams.ReadResp.ReadEvent().setEvent(event).setCommitPosition(String(stored.commit));
  return new streams.ReadResp().setEvent(response);
}

if (import.meta.main) {
  const server = await startEventStoreServer({ port: Number(process.argv[2] ?? 0) });
  let refusing = false;
  process.on('SIGUSR2', () => {
    refusing = !refusing;
    void (refusing ? server.refuse() : server.accept());
  });
  // Without a socket it would end by itself while it refuses.
  const alive = setInterval(() => {}, 60_000);
  for (const end of ['SIGTERM', 'SIGINT'] as const) {
    process.once(end, () => {
      clearInterval(alive);
      void server.stop();
    });
  }
  console.log(`ready ${server.url}`);
}
