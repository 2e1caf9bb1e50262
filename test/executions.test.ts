/** Executions of the whole program: followed live, stopped, and gone on with after it was killed (-9). */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { EventSource } from 'eventsource';
import type { EventEnvelope } from '../contracts/envelope.ts';
import { type Client, client, condition, login, type Program, startProgram } from './program.ts';

const WITHIN_MS = 30_000;
/** Long enough to be killed in. */
const COUNT = { message: 'Count from 1 to 60.', async_mode: true };
const COUNTED = Array.from({ length: 60 }, (_, at) => at + 1);
const env = { BUILTIN_DELAY_MS: '20', ACCESS_TOKEN_MINUTES: '1440', LOG_LEVEL: 'error' };

// biome-ignore lint/suspicious/noExplicitAny: entries whose shape the tests assert
type Entry = any;

describe('executions of the whole program', function () {
  this.timeout(90_000);

  let dataDir: string;
  let program: Program;
  let user: Client;
  before(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'odeon-executions-'));
    program = await startProgram({ dataDir, env });
    user = await login(program.url);
  });
  after(async () => {
    await program[Symbol.asyncDispose]();
    await rm(dataDir, { recursive: true });
  });

  const path = (id: string) => `/api/agents/coder/executions/${id}`;
  const detail = async (id: string) => (await user.get(path(id))).body;
  const submit = async (body: object = COUNT): Promise<string> => {
    const answer = await user.post('/api/agents/coder-claude/task', body);
    expect(answer.status, JSON.stringify(answer.body)).to.equal(200);
    return answer.body.execution_id;
  };
  const ended = (id: string) =>
    condition(
      async () => {
        const { status, ...execution } = await detail(id);
        return !['queued', 'running'].includes(status) && { status, ...execution };
      },
      { withinMs: WITHIN_MS, what: 'the end of the execution' },
    );
  const numbersIn = (text: string): number[] => [...text.matchAll(/\d+/g)].map(([number]) => Number(number));

  /** Reads the stream from after the frame, up to its end or until `leave` says so. */
  async function read(
    id: string,
    lastEventId: string | null,
    leave: (entry: Entry) => boolean = () => false,
  ) {
    const headers = {
      Authorization: `Bearer ${user.token}`,
      ...(lastEventId !== null && { 'Last-Event-ID': lastEventId }),
    };
    const abort = new AbortController();
    const response = await fetch(`${program.url}${path(id)}/stream`, { headers, signal: abort.signal });
    const entries: Entry[] = [];
    let last = lastEventId;
    if (response.status === 204) return { status: 204, entries, last };
    let text = '';
    const frames = response.body!.pipeThrough(new TextDecoderStream());
    reading: for await (const piece of frames) {
      text += piece;
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        const frame = text.slice(0, end);
        text = text.slice(end + 2);
        const data = /^data: (.*)$/m.exec(frame)?.[1];
        if (data === undefined) continue;
        last = /^id: (.*)$/m.exec(frame)?.[1] ?? last;
        entries.push(JSON.parse(data));
        if (leave(entries.at(-1))) break reading;
      }
    }
    abort.abort();
    return { status: response.status, entries, last };
  }
  const textOf = (entries: readonly Entry[]): string =>
    entries.flatMap(({ type, text }) => (type === 'text' ? [text] : [])).join('');

  it('are followed as they are written, resumed without gap or repeat, and over for who has read all', async () => {
    const id = await submit();
    let pieces = 0;
    const first = await read(id, null, ({ type }) => type === 'text' && ++pieces === 5);
    expect(first.entries[0]).to.include({ type: 'status', status: 'running', attempt: 1 });
    expect((await detail(id)).status, 'while it is written').to.equal('running');
    const rest = await read(id, first.last);
    expect(rest.entries.at(-1)).to.deep.equal({ type: 'stream_end' });
    expect(rest.entries.at(-2)).to.include({ type: 'status', status: 'success' });
    const { response } = await ended(id);
    expect(textOf([...first.entries, ...rest.entries])).to.equal(response);
    expect(numbersIn(response)).to.include.members(COUNTED);
    expect((await read(id, rest.last)).status).to.equal(204);
    const again = await read(id, null);
    expect(textOf(again.entries)).to.equal(response);
  });

  it('are followed by an EventSource, which stops by itself when all is read', async () => {
    const id = await submit({ message: 'What is 6 * 7?', async_mode: true });
    const source = new EventSource(`${program.url}${path(id)}/stream`, {
      fetch: (url, init) =>
        fetch(url, { ...init, headers: { ...init.headers, Authorization: `Bearer ${user.token}` } }),
    });
    const entries: Entry[] = [];
    source.onmessage = ({ data }) => entries.push(JSON.parse(data));
    try {
      await condition(() => entries.at(-1)?.type === 'stream_end', { withinMs: WITHIN_MS });
      const tools = entries
        .filter(({ type }) => type.startsWith('tool_'))
        .map(({ type, tool }) => [type, tool]);
      expect(tools).to.deep.equal([
        ['tool_use', 'calculate'],
        ['tool_result', 'calculate'],
      ]);
      // It comes again with its cursor, and is told that there is nothing left.
      await condition(() => source.readyState === EventSource.CLOSED, { withinMs: WITHIN_MS });
    } finally {
      source.close();
    }
  });

  it('are stopped in the middle, and say how far they got', async () => {
    const id = await submit();
    await read(id, null, ({ type }) => type === 'text');
    expect((await user.post(`${path(id)}/terminate`)).body).to.deep.equal({
      ...{ status: 'terminated', execution_id: id },
    });
    const { status, response } = await ended(id);
    expect(status).to.equal('cancelled');
    expect(numbersIn(response)).not.to.include(60);
    expect((await user.post(`${path(id)}/terminate`)).body.status).to.equal('already_finished');
  });

  it('go on after a kill, with no step run twice', async () => {
    const key = { 'Idempotency-Key': 'killed in the middle'.replaceAll(' ', '-') };
    const asked = await user.post('/api/agents/coder/task', COUNT, key);
    const id: string = asked.body.execution_id;
    const queued = await submit({ message: 'What is 2 + 3?', async_mode: true });
    const before = await read(id, null, ({ type }) => type === 'text');
    await program.kill('SIGKILL');
    program = await startProgram({ dataDir, env });
    user = client(program.url, user.token);

    const after = await read(id, before.last);
    expect(after.entries.at(-1)).to.deep.equal({ type: 'stream_end' });
    const execution = await ended(id);
    expect(execution.status).to.equal('success');
    expect(numbersIn(execution.response)).to.include.members(COUNTED);
    // What had been shown is not shown again, or said to be void.
    const restarted = after.entries.findLastIndex(({ status }) => status === 'restarted');
    const shown =
      restarted < 0 ? textOf(before.entries) + textOf(after.entries) : textOf(after.entries.slice(restarted));
    expect(shown).to.equal(execution.response);
    expect((await ended(queued)).response).to.include('5');

    const again = await user.post('/api/agents/coder/task', COUNT, key);
    expect(again.body.execution_id).to.equal(id);
    expect(again.headers.get('x-idempotent-replay')).to.equal('true');
    const stream = `conversation-${execution.claude_session_id}`;
    const { events } = (await user.get(`/api/log/events?stream=${stream}&limit=1000`)).body;
    const count = (type: string) => events.filter((event: EventEnvelope) => event.type === type).length;
    expect([count('MessageSent'), count('TurnCompleted')]).to.deep.equal([1, 1]);
    expect(execution.attempt, 'attempts').to.equal(count('TurnStarted'));
  });

  it('never bring back what an administrator changed or deleted', async () => {
    const changed = await user.request('PATCH', '/api/agents/critic', { description: 'Ours.' });
    expect(changed.status).to.equal(200);
    expect((await user.request('DELETE', '/api/agents/planner')).status).to.equal(200);
    await program.kill('SIGTERM');
    program = await startProgram({ dataDir, env });
    user = client(program.url, user.token);
    expect((await user.get('/api/agents/critic')).body.description).to.equal('Ours.');
    expect((await user.get('/api/agents/planner')).status).to.equal(404);
    expect((await user.get('/api/agents?owner=system')).body).to.have.length(6);
  });
});
