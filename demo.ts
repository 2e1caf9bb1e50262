/**
 * `npm run demo`: starts Odeon on a temporary folder and a free port, uses its public API like two users and an
 * operator would, kills it in mid-answer, and ends by itself.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { EventSourceParserStream } from 'eventsource-parser/stream';
import { WebSocket } from 'ws';

const ADMIN = { email: 'operator@example.org', password: randomBytes(12).toString('base64url') };

const heading = (text: string): void =>
  console.log(`\n── ${text} ${'─'.repeat(Math.max(0, 74 - text.length))}`);
const line = (text: string): void => console.log(`   ${text}`);

interface Program {
  readonly process: ChildProcess;
  readonly url: string;
}

/** Starts the real program, and waits for its ready line. */
async function start(dataDir: string): Promise<Program> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'main.ts')], {
    env: {
      PATH: process.env.PATH,
      DATA_DIR: dataDir,
      PORT: '0',
      LOG_LEVEL: 'error',
      ADMIN_EMAIL: ADMIN.email,
      ADMIN_PASSWORD: ADMIN.password,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  for await (const text of createInterface({ input: child.stdout! })) {
    const url = /^Odeon is ready at (\S+)/.exec(text)?.[1];
    if (url !== undefined) {
      child.stdout!.resume();
      return { process: child, url };
    }
  }
  throw new Error('Odeon ended before it was ready.');
}

/** What a logged-in client of the API can do. */
function client(url: string, token: string) {
  const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' };
  async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await fetch(url + path, {
      method,
      headers,
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return JSON.parse(text) as T;
  }
  return {
    get: <T>(path: string) => call<T>('GET', path),
    post: <T>(path: string, body: unknown = {}) => call<T>('POST', path, body),
    /** The frames of a stream, each with its id. */
    async *stream(
      path: string,
      options: { body?: unknown; lastEventId?: string; signal?: AbortSignal } = {},
    ) {
      const response = await fetch(url + path, {
        method: options.body === undefined ? 'GET' : 'POST',
        headers: { ...headers, ...(options.lastEventId && { 'Last-Event-ID': options.lastEventId }) },
        ...(options.body !== undefined && { body: JSON.stringify(options.body) }),
        ...(options.signal && { signal: options.signal }),
      });
      if (response.body === null) return;
      const frames = response.body
        .pipeThrough(new TextDecoderStream())
        .pipeThrough(new EventSourceParserStream());
      for await (const { id, data } of frames) {
        if (data === '[DONE]') return;
        yield { id, turnId: response.headers.get('X-Turn-Id'), ...(JSON.parse(data) as Frame) };
      }
    },
  };
}

interface Frame {
  type: string;
  content?: string;
  name?: string;
  arguments?: unknown;
  result?: unknown;
  status?: string;
  router_metadata?: { route: string; class: string; decision_source: string };
  metrics?: { model: string; completionTokens: number; processingTimeMs: number };
  activity?: { title: string; level: string; source: string };
}

async function logIn(url: string, { email, password }: typeof ADMIN) {
  const response = await fetch(`${url}/api/auth/login`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ email, password }),
  });
  if (!response.ok) throw new Error(`Login of ${email}: ${response.status} ${await response.text()}`);
  const { accessToken } = (await response.json()) as { accessToken: string };
  return { token: accessToken, ...client(url, accessToken) };
}

const describeFrame = (frame: Frame): string | null => {
  switch (frame.type) {
    case 'router_metadata': {
      const { route, class: kind, decision_source: source } = frame.router_metadata!;
      return `router     → ${route} (${kind}, decided by ${source})`;
    }
    case 'tool_call':
      return `tool call  ${frame.name} ${JSON.stringify(frame.arguments)}`;
    case 'tool_result':
      return `tool gave  ${JSON.stringify(frame.result)}`;
    case 'done':
      return `done       ${frame.metrics?.model}, ${frame.metrics?.processingTimeMs} ms`;
    default:
      return null;
  }
};

/** Sends a message over Luna's API and shows its frames; the answer's text at the end. */
async function ask(user: ReturnType<typeof client>, session: string, message: string): Promise<void> {
  line(`user       ${message}`);
  let answer = '';
  for await (const frame of user.stream(`/api/chat/sessions/${session}/send`, { body: { message } })) {
    if (frame.type === 'content') answer += frame.content;
    const text = describeFrame(frame);
    if (text !== null) line(text);
  }
  line(`assistant  ${answer.replaceAll('\n', ' ')}`);
}

async function main(): Promise<void> {
  const dataDir = await mkdtemp(join(tmpdir(), 'odeon-demo-'));
  let program: Program | null = null;
  try {
    heading('Odeon starts on a temporary folder');
    const began = performance.now();
    program = await start(dataDir);
    line(`${program.url}, ready after ${Math.round(performance.now() - began)} ms`);

    let operator = await logIn(program.url, ADMIN);
    const people = ['ada', 'bob'].map((name) => ({
      email: `${name}@example.org`,
      password: randomBytes(12).toString('base64url'),
    }));
    for (const person of people) {
      await operator.post('/api/users', { ...person, displayName: person.email.split('@')[0], role: 'user' });
    }
    let ada = await logIn(program.url, people[0]!);
    const bob = await logIn(program.url, people[1]!);
    line('the operator made two users, ada and bob, and both are logged in');

    const watching = new AbortController();
    const seen: string[] = [];
    const watch = (async () => {
      for await (const { activity } of operator.stream('/api/activity/stream', { signal: watching.signal })) {
        if (activity) seen.push(`${activity.level.padEnd(7)} ${activity.source.padEnd(6)} ${activity.title}`);
      }
    })().catch((error: unknown) => {
      if (!watching.signal.aborted) throw error;
    });

    heading('Ada over Luna Chat: tools, streamed');
    const { id: first } = await ada.post<{ id: string }>('/api/chat/sessions', { title: 'Sums' });
    await ask(ada, first, 'What is 12.5% of 80? And what time is it in Tokyo?');
    await ask(ada, first, 'Remember that my favourite colour is green.');
    const { id: second } = await ada.post<{ id: string }>('/api/chat/sessions', { title: 'Colours' });
    await ask(ada, second, 'What is my favourite colour?');

    heading('Bob over ZERG: a WebSocket, interrupted');
    const { data: zerg } = await bob.post<{ data: { id: string } }>('/api/v1/chat', { mode: 'assistant' });
    const socket = new WebSocket(`${program.url.replace('http', 'ws')}/api/v1/chat/${zerg.id}/ws`, {
      headers: { Authorization: `Bearer ${bob.token}` },
    });
    let tokens = '';
    let askedAt = 0;
    socket.on('message', (raw) => {
      const message = JSON.parse(String(raw)) as { type: string; data?: string };
      if (message.type === 'connected') {
        socket.send(JSON.stringify({ type: 'message', content: 'Please count to 500.' }));
      } else if (message.type === 'token') {
        tokens += message.data;
        if (tokens.length > 40 && askedAt === 0) {
          askedAt = performance.now();
          socket.send(JSON.stringify({ type: 'interrupt' }));
        }
      } else if (message.type === 'interrupted') {
        line(
          `interrupted after ${(performance.now() - askedAt).toFixed(1)} ms; kept: ${tokens.slice(0, 60)}…`,
        );
        socket.close();
      }
    });
    await once(socket, 'close');

    heading('One conversation, two surfaces');
    const { data: history } = await ada.get<{ data: { role: string; content: string }[] }>(
      `/api/v1/chat/${first}/history`,
    );
    line(`Ada's Luna conversation ${first}, read over ZERG: ${history.length} messages`);
    for (const message of history)
      line(`${message.role.padEnd(10)} ${message.content.replaceAll('\n', ' ')}`);

    heading('kill -9 in mid-answer, and start again');
    const frames = ada.stream(`/api/chat/sessions/${second}/send`, { body: { message: 'Count to 40.' } });
    let text = '';
    let cursor = '';
    let turnId = '';
    try {
      for await (const frame of frames) {
        if (frame.type === 'content') text += frame.content;
        cursor = frame.id ?? cursor;
        turnId = frame.turnId ?? turnId;
        if (text.length > 30) {
          watching.abort(); // of the operator: the kill would cut that stream, too
          program.process.kill('SIGKILL');
        }
      }
    } catch {
      line(`killed; the client has read: ${text}`);
    }
    await watch;
    program = await start(dataDir);
    ada = await logIn(program.url, people[0]!);
    let rest = '';
    for await (const frame of ada.stream(`/api/turns/${turnId}/stream`, { lastEventId: cursor })) {
      if (frame.type === 'status' && frame.status === 'restarted') text = '';
      if (frame.type === 'content') rest += frame.content;
    }
    line(`started again; resumed after it: …${rest}`);
    const { messages } = await ada.get<{ messages: { content: string }[] }>(`/api/chat/sessions/${second}`);
    const whole = messages.at(-1)?.content === text + rest;
    line(
      whole
        ? 'what was read before and after is the answer, exactly once'
        : 'THE ANSWER DIFFERS FROM WHAT WAS READ',
    );
    if (!whole) process.exitCode = 1;

    heading('What the operator saw live, before the kill (the last 12)');
    for (const entry of seen.slice(-12)) line(entry);

    heading('What the operator finds now');
    operator = await logIn(program.url, ADMIN);
    const { projections } = await operator.get<{
      projections: {
        name: string;
        state: string;
        position: string;
        lag: number;
        seen: number;
        complete: boolean;
      }[];
    }>('/api/projections');
    for (const { name, state, position, lag, seen: count, complete } of projections) {
      const holes = complete ? 'no holes' : 'HOLES';
      line(`${name.padEnd(14)} ${state}, at ${position}, lag ${lag}, ${count} events seen, ${holes}`);
    }
    const { events } = await operator.get<{ events: { position: string; type: string; stream: string }[] }>(
      '/api/log/events?order=desc&limit=5',
    );
    line('the last events of the log:');
    for (const event of events)
      line(`  ${event.position.padStart(4)} ${event.type.padEnd(18)} ${event.stream}`);
  } finally {
    if (program?.process.exitCode === null && program.process.signalCode === null) {
      program.process.kill('SIGTERM');
      await once(program.process, 'exit');
    }
    await rm(dataDir, { recursive: true, force: true });
  }
  heading('Done: the folder is gone. `npm start` keeps what you do in ./data');
}

await main();
