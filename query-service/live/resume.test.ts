/** Clients of every transport are cut off at random and resume: they see what an uninterrupted client sees. */
import { get } from 'node:http';
import { expect } from 'chai';
import { createParser } from 'eventsource-parser';
import { WebSocket } from 'ws';
import { type Random, seeded, turnScript } from '../../test/live-scenario.ts';
import { type LiveServer, startLiveServer, until } from '../../test/live-server.ts';

/** What a user sees of a conversation or a turn: the answers and how they ended. */
class Screen {
  readonly answers: string[] = [];
  /** Every text that ever came, for comparing clients that were not restarted. */
  text = '';
  lastId: string | undefined;
  ended = false;

  see(type: string, text: string, id: string | undefined): void {
    if (id !== undefined) this.lastId = id;
    if (type === 'token' || type === 'content') this.text += text;
    else if (type === 'restarted') this.text = '';
    else if (type === 'done' || type === 'interrupted' || type === 'error') {
      this.answers.push(`${type}: ${this.text}`);
      this.text = '';
    }
  }
}

const headers = (screen: Screen) => ({
  Authorization: 'Bearer ada',
  ...(screen.lastId !== undefined && { 'Last-Event-ID': screen.lastId }),
});

/** Reads server-sent events until `bytes` have come, then cuts the connection; at once is 0. Resolves when it has ended. */
function readSse(
  url: string,
  screen: Screen,
  bytes: number,
  track: (close: () => void) => void,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const parser = createParser({
      onEvent({ id, event, data }) {
        if (data === '[DONE]') {
          screen.ended = true;
          return;
        }
        const json = JSON.parse(data);
        const type = event ?? (json.type === 'status' ? json.status : json.type);
        screen.see(json.interrupted ? 'interrupted' : type, json.data ?? json.content ?? '', id);
      },
    });
    const request = get(url, { headers: headers(screen), agent: false }, (response) => {
      let left = bytes;
      const decoder = new TextDecoder();
      if (response.statusCode !== 200) response.resume();
      response.on('data', (chunk: Buffer) => {
        if (response.statusCode !== 200) return;
        parser.feed(decoder.decode(chunk.subarray(0, left), { stream: true }));
        left -= chunk.length;
        if (left <= 0) request.destroy();
      });
      response.on('error', () => {});
      response.on('close', () => resolve(response.statusCode!));
    });
    track(() => request.destroy());
    request.on('error', (error) => (request.destroyed ? resolve(0) : reject(error)));
  });
}

/** Reads WebSocket messages until `count` have come, then cuts the connection. */
function readWebSocket(
  url: string,
  screen: Screen,
  count: number,
  track: (close: () => void) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const resume = screen.lastId === undefined ? '' : `?lastEventId=${screen.lastId}`;
    const socket = new WebSocket(url.replace('http', 'ws') + resume, { headers: { 'X-API-Key': 'ada' } });
    let left = count;
    socket.on('message', (data) => {
      if (left-- <= 0) return;
      const { type, data: text, id } = JSON.parse(String(data));
      screen.see(type, text ?? '', id);
      if (left === 0) socket.terminate();
    });
    // Closed before it was open, it says so by an error.
    track(() => {
      socket.off('error', reject).on('error', () => resolve());
      socket.terminate();
    });
    socket.on('close', () => resolve());
    socket.on('error', reject);
  });
}

type Read = (screen: Screen, amount: number, track: (close: () => void) => void) => Promise<unknown>;

/** A client that is cut off again and again until `stop`; counts how often it came again. */
function cutAgainAndAgain(read: Read, amount: () => number) {
  const screen = new Screen();
  const state = { screen, resumptions: 0, stopped: false };
  let close = () => {};
  const running = (async () => {
    while (!state.stopped) {
      await read(screen, amount(), (how) => {
        close = how;
      });
      state.resumptions++;
    }
  })();
  return {
    screen,
    resumptions: () => state.resumptions,
    async stop() {
      state.stopped = true;
      close();
      await running;
    },
  };
}

describe('a client that is cut off and resumes', () => {
  let live: LiveServer;
  before(async () => {
    live = await startLiveServer();
  });
  after(() => live.close());
  afterEach(() => expect(live.errors).to.deep.equal([]));

  /** Plays turns in several conversations until every client was cut off often enough, and compares them. */
  async function compare(transport: 'stream' | 'ws', resumptions: number, prefix: string) {
    const CONVERSATIONS = 6;
    const random = seeded(prefix.charCodeAt(0));
    const conversations = Array.from({ length: CONVERSATIONS }, (_, i) => `${prefix}${i}`.padEnd(12, '0'));
    const played = new Map<string, string[]>();
    const clients = await Promise.all(
      conversations.map(async (id) => {
        await live.start(id, 'ada');
        const url = `${live.url}/api/v1/chat/${id}/${transport}`;
        const read: Read = (screen, amount, track) =>
          transport === 'ws'
            ? readWebSocket(url, screen, amount, track)
            : readSse(url, screen, amount, track);
        const whole = cutAgainAndAgain(read, () => Number.POSITIVE_INFINITY);
        const most = transport === 'ws' ? 7 : 600;
        const cut = cutAgainAndAgain(read, () => 1 + Math.floor(random() * most));
        await until(
          () => whole.screen.lastId !== undefined && cut.screen.lastId !== undefined,
          'both to begin',
        );
        return { id, whole, cut };
      }),
    );
    const enough = () => clients.reduce((sum, { cut }) => sum + cut.resumptions(), 0) >= resumptions;
    for (let turn = 0; !enough(); turn++) {
      expect(turn).to.be.below(1_000);
      await Promise.all(
        conversations.map(async (id) => {
          const { steps, content } = turnScript(random, `${id}_${turn}`);
          for (const step of steps) {
            await live.play(id, 'ada', step);
            if (random() < 0.2) await new Promise((resolve) => setImmediate(resolve));
          }
          const end = { TurnCompleted: 'done', TurnInterrupted: 'interrupted', TurnFailed: 'error' };
          const last = steps.at(-1)! as { type: keyof typeof end };
          played.set(id, [...(played.get(id) ?? []), `${end[last.type]}: ${content}`]);
        }),
      );
    }
    for (const { id, whole, cut } of clients) {
      const answers = played.get(id)!;
      for (const { screen } of [whole, cut]) {
        await until(() => screen.answers.length >= answers.length, `all ${answers.length} answers of ${id}`);
        expect(screen.answers).to.deep.equal(answers);
        expect(screen.text).to.equal('');
      }
      expect(whole.resumptions()).to.equal(0);
      await Promise.all([whole.stop(), cut.stop()]);
    }
  }

  it('sees the same over server-sent events, cut at any byte, 500 times', () => compare('stream', 500, 'a'));
  it('sees the same over WebSocket, 500 times', () => compare('ws', 500, 'b'));

  it('sees a turn to its end in Luna Chat frames, and is told when there is nothing more', async () => {
    const random = seeded(11);
    const id = 'cccccccccccc';
    await live.start(id, 'ada');
    for (let turn = 0; turn < 25; turn++) {
      const name = `${turn}`.padStart(24, '0');
      const { steps, content, turnId } = turnScript(random, name);
      await live.play(id, 'ada', steps[0]!);
      const url = `${live.url}/api/turns/${turnId}/stream`;
      const screen = new Screen();
      const cut = randomly(random, screen, url);
      for (const step of steps.slice(1)) await live.play(id, 'ada', step);
      expect(await cut).to.equal(204);
      expect(screen.answers.map((answer) => answer.slice(answer.indexOf(' ') + 1))).to.deep.equal([content]);
    }
  });

  /** Reads a turn with random cuts until it is answered 204. */
  async function randomly(random: Random, screen: Screen, url: string): Promise<number> {
    for (let i = 0; i < 10_000; i++) {
      const status = await readSse(url, screen, 1 + Math.floor(random() * 5_000), () => {});
      if (status === 204) return status;
    }
    return 0;
  }
});
