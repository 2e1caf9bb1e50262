/** Public links to those who own the agents, and what visitors read by them. */
import { sees } from '../../contracts/caller.ts';
import { refuse } from '../../contracts/errors.ts';
import { logEntriesOf } from '../../contracts/http/executions.ts';
import * as links from '../../contracts/http/public-links.ts';
import type { Agents } from '../../contracts/read-models/agents.ts';
import type { ChatReads } from '../../contracts/read-models/chat-reads.ts';
import { CONVERSATION_STREAM } from '../../contracts/read-models/conversation.ts';
import type {
  AgentDocument,
  ConversationDocument,
  MessageDocument,
  PublicLinkDocument,
  TurnDocument,
} from '../../contracts/read-models/documents.ts';
import { linkUsage } from '../../contracts/read-models/link-usage.ts';
import type { LinkTokens, OpenLink, Visitors } from '../../infra/auth/port.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import { callerOf, type Endpoint, endpoint, type RequestContext } from '../../infra/http/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import { BEGINNING } from '../live/cursor.ts';
import { executionEntries } from '../live/executions.ts';
import { conversationFeed, sse } from '../live/feed.ts';
import { hasRead } from '../live/log-reading.ts';
import type { Streams } from '../live/streams.ts';
import { messagesOf } from './visible.ts';

export interface PublicLinkQueryDependencies {
  readonly agents: Pick<Agents, 'find'>;
  readonly readModels: ReadModels;
  readonly store: Pick<EventStore, 'readStream'>;
  readonly present: ChatReads;
  readonly linkTokens: LinkTokens;
  readonly visitors: Visitors;
}

export function publicLinkQueryEndpoints(deps: PublicLinkQueryDependencies): Endpoint[] {
  const { agents, readModels, present, linkTokens } = deps;
  const entrance = createEntrance(deps);

  async function ownAgent(name: string, context: RequestContext): Promise<AgentDocument> {
    const agent = await agents.find(callerOf(context), name);
    if (!sees(callerOf(context), agent.owner)) {
      refuse('FORBIDDEN', 'The agent belongs to somebody else: make links to one of your own.');
    }
    return agent;
  }

  const render = async (link: PublicLinkDocument, { headers }: RequestContext) =>
    links.renderLink(link, {
      token: linkTokens.token(link.id),
      origin: links.originOf(headers),
      usage: await linkUsage(readModels, link.id),
    });

  return [
    endpoint(links.listPublicLinks, async ({ params, query: { limit, offset }, context }) => {
      const agent = await ownAgent(params.name, context);
      const { documents } = await readModels.find<PublicLinkDocument>('public-links', {
        where: { agentId: agent.id },
        orderBy: { field: 'createdAt', direction: 'ascending' },
        limit,
        offset,
      });
      return { status: 200, body: await Promise.all(documents.map(({ body }) => render(body, context))) };
    }),

    endpoint(links.getPublicLink, async ({ params, context }) => {
      const agent = await ownAgent(params.name, context);
      const link = (await readModels.get<PublicLinkDocument>('public-links', params.id))?.body;
      if (link?.agentId !== agent.id) return refuse('NOT_FOUND', 'Public link not found.');
      return { status: 200, body: await render(link, context) };
    }),

    endpoint(links.lookAtLink, async ({ params, context }) => {
      const opened = await entrance.look(params.token, context);
      const body = opened === null ? links.invalidLink : links.renderValidLink(opened.agent);
      return { status: 200, body };
    }),

    endpoint(links.publicHistory, async ({ params, query, context }) => {
      const opened = await entrance.enter(params.token, context);
      const session = query.session_id || null;
      const conversation = session === null ? null : await entrance.conversationOf(opened, session);
      const { messages } =
        conversation === null
          ? { messages: [] }
          : await messagesOf(present, conversation.id, { limit: links.PUBLIC_HISTORY });
      const shown = links.renderPublicMessages(messages);
      return { status: 200, body: { messages: shown, session_id: session, message_count: shown.length } };
    }),

    endpoint(links.publicIntro, async ({ params, context }) => {
      const { agent } = await entrance.enter(params.token, context);
      return { status: 200, body: { intro: links.introOf(agent) } };
    }),

    endpoint(links.publicExecutionStatus, async ({ params, query, context }) => {
      const opened = await entrance.enter(params.token, context);
      const turn = await entrance.turnOf(opened, query.session_id, params.id);
      const answer =
        turn.answerId === null ? null : await readModels.get<MessageDocument>('messages', turn.answerId);
      const session = linkTokens.session(opened.link.id, turn.conversationId);
      const source = { agentName: opened.agent.name, session, answer: answer?.body ?? null };
      return { status: 200, body: links.renderVisitorExecution(turn, source) };
    }),
  ];
}

/** Those that stay open, for whoever serves live feeds. */
export function publicLinkStreamEndpoints(
  deps: Omit<PublicLinkQueryDependencies, 'agents' | 'present'> & { readonly streams: Streams },
): Endpoint[] {
  const { store, streams } = deps;
  const entrance = createEntrance(deps);
  return [
    endpoint(links.publicExecutionStream, async ({ params, query, context }) => {
      const opened = await entrance.enter(params.token, context);
      const turn = await entrance.turnOf(opened, query.session_id, params.id);
      const { id: turnId, conversationId, firstRevision, lastRevision } = turn;
      const start = await streams.resumed(context, query, BEGINNING);
      const stream = CONVERSATION_STREAM + conversationId;
      if (lastRevision !== null && (await hasRead(store, stream, lastRevision, start.cursor))) {
        return { status: 204 };
      }
      const feed = conversationFeed(visitorEntries, sse, conversationId, { turnId, firstRevision });
      return { stream: (response) => streams.open(response, { feed, start, kind: 'public' }) };
    }),
  ];
}

/** What is written, and that it begins and ends: tools, thoughts and reasons are the owner's. */
const visitorEntries: typeof executionEntries = {
  ...executionEntries,
  name: 'trinity-visitor',
  render(item, piece) {
    if (item.kind === 'reasoning') return null;
    if (item.kind !== 'event') return executionEntries.render(item, piece);
    const entry = logEntriesOf(item.event).find(({ type }) => type === 'status');
    if (entry === undefined) return null;
    return { name: null, data: 'error' in entry ? { ...entry, error: links.VISITOR_FAILURE } : entry };
  },
};

/** How visitors come in, and what is theirs. */
function createEntrance({
  readModels,
  linkTokens,
  visitors,
}: Pick<PublicLinkQueryDependencies, 'readModels' | 'linkTokens' | 'visitors'>) {
  const look = (token: string, { address }: RequestContext) => visitors.look(token, address);

  /** The active conversation of a session; null for whatever is none. */
  async function conversationOf({ link }: OpenLink, session: string): Promise<ConversationDocument | null> {
    const id = linkTokens.conversationOf(link.id, session);
    if (id === null) return null;
    const found = (await readModels.get<ConversationDocument>('conversations', id))?.body;
    return found?.linkId === link.id && found.status === 'active' ? found : null;
  }

  return {
    look,
    conversationOf,

    async enter(token: string, context: RequestContext): Promise<OpenLink> {
      return (await look(token, context)) ?? refuse('NOT_FOUND', links.INVALID_LINK);
    },

    /** @throws Refusal VALIDATION_ERROR without a session, NOT_FOUND for what is not of it */
    async turnOf(opened: OpenLink, session: string | undefined, turnId: string): Promise<TurnDocument> {
      if (session === undefined || session === '') refuse('VALIDATION_ERROR', 'session_id is missing.');
      const conversation = await conversationOf(opened, session);
      const turn = (await readModels.get<TurnDocument>('turns', turnId))?.body;
      if (conversation === null || turn?.conversationId !== conversation.id) {
        return refuse('NOT_FOUND', 'Execution not found.');
      }
      return turn;
    },
  };
}
