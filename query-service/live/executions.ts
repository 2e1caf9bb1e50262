/**
 * An execution's log as it is written (api-notes A1.9): data-only server-sent events, one entry each, and at the end
 * `{"type":"stream_end"}`. What a model writes comes as `text` entries, a piece each.
 */
import * as trinity from '../../contracts/http/executions.ts';
import type { Agents } from '../../contracts/read-models/agents.ts';
import { CONVERSATION_STREAM } from '../../contracts/read-models/conversation.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import { callerOf, type Endpoint, endpoint } from '../../infra/http/port.ts';
import { BEGINNING } from './cursor.ts';
import { type AnswerFormat, conversationFeed, type Frame, sse } from './feed.ts';
import { hasRead } from './log-reading.ts';
import { isTurnEnd } from './luna.ts';
import { reader, type Streams } from './streams.ts';

/** What a piece of text needs: which call it is of, and when that began. */
interface Piece {
  readonly id: string;
  readonly timestamp: string;
}

const dataOnly = (data: object): Omit<Frame, 'id'> => ({ name: null, data });
const unknown: Piece = { id: '', timestamp: '' };

/** Each entry is a frame; an event that makes several entries shows the texts among them as pieces. */
export const executionEntries: AnswerFormat<Piece> = {
  name: 'trinity-execution',
  initial: unknown,

  fold(piece, event) {
    if (event.type === 'ModelCalled') return { id: event.data.callId, timestamp: event.time };
    // Text that the turn's end says for good.
    if (isTurnEnd(event)) return { id: event.data.messageId, timestamp: event.time };
    return event.type === 'TurnStarted' ? { id: event.id, timestamp: event.time } : piece;
  },

  render(item, piece) {
    switch (item.kind) {
      case 'content':
        return dataOnly({ ...piece, type: 'text', text: item.text });
      case 'reasoning':
        return dataOnly({ ...piece, type: 'thinking', text: item.text });
      case 'restarted':
        return dataOnly({ ...piece, type: 'status', status: 'restarted' });
      case 'event': {
        const entry = trinity
          .logEntriesOf(item.event)
          .find(({ type }) => type !== 'text' && type !== 'thinking');
        return entry === undefined ? null : dataOnly(entry);
      }
    }
  },

  end: (event) => (isTurnEnd(event) ? [{ id: null, ...dataOnly({ type: 'stream_end' }) }] : null),
  resync: (reason) => ({ id: null, ...dataOnly({ type: 'resync', reason }) }),
  farewell: (timestamp) => ({ id: null, ...dataOnly({ type: 'server_shutdown', timestamp }) }),
};

export interface ExecutionStreamDependencies {
  readonly agents: Pick<Agents, 'execution'>;
  readonly store: Pick<EventStore, 'readStream'>;
  readonly streams: Streams;
}

export const executionStreamEndpoints = (deps: ExecutionStreamDependencies): Endpoint[] => [
  endpoint(trinity.streamExecution, async ({ params, query, context }) => {
    const { agents, store, streams } = deps;
    const caller = callerOf(context);
    const turn = await agents.execution(caller, params.name, params.id);
    const { id: turnId, conversationId, firstRevision, lastRevision, owner } = turn;
    const start = await streams.resumed(context, query, BEGINNING);
    const stream = CONVERSATION_STREAM + conversationId;
    if (lastRevision !== null && (await hasRead(store, stream, lastRevision, start.cursor))) {
      return { status: 204 };
    }
    const feed = conversationFeed(executionEntries, sse, conversationId, { turnId, firstRevision });
    const login = { caller, may: reader(owner) };
    return { stream: (response) => streams.open(response, { feed, start, kind: 'execution', login }) };
  }),
];
