import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'chai';
import { logFrame } from '../../contracts/live/frames.ts';
import { createInProcessSignalBus } from '../../infra/bus/in-process.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import { openSqliteEventStore } from '../../infra/event-store/sqlite.ts';
import type { Logger } from '../../infra/telemetry/port.ts';
import { newEvent, seeded } from '../../test/live-scenario.ts';
import { startLiveServer, until } from '../../test/live-server.ts';
import { createHub, type Hub } from './hub.ts';
import { logFeeds } from './log.ts';
import type { Sink } from './sink.ts';

const MIB = 1024 * 1024;

/** A connection whose other end takes nothing until it is told to. */
class SlowSink implements Sink {
  readonly written: Buffer[] = [];
  most = 0;
  destroyed = false;
  private waiting = 0;
  private wake: (() => void)[] = [];
  private closing: (() => void)[] = [];
  private takes: boolean;

  constructor(takes: boolean) {
    this.takes = takes;
  }
  write(chunk: readonly Buffer[]): void {
    for (const bytes of chunk) {
      this.written.push(bytes);
      if (!this.takes) this.waiting += bytes.length;
    }
    this.most = Math.max(this.most, this.waiting);
  }
  pending = () => this.waiting;
  taken = () => 0;
  drained(): Promise<void> {
    return this.waiting === 0 || this.destroyed
      ? Promise.resolve()
      : new Promise((resolve) => this.wake.push(resolve));
  }
  end = () => this.destroy();
  destroy(): void {
    this.destroyed = true;
    for (const listener of [...this.closing.splice(0), ...this.wake.splice(0)]) listener();
  }
  onClose(listener: () => void): void {
    this.closing.push(listener);
  }
  take(takes: boolean): void {
    this.takes = takes;
    this.waiting = 0;
    for (const resolve of this.wake.splice(0)) resolve();
  }
  ids = () =>
    [
      ...Buffer.concat(this.written)
        .toString()
        .matchAll(/^id: (\d+)$/gm),
    ].map((match) => match[1]!);
}

describe('the hub of the live feeds', () => {
  let directory: string;
  let store: EventStore;
  let hub: Hub;
  let errors: string[];
  const bus = createInProcessSignalBus({ onError: (error) => errors.push(String(error)) });
  const logger: Logger = {
    ...{ debug() {}, info() {}, warn() {} },
    error: ({ err }, message) => errors.push(`${message} ${err}`),
    child: () => logger,
  };
  const logFeed = logFeeds();

  beforeEach(async () => {
    errors = [];
    directory = await mkdtemp(join(tmpdir(), 'odeon-hub-'));
    store = await openSqliteEventStore({ directory });
    hub = await createHub({ store, bus, logger, heartbeatMs: 60_000, stalledMs: 60_000 });
  });
  afterEach(async () => {
    await hub.close();
    await store.close();
    await rm(directory, { recursive: true });
    expect(errors).to.deep.equal([]);
  });

  async function append(sizes: readonly number[], owner = 'ada'): Promise<string[]> {
    const events = sizes.map((size) =>
      newEvent('FactForgotten', { factId: 'f', reason: 'x'.repeat(size) }, owner),
    );
    const result = await store.append(`fact-${owner}`, events, { expectedRevision: 'any' });
    return result.events.map((event) => event.position);
  }
  const now = () => ({ position: hub.position(), read: null });
  const seen = async () => {
    const head = await store.head();
    await until(() => hub.position() === head, 'the hub to catch up');
  };

  it('writes the same bytes to 5,000 clients, and keeps little for each', async () => {
    setFlagsFromString('--expose_gc');
    const gc = runInNewContext('gc') as () => void;
    const sinks = Array.from({ length: 5_000 }, () => new SlowSink(true));
    gc();
    const before = process.memoryUsage().heapUsed;
    for (const [i, sink] of sinks.entries()) hub.subscribe(logFeed({ owner: `user${i % 100}` }), now(), sink);
    gc();
    const each = (process.memoryUsage().heapUsed - before) / sinks.length;
    expect(each).to.be.below(2_000);
    expect(hub.stats()).to.deep.include({ clients: 5_000, replaying: 0, topics: 100 });

    await append([10, 10], 'user7');
    await seen();
    const reached = sinks.filter((sink) => sink.written.length > 0);
    expect(reached).to.have.length(50);
    expect(reached[0]!.written).to.have.length(1);
    for (const { written } of reached) expect(written[0]).to.equal(reached[0]!.written[0]);

    for (const sink of sinks) sink.destroy();
    expect(hub.stats()).to.deep.equal({ clients: 0, replaying: 0, topics: 0, runningTexts: 0 });
  });

  it('gives every client every event once and in order, however slowly it takes them', async () => {
    const random = seeded(4);
    const sinks = Array.from({ length: 12 }, (_, i) => new SlowSink(i % 3 === 0));
    for (const sink of sinks) hub.subscribe(logFeed({}), now(), sink);
    const positions: string[] = [];
    for (let round = 0; round < 40; round++) {
      const sizes = Array.from({ length: 1 + Math.floor(random() * 8) }, () =>
        Math.floor(random() ** 4 * 200_000),
      );
      positions.push(...(await append(sizes)));
      for (const sink of sinks) if (random() < 0.2) sink.take(random() < 0.5);
      if (random() < 0.3) await seen();
    }
    for (const sink of sinks) sink.take(true);
    for (const sink of sinks) {
      await until(() => sink.written.length > 0 && sink.ids().length >= positions.length, 'all events');
      expect(sink.ids()).to.deep.equal(positions);
      expect(sink.most).to.be.below(MIB);
    }
    await until(() => hub.stats().replaying === 0, 'all to be live');
  });

  it('hands over an event that is larger than may wait piece by piece', async () => {
    const sinks = [new SlowSink(false), new SlowSink(true)];
    for (const sink of sinks) hub.subscribe(logFeed({}), now(), sink);
    const positions = await append([900_000]);
    positions.push(...(await append([900_000, 900_000])));
    await seen();
    const [slow, quick] = sinks;
    const size = ({ written }: SlowSink) => written.reduce((sum, bytes) => sum + bytes.length, 0);
    await until(() => size(quick!) > 2_700_000);
    await until(() => {
      slow!.take(false);
      return size(slow!) === size(quick!);
    }, 'the slow one to have all');
    expect(slow!.ids()).to.deep.equal(positions);
    expect(Buffer.concat(slow!.written).equals(Buffer.concat(quick!.written))).to.equal(true);
    expect(slow!.most).to.be.below(MIB);
  });

  it('tells everybody when it closes, also in the middle of a frame, and whoever comes later', async () => {
    const [first, second] = await append([900_000, 900_000]);
    await seen();
    const sinks = { slow: new SlowSink(false), quick: new SlowSink(true), late: new SlowSink(true) };
    const from = { position: '0', read: null };
    hub.subscribe(logFeed({}), from, sinks.slow);
    hub.subscribe(logFeed({}), now(), sinks.quick);
    await until(() => sinks.slow.written.length > 0);
    expect(sinks.slow.written[0]!.length).to.be.below(900_000);
    await hub.close();
    hub.subscribe(logFeed({}), from, sinks.late);
    for (const [name, sink] of Object.entries(sinks)) {
      const frames = Buffer.concat(sink.written).toString().split('\n\n');
      expect(frames.pop(), name).to.equal('');
      const [event, data] = frames.pop()!.split('\n');
      expect(event, name).to.equal('event: shutdown');
      expect(logFrame.parse({ type: 'shutdown', ...JSON.parse(data!.slice('data: '.length)) })).to.be.an(
        'object',
      );
      for (const frame of frames) expect(JSON.parse(frame.split('\ndata: ')[1]!)).to.be.an('object');
      expect(sink.destroyed).to.equal(true);
    }
    expect(sinks.slow.ids()).to.deep.equal([first]);
    expect([second, sinks.quick.ids(), sinks.late.ids()]).to.deep.equal([second, [], []]);
    expect(hub.stats()).to.deep.include({ clients: 0, topics: 0 });
  });

  it('pauses before it follows the log again when that just ends, and closes at once all the same', async () => {
    let subscribed = 0;
    const ending: EventStore = {
      ...store,
      async *subscribe() {
        subscribed++;
        await new Promise((resolve) => setImmediate(resolve)); // a hub that does not pause fails here, and does not hang
      },
    };
    const other = await createHub({ store: ending, bus, logger, heartbeatMs: 60_000, stalledMs: 60_000 });
    await until(() => errors.length > 0, 'the hub to say that it lost the log');
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(subscribed).to.equal(1);
    const closing = performance.now();
    await other.close();
    expect(performance.now() - closing).to.be.below(400);
    expect(subscribed).to.equal(1);
    expect(errors.splice(0).join()).to.include('The subscription of the log ended.');
  });

  it('goes on when a feed fails: only its readers are cut off', async () => {
    const broken = new SlowSink(true);
    const sound = new SlowSink(true);
    const feed = logFeed({ owner: 'ada' });
    hub.subscribe(
      {
        ...feed,
        render(state, reader, event, running) {
          if (event !== null) throw new Error('broken feed');
          return feed.render(state, reader, event, running);
        },
      },
      now(),
      broken,
    );
    hub.subscribe(logFeed({}), now(), sound);
    expect(hub.stats().clients).to.equal(2);
    const positions = await append([1]);
    await until(() => sound.written.length === 1);
    expect(sound.ids()).to.deep.equal(positions);
    expect(broken.destroyed).to.equal(true);
    expect(errors.splice(0).join()).to.include('broken feed');
  });
});

describe('connections that do not read', () => {
  const dial = (port: number): Promise<Socket> =>
    new Promise((resolve) => {
      const socket = connect(port, '127.0.0.1', () => {
        socket.write('GET /api/log/live HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\n\r\n');
        resolve(socket);
      });
      socket.on('error', () => {});
    });

  it('hold at most 1 MiB each, do not hold up others, and get everything when they read on', async () => {
    const live = await startLiveServer();
    const connections = new Set<Socket>();
    live.server.on('connection', (socket) => connections.add(socket));
    const slow = await Promise.all(Array.from({ length: 4 }, () => dial(live.port)));
    const quick = await Promise.all(Array.from({ length: 200 }, () => dial(live.port)));
    for (const socket of slow) socket.pause();
    const counts = new Map<Socket, number>();
    const ids: string[] = [];
    const count = (socket: Socket, each: (text: string) => void = () => {}) =>
      socket.setEncoding('latin1').on('data', (text: string) => {
        counts.set(socket, (counts.get(socket) ?? 0) + (text.match(/\n\n/g)?.length ?? 0));
        each(text);
      });
    for (const socket of quick) count(socket);
    await until(() => live.live.stats().clients === 204 && live.live.stats().replaying === 0);

    // More than the operating system holds for a connection.
    const before = process.memoryUsage().rss;
    const reason = 'x'.repeat(200_000);
    let most = 0;
    const big = 100;
    for (let i = 0; i < big; i++) {
      const stream = i % 5 === 0 ? 'fact-big' : 'fact-b';
      await live.append(stream, 'ada', 'FactForgotten', {
        factId: `${i}`,
        reason: i % 5 === 0 ? reason : 'y',
      });
      await live.caughtUp();
      for (const { writableLength } of connections) most = Math.max(most, writableLength);
    }
    for (const socket of quick) await until(() => counts.get(socket)! >= big, 'quick clients to have all');
    expect(most).to.be.below(MIB);
    expect(process.memoryUsage().rss - before).to.be.below(600 * MIB);

    let rest = '';
    count(slow[0]!, (text) => {
      rest += text.replaceAll('x', '');
    }).resume();
    await until(() => rest.includes(`"factId":"${big - 1}"`), 'the slow client to have all');
    ids.push(...[...rest.matchAll(/"factId":"(\d+)"/g)].map((match) => match[1]!));
    expect(ids).to.deep.equal(Array.from({ length: big }, (_, i) => `${i}`));
    for (const socket of [...slow, ...quick]) socket.destroy();
    await live.close();
    expect(live.errors).to.deep.equal([]);
  });

  it('are closed when they take nothing for too long', async () => {
    const live = await startLiveServer({ heartbeatMs: 20, stalledMs: 100 });
    const socket = await dial(live.port);
    const reading = await dial(live.port);
    reading.resume();
    socket.pause();
    await until(() => live.live.stats().clients === 2);
    const reason = 'x'.repeat(900_000);
    for (let i = 0; i < 60 && live.live.stats().clients === 2; i++) {
      await live.append('fact-big', 'ada', 'FactForgotten', { factId: `${i}`, reason });
    }
    await until(() => live.live.stats().clients === 1, 'the stalled connection to be closed');
    expect(reading.destroyed).to.equal(false);
    reading.destroy();
    socket.destroy();
    await live.close();
    expect(live.errors).to.deep.equal([]);
  });
});
