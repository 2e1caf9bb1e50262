import { expect } from 'chai';
import { refuse } from '../../contracts/errors.ts';
import { type ChatApp, serveChat } from '../../test/chat-app.ts';
import { answered, decision } from '../../test/log.ts';
import { wantsJson } from './luna.ts';

const SESSIONS = '/api/chat/sessions';
const json = { stream: false };

describe("Luna's chat commands", () => {
  let app: ChatApp;
  before(async () => {
    app = await serveChat();
  });
  after(async () => {
    await app.close();
    expect(app.logged, 'what was logged').to.deep.equal([]);
  });

  const create = async (body: object = {}): Promise<string> =>
    (await app.call('ada', 'POST', SESSIONS, { body })).body.id;
  const types = async (id: string): Promise<string[]> => {
    const { body } = await app.call('root', 'GET', `/api/log/streams/conversation-${id}`);
    return body.events.map((event: { type: string }) => event.type);
  };
  /** The turn of the last message that was sent. */
  const turnOf = async (id: string): Promise<string> => {
    const deadline = performance.now() + 5_000;
    while (performance.now() < deadline) {
      const { body } = await app.call('root', 'GET', `/api/log/streams/conversation-${id}?order=desc`);
      const sent = body.events.find((event: { type: string }) => event.type === 'MessageSent');
      if (sent !== undefined) return sent.data.turnId;
    }
    throw new Error('No message was sent.');
  };
  /** Sends a message while a worker answers it. */
  const send = async (id: string, end: Parameters<ChatApp['answer']>[2], body: object = {}) => {
    const sending = app.call('ada', 'POST', `${SESSIONS}/${id}/send`, {
      body: { message: '6 × 7?', ...json, ...body },
    });
    const turnId = await turnOf(id);
    const steps = [
      { type: 'MessageRouted', data: { turnId, decision } },
      { type: 'ModelAnswered', data: answered(turnId) },
    ] as const;
    await app.answer(id, turnId, end, steps);
    return { turnId, reply: await sending };
  };

  describe('beginning a conversation', () => {
    it('answers 201 with the session', async () => {
      const { status, body, headers } = await app.call('ada', 'POST', SESSIONS, {
        body: {
          title: 'Sums',
          mode: 'companion',
          model: 'acme/unknown-1',
          kind: 'chat',
          agent: null,
          linkId: null,
        },
      });
      expect(status).to.equal(201);
      expect(body).to.deep.include({ userId: 'ada', title: 'Sums', mode: 'companion', isArchived: false });
      expect(body.id).to.match(/^[0-9a-f]{12}$/);
      expect(body.updatedAt).to.equal(body.createdAt);
      expect(body.metadata).to.deep.equal({
        surface: 'luna',
        model: 'acme/unknown-1',
        status: 'active',
        messageCount: 0,
      });
      expect(headers.get('X-Event-Position')).to.match(/^\d+$/);
    });

    it('needs no body, and can be read at once', async () => {
      const { body } = await app.call('ada', 'POST', SESSIONS);
      expect(body).to.include({ title: null, mode: 'assistant' });
      const read = await app.call('ada', 'GET', `${SESSIONS}/${body.id}`);
      expect(read.body).to.deep.equal({ ...body, messages: [], hasMoreMessages: false });
    });

    it('refuses what is not valid, naming the field', async () => {
      for (const [field, body] of Object.entries({
        title: { title: '' },
        mode: { mode: 'shouting' },
        model: { model: 'no spaces please' },
      })) {
        const reply = await app.call('ada', 'POST', SESSIONS, { body });
        expect(reply.status, field).to.equal(400);
        expect(reply.body.details[0].path).to.deep.equal(['body', field]);
      }
    });

    it('makes one conversation of a request that is repeated', async () => {
      const again = { body: { title: 'Once' }, headers: { 'Idempotency-Key': 'create-once' } };
      const first = await app.call('ada', 'POST', SESSIONS, again);
      const second = await app.call('ada', 'POST', SESSIONS, again);
      expect(second.body).to.deep.equal(first.body);
      expect(second.headers.get('Idempotent-Replay')).to.equal('true');
      expect(await types(first.body.id)).to.deep.equal(['ConversationStarted']);
    });
  });

  describe('changing a conversation', () => {
    it('answers with the session as it is now, which a read confirms', async () => {
      const id = await create({ title: 'Before' });
      const { status, body } = await app.call('ada', 'PATCH', `${SESSIONS}/${id}`, {
        body: { title: 'After', mode: 'voice', isArchived: true },
      });
      expect(status).to.equal(200);
      expect(body).to.include({ title: 'After', mode: 'voice', isArchived: true });
      const { messages, hasMoreMessages, ...read } = (await app.call('ada', 'GET', `${SESSIONS}/${id}`)).body;
      expect(read).to.deep.equal(body);
    });

    it('records nothing when nothing changes', async () => {
      const id = await create({ title: 'Same' });
      const { status } = await app.call('ada', 'PATCH', `${SESSIONS}/${id}`, { body: { title: 'Same' } });
      expect(status).to.equal(200);
      expect(await types(id)).to.deep.equal(['ConversationStarted']);
    });
  });

  describe('ending and deleting', () => {
    it('takes no more messages after its end, and can still be read', async () => {
      const id = await create();
      expect((await app.call('ada', 'POST', `${SESSIONS}/${id}/end`)).body).to.deep.equal({ success: true });
      const refused = await app.call('ada', 'POST', `${SESSIONS}/${id}/send`, { body: { message: 'hi' } });
      expect(refused.status).to.equal(409);
      const { body } = await app.call('ada', 'GET', `${SESSIONS}/${id}`);
      expect(body.metadata.status).to.equal('ended');
    });

    it('is gone everywhere after it was deleted', async () => {
      const id = await create();
      const sent = await app.call('ada', 'POST', `/api/v1/chat/${id}/message`, { body: { content: 'hi' } });
      const turn = sent.body.data.turn_id;
      const deleted = await app.call('ada', 'DELETE', `${SESSIONS}/${id}`);
      expect(deleted.body).to.deep.equal({ success: true });
      for (const [method, path, body] of [
        ['GET', `${SESSIONS}/${id}`, undefined],
        ['GET', `/api/activity/session/${id}`, undefined],
        ['GET', `/api/v1/chat/${id}`, undefined],
        ['GET', `/api/v1/chat/${id}/history`, undefined],
        ['DELETE', `${SESSIONS}/${id}`, undefined],
        ['PATCH', `${SESSIONS}/${id}`, { title: 'x' }],
        ['POST', `${SESSIONS}/${id}/send`, { message: 'hi' }],
        ['POST', `${SESSIONS}/${id}/interrupt`, undefined],
        ['POST', `/api/turns/${turn}/interrupt`, undefined],
      ] as const) {
        expect((await app.call('ada', method, path, { body })).status, `${method} ${path}`).to.equal(404);
      }
    });
  });

  describe('sending a message', () => {
    it('answers with the finished turn when it is not to be streamed', async () => {
      const id = await create();
      const { turnId, reply } = await send(id, { content: 'Forty-two.' });
      expect(reply.status).to.equal(200);
      expect(reply.headers.get('X-Turn-Id')).to.equal(turnId);
      expect(reply.body).to.deep.include({
        messageId: `msg_of_${turnId}`,
        turnId,
        status: 'complete',
        content: 'Forty-two.',
        tokensUsed: 120,
        provider: 'openai',
      });
      expect(reply.body.metrics).to.deep.equal({
        promptTokens: 100,
        completionTokens: 20,
        processingTimeMs: 2_000,
        tokensPerSecond: 10,
        toolsUsed: ['calculate'],
        model: 'gpt-5',
        totalCost: 0.002,
        llmBreakdown: [
          {
            node: 'answer:1',
            model: 'gpt-5',
            provider: 'openai',
            inputTokens: 100,
            outputTokens: 20,
            cacheTokens: 10,
            cost: 0.002,
            durationMs: 1_500,
          },
        ],
        routeInfo: { route: 'pro+tools', confidence: 'verified', class: 'actionable' },
      });
      const read = await app.call('ada', 'GET', `${SESSIONS}/${id}`);
      expect(read.body.messages.map((message: { role: string }) => message.role)).to.deep.equal([
        'user',
        'assistant',
      ]);
      expect(read.body.messages[1].metrics.routeInfo).to.deep.equal(reply.body.metrics.routeInfo);
    });

    it('says that an answer was interrupted', async () => {
      const { reply } = await send(await create(), { type: 'TurnInterrupted', content: 'Forty' });
      expect(reply.status).to.equal(200);
      expect(reply.body).to.include({ status: 'interrupted', content: 'Forty' });
    });

    it('answers 502 with the reason when the turn failed', async () => {
      const { turnId, reply } = await send(await create(), {
        type: 'TurnFailed',
        reason: 'every provider failed',
        content: '',
      });
      expect(reply.status).to.equal(502);
      expect(reply.body).to.include({ error: 'every provider failed', turnId, status: 'failed' });
    });

    it('records the model that was asked for', async () => {
      const id = await create();
      await send(id, {}, { model: 'openai/gpt-5-mini' });
      const { body } = await app.call(
        'root',
        'GET',
        `/api/log/events?stream=conversation-${id}&type=MessageSent`,
      );
      expect(body.events[0].data.model).to.equal('openai/gpt-5-mini');
    });

    it('streams unless JSON alone is asked for', async () => {
      const id = await create();
      const response = await app.request('ada', 'POST', `${SESSIONS}/${id}/send`, {
        body: { message: 'hi' },
      });
      expect(response.status).to.equal(200);
      expect(response.headers.get('Content-Type')).to.equal('text/event-stream');
      const turnId = response.headers.get('X-Turn-Id')!;
      expect(turnId).to.match(/^turn_/);
      expect(response.headers.get('X-Event-Position')).to.match(/^\d+$/);
      expect(response.headers.get('X-RateLimit-Limit')).to.equal('100');
      expect(response.headers.get('X-RateLimit-Remaining')).to.equal('99');
      await app.answer(id, turnId, { content: 'Hello.' });
      expect(await response.text()).to.include('Hello.');
    });

    it('goes on when the client goes away', async () => {
      const id = await create();
      const leaving = new AbortController();
      const gone = app
        .request('ada', 'POST', `${SESSIONS}/${id}/send`, {
          body: { message: 'hi', ...json },
          signal: leaving.signal,
        })
        .catch((error: Error) => error.name);
      const turnId = await turnOf(id);
      leaving.abort();
      expect(await gone).to.equal('AbortError');
      await app.answer(id, turnId, { content: 'Still here.' });
      const { body } = await app.call('ada', 'GET', `${SESSIONS}/${id}`);
      expect(body.messages[1]).to.include({ status: 'complete', content: 'Still here.' });
      expect(await types(id)).to.not.include('InterruptRequested');
    });

    it('gives the same turn to a request that is repeated', async () => {
      const id = await create();
      const again = { body: { message: 'hi' }, headers: { 'Idempotency-Key': 'send-once' } };
      const first = await app.request('ada', 'POST', `${SESSIONS}/${id}/send`, again);
      const turnId = first.headers.get('X-Turn-Id')!;
      await app.answer(id, turnId, { content: 'Once.' });
      const second = await app.request('ada', 'POST', `${SESSIONS}/${id}/send`, again);
      expect(second.headers.get('X-Turn-Id')).to.equal(turnId);
      expect([await first.text(), await second.text()]).to.satisfy((texts: string[]) =>
        texts.every((text) => text.includes('Once.')),
      );
      expect((await types(id)).filter((type) => type === 'MessageSent')).to.have.length(1);
    });

    it('refuses messages that are empty, blank or too long', async () => {
      const id = await create();
      for (const message of ['', ' \n', 'x'.repeat(32_001)]) {
        const { status } = await app.call('ada', 'POST', `${SESSIONS}/${id}/send`, { body: { message } });
        expect(status).to.equal(400);
      }
    });
  });

  describe('interrupting', () => {
    it('stops the turn that runs in a conversation, and says when there is none', async () => {
      const id = await create();
      const none = await app.call('ada', 'POST', `${SESSIONS}/${id}/interrupt`);
      expect(none.body).to.deep.equal({ success: true, turnId: null });
      const leaving = new AbortController();
      const { signal } = leaving;
      const response = await app.request('ada', 'POST', `${SESSIONS}/${id}/send`, {
        body: { message: 'hi' },
        signal,
      });
      const turnId = response.headers.get('X-Turn-Id')!;
      await app.claim(id, turnId);
      const { body } = await app.call('ada', 'POST', `${SESSIONS}/${id}/interrupt`);
      expect(body).to.deep.equal({ success: true, turnId });
      expect((await types(id)).at(-1)).to.equal('InterruptRequested');
      leaving.abort();
    });

    it('stops a turn by its id, also one that has not begun', async () => {
      const id = await create();
      const response = await app.request('ada', 'POST', `${SESSIONS}/${id}/send`, {
        body: { message: 'hi' },
      });
      const turnId = response.headers.get('X-Turn-Id')!;
      const { body } = await app.call('ada', 'POST', `/api/turns/${turnId}/interrupt`);
      expect(body).to.deep.equal({ success: true, turnId });
      await response.text();
      expect(await types(id)).to.include('TurnInterrupted');
      const again = await app.call('ada', 'POST', `/api/turns/${turnId}/interrupt`);
      expect(again.body).to.deep.equal({ success: true, turnId: null });
    });
  });

  describe('who may', () => {
    const commands = (id: string, turnId: string) =>
      [
        ['PATCH', `${SESSIONS}/${id}`, { title: 'mine now' }],
        ['POST', `${SESSIONS}/${id}/send`, { message: 'hi' }],
        ['POST', `${SESSIONS}/${id}/interrupt`, undefined],
        ['POST', `${SESSIONS}/${id}/end`, undefined],
        ['DELETE', `${SESSIONS}/${id}`, undefined],
        ['POST', `/api/turns/${turnId}/interrupt`, undefined],
      ] as const;

    it('hides what belongs to others, and what cannot exist, in the same way', async () => {
      const id = await create();
      const response = await app.request('ada', 'POST', `${SESSIONS}/${id}/send`, {
        body: { message: 'hi' },
      });
      const turnId = response.headers.get('X-Turn-Id')!;
      const absent = commands('0123456789ab', 'turn_0123');
      const malformed = commands('not-an-id', 'x');
      for (const [index, [method, path, body]] of commands(id, turnId).entries()) {
        const hidden = await app.call('bob', method, path, { body });
        expect(hidden.status, path).to.equal(404);
        for (const other of [absent, malformed]) {
          const reply = await app.call('bob', method, other[index]![1], { body });
          expect({ status: reply.status, body: reply.body }).to.deep.equal({
            status: 404,
            body: hidden.body,
          });
        }
      }
      await app.answer(id, turnId);
      await response.text();
      const { body } = await app.call('ada', 'GET', `${SESSIONS}/${id}`);
      expect(body).to.include({ title: null });
      expect(body.messages).to.have.length(2);
    });

    it('lets auditors change nothing', async () => {
      const id = await create();
      for (const [method, path, body] of commands(id, 'turn_0123')) {
        expect((await app.call('audra', method, path, { body })).status, path).to.equal(403);
      }
      expect((await app.call('audra', 'POST', SESSIONS)).status).to.equal(403);
    });

    it("lets admins act on everybody's", async () => {
      const id = await create();
      const { status, body } = await app.call('root', 'PATCH', `${SESSIONS}/${id}`, {
        body: { title: 'Kept' },
      });
      expect(status).to.equal(200);
      expect(body).to.include({ userId: 'ada', title: 'Kept' });
    });
  });
});

describe("waiting for Luna's answer", () => {
  it('ends with 504 and the way to follow the turn, which goes on', async () => {
    const app = await serveChat({ answerTimeoutMs: 50 });
    try {
      const { id } = (await app.call('ada', 'POST', SESSIONS)).body;
      const { status, body, headers } = await app.call('ada', 'POST', `${SESSIONS}/${id}/send`, {
        body: { message: 'hi', ...json },
      });
      expect(status).to.equal(504);
      expect(headers.get('X-Turn-Id')).to.equal(body.turnId);
      expect(body.error).to.include(`/api/turns/${body.turnId}/stream`);
      await app.answer(id, body.turnId);
      expect((await app.call('ada', 'GET', `${SESSIONS}/${id}`)).body.messages).to.have.length(2);
    } finally {
      await app.close();
    }
  });
});

describe("Luna's answer when the server shuts down", () => {
  it('is 503 with the turn, which will be finished, and where to read it', async () => {
    const turnEnded = async () => refuse('SERVICE_UNAVAILABLE', 'The server shuts down.');
    const app = await serveChat({ feeds: { turnEnded } });
    try {
      const { id } = (await app.call('ada', 'POST', SESSIONS)).body;
      const sent = await app.call('ada', 'POST', `${SESSIONS}/${id}/send`, {
        body: { message: 'hi', ...json },
      });
      expect(sent.status).to.equal(503);
      expect(sent.headers.get('Retry-After')).to.equal('5');
      const { turnId, error } = sent.body;
      expect(sent.headers.get('X-Turn-Id')).to.equal(turnId);
      expect(error).to.include('will be finished').and.include(`/api/turns/${turnId}/stream`);
      const { body } = await app.call('root', 'GET', `/api/log/streams/conversation-${id}`);
      expect(body.events.at(-1).data.turnId).to.equal(turnId);
    } finally {
      await app.close();
    }
  });
});

describe('choosing between a stream and JSON', () => {
  const cases: [boolean | undefined, string | undefined, boolean][] = [
    [undefined, undefined, false],
    [undefined, '*/*', false],
    [undefined, 'application/json', true],
    [undefined, 'application/json; charset=utf-8', true],
    [undefined, 'application/json, text/plain, */*', false],
    [undefined, 'text/event-stream', false],
    [true, 'application/json', false],
    [false, 'text/event-stream', true],
    [false, undefined, true],
  ];
  for (const [stream, accept, expected] of cases) {
    it(`takes ${expected ? 'JSON' : 'a stream'} for stream ${stream} and Accept ${accept}`, () => {
      expect(wantsJson(stream, accept)).to.equal(expected);
    });
  }
});
