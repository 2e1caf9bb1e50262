import { connect } from 'node:net';
import { expect } from 'chai';
import { type ClientOptions, WebSocket } from 'ws';
import { zergFeedFrame } from '../../contracts/live/frames.ts';
import { seeded, turnScript } from '../../test/live-scenario.ts';
import { type LiveServer, startLiveServer, until } from '../../test/live-server.ts';

const ID = 'dddddddddddd';

interface Client {
  readonly socket: WebSocket;
  readonly frames: Record<string, unknown>[];
  of(type: string): Record<string, unknown>[];
  say(frame: unknown): void;
  closed(): { code: number; reason: string } | null;
}

describe("ZERG's WebSocket", () => {
  let live: LiveServer;
  const sockets: WebSocket[] = [];
  const begin = async (timing: Parameters<typeof startLiveServer>[0] = {}) => {
    live = await startLiveServer(timing);
    await live.start(ID, 'ada');
  };
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.terminate();
    await live.close();
    expect(live.errors).to.deep.equal([]);
  });

  function dial(
    query = '',
    options: ClientOptions = { headers: { Authorization: 'Bearer ada' } },
    id = ID,
  ): Client {
    const socket = new WebSocket(`ws://127.0.0.1:${live.port}/api/v1/chat/${id}/ws${query}`, options);
    sockets.push(socket);
    const frames: Record<string, unknown>[] = [];
    let closed: { code: number; reason: string } | null = null;
    socket.on('message', (data) => frames.push(JSON.parse(String(data))));
    socket.on('close', (code, reason) => {
      closed = { code, reason: String(reason) };
    });
    socket.on('error', () => {});
    return {
      socket,
      frames,
      of: (type) => frames.filter((frame) => frame.type === type),
      say: (frame) => socket.send(JSON.stringify(frame)),
      closed: () => closed,
    };
  }
  async function connected(...how: Parameters<typeof dial>): Promise<Client> {
    const client = dial(...how);
    await until(() => client.of('history').length === 1, 'the history');
    return client;
  }
  /** The status that an upgrade is refused with. */
  const refused = (...how: Parameters<typeof dial>): Promise<number> =>
    new Promise((resolve, reject) => {
      const { socket } = dial(...how);
      socket.on('unexpected-response', (_request, response) => resolve(response.statusCode!));
      socket.on('open', () => reject(new Error('The upgrade was accepted.')));
    });

  /** The answer to an upgrade that is written by hand. */
  const handshake = (headers: string): Promise<string> =>
    new Promise((resolve) => {
      const raw = connect(live.port, '127.0.0.1');
      let answer = '';
      raw.on('data', (data) => {
        answer += data;
      });
      raw.on('close', () => resolve(answer));
      raw.write(
        `GET /api/v1/chat/${ID}/ws?token=ada HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n` +
          `Connection: Upgrade\r\n${headers}\r\n`,
      );
    });

  it('greets, gives the last messages, and shows an answer to its end', async () => {
    await begin();
    const first = turnScript(seeded(1), '1'.repeat(24));
    for (const step of first.steps) await live.play(ID, 'ada', step);
    await live.caughtUp();
    const client = await connected();
    expect(client.frames[0]).to.deep.include({ type: 'connected', session_id: ID });
    const [history] = client.of('history') as [
      { messages: { role: string; content: string; timestamp: number }[] },
    ];
    expect(history.messages.map(({ role, content }) => [role, content])).to.deep.equal([
      ['user', 'Hello?'],
      ['assistant', first.content],
    ]);
    expect(history.messages[0]!.timestamp).to.be.closeTo(Date.now() / 1_000, 60);

    const second = turnScript(seeded(1), '2'.repeat(24));
    for (const step of second.steps) await live.play(ID, 'ada', step);
    await until(() => client.of('done').length === 1);
    expect(
      client
        .of('token')
        .map(({ data }) => data)
        .join(''),
    ).to.equal(second.content);
    const usage = { prompt_tokens: 12, completion_tokens: 7, total_tokens: 19 };
    const message_id = `msg_${'2'.repeat(24)}`;
    expect(client.of('done')[0]).to.deep.include({ usage, message_id, id: await live.store.head() });
  });

  it('lets in by header, API key, cookie and token, and nobody else', async () => {
    await begin();
    for (const headers of [
      { Authorization: 'Bearer ada' },
      { 'X-API-Key': 'ada' },
      { Cookie: 'zerg_session=ada' },
    ]) {
      await connected('', { headers });
    }
    await connected('?token=ada', {});
    expect(await refused('', {})).to.equal(401);
    expect(await refused('?token=wrong', {})).to.equal(401);
    expect(await refused('?token=bob', {})).to.equal(404);
    expect(await refused('?token=ada', {}, 'eeeeeeeeeeee')).to.equal(404);
    expect(await refused('?token=ada', {}, 'not-an-id')).to.equal(404);
    expect(await refused('?token=ada&lastEventId=x', {})).to.equal(400);
    live.logins.set('nobody', { ...live.logins.get('ada')!, permissions: new Set() });
    expect(await refused('?token=nobody', {})).to.equal(403);
    await connected('?token=auditor', {});
  });

  it('says first that a frame id is not of this log, and goes on from now', async () => {
    await begin();
    const first = turnScript(seeded(1), '1'.repeat(24));
    for (const step of first.steps) await live.play(ID, 'ada', step);
    await live.caughtUp();
    const client = await connected('?token=ada&lastEventId=99999', {});
    const [resync, hello] = client.frames as Record<string, string>[];
    const { id, ...frame } = resync!;
    expect(zergFeedFrame.parse(frame)).to.have.property('reason').that.includes('99999');
    expect(hello).to.deep.include({ type: 'connected', id });

    const second = turnScript(seeded(1), '2'.repeat(24));
    for (const step of second.steps) await live.play(ID, 'ada', step);
    const again = await connected(`?token=ada&lastEventId=${id}`, {});
    await until(() => client.of('done').length === 1 && again.of('done').length === 1);
    const said = ({ of }: Client) =>
      of('token')
        .map(({ data }) => data)
        .join('');
    expect([said(client), said(again)]).to.deep.equal([second.content, second.content]);
    expect(again.of('resync')).to.deep.equal([]);
  });

  it('does not let the pages of other origins use cookies', async () => {
    await begin();
    const cookie = (origin: Record<string, string>) => ({
      headers: { Cookie: 'zerg_session=ada', ...origin },
    });
    for (const origin of [
      { Origin: 'https://evil.example' },
      { Origin: 'null' },
      { Origin: `http://127.0.0.1:${live.port + 1}` },
      { Origin: 'https://chat.example.org.evil.example' },
      { 'Sec-Fetch-Site': 'same-site' },
    ]) {
      expect(await refused('', cookie(origin)), JSON.stringify(origin)).to.equal(403);
    }
    await connected('', cookie({ Origin: `http://127.0.0.1:${live.port}` }));
    await connected('', cookie({ Origin: 'https://chat.example.org' }));
    // A page that knows a token needs no cookie.
    await connected('?token=ada', { headers: { Origin: 'https://evil.example' } });
  });

  it('refuses handshakes that are none in its own format', async () => {
    await begin();
    for (const headers of ['Sec-WebSocket-Version: 99', 'Sec-WebSocket-Key: x']) {
      const answer = await handshake(`${headers}\r\n`);
      expect(answer).to.match(/^HTTP\/1\.1 400 .*\r\nContent-Type: application\/json/s);
      expect(JSON.parse(answer.slice(answer.indexOf('\r\n\r\n')))).to.include({ ok: false });
    }
  });

  it('closes on whoever sends nothing but what is refused', async () => {
    await begin();
    const client = await connected();
    for (let i = 0; i < 99; i++) client.socket.send('{');
    client.say({ type: 'ping' });
    await until(() => client.of('pong').length === 1);
    for (let i = 0; i < 1_000; i++) client.socket.send('{');
    client.say({ type: 'message', content: 'too late' });
    await until(() => client.closed() !== null);
    expect(client.closed()!.code).to.equal(1008);
    expect(client.of('error')).to.have.length(199);
    expect(live.issued).to.deep.equal([]);
  });

  it('answers a flood of frames in order, and others meanwhile', async () => {
    await begin();
    const flooding = await connected();
    const other = await connected();
    for (let i = 0; i < 2_000; i++) flooding.say({ type: 'message', content: String(i) });
    other.say({ type: 'ping' });
    await until(() => other.of('pong').length === 1);
    expect(live.issued.length).to.be.below(2_000);
    await until(() => live.issued.length === 2_000);
    const contents = live.issued.map(({ input }) => (input as { content: string }).content);
    expect(contents).to.deep.equal(Array.from({ length: 2_000 }, (_, i) => String(i)));
  });

  it('sends messages and interrupts under command ids that repeat with the frame', async () => {
    await begin();
    const client = await connected();
    client.say({ type: 'message', content: 'Hi', id: 'mine' });
    client.say({ type: 'message', content: 'Hi', id: 'mine' });
    client.say({ type: 'message', content: 'Hi', model: 'nano' });
    client.say({ type: 'interrupt' });
    await until(() => live.issued.length === 4);
    const [first, again, other, interrupt] = live.issued;
    expect(first!.input).to.deep.equal({ conversationId: ID, content: 'Hi', model: null });
    expect(other!.input).to.deep.include({ model: 'nano' });
    expect(interrupt).to.deep.include({ command: 'interrupt', input: { conversationId: ID, turnId: null } });
    expect(again!.issuer.commandId).to.equal(first!.issuer.commandId);
    expect(other!.issuer.commandId).not.to.equal(first!.issuer.commandId);
    expect(live.issued.map(({ issuer }) => issuer.retried)).to.deep.equal([true, true, false, false]);
    expect(first!.issuer).to.deep.include({ surface: 'zerg', caller: live.logins.get('ada') });
  });

  it('waits with the history for what the client has written', async () => {
    await begin();
    const client = await connected();
    client.say({ type: 'history' });
    client.say({ type: 'message', content: 'Hi' });
    client.say({ type: 'history' });
    client.say({ type: 'history' });
    await until(() => client.of('history').length === 4);
    expect(live.settled).to.deep.equal(['1']);
  });

  it('names what is wrong with a frame and stays open', async () => {
    await begin();
    const client = await connected();
    const deep = '['.repeat(100_000);
    const wrong = [
      '{',
      deep,
      '1',
      'null',
      '{}',
      '{"type":"dance"}',
      '{"type":"message"}',
      '{"type":"message","content":" "}',
    ];
    for (const frame of wrong) client.socket.send(frame);
    client.socket.send(Buffer.from('{"type":"ping"}'), { binary: true });
    client.say({ type: 'message', content: 'refuse me' });
    client.say({ type: 'ping' });
    await until(() => client.of('pong').length === 1);
    const errors = client.of('error').map(({ error }) => error as string);
    expect(errors).to.have.length(wrong.length + 2);
    expect(errors[0]).to.equal('The frame is not valid JSON.');
    expect(errors[5]).to.include('type');
    expect(errors[6]).to.include('content');
    expect(errors[7]).to.include('the message is blank');
    expect(errors.at(-2)).to.include('text frames');
    expect(errors.at(-1)).to.equal('The conversation has ended.');
    expect(client.of('pong')[0]!.ts).to.be.a('number');
  });

  it('does not let those write who may only read', async () => {
    await begin();
    const client = await connected('?token=auditor', {});
    client.say({ type: 'message', content: 'Hi' });
    client.say({ type: 'interrupt' });
    client.say({ type: 'history' });
    await until(() => client.of('history').length === 2);
    expect(client.of('error').map(({ error }) => error)).to.deep.equal([
      'This needs the permission chat:write.',
      'This needs the permission chat:write.',
    ]);
    expect(live.issued).to.deep.equal([]);
  });

  it('closes on frames that are too long, and on broken UTF-8', async () => {
    await begin();
    const long = await connected();
    long.socket.send('x'.repeat(256 * 1024 + 1));
    await until(() => long.closed() !== null);
    expect(long.closed()!.code).to.equal(1009);

    const raw = connect(live.port, '127.0.0.1');
    let answer = Buffer.alloc(0);
    raw.on('data', (data) => {
      answer = Buffer.concat([answer, data]);
    });
    raw.write(
      `GET /api/v1/chat/${ID}/ws?token=ada HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
        'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
    );
    await until(() => answer.includes('history'));
    answer = Buffer.alloc(0);
    // A final text frame of two bytes, masked with zeros, that are not UTF-8; answered by close 1007 (0x03ef).
    raw.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe]));
    await until(() => answer.length >= 4);
    expect([...answer.subarray(0, 4)]).to.deep.equal([0x88, 0x02, 0x03, 0xef]);
    raw.destroy();
  });

  it('pings, and closes whoever answers none of three', async () => {
    await begin({ pingMs: 40 });
    const silent = await connected('?token=ada', { autoPong: false });
    const answering = await connected('?token=ada', { autoPong: false });
    answering.socket.on('message', (data) => {
      if (String(data) === '{"type":"ping"}') answering.say({ type: 'pong' });
    });
    const browser = await connected();
    await until(() => silent.closed() !== null);
    expect(silent.closed()!.code).to.equal(4000);
    expect(silent.of('ping')).to.have.length(3);
    expect([answering.closed(), browser.closed()]).to.deep.equal([null, null]);
  });

  const ofAda = (session: string) => ({ ...live.logins.get('ada')!, sessionId: session });

  it('asks again and again for the login, and goes on as long as its session lives', async () => {
    await begin({ authRefreshMs: 40, authGraceMs: 20 });
    live.logins.set('other', ofAda('other'));
    const silent = await connected('', { headers: { Cookie: 'zerg_session=ada' } });
    const refreshed = await connected('?token=other', {});
    const lost = await connected('?token=other', {});
    live.expired.add('ada');
    refreshed.socket.on('message', (data) => {
      if (JSON.parse(String(data)).type === 'auth_refresh') refreshed.say({ type: 'auth', token: 'fresh' });
    });
    live.logins.set('fresh', ofAda('fresh')).delete('other');
    await until(() => lost.closed() !== null);
    expect(lost.closed()!.code).to.equal(4001);
    expect(lost.frames.at(-1)).to.have.property('error').that.includes('no longer valid');
    await until(() => silent.of('auth_refresh').length > 2 && refreshed.of('auth_refresh').length > 2);
    expect(silent.of('auth_refresh')[0]).to.deep.equal({ type: 'auth_refresh', expires_in: 1 });
    expect([silent.closed(), refreshed.closed()]).to.deep.equal([null, null]);
  });

  for (const frame of [{ type: 'message', content: 'Hi' }, { type: 'interrupt' }]) {
    it(`takes no ${frame.type} when the login has ended, and closes with 4001`, async () => {
      await begin();
      const client = await connected();
      live.expired.add('ada');
      client.say(frame);
      await until(() => live.issued.length === 1);
      live.logins.delete('ada');
      client.say(frame);
      await until(() => client.closed() !== null);
      expect(client.closed()!.code).to.equal(4001);
      expect(client.of('error').map(({ error }) => error)).to.deep.equal([
        'The login is no longer valid: log in again.',
      ]);
      expect(live.issued).to.have.length(1);
    });
  }

  it('lets a caller do what they may now, not what they might when they came', async () => {
    await begin();
    const client = await connected();
    const auditor = await connected('?token=auditor', {});
    live.logins.set('ada', { ...live.logins.get('ada')!, permissions: new Set(['chat:read']) });
    live.logins.set('auditor', { ...live.logins.get('auditor')!, permissions: new Set(['chat:read']) });
    client.say({ type: 'message', content: 'Hi' });
    auditor.say({ type: 'message', content: 'Hi' });
    await until(() => client.of('error').length === 1 && auditor.closed() !== null);
    expect(client.of('error')[0]!.error).to.equal('This needs the permission chat:write.');
    expect(auditor.closed()!.code).to.equal(4001);
    expect(live.issued).to.deep.equal([]);
  });

  it('shows nothing more to whoever listens when the login has ended', async () => {
    await begin({ recheckMs: 15 });
    const client = await connected();
    const other = await connected('?token=auditor', {});
    live.logins.delete('ada');
    await until(() => client.closed() !== null);
    expect(client.closed()!.code).to.equal(4001);
    expect(other.closed()).to.equal(null);
  });

  it('takes the token of another login for what it is good for, and none of another user', async () => {
    await begin();
    const client = await connected();
    client.say({ type: 'auth', token: 'bob' });
    client.say({ type: 'auth', token: 'wrong' });
    live.logins.set('narrow', { ...ofAda('narrow'), permissions: new Set(['chat:read']) });
    live.logins.set('blind', { ...ofAda('blind'), permissions: new Set(['chat:write']) });
    client.say({ type: 'auth', token: 'blind' });
    client.say({ type: 'auth', token: 'narrow' });
    client.say({ type: 'message', content: 'Hi' });
    client.say({ type: 'ping' });
    await until(() => client.of('pong').length === 1);
    expect(client.of('error').map(({ error }) => error)).to.deep.equal([
      'The token belongs to another user.',
      'Invalid or expired token',
      'This needs the permission chat:read.',
      'This needs the permission chat:write.',
    ]);
  });

  it('closes with 1012 when the server restarts, and forgets who has gone', async () => {
    await begin();
    const client = await connected();
    const gone = await connected();
    await until(() => live.live.stats().clients === 2);
    gone.socket.terminate();
    await until(() => live.live.stats().webSockets === 1 && live.live.stats().clients === 1);
    await live.live.close();
    await until(() => client.closed() !== null);
    expect(client.closed()!.code).to.equal(1012);
  });

  it('refuses upgrades of other paths', async () => {
    await begin();
    const raw = connect(live.port, '127.0.0.1');
    let answer = '';
    raw.on('data', (data) => {
      answer += data;
    });
    let ended = false;
    raw.on('close', () => {
      ended = true;
    });
    raw.write('GET /elsewhere HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n');
    await until(() => ended);
    expect(answer).to.match(/^HTTP\/1\.1 404 Not Found\r\n/);
  });
});
