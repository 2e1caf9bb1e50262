import { expect } from 'chai';
import type { LunaActivity, LunaMessage, LunaSession } from '../../contracts/http/luna.ts';
import { type ChatApp, type Name, serveChat } from '../../test/chat-app.ts';
import { answered } from '../../test/log.ts';

const SESSIONS = '/api/chat/sessions';

describe("Luna's reads", () => {
  let app: ChatApp;
  beforeEach(async () => {
    app = await serveChat();
  });
  afterEach(async () => {
    await app.close();
    expect(app.logged, 'what was logged').to.deep.equal([]);
  });

  const create = async (name: Name, title?: string): Promise<string> =>
    (await app.call(name, 'POST', SESSIONS, { body: { title } })).body.id;
  const say = async (id: string, content: string, answer: string) => {
    const { body } = await app.call('ada', 'POST', `/api/v1/chat/${id}/message`, { body: { content } });
    await app.answer(id, body.data.turn_id, { content: answer });
  };
  const positionOf = async (name: Name): Promise<string> =>
    (await app.call(name, 'GET', SESSIONS)).headers.get('X-Event-Position')!;
  const ids = async (name: Name, query = ''): Promise<string[]> =>
    (await app.call(name, 'GET', SESSIONS + query)).body.sessions.map(({ id }: LunaSession) => id);

  describe('the list of conversations', () => {
    it('has the own ones, the one that changed last first, archived ones apart', async () => {
      const [first, second] = [await create('ada'), await create('ada')];
      const archived = await create('ada');
      const bobs = await create('bob');
      await app.call('ada', 'PATCH', `${SESSIONS}/${archived}`, { body: { isArchived: true } });
      await app.call('ada', 'PATCH', `${SESSIONS}/${first}`, { body: { title: 'changed last' } });
      expect(await ids('ada')).to.deep.equal([first, second]);
      expect(await ids('ada', '?archived=true')).to.deep.equal([archived]);
      expect(await ids('bob')).to.deep.equal([bobs]);
      const { body } = await app.call('ada', 'GET', `${SESSIONS}?limit=1&offset=1`);
      expect(body).to.include({ limit: 1, offset: 1 });
      expect(body.sessions[0].id).to.equal(second);
    });

    it('has everybody’s for who sees all, or those of one user, now and in the past', async () => {
      const [adas, bobs, archived] = [await create('ada'), await create('bob'), await create('bob')];
      await app.call('bob', 'PATCH', `${SESSIONS}/${archived}`, { body: { isArchived: true } });
      for (const asOf of ['', `&asOf=${await positionOf('root')}`]) {
        for (const name of ['audra', 'root'] as const) {
          expect(await ids(name, `?limit=9${asOf}`), name).to.deep.equal([bobs, adas]);
          expect(await ids(name, `?userId=ada${asOf}`), name).to.deep.equal([adas]);
          expect(await ids(name, `?archived=true${asOf}`), name).to.deep.equal([archived]);
          expect(await ids(name, `?userId=nobody${asOf}`), name).to.deep.equal([]);
        }
        expect(await ids('ada', `?userId=ada${asOf}`)).to.deep.equal([adas]);
        expect(await ids('ada', `?userId=bob${asOf}`)).to.deep.equal([]);
      }
    });

    it('leaves out what runs of agents and visitors of links began, now and in the past', async () => {
      const id = await create('ada');
      const began = { title: null, mode: 'assistant', model: null, agent: null, linkId: null } as const;
      for (const kind of ['run', 'public'] as const) {
        const other = kind.padEnd(12, '0');
        await app.append(`conversation-${other}`, 'ConversationStarted', { ...began, kind }, 'ada');
      }
      for (const asOf of ['', `&asOf=${await positionOf('root')}`]) {
        expect(await ids('ada', `?limit=9${asOf}`)).to.deep.equal([id]);
        expect(await ids('root', `?limit=9${asOf}`)).to.deep.equal([id]);
      }
    });

    it('refuses bounds that it does not keep', async () => {
      const beyond = 'asOf=9999-12-31T23:59:59-01:00'; // in UTC that is the year 10000
      for (const query of ['limit=0', 'limit=101', 'offset=-1', 'archived=maybe', 'asOf=yesterday', beyond]) {
        expect((await app.call('ada', 'GET', `${SESSIONS}?${query}`)).status, query).to.equal(400);
      }
    });
  });

  describe('a conversation', () => {
    const page = async (id: string, query = ''): Promise<[string[], boolean]> => {
      const { body } = await app.call('ada', 'GET', `${SESSIONS}/${id}${query}`);
      return [body.messages.map(({ content }: LunaMessage) => content), body.hasMoreMessages];
    };

    it('comes with its last messages, and with those beside one', async () => {
      const id = await create('ada');
      await say(id, 'one', 'two');
      await say(id, 'three', 'four');
      expect(await page(id)).to.deep.equal([['one', 'two', 'three', 'four'], false]);
      expect(await page(id, '?limit=3')).to.deep.equal([['two', 'three', 'four'], true]);
      const { messages } = (await app.call('ada', 'GET', `${SESSIONS}/${id}`)).body;
      const [one, , three] = messages as LunaMessage[];
      expect(await page(id, `?before=${three?.id}`)).to.deep.equal([['one', 'two'], false]);
      expect(await page(id, `?before=${three?.id}&limit=1`)).to.deep.equal([['two'], true]);
      expect(await page(id, `?after=${one?.id}&limit=2`)).to.deep.equal([['two', 'three'], true]);
      expect(await page(id, `?after=${three?.id}`)).to.deep.equal([['four'], false]);

      const asOf = `asOf=${await positionOf('ada')}`;
      expect(await page(id, `?${asOf}&before=${three?.id}&limit=1`)).to.deep.equal([['two'], true]);
      expect(await page(id, `?${asOf}&after=${one?.id}&limit=2`)).to.deep.equal([['two', 'three'], true]);
    });

    it('comes in pages of bounded length, none of which leaves a message out', async () => {
      const id = await create('ada');
      const said: string[] = [];
      for (let i = 0; i < 40; i++) {
        // Six that are too long to fit on one page, and one that is too long for any.
        const length = i === 20 ? 1_100_000 : i % 7 === 0 ? 300_000 : 5;
        const [content, answer] = [`question ${i}`, `answer ${i} `.padEnd(length, 'x')];
        await say(id, content, answer);
        said.push(content, answer);
      }
      /** From the end to the beginning, or with `after` from that message to the end. */
      const pages = async (past: string, after?: string) => {
        const read: LunaMessage[][] = [];
        for (let query = after === undefined ? '' : `&after=${after}`; ; ) {
          const { body } = await app.call('ada', 'GET', `${SESSIONS}/${id}?limit=1000${past}${query}`);
          const messages = body.messages as LunaMessage[];
          read.push(messages);
          if (!body.hasMoreMessages) return read;
          query = after === undefined ? `&before=${messages[0]?.id}` : `&after=${messages.at(-1)?.id}`;
        }
      };
      const contents = (messages: LunaMessage[]) => messages.map(({ content }) => content);
      for (const past of ['', `&asOf=${await positionOf('ada')}`]) {
        const backwards = await pages(past);
        expect(contents(backwards.toReversed().flat())).to.deep.equal(said);
        const forwards = await pages(past, backwards.at(-1)?.[0]?.id);
        expect(contents(forwards.flat())).to.deep.equal(said.slice(1));
        for (const one of [...backwards, ...forwards]) {
          if (one.length > 1) expect(contents(one).join('').length).to.be.at.most(1024 * 1024);
        }
      }
    });

    it('refuses to page beside a message that it does not have', async () => {
      const [id, other] = [await create('ada'), await create('ada')];
      await say(other, 'elsewhere', 'indeed');
      const { messages } = (await app.call('ada', 'GET', `${SESSIONS}/${other}`)).body;
      const asOf = `asOf=${await positionOf('ada')}`;
      for (const [field, query] of [
        ['before', 'before=msg_unknown'],
        ['after', `after=${messages[0].id}`],
        ['before', `before=${messages[0].id}&${asOf}`],
        ['before', 'before=a&after=b'],
      ] as const) {
        const { status, body } = await app.call('ada', 'GET', `${SESSIONS}/${id}?${query}`);
        expect(status, query).to.equal(400);
        expect(body.details[0].path).to.deep.equal(['query', field]);
      }
    });

    it('says of each answer who gave it, what was asked for and tried, and what it cost', async () => {
      const id = await create('ada');
      await say(id, 'one', 'two');
      const { messages } = (await app.call('ada', 'GET', `${SESSIONS}/${id}`)).body;
      expect(messages[0]).to.include({ role: 'user', tokensUsed: 0 });
      expect(messages[1]).to.deep.include({
        role: 'assistant',
        model: 'gpt-5',
        provider: 'openai',
        requestedModel: null,
        tokensUsed: 120,
        tried: [{ provider: 'openai', model: 'gpt-5', outcome: 'answered', reason: null }],
      });
      expect(messages[1].metrics.routeInfo).to.deep.equal({
        route: 'pro+tools',
        confidence: 'verified',
        class: 'actionable',
      });
    });

    it('shows a failed answer with its reason', async () => {
      const id = await create('ada');
      const { body } = await app.call('ada', 'POST', `/api/v1/chat/${id}/message`, {
        body: { content: 'hi' },
      });
      const failed = { type: 'TurnFailed', content: '', reason: 'nobody answered', model: null } as const;
      await app.answer(id, body.data.turn_id, { ...failed, provider: null, costUsd: null, durationMs: 0 });
      const { messages } = (await app.call('ada', 'GET', `${SESSIONS}/${id}`)).body;
      expect(messages[1]).to.include({ status: 'failed', content: '', reason: 'nobody answered' });
      expect(messages[1].metrics).to.include({ model: 'none', tokensPerSecond: 0 });
      expect(messages[1].metrics).to.not.have.property('totalCost');
    });

    it('is seen by its owner and by who sees all', async () => {
      const id = await create('ada');
      expect((await app.call('bob', 'GET', `${SESSIONS}/${id}`)).status).to.equal(404);
      for (const name of ['audra', 'root'] as const) {
        expect((await app.call(name, 'GET', `${SESSIONS}/${id}`)).status, name).to.equal(200);
      }
    });
  });

  describe('the past', () => {
    it('is answered from a position or a time, as it was read then', async () => {
      const id = await create('ada', 'Before');
      await say(id, 'one', 'two');
      const list = await app.call('ada', 'GET', SESSIONS);
      const one = await app.call('ada', 'GET', `${SESSIONS}/${id}`);
      const position = one.headers.get('X-Event-Position')!;
      const activity = await app.call('ada', 'GET', '/api/activity');
      const { events } = (await app.call('root', 'GET', '/api/log/events?order=desc&limit=1')).body;
      const time = events[0].time;
      while (Date.now() <= Date.parse(time)) await new Promise(setImmediate);

      await app.call('ada', 'PATCH', `${SESSIONS}/${id}`, { body: { title: 'After', isArchived: true } });
      await say(id, 'three', 'four');
      await create('ada');
      await app.call('ada', 'DELETE', `${SESSIONS}/${id}`);

      const times = [time, time.toLowerCase(), time.replace('Z', '%2B00:00'), time.replace('Z', '+00:00')];
      for (const asOf of [position, ...times]) {
        const then = {
          list: await app.call('ada', 'GET', `${SESSIONS}?asOf=${asOf}`),
          one: await app.call('ada', 'GET', `${SESSIONS}/${id}?asOf=${asOf}`),
          activity: await app.call('ada', 'GET', `/api/activity?asOf=${asOf}`),
        };
        expect(then.list.body, asOf).to.deep.equal(list.body);
        expect(then.one.body, asOf).to.deep.equal(one.body);
        expect(then.activity.body, asOf).to.deep.equal(activity.body);
        for (const reply of Object.values(then)) {
          expect(reply.headers.get('X-Event-Position')).to.equal(position);
        }
        expect((await app.call('bob', 'GET', `${SESSIONS}/${id}?asOf=${asOf}`)).status).to.equal(404);
      }
      expect((await app.call('ada', 'GET', `${SESSIONS}/${id}`)).status).to.equal(404);
    });

    it('begins with nothing', async () => {
      const id = await create('ada');
      expect(await ids('ada', '?asOf=0')).to.deep.equal([]);
      expect(await ids('ada', '?asOf=2000-01-01T00:00:00Z')).to.deep.equal([]);
      expect((await app.call('ada', 'GET', `${SESSIONS}/${id}?asOf=0`)).status).to.equal(404);
    });

    it('ends at the head of the log: beyond it is refused', async () => {
      const head = await app.store.head();
      const { status, body } = await app.call('ada', 'GET', `${SESSIONS}?asOf=${head}9`);
      expect(status).to.equal(400);
      expect(body.details[0].path).to.deep.equal(['query', 'asOf']);
    });
  });

  describe('activity', () => {
    const rows = async (name: Name, query = ''): Promise<LunaActivity[]> =>
      (await app.call(name, 'GET', `/api/activity${query}`)).body.logs;
    const types = async (name: Name, query = '') =>
      (await rows(name, query)).map(({ eventType }) => eventType);

    it('has own rows, newest first, and everybody’s for who sees all', async () => {
      await create('ada');
      await create('bob');
      expect((await rows('ada')).map(({ userId }) => userId)).to.deep.equal(['ada']);
      expect((await rows('audra')).map(({ userId }) => userId)).to.deep.equal(['bob', 'ada']);
      expect((await rows('audra', '?userId=ada')).map(({ userId }) => userId)).to.deep.equal(['ada']);
      expect(await rows('ada', '?userId=bob')).to.deep.equal([]);
    });

    it('is filtered by category and level, now and in the past', async () => {
      const id = await create('ada');
      const stream = `conversation-${id}`;
      await app.append(stream, 'ModelAnswered', answered('t'), 'ada');
      const failed = { turnId: 't', callId: 'a', provider: 'zai', model: 'glm', reason: '500', text: '' };
      await app.append(stream, 'ModelFailed', { ...failed, durationMs: 1 }, 'ada');
      for (const asOf of ['', `&asOf=${await positionOf('ada')}`]) {
        expect(await types('ada', `?category=llm_call${asOf}`)).to.deep.equal([
          'ModelFailed',
          'ModelAnswered',
        ]);
        expect(await types('ada', `?level=error${asOf}`)).to.deep.equal(['ModelFailed']);
        expect(await types('root', `?level=error${asOf}`)).to.deep.equal(['ModelFailed']);
        expect(await types('root', `?category=llm_call&level=success${asOf}`)).to.deep.equal([
          'ModelAnswered',
        ]);
        expect(await types('ada', `?category=irc${asOf}`)).to.deep.equal([]);
      }
    });

    it('is paged by position, both ways, now and in the past', async () => {
      const id = await create('ada');
      for (const title of ['a', 'b', 'c', 'd']) {
        await app.call('ada', 'PATCH', `${SESSIONS}/${id}`, { body: { title } });
      }
      const all = (await rows('ada')).map(({ position }) => position);
      expect(all).to.have.length(5);
      for (const asOf of ['', `&asOf=${await positionOf('ada')}`]) {
        const positions = async (query: string) =>
          (await rows('ada', query + asOf)).map(({ position }) => position);
        expect(await positions('?limit=2')).to.deep.equal(all.slice(0, 2));
        expect(await positions(`?limit=2&before=${all[1]}`)).to.deep.equal(all.slice(2, 4));
        expect(await positions(`?after=${all[2]}`)).to.deep.equal(all.slice(0, 2));
        expect(await positions(`?after=${all[4]}&before=${all[1]}`)).to.deep.equal(all.slice(2, 4));
      }
    });

    it('of a conversation holds its facts, and is for who sees the conversation', async () => {
      const id = await create('ada');
      const other = await create('ada');
      const fact = { category: 'work', key: 'role', value: 'analyst', confidence: 1, turnId: 't' } as const;
      await app.append('fact-f1', 'FactRemembered', { ...fact, factId: 'f1', conversationId: id }, 'ada');
      await app.append('fact-f2', 'FactRemembered', { ...fact, factId: 'f2', conversationId: other }, 'ada');
      await app.call('ada', 'PATCH', `${SESSIONS}/${id}`, { body: { title: 'Facts' } });
      for (const asOf of ['', `?asOf=${await positionOf('ada')}`]) {
        for (const name of ['ada', 'audra'] as const) {
          const { body } = await app.call(name, 'GET', `/api/activity/session/${id}${asOf}`);
          expect(body.logs.map(({ eventType }: LunaActivity) => eventType)).to.deep.equal([
            'ConversationRenamed',
            'FactRemembered',
            'ConversationStarted',
          ]);
        }
        expect((await app.call('bob', 'GET', `/api/activity/session/${id}${asOf}`)).status).to.equal(404);
      }
    });
  });

  describe('facts', () => {
    it('are a bare array of own facts, the one mentioned last first', async () => {
      const fact = { confidence: 0.8, conversationId: null, turnId: null };
      for (const [factId, category, owner] of [
        ['f1', 'work', 'ada'],
        ['f2', 'hobby', 'ada'],
        ['f3', 'work', 'bob'],
      ] as const) {
        const data = { ...fact, factId, category, key: `key ${factId}`, value: `value ${factId}` };
        await app.append(`fact-${factId}`, 'FactRemembered', data, owner);
      }
      const facts = async (query = '') =>
        (await app.call('ada', 'GET', `/api/abilities/facts${query}`)).body.map(
          ({ id }: { id: string }) => id,
        );
      expect(await facts()).to.deep.equal(['f2', 'f1']);
      expect(await facts('?category=work')).to.deep.equal(['f1']);
      expect(await facts('?limit=1&offset=1')).to.deep.equal(['f1']);
      const [one] = (await app.call('ada', 'GET', '/api/abilities/facts?category=hobby')).body;
      expect(one).to.include({
        category: 'hobby',
        factKey: 'key f2',
        factValue: 'value f2',
        mentionCount: 1,
      });
      const { status } = await app.call('ada', 'GET', '/api/abilities/facts?category=gossip');
      expect(status).to.equal(400);
    });
  });

  describe('metrics', () => {
    it("have the machine, and today's models: own ones, or everybody's", async () => {
      await app.append('conversation-a', 'ModelAnswered', answered('t1'), 'ada');
      await app.append('conversation-b', 'ModelAnswered', answered('t2', { costUsd: 0.1 }), 'bob');
      await app.append('conversation-b', 'ModelAnswered', answered('t3', { costUsd: 0.2 }), 'bob');
      const own = (await app.call('ada', 'GET', '/api/settings/metrics')).body;
      expect(own.llm).to.deep.equal({
        inputTokens: 100,
        outputTokens: 20,
        cacheTokens: 10,
        totalTokens: 120,
        estimatedCost: 0.002,
        byModel: { 'openai/gpt-5': { input: 100, output: 20, cache: 10, total: 120, cost: 0.002 } },
        requests: 1,
        errors: 0,
        avgLatencyMs: 1_500,
      });
      expect(own.cpu.percent).to.be.within(0, 100);
      expect(own.memory.total).to.be.greaterThan(0);
      expect(own.disk.percent).to.be.within(0, 100);
      const all = (await app.call('root', 'GET', '/api/settings/metrics')).body;
      expect(all.llm).to.include({ requests: 3, estimatedCost: 0.302 });
      const none = (await app.call('audra', 'GET', '/api/settings/metrics')).body;
      expect(none.llm.requests).to.equal(3);
    });

    it('count nothing for who has not used a model today', async () => {
      const { llm } = (await app.call('ada', 'GET', '/api/settings/metrics')).body;
      expect(llm).to.deep.include({ requests: 0, avgLatencyMs: 0, byModel: {} });
    });
  });
});
