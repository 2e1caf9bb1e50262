/** Tasks and executions over HTTP. The tests play the worker. */
import { expect } from 'chai';
import type { OdeonEvent } from '../../contracts/events/catalogue.ts';
import { type ChatApp, type Name, serveChat } from '../../test/chat-app.ts';
import { provideReadyMadeAgents } from '../ready-made-agents.ts';

const BOUND_MS = 5_000;

describe('tasks and executions', () => {
  let app: ChatApp;
  before(async () => {
    app = await serveChat();
    await provideReadyMadeAgents(app.bus);
    await app.projections.waitFor(await app.store.head(), BOUND_MS);
  });
  after(() => app.close());

  // biome-ignore lint/suspicious/noExplicitAny: held against the route's schema
  type Body = any;
  let count = 0;
  /** An agent of ada's that no other test uses. */
  async function agent(more: object = {}): Promise<string> {
    const name = `agent-${++count}`;
    const body = { name, description: 'For a test.', instructions: 'Do it.', ...more };
    expect((await app.call('ada', 'POST', '/api/agents', { body })).status).to.equal(201);
    return name;
  }
  const submit = (
    name: Name,
    agentName: string,
    body: object,
    headers: Record<string, string> = {},
    from: ChatApp = app,
  ) =>
    from.call(name, 'POST', `/api/agents/${agentName}/task`, {
      body: { message: 'Do it.', ...body },
      headers,
    });
  const submitAsync = async (agentName: string, body: object = {}, headers: Record<string, string> = {}) => {
    const answer = await submit('ada', agentName, { async_mode: true, ...body }, headers);
    expect(answer.status, JSON.stringify(answer.body)).to.equal(200);
    return answer.body as {
      status: string;
      execution_id: string;
      session_id: string;
      chat_session_id?: string;
    };
  };
  const get = (name: Name, path: string) => app.call(name, 'GET', path);
  const detail = async (agentName: string, id: string): Promise<Body> =>
    (await get('ada', `/api/agents/${agentName}/executions/${id}`)).body;

  async function eventually<Value>(read: () => Promise<Value | undefined>, what: string): Promise<Value> {
    const deadline = performance.now() + BOUND_MS;
    for (;;) {
      const value = await read();
      if (value !== undefined) return value;
      if (performance.now() > deadline) throw new Error(`Waited in vain for ${what}`);
    }
  }
  /** The one execution of the agent that waits. */
  const waiting = (agentName: string, from: ChatApp = app): Promise<Body> =>
    eventually(
      async () =>
        (await from.call('ada', 'GET', `/api/agents/${agentName}/executions?status=queued`)).body[0],
      `a task for ${agentName}`,
    );
  const tool = (turnId: string) =>
    [
      {
        type: 'ToolCalled',
        data: {
          ...{ turnId, callId: 'c', toolCallId: 't1', tool: 'calculate' },
          ...{ arguments: { expression: '6*7' }, readOnly: true },
        },
      },
      {
        type: 'ToolReturned',
        data: {
          ...{ turnId, toolCallId: 't1', tool: 'calculate', result: { result: '42' } },
          ...{ isError: false, durationMs: 3 },
        },
      },
    ] as const;

  it('are accepted, run, and end, as can be polled', async () => {
    const name = await agent();
    const { status, execution_id: id, session_id } = await submitAsync(name, { message: '6 times 7?' });
    expect(status).to.equal('accepted');
    expect(await detail(name, id)).to.include({
      ...{
        status: 'queued',
        message: '6 times 7?',
        triggered_by: 'manual',
        response: null,
        tool_calls: '[]',
      },
      ...{ source_user_id: 'ada', agent_name: name, completed_at: null, claude_session_id: session_id },
    });
    const logPath = `/api/agents/${name}/executions/${id}/log`;
    expect((await get('ada', logPath)).body).to.include({ has_log: false, log: null });
    expect((await get('ada', `/api/agents/${name}/executions/running`)).body.executions).to.deep.equal([]);

    await app.answer(session_id, id, { content: '42', costUsd: 0.25 }, tool(id));
    const ended = await detail(name, id);
    expect(ended).to.include({ status: 'success', response: '42', error: null, cost: 0.25, attempt: 1 });
    expect(JSON.parse(ended.tool_calls)).to.deep.equal([
      {
        ...{ id: 't1', type: 'tool_use', tool: 'calculate', input: { expression: '6*7' } },
        timestamp: JSON.parse(ended.tool_calls)[0].timestamp,
      },
      {
        ...{ id: 't1', type: 'tool_result', tool: 'calculate', output: { result: '42' }, success: true },
        ...{ duration_ms: 3, timestamp: JSON.parse(ended.tool_calls)[1].timestamp },
      },
    ]);
    const { body } = await get('ada', logPath);
    expect(body).to.include({ has_log: true, status: 'success', execution_id: id });
    expect(body.log).to.deep.equal(JSON.parse(ended.execution_log));
    expect(body.log.map((entry: Body) => entry.type)).to.deep.equal([
      ...['status', 'tool_use', 'tool_result', 'status'],
    ]);
  });

  it('are shown as running while they do', async () => {
    const name = await agent();
    const { execution_id: id, session_id } = await submitAsync(name);
    await app.claim(session_id, id);
    const { executions } = (await get('ada', `/api/agents/${name}/executions/running`)).body;
    expect(executions.map((one: Body) => [one.id, one.status])).to.deep.equal([[id, 'running']]);
  });

  it('answer with their result to who waits for it', async () => {
    const name = await agent();
    const answer = submit('ada', name, {});
    const { id, claude_session_id: session } = await waiting(name);
    await app.answer(session, id, { content: 'Done.' }, tool(id));
    const { status, body } = await answer;
    expect(status).to.equal(200);
    expect(body).to.include({ response: 'Done.', task_execution_id: id, session_id: session });
    expect(body).not.to.have.property('chat_session_id');
    expect(body.metadata).to.include({ tool_count: 1, session_id: session, context_window: 8_192 });
  });

  it('say why there is no result', async () => {
    const name = await agent();
    const ends = [
      [{ type: 'TurnFailed', reason: 'nobody answered' }, 502, 'failed', 'nobody answered'],
      [{ type: 'TurnFailed', reason: 'timed out after 3 s' }, 504, 'failed', 'timed out after 3 s'],
      [{ type: 'TurnInterrupted' }, 502, 'cancelled', 'The execution was stopped before it was finished.'],
    ] as const;
    for (const [end, wanted, execution, message] of ends) {
      const answer = submit('ada', name, {});
      const { id, claude_session_id: session } = await waiting(name);
      await app.answer(session, id, end);
      const { status, body } = await answer;
      expect(status).to.equal(wanted);
      expect(body.detail).to.include({ execution_id: id, status: execution, message });
      expect((await detail(name, id)).status).to.equal(execution);
    }
  });

  it('name the execution to poll when they take longer than a request may', async () => {
    const impatient = await serveChat({ answerTimeoutMs: 50 });
    try {
      await provideReadyMadeAgents(impatient.bus);
      await impatient.projections.waitFor(await impatient.store.head(), BOUND_MS);
      const { status, body } = await submit('ada', 'coder', {}, {}, impatient);
      expect(status).to.equal(504);
      expect(body.detail).to.include({
        status: 'queued',
        execution_id: (await waiting('coder', impatient)).id,
      });
    } finally {
      await impatient.close();
    }
  });

  it('narrow what the agent may do, and refuse what cannot be honoured, by name', async () => {
    const name = await agent({
      ...{ tools: ['calculate'], budget: { turns: 5 }, policy: { timeout_seconds: 60 } },
    });
    const { execution_id: id, session_id } = await submitAsync(name, {
      ...{ allowed_tools: ['calculate', 'current_time'], timeout_seconds: 999_999, max_turns: 2 },
      ...{ system_prompt: 'Be brief.', model: 'nano', files: [], inject_result: false },
    });
    const sent = await sentEvent(session_id);
    expect(sent.data).to.include({ instructions: 'Be brief.', model: 'nano', turnId: id });
    expect(sent.data.run).to.deep.include({ tools: ['calculate'], timeoutMs: 60_000 });
    expect(sent.data.run?.budget.turns).to.equal(2);

    const wrong: Record<string, unknown> = {
      ...{ files: [{ name: 'a' }], inject_result: true, user_message: 'x', message: ' ', max_turns: 0 },
      ...{ allowed_tools: ['rm_rf'], timeout_seconds: -1, model: 'agent:coder', chat_session_id: 'none' },
      ...{ resume_session_id: 'none', parent_execution_id: 'none', async_mode: 'yes' },
    };
    const unknown = await submit('ada', name, { model: 'no-such-model' });
    expect(unknown.status).to.equal(422);
    expect(unknown.body.detail[0].loc).to.deep.equal(['body', 'model']);
    for (const [field, value] of Object.entries(wrong)) {
      const { status, body } = await submit('ada', name, { [field]: value });
      expect(status, field).to.equal(422);
      expect(body.detail[0].loc.slice(0, 2), field).to.deep.equal(['body', field]);
    }
    expect((await get('ada', `/api/agents/${name}/executions`)).body).to.have.length(1);
    expect((await submit('ada', 'nobody', {})).status).to.equal(404);
  });

  async function sentEvent(conversationId: string): Promise<OdeonEvent<'MessageSent'>> {
    for await (const page of app.store.readStream(`conversation-${conversationId}`)) {
      const sent = page.findLast((event) => event.type === 'MessageSent');
      if (sent !== undefined) return sent as OdeonEvent<'MessageSent'>;
    }
    throw new Error('No message was sent.');
  }

  it('are let in as far as the queue goes, however many come at once', async () => {
    const name = await agent({ policy: { concurrency: 1, queue_length: 2 } });
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => submit('ada', name, { async_mode: true })),
    );
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses).to.deep.equal([200, 200, 200, 429, 429, 429, 429, 429]);
    const taken = answers.filter(({ status }) => status === 200).map(({ body }) => body.status);
    expect(taken.sort()).to.deep.equal(['accepted', 'queued', 'queued']);
    const refused = answers.find(({ status }) => status === 429)!;
    expect(refused.headers.get('retry-after')).to.equal('30');
    expect(refused.body.detail).to.include({
      ...{ error: 'Agent queue is full', agent: name, queue_length: 2, retry_after: 30 },
    });
    // Once one has ended, another may come.
    const { body } = answers.find((answer) => answer.status === 200)!;
    await app.answer(body.session_id, body.execution_id);
    expect((await submit('ada', name, { async_mode: true })).status).to.equal(200);
  });

  describe('with an Idempotency-Key', () => {
    it('are asked for once, for each agent', async () => {
      const [one, other] = [await agent(), await agent()];
      const key = { 'Idempotency-Key': 'asked-once' };
      const first = await submit('ada', one, { async_mode: true }, key);
      expect(first.headers.get('x-idempotent-replay')).to.equal(null);
      const again = await submit('ada', one, { async_mode: true }, key);
      expect(again.status).to.equal(200);
      expect(again.headers.get('x-idempotent-replay')).to.equal('true');
      expect(again.body.execution_id).to.equal(first.body.execution_id);
      expect((await submit('ada', one, { async_mode: true, message: 'Else.' }, key)).status).to.equal(422);
      const elsewhere = await submit('ada', other, { async_mode: true }, key);
      expect(elsewhere.status).to.equal(200);
      expect(elsewhere.body.execution_id).not.to.equal(first.body.execution_id);
      expect((await get('ada', `/api/agents/${one}/executions`)).body).to.have.length(1);
    });

    it('name the execution that is under way, and then repeat its answer', async () => {
      const name = await agent();
      const key = { 'Idempotency-Key': 'under-way' };
      const first = submit('ada', name, {}, key);
      const { id, claude_session_id: session } = await waiting(name);
      const meanwhile = await submit('ada', name, {}, key);
      expect(meanwhile.status).to.equal(409);
      expect(meanwhile.body.detail).to.include({ error: 'request_in_progress', execution_id: id });
      await app.answer(session, id, { content: 'Once.' });
      const again = await first.then(() => submit('ada', name, {}, key));
      expect(again.body).to.deep.equal((await first).body);
      expect(again.headers.get('x-idempotent-replay')).to.equal('true');
      expect((await get('ada', `/api/agents/${name}/executions`)).body).to.have.length(1);
    });

    it('may be tried again after they failed or were cancelled', async () => {
      const name = await agent();
      const key = { 'Idempotency-Key': 'tried-again' };
      const tried: string[] = [];
      for (const type of ['TurnFailed', 'TurnInterrupted', 'TurnCompleted'] as const) {
        const { body, headers } = await submit('ada', name, { async_mode: true }, key);
        expect(headers.get('x-idempotent-replay'), type).to.equal(null);
        tried.push(body.execution_id);
        await app.answer(body.session_id, body.execution_id, { type });
      }
      expect(new Set(tried).size).to.equal(3);
      const last = await submit('ada', name, { async_mode: true }, key);
      expect(last.body.execution_id).to.equal(tried[2]);
      expect(last.headers.get('x-idempotent-replay')).to.equal('true');
    });

    it('are free again where the queue refused them', async () => {
      const name = await agent({ policy: { concurrency: 1, queue_length: 0 } });
      const first = await submitAsync(name);
      const key = { 'Idempotency-Key': 'refused-first' };
      expect((await submit('ada', name, { async_mode: true }, key)).status).to.equal(429);
      await app.answer(first.session_id, first.execution_id);
      const then = await submit('ada', name, { async_mode: true }, key);
      expect([then.status, then.headers.get('x-idempotent-replay')]).to.deep.equal([200, null]);
    });
  });

  it('go on with sessions: a new one, the latest, one by name', async () => {
    const name = await agent();
    const plain = await submitAsync(name);
    expect(plain).not.to.have.property('chat_session_id');
    const first = await submitAsync(name, { save_to_session: true });
    expect(first.chat_session_id).to.equal(first.session_id).and.not.equal(plain.session_id);
    expect((await submitAsync(name, { save_to_session: true })).session_id).to.equal(first.session_id);
    const fresh = await submitAsync(name, { save_to_session: true, create_new_session: true });
    expect(fresh.session_id).not.to.equal(first.session_id);
    expect((await submitAsync(name, { chat_session_id: first.session_id })).session_id).to.equal(
      first.session_id,
    );
    expect((await submitAsync(name, { resume_session_id: plain.session_id })).session_id).to.equal(
      plain.session_id,
    );
    // A run's own conversation is no chat; another agent's and another user's are none of theirs.
    const other = await agent();
    for (const [who, whose, body] of [
      ['ada', name, { chat_session_id: plain.session_id }],
      ['ada', other, { chat_session_id: first.session_id }],
      ['root', 'coder', { resume_session_id: plain.session_id }],
    ] as const) {
      expect((await submit(who, whose, body)).status).to.equal(422);
    }
    const both = { chat_session_id: first.session_id, create_new_session: true };
    expect((await submit('ada', name, both)).status).to.equal(422);
  });

  it('follow who asked: another execution, another agent', async () => {
    const [name, asking] = [await agent(), await agent()];
    const parent = await submitAsync(asking);
    const child = await submitAsync(name, { parent_execution_id: parent.execution_id });
    expect(await detail(name, child.execution_id)).to.include({
      ...{ parent_execution_id: parent.execution_id, triggered_by: 'agent', source_agent_name: asking },
    });
    const asked = await sentEvent(parent.session_id);
    expect((await sentEvent(child.session_id)).causationId).to.equal(asked.id);

    const attributed = await submitAsync(name, {}, { 'X-Source-Agent': 'research-agent' });
    expect(await detail(name, attributed.execution_id)).to.include({
      ...{ triggered_by: 'agent', source_agent_name: 'researcher', parent_execution_id: null },
    });
    // Said of it, and not done by it: the log knows who really asked.
    expect((await sentEvent(attributed.session_id)).actor).to.deep.equal({ kind: 'user', id: 'ada' });
    expect((await submit('ada', name, {}, { 'X-Source-Agent': 'nobody' })).status).to.equal(403);
    const byMcp = await submitAsync(name, {}, { 'X-Via-MCP': 'true' });
    expect((await detail(name, byMcp.execution_id)).triggered_by).to.equal('mcp');
  });

  it('are stopped while they run or wait, and not once they have ended', async () => {
    const name = await agent();
    const stop = async ({ execution_id: id }: { execution_id: string }) =>
      (await app.call('ada', 'POST', `/api/agents/${name}/executions/${id}/terminate`)).body;
    const [queued, running, ended] = [
      await submitAsync(name),
      await submitAsync(name),
      await submitAsync(name),
    ];
    await app.claim(running.session_id, running.execution_id);
    await app.answer(ended.session_id, ended.execution_id);
    expect(await stop(queued)).to.deep.equal({
      ...{ status: 'cancelled_while_queued', execution_id: queued.execution_id },
    });
    expect((await detail(name, queued.execution_id)).status).to.equal('cancelled');
    expect((await stop(running)).status).to.equal('terminated');
    expect((await stop(running)).status, 'again').to.equal('terminated');
    expect((await stop(ended)).status).to.equal('already_finished');
    expect((await stop(queued)).status).to.equal('already_finished');
  });

  describe('for others', () => {
    let name: string;
    let id: string;
    let session: string;
    before(async () => {
      name = await agent({ shared: true });
      ({ execution_id: id, session_id: session } = await submitAsync(name));
    });

    const statuses = async (who: Name, agentName = name) =>
      Promise.all(
        [
          ['GET', ''],
          ['GET', '/log'],
          ['POST', '/terminate'],
        ].map(async ([method, path]) => {
          const answer = await app.call(who, method!, `/api/agents/${agentName}/executions/${id}${path}`);
          return answer.status;
        }),
      );

    it('look as if they did not exist', async () => {
      expect(await statuses('bob')).to.deep.equal([404, 404, 404]);
      const hidden = await get('bob', `/api/agents/${name}/executions/${id}`);
      const absent = await get('bob', `/api/agents/${name}/executions/none`);
      expect(hidden.body).to.deep.equal(absent.body);
      expect((await get('bob', `/api/agents/${name}/executions`)).body).to.deep.equal([]);
      expect((await get('bob', '/api/executions')).body.executions).to.deep.equal([]);
      expect((await get('bob', '/api/executions/stats')).body.total).to.equal(0);
      const parented = await submit('bob', name, { parent_execution_id: id });
      expect(parented.status).to.equal(422);
    });

    it('and under another agent’s name, they are not found either', async () => {
      expect(await statuses('ada', 'coder')).to.deep.equal([404, 404, 404]);
    });

    it('auditors see them and do not stop them; admins do', async () => {
      expect(await statuses('audra')).to.deep.equal([200, 200, 403]);
      const listed = (await get('audra', `/api/agents/${name}/executions`)).body;
      expect(listed.map((one: Body) => one.id)).to.deep.equal([id]);
      expect((await submit('audra', name, {})).status).to.equal(403);
      expect(await statuses('root')).to.deep.equal([200, 200, 200]);
    });

    it('are gone with the conversation that they were in', async () => {
      const deleted = await app.call('ada', 'DELETE', `/api/chat/sessions/${session}`);
      expect(deleted.status).to.equal(200);
      expect(await statuses('ada')).to.deep.equal([404, 404, 404]);
      expect((await get('ada', `/api/agents/${name}/executions`)).body).to.deep.equal([]);
    });
  });

  it('are listed and counted over all agents, by what is asked', async () => {
    const name = await agent();
    const first = await submitAsync(name, { message: 'The Needle in the hay' });
    await app.answer(first.session_id, first.execution_id, { costUsd: 0.5 });
    const second = await submitAsync(name, { message: 'Another' }, { 'X-Via-MCP': '1' });
    const ids = async (query: string) =>
      (await get('ada', `/api/executions?agent=${name}&${query}`)).body.executions.map((one: Body) => one.id);
    expect(await ids('')).to.deep.equal([second.execution_id, first.execution_id]);
    expect(await ids('status=success')).to.deep.equal([first.execution_id]);
    expect(await ids('status=skipped')).to.deep.equal([]);
    expect(await ids('triggered_by=mcp')).to.deep.equal([second.execution_id]);
    expect(await ids('search=needle&hours=1')).to.deep.equal([first.execution_id]);
    expect(await ids('limit=1&offset=1')).to.deep.equal([first.execution_id]);
    const page = (await get('ada', `/api/executions?agent=${name}&limit=1`)).body;
    expect(page).to.include({ count: 1, limit: 1, offset: 0, has_more: true });
    expect((await get('ada', `/api/executions/stats?agent=${name}`)).body).to.deep.include({
      ...{ total: 2, complete: true, total_cost: 0.5, success_rate: 1, by_trigger: { manual: 1, mcp: 1 } },
    });
    const timeline = async (query: string) =>
      (await get('ada', `/api/executions/timeline?agent=${name}&${query}`)).body;
    const none = { queued: 0, running: 0, success: 0, failed: 0, cancelled: 0, skipped: 0, pending_retry: 0 };
    const byHour = await timeline('hours=6');
    expect(byHour).to.include({ group_by: 'hour', hours: 6, complete: true });
    // Six hours begin and end within an hour each: seven, of which most are empty.
    const hours: Body[] = byHour.timeline;
    expect(hours).to.have.length(7);
    expect(hours.map(({ bucket }) => Date.parse(bucket) % 3_600_000)).to.deep.equal(hours.map(() => 0));
    expect(hours[1]).to.deep.include({ ...{ total: 0, by_status: none, total_cost: 0 } });
    expect(hours.reduce((sum, { total }) => sum + total, 0)).to.equal(2);
    expect((await timeline('group_by=day&hours=0')).timeline.at(-1)).to.include({ total_cost: 0.5 });
    expect((await timeline('group_by=trigger')).timeline.map((one: Body) => one.bucket)).to.deep.equal([
      'manual',
      'mcp',
    ]);
    expect((await timeline('group_by=agent')).timeline[0]).to.deep.include({
      ...{ bucket: name, total: 2, by_status: { ...none, queued: 1, success: 1 } },
    });
    for (const wrong of ['group_by=week', 'group_by=hour&hours=0', 'hours=2']) {
      expect((await get('ada', `/api/executions/timeline?${wrong}`)).status, wrong).to.equal(422);
    }
    for (const wrong of ['status=done', 'hours=2', 'limit=201', 'triggered_by=magic', 'offset=-1']) {
      expect((await get('ada', `/api/executions?${wrong}`)).status, wrong).to.equal(422);
    }
    expect((await get('ada', `/api/agents/${name}/executions?status=done`)).status).to.equal(422);
  });
});
