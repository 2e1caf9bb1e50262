/** Agent Chat's GraphQL and Socket.IO on the whole program, with real clients; and both past a kill in mid-answer. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { EventSource } from 'eventsource';
import { createParser } from 'eventsource-parser';
import { createClient, type Client as GraphqlClient } from 'graphql-ws';
import { io, type Socket } from 'socket.io-client';
import { WebSocket } from 'ws';
import { ADMIN, type Client, condition, login, type Program, startProgram } from './program.ts';

/** The documents of seeds/agent-chat.txt, as they are. */
const seed = {
  conversations: `query GetConversations {
  conversations(limit: 10, offset: 0) {
    id
    title
    createdAt
    updatedAt
    messageCount
    messages {
      id
      role
      content
      model
      timestamp
      usage {
        promptTokens
        completionTokens
        totalTokens
      }
    }
  }
}`,
  search: `query SearchConversations($query: String!) {
  searchConversations(query: $query) {
    id
    title
    relevanceScore
    messages {
      id
      content
      timestamp
    }
  }
}`,
  health: `query AgentHealth($agentId: ID!) {
  agentHealth(agentId: $agentId) {
    status
    uptime
    requestCount
    errorRate
    metrics {
      latency
      throughput
      tokenUsage
    }
  }
}`,
  send: `mutation SendMessage($input: MessageInput!) {
  sendMessage(input: $input) {
    id
    content
    model
    timestamp
    usage {
      promptTokens
      completionTokens
      totalTokens
    }
  }
}`,
  create: `mutation CreateConversation($title: String, $model: String) {
  createConversation(title: $title, model: $model) {
    id
    title
    createdAt
    model
  }
}`,
  messageStream: `subscription MessageStream($conversationId: ID!) {
  messageStream(conversationId: $conversationId) {
    id
    token
    finished
    model
  }
}`,
  agentProgress: `subscription AgentProgress($agentId: ID!) {
  agentProgress(agentId: $agentId) {
    agentId
    taskId
    progress
    status
    message
  }
}`,
};

const WITHIN = { withinMs: 15_000 };
const PASSWORD = 'a password that is long enough';
// biome-ignore lint/suspicious/noExplicitAny: tests look into answers whose shape they assert
type Result = { data?: any; errors?: { message: string; extensions: Record<string, unknown> }[] };

describe("Agent Chat's GraphQL and Socket.IO", function () {
  this.timeout(90_000);
  let dataDir: string;
  let program: Program;
  let admin: Client;
  let ada: Client;
  let bob: Client;
  const open: (() => void)[] = [];
  // Slow enough to be killed in mid-answer.
  const env = { BUILTIN_DELAY_MS: '5', ACCESS_TOKEN_MINUTES: '1440', LOG_LEVEL: 'warn' };

  before(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'odeon-agent-chat-'));
    program = await startProgram({ dataDir, env });
    admin = await login(program.url, ADMIN);
    const user = async (name: string) => {
      const email = `${name}@example.org`;
      await admin.post('/api/users', { email, password: PASSWORD, displayName: name, role: 'user' });
      return login(program.url, { email, password: PASSWORD });
    };
    ada = await user('ada');
    bob = await user('bob');
  });
  afterEach(() => {
    for (const close of open.splice(0)) close();
  });
  after(async () => {
    await program[Symbol.asyncDispose]();
    await rm(dataDir, { recursive: true });
  });

  async function ask(client: Client, query: string, variables: object = {}): Promise<Result> {
    const { status, body } = await client.post('/graphql', { query, variables });
    expect(status, JSON.stringify(body)).to.equal(200);
    return body;
  }
  const begin = async (client = ada): Promise<string> =>
    (await ask(client, seed.create, { title: 'Sums' })).data.createConversation.id;
  const answerTo = async (conversationId: string, content: string, more: object = {}) =>
    (await ask(ada, seed.send, { input: { conversationId, content, ...more } })).data.sendMessage;

  function follow(connectionParams: Record<string, unknown> | undefined, more: object = {}): GraphqlClient {
    const client = createClient({
      url: `${program.url.replace('http', 'ws')}/graphql`,
      webSocketImpl: WebSocket,
      ...(connectionParams && { connectionParams }),
      retryAttempts: 0,
      ...more,
    });
    open.push(() => void client.dispose());
    return client;
  }
  /** What a subscription has given so far. */
  function collect(client: GraphqlClient, query: string, variables: Record<string, unknown>) {
    const seen: Result[] = [];
    const state = { seen, failed: null as unknown, ended: false };
    const stop = client.subscribe<Result['data']>(
      { query, variables },
      {
        next: (result) => seen.push(result as Result),
        error: (error) => {
          state.failed = error;
        },
        complete: () => {
          state.ended = true;
        },
      },
    );
    return {
      ...state,
      state,
      stop,
      of: (field: string) => seen.map(({ data }) => data?.[field]).filter(Boolean),
    };
  }
  const subscribers = async (feed: string): Promise<number> => {
    const { body } = await admin.get('/metrics');
    return Number(new RegExp(`odeon_live_clients\\{feed="${feed}"\\} (\\d+)`).exec(body)?.[1] ?? 0);
  };
  const feedsAre = (feed: string, number: number) =>
    condition(async () => (await subscribers(feed)) === number, { ...WITHIN, what: `${number} ${feed}` });
  const textOf = (chunks: { token: string; restarted?: boolean }[]): string =>
    chunks.reduce((text, { token, restarted }) => (restarted ? '' : text + token), '');

  // ── GraphQL ─────────────────────────────────────────────────────────────
  it('answers the queries and mutations of the document as they are', async () => {
    const id = await begin();
    const answer = await answerTo(id, 'What is 2+2?', { model: null, stream: false });
    expect(answer.content).to.include('4');
    expect(answer.usage.totalTokens).to.equal(answer.usage.promptTokens + answer.usage.completionTokens);
    const [first] = (await ask(ada, seed.conversations)).data.conversations;
    expect(first).to.include({ id, title: 'Sums', messageCount: 2 });
    expect(
      first.messages.map(({ role, content }: { role: string; content: string }) => [role, content]),
    ).to.deep.equal([
      ['user', 'What is 2+2?'],
      ['assistant', answer.content],
    ]);
    expect(first.messages[1]).to.deep.include({ id: answer.id, usage: answer.usage, model: answer.model });
    const found = (await ask(ada, seed.search, { query: 'What is 2+2?' })).data.searchConversations;
    expect(found[0].id).to.equal(id);
    expect(found[0].relevanceScore).to.be.above(0.5);
    expect(found[0].messages.map((message: { content: string }) => message.content)).to.include(
      'What is 2+2?',
    );
    const { agentHealth } = (await ask(ada, seed.health, { agentId: 'researcher' })).data;
    expect(agentHealth).to.deep.include({ status: 'healthy', requestCount: 0, errorRate: 0 });
    // The same conversation, elsewhere.
    const { body } = await ada.get(`/api/conversations/${id}`);
    expect(body.messages[1].content).to.equal(answer.content);
  });

  it('streams an answer, from where sendMessage said that it begins', async () => {
    const id = await begin();
    const sent = `mutation ($input: MessageInput!) { sendMessage(input: $input) { id content status seq } }`;
    const input = { conversationId: id, content: 'What is 12 * 12?', stream: true };
    const { sendMessage } = (await ask(ada, sent, { input })).data;
    expect(sendMessage).to.include({ content: '', status: 'running' });
    await condition(
      async () => (await ada.get(`/api/conversations/${id}`)).body.messages.length === 2,
      WITHIN,
    );
    const stream = `subscription ($id: ID!, $lastSeq: String) { messageStream(conversationId: $id, lastSeq: $lastSeq) { id token finished seq status } }`;
    const { of } = collect(follow({ authToken: ada.token }), stream, { id, lastSeq: sendMessage.seq });
    await condition(() => of('messageStream').at(-1)?.finished, WITHIN);
    expect(textOf(of('messageStream'))).to.include('144');
    expect(new Set(of('messageStream').map((chunk) => chunk.id))).to.deep.equal(new Set([sendMessage.id]));
    // From any chunk one gets the rest.
    const [first] = of('messageStream');
    const rest = collect(follow({ authToken: ada.token }), stream, { id, lastSeq: first.seq });
    await condition(() => rest.of('messageStream').at(-1)?.finished, WITHIN);
    expect(rest.of('messageStream').map(({ seq }) => seq)).to.not.include(first.seq);
    expect(first.token + textOf(rest.of('messageStream'))).to.equal(textOf(of('messageStream')));
  });

  it('does a message with an id once', async () => {
    const conversationId = await begin();
    const input = { content: 'What is 3+3?', id: 'mine' };
    const first = await answerTo(conversationId, input.content, input);
    const again = await answerTo(conversationId, input.content, input);
    expect(again.id).to.equal(first.id);
    expect((await ada.get(`/api/conversations/${conversationId}`)).body.message_count).to.equal(2);
  });

  it('renames, interrupts and deletes', async () => {
    const id = await begin();
    const renamed = await ask(ada, `mutation { renameConversation(id: "${id}", title: "Tides") { title } }`);
    expect(renamed.data.renameConversation.title).to.equal('Tides');
    expect((await ask(ada, `mutation { interrupt(conversationId: "${id}") }`)).data.interrupt).to.equal(
      false,
    );
    expect((await ask(ada, `mutation { deleteConversation(id: "${id}") }`)).data.deleteConversation).to.equal(
      true,
    );
    expect((await ask(ada, `{ conversation(id: "${id}") { id } }`)).data.conversation).to.equal(null);
  });

  it("shows nobody another's conversations", async () => {
    const id = await begin();
    await answerTo(id, 'A secret of mine');
    expect((await ask(bob, `{ conversation(id: "${id}") { id } }`)).data.conversation).to.equal(null);
    const list = JSON.stringify(await ask(bob, seed.conversations));
    expect(list).to.not.include(id);
    expect(
      (await ask(bob, seed.search, { query: 'A secret of mine' })).data.searchConversations,
    ).to.deep.equal([]);
    const codes: unknown[] = [];
    for (const mutation of [
      `sendMessage(input: {conversationId: "${id}", content: "Hi"}) { id }`,
      `renameConversation(id: "${id}", title: "Mine") { id }`,
      `deleteConversation(id: "${id}")`,
      `interrupt(conversationId: "${id}")`,
    ]) {
      codes.push((await ask(bob, `mutation { ${mutation} }`)).errors?.[0]?.extensions.code);
    }
    expect(new Set(codes)).to.deep.equal(new Set(['NOT_FOUND']));
    const { seen } = collect(follow({ token: bob.token }), seed.messageStream, { conversationId: id });
    await condition(() => seen.length > 0, WITHIN);
    expect(seen[0]!.errors?.[0]?.extensions.code).to.equal('NOT_FOUND');
    const see = await ask(admin, `{ conversation(id: "${id}") { id } }`);
    expect(see.data.conversation.id).to.equal(id);
  });

  it('gives errors codes', async () => {
    const code = async (query: string) => (await ask(ada, query)).errors?.[0]?.extensions.code;
    expect(await code('{ nothing }')).to.equal('GRAPHQL_VALIDATION_FAILED');
    expect(await code('{ ')).to.equal('GRAPHQL_PARSE_FAILED');
    expect(await code('{ conversations(limit: 0) { id } }')).to.equal('VALIDATION_ERROR');
    expect(await code('mutation { sendMessage(input: {content: " "}) { id } }')).to.equal('VALIDATION_ERROR');
    expect(await code('{ agentHealth(agentId: "nobody") { status } }')).to.equal('NOT_FOUND');
    const unauthenticated = await fetch(`${program.url}/graphql`, {
      method: 'POST',
      body: '{"query":"{__typename}"}',
    });
    expect(unauthenticated.status).to.equal(401);
    expect(((await unauthenticated.json()) as Result).errors?.[0]?.extensions.code).to.equal(
      'UNAUTHENTICATED',
    );
    const { body: key } = await ada.post('/api/api-keys', { name: 'reads', permissions: ['chat:read'] });
    const post = (body: string, headers: Record<string, string> = {}) =>
      fetch(`${program.url}/graphql`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', 'X-API-Key': key.key, ...headers },
        body,
      });
    const written = await post(JSON.stringify({ query: seed.create }));
    expect(((await written.json()) as Result).errors?.[0]?.extensions.code).to.equal('FORBIDDEN');
    const refused: [string, number, Record<string, string>?][] = [
      ['[{"query":"{__typename}"}]', 400],
      ['{"query":7}', 400],
      ['{', 400],
      [JSON.stringify({ query: `{ __typename ${'#'.repeat(30_000)} }` }), 400],
      [JSON.stringify({ query: `{ conversation(id: 1) { ${'id '.repeat(3_000)} } }` }), 200],
      [JSON.stringify({ query: '{ conversations(limit: 100) { messages(limit: 100) { id } } }' }), 400],
      [
        '{"query":"{__typename}"}',
        403,
        { 'X-API-Key': '', Cookie: `session=${ada.token}`, Origin: 'https://evil.example' },
      ],
    ];
    for (const [body, status, headers] of refused) {
      const sent =
        headers?.Cookie === undefined ? headers : { Cookie: headers.Cookie, Origin: headers.Origin! };
      const response =
        headers?.Cookie === undefined
          ? await post(body, sent)
          : await fetch(`${program.url}/graphql`, {
              method: 'POST',
              headers: { 'Content-Type': 'application/json', ...sent },
              body,
            });
      expect(response.status, body.slice(0, 80)).to.equal(status);
      const { errors } = (await response.json()) as Result;
      expect(errors?.[0]?.extensions.code, body.slice(0, 80)).to.be.a('string');
    }
  });

  it('serves GraphiQL as a page that loads nothing, and the schema to who is logged in', async () => {
    const page = await fetch(`${program.url}/graphql`, { headers: { Accept: 'text/html' } });
    expect(page.status).to.equal(200);
    expect(page.headers.get('content-security-policy')).to.match(/default-src 'none'; script-src 'sha256-/);
    expect(await page.text()).to.not.match(/<(script|link|img)[^>]+(src|href)="?https?:/);
    const again = await fetch(`${program.url}/graphql`, {
      headers: { Accept: 'text/html', 'If-None-Match': page.headers.get('etag')! },
    });
    expect(again.status).to.equal(304);
    const schema = await ask(
      ada,
      '{ __schema { queryType { name } types { name fields { name type { name ofType { name } } } } } }',
    );
    expect(schema.data.__schema.queryType.name).to.equal('Query');
    const anonymous = await fetch(`${program.url}/graphql?query={__schema{queryType{name}}}`);
    expect(anonymous.status).to.equal(401);
  });

  it('lets in over WebSocket under any name of the credential, and by header and cookie, and nobody else', async () => {
    const { body: key } = await ada.post('/api/api-keys', {
      name: 'for graphql',
      permissions: ['chat:read'],
    });
    const ways: [Record<string, unknown> | undefined, Record<string, string>?][] = [
      [{ Authorization: `Bearer ${ada.token}` }],
      [{ authToken: ada.token }],
      [{ token: ada.token }],
      [{ apiKey: key.key }],
      [undefined, { Authorization: `Bearer ${ada.token}` }],
      [undefined, { 'X-API-Key': key.key }],
      [undefined, { Cookie: `session=${ada.token}` }],
    ];
    const withHeaders = (headers: Record<string, string>) => ({
      webSocketImpl: class extends WebSocket {
        constructor(url: string, protocol: string) {
          super(url, protocol, { headers });
        }
      },
    });
    for (const [params, headers] of ways) {
      const { seen } = collect(
        follow(params, headers && withHeaders(headers)),
        '{ conversations { id } }',
        {},
      );
      await condition(() => seen.length > 0, WITHIN);
      expect(seen[0]!.data.conversations).to.be.an('array');
    }
    for (const [params, headers, code] of [
      [undefined, {}, 4401],
      [{ token: 'wrong' }, {}, 4401],
      [{ token: 7 }, {}, 4401],
      [undefined, { Cookie: `session=${ada.token}`, Origin: 'https://evil.example' }, 4403],
    ] as const) {
      const refused = collect(follow(params, withHeaders(headers)), '{ conversations { id } }', {});
      await condition(() => refused.state.failed, WITHIN);
      expect(refused.state.failed).to.have.property('code', code);
    }
    // Limits hold there, too.
    const deep = collect(
      follow({ token: ada.token }),
      '{ conversations(limit: 100) { messages(limit: 100) { id } } }',
      {},
    );
    await condition(() => deep.seen.length > 0 || deep.state.failed, WITHIN);
    expect(JSON.stringify([deep.seen, deep.state.failed])).to.include('QUERY_TOO_COMPLEX');
    // A key that is taken back ends its connection, or the next operation on it.
    const client = follow({ apiKey: key.key }, { lazy: false, onNonLazyError: () => {} });
    const stream = collect(client, seed.messageStream, { conversationId: await begin() });
    await feedsAre('graphql', 1);
    await ada.request('DELETE', `/api/api-keys/${key.id}`);
    const next = collect(client, '{ conversations { id } }', {});
    await condition(() => next.state.failed ?? next.seen.at(-1)?.errors, WITHIN);
    await feedsAre('graphql', 0);
    expect(stream.state.failed ?? stream.seen.at(-1)?.errors).to.not.equal(undefined);
  });

  it('streams over server-sent events, and stops when the client goes', async () => {
    const id = await begin();
    const leave = new AbortController();
    const response = await fetch(`${program.url}/graphql`, {
      method: 'POST',
      headers: {
        Authorization: `Bearer ${ada.token}`,
        'Content-Type': 'application/json',
        Accept: 'text/event-stream',
      },
      body: JSON.stringify({ query: seed.messageStream, variables: { conversationId: id } }),
      signal: leave.signal,
    });
    expect(response.headers.get('content-type')).to.include('text/event-stream');
    const chunks: { token: string; finished: boolean }[] = [];
    const parser = createParser({
      onEvent: ({ event, data }) => {
        if (event === 'next') chunks.push(JSON.parse(data).data.messageStream);
      },
    });
    const reading = (async () => {
      for await (const bytes of response.body!.pipeThrough(new TextDecoderStream())) parser.feed(bytes);
    })().catch(() => {});

    const url = new URL('/graphql', program.url);
    url.searchParams.set('query', seed.messageStream);
    url.searchParams.set('variables', JSON.stringify({ conversationId: id }));
    const seen: string[] = [];
    const source = new EventSource(url, {
      fetch: (input, init) =>
        fetch(input, { ...init, headers: { ...init.headers, Authorization: `Bearer ${ada.token}` } }),
    });
    open.push(() => source.close());
    source.addEventListener('next', ({ data }) => seen.push(data));
    await feedsAre('graphql', 2);
    await answerTo(id, 'What is 5*5?');
    await condition(() => chunks.at(-1)?.finished && seen.at(-1)?.includes('"finished":true'), WITHIN);
    expect(textOf(chunks)).to.include('25');
    leave.abort();
    await reading;
    source.close();
    await feedsAre('graphql', 0);
  });

  it('shows the progress of an agent', async () => {
    const { of } = collect(follow({ token: ada.token }), seed.agentProgress, { agentId: 'researcher' });
    const strangers = collect(follow({ token: bob.token }), seed.agentProgress, { agentId: 'researcher' });
    await feedsAre('graphql', 2);
    await answerTo(await begin(), 'What is 6*7?', { model: 'agent:researcher' });
    await condition(() => of('agentProgress').at(-1)?.progress === 1, WITHIN);
    const seen = of('agentProgress');
    expect(seen[0]).to.include({ agentId: 'researcher', status: 'queued', progress: 0 });
    expect(seen.at(-1)).to.include({ status: 'completed' });
    expect(strangers.of('agentProgress')).to.deep.equal([]);
    const { agentHealth } = (await ask(ada, seed.health, { agentId: 'researcher' })).data;
    expect(agentHealth).to.include({ requestCount: 1, errorRate: 0, status: 'healthy' });
    expect(agentHealth.metrics.latency).to.be.above(0);
    expect(agentHealth.metrics.tokenUsage).to.be.above(0);
    const { executions } = (
      await ask(ada, '{ executions(agentId: "researcher") { id agentName status response } }')
    ).data;
    expect(executions).to.have.length(1);
    expect(executions[0]).to.deep.include({
      id: seen[0].taskId,
      agentName: 'researcher',
      status: 'completed',
    });
    expect(executions[0].response).to.include('42');
    expect((await ask(bob, '{ executions { id } }')).data.executions).to.deep.equal([]);
  });

  // ── both, past a kill ───────────────────────────────────────────────────
  it('goes on past a kill in mid-answer, without gap or repeat', async () => {
    const question = 'Hello, what can you do?';
    const id = await begin();
    const stream = `subscription ($id: ID!, $lastSeq: String) { messageStream(conversationId: $id, lastSeq: $lastSeq) { token finished seq restarted } }`;
    const chunks: { token: string; finished: boolean; seq: string; restarted?: boolean }[] = [];
    const responses: { token: string; finished: boolean; seq: string; restarted?: boolean }[] = [];
    const isDone = () => chunks.at(-1)?.finished === true && responses.at(-1)?.finished === true;

    async function connect(): Promise<Socket> {
      const { of } = collect(follow({ token: ada.token }), stream, {
        id,
        lastSeq: chunks.at(-1)?.seq ?? null,
      });
      const socket = io(program.url, {
        auth: { token: ada.token, lastSeq: responses.at(-1)?.seq },
        transports: ['websocket'],
        forceNew: true,
        reconnection: false,
      });
      socket.on('chat_response', (response) => responses.push(response));
      const known = chunks.length;
      const timer = setInterval(
        () => chunks.splice(known, Number.POSITIVE_INFINITY, ...of('messageStream')),
        2,
      );
      open.push(() => {
        clearInterval(timer);
        chunks.splice(known, Number.POSITIVE_INFINITY, ...of('messageStream'));
        socket.disconnect();
      });
      await condition(() => socket.connected, WITHIN);
      return socket;
    }

    let socket = await connect();
    await feedsAre('graphql', 1);
    const ack = await socket.emitWithAck('chat_message', {
      conversation_id: id,
      message: question,
      id: 'the question',
    });
    expect(ack).to.include({ ok: true, conversation_id: id });
    await condition(() => chunks.length > 3 && responses.length > 3, WITHIN);
    expect(isDone()).to.equal(false);
    await program.kill('SIGKILL');
    for (const close of open.splice(0)) close();
    program = await startProgram({ dataDir, env });
    socket = await connect();
    // It had not got its acknowledgement, for all it knew.
    const again = await socket.emitWithAck('chat_message', {
      conversation_id: id,
      message: question,
      id: 'the question',
    });
    expect(again).to.include({ ok: true, message_id: ack.message_id, turn_id: ack.turn_id });
    await condition(isDone, WITHIN);
    const { body } = await ada.get(`/api/conversations/${id}`).catch(() => ({ body: null }));
    const { messages } =
      body ??
      (await (
        await fetch(`${program.url}/api/conversations/${id}`, {
          headers: { Authorization: `Bearer ${ada.token}` },
        })
      ).json());
    expect(messages).to.have.length(2);
    expect(textOf(chunks)).to.equal(messages[1].content);
    expect(textOf(responses)).to.equal(messages[1].content);
  });
});
