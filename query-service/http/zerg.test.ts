import { expect } from 'chai';
import type { ProviderTry } from '../../contracts/events/conversation.ts';
import { type ChatApp, type Name, serveChat } from '../../test/chat-app.ts';

const CHAT = '/api/v1/chat';

describe("ZERG's reads", () => {
  let app: ChatApp;
  beforeEach(async () => {
    app = await serveChat();
  });
  afterEach(async () => {
    await app.close();
    expect(app.logged, 'what was logged').to.deep.equal([]);
  });

  const create = async (name: Name): Promise<string> =>
    (await app.call(name, 'POST', CHAT, { body: { model: 'glm-4.7-flash' } })).body.data.id;
  const say = async (id: string, content: string, answer: string) => {
    const { body } = await app.call('ada', 'POST', `${CHAT}/${id}/message`, { body: { content } });
    await app.answer(id, body.data.turn_id, { content: answer });
  };
  const ids = async (name: Name, query = ''): Promise<string[]> =>
    (await app.call(name, 'GET', CHAT + query)).body.data.map(({ id }: { id: string }) => id);
  const contents = async (id: string, query = ''): Promise<string[]> =>
    (await app.call('ada', 'GET', `${CHAT}/${id}/history${query}`)).body.data.map(
      ({ content }: { content: string }) => content,
    );

  it('list active conversations: own ones, and for who sees all, everybody’s', async () => {
    const first = await create('ada');
    const ended = await create('ada');
    await app.call('ada', 'DELETE', `${CHAT}/${ended}`);
    const bobs = await create('bob');
    const last = await create('ada');
    const ofRun = {
      title: null,
      mode: 'build',
      model: null,
      kind: 'run',
      agent: null,
      linkId: null,
    } as const;
    await app.append('conversation-0123456789ab', 'ConversationStarted', ofRun, 'ada');
    expect(await ids('ada')).to.deep.equal([last, first]);
    expect(await ids('bob')).to.deep.equal([bobs]);
    for (const name of ['audra', 'root'] as const) {
      expect(await ids(name), name).to.deep.equal([last, bobs, first]);
    }
    expect(await ids('root', '?limit=1&offset=1')).to.deep.equal([bobs]);
  });

  it('give a conversation with when it began and changed, in Unix seconds', async () => {
    const before = Math.floor(Date.now() / 1_000);
    const id = await create('ada');
    const { data } = (await app.call('audra', 'GET', `${CHAT}/${id}`)).body;
    expect(data).to.include({
      id,
      worker_id: `chat-${id}`,
      user_id: 'ada',
      message_count: 0,
      status: 'active',
    });
    expect(data.created_at).to.be.within(before, before + 30);
    expect(data.updated_at).to.equal(data.created_at);
  });

  it('give the last messages, oldest first, and those before one', async () => {
    const id = await create('ada');
    await say(id, 'one', 'two');
    await say(id, 'three', 'four');
    expect(await contents(id)).to.deep.equal(['one', 'two', 'three', 'four']);
    expect(await contents(id, '?limit=3')).to.deep.equal(['two', 'three', 'four']);
    const { data } = (await app.call('ada', 'GET', `${CHAT}/${id}/history?limit=2`)).body;
    expect(data[0]).to.include({ session_id: id, role: 'user', content: 'three', status: 'complete' });
    expect(data[1]).to.include({ role: 'assistant', model: 'gpt-5', provider: 'openai', error: null });
    expect([data[0].requested_model, data[0].cost_usd, data[0].tried]).to.deep.equal([null, null, []]);
    expect(await contents(id, `?before=${data[0].id}`)).to.deep.equal(['one', 'two']);
    const unknown = await app.call('ada', 'GET', `${CHAT}/${id}/history?before=msg_unknown`);
    expect(unknown.status).to.equal(400);
    expect(unknown.body.error).to.include('before');
  });

  it('say what was asked for, who was tried and what it cost', async () => {
    const id = await create('ada');
    const { body } = await app.call('ada', 'POST', `${CHAT}/${id}/message`, { body: { content: 'Hi' } });
    const tried = [
      { provider: 'zai', model: 'glm-4.6', outcome: 'failed', reason: 'HTTP 429' },
      { provider: 'openai', model: 'gpt-5', outcome: 'answered', reason: null },
    ] as const satisfies readonly ProviderTry[];
    const requestedModel = 'glm-4.7-flash';
    await app.answer(id, body.data.turn_id, {
      content: 'Hello',
      requestedModel,
      tried: [...tried],
      costUsd: 0.002,
    });
    const { data } = (await app.call('ada', 'GET', `${CHAT}/${id}/history?limit=1`)).body;
    expect(data[0]).to.deep.include({ requested_model: requestedModel, tried, cost_usd: 0.002 });
  });

  it('answer from the past', async () => {
    const id = await create('ada');
    await say(id, 'one', 'two');
    const position = (await app.call('ada', 'GET', `${CHAT}/${id}`)).headers.get('X-Event-Position');
    await say(id, 'three', 'four');
    await app.call('ada', 'DELETE', `${CHAT}/${id}`);
    await create('ada');
    const asOf = `?asOf=${position}`;
    expect(await ids('ada', asOf)).to.deep.equal([id]);
    expect(await ids('root', asOf)).to.deep.equal([id]);
    expect(await contents(id, asOf)).to.deep.equal(['one', 'two']);
    expect(await contents(id, `${asOf}&limit=1`)).to.deep.equal(['two']);
    const { body, headers } = await app.call('ada', 'GET', `${CHAT}/${id}${asOf}`);
    expect(body.data).to.include({ status: 'active', message_count: 2 });
    expect(headers.get('X-Event-Position')).to.equal(position);
    expect((await app.call('bob', 'GET', `${CHAT}/${id}${asOf}`)).status).to.equal(404);
  });
});
