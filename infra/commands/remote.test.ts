import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  request,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { createAgents } from '../../command-service/agents.ts';
import { createCommandBus } from '../../command-service/bus.ts';
import { createChatCommands, metaOf } from '../../command-service/chat.ts';
import { startConversation } from '../../command-service/domain/conversation.ts';
import { internalCommandEndpoints } from '../../command-service/http/internal.ts';
import type { ChatCommands, Issuer } from '../../contracts/commands/conversation.ts';
import type { EventEnvelope } from '../../contracts/envelope.ts';
import { Refusal } from '../../contracts/errors.ts';
import type { ClientPrompt, Run } from '../../contracts/events/conversation.ts';
import type { ConversationDocument } from '../../contracts/read-models/documents.ts';
import { createServiceTokens } from '../auth/service-tokens.ts';
import { createInProcessSignalBus } from '../bus/in-process.ts';
import { StoreUnavailable } from '../event-store/port.ts';
import { openSqliteEventStore } from '../event-store/sqlite.ts';
import { withCatalogue } from '../event-store/with-catalogue.ts';
import { caller, type Fixture, serveFixture } from '../http/fixture.ts';
import type { ReadModels } from '../read-models/port.ts';
import { createRemoteChatCommands } from './remote.ts';

const tokens = createServiceTokens({ secret: Buffer.alloc(32, 1) });
const logged: string[] = [];
const logger = { warn: (_fields: object, text?: string) => void logged.push(text ?? '') };

const issuer = (changes: Partial<Issuer> = {}): Issuer => ({
  caller: { ...caller('ada', new Set(['chat:read', 'chat:write'])), sessionId: 's1', expiresAtMs: 17 },
  commandId: randomUUID(),
  correlationId: randomUUID(),
  surface: 'zerg',
  retried: false,
  ...changes,
});
const message = {
  conversationId: '0123456789ab',
  content: 'hello \ud83d\ude00 \u0000',
  model: null,
  instructions: null,
  run: null,
  prompt: null,
};
const beginning = {
  title: 'Plans',
  mode: 'build',
  model: 'nano',
  kind: 'chat',
  agent: { id: 'a1', name: 'scout' },
  linkId: null,
} as const;
const begun: ConversationDocument = {
  ...{ id: '0123456789ab', owner: 'ada', title: 'Plans', mode: 'build', model: 'nano', surface: 'zerg' },
  ...{ status: 'active', archived: false, kind: 'chat', agentId: 'a1', agentName: 'scout', linkId: null },
  ...{ usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 }, costUsd: 0, contextTokens: 0 },
  ...{ answeredBy: null, lastMessageAt: null, messageCount: 0 },
  ...{ createdAt: '2026-03-01T10:00:00.000Z', updatedAt: '2026-03-01T10:00:00.000Z' },
};
const run: Run = {
  agent: { id: 'a1', name: 'scout' },
  trigger: 'manual',
  parent: null,
  orchestrationId: null,
  tools: ['calculate'],
  budget: { tokens: 1_000, cost: null, turns: 4 },
  timeoutMs: 60_000,
  maxAttempts: 2,
  concurrency: 1,
};
const prompt: ClientPrompt = {
  system: 'Answer in French.',
  messages: [
    { role: 'user', content: 'hello' },
    {
      role: 'assistant',
      content: '',
      toolRequests: [{ toolCallId: 'k', tool: 'clock', arguments: { zone: 'UTC' } }],
    },
    { role: 'tool', toolCallId: 'k', tool: 'clock', result: { time: '12:00' }, isError: false },
  ],
  afresh: true,
  tools: [{ name: 'clock', description: 'The time.', parameters: { type: 'object' } }],
  toolChoice: { tool: 'clock' },
  settings: {
    ...{ temperature: 0.5, topP: null, maxTokens: 100, stop: ['\n'] },
    ...{ seed: 7, presencePenalty: null, frequencyPenalty: null },
  },
};
const sent = { messageId: 'msg_1', turnId: 'turn_1', position: '17-4', waiting: 2 };

async function refusalOf(command: Promise<unknown>): Promise<Refusal> {
  const error = await command.then(
    () => new Error('it was carried out'),
    (reason: unknown) => reason,
  );
  if (!(error instanceof Refusal)) throw error;
  return error;
}

/** Commands that all do the same. */
const every = (act: () => Promise<never>): ChatCommands => ({
  startConversation: act,
  sendMessage: act,
  interrupt: act,
  renameConversation: act,
  deleteConversation: act,
});
const never = () => Promise.reject(new Error('it was carried out'));

/** A command service whose commands the test stands for. */
async function serve(
  commands: ChatCommands,
  unavailable: () => 'event store' | null = () => null,
): Promise<Fixture> {
  return serveFixture({ services: tokens, unavailable, endpoints: internalCommandEndpoints({ commands }) });
}

/** A server that does with each request what the next of `acts` does. */
async function actingServer(...acts: ((request: IncomingMessage, response: ServerResponse) => void)[]) {
  let seen = 0;
  const listener: RequestListener = (incoming, response) =>
    acts[Math.min(seen++, acts.length - 1)]!(incoming, response);
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen: () => seen,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

const cut = (incoming: IncomingMessage) => incoming.socket.destroy();
const silent = () => undefined;
const answers =
  (status: number, text: string, headers = {}) =>
  (_: IncomingMessage, response: ServerResponse) =>
    void response.writeHead(status, headers).end(text);
/** Carries the request out at `target`, and gives the answer to `then`. */
const passedOn =
  (target: string, then: (answer: string, response: ServerResponse) => void) =>
  (incoming: IncomingMessage, response: ServerResponse) => {
    const { method, headers } = incoming;
    incoming.pipe(
      request(target + incoming.url, { method, headers }, (answer) => {
        let text = '';
        answer.setEncoding('utf8').on('data', (part) => (text += part));
        answer.on('end', () => then(text, response));
      }),
    );
  };

describe('Commands that are passed on to the command service', () => {
  let closing: (() => Promise<unknown>)[];
  beforeEach(() => {
    closing = [];
    logged.length = 0;
  });
  afterEach(async () => {
    for (const close of closing.reverse()) await close();
  });
  const opened = <Opened extends { close(): Promise<unknown> }>(thing: Opened): Opened => {
    closing.push(() => thing.close());
    return thing;
  };
  const remote = (url: string, timeoutMs = 5_000) =>
    createRemoteChatCommands({ url, tokens, logger, timeoutMs });

  it('arrive as they were issued, and answer as they were answered', async () => {
    const arrived: unknown[] = [];
    const service = opened(
      await serve({
        startConversation: async (...command) => {
          arrived.push(command);
          return { conversation: begun, position: '17-3' };
        },
        sendMessage: async (...command) => {
          arrived.push(command);
          return sent;
        },
        interrupt: async (...command) => {
          arrived.push(command);
          return { turnId: null, position: null };
        },
        renameConversation: async (...command) => {
          arrived.push(command);
          return { position: '17-5' };
        },
        deleteConversation: async (...command) => {
          arrived.push(command);
          return { position: '17-6' };
        },
      }),
    );
    const commands = remote(`${service.url}/`);
    const by = issuer();
    expect(await commands.startConversation(beginning, by)).to.deep.equal({
      conversation: begun,
      position: '17-3',
    });
    expect(await commands.sendMessage(message, by)).to.deep.equal(sent);
    const asked = { ...message, instructions: 'Be brief.', run, prompt };
    expect(await commands.sendMessage(asked, by)).to.deep.equal(sent);
    const interrupt = { conversationId: '0123456789ab', turnId: null };
    expect(await commands.interrupt(interrupt, by)).to.deep.equal({ turnId: null, position: null });
    const renaming = { conversationId: '0123456789ab', title: 'Tides' };
    expect(await commands.renameConversation(renaming, by)).to.deep.equal({ position: '17-5' });
    const deletion = { conversationId: '0123456789ab' };
    expect(await commands.deleteConversation(deletion, by)).to.deep.equal({ position: '17-6' });
    expect(arrived).to.deep.equal([
      [beginning, by],
      [message, by],
      [asked, by],
      [interrupt, by],
      [renaming, by],
      [deletion, by],
    ]);
    expect(service.logged.join()).to.include(by.correlationId);
  });

  it('are refused as the command service refuses them', async () => {
    const refusals = [
      new Refusal('NOT_FOUND', 'Session not found.'),
      new Refusal('CONFLICT', 'The conversation has ended.'),
      new Refusal('VALIDATION_ERROR', 'Wrong.', { issues: [{ path: ['content', 3], message: 'is empty' }] }),
      new Refusal('RATE_LIMIT_EXCEEDED', 'Slowly.', {
        retryAfterSeconds: 7.5,
        rateLimit: { limit: 3, windowSeconds: 60 },
      }),
    ];
    for (const refusal of refusals) {
      const service = opened(await serve(every(() => Promise.reject(refusal))));
      for (const command of [
        remote(service.url).startConversation(beginning, issuer()),
        remote(service.url).sendMessage(message, issuer()),
      ]) {
        const got = await refusalOf(command);
        expect({ ...got, message: got.message }).to.deep.equal({ ...refusal, message: refusal.message });
      }
    }
    expect(logged).to.deep.equal([]);
  });

  it('say which engine is away, and when to try again', async () => {
    let calls = 0;
    const fail = async () => {
      calls++;
      throw new StoreUnavailable('mongodb://secret:27017: ECONNREFUSED', { engine: 'read models' });
    };
    const failing = opened(await serve(every(fail)));
    const refusal = await refusalOf(remote(failing.url).sendMessage(message, issuer()));
    expect(refusal).to.include({ code: 'SERVICE_UNAVAILABLE', retryAfterSeconds: 5 });
    expect(refusal.message).to.equal('The read models cannot answer now: try again.');

    const away = opened(await serve(every(fail), () => 'event store'));
    const gate = await refusalOf(remote(away.url).sendMessage(message, issuer()));
    expect(gate.message).to.equal('The event store cannot answer now: try again.');
    expect(calls).to.equal(1);
  });

  it('are refused when nobody is there, after one repeat', async () => {
    const gone = await actingServer(silent);
    await gone.close();
    const refusal = await refusalOf(remote(gone.url).sendMessage(message, issuer()));
    expect(refusal).to.include({ code: 'SERVICE_UNAVAILABLE', retryAfterSeconds: 2 });
    expect(logged).to.have.length(2);
  });

  it('take no longer than their bound when nobody answers', async () => {
    const deaf = opened(await actingServer(silent));
    const startedMs = performance.now();
    const refusal = await refusalOf(remote(deaf.url, 300).sendMessage(message, issuer()));
    expect(refusal.code).to.equal('SERVICE_UNAVAILABLE');
    expect(performance.now() - startedMs).to.be.within(280, 3_000);
    expect(deaf.seen()).to.equal(2);
  });

  for (const [how, lose] of [
    ['cut off', cut],
    ['without an answer', silent],
    ['lost by a proxy', answers(502, '<html>')],
    ['timed out at a proxy', answers(504, '')],
  ] as const) {
    it(`are repeated once, as a repetition, when the first try is ${how}`, async () => {
      const tries: Issuer[] = [];
      const service = opened(
        await serve({
          ...every(never),
          sendMessage: async (_input, by) => {
            tries.push(by);
            return sent;
          },
        }),
      );
      const proxy = opened(
        await actingServer(
          lose,
          passedOn(service.url, (text, response) => void response.end(text)),
        ),
      );
      const by = issuer();
      expect(await remote(proxy.url, 2_000).sendMessage(message, by)).to.deep.equal(sent);
      expect(tries).to.deep.equal([{ ...by, retried: true }]);
    });
  }

  it('are not repeated, and said to be a mistake, where the answer is none of a command service', async () => {
    for (const act of [
      answers(404, '{"error":"Not found"}'),
      answers(200, '{"result":{}}'),
      answers(500, ''),
      answers(302, '', { Location: '/x' }),
    ]) {
      const other = opened(await actingServer(act));
      const error = await remote(other.url)
        .interrupt({ conversationId: 'c', turnId: null }, issuer())
        .catch((reason: unknown) => reason);
      expect(error).to.be.instanceOf(Error).and.not.instanceOf(Refusal);
      expect((error as Error).message).to.match(
        /gave an answer to \/internal\/commands\/interrupt that is none/,
      );
      expect(other.seen()).to.equal(1);
    }
  });

  it('are not taken from a process with other keys', async () => {
    const service = opened(await serve(every(never)));
    const others = createServiceTokens({ secret: Buffer.alloc(32, 2) });
    const commands = createRemoteChatCommands({ url: service.url, tokens: others, logger });
    const error = await commands.sendMessage(message, issuer()).catch((reason: unknown) => reason);
    expect((error as Error).message).to.match(/\(404\): it is no command node, has other keys/);
  });

  it('need a URL of HTTP, without credentials', () => {
    for (const url of ['', 'command:3080', 'ftp://command', 'http://ada:secret@command:3080']) {
      expect(() => remote(url), url).to.throw(/must be http:\/\/ or https:\/\/, without credentials/);
    }
  });

  it('are carried out once, also when the answer to the first try is lost', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'odeon-remote-'));
    closing.push(() => rm(directory, { recursive: true }));
    const store = opened(withCatalogue(await openSqliteEventStore({ directory })));
    const signals = opened(createInProcessSignalBus({ onError: (error) => expect.fail(String(error)) }));
    const bus = createCommandBus({
      store,
      snapshots: { get: async () => null, put: async () => undefined },
      onSnapshotError: (error) => expect.fail(String(error)),
    });
    const by = issuer();
    const { conversationId } = message;
    const agents = createAgents({ readModels: { get: async () => null } as unknown as ReadModels });
    await bus.dispatch(
      startConversation,
      { ...beginning, agent: null, conversationId, owner: 'ada' },
      metaOf(issuer()),
    );
    const service = opened(await serve(createChatCommands(bus, signals, agents)));
    const proxy = opened(
      await actingServer(
        passedOn(service.url, (_text, response) => response.socket?.destroy()),
        passedOn(service.url, (text, response) => void response.end(text)),
      ),
    );
    const answer = await remote(proxy.url).sendMessage(message, by);
    expect(proxy.seen()).to.equal(2);
    const stream: EventEnvelope[] = [];
    for await (const page of store.readStream(`conversation-${conversationId}`)) stream.push(...page);
    expect(stream.map(({ type }) => type)).to.deep.equal(['ConversationStarted', 'MessageSent']);
    expect(answer.position).to.equal(stream[1]!.position);
    expect(stream[1]!).to.deep.include({
      actor: by.caller.actor,
      correlationId: by.correlationId,
      surface: 'zerg',
    });

    const stranger = { ...issuer(), caller: caller('bob', new Set(['chat:write'])) };
    expect((await refusalOf(remote(service.url).sendMessage(message, stranger))).code).to.equal('NOT_FOUND');
    const empty = await refusalOf(remote(service.url).sendMessage({ ...message, content: '' }, by));
    expect(empty.code).to.equal('VALIDATION_ERROR');
    expect(empty.issues).not.to.deep.equal([]);
  });
});
