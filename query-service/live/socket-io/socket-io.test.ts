import { connect } from 'node:net';
import { expect } from 'chai';
import { io, type ManagerOptions, type Socket, type SocketOptions } from 'socket.io-client';
import type { EventType } from '../../../contracts/events/catalogue.ts';
import {
  errorEvent,
  type ServerEvent,
  type ServerEventName,
  serverEvents,
} from '../../../contracts/live/socket-io.ts';
import { seeded, turnScript } from '../../../test/live-scenario.ts';
import { type LiveServer, startLiveServer, until } from '../../../test/live-server.ts';

const ID = 'dddddddddddd';
type Options = Partial<ManagerOptions & SocketOptions>;

interface Client {
  readonly socket: Socket;
  of<Name extends ServerEventName>(name: Name): ServerEvent<Name>[];
  ask(event: string, data?: unknown): Promise<Record<string, unknown>>;
  /** Why it was disconnected; null while it is connected. */
  left(): string | null;
}

describe("Agent Chat's Socket.IO", () => {
  let live: LiveServer;
  const sockets: Socket[] = [];
  const begin = async (...how: Parameters<typeof startLiveServer>) => {
    live = await startLiveServer(...how);
    await live.start(ID, 'ada');
    await live.caughtUp();
  };
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.disconnect();
    await live.close();
    expect(live.errors).to.deep.equal([]);
  });

  function dial(options: Options = { auth: { token: 'ada' } }): Client {
    const socket = io(live.url, {
      forceNew: true,
      reconnection: false,
      transports: ['websocket'],
      ...options,
    });
    sockets.push(socket);
    const events: { name: ServerEventName; data: unknown }[] = [];
    let left: string | null = null;
    // What is sent fits its contract.
    socket.onAny((name: ServerEventName, data) =>
      events.push({ name, data: serverEvents[name].parse(data) }),
    );
    socket.on('disconnect', (reason) => {
      left = reason;
    });
    return {
      socket,
      of: (name) => events.filter((event) => event.name === name).map(({ data }) => data as never),
      ask: (event, data) => socket.timeout(5_000).emitWithAck(event, data),
      left: () => left,
    };
  }
  async function connected(options?: Options): Promise<Client> {
    const client = dial(options);
    await until(() => client.socket.connected, 'the connection');
    return client;
  }
  const refused = (options: Options): Promise<{ message: string; data: ServerEvent<'error_event'> }> =>
    new Promise((resolve, reject) => {
      const { socket } = dial(options);
      socket.on('connect_error', (error) => resolve(error as never));
      socket.on('connect', () => reject(new Error('The connection was accepted.')));
    });
  async function playTurn(id: string, seed = 1, conversation = ID) {
    const script = turnScript(seeded(seed), id.repeat(24));
    for (const step of script.steps) await live.play(conversation, 'ada', step);
    return script;
  }
  const textOf = (client: Client, message: string): string =>
    client
      .of('chat_response')
      .filter(({ message_id }) => message_id === message)
      .map(({ token }) => token)
      .join('');

  it('lets in by token, API key, headers and cookie, by polling and WebSocket, and nobody else', async () => {
    await begin();
    const ways: Options[] = [
      { auth: { token: 'ada' } },
      { auth: { token: 'Bearer ada' } },
      { auth: { apiKey: 'ada' } },
      { extraHeaders: { Authorization: 'Bearer ada' } },
      { extraHeaders: { 'X-API-Key': 'ada' } },
      { extraHeaders: { Cookie: 'session=ada' } },
    ];
    for (const way of ways) {
      await connected(way);
      await connected({ ...way, transports: ['polling'] });
    }
    live.logins.set('nobody', { ...live.logins.get('ada')!, permissions: new Set() });
    for (const [way, code] of [
      [{}, 'UNAUTHORIZED'],
      [{ auth: { token: 'wrong' } }, 'UNAUTHORIZED'],
      [{ auth: { token: 'nobody' } }, 'FORBIDDEN'],
      [{ auth: { token: 'ada', lastSeq: 'x' } }, 'VALIDATION_ERROR'],
      [{ auth: { token: 7 } }, 'VALIDATION_ERROR'],
    ] as const) {
      const { message, data } = await refused(way);
      expect(errorEvent.parse(data)).to.include({ code, error: message });
    }
  });

  it('does not let the pages of other origins use cookies', async () => {
    await begin();
    const from = (Origin: string, more: object = {}) => ({
      extraHeaders: { Cookie: 'session=ada', Origin },
      ...more,
    });
    expect((await refused(from('https://evil.example'))).data.code).to.equal('FORBIDDEN');
    await connected(from('https://chat.example.org'));
    await connected(from(live.url));
    // It knows the token.
    await connected(from('https://evil.example', { auth: { token: 'ada' } }));
    const polled = await fetch(`${live.url}/socket.io/?EIO=4&transport=polling`, {
      headers: { Origin: 'https://evil.example' },
    });
    expect(polled.headers.get('access-control-allow-origin')).to.equal(null);
    expect(polled.headers.get('x-content-type-options')).to.equal('nosniff');
  });

  it('takes a message, says under which ids, and shows the answer piece by piece', async () => {
    await begin();
    const client = await connected();
    const ack = await client.ask('chat_message', { conversation_id: ID, message: 'Hello?', model: 'nano' });
    expect(ack).to.include({ ok: true, conversation_id: ID, message_id: 'm', turn_id: 't', answer_id: 't' });
    expect(live.issued).to.have.length(1);
    const { input, issuer } = live.issued[0]!;
    expect(input).to.deep.equal({ conversationId: ID, content: 'Hello?', model: 'nano' });
    expect(issuer).to.include({ surface: 'agent-chat', retried: false });

    const { content } = await playTurn('1');
    const message_id = `msg_${'1'.repeat(24)}`;
    const last = () => client.of('chat_response').findLast((response) => response.message_id === message_id);
    await until(() => last()?.finished === true);
    expect(textOf(client, message_id)).to.equal(content);
    expect(last()).to.include({ conversation_id: ID, status: 'complete', model: 'assistant' });
  });

  it('begins a conversation where none is named, and does a repeated event once', async () => {
    await begin();
    const client = await connected();
    const first = await client.ask('chat_message', { message: 'Hello?', id: 'mine' });
    const again = await client.ask('chat_message', { message: 'Hello?', id: 'mine' });
    expect(first.conversation_id).to.match(/^[0-9a-f]{12}$/);
    expect(again).to.deep.equal(first);
    const ids = live.issued.map(({ command, issuer }) => `${command} ${issuer.commandId}`);
    expect(ids.slice(2)).to.deep.equal(ids.slice(0, 2));
    expect(live.issued.every(({ issuer }) => issuer.retried)).to.equal(true);
    const other = await client.ask('chat_message', { message: 'Hello?' });
    expect(other.conversation_id).to.not.equal(first.conversation_id);
  });

  it('gives an answer in one piece, even where all pieces are subscribed to', async () => {
    await begin();
    const client = await connected();
    const other = await connected();
    await client.ask('subscribe', { type: 'conversation', conversation_id: ID });
    await other.ask('subscribe', { type: 'conversation', conversation_id: ID });
    const { steps, content, turnId } = turnScript(seeded(4), '1'.repeat(24));
    live.answers.push({ messageId: 'u', turnId });
    await client.ask('chat_message', { conversation_id: ID, message: 'Hello?', stream: false });
    for (const step of steps) await live.play(ID, 'ada', step);
    const second = await playTurn('2');
    const responses = (to: Client, id: string) =>
      to.of('chat_response').filter(({ message_id }) => message_id === `msg_${id.repeat(24)}`);
    await until(() => [client, other].every((to) => responses(to, '2').at(-1)?.finished));
    expect(responses(client, '1')).to.have.length(1);
    expect(responses(client, '1')[0]).to.include({ token: content, finished: true });
    expect(responses(other, '1').length).to.be.above(1);
    expect(textOf(other, `msg_${'1'.repeat(24)}`)).to.equal(content);
    expect(textOf(client, `msg_${'2'.repeat(24)}`)).to.equal(second.content);
  });

  it('shows what is subscribed to, and no more after that', async () => {
    await begin();
    const client = await connected();
    const silent = await connected();
    const ack = await client.ask('subscribe', { type: 'conversation', conversation_id: ID });
    expect(ack).to.include({ ok: true, type: 'conversation', conversation_id: ID });
    expect(ack.seq).to.match(/@conversation:dddddddddddd$/);
    const { content } = await playTurn('1');
    await until(() => client.of('chat_response').some(({ finished }) => finished));
    expect(textOf(client, `msg_${'1'.repeat(24)}`)).to.equal(content);
    await client.ask('unsubscribe', { type: 'conversation', conversation_id: ID });
    const count = client.of('chat_response').length;
    await playTurn('2');
    await live.caughtUp();
    await client.ask('unsubscribe', { type: 'conversation', conversation_id: ID });
    expect(client.of('chat_response')).to.have.length(count);
    expect(silent.of('chat_response')).to.be.empty;
    await until(() => live.live.stats().clients === 0);
  });

  it('answers as if it did not exist what the caller may not see', async () => {
    await begin();
    const bob = await connected({ auth: { token: 'bob' } });
    for (const conversation_id of [ID, 'eeeeeeeeeeee', 'conv_123']) {
      const ack = await bob.ask('subscribe', { type: 'conversation', conversation_id });
      expect(ack).to.include({
        ok: false,
        success: false,
        code: 'NOT_FOUND',
        error: 'Conversation not found.',
      });
    }
    const orchestration = { type: 'orchestration', orchestration_id: 'nothing' };
    expect(await bob.ask('subscribe', orchestration)).to.include({ ok: false, code: 'NOT_FOUND' });
    await until(() => bob.of('error_event').length === 4);
    await connected({ auth: { token: 'bob', lastSeq: `1@conversation:${ID}` } }).then((again) =>
      until(() => again.of('error_event').some(({ code }) => code === 'NOT_FOUND')),
    );
    const auditor = await connected({ auth: { token: 'auditor' } });
    expect(await auditor.ask('subscribe', { type: 'conversation', conversation_id: ID })).to.include({
      ok: true,
    });
    const written = await auditor.ask('chat_message', { conversation_id: ID, message: 'Hello?' });
    expect(written).to.include({ ok: false, code: 'FORBIDDEN' });
    expect(live.issued).to.be.empty;
  });

  it('tells errors as events and in acknowledgements, and does nothing', async () => {
    await begin();
    const client = await connected();
    const bad: [string, unknown, string, string][] = [
      ['nonsense', {}, 'VALIDATION_ERROR', 'event: is one of'],
      ['constructor', {}, 'VALIDATION_ERROR', 'event: is one of'],
      ['chat_message', {}, 'VALIDATION_ERROR', 'message:'],
      ['chat_message', undefined, 'VALIDATION_ERROR', 'Invalid'],
      ['chat_message', { message: ' ' }, 'VALIDATION_ERROR', 'message: the message is blank'],
      ['chat_message', { message: Buffer.from('x') }, 'VALIDATION_ERROR', 'message:'],
      ['chat_message', { conversation_id: ID, message: 'refuse me' }, 'CONFLICT', 'has ended'],
      ['subscribe', { type: 'weather' }, 'VALIDATION_ERROR', 'type: type is'],
      ['subscribe', { type: 'conversation' }, 'VALIDATION_ERROR', 'conversation_id'],
      [
        'subscribe',
        { type: 'conversation', conversation_id: ID, lastSeq: `1@conversation:x` },
        'VALIDATION_ERROR',
        'lastSeq',
      ],
      ['voice_command', { transcription: 'Hi', confidence: 2 }, 'VALIDATION_ERROR', 'confidence:'],
      ['interrupt', {}, 'VALIDATION_ERROR', 'conversation_id:'],
    ];
    for (const [event, data, code, details] of bad) {
      const ack = await client.ask(event, data);
      expect(ack, event).to.include({ ok: false, success: false, code });
      expect(ack.details, event).to.include(details);
    }
    client.socket.emit('nonsense', 1, 2, 3);
    await until(() => client.of('error_event').length === bad.length + 1);
    expect(live.issued.map(({ command }) => command)).to.deep.equal(['message']);
    expect(await client.ask('interrupt', { conversation_id: ID })).to.include({ ok: true, turn_id: null });
  });

  it('acts on what was spoken by rule', async () => {
    await begin();
    const client = await connected();
    const say = async (transcription: string, confidence = 0.95) => {
      const { ok, ...feedback } = await client.ask('voice_command', { transcription, confidence });
      expect(ok).to.equal(true);
      expect(client.of('voice_feedback').at(-1)).to.deep.equal(feedback);
      return feedback as ServerEvent<'voice_feedback'>;
    };
    const created = await say('Create a new chat session');
    expect(created).to.include({
      action: 'session_created',
      speech: "I've created a new chat session for you.",
    });
    expect(live.issued.at(-1)).to.deep.include({ command: 'start', input: { title: null } });
    await say('Start a new conversation called Tides.');
    expect(live.issued.at(-1)).to.deep.include({ command: 'start', input: { title: 'Tides' } });
    expect((await say('List my chat sessions')).action).to.equal('sessions_listed');
    expect((await say('Search my messages for the moon')).speech).to.include('the moon');
    expect((await say('Find messages about nothing.', 0.9)).action).to.equal('search_results');
    expect(await say('mumble', 0.1)).to.include({ action: 'not_understood' });
    expect((await say('Stop')).action).to.equal('interrupted');
    const before = live.issued.length;
    expect((await say('Is the new chat session ready?')).action).to.equal('message_sent');
    expect(live.issued[before]).to.deep.include({ command: 'message' });
  });

  it('says that a seq is not of this log, and goes on from now', async () => {
    await begin();
    const client = await connected({ auth: { token: 'ada', lastSeq: `99999@conversation:${ID}` } });
    await until(() => client.of('resync').length === 1);
    const { seq } = client.of('resync')[0]!;
    const { content } = await playTurn('1');
    const again = await connected({ auth: { token: 'ada', lastSeq: [seq] } });
    for (const one of [client, again]) {
      await until(() => one.of('chat_response').some(({ finished }) => finished));
      expect(textOf(one, `msg_${'1'.repeat(24)}`)).to.equal(content);
    }
    expect(again.of('resync')).to.be.empty;
  });

  it('shows the progress of agents to who may see it', async () => {
    await begin();
    live.addAgent('scout');
    const ada = await connected();
    const bob = await connected({ auth: { token: 'bob' } });
    const admin = await connected({ auth: { token: 'admin' } });
    for (const client of [ada, bob, admin]) {
      const ack = await client.ask('subscribe', { type: 'agent_progress', agent_id: 'scout' });
      expect(ack).to.include({ ok: true, agent_id: 'scout' });
    }
    const unknown = await ada.ask('subscribe', { type: 'agent_progress', agent_id: 'nobody' });
    expect(unknown).to.include({ ok: false, code: 'NOT_FOUND' });
    const { steps } = turnScript(seeded(3), '3'.repeat(24));
    const run = {
      ...{
        agent: { id: 'agent_scout', name: 'scout' },
        trigger: 'chat',
        parent: null,
        orchestrationId: null,
      },
      ...{ tools: null, budget: { tokens: null, cost: null, turns: null }, timeoutMs: 1, maxAttempts: 1 },
      concurrency: 1,
    };
    for (const step of steps) {
      const isMessage = step.kind === 'event' && step.type === 'MessageSent';
      await live.play(ID, 'ada', isMessage ? { ...step, data: { ...(step.data as object), run } } : step);
    }
    await playTurn('4');
    await live.caughtUp();
    await until(() => [ada, admin].every((client) => client.of('agent_progress').at(-1)?.progress === 1));
    const seen = ada.of('agent_progress');
    expect(admin.of('agent_progress').map(({ seq: _, ...rest }) => rest)).to.deep.equal(
      seen.map(({ seq: _, ...rest }) => rest),
    );
    expect(bob.of('agent_progress')).to.be.empty;
    expect(new Set(seen.map(({ task_id }) => task_id))).to.deep.equal(new Set([`turn_${'3'.repeat(24)}`]));
    const progress = seen.map((one) => one.progress);
    expect(progress).to.deep.equal([...progress].sort((a, b) => a - b));
    expect(progress[0]).to.equal(0);
    // From anywhere, one sees the rest.
    for (const at of [0, Math.floor(seen.length / 2)]) {
      const again = await connected({ auth: { token: 'ada', lastSeq: seen[at]!.seq } });
      await until(() => again.of('agent_progress').at(-1)?.progress === 1);
      expect(again.of('agent_progress')).to.deep.equal(seen.slice(at + 1));
    }
  });

  it('ends with the login', async () => {
    await begin({ recheckMs: 20 });
    const client = await connected();
    await client.ask('subscribe', { type: 'conversation', conversation_id: ID });
    live.logins.delete('ada');
    await until(() => client.left() !== null);
    expect(client.left()).to.equal('io server disconnect');
    expect(client.of('error_event').at(-1)).to.include({ code: 'UNAUTHORIZED' });
    await until(() => live.live.stats().clients === 0);
  });

  it('limits messages', async () => {
    await begin({}, { chat: 2 });
    const client = await connected();
    const send = () => client.ask('chat_message', { conversation_id: ID, message: 'Hello?' });
    expect(await send()).to.include({ ok: true });
    expect(await send()).to.include({ ok: true });
    expect(await send()).to.include({ ok: false, error: 'Rate limit exceeded', limit: 2, window: '1m' });
    expect(live.issued).to.have.length(2);
  });

  it('cuts clients off when it shuts down, so that they come again', async () => {
    await begin();
    const client = await connected();
    live.live.socketIo.close();
    await until(() => client.left() !== null);
    expect(client.left()).to.equal('transport close');
  });

  it('holds little for a client that reads nothing, and goes on with others', async () => {
    await begin({ heartbeatMs: 50, stalledMs: 300 });
    const stalled = connect(live.port, '127.0.0.1');
    const key = Buffer.alloc(16).toString('base64');
    stalled.write(
      `GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
        `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
    );
    await new Promise((resolve) => stalled.once('data', resolve));
    // Frames of a client are masked: here with zeros.
    const say = (text: string) =>
      stalled.write(
        Buffer.concat([Buffer.from([0x81, 0x80 | 126, 0, text.length, 0, 0, 0, 0]), Buffer.from(text)]),
      );
    say(`40{"token":"ada"}`);
    say(`42["subscribe",{"type":"conversation","conversation_id":"${ID}"}]`);
    await until(() => live.live.stats().clients === 1);
    stalled.pause();
    const client = await connected();
    await client.ask('subscribe', { type: 'conversation', conversation_id: ID });
    const text = 'x'.repeat(900_000);
    for (let turn = 0; turn < 12; turn++) {
      const { steps, turnId } = turnScript(seeded(1), `${turn}`.padStart(24, '0'));
      const event = (type: EventType) => steps.find((step) => step.kind === 'event' && step.type === type)!;
      for (const type of ['MessageSent', 'TurnStarted', 'ModelCalled'] as const)
        await live.play(ID, 'ada', event(type));
      const answered = {
        turnId,
        callId: 'call_1',
        provider: 'builtin',
        model: 'assistant',
        text,
        reasoning: '',
      };
      const data = {
        ...{
          ...answered,
          toolRequests: [],
          finishReason: 'stop',
          costUsd: null,
          durationMs: 1,
          firstTokenMs: 1,
        },
        usage: { promptTokens: 1, completionTokens: 1, cachedTokens: 0 },
      };
      await live.play(ID, 'ada', { kind: 'event', type: 'ModelAnswered', data });
    }
    await until(() => live.live.stats().socketIo === 1, 'the stalled one to be cut off');
    const last = `msg_${'11'.padStart(24, '0')}`;
    await until(() => textOf(client, last).length === text.length, 'all of it at the other');
    stalled.destroy();
  });
});
