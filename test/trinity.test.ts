/** Trinity's chats with the whole program: streams that resume, kill and go on, and what visitors see of them. */
import { expect } from 'chai';
import { ADMIN, type Client, condition, login, type Program, startProgram } from './program.ts';

interface Entry {
  readonly id: string | null;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into what they assert
  readonly data: any;
}

const AGENT = { description: 'Scouts.', instructions: 'You are the scout.', model: 'builtin/assistant' };
const LONG = `Repeat after me: ${Array.from({ length: 40 }, (_, n) => `word${n}`).join(' ')}`;

/** Reads server-sent events until the stream ends, or `enough` of them have come. */
async function entriesOf(response: Response, enough = Number.POSITIVE_INFINITY): Promise<Entry[]> {
  expect(response.status).to.equal(200);
  expect(response.headers.get('content-type')).to.match(/^text\/event-stream/);
  const entries: Entry[] = [];
  let text = '';
  for await (const bytes of response.body!.pipeThrough(new TextDecoderStream())) {
    text += bytes;
    const blocks = text.split('\n\n');
    text = blocks.pop() ?? '';
    for (const block of blocks) {
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (data === undefined) continue;
      entries.push({ id: /^id: (.*)$/m.exec(block)?.[1] ?? null, data: JSON.parse(data) });
      if (entries.length >= enough) return entries;
    }
  }
  return entries;
}
const textOf = (entries: readonly Entry[]): string =>
  entries.map(({ data }) => (data.type === 'text' ? data.text : '')).join('');

describe('Trinity with the whole program', () => {
  let program: Program;
  let admin: Client;
  let path: string;
  before(async () => {
    program = await startProgram({ env: { BUILTIN_DELAY_MS: '10' } });
    admin = await login(program.url);
    expect((await admin.post('/api/agents', { name: 'scout', ...AGENT })).status).to.equal(201);
    path = '/api/agents/scout';
  });
  // The last test kills it, and has another one end in good order.
  after(() => program[Symbol.asyncDispose]());

  const open = (
    at: string,
    body: object | null,
    headers: Record<string, string> = {},
    signal?: AbortSignal,
  ) =>
    fetch(program.url + at, {
      method: body === null ? 'GET' : 'POST',
      headers: {
        ...(at.startsWith('/api/public/') ? {} : { Authorization: `Bearer ${admin.token}` }),
        ...(body !== null && { 'Content-Type': 'application/json' }),
        ...headers,
      },
      ...(body !== null && { body: JSON.stringify(body) }),
      ...(signal !== undefined && { signal }),
    });

  it('logs in with a form or JSON, and lets what it gives in everywhere', async () => {
    const credentials = { username: ADMIN.email, password: ADMIN.password };
    for (const [type, body] of [
      [
        'application/x-www-form-urlencoded',
        new URLSearchParams({ grant_type: 'password', ...credentials }).toString(),
      ],
      ['application/json', JSON.stringify(credentials)],
    ] as const) {
      const response = await fetch(`${program.url}/api/token`, {
        method: 'POST',
        headers: { 'Content-Type': type },
        body,
      });
      expect(response.status).to.equal(200);
      const given = (await response.json()) as { access_token: string; token_type: string };
      expect(given).to.have.all.keys('access_token', 'token_type');
      expect(given.token_type).to.equal('bearer');
      const me = await fetch(`${program.url}/api/auth/me`, {
        headers: { Authorization: `Bearer ${given.access_token}` },
      });
      expect(me.status).to.equal(200);
    }
    const wrong = await admin.post('/api/token', { ...credentials, password: 'wrong' });
    expect([wrong.status, wrong.body]).to.deep.equal([401, { detail: 'Invalid credentials' }]);
    expect((await admin.post('/api/token', { username: 'a' })).status).to.equal(422);
  });

  it('streams the entries as they come, and the answer as the last one', async () => {
    const entries = await entriesOf(
      await open(`${path}/chat`, { message: 'What is 12.5% of 80?' }, { Accept: 'text/event-stream' }),
    );
    const types = entries.map(({ data }) => data.type);
    expect(types).to.include.members(['status', 'tool_use', 'tool_result', 'text']);
    const answer = entries.at(-1)!.data;
    expect(textOf(entries)).to.equal(answer.response);
    expect(answer.session).to.include({ message_count: 2 });
    const replay = await admin.get(`${path}/executions/${answer.execution.task_execution_id}`);
    expect(replay.body.response).to.equal(answer.response);
  });

  it('streams lines of JSON', async () => {
    const response = await open(
      `${path}/chat`,
      { message: 'What is 6*7?' },
      { Accept: 'application/x-ndjson' },
    );
    expect(response.headers.get('content-type')).to.match(/^application\/x-ndjson/);
    const lines = (await response.text())
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines[0]).to.include({ type: 'status', status: 'running' });
    const answer = lines.at(-1);
    expect(answer.response).to.equal('6*7 = 42');
    expect(
      lines
        .filter(({ type }) => type === 'text')
        .map(({ text }) => text)
        .join(''),
    ).to.equal('6*7 = 42');
  });

  it('goes on where a reader was cut off: by the same request, and at the execution', async () => {
    const headers = { Accept: 'text/event-stream', 'Idempotency-Key': 'stream-1' };
    const leave = new AbortController();
    const response = await open(`${path}/chat`, { message: LONG }, headers, leave.signal);
    const turnId = response.headers.get('X-Turn-Id');
    const begun = await entriesOf(response, 6);
    leave.abort();
    const lastEventId = begun.at(-1)!.id!;

    const resumed = await entriesOf(
      await open(`${path}/chat`, { message: LONG }, { ...headers, 'Last-Event-ID': lastEventId }),
    );
    const answer = resumed.at(-1)!.data;
    expect(answer.execution.task_execution_id).to.equal(turnId);
    expect(textOf(begun) + textOf(resumed)).to.equal(answer.response);

    const elsewhere = await entriesOf(
      await open(`${path}/executions/${turnId}/stream`, null, { 'Last-Event-ID': lastEventId }),
    );
    expect(textOf(begun) + textOf(elsewhere)).to.equal(answer.response);
    expect(elsewhere.at(-1)!.data).to.deep.equal({ type: 'stream_end' });

    const replay = await admin.post(`${path}/chat`, { message: LONG }, { 'Idempotency-Key': 'stream-1' });
    expect(replay.body).to.deep.equal(answer);
    expect(replay.headers.get('X-Idempotent-Replay')).to.equal('true');
    const { body } = await admin.get(`${path}/executions?limit=200`);
    expect(body.filter(({ message }: { message: string }) => message === LONG)).to.have.length(1);
  });

  it('ends a stream whose execution is stopped with the reason', async () => {
    const response = await open(`${path}/chat`, { message: LONG }, { Accept: 'text/event-stream' });
    const turnId = response.headers.get('X-Turn-Id');
    const reading = entriesOf(response);
    await condition(async () => (await admin.get(`${path}/executions/${turnId}`)).body.status === 'running', {
      withinMs: 5_000,
    });
    expect((await admin.post(`${path}/executions/${turnId}/terminate`)).body.status).to.equal('terminated');
    const last = (await reading).at(-1)!.data;
    expect(last.detail).to.include({ status: 'cancelled', execution_id: turnId });
  });

  it("lets visitors follow an answer, resumed where they were, with nothing of the owner's", async () => {
    await admin.post(`${path}/chat`, { message: 'Remember that my safe code is 4711.' });
    const { token } = (await admin.post(`${path}/public-links`, {})).body;
    const visitor = (message: string, more: object = {}) =>
      open(`/api/public/chat/${token}`, { message, ...more }).then((answer) => answer.json());
    const first = await visitor('What is my safe code? What do you know about me?');
    expect(JSON.stringify(first)).to.not.include('4711');
    const { execution_id: id, session_id: session } = await visitor(LONG, {
      async_mode: true,
      session_id: first.session_id,
    });
    const at = `/api/public/executions/${token}/${id}/stream?session_id=${encodeURIComponent(session)}`;
    const leave = new AbortController();
    const begun = await entriesOf(await open(at, null, {}, leave.signal), 5);
    leave.abort();
    const resumed = await entriesOf(await open(at, null, { 'Last-Event-ID': begun.at(-1)!.id! }));
    const history = await (
      await open(`/api/public/history/${token}?session_id=${encodeURIComponent(session)}`, null)
    ).json();
    expect(textOf(begun) + textOf(resumed)).to.equal(history.messages.at(-1).content);
    expect(resumed.at(-1)!.data).to.deep.equal({ type: 'stream_end' });
    const kinds = new Set([...begun, ...resumed].map(({ data }) => data.type));
    expect([...kinds].sort()).to.deep.equal(['status', 'stream_end', 'text']);
    expect((await open(at, null, { 'Last-Event-ID': resumed.at(-2)!.id! })).status).to.equal(204);
  });

  it('finishes an answer that was under way when the process was killed, once', async () => {
    const dataDir = program.dataDir;
    const headers = { 'Idempotency-Key': 'killed-1' };
    const asked = admin.post(`${path}/chat`, { message: `${LONG} again` }, headers).catch(() => null);
    const runs = async () =>
      (await admin.get(`${path}/executions?limit=200`)).body.filter(
        ({ message }: { message: string }) => message === `${LONG} again`,
      );
    await condition(async () => (await runs())[0]?.status === 'running', { withinMs: 5_000 });
    await program.kill('SIGKILL');
    await asked;
    const next = await startProgram({ dataDir, env: { BUILTIN_DELAY_MS: '1' } });
    try {
      admin = await login(next.url);
      const { status, body } = await admin.post(`${path}/chat`, { message: `${LONG} again` }, headers);
      expect(status).to.equal(200);
      expect(body.response).to.include('word39');
      expect(await runs()).to.have.length(1);
    } finally {
      await next.stop();
    }
  });
});
