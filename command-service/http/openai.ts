/** OpenAI's chat completions, each of which is a message of a conversation. */
import { sees } from '../../contracts/caller.ts';
import { type ChatCommands, requestedModel } from '../../contracts/commands/conversation.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import type { ToolRequest } from '../../contracts/events/conversation.ts';
import * as openai from '../../contracts/http/openai.ts';
import type { TurnEnd, TurnFeeds } from '../../contracts/live/feeds.ts';
import type { Agents } from '../../contracts/read-models/agents.ts';
import type { ConversationDocument, MessageDocument } from '../../contracts/read-models/documents.ts';
import {
  type Answer,
  callerOf,
  type Endpoint,
  endpoint,
  type JsonAnswer,
  type RequestContext,
} from '../../infra/http/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import { agentIn } from '../chat.ts';
import { answerIdFor } from '../domain/conversation.ts';
import { messageFrom } from './completion-prompt.ts';
import { existingId, issuerOf } from './conversations.ts';
import { endOf, type NoEnd } from './turn-end.ts';

export interface OpenAiCommandDependencies {
  readonly commands: ChatCommands;
  readonly readModels: Pick<ReadModels, 'get' | 'find'>;
  readonly agents: Pick<Agents, 'find'>;
  /** Whether it is a route, or a model that is served here or would be were its provider configured. */
  readonly knows: (model: string) => boolean;
  readonly feeds: TurnFeeds;
  /** How long a completion that is not streamed waits for its answer. */
  readonly answerTimeoutMs: number;
}

export function openAiCommandEndpoints(deps: OpenAiCommandDependencies): Endpoint[] {
  const { commands, feeds, answerTimeoutMs } = deps;

  async function complete(
    request: openai.CompletionRequest,
    streams: boolean,
    context: RequestContext,
  ): Promise<Answer> {
    const model = modelIn(request);
    if (model !== null && !(await isKnown(deps, model, context))) return noSuchModel(model);
    const continued = request.conversation_id ?? null;
    const message = messageFrom(
      request,
      continued === null ? null : await toolsAskedFor(deps, existingId(continued), context),
    );
    const issuer = issuerOf(context);
    const conversationId = continued ?? (await commands.startConversation({ model }, issuer)).conversation.id;
    const sent = await commands.sendMessage({ conversationId, ...message, model }, issuer);
    context.reached(sent.position);
    const { turnId } = sent;
    const turn = { conversationId, turnId, after: sent.position };
    const headers = { 'X-Conversation-Id': conversationId, 'X-Turn-Id': turnId, 'X-Stream-Id': turnId };
    if (streams) {
      const includeUsage = request.stream_options?.include_usage === true;
      const format = { name: 'openai', includeUsage, messageId: answerIdFor(turnId) } as const;
      return { stream: (response) => feeds.streamTurn(response, { ...turn, headers, format }) };
    }
    const waiting = { feeds, timeoutMs: answerTimeoutMs, clientGone: context.signal };
    const end = await endOf(turn, waiting);
    const answer = typeof end === 'string' ? noEndAnswers[end](turn) : answerOf(end, conversationId);
    if (typeof end !== 'string') context.reached(end.position);
    return { ...answer, headers: { ...headers, ...answer.headers } };
  }

  return [
    endpoint(openai.createCompletion, ({ body, context }) => complete(body, body.stream === true, context)),
    endpoint(openai.streamCompletion, ({ body, context }) => complete(body, true, context)),
  ];
}

/** Null: whatever answers by default. */
function modelIn({ model }: openai.CompletionRequest): string | null {
  const asked = model?.trim() ?? '';
  return asked === '' || asked === 'default' ? null : asked;
}

async function isKnown(
  { agents, knows }: OpenAiCommandDependencies,
  model: string,
  context: RequestContext,
): Promise<boolean> {
  const agent = agentIn(model);
  if (agent === null) return requestedModel.safeParse(model).success && knows(model);
  try {
    await agents.find(callerOf(context), agent);
    return true;
  } catch (error) {
    if (error instanceof Refusal && error.code === 'NOT_FOUND') return false;
    throw error;
  }
}

const noSuchModel = (model: string): JsonAnswer => ({
  status: 404,
  body: openai.noSuchModel(model, new Date().toISOString()),
});

/** A tool's result belongs to what the last answer asked for: nobody has to send that along. */
const LOOKED_AT = 4;

/** @throws Refusal NOT_FOUND for a conversation that the caller may not see */
async function toolsAskedFor(
  { readModels }: OpenAiCommandDependencies,
  conversationId: string,
  context: RequestContext,
): Promise<readonly ToolRequest[]> {
  const conversation = await readModels.get<ConversationDocument>('conversations', conversationId);
  if (conversation === null || !sees(callerOf(context), conversation.body.owner)) {
    refuse('NOT_FOUND', 'Conversation not found.');
  }
  const { documents } = await readModels.find<MessageDocument>('messages', {
    where: { conversationId },
    orderBy: { field: 'revision', direction: 'descending' },
    limit: LOOKED_AT,
  });
  return documents.flatMap(({ body }) => body.answer?.toolRequests ?? []);
}

/** The turn goes on, or will: asked again, the message would be sent once more. */
const notAgain = (status: number, code: string, message: string, more: object): JsonAnswer => ({
  status,
  headers: { 'x-should-retry': 'false' },
  body: openai.openAiError(
    { message, type: 'server_error', param: null, code },
    new Date().toISOString(),
    more,
  ),
});

type Turn = { readonly conversationId: string; readonly turnId: string };
const noEndAnswers: Readonly<Record<NoEnd, (turn: Turn) => JsonAnswer>> = {
  'still running': ({ conversationId, turnId }) =>
    notAgain(504, 'TIMEOUT', `The answer takes long: follow it at /api/turns/${turnId}/stream.`, {
      conversation_id: conversationId,
      turn_id: turnId,
    }),
  'shutting down': ({ conversationId, turnId }) => {
    const message = `The server restarts. The answer will be finished: read it then at /api/turns/${turnId}/stream.`;
    const answer = notAgain(503, 'SERVICE_UNAVAILABLE', message, {
      conversation_id: conversationId,
      turn_id: turnId,
    });
    return { ...answer, headers: { ...answer.headers, 'Retry-After': '5' } };
  },
};

function answerOf(end: TurnEnd, conversationId: string): JsonAnswer {
  const { messageId, turnId, content, model, toolRequests, usage } = end.data;
  const where = { conversation_id: conversationId, turn_id: turnId };
  if (end.type === 'TurnFailed') return notAgain(502, 'PROVIDER_ERROR', end.data.reason, where);
  const body: openai.Completion = {
    id: messageId,
    object: 'chat.completion',
    created: Math.floor(Date.parse(end.time) / 1_000),
    model: model ?? 'none',
    choices: [
      {
        index: 0,
        message: {
          role: 'assistant',
          content: content === '' && toolRequests.length > 0 ? null : content,
          refusal: null,
          ...(toolRequests.length > 0 && { tool_calls: toolRequests.map(openai.renderCall) }),
        },
        logprobs: null,
        finish_reason: openai.renderFinish(end.data),
      },
    ],
    usage: openai.renderUsage(usage),
    ...where,
    ...(end.type === 'TurnInterrupted' && { interrupted: true as const }),
  };
  return { status: 200, body };
}
