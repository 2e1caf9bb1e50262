/** What is read for an answer: a level takes one read, however many objects it has. */
import { expect } from 'chai';
import type { Caller } from '../../contracts/caller.ts';
import { getGraphql, postGraphql } from '../../contracts/http/graphql.ts';
import { rolePermissions } from '../../contracts/http/route.ts';
import type { Query, ReadModels } from '../../infra/read-models/port.ts';
import { createGraphql, type GraphqlOptions } from './server.ts';

const CONVERSATIONS = 30;
const LONG = 200;

const caller = (userId: string): Caller => ({
  ...{ userId, email: `${userId}@example.org`, displayName: userId, role: 'user' },
  actor: { kind: 'user', id: userId },
  ...{ permissions: new Set(rolePermissions.user), sessionId: userId, expiresAtMs: null },
});

/** Conversations with two messages each, but for the first, which is long; and what was read. */
function fixture() {
  const reads: string[] = [];
  const idOf = (i: number) => `${i}`.padStart(12, '0');
  const lengthOf = (i: number) => (i === 0 ? LONG : 2);
  const conversation = (i: number) => ({
    ...{
      id: idOf(i),
      owner: 'ada',
      title: null,
      mode: 'assistant',
      model: null,
      surface: 'luna',
      status: 'active',
    },
    ...{
      archived: false,
      kind: 'chat',
      agentId: null,
      agentName: null,
      linkId: null,
      messageCount: lengthOf(i),
    },
    ...{ createdAt: '2026-01-01T00:00:00.000Z', updatedAt: '2026-01-01T00:00:00.000Z' },
  });
  const messagesOf = (i: number) =>
    Array.from({ length: lengthOf(i) }, (_, revision) => ({
      ...{
        id: `${i}-${revision}`,
        conversationId: idOf(i),
        owner: 'ada',
        revision,
        turnId: 't',
        role: 'user',
      },
      ...{ content: `${revision}`, status: 'complete', reason: null, createdAt: '', answer: null },
    }));
  const stored = (body: object) => ({ id: 'id', position: '1', body: body as never });
  const readModels: ReadModels = {
    async get(collection) {
      reads.push(`get ${collection}`);
      return null;
    },
    async find(collection, { where = {}, limit }: Query) {
      reads.push(`find ${collection}`);
      if (collection === 'conversations') {
        return {
          documents: Array.from({ length: CONVERSATIONS }, (_, i) => stored(conversation(i))),
          next: null,
        };
      }
      const wanted = [where.conversationId].flat();
      const found = Array.from({ length: CONVERSATIONS }, (_, i) => i)
        .filter((i) => wanted.includes(idOf(i)))
        .flatMap(messagesOf)
        .sort((a, b) => b.revision - a.revision)
        .slice(0, limit);
      return { documents: found.map(stored), next: null };
    },
    async count() {
      reads.push('count');
      return 0;
    },
  };
  const nothing = {} as never;
  const refused: string[] = [];
  const options = {
    ...{ readModels, commands: nothing, agents: nothing, hub: nothing, progress: nothing, search: null },
    ...{ logins: nothing, resume: nothing, settled: nothing, limit: async () => {}, answerId: nothing },
    ...{ metrics: nothing, defaultModel: 'builtin/assistant', answerTimeoutMs: 1, authenticator: nothing },
    logger: { error: (_: object, message: string) => refused.push(message) } as never,
    describe: (error: unknown) => ({ message: String(error), extensions: { code: 'INTERNAL' } }),
    ...{ refuseForeign: () => {}, addressOf: () => '::1', pingMs: 1_000 },
  } satisfies GraphqlOptions;
  const { endpoints } = createGraphql(options);
  async function ask(query: string, variables: object = {}) {
    const context = {
      ...{ caller: caller('ada'), address: '::1', correlationId: 'c', headers: {} },
      signal: new AbortController().signal,
    };
    const { handle } = endpoints.find(({ contract }) => contract === postGraphql)!;
    const answer = await handle({ params: {}, query: {}, body: { query, variables }, context } as never);
    let text = '';
    const to = {
      writeHead: () => to,
      end(written: string) {
        text = written;
      },
    };
    if ('stream' in answer) await answer.stream(to as never, nothing);
    return JSON.parse(text);
  }
  return { reads, ask, endpoints, refused };
}

describe('what an answer of GraphQL reads', () => {
  it('is one read for the conversations, and one for the messages of all that are short', async () => {
    const { reads, ask, refused } = fixture();
    const { data, errors } = await ask(
      '{ conversations(limit: 30) { id title messages { id content } again: messages { id } } }',
    );
    expect(errors).to.equal(undefined);
    expect(data.conversations).to.have.length(CONVERSATIONS);
    expect(data.conversations[7].messages.map(({ content }: { content: string }) => content)).to.deep.equal([
      '0',
      '1',
    ]);
    // The end of the long one, oldest first.
    const long = data.conversations[0].messages.map(({ content }: { content: string }) => Number(content));
    expect(long).to.deep.equal(Array.from({ length: 50 }, (_, i) => LONG - 50 + i));
    expect(reads).to.deep.equal(['find conversations', 'find messages', 'find messages']);
    expect(refused).to.deep.equal([]);
  });

  it('is nothing that is not asked for', async () => {
    const { reads, ask } = fixture();
    await ask('{ conversations { id messageCount } }');
    expect(reads).to.deep.equal(['find conversations']);
    await ask('{ __typename }');
    expect(reads).to.have.length(1);
  });

  it('is at both routes', () => {
    expect(fixture().endpoints.map(({ contract }) => contract)).to.deep.equal([postGraphql, getGraphql]);
  });
});

describe('a variable that holds something else than the schema says', () => {
  const SEND = 'mutation M($input: MessageInput!) { sendMessage(input: $input) { id } }';

  it('is refused with a code, and names the field', async () => {
    const { ask, refused } = fixture();
    for (const input of [{}, { content: 5 }, { content: 'x', bogus: 1 }]) {
      const { errors } = await ask(SEND, { input });
      expect(errors[0].extensions.code).to.equal('BAD_USER_INPUT');
      expect(errors[0].message).to.match('bogus' in input ? /bogus/ : /content/);
    }
    expect(refused).to.deep.equal([]);
  });
});
