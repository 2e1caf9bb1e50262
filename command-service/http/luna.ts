/** Luna Chat's commands: conversations, messages, interrupts. */

import { sees } from '../../contracts/caller.ts';
import type { ChatCommands } from '../../contracts/commands/conversation.ts';
import { refuse } from '../../contracts/errors.ts';
import * as luna from '../../contracts/http/luna.ts';
import type { TurnEnd, TurnFeeds } from '../../contracts/live/feeds.ts';
import type { ConversationDocument, TurnDocument } from '../../contracts/read-models/documents.ts';
import {
  callerOf,
  type Endpoint,
  endpoint,
  type JsonAnswer,
  type RequestContext,
} from '../../infra/http/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import type { CommandBus } from '../command.ts';
import {
  changeConversation,
  deleteConversation,
  endConversation,
  MAX_WAITING,
} from '../domain/conversation.ts';
import { begin, carryOut, existingId, issuerOf } from './conversations.ts';
import { endOf, type NoEnd } from './turn-end.ts';

export interface LunaCommandDependencies {
  readonly bus: CommandBus;
  readonly commands: ChatCommands;
  readonly readModels: Pick<ReadModels, 'get'>;
  readonly feeds: TurnFeeds;
  /** How long `send` waits for an answer that is not streamed. */
  readonly answerTimeoutMs: number;
}

export function lunaChatCommandEndpoints(deps: LunaCommandDependencies): Endpoint[] {
  const { bus, commands, readModels, feeds } = deps;
  return [
    endpoint(luna.createSession, async ({ body, context }) => {
      const { title = null, mode, model = null } = body;
      const conversation = await begin(bus, { title, mode, model }, context);
      return { status: 201, body: luna.renderSession(conversation) };
    }),

    endpoint(luna.changeSession, async ({ params, body, context }) => {
      const { title, mode, isArchived } = body;
      const changes = {
        conversationId: existingId(params.id),
        ...(title !== undefined && { title }),
        ...(mode !== undefined && { mode }),
        ...(isArchived !== undefined && { archived: isArchived }),
      };
      const { events, state } = await carryOut(bus, changeConversation, changes, context);
      await context.settled();
      const stored = await readModels.get<ConversationDocument>('conversations', params.id);
      if (stored === null) {
        refuse('SERVICE_UNAVAILABLE', 'The change is recorded, but cannot be shown yet: read it later.');
      }
      const conversation = {
        ...stored.body,
        // As the command left it, even where the read model is behind.
        title: state.title,
        mode: state.mode,
        archived: state.archived,
        updatedAt: events.at(-1)?.time ?? stored.body.updatedAt,
      };
      return { status: 200, body: luna.renderSession(conversation) };
    }),

    endpoint(luna.deleteSession, async ({ params, context }) => {
      await carryOut(bus, deleteConversation, { conversationId: existingId(params.id) }, context);
      return SUCCESS;
    }),

    endpoint(luna.endSession, async ({ params, context }) => {
      await carryOut(bus, endConversation, { conversationId: existingId(params.id) }, context);
      return SUCCESS;
    }),

    endpoint(luna.sendSessionMessage, async ({ params, body, context }) => {
      const conversationId = existingId(params.id);
      const { message: content, model = null, stream } = body;
      const sent = await commands.sendMessage({ conversationId, content, model }, issuerOf(context));
      context.reached(sent.position);
      const turn = { conversationId, turnId: sent.turnId, after: sent.position };
      const headers = { 'X-Turn-Id': sent.turnId, ...rateLimit(sent.waiting) };
      if (!wantsJson(stream, context.headers.accept)) {
        return { stream: (response) => feeds.streamTurn(response, { ...turn, headers }) };
      }
      const waiting = { feeds, timeoutMs: deps.answerTimeoutMs, clientGone: context.signal };
      const end = await endOf(turn, waiting);
      if (typeof end === 'string') {
        const noEnd = noEndAnswers[end](sent.turnId);
        return { ...noEnd, headers: { ...headers, ...noEnd.headers } };
      }
      context.reached(end.position);
      await context.settled();
      const document = await readModels.get<TurnDocument>('turns', sent.turnId);
      return { ...answerOf(end, document?.body ?? null), headers };
    }),

    endpoint(luna.interruptSession, ({ params, context }) =>
      interrupt(commands, { conversationId: existingId(params.id), turnId: null }, context),
    ),

    endpoint(luna.interruptTurn, async ({ params: { turnId }, context }) => {
      const turn = (await readModels.get<TurnDocument>('turns', turnId))?.body;
      if (turn === undefined || !sees(callerOf(context), turn.owner)) refuse('NOT_FOUND', 'Turn not found.');
      return interrupt(commands, { conversationId: turn.conversationId, turnId }, context);
    }),
  ];
}

/** What is limited is how many messages wait in a conversation: so many more may be sent now. */
const rateLimit = (waiting: number) => ({
  'X-RateLimit-Limit': String(MAX_WAITING),
  'X-RateLimit-Remaining': String(Math.max(0, MAX_WAITING - waiting)),
});

const SUCCESS: JsonAnswer = { status: 200, body: { success: true } };

async function interrupt(
  commands: ChatCommands,
  input: { conversationId: string; turnId: string | null },
  context: RequestContext,
): Promise<JsonAnswer> {
  const { turnId, position } = await commands.interrupt(input, issuerOf(context));
  if (position !== null) context.reached(position);
  return { status: 200, body: { success: true, turnId } };
}

/** What the body says, counts; else JSON is for who accepts nothing else (api-notes, point 1). */
export function wantsJson(stream: boolean | undefined, accept: string | string[] | undefined): boolean {
  if (stream !== undefined) return !stream;
  const types = String(accept ?? '')
    .split(',')
    .map((type) => type.split(';')[0]?.trim().toLowerCase());
  return types.every((type) => type === 'application/json');
}

const stillRunning = (turnId: string): JsonAnswer => ({
  status: 504,
  body: { error: `The answer takes long: follow it at /api/turns/${turnId}/stream.`, turnId },
});

const shuttingDown = (turnId: string): JsonAnswer => ({
  status: 503,
  headers: { 'Retry-After': '5' },
  body: {
    error: `The server restarts. The answer will be finished: read it then at /api/turns/${turnId}/stream.`,
    turnId,
  },
});

const noEndAnswers: Readonly<Record<NoEnd, (turnId: string) => JsonAnswer>> = {
  'still running': stillRunning,
  'shutting down': shuttingDown,
};

function answerOf(end: TurnEnd, turn: TurnDocument | null): JsonAnswer {
  if (end.type !== 'TurnFailed') {
    const status = end.type === 'TurnCompleted' ? 'complete' : 'interrupted';
    return { status: 200, body: luna.renderAnswer(end.data, status, turn) };
  }
  const { messageId, turnId, content, reason } = end.data;
  return { status: 502, body: { error: reason, messageId, turnId, status: 'failed', content } };
}
