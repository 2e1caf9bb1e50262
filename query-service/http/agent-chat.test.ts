import { expect } from 'chai';
import type { AgentChatConversation, AgentChatMessage } from '../../contracts/http/agent-chat.ts';
import { type ChatApp, DEFAULT_MODEL, type Name, serveChat } from '../../test/chat-app.ts';

const CONVERSATIONS = '/api/conversations';

describe("Agent Chat's conversations", () => {
  let app: ChatApp;
  beforeEach(async () => {
    app = await serveChat();
  });
  afterEach(async () => {
    await app.close();
    expect(app.logged, 'what was logged').to.deep.equal([]);
  });

  const create = async (name: Name, body: object = {}): Promise<AgentChatConversation> => {
    const answer = await app.call(name, 'POST', CONVERSATIONS, { body });
    expect(answer.status).to.equal(201);
    return answer.body;
  };
  const say = async (id: string, content: string, answer: string) => {
    const { body } = await app.call('ada', 'POST', `/api/v1/chat/${id}/message`, { body: { content } });
    await app.answer(id, body.data.turn_id, { content: answer });
  };
  const list = async (name: Name, query = '') =>
    (await app.call(name, 'GET', CONVERSATIONS + query)).body as {
      conversations: AgentChatConversation[];
      total: number;
      limit: number;
      offset: number;
    };
  const idsOf = ({ conversations }: { conversations: readonly { id: string }[] }) =>
    conversations.map(({ id }) => id);

  it('are made, renamed, shown and deleted', async () => {
    const made = await create('ada', { title: 'Help with Python', model: 'gpt-4-turbo' });
    expect(made).to.include({ title: 'Help with Python', model: 'gpt-4-turbo', message_count: 0 });
    expect((await create('ada')).model).to.equal(DEFAULT_MODEL);

    const path = `${CONVERSATIONS}/${made.id}`;
    const renamed = await app.call('ada', 'PATCH', path, { body: { title: 'CSV' } });
    expect(renamed.body).to.include({ id: made.id, title: 'CSV', created_at: made.created_at });
    await say(made.id, 'How do I read a CSV file?', 'With the csv module.');
    const shown = (await app.call('ada', 'GET', path)).body;
    expect(shown).to.include({ id: made.id, title: 'CSV', message_count: 2, has_more: false });
    const [question, answer] = shown.messages as AgentChatMessage[];
    expect(question).to.include({ role: 'user', content: 'How do I read a CSV file?', status: 'complete' });
    expect(question).not.to.have.any.keys('usage', 'model');
    expect(answer).to.deep.include({ role: 'assistant', content: 'With the csv module.' });
    const { usage } = answer as Extract<AgentChatMessage, { role: 'assistant' }>;
    expect(usage.total_tokens).to.equal(usage.prompt_tokens + usage.completion_tokens);

    const deleted = await app.call('ada', 'DELETE', path);
    expect(deleted).to.deep.include({
      status: 200,
      body: { success: true, message: 'Conversation deleted' },
    });
    for (const method of ['GET', 'DELETE']) {
      expect((await app.call('ada', method, path)).status).to.equal(404);
    }
  });

  it('are listed page by page, with how many there are in all, now and in the past', async () => {
    const first = await create('ada', { title: 'first' });
    const others = [];
    for (let i = 0; i < 3; i++) others.unshift((await create('ada')).id);
    await create('bob');
    const archived = await create('ada');
    await app.call('ada', 'PATCH', `/api/chat/sessions/${archived.id}`, { body: { isArchived: true } });

    expect(await list('ada')).to.deep.include({ total: 4, limit: 20, offset: 0 });
    expect(idsOf(await list('ada'))).to.deep.equal([...others, first.id]);
    const page = await list('ada', '?limit=2&offset=3');
    expect([idsOf(page), page.total]).to.deep.equal([[first.id], 4]);
    expect(idsOf(await list('ada', '?archived=true'))).to.deep.equal([archived.id]);
    expect((await list('root')).total).to.equal(5);

    const position = (await app.call('ada', 'GET', CONVERSATIONS)).headers.get('X-Event-Position');
    await app.call('ada', 'DELETE', `${CONVERSATIONS}/${first.id}`);
    expect((await list('ada')).total).to.equal(3);
    const before = await list('ada', `?asOf=${position}&limit=1`);
    expect([idsOf(before), before.total]).to.deep.equal([[others[0]], 4]);
    for (const query of ['limit=0', 'limit=101', 'offset=-1', 'archived=maybe']) {
      const { status, body } = await app.call('ada', 'GET', `${CONVERSATIONS}?${query}`);
      expect(status, query).to.equal(400);
      expect(body).to.include({ success: false, code: 'VALIDATION_ERROR' });
      expect(body.details).to.contain(query.split('=')[0]);
    }
  });

  it('show the end of a long history first, and the rest on request', async () => {
    const { id } = await create('ada');
    for (let i = 0; i < 4; i++) await say(id, `question ${i}`, 'x'.repeat(400_000));
    const seen: string[] = [];
    for (let query = ''; ; ) {
      const { messages, has_more } = (await app.call('ada', 'GET', `${CONVERSATIONS}/${id}${query}`)).body;
      seen.unshift(...messages.map((message: AgentChatMessage) => message.id));
      if (!has_more) break;
      query = `?before=${messages[0].id}`;
    }
    expect(new Set(seen).size).to.equal(8);
    const wrong = await app.call('ada', 'GET', `${CONVERSATIONS}/${id}?before=a&after=b`);
    expect([wrong.status, wrong.body.code]).to.deep.equal([400, 'VALIDATION_ERROR']);
  });

  it('of others look as if they did not exist', async () => {
    const { id } = await create('ada', { title: 'mine' });
    for (const path of [`${CONVERSATIONS}/${id}`, `${CONVERSATIONS}/no-such-thing`]) {
      const bodies = [];
      for (const [method, body] of [['GET'], ['PATCH', { title: 'theirs' }], ['DELETE']] as const) {
        const answer = await app.call('bob', method, path, { body });
        expect(answer.status, `${method} ${path}`).to.equal(404);
        bodies.push({ ...answer.body, timestamp: '' });
      }
      expect(new Set(bodies.map((body) => JSON.stringify(body))).size).to.equal(1);
      expect(bodies[0]).to.deep.equal({
        success: false,
        error: 'Conversation not found.',
        details: 'Conversation not found.',
        code: 'NOT_FOUND',
        timestamp: '',
      });
    }
    expect((await list('ada')).conversations[0]?.title).to.equal('mine');
  });

  it('are not begun with an agent that there is not', async () => {
    const { status, body } = await app.call('ada', 'POST', CONVERSATIONS, {
      body: { model: 'agent:nobody' },
    });
    expect(status).to.equal(400);
    expect(body.details).to.equal('body.model: there is no agent nobody');
    expect((await list('ada')).total).to.equal(0);
  });
});
