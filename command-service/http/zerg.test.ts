import { expect } from 'chai';
import { type ChatApp, DEFAULT_MODEL, serveChat } from '../../test/chat-app.ts';

const CHAT = '/api/v1/chat';

describe("ZERG's chat commands", () => {
  let app: ChatApp;
  before(async () => {
    app = await serveChat();
  });
  after(async () => {
    await app.close();
    expect(app.logged, 'what was logged').to.deep.equal([]);
  });

  const create = async (body: object = {}): Promise<string> =>
    (await app.call('ada', 'POST', CHAT, { body })).body.data.id;

  it('begins a conversation as the document shows it', async () => {
    const { status, body } = await app.call('ada', 'POST', CHAT, {
      body: { model: 'glm-4.7-flash', mode: 'build' },
    });
    expect(status).to.equal(200);
    const { id } = body.data;
    expect(id).to.match(/^[0-9a-f]{12}$/);
    expect(body).to.deep.equal({
      ok: true,
      data: { id, worker_id: `chat-${id}`, model: 'glm-4.7-flash', mode: 'build', status: 'active' },
    });
  });

  it('builds with the default model when nothing was asked for', async () => {
    const { body } = await app.call('ada', 'POST', CHAT);
    expect(body.data).to.include({ model: DEFAULT_MODEL, mode: 'build' });
  });

  it('accepts a message, and Luna reads what was said', async () => {
    const id = await create();
    const { status, body, headers } = await app.call('ada', 'POST', `${CHAT}/${id}/message`, {
      body: { content: 'Explain quicksort' },
    });
    expect(status).to.equal(202);
    const { message_id, turn_id } = body.data;
    expect(body.data).to.deep.equal({ message_id, session_id: id, turn_id, status: 'accepted' });
    expect(headers.get('X-Turn-Id')).to.equal(turn_id);
    await app.answer(id, turn_id, { content: 'Choose a pivot.' });
    const luna = await app.call('ada', 'GET', `/api/chat/sessions/${id}`);
    expect(luna.body.metadata).to.include({ surface: 'zerg', messageCount: 2 });
    expect(luna.body.messages.map((message: { content: string }) => message.content)).to.deep.equal([
      'Explain quicksort',
      'Choose a pivot.',
    ]);
  });

  it('continues what was begun on Luna', async () => {
    const { id } = (await app.call('ada', 'POST', '/api/chat/sessions')).body;
    const { status } = await app.call('ada', 'POST', `${CHAT}/${id}/message`, { body: { content: 'Go on' } });
    expect(status).to.equal(202);
  });

  it('sends a message once, however often the request is repeated', async () => {
    const id = await create();
    const again = { body: { content: 'Once' }, headers: { 'Idempotency-Key': 'zerg-once' } };
    const first = await app.call('ada', 'POST', `${CHAT}/${id}/message`, again);
    const second = await app.call('ada', 'POST', `${CHAT}/${id}/message`, again);
    expect(second.body).to.deep.equal(first.body);
    const history = await app.call('ada', 'GET', `${CHAT}/${id}/history`);
    expect(history.body.data).to.have.length(1);
  });

  it('ends a conversation: it leaves the list, can be read, and refuses messages', async () => {
    const id = await create();
    const ended = await app.call('ada', 'DELETE', `${CHAT}/${id}`);
    expect(ended.body).to.deep.equal({ ok: true, data: { id, status: 'ended' } });
    const list = await app.call('ada', 'GET', CHAT);
    expect(list.body.data.map((session: { id: string }) => session.id)).to.not.include(id);
    expect((await app.call('ada', 'GET', `${CHAT}/${id}`)).body.data.status).to.equal('ended');
    const refused = await app.call('ada', 'POST', `${CHAT}/${id}/message`, { body: { content: 'hi' } });
    expect(refused.status).to.equal(409);
    expect(refused.body).to.deep.equal({ ok: false, error: 'The conversation has ended: start a new one.' });
  });

  it('hides what belongs to others, and what cannot exist, in the same way', async () => {
    const id = await create();
    for (const other of [id, '0123456789ab', 'not-an-id']) {
      for (const [method, path, body] of [
        ['POST', `${CHAT}/${other}/message`, { content: 'hi' }],
        ['DELETE', `${CHAT}/${other}`, undefined],
        ['GET', `${CHAT}/${other}`, undefined],
        ['GET', `${CHAT}/${other}/history`, undefined],
      ] as const) {
        const { status, body: answer } = await app.call('bob', method, path, { body });
        expect({ status, answer }, `${method} ${path}`).to.deep.equal({
          status: 404,
          answer: { ok: false, error: 'Conversation not found.' },
        });
      }
    }
  });

  it('lets auditors change nothing', async () => {
    const id = await create();
    const sent = await app.call('audra', 'POST', `${CHAT}/${id}/message`, { body: { content: 'hi' } });
    expect(sent.status).to.equal(403);
    expect((await app.call('audra', 'DELETE', `${CHAT}/${id}`)).status).to.equal(403);
  });
});
