/** What clients see when the program is told to end (SIGTERM) while answers are being written. */
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { expect } from 'chai';
import { WebSocket } from 'ws';
import { type Client, client, condition, login, type Program, startProgram } from './program.ts';

/** From SIGTERM until everybody has been told and has their ends. */
const TOLD_WITHIN_MS = 3_500;

interface Exchange {
  readonly response: IncomingMessage | null;
  text(): string;
  /** Whether the answer came to its proper end; null while it has come to none. */
  complete(): boolean | null;
}

describe('ending the program while answers are being written', () => {
  let program: Program;
  let admin: Client;
  const requests: ClientRequest[] = [];
  before(async () => {
    program = await startProgram({ env: { BUILTIN_DELAY_MS: '40' } });
    admin = await login(program.url);
  });
  after(async () => {
    for (const open of requests) open.destroy();
    await program[Symbol.asyncDispose]();
  });

  function open(method: string, path: string, body?: unknown): Exchange {
    let response: IncomingMessage | null = null;
    let text = '';
    let complete: boolean | null = null;
    const headers = { Authorization: `Bearer ${admin.token}`, 'Content-Type': 'application/json' };
    const sent = request(program.url + path, { method, headers, agent: false }, (answer) => {
      response = answer;
      answer.setEncoding('utf8').on('data', (chunk) => (text += chunk));
      answer.on('error', () => {}).on('close', () => (complete = answer.complete));
    });
    sent.on('error', () => (complete = false));
    sent.end(body === undefined ? undefined : JSON.stringify(body));
    requests.push(sent);
    return {
      get response() {
        return response;
      },
      text: () => text,
      complete: () => complete,
    };
  }

  async function conversation(): Promise<string> {
    return (await admin.post('/api/chat/sessions', {})).body.id;
  }

  it('tells each in its own way, ends every stream properly, and gives the answers back', async () => {
    const [id, other] = [await conversation(), await conversation()];
    const message = 'Count from 1 to 900.';
    const turn = open('POST', `/api/chat/sessions/${id}/send`, { message });
    await condition(() => turn.text().includes('"content"'), {
      withinMs: 10_000,
      what: 'the answer to begin',
    });
    const whole = open('POST', `/api/chat/sessions/${other}/send`, { message, stream: false });
    const zerg = open('GET', `/api/v1/chat/${id}/stream`);
    const activity = open('GET', '/api/activity/stream');
    const log = open('GET', '/api/log/live');
    const streams = { turn, zerg, activity, log };
    const socket = new WebSocket(
      `${program.url.replace('http', 'ws')}/api/v1/chat/${other}/ws?token=${admin.token}`,
    );
    let closedWith: number | null = null;
    const frames: string[] = [];
    socket.on('message', (data) => frames.push(String(data)));
    socket.on('close', (code) => (closedWith = code));
    await condition(
      () =>
        Object.values(streams).every(({ text }) => text() !== '') &&
        frames.some((frame) => frame.includes('"token"')),
      { withinMs: 10_000, what: 'all to be open' },
    );

    const ending = program.kill('SIGTERM');
    const all = [...Object.values(streams), whole];
    await condition(() => closedWith !== null && all.every(({ complete }) => complete() !== null), {
      withinMs: TOLD_WITHIN_MS,
      what: 'everybody to be told',
    });
    expect(all.map(({ complete }) => complete())).to.deep.equal(all.map(() => true));
    expect(turn.text()).to.match(/data: {"type":"status","status":"server_shutdown"}\n\n$/);
    expect(zerg.text()).to.match(/event: shutdown\ndata: {"timestamp":"\S+"}\n\n$/);
    expect(log.text()).to.match(/event: shutdown\ndata: {"timestamp":"\S+"}\n\n$/);
    expect(activity.text()).to.match(/data: {"type":"shutdown","timestamp":"\S+"}\n\n$/);
    // Turns were given back before.
    expect(log.text()).to.include('"TurnReleased"');
    expect(closedWith).to.equal(1012);
    expect(whole.response!.statusCode).to.equal(503);
    const { turnId, error } = JSON.parse(whole.text());
    expect(whole.response!.headers).to.include({ 'x-turn-id': turnId, 'retry-after': '5' });
    expect(error).to.include(`/api/turns/${turnId}/stream`);
    expect(await ending).to.deep.equal({ code: 0, signal: null });
    expect(program.stderr).not.to.match(/"level":(50|60)|"level":"error"/);

    await using again = await startProgram({
      dataDir: program.dataDir,
      env: { BUILTIN_DELAY_MS: '0' },
    });
    const later = await client(again.url, admin.token).get(`/api/turns/${turnId}/stream`);
    expect(later.status).to.equal(200);
    expect(later.body).to.include('"type":"done"');
  });
});
