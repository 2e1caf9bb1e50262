import { expect } from 'chai';
import type { DecidedEvent } from '../../contracts/events/catalogue.ts';
import type { TurnDocument } from '../../contracts/read-models/documents.ts';
import { type ChatApp, DEFAULT_MODEL, type Name, type Reply, serveChat } from '../../test/chat-app.ts';
import { condition } from '../../test/program.ts';
import { transportFor } from './trinity.ts';

const AGENT = { description: 'Scouts.', instructions: 'You are the scout.' };

describe("Trinity's chat with agents", () => {
  let app: ChatApp;
  let unique = 0;
  before(async () => {
    app = await serveChat();
  });
  after(async () => {
    await app.close();
    expect(app.logged, 'what was logged').to.deep.equal([]);
  });

  async function agent(changes: object = {}, owner: Name = 'ada'): Promise<string> {
    const name = `scout-${unique++}`;
    const made = await app.call(owner, 'POST', '/api/agents', { body: { name, ...AGENT, ...changes } });
    expect(made.status).to.equal(201);
    return `/api/agents/${name}`;
  }

  const send = (path: string, message: string, headers: Record<string, string> = {}, name: Name = 'ada') =>
    app.call(name, 'POST', `${path}/chat`, { body: { message }, headers });

  async function waiting(message: string): Promise<TurnDocument> {
    return condition(
      async () => {
        const query = { where: { status: 'queued' }, limit: 100 };
        const { documents } = await app.readModels.find<TurnDocument>('turns', query);
        return documents.find(({ body }) => body.run?.message === message)?.body;
      },
      { withinMs: 5_000, what: `the message ${message}` },
    );
  }

  /** Sends a message and plays the worker that answers it. */
  async function chat(
    path: string,
    message: string,
    content = 'Seen.',
    { name = 'ada' as Name, headers = {}, steps = (_turnId: string): DecidedEvent[] => [] } = {},
  ): Promise<Reply> {
    const answer = send(path, message, headers, name);
    const { id, conversationId } = await waiting(message);
    await app.answer(conversationId, id, { content }, steps(id));
    return answer;
  }

  it('answers with the response, the log, what it took, and the session', async () => {
    const path = await agent();
    const usage = { promptTokens: 40, completionTokens: 4, cachedTokens: 0 };
    const by = { callId: 'call_1', provider: 'openai', model: 'gpt-5' };
    const { status, body } = await chat(path, 'Count', '42', {
      steps: (turnId) => [
        {
          type: 'ToolCalled',
          data: {
            turnId,
            callId: 'call_1',
            toolCallId: 't1',
            tool: 'calculate',
            arguments: { expression: '6*7' },
            readOnly: true,
          },
        },
        {
          type: 'ToolReturned',
          data: { turnId, toolCallId: 't1', tool: 'calculate', result: '42', isError: false, durationMs: 3 },
        },
        {
          type: 'ModelAnswered',
          data: {
            turnId,
            ...by,
            text: '42',
            reasoning: '',
            toolRequests: [],
            finishReason: 'stop',
            usage,
            costUsd: 0.01,
            durationMs: 5,
            firstTokenMs: 1,
          },
        },
      ],
    });
    expect(status).to.equal(200);
    expect(body.response).to.equal('42');
    expect(body.execution_log.map((entry: { type: string }) => entry.type)).to.deep.equal([
      ...['status', 'tool_use', 'tool_result', 'text', 'status'],
    ]);
    expect(body.execution_log_simplified).to.deep.equal(body.execution_log.slice(1, 3));
    expect(body.metadata).to.include({ num_turns: 1, tool_count: 1, context_window: 8_192 });
    expect(body.session).to.deep.include({
      context_tokens: 44,
      message_count: 2,
      session_id: body.session_id,
    });
    // What the model had before it, not what all calls together had; and the same wherever it is shown.
    const shown = await app.call('ada', 'GET', `${path}/chat/sessions/${body.session_id}`);
    expect(shown.body.messages[1]).to.include({ context_used: 40, context_max: 8_192 });
    const history = await app.call('ada', 'GET', `${path}/chat/history/persistent`);
    expect(history.body.messages).to.deep.equal(shown.body.messages);
    const [listed] = (await app.call('ada', 'GET', `${path}/executions`)).body;
    expect(listed).to.include({ context_used: 40, context_max: 8_192, model_used: 'openai/gpt-5' });
    expect(body.execution).to.include({ queue_status: 'running', was_queued: false });
    const execution = await app.call('ada', 'GET', `${path}/executions/${body.execution.task_execution_id}`);
    expect(execution.body).to.include({ status: 'success', triggered_by: 'chat', response: '42' });

    const activity = (await app.call('ada', 'GET', `${path}/activity`)).body;
    expect(activity).to.deep.include({ status: 'idle', active_tool: null, tool_counts: { calculate: 1 } });
    expect(activity.totals).to.deep.include({ calls: 1, duration_ms: 3 });
    const tool = await app.call('ada', 'GET', `${path}/activity/t1`);
    expect(tool.body).to.deep.include({ tool: 'calculate', output: '42', success: true });
    const { activities } = (await app.call('ada', 'GET', '/api/activities/timeline?limit=2')).body;
    expect(activities.map((one: { activity_type: string }) => one.activity_type)).to.deep.equal([
      'tool_call',
      'chat_start',
    ]);
    const only = await app.call('ada', 'GET', '/api/activities/timeline?activity_types=tool_call');
    expect(only.body.count).to.equal(1);
    expect((await app.call('bob', 'GET', '/api/activities/timeline')).body.count).to.equal(0);
  });

  it('has one session for messages that begin it at once, and answers them in turn', async () => {
    const path = await agent();
    const messages = ['first of all', 'second of all', 'third of all'];
    const answers = messages.map((message) => send(path, message));
    const turns = await Promise.all(messages.map(waiting));
    expect(new Set(turns.map((turn) => turn.conversationId)).size).to.equal(1);
    const inOrder = turns.toSorted((a, b) => a.firstRevision - b.firstRevision);
    for (const turn of inOrder) await app.answer(turn.conversationId, turn.id);
    const bodies = (await Promise.all(answers)).map(({ body }) => body);
    const byId = (id: string) => bodies.find((body) => body.execution.task_execution_id === id).execution;
    expect(inOrder.map(({ id }) => byId(id).queue_status)).to.deep.equal(['running', 'queued:1', 'queued:2']);
    expect(inOrder.map(({ id }) => byId(id).was_queued)).to.deep.equal([false, true, true]);
    const { body } = await app.call('ada', 'GET', `${path}/chat/sessions`);
    expect(body).to.include({ session_count: 1 });
    expect(body.sessions[0]).to.include({ message_count: 6, status: 'active' });
    const history = (await app.call('ada', 'GET', `${path}/chat/history`)).body;
    expect(history).to.have.length(6);
  });

  it('resets: the next message begins another session, and both are in the persistent history', async () => {
    const path = await agent();
    const first = (await chat(path, 'before the reset')).body.session_id;
    const waits = send(path, 'stopped by the reset');
    await waiting('stopped by the reset');
    const reset = await app.call('ada', 'DELETE', `${path}/chat/history`);
    expect(reset.body).to.deep.include({ status: 'cleared', session_reset: true });
    expect((await waits).status).to.equal(502);
    expect((await app.call('ada', 'GET', `${path}/chat/history`)).body).to.deep.equal([]);
    expect((await app.call('ada', 'GET', `${path}/chat/session`)).body).to.include({
      ...{ session_started: false, session_id: null, model: DEFAULT_MODEL },
    });
    const second = (await chat(path, 'after the reset')).body.session_id;
    expect(second).to.not.equal(first);
    const persistent = (await app.call('ada', 'GET', `${path}/chat/history/persistent`)).body;
    expect(persistent.messages.map((message: { content: string }) => message.content)).to.deep.equal([
      ...['before the reset', 'Seen.', 'stopped by the reset', '', 'after the reset', 'Seen.'],
    ]);
    const last = (await app.call('ada', 'GET', `${path}/chat/history/persistent?limit=1`)).body;
    expect(last.messages.map((message: { content: string }) => message.content)).to.deep.equal(['Seen.']);
    const closed = (await app.call('ada', 'GET', `${path}/chat/sessions?status=closed`)).body;
    expect(closed.sessions.map((one: { id: string }) => one.id)).to.deep.equal([first]);
    const again = await app.call('ada', 'DELETE', `${path}/chat/history`);
    expect(again.status).to.equal(200);
    const third = (await chat(path, 'after the second reset')).body.session_id;
    expect([first, second]).to.not.include(third);
  });

  it('goes on in a new session where the last one was deleted elsewhere', async () => {
    const path = await agent();
    const sessions = new Set<string>();
    for (const message of ['begun and deleted', 'begun again and deleted', 'begun a third time']) {
      const { session_id: id } = (await chat(path, message)).body;
      sessions.add(id);
      expect((await app.call('ada', 'DELETE', `/api/chat/sessions/${id}`)).status).to.equal(200);
    }
    expect(sessions.size).to.equal(3);
    const { activities } = (await app.call('ada', 'GET', '/api/activities/timeline')).body;
    const shown = activities.map((one: { details: { session_id?: string } }) => one.details.session_id);
    for (const id of sessions) expect(shown).to.not.include(id);
  });

  it('shows a session with its messages, and closes it', async () => {
    const path = await agent();
    const other = await agent();
    const { session_id: id } = (await chat(path, 'in a session', 'As you wish.')).body;
    const shown = await app.call('ada', 'GET', `${path}/chat/sessions/${id}`);
    expect(shown.body.session).to.include({ id, user_id: 'ada', message_count: 2, total_context_max: 8_192 });
    expect(shown.body.messages.map((one: { role: string }) => one.role)).to.deep.equal(['user', 'assistant']);
    expect(shown.body.messages[1]).to.include({ content: 'As you wish.', status: 'success', session_id: id });
    for (const name of ['bob', 'ada'] as const) {
      const absent = await app.call(name, 'GET', `${path}/chat/sessions/0123456789ab`);
      expect(absent.status).to.equal(404);
    }
    expect((await app.call('ada', 'GET', `${other}/chat/sessions/${id}`)).status).to.equal(403);
    expect((await app.call('ada', 'POST', `${other}/chat/sessions/${id}/close`)).status).to.equal(403);
    expect((await app.call('ada', 'POST', `${path}/chat/sessions/${id}/close`)).body).to.deep.equal({
      status: 'closed',
      session_id: id,
    });
    const { body } = await app.call('ada', 'GET', `${path}/chat/sessions/${id}`);
    expect(body.session.status).to.equal('closed');
  });

  it("hides others' sessions with an agent that is shared, and admins and auditors see them", async () => {
    const path = await agent({ shared: true });
    const { session_id: id } = (await chat(path, "Ada's own secret")).body;
    const bobs = (await chat(path, "Bob's own", 'Hi.', { name: 'bob' })).body.session_id;
    expect(bobs).to.not.equal(id);
    for (const [method, at] of [
      ['GET', `${path}/chat/sessions/${id}`],
      ['POST', `${path}/chat/sessions/${id}/close`],
    ] as const) {
      const absent = await app.call('bob', method, at.replace(id, '0123456789ab'));
      const hidden = await app.call('bob', method, at);
      expect([hidden.status, hidden.body], at).to.deep.equal([absent.status, absent.body]);
      expect(hidden.status).to.equal(404);
    }
    const listed = async (name: Name) =>
      (await app.call(name, 'GET', `${path}/chat/sessions`)).body.sessions.map(
        (one: { id: string }) => one.id,
      );
    expect(await listed('bob')).to.deep.equal([bobs]);
    for (const name of ['audra', 'root'] as const) {
      expect(await listed(name)).to.have.members([id, bobs]);
      const all = (await app.call(name, 'GET', `${path}/chat/history/persistent`)).body;
      expect(all.message_count).to.equal(4);
      const own = (await app.call(name, 'GET', `${path}/chat/history/persistent?user_filter=true`)).body;
      expect(own.message_count).to.equal(0);
    }
    const bob = (await app.call('bob', 'GET', `${path}/chat/history/persistent`)).body;
    expect(JSON.stringify(bob)).to.not.include('secret');
    expect((await app.call('audra', 'POST', `${path}/chat`, { body: { message: 'x' } })).status).to.equal(
      403,
    );
  });

  it('knows no agent that the caller may not use', async () => {
    const path = await agent();
    const name = path.split('/').at(-1)!;
    for (const [method, at, body] of [
      ['POST', '/chat', { message: 'hello' }],
      ['GET', '/chat/sessions'],
      ['GET', '/chat/sessions/0123456789ab'],
      ['POST', '/chat/sessions/0123456789ab/close'],
      ['GET', '/chat/history'],
      ['DELETE', '/chat/history'],
      ['GET', '/chat/history/persistent'],
      ['GET', '/chat/session'],
      ['GET', '/activity'],
      ['GET', '/activity/t1'],
    ] as const) {
      const options = body === undefined ? {} : { body };
      const hidden = await app.call('bob', method, path + at, options);
      const absent = await app.call('bob', method, (path + at).replace(name, 'nobody'), options);
      expect([hidden.status, hidden.body], at).to.deep.equal([404, absent.body]);
    }
  });

  it('refuses by name what it does not know', async () => {
    const path = await agent();
    for (const [body, loc] of [
      [{}, 'message'],
      [{ message: ' ' }, 'message'],
      [{ message: 'x', model: 'bogus' }, 'model'],
      [{ message: 'x', files: [{ name: 'a' }] }, 'files'],
    ] as const) {
      const { status, body: answer } = await app.call('ada', 'POST', `${path}/chat`, { body });
      expect(status).to.equal(422);
      expect(answer.detail[0].loc).to.deep.equal(['body', loc]);
    }
    const source = await app.call('ada', 'POST', `${path}/chat`, {
      ...{ body: { message: 'x' }, headers: { 'X-Source-Agent': 'nobody' } },
    });
    expect(source.status).to.equal(403);
    expect((await app.call('ada', 'GET', `${path}/chat/sessions`)).body.session_count).to.equal(0);
  });

  it('takes a model of a family of Trinity’s, and one that is served here, and says which agent asks', async () => {
    const path = await agent();
    for (const model of ['sonnet', 'claude-opus-4-1', DEFAULT_MODEL, '']) {
      const message = `with ${model}`;
      const answer = app.call('ada', 'POST', `${path}/chat`, {
        body: { message, model },
        headers: { 'X-Source-Agent': path.split('/').at(-1)! },
      });
      const turn = await waiting(message);
      expect(turn.run).to.include({ trigger: 'agent', sourceAgent: path.split('/').at(-1) });
      await app.answer(turn.conversationId, turn.id);
      expect((await answer).status, model).to.equal(200);
    }
  });

  it('fails with the reason, and where to look', async () => {
    const path = await agent();
    const failing = send(path, 'to fail');
    const turn = await waiting('to fail');
    await app.answer(turn.conversationId, turn.id, { type: 'TurnFailed', reason: 'no model' });
    const { status, body } = await failing;
    expect(status).to.equal(502);
    expect(body.detail).to.include({ message: 'no model', execution_id: turn.id, status: 'failed' });
  });

  it('refuses a message when the queue is full, and says when to come again', async () => {
    const path = await agent({ policy: { concurrency: 1, queue_length: 1 } });
    const taken = ['one of two', 'two of two'].map((message) => send(path, message));
    const turns = await Promise.all(['one of two', 'two of two'].map(waiting));
    const { status, body, headers } = await send(path, 'one too many');
    expect(status).to.equal(429);
    expect(body.detail).to.include({ error: 'Agent queue is full', retry_after: 30 });
    expect(headers.get('Retry-After')).to.equal('30');
    for (const turn of turns.toSorted((a, b) => a.firstRevision - b.firstRevision)) {
      await app.answer(turn.conversationId, turn.id);
    }
    await Promise.all(taken);
  });

  describe('with an Idempotency-Key', () => {
    it('answers a repetition the same, and one that comes too early with what runs', async () => {
      const path = await agent();
      const headers = { 'Idempotency-Key': `key-${unique++}` };
      const first = send(path, 'once only', headers);
      const turn = await waiting('once only');
      const early = await send(path, 'once only', headers);
      expect(early.status).to.equal(409);
      expect(early.body.detail).to.include({ error: 'request_in_progress', execution_id: turn.id });
      await app.answer(turn.conversationId, turn.id, { content: 'Once.' });
      const { body } = await first;
      await chat(path, 'another meanwhile');
      const again = await send(path, 'once only', headers);
      expect(again.body).to.deep.equal(body);
      expect(again.headers.get('X-Idempotent-Replay')).to.equal('true');
    });

    it('runs again what has failed', async () => {
      const path = await agent();
      const headers = { 'Idempotency-Key': `key-${unique++}` };
      const failing = send(path, 'fails at first', headers);
      const failed = await waiting('fails at first');
      await app.answer(failed.conversationId, failed.id, { type: 'TurnFailed', reason: 'no model' });
      expect((await failing).status).to.equal(502);
      const { status, body, headers: answered } = await chat(path, 'fails at first', 'Now.', { headers });
      expect(status).to.equal(200);
      expect(body.response).to.equal('Now.');
      expect(body.execution.task_execution_id).to.not.equal(failed.id);
      expect(answered.get('X-Idempotent-Replay')).to.equal(null);
      const replay = await send(path, 'fails at first', headers);
      expect(replay.body).to.deep.equal(body);
    });
  });

  it('names the execution when it takes longer than a request may', async () => {
    const slow = await serveChat({ answerTimeoutMs: 50 });
    try {
      const body = { name: 'scout', ...AGENT };
      await slow.call('ada', 'POST', '/api/agents', { body });
      const answer = await slow.call('ada', 'POST', '/api/agents/scout/chat', { body: { message: 'slow' } });
      expect(answer.status).to.equal(504);
      const id = answer.body.detail.execution_id;
      expect((await slow.call('ada', 'GET', `/api/agents/scout/executions/${id}`)).body.status).to.equal(
        'queued',
      );
    } finally {
      await slow.close();
    }
  });
});

describe('what a client would rather have', () => {
  for (const [accept, transport] of [
    [undefined, 'json'],
    ['*/*', 'json'],
    ['text/html', 'json'],
    ['text/event-stream', 'sse'],
    ['application/x-ndjson', 'ndjson'],
    ['application/json, text/event-stream', 'json'],
    ['application/json;q=0.5, Text/Event-Stream', 'sse'],
    ['text/event-stream;q=0, application/x-ndjson;q=0.1', 'ndjson'],
  ] as const) {
    it(`is ${transport} for ${accept}`, () => expect(transportFor(accept)).to.equal(transport));
  }
});
