/** A turn in the chunks of OpenAI's chat completions (api-notes B1): data-only server-sent events, then `[DONE]`. */
import type { ToolRequest } from '../../contracts/events/conversation.ts';
import {
  type CompletionFinish,
  type CompletionUsage,
  renderCall,
  renderFinish,
  renderUsage,
} from '../../contracts/http/openai.ts';
import type { TurnEnd, TurnFormat } from '../../contracts/live/feeds.ts';
import type { ConversationEvent, Item } from './answer.ts';
import type { AnswerFormat, Frame } from './feed.ts';
import { isTurnEnd } from './luna.ts';

/** What every chunk says of its turn. */
interface Told {
  /** Unix seconds. */
  readonly created: number;
  /** Who answers. */
  readonly model: string;
  /** Of a model. The answer begins with the first one. */
  readonly calls: number;
}

interface Turn {
  readonly conversationId: string;
  readonly turnId: string;
}

interface Delta {
  readonly role?: 'assistant';
  readonly content?: string;
  readonly tool_calls?: readonly {
    readonly index: number;
    readonly id?: string;
    readonly type?: 'function';
    readonly function: { readonly name?: string; readonly arguments: string };
  }[];
}

type Written = Omit<Frame, 'id'>;
const dataOnly = (data: object): Written => ({ name: null, data });

/** Where an error ends what clients take: they throw what it says. */
const failed = (code: string, message: string, { conversationId, turnId }: Turn): Written =>
  dataOnly({
    error: { message, type: 'server_error', param: null, code },
    conversation_id: conversationId,
    turn_id: turnId,
  });

export function openAiTurn(
  { includeUsage, messageId }: Extract<TurnFormat, { name: 'openai' }>,
  turn: Turn,
): AnswerFormat<Told> {
  const chunk = ({ created, model }: Told, choices: readonly object[], more: object = {}): Written =>
    dataOnly({
      id: messageId,
      object: 'chat.completion.chunk',
      created,
      model,
      choices,
      ...(includeUsage && { usage: null }),
      conversation_id: turn.conversationId,
      ...more,
    });
  const piece = (
    told: Told,
    delta: Delta,
    finish: CompletionFinish | null = null,
    more: object = {},
  ): Written => chunk(told, [{ index: 0, delta, finish_reason: finish, logprobs: null }], more);
  const begin = (told: Told): Written => piece(told, { role: 'assistant', content: '' });

  function eventFrames({ event }: Extract<Item, { kind: 'event' }>, told: Told): readonly Written[] {
    if (event.type === 'ModelCalled') return told.calls === 1 ? [begin(told)] : [];
    if (!isTurnEnd(event)) return [];
    if (event.type === 'TurnFailed') return [failed('PROVIDER_ERROR', event.data.reason, turn)];
    return [...(told.calls === 0 ? [begin(told)] : []), ...ending(event, told)];
  }

  function ending({ type, data }: TurnEnd, told: Told): Written[] {
    return [
      ...callDeltas(data.toolRequests).map((delta) => piece(told, delta)),
      piece(told, {}, renderFinish(data), {
        turn_id: turn.turnId,
        ...(type === 'TurnInterrupted' && { interrupted: true }),
      }),
      ...(includeUsage
        ? [chunk(told, [], { usage: renderUsage(data.usage) satisfies CompletionUsage })]
        : []),
    ];
  }

  return {
    name: `openai${includeUsage ? '+usage' : ''}`,
    initial: { created: 0, model: 'none', calls: 0 },

    fold(told, event) {
      const dated =
        told.created === 0 ? { ...told, created: Math.floor(Date.parse(event.time) / 1_000) } : told;
      return event.type === 'ModelCalled'
        ? { ...dated, model: event.data.model, calls: dated.calls + 1 }
        : dated;
    },

    render(item, told) {
      switch (item.kind) {
        case 'content':
          return piece(told, { content: item.text });
        case 'reasoning':
          return null;
        case 'restarted':
          // What was shown cannot be taken back.
          return failed(
            'ANSWER_RESTARTED',
            `The answer was begun anew after a crash: read it at /api/turns/${turn.turnId}/stream.`,
            turn,
          );
        case 'event':
          return eventFrames(item, told);
      }
    },

    end: (event: ConversationEvent) => (isTurnEnd(event) ? [{ id: null, name: null, data: '[DONE]' }] : null),
    resync: (reason) => ({ id: null, ...failed('RESYNC', reason, turn) }),
    farewell: () => ({
      id: null,
      ...failed(
        'SERVICE_UNAVAILABLE',
        `The server restarts. The answer will be finished: read it then at /api/turns/${turn.turnId}/stream.`,
        turn,
      ),
    }),
  };
}

/** Name and id come with the first piece of a call, and its arguments with the next. */
const callDeltas = (requests: readonly ToolRequest[]): Delta[] =>
  requests.flatMap((request, index) => {
    const { id, type, function: called } = renderCall(request);
    return [
      { tool_calls: [{ index, id, type, function: { name: called.name, arguments: '' } }] },
      { tool_calls: [{ index, function: { arguments: called.arguments } }] },
    ];
  });
