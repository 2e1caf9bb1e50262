/** Clients of Socket.IO are cut off at random and resume by `lastSeq`: they see what an uninterrupted one sees. */
import { expect } from 'chai';
import { io, type ManagerOptions, type SocketOptions } from 'socket.io-client';
import { serverEvents } from '../../../contracts/live/socket-io.ts';
import { seeded, turnScript } from '../../../test/live-scenario.ts';
import { type LiveServer, startLiveServer, until } from '../../../test/live-server.ts';

/** What a user sees of the conversations that they are subscribed to. */
class Screen {
  /** By conversation. */
  readonly answers = new Map<string, string[]>();
  /** By message. */
  readonly texts = new Map<string, string>();
  readonly lastSeq = new Map<string, string>();
  readonly resyncs: unknown[] = [];

  see(event: string, data: Record<string, unknown>): void {
    if (event === 'resync') this.resyncs.push(data);
    if (event !== 'chat_response') return;
    const response = serverEvents.chat_response.parse(data);
    const { conversation_id: id, message_id, token, finished, restarted, status, seq } = response;
    this.lastSeq.set(id, seq);
    const text = restarted ? '' : (this.texts.get(message_id) ?? '') + token;
    if (finished) this.texts.delete(message_id);
    else this.texts.set(message_id, text);
    if (finished) this.answers.set(id, [...(this.answers.get(id) ?? []), `${status}: ${text}`]);
  }
}

type Transports = NonNullable<ManagerOptions['transports']>;

/** Reads until `count` events have come, then cuts the connection. */
function read(
  url: string,
  screen: Screen,
  { ids, count, transports }: { ids: readonly string[]; count: number; transports: Transports },
  track: (close: () => void) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const options: Partial<ManagerOptions & SocketOptions> = {
      auth: { token: 'ada', lastSeq: [...screen.lastSeq.values()] },
      transports,
      forceNew: true,
      reconnection: false,
    };
    const socket = io(url, options);
    let left = count;
    const end = () => {
      left = 0;
      socket.disconnect();
      resolve();
    };
    track(end);
    socket.onAny((event, data) => {
      if (left === 0) return;
      screen.see(event, data);
      if (--left === 0) end();
    });
    socket.on('connect', async () => {
      for (const id of ids) {
        const ack = await socket.emitWithAck('subscribe', { type: 'conversation', conversation_id: id });
        if (!screen.lastSeq.has(id)) screen.lastSeq.set(id, ack.seq);
      }
    });
    socket.on('connect_error', reject);
    socket.on('disconnect', () => resolve());
  });
}

function client(url: string, ids: readonly string[], transports: Transports, amount: () => number) {
  const screen = new Screen();
  const state = { resumptions: 0, stopped: false };
  let close = () => {};
  const running = (async () => {
    while (!state.stopped) {
      await read(url, screen, { ids, count: amount(), transports }, (how) => {
        close = how;
      });
      state.resumptions++;
    }
  })();
  return {
    screen,
    resumptions: () => state.resumptions,
    begun: () => ids.every((id) => screen.lastSeq.has(id)),
    async stop() {
      state.stopped = true;
      close();
      await running;
    },
  };
}

describe('a client of Socket.IO that is cut off and resumes', function () {
  this.timeout(60_000);
  let live: LiveServer;
  before(async () => {
    live = await startLiveServer();
  });
  after(() => live.close());
  afterEach(() => expect(live.errors).to.deep.equal([]));

  async function compare(transports: Transports, resumptions: number, prefix: string) {
    const random = seeded(prefix.charCodeAt(0));
    const ids = Array.from({ length: 4 }, (_, i) => `${prefix}${i}`.padEnd(12, '0'));
    for (const id of ids) await live.start(id, 'ada');
    await live.caughtUp();
    const whole = client(live.url, ids, transports, () => Number.POSITIVE_INFINITY);
    const cut = client(live.url, ids, transports, () => 1 + Math.floor(random() * 40));
    await until(() => whole.begun() && cut.begun(), 'both to begin');

    const played = new Map<string, string[]>();
    const status = { TurnCompleted: 'complete', TurnInterrupted: 'interrupted', TurnFailed: 'failed' };
    for (let turn = 0; cut.resumptions() < resumptions; turn++) {
      expect(turn).to.be.below(2_000);
      await Promise.all(
        ids.map(async (id) => {
          const { steps, content } = turnScript(random, `${id}_${turn}`);
          const ends: string[] = [];
          for (const step of steps) {
            await live.play(id, 'ada', step);
            if (random() < 0.3) await new Promise((resolve) => setImmediate(resolve));
            // One that was taken back while another ran is told at once, in the middle of the other.
            if (step.kind === 'event' && step.type in status) {
              ends.push(
                `${status[step.type as keyof typeof status]}: ${step === steps.at(-1) ? content : ''}`,
              );
            }
          }
          played.set(id, [...(played.get(id) ?? []), ...ends]);
        }),
      );
    }
    for (const { screen } of [whole, cut]) {
      for (const id of ids) {
        const answers = played.get(id)!;
        await until(() => (screen.answers.get(id)?.length ?? 0) >= answers.length, `all answers of ${id}`);
        expect(screen.answers.get(id)).to.deep.equal(answers);
      }
      expect(screen.resyncs).to.deep.equal([]);
    }
    expect(whole.resumptions()).to.equal(0);
    await Promise.all([whole.stop(), cut.stop()]);
  }

  it('sees the same over WebSocket, 100 times', () => compare(['websocket'], 100, 'a'));
  it('sees the same by polling, 40 times', () => compare(['polling'], 40, 'b'));
  it('sees the same where it begins with polling and goes over to WebSocket, 40 times', () =>
    compare(['polling', 'websocket'], 40, 'c'));
});
