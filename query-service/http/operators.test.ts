import { expect } from 'chai';
import { type ChatApp, serveChat } from '../../test/chat-app.ts';

interface Event {
  readonly id: string;
  readonly type: string;
  readonly position: string;
  readonly revision: number;
  readonly owner: string;
}

describe("the operators' reads", () => {
  let app: ChatApp;
  before(async () => {
    app = await serveChat();
    for (const [index, owner] of ['ada', 'bob', 'ada', 'bob', 'ada'].entries()) {
      await app.append('conversation-c1', 'ConversationRenamed', { title: `title ${index}` }, owner);
      await app.append(`fact-${index}`, 'FactForgotten', { factId: String(index), reason: 'test' }, owner);
    }
  });
  after(async () => {
    await app.close();
    expect(app.logged, 'what was logged').to.deep.equal([]);
  });

  const events = async (query: string): Promise<Event[]> =>
    (await app.call('audra', 'GET', `/api/log/events?${query}`)).body.events;
  const positions = async (query: string) => (await events(query)).map((event) => event.position);

  /** Every page, by `next`, while other events come in. */
  async function pages(query: string, begin?: string): Promise<string[]> {
    const seen: string[] = [];
    let next: string | null = begin ?? null;
    do {
      const from: string = next === null ? '' : `&from=${next}`;
      const { body } = await app.call('audra', 'GET', `/api/log/events?${query}${from}`);
      seen.push(...body.events.map((event: Event) => event.position));
      next = body.next;
      await app.append('session-other', 'SessionEnded', { reason: 'logout' }, 'eve');
    } while (next !== null);
    return seen;
  }

  it('give the log in its order', async () => {
    const { status, body } = await app.call('audra', 'GET', '/api/log/events?limit=10');
    expect(status).to.equal(200);
    expect(body.events).to.have.length(10);
    expect(body.events[0]).to.deep.include({
      type: 'ConversationRenamed',
      stream: 'conversation-c1',
      revision: 0,
    });
    expect(await positions('limit=10&order=desc')).to.have.length(10);
  });

  for (const limit of [1, 2, 3, 4, 5, 6]) {
    it(`lose and repeat nothing when paged by ${limit}, in both orders, with filters`, async () => {
      const all = await positions('stream=conversation-c1');
      expect(all).to.have.length(5);
      expect(await pages(`stream=conversation-c1&limit=${limit}`)).to.deep.equal(all);
      expect(await pages(`stream=conversation-c1&limit=${limit}&order=desc`)).to.deep.equal(all.toReversed());
      const inner = `stream=conversation-c1&limit=${limit}&to=${all[3]}&order=desc`;
      expect(await pages(inner, all[0])).to.deep.equal(all.slice(1, 4).reverse());
    });
  }

  it('filter by type (repeated or with commas), owner and correlation', async () => {
    const types = async (query: string) => new Set((await events(query)).map((event) => event.type));
    expect(await types('type=FactForgotten')).to.deep.equal(new Set(['FactForgotten']));
    const both = new Set(['FactForgotten', 'ConversationRenamed']);
    expect(await types('type=FactForgotten,ConversationRenamed')).to.deep.equal(both);
    expect(await types('type=FactForgotten&type=ConversationRenamed')).to.deep.equal(both);
    expect(new Set((await events('owner=bob')).map((event) => event.owner))).to.deep.equal(new Set(['bob']));
    const [one] = (await events('limit=1')) as [Event & { correlationId: string }];
    expect(await events(`correlationId=${one.correlationId}`)).to.deep.equal([one]);
  });

  it('keep to the positions asked for: after `from`, up to `to`', async () => {
    const all = await positions('limit=10');
    expect(await positions(`from=${all[2]}&to=${all[5]}`)).to.deep.equal(all.slice(3, 6));
    expect(await positions(`from=${all[2]}&to=${all[5]}&order=desc`)).to.deep.equal(
      all.slice(3, 6).reverse(),
    );
    expect(await positions('from=99999')).to.deep.equal([]);
  });

  it('refuse what they do not know, by name', async () => {
    for (const [field, query] of [
      ['type', 'type=NoSuchEvent'],
      ['from', 'from=-1'],
      ['from', 'from=1..x'],
      ['limit', 'limit=1001'],
      ['order', 'order=up'],
    ] as const) {
      const { status, body } = await app.call('audra', 'GET', `/api/log/events?${query}`);
      expect(status, query).to.equal(400);
      expect(body.details[0].path).to.deep.equal(
        ['query', field].concat(field === 'type' ? ([0] as never) : []),
      );
    }
    expect((await app.call('audra', 'GET', '/api/log/events?typ=x')).status).to.equal(400);
  });

  it('give one stream, forwards and backwards, by pages', async () => {
    const path = '/api/log/streams/conversation-c1';
    const read = async (query: string) => {
      const { body } = await app.call('audra', 'GET', `${path}?${query}`);
      return [body.events.map((event: Event) => event.revision), body.next];
    };
    expect(await read('limit=3')).to.deep.equal([[0, 1, 2], 3]);
    expect(await read('limit=3&from=3')).to.deep.equal([[3, 4], null]);
    expect(await read('limit=3&order=desc')).to.deep.equal([[4, 3, 2], 1]);
    expect(await read('limit=3&order=desc&from=1')).to.deep.equal([[1, 0], null]);
    expect(await read('from=99')).to.deep.equal([[], null]);
  });

  it('say 404 for a stream or a projection that there is not', async () => {
    expect((await app.call('audra', 'GET', '/api/log/streams/conversation-none')).status).to.equal(404);
    expect((await app.call('audra', 'GET', '/api/projections/none/failures')).status).to.equal(404);
  });

  it('say where the projections stand, and what they set aside', async () => {
    const { projections } = (await app.call('audra', 'GET', '/api/projections')).body;
    expect(projections.map(({ name }: { name: string }) => name)).to.include.members([
      'conversations',
      'messages',
      'turns',
      'activity',
      'facts',
      'usage',
      'users',
      'sessions',
      'api-keys',
    ]);
    for (const one of projections)
      expect(one, one.name).to.include({ complete: true, failed: 0, waiting: 0 });
    const { body } = await app.call('audra', 'GET', '/api/projections/usage/failures');
    expect(body).to.deep.equal({ failures: [] });
  });

  it('are not for users', async () => {
    for (const path of [
      '/api/log/events',
      '/api/log/streams/conversation-c1',
      '/api/projections',
      '/api/projections/usage/failures',
    ]) {
      expect((await app.call('ada', 'GET', path)).status, path).to.equal(403);
    }
  });
});
