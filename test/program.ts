/** The whole program in a process of its own, as a user starts it, and a client for its API. */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { holdToDocument } from './api-document.ts';

const MAIN = join(import.meta.dirname, '../main.ts');
const READY_WITHIN_MS = 30_000;
/** What SIGTERM may take, and a little more. */
const ENDS_WITHIN_MS = 7_000;

export const ADMIN = { email: 'admin@example.com', password: 'correct horse battery staple' };

export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface Program extends AsyncDisposable {
  /** Resolves when it answers; rejects, with what it printed, when it ends before or takes too long. */
  readonly ready: Promise<void>;
  /** `http://127.0.0.1:<port>`, once it is ready. */
  readonly url: string;
  readonly pid: number;
  readonly dataDir: string;
  /** What it has printed so far. */
  readonly stdout: string;
  readonly stderr: string;
  readonly exited: Promise<Ending>;
  kill(signal: NodeJS.Signals): Promise<Ending>;
  /** SIGTERM; removes the data folder if it was made here. Throws when the program does not end cleanly. */
  stop(): Promise<void>;
}

export interface ProgramOptions {
  /** Kept when it is given; otherwise a temporary folder is made, and removed at the end. */
  readonly dataDir?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly readyWithinMs?: number;
}

/** Starts the program and waits until it is ready. */
export async function startProgram(options: ProgramOptions = {}): Promise<Program> {
  const program = await launchProgram(options);
  try {
    await program.ready;
    return program;
  } catch (error) {
    await program[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * Starts the program without waiting until it is ready. It sees nothing of the environment but PATH and what is
 * given here, and no .env file, so that a developer's keys take no part in tests.
 */
export async function launchProgram(options: ProgramOptions = {}): Promise<Program> {
  const { dataDir, env, readyWithinMs = READY_WITHIN_MS } = options;
  const folder = dataDir ?? (await mkdtemp(join(tmpdir(), 'odeon-program-')));
  const child = spawn(process.execPath, [MAIN], {
    cwd: folder,
    env: {
      PATH: process.env.PATH,
      PORT: '0',
      DATA_DIR: folder,
      ADMIN_EMAIL: ADMIN.email,
      ADMIN_PASSWORD: ADMIN.password,
      LOG_LEVEL: 'warn',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text));
  // Whatever becomes of the tests, the program does not outlive them.
  const killAtExit = () => child.kill('SIGKILL');
  process.once('exit', killAtExit);
  const { promise: exited, resolve } = Promise.withResolvers<Ending>();
  child.on('error', (error) => (stderr += error.message));
  child.on('close', (code, signal) => {
    process.off('exit', killAtExit);
    resolve({ code, signal });
  });

  const urlSaid = () => /ready at (http:\S+)/.exec(stdout)?.[1];
  async function becomeReady(): Promise<void> {
    const within = { withinMs: readyWithinMs };
    const url = await condition(urlSaid, { ...within, what: 'the ready line', or: exited });
    const healthy = async () => (await fetch(`${url}/health`)).status === 200;
    await condition(healthy, { ...within, what: 'GET /health to answer 200', or: exited });
  }
  const ready = becomeReady().catch((error: Error) => {
    throw new Error(`The program is not ready: ${error.message}\n${stdout}${stderr}`, { cause: error });
  });
  ready.catch(() => {}); // who does not wait for it is not told

  const removeFolder = async () => {
    if (dataDir === undefined) await rm(folder, { recursive: true, force: true });
  };
  const kill: Program['kill'] = (signal) => {
    child.kill(signal);
    return exited;
  };
  return {
    ready,
    get url() {
      const url = urlSaid();
      if (url === undefined) throw new Error('The program is not ready.');
      return url;
    },
    pid: child.pid ?? 0,
    dataDir: folder,
    get stdout() {
      return stdout;
    },
    get stderr() {
      return stderr;
    },
    exited,
    kill,
    async stop() {
      child.kill('SIGTERM');
      const ending = await Promise.race([exited, delay(ENDS_WITHIN_MS, null, { ref: false })]);
      if (ending === null) await kill('SIGKILL');
      await removeFolder();
      if (ending?.code !== 0) {
        const how =
          ending === null ? `not within ${ENDS_WITHIN_MS} ms` : `with ${ending.signal ?? ending.code}`;
        throw new Error(`The program did not end cleanly, but ${how}\n${stdout}${stderr}`);
      }
    },
    async [Symbol.asyncDispose]() {
      await kill('SIGKILL');
      await removeFolder();
    },
  };
}

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers whose shape they assert
  readonly body: any;
}

/** Speaks JSON with the program as one user. */
export interface Client {
  readonly token: string;
  request(
    method: string,
    path: string,
    body?: unknown,
    headers?: Readonly<Record<string, string>>,
  ): Promise<Reply>;
  get(path: string): Promise<Reply>;
  post(path: string, body?: unknown, headers?: Readonly<Record<string, string>>): Promise<Reply>;
}

/** Logs in over Luna Chat's API. */
export async function login(url: string, { email, password } = ADMIN): Promise<Client> {
  const { status, body } = await client(url, '').post('/api/auth/login', { email, password });
  if (status !== 200) throw new Error(`Login of ${email}: ${status} ${JSON.stringify(body)}`);
  return client(url, body.accessToken);
}

/** A client with a token that is at hand. */
export function client(url: string, token: string): Client {
  const request: Client['request'] = async (method, path, body, headers = {}) => {
    const response = await fetch(url + path, {
      method,
      headers: {
        ...(token === '' ? {} : { Authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.includes('json') === true;
    const answer = { status: response.status, body: isJson ? JSON.parse(text) : text };
    holdToDocument(method, path, { ...answer, contentType: response.headers.get('content-type') });
    return { ...answer, headers: response.headers };
  };
  return {
    token,
    request,
    get: (path) => request('GET', path),
    post: (path, body, headers) => request('POST', path, body, headers),
  };
}

const POLL_MS = 20;

/**
 * Asks again and again until the answer is neither false, null nor undefined, and gives it.
 * @throws when that takes longer than `withinMs`, or `or` is settled before, naming `what` was waited for
 */
export async function condition<Answer>(
  ask: () => Answer | Promise<Answer>,
  options: { readonly withinMs: number; readonly what?: string; readonly or?: Promise<unknown> },
): Promise<Exclude<Answer, false | null | undefined>> {
  const { withinMs, what = 'the condition', or } = options;
  const deadline = performance.now() + withinMs;
  let over = false;
  or?.finally(() => (over = true));
  for (;;) {
    const answer = await ask();
    if (answer !== false && answer !== null && answer !== undefined) {
      return answer as Exclude<Answer, false | null | undefined>;
    }
    if (over) throw new Error(`The end came before ${what}`);
    if (performance.now() > deadline) throw new Error(`Waited ${withinMs} ms in vain for ${what}`);
    await delay(POLL_MS);
  }
}
