import { expect } from 'chai';
import type { Role } from '../../contracts/events/identity.ts';
import type { TurnDocument } from '../../contracts/read-models/documents.ts';
import { type ChatApp, type ChatAppOptions, type Name, type Reply, serveChat } from '../../test/chat-app.ts';
import { condition } from '../../test/program.ts';

const AGENT = { description: 'Scouts.', instructions: 'You are the scout.' };
const HOUR_MS = 3_600_000;

async function serve(options: ChatAppOptions = {}) {
  const app = await serveChat({
    visitorLimits: { looksOfAddress: 1_000, actsOfAddress: 1_000, actsByLink: 1_000 },
    ...options,
  });
  for (const [name, role] of [
    ['ada', 'user'],
    ['bob', 'user'],
    ['root', 'admin'],
  ] as [Name, Role][]) {
    const registered = { email: `${name}@example.org`, displayName: name, role, passwordHash: 'none' };
    await app.append(`user-${name}`, 'UserRegistered', registered, name);
  }
  return app;
}

describe('public links', () => {
  let app: ChatApp;
  let nowMs = Date.now();
  let unique = 0;
  before(async () => {
    app = await serve({ now: () => nowMs });
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
  async function link(path: string, body: object = {}, owner: Name = 'ada') {
    const made = await app.call(owner, 'POST', `${path}/public-links`, { body });
    expect(made.status, JSON.stringify(made.body)).to.equal(201);
    return made.body as { id: string; token: string; url: string };
  }

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
  /** Nobody is logged in: the name counts nothing on public routes. */
  const visit = (method: string, path: string, options: Parameters<ChatApp['call']>[3] = {}) =>
    app.call('ada', method, `/api/public/${path}`, {
      ...options,
      headers: { Authorization: '', ...options.headers },
    });
  const say = (token: string, message: string, more: object = {}, headers: Record<string, string> = {}) =>
    visit('POST', `chat/${token}`, { body: { message, ...more }, headers });
  async function chat(token: string, message: string, content = 'Hello.', more: object = {}): Promise<Reply> {
    const answer = say(token, message, more);
    const turn = await waiting(message);
    const usage = { promptTokens: 30, completionTokens: 3, cachedTokens: 0 };
    await app.answer(turn.conversationId, turn.id, { content, usage, costUsd: 0.25 });
    return answer;
  }

  it('are made, shown, changed and deleted by who owns the agent', async () => {
    const path = await agent();
    const made = await app.call('ada', 'POST', `${path}/public-links`, {
      body: { name: 'Fair', expires_at: '2999-01-01T01:00:00+01:00' },
    });
    expect(made.status).to.equal(201);
    const { id, token } = made.body;
    expect(made.body).to.include({
      ...{ created_by: 'ada', name: 'Fair', enabled: true, require_email: false },
      expires_at: '2999-01-01T00:00:00.000Z',
    });
    expect(token).to.match(/^[\w-]{32}$/);
    const seen = await fetch(made.body.url);
    expect(await seen.json()).to.deep.include({ valid: true, agent_description: 'Scouts.' });

    const listed = (await app.call('ada', 'GET', `${path}/public-links`)).body;
    expect(listed).to.deep.equal([made.body]);
    expect((await app.call('ada', 'GET', `${path}/public-links/${id}`)).body).to.deep.equal(made.body);
    for (const [method, body, changed] of [
      ['PATCH', { name: null, expires_at: null }, { name: null, expires_at: null, enabled: true }],
      ['PUT', { enabled: false }, { name: null, expires_at: null, enabled: false }],
    ] as const) {
      const answer = await app.call('ada', method, `${path}/public-links/${id}`, { body });
      expect(answer.body).to.deep.equal({ ...made.body, ...changed });
    }
    const deleted = await app.call('ada', 'DELETE', `${path}/public-links/${id}`);
    expect(deleted.body).to.deep.equal({ status: 'deleted', id });
    for (const method of ['GET', 'DELETE'] as const) {
      expect((await app.call('ada', method, `${path}/public-links/${id}`)).status).to.equal(404);
    }
    expect((await app.call('ada', 'GET', `${path}/public-links`)).body).to.deep.equal([]);
    expect((await link(path, { enabled: false })) as object).to.include({ enabled: false });
  });

  it('leave no token in the log', async () => {
    const path = await agent();
    const { token } = await link(path);
    const { session_id: session } = (await chat(token, 'keep no secret')).body;
    for await (const { events } of app.store.readAll()) {
      expect(JSON.stringify(events)).to.not.include(token);
      expect(JSON.stringify(events)).to.not.include(session);
    }
  });

  it('are refused with the reason where they cannot be made so', async () => {
    const path = await agent();
    for (const [body, loc] of [
      [{ require_email: true }, 'require_email'],
      [{ expires_at: 'tomorrow' }, 'expires_at'],
      [{ expires_at: '9999-12-31T23:59:59-01:00' }, 'expires_at'],
      [{ expires_at: '2001-01-01T00:00:00Z' }, 'expires_at'],
      [{ name: '' }, 'name'],
    ] as const) {
      const { status, body: answer } = await app.call('ada', 'POST', `${path}/public-links`, { body });
      expect(status).to.equal(422);
      expect(answer.detail[0].loc).to.deep.equal(['body', loc]);
    }
    const { id } = await link(path);
    expect((await app.call('ada', 'PATCH', `${path}/public-links/${id}`, { body: {} })).status).to.equal(422);
  });

  it("are nobody else's: a private agent looks absent, a shared one is not theirs to link", async () => {
    const path = await agent();
    const shared = await agent({ shared: true });
    const { id } = await link(path);
    const other = await link(shared);
    const uses = (at: string, linkId: string) =>
      [
        ['POST', `${at}/public-links`, {}],
        ['GET', `${at}/public-links`],
        ['GET', `${at}/public-links/${linkId}`],
        ['PATCH', `${at}/public-links/${linkId}`, { enabled: false }],
        ['DELETE', `${at}/public-links/${linkId}`],
      ] as const;
    for (const [at, linkId, status] of [
      [path, id, 404],
      [shared, other.id, 403],
    ] as const) {
      for (const [method, url, body] of uses(at, linkId)) {
        const answer = await app.call('bob', method, url, body === undefined ? {} : { body });
        expect(answer.status, `${method} ${url}`).to.equal(status);
      }
    }
    for (const [method, url, body] of uses(path, other.id).slice(2)) {
      const answer = await app.call('ada', method, url, body === undefined ? {} : { body });
      expect(answer.status, `${method} of another agent's link`).to.equal(404);
    }
    expect((await app.call('root', 'GET', `${shared}/public-links`)).body).to.have.length(1);
    expect((await app.call('audra', 'GET', `${shared}/public-links`)).status).to.equal(403);
  });

  it('let visitors talk, each in a session of their own, and count what it took', async () => {
    const path = await agent();
    const { id, token } = await link(path);
    const first = (await chat(token, 'good morning', 'Morning!')).body;
    expect(first).to.deep.include({
      response: 'Morning!',
      message_count: 2,
      usage: { input_tokens: 30, output_tokens: 3 },
    });
    const second = (await chat(token, 'good evening', 'Evening!')).body;
    expect(second.session_id).to.not.equal(first.session_id);
    const more = (await chat(token, 'and again', 'Again!', { session_id: first.session_id })).body;
    expect(more).to.include({ session_id: first.session_id, message_count: 4 });

    const history = async (session: string) =>
      (await visit('GET', `history/${token}?session_id=${encodeURIComponent(session)}`)).body;
    const said = (await history(first.session_id)).messages.map((one: { content: string }) => one.content);
    expect(said).to.deep.equal(['good morning', 'Morning!', 'and again', 'Again!']);
    expect((await history(second.session_id)).message_count).to.equal(2);
    expect((await visit('GET', `history/${token}`)).body).to.deep.equal({
      messages: [],
      session_id: null,
      message_count: 0,
    });
    const { usage_stats } = (await app.call('ada', 'GET', `${path}/public-links/${id}`)).body;
    expect(usage_stats).to.include({
      ...{ total_sessions: 2, total_messages: 6, input_tokens: 90, output_tokens: 9, total_cost_usd: 0.75 },
    });
    const runs = (await app.call('ada', 'GET', `${path}/executions`)).body;
    expect(runs.map((run: { triggered_by: string }) => run.triggered_by)).to.deep.equal(
      Array(3).fill('public'),
    );
    // They are neither the owner's sessions nor among the owner's conversations.
    expect((await app.call('ada', 'GET', `${path}/chat/sessions`)).body.session_count).to.equal(0);
    const { sessions } = (await app.call('ada', 'GET', '/api/chat/sessions')).body;
    expect(sessions).to.deep.equal([]);
  });

  it('open no session to who has another one, or another link', async () => {
    const path = await agent();
    const { token } = await link(path);
    const other = await link(path);
    const { session_id: session } = (await chat(token, 'between us', 'Yes.')).body;
    const execution = async () => {
      const { body } = await say(token, `later ${unique++}`, { async_mode: true, session_id: session });
      return body.execution_id as string;
    };
    const id = await execution();
    const [conversation] = session.split('.');
    for (const [at, forged] of [
      [other.token, session],
      [token, `${conversation}.AAAAAAAAAAAAAAAAAAAAAA`],
      [token, conversation],
      [token, 'nonsense'],
    ] as const) {
      const by = `session_id=${encodeURIComponent(forged)}`;
      expect((await visit('GET', `history/${at}?${by}`)).body.messages).to.deep.equal([]);
      expect((await say(at, 'let me in', { session_id: forged })).status).to.equal(404);
      expect((await visit('DELETE', `session/${at}?${by}`)).status).to.equal(404);
      expect((await visit('GET', `executions/${at}/${id}/status?${by}`)).status).to.equal(404);
      expect((await visit('POST', `executions/${at}/${id}/terminate?${by}`)).status).to.equal(404);
    }
    for (const [method, at] of [
      ['DELETE', `session/${token}`],
      ['GET', `executions/${token}/${id}/status`],
      ['POST', `executions/${token}/${id}/terminate`],
    ] as const) {
      expect((await visit(method, at)).status, at).to.equal(400);
    }
    // Of the owner's own runs visitors see nothing.
    const task = { body: { message: 'for the owner', async_mode: true } };
    const own = (await app.call('ada', 'POST', `${path}/task`, task)).body.execution_id;
    const by = `session_id=${encodeURIComponent(session)}`;
    expect((await visit('GET', `executions/${token}/${own}/status?${by}`)).status).to.equal(404);
    expect((await visit('POST', `executions/${token}/${own}/terminate?${by}`)).status).to.equal(404);
  });

  it('answer at once where they are asked to, and say how far the answer is', async () => {
    const path = await agent();
    const { token } = await link(path);
    const accepted = (await say(token, 'take your time', { async_mode: true })).body;
    expect(accepted).to.include({ status: 'accepted', async_mode: true });
    const { execution_id: id, session_id: session } = accepted;
    const by = `session_id=${encodeURIComponent(session)}`;
    const status = async () => (await visit('GET', `executions/${token}/${id}/status?${by}`)).body;
    expect(await status()).to.include({ status: 'queued', response: null });
    const turn = await waiting('take your time');
    await app.answer(turn.conversationId, turn.id, { content: 'Done.' });
    expect(await status()).to.include({ status: 'success', response: 'Done.', session_id: session });
    const stop = async (execution: string) =>
      (await visit('POST', `executions/${token}/${execution}/terminate?${by}`)).body;
    expect(await stop(id)).to.include({ status: 'already_finished' });
    const { body: next } = await say(token, 'never mind', { async_mode: true, session_id: session });
    expect(await stop(next.execution_id)).to.include({ status: 'cancelled_while_queued' });
  });

  it('tell visitors of a failure, not of its reason', async () => {
    const path = await agent();
    const { token } = await link(path);
    const answer = say(token, 'break');
    const turn = await waiting('break');
    await app.answer(turn.conversationId, turn.id, { type: 'TurnFailed', reason: 'http://10.0.0.7 refused' });
    const { status, body } = await answer;
    expect(status).to.equal(502);
    expect(JSON.stringify(body)).to.not.include('10.0.0.7');
  });

  it('end a session and begin another, once for a request that is repeated', async () => {
    const path = await agent();
    const { token } = await link(path);
    const { session_id: session } = (await chat(token, 'to be forgotten')).body;
    const by = `session_id=${encodeURIComponent(session)}`;
    const headers = { 'Idempotency-Key': `clear-${unique++}` };
    const cleared = await visit('DELETE', `session/${token}?${by}`, { headers });
    expect(cleared.body.cleared).to.equal(true);
    const repeated = await visit('DELETE', `session/${token}?${by}`, { headers });
    expect(repeated.body).to.deep.equal(cleared.body);
    expect((await visit('GET', `history/${token}?${by}`)).body.messages).to.deep.equal([]);
    expect((await say(token, 'still there?', { session_id: session })).status).to.equal(404);
    const next = cleared.body.new_session_id;
    const { body } = await chat(token, 'anew', 'Anew.', { session_id: next });
    expect(body).to.include({ session_id: next, message_count: 2 });
  });

  it('send a message once, however often the request is repeated', async () => {
    const path = await agent();
    const { token } = await link(path);
    const headers = { 'Idempotency-Key': `visit-${unique++}` };
    const first = say(token, 'just once', {}, headers);
    const turn = await waiting('just once');
    await app.answer(turn.conversationId, turn.id, { content: 'Once.' });
    const { body } = await first;
    const again = await say(token, 'just once', {}, headers);
    expect(again.body).to.deep.equal(body);
    expect(again.body.message_count).to.equal(2);
  });

  it('look all the same when they do not hold, whatever the cause', async () => {
    const path = await agent();
    const name = path.split('/').at(-1)!;
    const expiring = await link(path, { expires_at: new Date(nowMs + HOUR_MS).toISOString() });
    const disabled = await link(path);
    const gone = await link(path);
    expect((await visit('GET', `link/${expiring.token}`)).body.valid).to.equal(true);
    nowMs += HOUR_MS;
    await app.call('ada', 'PATCH', `${path}/public-links/${disabled.id}`, { body: { enabled: false } });
    await app.call('ada', 'DELETE', `${path}/public-links/${gone.id}`);

    const orphans = await agent();
    const orphan = await link(orphans);
    await app.call('ada', 'DELETE', orphans);
    const again = { name: orphans.split('/').at(-1), ...AGENT };

    const bobs = await agent({}, 'bob');
    const ofDisabledUser = await link(bobs, {}, 'bob');
    await app.append('user-bob', 'UserDisabled', {}, 'bob');

    const answers = async () => {
      const all: unknown[] = [];
      for (const token of [
        ...[expiring.token, disabled.token, gone.token, orphan.token, ofDisabledUser.token],
        ...['A'.repeat(32), 'nonsense', name, '%20', 'x'.repeat(500)],
      ]) {
        const texts: string[] = [];
        for (const [method, at, body] of [
          ['POST', 'chat/TOKEN', { message: 'hello' }],
          ['POST', 'chat/TOKEN', { message: 'hello', session_id: 'nonsense' }],
          ['GET', 'history/TOKEN'],
          ['GET', 'history/TOKEN?session_id=nonsense'],
          ['GET', 'intro/TOKEN'],
          ['DELETE', 'session/TOKEN'],
          ['GET', 'executions/TOKEN/turn_0/status'],
          ['POST', 'executions/TOKEN/turn_0/terminate'],
          ['GET', 'link/TOKEN'],
        ] as const) {
          const response = await fetch(`${app.url}/api/public/${at.replace('TOKEN', token)}`, {
            method,
            headers: { 'Content-Type': 'application/json' },
            ...(body !== undefined && { body: JSON.stringify(body) }),
          });
          texts.push(`${response.status} ${await response.text()}`);
        }
        all.push(texts);
      }
      return all;
    };
    const expected = [
      ...Array(8).fill('404 {"detail":"Invalid or expired link"}'),
      '200 {"valid":false,"require_email":false,"agent_available":false,"reason":"invalid_or_expired"}',
    ];
    for (const texts of await answers()) expect(texts).to.deep.equal(expected);
    // An agent that is made under the old name is another one.
    expect((await app.call('ada', 'POST', '/api/agents', { body: again })).status).to.equal(201);
    for (const texts of await answers()) expect(texts).to.deep.equal(expected);
  });

  it('take no more than a few messages and look-ups a minute', async () => {
    const busy = await serve({ visitorLimits: { looksOfAddress: 3, actsOfAddress: 4, actsByLink: 2 } });
    try {
      await busy.call('ada', 'POST', '/api/agents', { body: { name: 'scout', ...AGENT } });
      const { token } = (await busy.call('ada', 'POST', '/api/agents/scout/public-links', { body: {} })).body;
      const speak = (to: string) =>
        busy.call('ada', 'POST', `/api/public/chat/${to}`, { body: { message: 'hi', async_mode: true } });
      const statuses: number[] = [];
      for (const to of [token, token, token, 'nonsense', 'nonsense']) statuses.push((await speak(to)).status);
      // The link's limit, then the address's, which counts whatever link it tries.
      expect(statuses).to.deep.equal([200, 200, 429, 404, 429]);
      const refused = await speak(token);
      expect(refused.body.detail).to.be.a('string');
      expect(Number(refused.headers.get('Retry-After'))).to.be.within(1, 60);
      const looks: number[] = [];
      for (let n = 0; n < 4; n++) {
        looks.push(
          (await busy.call('ada', 'GET', `/api/public/link/${n === 0 ? token : 'nonsense'}`)).status,
        );
      }
      expect(looks).to.deep.equal([200, 200, 200, 429]);
    } finally {
      await busy.close();
    }
  });
});
