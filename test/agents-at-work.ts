/**
 * Clients that have agents work (tasks, chats, delegations, orchestrations, sessions of the Council) and follow them
 * live, whatever happens to the server: what was acknowledged to them and what they were shown is kept, to be compared
 * with the log and with what is played back later.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { EventSource } from 'eventsource';
import { EventSourceParserStream } from 'eventsource-parser/stream';
import { io, type Socket } from 'socket.io-client';
import { Unavailable } from './conversing.ts';
import type { Killable } from './killable.ts';
import type { AcknowledgedMessage } from './log-invariants.ts';
import { client, condition, type Reply } from './program.ts';

const WITHIN_MS = 60_000;
const AGAIN_MS = 50;
const LIVE = '/api/autonomous/deliberations/live';
const ORCHESTRATE = '/api/agents/orchestrate';

/** Each asks for something else of an agent: tools that read, tools that change something, long answers. */
const tasks: readonly ((n: number) => string)[] = [
  (n) => `What is ${n} * 17?`,
  (n) => `Count from ${n} to ${n + 40}.`,
  (n) => `Remember that my lucky number ${n} is ${n + 1}.`,
  (n) => `What time is it? And what is ${n} + 1?`,
];
const agents = ['coder', 'analyst', 'writer', 'researcher', 'critic'];

// biome-ignore lint/suspicious/noExplicitAny: frames whose shape the tests assert
type Data = any;
export interface Frame {
  readonly id: string;
  readonly data: Data;
}
/** A request that was answered, to be made again later. */
export interface Acknowledged {
  readonly path: string;
  readonly body: object;
  readonly key: string;
  readonly token: string;
  /** What the answer says of whom it is about. */
  readonly id: string;
  readonly idOf: (body: Data) => string;
}
/** A stream of which something was shown. */
export interface Shown {
  readonly what: 'execution' | 'orchestration' | 'deliberation';
  readonly token: string;
  /** From where all of it can be read again. */
  readonly path: string;
  readonly frames: Frame[];
  /** Set where a frame stood for all up to this id. */
  since?: string;
}
/** A conversation as it was read. */
export interface Read {
  readonly token: string;
  readonly path: string;
  readonly position: string;
  readonly body: Data;
}

export interface AgentsAtWork {
  readonly messages: readonly AcknowledgedMessage[];
  readonly acknowledged: readonly Acknowledged[];
  readonly shown: readonly Shown[];
  readonly read: readonly Read[];
  readonly sockets: readonly Listening[];
  /** Each resolves when `goOn` says no more, and what was asked for has been answered and shown. */
  task(token: string, goOn: () => boolean): Promise<void>;
  chat(token: string, agent: string, goOn: () => boolean): Promise<void>;
  delegate(token: string, useSanhedrin: boolean, goOn: () => boolean): Promise<void>;
  orchestrate(token: string, parallel: boolean, goOn: () => boolean): Promise<void>;
  deliberate(token: string, goOn: () => boolean): Promise<void>;
  /** Listens over Socket.IO, and comes back after each kill, until `stop`. */
  listen(token: string): Listening;
}

/** What a client was told over Socket.IO of the subscription `agents`: of all runs and orchestrations of its user. */
export interface Listening {
  readonly token: string;
  /** Of the acknowledgement: where it began. */
  readonly begun: string | null;
  readonly events: readonly Data[];
  stop(): Promise<void>;
}

export function createAgentsAtWork(killable: Killable): AgentsAtWork {
  const messages: AcknowledgedMessage[] = [];
  const acknowledged: Acknowledged[] = [];
  const shown: Shown[] = [];
  const read: Read[] = [];
  const sockets: Listening[] = [];
  let count = 0;
  const next = (about: string): string => {
    count += 1;
    return `${tasks[count % tasks.length]!(count)} (${about} ${count})`;
  };
  const agent = (): string => agents[count % agents.length]!;

  /** Asks until there is an answer, always with the same Idempotency-Key. */
  async function ask(
    token: string,
    path: string,
    body: object,
    idOf: (body: Data) => string,
  ): Promise<Reply> {
    const key = randomUUID();
    const reply = await killable.persist(async (url) => {
      const answer = await client(url, token).post(path, body, { 'Idempotency-Key': key });
      const unavailable = answer.status === 429 || answer.status === 503;
      if (unavailable || answer.body.detail?.error === 'request_in_progress') {
        throw new Unavailable(JSON.stringify(answer.body));
      }
      return answer;
    });
    if (reply.status < 300) acknowledged.push({ path, body, key, token, id: idOf(reply.body), idOf });
    return reply;
  }
  const expectAnswer = ({ status, body }: Reply, ...wanted: number[]) =>
    expect(status, JSON.stringify(body)).to.be.oneOf(wanted);

  /** Reads a stream of server-sent events to its end, and resumes it where it broke. */
  async function follow(stream: Shown): Promise<void> {
    const { token, path, frames } = stream;
    shown.push(stream);
    for (let ended = false; !ended; ) {
      await killable.persist(async (url) => {
        const last = frames.findLast(({ id }) => id !== '')?.id;
        const response = await fetch(url + path, { headers: headers(token, last) });
        if (response.status === 503) throw new Unavailable(await response.text());
        expect(response.status, path).to.be.oneOf([200, 204]);
        if (response.status === 204) ended = true;
        else for await (const frame of framesOf(response)) frames.push(frame);
      });
    }
  }

  return {
    messages,
    acknowledged,
    shown,
    read,
    sockets,

    async task(token, goOn) {
      while (goOn()) {
        const message = next('task');
        const name = agent();
        const reply = await ask(
          token,
          `/api/agents/${name}/task`,
          { message, async_mode: true },
          ({ execution_id }) => execution_id,
        );
        expectAnswer(reply, 200);
        const { execution_id: id } = reply.body;
        messages.push({ content: message, turnId: id });
        const path = `/api/agents/${name}/executions/${id}/stream`;
        await follow({ what: 'execution', token, path, frames: [] });
      }
    },

    async chat(token, name, goOn) {
      while (goOn()) {
        const message = next('chat');
        const idOf = (body: Data) => body.execution.task_execution_id;
        const reply = await ask(token, `/api/agents/${name}/chat`, { message }, idOf);
        // An execution may fail when its worker was lost too often.
        expectAnswer(reply, 200, 502);
        if (reply.status !== 200) continue;
        messages.push({ content: message, turnId: idOf(reply.body) });
        const path = `/api/chat/sessions/${reply.body.session_id}`;
        await killable.persist(async (url) => {
          const now = await client(url, token).get(path);
          expectAnswer(now, 200);
          read.push({ token, path, position: now.headers.get('X-Event-Position')!, body: now.body });
        });
      }
    },

    async delegate(token, useSanhedrin, goOn) {
      while (goOn()) {
        const task = next('delegation');
        const idOf = (body: Data) => body.delegation?.orchestrationId ?? body.executionId;
        const body = { agent: agent(), task, useSanhedrin };
        const reply = await ask(token, '/api/abilities/agents/execute', body, idOf);
        expectAnswer(reply, 200);
        if (!useSanhedrin) messages.push({ content: task, turnId: reply.body.executionId });
      }
    },

    async orchestrate(token, parallel, goOn) {
      while (goOn()) {
        const body = { task: next('orchestration'), agents: [agent(), 'planner'], options: { parallel } };
        const reply = await ask(token, ORCHESTRATE, body, ({ orchestration_id }) => orchestration_id);
        expectAnswer(reply, 202);
        const { progress_url: path } = reply.body;
        await follow({ what: 'orchestration', token, path, frames: [] });
      }
    },

    async deliberate(token, goOn) {
      while (goOn()) {
        count += 1;
        const body = {
          taskDescription: `Should we move archive ${count} to cold storage?`,
          material: [
            {
              title: 'Bill',
              text: `The archive costs ${300 + count} dollars a month. ${300 + count} * 12 = ?`,
            },
            { title: 'Offer', text: 'Cold storage saves 900 dollars a month. It was tested in May.' },
          ],
        };
        const reply = await ask(
          token,
          '/api/autonomous/start',
          body,
          ({ session }) => session.deliberationId,
        );
        expectAnswer(reply, 200);
        const id = reply.body.session.deliberationId;
        const stream: Shown = {
          what: 'deliberation',
          token,
          path: `${LIVE}?deliberation=${id}&speed=100`,
          frames: [],
        };
        shown.push(stream);
        await watch(stream);
        await condition(
          () =>
            killable.persist(
              async (url) => (await client(url, token).get('/api/autonomous/status')).body.status === 'idle',
            ),
          { withinMs: WITHIN_MS, what: 'the end of the session' },
        );
      }
    },

    listen(token) {
      const listening = listenTo(killable, token);
      sockets.push(listening);
      return listening;
    },
  };

  /** Follows the session that runs with an EventSource, which resumes by itself, until it is told that all is read. */
  async function watch(stream: Shown): Promise<void> {
    const { token, frames } = stream;
    let over = false;
    const source = new EventSource(`http://127.0.0.1${LIVE}`, {
      fetch: (_url, init) =>
        killable.persist((url) =>
          fetch(url + LIVE, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } }),
        ),
    });
    source.onmessage = ({ data, lastEventId }) => {
      const frame = JSON.parse(data);
      if (frame.type === 'error' && frame.message === 'No active session') over = true;
      if (!isDurable(frame, lastEventId)) return;
      // It stands for all frames up to its id.
      if (frame.type === 'history_load') stream.since = lastEventId;
      else frames.push({ id: lastEventId, data: frame });
      lastDurable = lastEventId;
    };
    // What has no id of its own comes with that of the frame before it.
    let lastDurable = '';
    const isDurable = (frame: Data, id: string): boolean =>
      !['connected', 'ping', 'shutdown'].includes(frame.type) && id !== '' && id !== lastDurable;
    try {
      await condition(() => over || source.readyState === EventSource.CLOSED, {
        withinMs: WITHIN_MS,
        what: 'the end of what an EventSource follows',
      });
    } finally {
      source.close();
    }
  }
}

function listenTo(killable: Killable, token: string): Listening {
  const events: Data[] = [];
  let begun: string | null = null;
  let stopped = false;
  let socket: Socket | null = null;

  async function run(): Promise<void> {
    while (!stopped) {
      const { program } = killable;
      try {
        await program.ready;
      } catch {
        await delay(AGAIN_MS);
        continue;
      }
      const lastSeq = events.at(-1)?.seq ?? begun;
      socket = io(program.url, {
        auth: { token, ...(lastSeq !== null && { lastSeq }) },
        transports: ['websocket'],
        forceNew: true,
        reconnection: false,
      });
      const connection = socket;
      const left = new Promise<void>((resolve) => {
        connection.on('disconnect', () => resolve());
        connection.on('connect_error', () => resolve());
      });
      connection.on('agent_progress', (event) => events.push(event));
      connection.on('resync', (event) => events.push(event));
      connection.on('error_event', (event) => events.push(event));
      if (begun === null) {
        connection.emit('subscribe', { type: 'agent_progress' }, (ack: Data) => {
          begun = ack.seq;
        });
      }
      await left;
      connection.disconnect();
      await delay(AGAIN_MS);
    }
  }
  const running = run();
  return {
    token,
    events,
    get begun() {
      return begun;
    },
    async stop() {
      stopped = true;
      socket?.disconnect();
      await running;
    },
  };
}

const headers = (token: string, lastEventId?: string): Record<string, string> => ({
  Authorization: `Bearer ${token}`,
  Accept: 'text/event-stream',
  ...(lastEventId !== undefined && { 'Last-Event-ID': lastEventId }),
});

async function* framesOf(response: Response): AsyncGenerator<Frame> {
  const frames = response
    .body!.pipeThrough(new TextDecoderStream())
    .pipeThrough(new EventSourceParserStream());
  for await (const { id, data } of frames) yield { id: id ?? '', data: JSON.parse(data) };
}

/** All that a stream says to who reads it from its beginning. */
export async function playBack(url: string, { path, token }: Shown): Promise<Frame[]> {
  const response = await fetch(url + path, {
    headers: headers(token, path.startsWith(LIVE) ? undefined : '0'),
  });
  expect(response.status, path).to.equal(200);
  const frames: Frame[] = [];
  for await (const frame of framesOf(response)) frames.push(frame);
  return frames;
}

/** Everything that a subscription tells from after `begun`, until it has told as many events as were told before. */
export async function tellAgain(url: string, { token, begun, events }: Listening): Promise<Data[]> {
  const told: Data[] = [];
  const socket = io(url, {
    auth: { token, lastSeq: begun },
    transports: ['websocket'],
    forceNew: true,
    reconnection: false,
  });
  try {
    socket.on('agent_progress', (event) => told.push(event));
    socket.on('resync', (event) => told.push(event));
    await condition(() => told.length >= events.length, {
      withinMs: WITHIN_MS,
      what: 'what was told before',
    });
    return told;
  } finally {
    socket.disconnect();
  }
}
