/** What owners of agents do with public links, and what visitors do by them. */
import { sees } from '../../contracts/caller.ts';
import type { ChatCommands, Issuer } from '../../contracts/commands/conversation.ts';
import type { Position } from '../../contracts/envelope.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import * as links from '../../contracts/http/public-links.ts';
import type { TurnEnd, TurnFeeds } from '../../contracts/live/feeds.ts';
import type { Agents } from '../../contracts/read-models/agents.ts';
import type {
  AgentDocument,
  ConversationDocument,
  PublicLinkDocument,
} from '../../contracts/read-models/documents.ts';
import { linkUsage, NOT_USED } from '../../contracts/read-models/link-usage.ts';
import type { LinkTokens, OpenLink, Visitors } from '../../infra/auth/port.ts';
import {
  callerOf,
  type Endpoint,
  endpoint,
  type HandlerInput,
  type JsonAnswer,
  type RequestContext,
} from '../../infra/http/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import { beginConversation, metaOf } from '../chat.ts';
import type { CommandBus } from '../command.ts';
import { conversation, endConversation, turnIdFor } from '../domain/conversation.ts';
import {
  changePublicLink,
  createPublicLink,
  deletePublicLink,
  linkIdFor,
  type PublicLinkState,
} from '../domain/public-link.ts';
import { requestMeta } from './conversations.ts';
import type { AgentRuns } from './runs.ts';
import { endOf } from './turn-end.ts';

export interface PublicLinkCommandDependencies {
  readonly bus: CommandBus;
  readonly commands: ChatCommands;
  readonly agents: Pick<Agents, 'find' | 'runOf'>;
  readonly readModels: ReadModels;
  readonly feeds: Pick<TurnFeeds, 'turnEnded'>;
  readonly runs: AgentRuns;
  readonly answerTimeoutMs: number;
  readonly linkTokens: LinkTokens;
  readonly visitors: Visitors;
  readonly now?: () => number;
}

export function publicLinkCommandEndpoints(deps: PublicLinkCommandDependencies): Endpoint[] {
  const { bus, commands, agents, readModels, feeds, runs, answerTimeoutMs } = deps;
  const { linkTokens, visitors, now = Date.now } = deps;

  // ── owners ────────────────────────────────────────────────────────────────
  /** @throws Refusal NOT_FOUND, or FORBIDDEN for an agent that can be seen to be somebody else's */
  async function ownAgent(name: string, context: RequestContext): Promise<AgentDocument> {
    const agent = await agents.find(callerOf(context), name);
    if (!sees(callerOf(context), agent.owner)) {
      refuse('FORBIDDEN', 'The agent belongs to somebody else: make links to one of your own.');
    }
    return agent;
  }

  async function change(
    params: { name: string; id: string },
    body: HandlerInput<typeof links.changePublicLink>['body'],
    context: RequestContext,
  ): Promise<JsonAnswer> {
    const agent = await ownAgent(params.name, context);
    const { name, expires_at: expiresAt, enabled } = body;
    const { state, position } = await bus.dispatch(
      changePublicLink,
      {
        ...{ linkId: params.id, agentId: agent.id },
        ...(name !== undefined && { name }),
        ...(expiresAt !== undefined && { expiresAt }),
        ...(enabled !== undefined && { enabled }),
      },
      requestMeta(context),
    );
    if (position !== null) context.reached(position);
    const usage = await linkUsage(readModels, params.id);
    return { status: 200, body: render(params.id, state, usage, context) };
  }

  /** As the command left it, even where the read model is behind. */
  function render(
    id: string,
    state: PublicLinkState,
    usage: typeof NOT_USED,
    { headers }: RequestContext,
  ): links.PublicLink {
    if (state.status !== 'active') return refuse('NOT_FOUND', 'Public link not found.');
    const { agent, ...link } = state;
    const shown = { token: linkTokens.token(id), origin: links.originOf(headers), usage };
    return links.renderLink({ id, agentName: agent.name, ...link }, shown);
  }

  // ── visitors ──────────────────────────────────────────────────────────────
  async function enter(token: string, { address }: RequestContext): Promise<OpenLink> {
    return (await visitors.act(token, address)) ?? refuse('NOT_FOUND', links.INVALID_LINK);
  }

  const issuerOf = ({ caller }: OpenLink, context: RequestContext): Issuer => ({
    caller,
    commandId: context.commandId,
    correlationId: context.correlationId,
    surface: context.surface,
    retried: context.retried,
  });

  /** The conversation of a visitor's session. @throws Refusal VALIDATION_ERROR without one, NOT_FOUND */
  async function sessionOf(
    { link }: { readonly link: PublicLinkDocument },
    session: string | null | undefined,
    { retried }: RequestContext,
  ): Promise<string> {
    if (session === null || session === undefined || session === '') {
      return refuse('VALIDATION_ERROR', 'session_id is missing.');
    }
    const conversationId = linkTokens.conversationOf(link.id, session);
    if (conversationId === null) return noSession();
    const { state } = await bus.load(conversation, conversationId);
    // An earlier try of the request may have ended it.
    const isOpen = state.status === 'active' || (retried && state.status === 'ended');
    return isOpen && state.linkId === link.id ? conversationId : noSession();
  }

  async function begin(opened: OpenLink, context: RequestContext): Promise<string> {
    const { agent, link } = opened;
    const begun = await beginConversation(
      bus,
      { kind: 'public', agent: { id: agent.id, name: agent.name }, model: agent.model, linkId: link.id },
      issuerOf(opened, context),
    );
    context.reached(begun.position);
    return begun.conversation.id;
  }

  async function send(
    opened: OpenLink,
    { message: content, session_id: session }: HandlerInput<typeof links.publicChat>['body'],
    context: RequestContext,
  ): Promise<{ conversationId: string; turnId: string; after: Position }> {
    const { agent } = opened;
    const known =
      session === null || session === undefined ? null : await sessionOf(opened, session, context);
    const place = await runs.admit(agent, turnIdFor(context.commandId)).catch(withoutDetail);
    try {
      const conversationId = known ?? (await begin(opened, context));
      const run = agents.runOf(agent, { trigger: 'public' });
      const { turnId, position } = await commands.sendMessage(
        { conversationId, content, model: agent.model, run },
        issuerOf(opened, context),
      );
      context.reached(position);
      await context.settled();
      return { conversationId, turnId, after: position };
    } finally {
      place.leave();
    }
  }

  async function answered(
    { link }: OpenLink,
    asked: Awaited<ReturnType<typeof send>>,
    context: RequestContext,
  ): Promise<JsonAnswer> {
    const waiting = { feeds, timeoutMs: answerTimeoutMs, clientGone: context.signal };
    const end = await endOf(asked, waiting);
    if (end === 'still running') return said(504, `The answer takes long: follow ${asked.turnId}.`);
    if (end === 'shutting down') {
      return { ...said(503, 'The server restarts: try again.'), headers: { 'Retry-After': '5' } };
    }
    context.reached(end.position);
    await context.settled();
    if (end.type !== 'TurnCompleted') return said(502, failureOf(end));
    const session = await readModels.get<ConversationDocument>('conversations', asked.conversationId);
    const { promptTokens, completionTokens } = end.data.usage;
    return {
      status: 200,
      body: {
        response: end.data.content,
        session_id: linkTokens.session(link.id, asked.conversationId),
        message_count: session?.body.messageCount ?? 0,
        usage: { input_tokens: promptTokens, output_tokens: completionTokens },
      },
    };
  }

  return [
    endpoint(links.createPublicLink, async ({ params, body, context }) => {
      const { id, name } = await ownAgent(params.name, context);
      const { commandId } = context;
      const linkId = linkIdFor(commandId);
      const created = await bus.dispatch(
        createPublicLink,
        {
          ...{ linkId, owner: callerOf(context).userId, agent: { id, name }, name: body.name ?? null },
          tokenHash: linkTokens.hash(linkTokens.token(linkId)),
          expiresAt: body.expires_at ?? null,
          at: new Date(now()).toISOString(),
        },
        requestMeta(context),
      );
      if (created.position !== null) context.reached(created.position);
      let { state } = created;
      if (!body.enabled) {
        const input = { linkId, agentId: id, enabled: false };
        const disabled = await bus.dispatch(changePublicLink, input, requestMeta(context));
        if (disabled.position !== null) context.reached(disabled.position);
        state = disabled.state;
      }
      return { status: 201, body: render(linkId, state, NOT_USED, context) };
    }),

    endpoint(links.changePublicLink, ({ params, body, context }) => change(params, body, context)),
    endpoint(links.putPublicLink, ({ params, body, context }) => change(params, body, context)),

    endpoint(links.deletePublicLink, async ({ params, context }) => {
      const agent = await ownAgent(params.name, context);
      const { position } = await bus.dispatch(
        deletePublicLink,
        { linkId: params.id, agentId: agent.id },
        requestMeta(context),
      );
      if (position !== null) context.reached(position);
      return { status: 200, body: { status: 'deleted', id: params.id } };
    }),

    endpoint(links.publicChat, async ({ params, body, context }) => {
      const opened = await enter(params.token, context);
      const asked = await send(opened, body, context);
      if (!body.async_mode) return answered(opened, asked, context);
      return {
        status: 200,
        body: {
          status: 'accepted',
          execution_id: asked.turnId,
          agent_name: opened.agent.name,
          session_id: linkTokens.session(opened.link.id, asked.conversationId),
          async_mode: true,
        },
      };
    }),

    endpoint(links.clearPublicSession, async ({ params, query, context }) => {
      const opened = await enter(params.token, context);
      const conversationId = await sessionOf(opened, query.session_id, context);
      const issuer = issuerOf(opened, context);
      const { position } = await bus.dispatch(endConversation, { conversationId }, metaOf(issuer));
      if (position !== null) context.reached(position);
      const next = await begin(opened, context);
      return {
        status: 200,
        body: { cleared: true, new_session_id: linkTokens.session(opened.link.id, next) },
      };
    }),

    endpoint(links.terminatePublicExecution, async ({ params, query, context }) => {
      const opened = await enter(params.token, context);
      const conversationId = await sessionOf(opened, query.session_id, context);
      const turn = await runs.turnOf(params.id);
      if (turn?.conversationId !== conversationId) return refuse('NOT_FOUND', 'Execution not found.');
      const status = await runs.stop(turn, issuerOf(opened, context), context);
      return { status: 200, body: { status, execution_id: turn.id } };
    }),
  ];
}

const noSession = (): never =>
  refuse('NOT_FOUND', 'Session not found: leave session_id out to begin another.');

/** How busy an agent is, visitors are not told. */
function withoutDetail(error: unknown): never {
  if (!(error instanceof Refusal) || error.code !== 'RATE_LIMIT_EXCEEDED') throw error;
  const { retryAfterSeconds = 30 } = error;
  throw new Refusal('RATE_LIMIT_EXCEEDED', 'The agent is busy: try again later.', { retryAfterSeconds });
}

const said = (status: number, detail: string): JsonAnswer => ({ status, body: { detail } });

const failureOf = (end: TurnEnd): string =>
  end.type === 'TurnInterrupted' ? 'The answer was stopped before it was finished.' : links.VISITOR_FAILURE;
