/** What clients of a deployment of several processes see: as if it were one. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { EventSourceParserStream } from 'eventsource-parser/stream';
import { WebSocket } from 'ws';
import { newKeys } from '../infra/auth/keys.ts';
import { type Cluster, startCluster } from './cluster.ts';
import { describeWithEngines, FIRST_START_MS } from './engines/availability.ts';
import {
  ADMIN,
  type Client,
  client,
  condition,
  launchProgram,
  login,
  type Program,
  startProgram,
} from './program.ts';

const PARTITIONS = 4;

type Frame = Readonly<Record<string, unknown>> & { readonly type: string };

describeWithEngines(['kafka', 'ferretdb'], 'clients of several processes', function (this: Mocha.Suite) {
  this.timeout(60_000);

  let cluster: Cluster;
  let command: Client;
  let queries: readonly [Client, Client];
  let queryUrls: readonly string[];
  const closing: (() => void)[] = [];

  before(async function () {
    this.timeout(FIRST_START_MS);
    cluster = await startCluster({
      processes: { command: 1, query: 2, projections: 1, processes: 2 },
      env: { BUILTIN_DELAY_MS: '30', KAFKA_PARTITIONS: String(PARTITIONS), LOGIN_ATTEMPTS: '1000' },
    });
    command = await login(cluster.with('command')[0]!.url);
    queryUrls = cluster.with('query').map(({ url }) => url);
    const [first, second] = queryUrls.map((url) => client(url, command.token));
    queries = [first!, second!];
  });
  afterEach(() => {
    for (const close of closing.splice(0)) close();
  });
  after(() => cluster?.[Symbol.asyncDispose]());

  async function conversation(by = command): Promise<string> {
    const { status, body } = await by.post('/api/v1/chat', {});
    expect(status).to.equal(200);
    return body.data.id;
  }
  async function send(id: string, content: string): Promise<string> {
    const { status, body } = await command.post(`/api/v1/chat/${id}/message`, { content });
    expect(status, JSON.stringify(body)).to.equal(202);
    return body.data.turn_id;
  }

  // ── followers of an answer, each with what it has and when it came ──────
  interface Follower {
    readonly frames: { readonly frame: Frame; readonly at: number }[];
    text(): string;
    ended(): boolean;
  }
  function follower(textOf: (frame: Frame) => string | null): Follower {
    const frames: Follower['frames'] = [];
    return {
      frames,
      text: () => frames.map(({ frame }) => textOf(frame) ?? '').join(''),
      ended: () => frames.some(({ frame }) => ['done', 'interrupted', 'error'].includes(frame.type)),
    };
  }
  const ofLuna = () => follower(({ type, content }) => (type === 'content' ? String(content) : null));
  const ofZerg = () => follower(({ type, data }) => (type === 'token' ? String(data) : null));

  async function followSse(url: string, path: string, into: Follower): Promise<void> {
    const ending = new AbortController();
    closing.push(() => ending.abort());
    const response = await fetch(url + path, {
      headers: { Authorization: `Bearer ${command.token}` },
      signal: ending.signal,
    });
    expect(response.status, path).to.equal(200);
    const frames = response
      .body!.pipeThrough(new TextDecoderStream())
      .pipeThrough(new EventSourceParserStream());
    void (async () => {
      for await (const { event, data } of frames) {
        if (data === '[DONE]') continue;
        const frame = JSON.parse(data);
        into.frames.push({
          frame: event === undefined ? frame : { ...frame, type: event },
          at: performance.now(),
        });
      }
    })().catch(() => {}); // cut off at the end of the test
  }

  async function openSocket(
    url: string,
    id: string,
    token = command.token,
  ): Promise<{ socket: WebSocket; into: Follower }> {
    const into = ofZerg();
    const socket = new WebSocket(`${url.replace('http', 'ws')}/api/v1/chat/${id}/ws?token=${token}`);
    closing.push(() => socket.terminate());
    socket.on('message', (data) =>
      into.frames.push({ frame: JSON.parse(String(data)), at: performance.now() }),
    );
    await condition(() => into.frames.some(({ frame }) => frame.type === 'history'), {
      withinMs: 5_000,
      what: 'the socket to be open',
    });
    return { socket, into };
  }

  const firstTextAt = ({ frames }: Follower): number =>
    frames.find(({ frame }) => frame.type === 'content' || frame.type === 'token')?.at ?? Number.NaN;
  const lastTextAt = ({ frames }: Follower): number =>
    frames.findLast(({ frame }) => frame.type === 'content' || frame.type === 'token')?.at ?? Number.NaN;

  // ── tokens ──────────────────────────────────────────────────────────────
  it('shows an answer as it is made on both query nodes, the same on every transport', async () => {
    const id = await conversation();
    const sockets = [await openSocket(queryUrls[0]!, id), await openSocket(queryUrls[1]!, id)];
    const streams = [ofZerg(), ofZerg()];
    await followSse(queryUrls[0]!, `/api/v1/chat/${id}/stream`, streams[0]!);
    await followSse(queryUrls[1]!, `/api/v1/chat/${id}/stream`, streams[1]!);
    const turnId = await send(id, 'Count from 1 to 60.');
    const turns = [ofLuna(), ofLuna()];
    await followSse(queryUrls[0]!, `/api/turns/${turnId}/stream`, turns[0]!);
    await followSse(queryUrls[1]!, `/api/turns/${turnId}/stream`, turns[1]!);
    const all = [...sockets.map(({ into }) => into), ...streams, ...turns];
    await condition(() => all.every((one) => one.ended()), {
      withinMs: 20_000,
      what: 'the end of the answer',
    });

    const doneAt = performance.now();
    // The read models come a moment after the live feeds.
    const stored = await condition(
      async () => {
        const { body } = await queries[1].get(`/api/v1/chat/${id}/history`);
        return body.data.find(({ role }: { role: string }) => role === 'assistant');
      },
      { withinMs: 2_000, what: 'the answer in the history' },
    );
    console.log(`in the history ${Math.round(performance.now() - doneAt)} ms after its end was shown`);
    expect(stored.content).to.match(/59.*60/s);
    for (const one of all) {
      expect(one.text()).to.equal(stored.content);
      const pieces = one.frames.filter(({ frame }) => frame.type === 'content' || frame.type === 'token');
      expect(pieces.length, 'pieces').to.be.greaterThan(10);
      // As they were made: 60 words, 30 ms apart.
      expect(lastTextAt(one) - firstTextAt(one)).to.be.greaterThan(900);
    }
  });

  it('gives who joins in mid-answer the text so far, on both query nodes', async () => {
    const id = await conversation();
    const turnId = await send(id, 'Count from 1 to 60.');
    const early = ofLuna();
    await followSse(queryUrls[0]!, `/api/turns/${turnId}/stream`, early);
    await condition(() => early.text().length > 60, { withinMs: 10_000, what: 'a part of the answer' });
    const late = [ofLuna(), ofLuna()];
    await followSse(queryUrls[0]!, `/api/turns/${turnId}/stream`, late[0]!);
    await followSse(queryUrls[1]!, `/api/turns/${turnId}/stream`, late[1]!);
    await condition(() => late.every((one) => one.text().length > 60), {
      withinMs: 1_000,
      what: 'the text so far',
    });
    expect(early.ended()).to.equal(false);
    await condition(() => [early, ...late].every((one) => one.ended()), {
      withinMs: 20_000,
      what: 'the end',
    });
    expect(late.map((one) => one.text())).to.deep.equal([early.text(), early.text()]);
  });

  it('stops a turn on whatever node it runs when the command node is told to', async () => {
    const id = await conversation();
    const turnId = await send(id, 'Count from 1 to 900.');
    const turn = ofLuna();
    await followSse(queryUrls[1]!, `/api/turns/${turnId}/stream`, turn);
    await condition(() => turn.text() !== '', { withinMs: 10_000, what: 'the answer to begin' });
    const since = performance.now();
    const { status, body } = await command.post(`/api/turns/${turnId}/interrupt`);
    expect(status).to.equal(200);
    expect(body.turnId).to.equal(turnId);
    await condition(() => turn.ended(), { withinMs: 3_000, what: 'the turn to stop' });
    const tookMs = performance.now() - since;
    console.log(`stopped after ${Math.round(tookMs)} ms`);
    expect(tookMs).to.be.below(1_500);
    expect(turn.frames.at(-1)!.frame).to.include({ type: 'done', interrupted: true });
  });

  it('takes messages and interrupts over a WebSocket of a query node', async () => {
    const id = await conversation();
    const [a, b] = [await openSocket(queryUrls[0]!, id), await openSocket(queryUrls[1]!, id)];
    a.socket.send(JSON.stringify({ type: 'message', content: 'Count from 1 to 900.', id: 'one' }));
    a.socket.send(JSON.stringify({ type: 'history' }));
    const histories = () => a.into.frames.filter(({ frame }) => frame.type === 'history');
    await condition(() => histories().length === 2, { withinMs: 5_000, what: 'the history' });
    // The client's own message is in what it reads next, here and there.
    const own = histories()[1]!.frame.messages as { content: string; role: string }[];
    expect(own.filter(({ role }) => role === 'user').map(({ content }) => content)).to.deep.equal([
      'Count from 1 to 900.',
    ]);
    const { body } = await queries[1].get(`/api/v1/chat/${id}/history`);
    expect(body.data.filter(({ role }: { role: string }) => role === 'user')).to.have.length(1);

    await condition(() => a.into.text() !== '' && b.into.text() !== '', {
      withinMs: 10_000,
      what: 'the answer to begin',
    });
    const since = performance.now();
    b.socket.send(JSON.stringify({ type: 'interrupt' }));
    await condition(() => a.into.ended() && b.into.ended(), { withinMs: 3_000, what: 'the turn to stop' });
    const tookMs = performance.now() - since;
    console.log(`stopped over the WebSocket after ${Math.round(tookMs)} ms`);
    expect(tookMs).to.be.below(1_500);
    expect(a.into.text()).to.equal(b.into.text());
    expect(a.into.frames.filter(({ frame }) => frame.type === 'error')).to.deep.equal([]);
  });

  // ── reading one's own writes ────────────────────────────────────────────
  it('lets a client read what it has just written, on either query node, 100 times in a row', async () => {
    const misses: string[] = [];
    let slowestMs = 0;
    let id = '';
    for (let n = 0; n < 100; n++) {
      const since = performance.now();
      const title = `Number ${n}`;
      if (n % 2 === 0) {
        const made = await command.post('/api/chat/sessions', { title });
        expect(made.status).to.equal(201);
        id = made.body.id;
      } else {
        expect((await command.request('PATCH', `/api/chat/sessions/${id}`, { title })).status).to.equal(200);
      }
      const { status, body } = await queries[(n >> 1) % 2]!.get(`/api/chat/sessions/${id}`);
      if (status !== 200 || body.title !== title) misses.push(`${n}: ${status} ${JSON.stringify(body)}`);
      slowestMs = Math.max(slowestMs, performance.now() - since);
    }
    console.log(`slowest of 100 rounds: ${Math.round(slowestMs)} ms`);
    expect(misses).to.deep.equal([]);
  });

  it('lets in who has just logged in, and keeps out who has just logged out, on every node', async () => {
    for (let n = 0; n < 10; n++) {
      const { url } = cluster.with('command')[0]!;
      const { body } = await client(url, '').post('/api/auth/login', ADMIN);
      const visits = (token: string) =>
        Promise.all(
          [0, 1].map(async (at) => (await client(queryUrls[at]!, token).get('/api/auth/me')).status),
        );
      expect(await visits(body.accessToken)).to.deep.equal([200, 200]);
      const { status } = await client(url, body.accessToken).post('/api/auth/logout', {});
      expect(status).to.equal(200);
      expect(await visits(body.accessToken)).to.deep.equal([401, 401]);
    }
  });

  it('lets no revoked key in, and takes nothing on a socket whose login has ended, on every node', async () => {
    const made = await command.post('/api/api-keys', { name: 'a key', permissions: ['chat:read'] });
    const headers = { 'X-API-Key': made.body.key };
    const withKey = () =>
      Promise.all(
        queryUrls.map(async (url) => {
          const { status } = await client(url, '').request('GET', '/api/chat/sessions', undefined, headers);
          return status;
        }),
      );
    expect(await withKey()).to.deep.equal([200, 200]);
    expect((await command.request('DELETE', `/api/api-keys/${made.body.id}`)).status).to.equal(200);
    expect(await withKey()).to.deep.equal([401, 401]);

    const { url } = cluster.with('command')[0]!;
    const guest = await login(url);
    const id = await conversation();
    const opened = await Promise.all(queryUrls.map((one) => openSocket(one, id, guest.token)));
    expect((await client(url, guest.token).post('/api/auth/logout', {})).status).to.equal(200);
    const closed = opened.map(({ socket }) => new Promise((resolve) => socket.once('close', resolve)));
    for (const { socket } of opened) socket.send(JSON.stringify({ type: 'message', content: 'Am I in?' }));
    expect(await Promise.all(closed)).to.deep.equal([4001, 4001]);
    expect((await command.get(`/api/log/streams/conversation-${id}`)).status).to.equal(404);
    const { body } = await queries[0].get(`/api/log/streams/conversation-${id}`);
    expect(body.events.map(({ type }: { type: string }) => type)).not.to.include('MessageSent');
  });

  // ── keys ────────────────────────────────────────────────────────────────
  it('follows a rotation of the signing key on every node', async () => {
    const before = command.token;
    const { status, body } = await command.post('/api/signing-keys/rotate');
    expect(status).to.equal(200);
    const { url } = cluster.with('command')[0]!;
    const again = await login(url);
    const kidOf = (token: string) =>
      JSON.parse(Buffer.from(token.split('.')[0]!, 'base64url').toString()).kid;
    expect(kidOf(again.token)).to.equal(body.kid).and.not.to.equal(kidOf(before));
    for (const query of cluster.with('query')) {
      for (const token of [again.token, before]) {
        expect((await client(query.url, token).get('/api/auth/me')).status).to.equal(200);
      }
      const { body: jwks } = await client(query.url, '').get('/.well-known/jwks.json');
      expect(jwks.keys.map(({ kid }: { kid: string }) => kid)).to.include.members([
        body.kid,
        body.previousKid,
      ]);
    }
  });

  it('does not rotate keys that come from the environment, and says where they are rotated', async () => {
    const program = await startProgram({ env: { KEYS: await newKeys() } });
    try {
      const { status, body } = await (await login(program.url)).post('/api/signing-keys/rotate');
      expect(status).to.equal(409);
      expect(body.error).to.include('KEYS in the environment');
    } finally {
      await program.stop();
    }
  });

  it('refuses a process with other keys, or with keys of its own making', async () => {
    const shared = {
      KAFKA_BROKERS: cluster.kafka.brokers,
      MONGODB_URL: cluster.database.url,
      KAFKA_PARTITIONS: String(PARTITIONS),
      COMMAND_SERVICE_URL: cluster.with('command')[0]!.url,
    };
    const dataDir = cluster.with('command')[0]!.program.dataDir;
    const folder = await mkdtemp(join(tmpdir(), 'odeon-keys-'));
    const programs: Program[] = [];
    try {
      for (const [ROLES, KEYS] of [
        ['query', await newKeys()],
        ['processes', await newKeys()],
      ] as const) {
        const program = await launchProgram({ dataDir, env: { ...shared, ROLES, KEYS } });
        programs.push(program);
        expect(await program.exited, program.stderr).to.deep.equal({ code: 1, signal: null });
        expect(program.stderr).to.include('the signing keys are not those of this deployment');
        expect(program.stderr).not.to.include('masterSecret');
      }
      const KEYS_FILE = join(folder, 'keys.json');
      const program = await launchProgram({ dataDir, env: { ...shared, ROLES: 'query', KEYS_FILE } });
      programs.push(program);
      expect(await program.exited, program.stderr).to.deep.equal({ code: 1, signal: null });
      expect(program.stderr).to.include(KEYS_FILE).and.to.include('is missing');
    } finally {
      await Promise.all(programs.map((program) => program[Symbol.asyncDispose]()));
      await rm(folder, { recursive: true });
    }
  });

  // ── the end ─────────────────────────────────────────────────────────────
  it('ends every process in time when it is told to', async () => {
    const took = await Promise.all(
      cluster.nodes.map(async ({ name, program }) => {
        const since = performance.now();
        expect(await program.kill('SIGTERM'), `${name}\n${program.stderr}`).to.deep.equal({
          code: 0,
          signal: null,
        });
        return [name, Math.round(performance.now() - since)] as const;
      }),
    );
    console.log(`ended after: ${took.map(([name, ms]) => `${name} ${ms} ms`).join(', ')}`);
    for (const [name, ms] of took) expect(ms, name).to.be.below(5_000);
    for (const { name, program } of cluster.nodes) {
      expect(program.stderr, name).not.to.match(/"level":(50|60)|"level":"(error|fatal)"/);
    }
  });
});
