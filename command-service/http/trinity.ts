/** Trinity's commands in chats with agents. */
import { type Caller, sees } from '../../contracts/caller.ts';
import type { ChatCommands, Issuer } from '../../contracts/commands/conversation.ts';
import { type Position, START } from '../../contracts/envelope.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import * as trinity from '../../contracts/http/trinity.ts';
import type { TurnEnd, TurnFeeds } from '../../contracts/live/feeds.ts';
import { frameId } from '../../contracts/live/frames.ts';
import type { Agents } from '../../contracts/read-models/agents.ts';
import type { History } from '../../contracts/read-models/chat-reads.ts';
import type { AgentDocument, ConversationDocument } from '../../contracts/read-models/documents.ts';
import { eventsOfTurn } from '../../contracts/read-models/turn-events.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import {
  callerOf,
  type Endpoint,
  endpoint,
  type JsonAnswer,
  type RequestContext,
} from '../../infra/http/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import { createAgentSessions } from '../agent-sessions.ts';
import type { CommandBus } from '../command.ts';
import { endConversation, turnIdFor } from '../domain/conversation.ts';
import { carryOut, existingId, issuerOf } from './conversations.ts';
import { type AgentRuns, failed, shuttingDown, stillRunning } from './runs.ts';
import { endOf } from './turn-end.ts';

export interface TrinityCommandDependencies {
  readonly bus: CommandBus;
  readonly commands: ChatCommands;
  readonly agents: Pick<Agents, 'find' | 'runOf'>;
  readonly readModels: ReadModels;
  readonly store: Pick<EventStore, 'readStream' | 'head'>;
  readonly history: History;
  readonly feeds: TurnFeeds;
  readonly runs: AgentRuns;
  readonly answerTimeoutMs: number;
  /** How many tokens a model takes; null: the default. */
  readonly contextWindow: (model: string | null) => number;
}

/** A message that was sent, by this or an earlier try of the request. */
interface Asked {
  readonly conversationId: string;
  readonly turnId: string;
  /** Of an event before the turn's end. */
  readonly after: Position;
  readonly replayed: boolean;
}

/** A session may end while a message is on its way to it. */
const MAX_TRIES = 3;

export function trinityCommandEndpoints(deps: TrinityCommandDependencies): Endpoint[] {
  const { bus, commands, agents, readModels, store, history, feeds, runs } = deps;
  const { answerTimeoutMs, contextWindow } = deps;
  const sessions = createAgentSessions({ bus, readModels });

  // ── asking ────────────────────────────────────────────────────────────────
  async function ask(
    agent: AgentDocument,
    body: { message: string; model?: string | null | undefined },
    context: RequestContext,
  ): Promise<Asked> {
    const caller = callerOf(context);
    const model = body.model ?? null;
    runs.checkModel(model);
    const sourceAgent = await runs.sourceAgent(caller, context);
    let { commandId } = context;
    if (context.retried) {
      // What an earlier try appended is to be seen first.
      context.reached(await store.head());
      await context.settled();
      const latest = await runs.latestTry(commandId);
      if (latest.turn !== null) {
        const { id: turnId, conversationId } = latest.turn;
        return { conversationId, turnId, after: START, replayed: true };
      }
      commandId = latest.commandId;
    }
    const trigger = sourceAgent === undefined ? 'chat' : 'agent';
    const run = {
      ...agents.runOf(agent, { trigger }),
      ...(sourceAgent !== undefined && { sourceAgent }),
    };
    const message = { content: body.message, model: model ?? agent.model, run };
    const issuer: Issuer = { ...issuerOf(context), commandId };
    const place = await runs.admit(agent, turnIdFor(commandId));
    try {
      const { conversationId, position } = await sent(agent, message, issuer);
      context.reached(position);
      await context.settled();
      return { conversationId, turnId: turnIdFor(commandId), after: position, replayed: false };
    } finally {
      place.leave();
    }
  }

  async function sent(
    agent: AgentDocument,
    message: Omit<Parameters<ChatCommands['sendMessage']>[0], 'conversationId'>,
    issuer: Issuer,
  ): Promise<{ conversationId: string; position: Position }> {
    for (let tries = 1; ; tries++) {
      const conversationId = await sessions.open(agent, issuer);
      try {
        const { position } = await commands.sendMessage({ conversationId, ...message }, issuer);
        return { conversationId, position };
      } catch (error) {
        const hasEnded =
          error instanceof Refusal && (error.code === 'CONFLICT' || error.code === 'NOT_FOUND');
        if (!hasEnded || tries === MAX_TRIES) throw error;
      }
    }
  }

  // ── answering ─────────────────────────────────────────────────────────────
  /** @param end of the turn, which the read models need not show yet */
  async function answerOf({ conversationId, turnId }: Asked, end: TurnEnd): Promise<JsonAnswer> {
    if (end.type !== 'TurnCompleted') return failed(end);
    const turn = await runs.turnOf(turnId);
    const [events, session] = await Promise.all([
      eventsOfTurn(store, {
        id: turnId,
        conversationId,
        firstRevision: turn?.firstRevision ?? 0,
        lastRevision: end.revision,
      }),
      sessionAt(conversationId, end),
    ]);
    const ahead = await turnsBefore(conversationId, events);
    const window = contextWindow(session.answeredBy ?? session.model);
    const body = trinity.renderChatAnswer({ end, events, session, contextWindow: window, ahead });
    return { status: 200, body };
  }

  /** As it was at the turn's end, whatever has happened in it since. */
  async function sessionAt(id: string, end: TurnEnd): Promise<ConversationDocument> {
    const stored = await readModels.get<ConversationDocument>('conversations', id);
    if (stored?.position === end.position) return stored.body;
    return (await history(end.position).conversation(id)) ?? refuse('NOT_FOUND', 'Session not found.');
  }

  /** How many turns of the session ended between the message and the start of its own. */
  async function turnsBefore(
    conversationId: string,
    events: Awaited<ReturnType<typeof eventsOfTurn>>,
  ): Promise<number> {
    const [asked] = events;
    const started = events.find(({ type }) => type === 'TurnStarted');
    if (asked === undefined || started === undefined) return 0;
    let count = 0;
    for await (const page of store.readStream(`conversation-${conversationId}`, { from: asked.revision })) {
      for (const { type, revision } of page) {
        if (revision >= started.revision) return count;
        if (ENDS.has(type)) count++;
      }
    }
    return count;
  }

  async function answered(asked: Asked, context: RequestContext): Promise<JsonAnswer> {
    const { turnId, replayed } = asked;
    const waiting = { feeds, timeoutMs: answerTimeoutMs, clientGone: context.signal };
    const end = await endOf(asked, waiting);
    if (end === 'still running') return stillRunning(turnId, await runs.turnOf(turnId));
    if (end === 'shutting down') return shuttingDown(turnId);
    context.reached(end.position);
    await context.settled();
    return { ...(await answerOf(asked, end)), replayed };
  }

  /** What a stream ends with: the answer, once the turn has ended; nothing when the stream ends before. */
  async function lastEntry(asked: Asked, context: RequestContext): Promise<object | null> {
    const end = await endOf(asked, { feeds, timeoutMs: LAST_ENTRY_MS, clientGone: context.signal });
    if (typeof end === 'string') return null;
    context.reached(end.position);
    await context.settled();
    return (await answerOf(asked, end)).body as object;
  }

  return [
    endpoint(
      trinity.chat,
      async ({ params, body, context }) => {
        const transport = transportFor(context.headers.accept);
        const lastEventId = transport === 'sse' ? lastEventIdOf(context) : undefined;
        const agent = await agents.find(callerOf(context), params.name);
        const asked = await ask(agent, body, context);
        if (transport === 'json') return answered(asked, context);
        const { conversationId, turnId, after } = asked;
        return {
          stream: (response) =>
            feeds.streamTurn(response, {
              ...{ conversationId, turnId, after },
              headers: { 'X-Turn-Id': turnId },
              format: { name: 'trinity', transport },
              ...(lastEventId !== undefined && { lastEventId }),
              last: () => lastEntry(asked, context),
            }),
        };
      },
      { inProgress: runs.inProgress },
    ),

    endpoint(trinity.closeSession, async ({ params, context }) => {
      const caller = callerOf(context);
      const agent = await agents.find(caller, params.name);
      const id = existingId(params.id);
      const found = (await readModels.get<ConversationDocument>('conversations', id))?.body;
      checkSession(found, caller, agent);
      await carryOut(bus, endConversation, { conversationId: id }, context);
      return { status: 200, body: { status: 'closed', session_id: id } };
    }),

    endpoint(trinity.resetHistory, async ({ params, context }) => {
      const caller = callerOf(context);
      const agent = await agents.find(caller, params.name);
      const session = await sessions.current(caller.userId, agent.id);
      if (session !== null) {
        await carryOut(bus, endConversation, { conversationId: session.id }, context);
      }
      const context_window = contextWindow(agent.model);
      const empty = { total_cost_usd: 0, context_tokens: 0, context_window, message_count: 0 };
      return { status: 200, body: { status: 'cleared', session_reset: true, session: empty } };
    }),
  ];
}

/** The end of a turn whose stream has ended is there at once. */
const LAST_ENTRY_MS = 5_000;
const ENDS: ReadonlySet<string> = new Set(['TurnCompleted', 'TurnInterrupted', 'TurnFailed']);

/**
 * @throws Refusal NOT_FOUND for what is no session that the caller may see; FORBIDDEN for one that they may, with
 * another agent
 */
function checkSession(
  session: ConversationDocument | undefined,
  caller: Caller,
  agent: AgentDocument,
): asserts session is ConversationDocument {
  if (session === undefined || !sees(caller, session.owner)) refuse('NOT_FOUND', 'Session not found.');
  if (session.agentId !== agent.id) refuse('FORBIDDEN', `The session is not with ${agent.name}.`);
}

function lastEventIdOf({ headers }: RequestContext): string | undefined {
  const id = headers['last-event-id'];
  if (typeof id !== 'string' || id === '') return undefined;
  if (frameId.safeParse(id).success) return id;
  throw new Refusal('VALIDATION_ERROR', 'The request is not valid.', {
    issues: [{ path: ['headers', 'Last-Event-ID'], message: 'is not the id of a frame of this feed' }],
  });
}

const transports: Readonly<Record<string, 'sse' | 'ndjson' | 'json'>> = {
  'text/event-stream': 'sse',
  'application/x-ndjson': 'ndjson',
  'application/json': 'json',
  'application/*': 'json',
  '*/*': 'json',
};

/** What the client would rather have: the first of those that it wants most. JSON, where it wants none that there is. */
export function transportFor(accept: string | string[] | undefined): 'sse' | 'ndjson' | 'json' {
  const wanted = String(accept ?? '')
    .split(',')
    .map((range) => {
      const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
      const q = parameters.find((parameter) => parameter.startsWith('q='));
      return { transport: transports[type], weight: q === undefined ? 1 : Number(q.slice(2)) };
    })
    .filter(({ transport, weight }) => transport !== undefined && weight > 0)
    .sort((a, b) => b.weight - a.weight);
  return wanted[0]?.transport ?? 'json';
}
