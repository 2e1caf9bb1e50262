/**
 * Trinity's tasks: a task is a message that an agent answers, in a conversation made for it or in a chat of the
 * caller's with the agent.
 *
 * An Idempotency-Key counts for 24 hours in Trinity; here for good. Where Trinity binds it to the agent alone, here
 * it is the caller's, too, and with another body it is refused (422).
 */
import { type Caller, sees } from '../../contracts/caller.ts';
import type { ChatCommands, Issuer } from '../../contracts/commands/conversation.ts';
import { type Position, START } from '../../contracts/envelope.ts';
import { Refusal } from '../../contracts/errors.ts';
import type { Run } from '../../contracts/events/conversation.ts';
import * as trinity from '../../contracts/http/executions.ts';
import type { TurnFeeds } from '../../contracts/live/feeds.ts';
import { type Agents, isExecution } from '../../contracts/read-models/agents.ts';
import type { AgentDocument, ConversationDocument } from '../../contracts/read-models/documents.ts';
import { eventsOfTurn } from '../../contracts/read-models/turn-events.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import {
  callerOf,
  type Endpoint,
  endpoint,
  type HandlerInput,
  type JsonAnswer,
  type RequestContext,
} from '../../infra/http/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import { turnIdFor } from '../domain/conversation.ts';
import { issuerOf } from './conversations.ts';
import { type AgentRuns, failed, shuttingDown, stillRunning } from './runs.ts';
import { endOf } from './turn-end.ts';

export interface ExecutionCommandDependencies {
  readonly commands: ChatCommands;
  readonly agents: Agents;
  readonly readModels: ReadModels;
  readonly store: Pick<EventStore, 'readStream' | 'head'>;
  readonly feeds: Pick<TurnFeeds, 'turnEnded'>;
  /** Of every tool that there is. */
  readonly toolNames: readonly string[];
  readonly answerTimeoutMs: number;
  /** How many tokens a model takes; null: the default. */
  readonly contextWindow: (model: string | null) => number;
  readonly runs: AgentRuns;
}

type TaskInput = HandlerInput<typeof trinity.submitTask>;
type Task = TaskInput['body'];

/** A run that was asked for, by this or an earlier try of the request. */
interface Asked {
  readonly turnId: string;
  readonly conversationId: string;
  /** Of an event before its end. */
  readonly after: Position;
  readonly queued: boolean;
  readonly replayed: boolean;
  /** Whether message and answer are kept in a chat of the caller's. */
  readonly saved: boolean;
  readonly timeoutMs: number;
}

const PATIENCE = 2;

export function executionCommandEndpoints(deps: ExecutionCommandDependencies): Endpoint[] {
  const { commands, agents, readModels, store, feeds, toolNames, answerTimeoutMs, contextWindow, runs } =
    deps;
  const { turnOf, latestTry, inProgress, sourceAgent } = runs;

  // ── what a task is part of ────────────────────────────────────────────────
  /** The execution that asks for this one, and the event that asked for that. */
  async function parentOf(caller: Caller, id: string | null | undefined) {
    if (id === null || id === undefined) return null;
    const turn = await turnOf(id);
    if (turn === null || !isExecution(turn) || !sees(caller, turn.owner)) {
      throw invalid('parent_execution_id', 'there is no such execution');
    }
    const [asked] = await eventsOfTurn(store, turn);
    return { conversationId: turn.conversationId, turnId: turn.id, causationId: asked?.id ?? null };
  }

  /** The conversation that the task goes on with; null: one is to be begun. */
  async function sessionOf(
    caller: Caller,
    agent: AgentDocument,
    task: Task,
  ): Promise<Pick<ConversationDocument, 'id' | 'kind'> | null> {
    const { chat_session_id: chat, resume_session_id: resume } = task;
    const id = chat ?? resume;
    if (id !== null && id !== undefined) {
      const found = (await readModels.get<ConversationDocument>('conversations', id))?.body;
      const field = chat === null || chat === undefined ? 'resume_session_id' : 'chat_session_id';
      const isTheirs =
        found !== undefined &&
        found.owner === caller.userId &&
        found.agentId === agent.id &&
        found.kind !== 'public' &&
        (field === 'resume_session_id' || found.kind === 'chat');
      if (!isTheirs) throw invalid(field, 'you have no such session with this agent');
      if (found.status !== 'active') throw invalid(field, 'the session is closed');
      return found;
    }
    if (task.save_to_session !== true || task.create_new_session) return null;
    const { documents } = await readModels.find<ConversationDocument>('conversations', {
      where: { owner: caller.userId, agentId: agent.id, kind: 'chat', status: 'active' },
      orderBy: { field: 'position', direction: 'descending' },
      limit: 1,
    });
    return documents[0]?.body ?? null;
  }

  // ── asking for it ─────────────────────────────────────────────────────────
  async function ask(agent: AgentDocument, task: Task, context: RequestContext): Promise<Asked> {
    const caller = callerOf(context);
    const unknown = (task.allowed_tools ?? []).filter((tool) => !toolNames.includes(tool));
    if (unknown.length > 0) throw invalid('allowed_tools', `there is no tool ${unknown.join(', ')}`);
    runs.checkModel(task.model);
    const source = await sourceAgent(caller, context);
    const parent = await parentOf(caller, task.parent_execution_id);
    const run = runOf(agent, task, source, parent, context);
    const begun = { timeoutMs: run.timeoutMs };

    let commandId = context.commandId;
    if (context.retried) {
      // What an earlier try appended is to be seen first.
      context.reached(await store.head());
      await context.settled();
      const latest = await latestTry(commandId);
      commandId = latest.commandId;
      if (latest.turn !== null) {
        const { id: turnId, conversationId, status } = latest.turn;
        const kept = (await readModels.get<ConversationDocument>('conversations', conversationId))?.body;
        const saved = kept?.kind === 'chat';
        return {
          ...begun,
          turnId,
          conversationId,
          saved,
          after: START,
          queued: status === 'queued',
          replayed: true,
        };
      }
    }
    const issuer: Issuer = { ...issuerOf(context), commandId, causationId: parent?.causationId ?? null };

    const existing = await sessionOf(caller, agent, task);
    const turnId = turnIdFor(commandId);
    const place = await runs.admit(agent, turnId);
    try {
      const { id: conversationId, kind } = existing ?? (await startSession(agent, task, issuer, context));
      const sent = await commands.sendMessage(
        {
          conversationId,
          content: task.message,
          model: task.model ?? agent.model,
          instructions: task.system_prompt ?? null,
          run,
        },
        issuer,
      );
      context.reached(sent.position);
      await context.settled();
      const saved = kind === 'chat';
      return {
        ...begun,
        turnId,
        conversationId,
        saved,
        after: sent.position,
        queued: place.queued,
        replayed: false,
      };
    } finally {
      place.leave();
    }
  }

  async function startSession(
    { id, name, model }: AgentDocument,
    task: Task,
    issuer: Issuer,
    context: RequestContext,
  ): Promise<ConversationDocument> {
    const kind = isSaved(task) ? 'chat' : 'run';
    const { conversation, position } = await commands.startConversation(
      { kind, model, agent: { id, name } },
      issuer,
    );
    context.reached(position);
    return conversation;
  }

  function runOf(
    agent: AgentDocument,
    task: Task,
    source: string | undefined,
    parent: Awaited<ReturnType<typeof parentOf>>,
    { headers }: RequestContext,
  ): Run {
    const isAgents = source !== undefined || parent !== null;
    const timeoutMs =
      task.timeout_seconds == null ? undefined : Math.max(1, Math.round(task.timeout_seconds * 1_000));
    const run = agents.runOf(agent, {
      trigger: isAgents ? 'agent' : isSet(headers['x-via-mcp']) ? 'mcp' : 'manual',
      parent: parent && { conversationId: parent.conversationId, turnId: parent.turnId },
      tools: task.allowed_tools ?? null,
      timeoutMs,
      maxTurns: task.max_turns ?? undefined,
    });
    return source === undefined ? run : { ...run, sourceAgent: source };
  }

  // ── answering ─────────────────────────────────────────────────────────────
  async function answered(asked: Asked, context: RequestContext): Promise<JsonAnswer> {
    const { turnId, conversationId, after } = asked;
    const timeoutMs = Math.min(answerTimeoutMs, PATIENCE * asked.timeoutMs);
    const waiting = { feeds, timeoutMs, clientGone: context.signal };
    const end = await endOf({ turnId, conversationId, after }, waiting);
    if (end === 'still running') return stillRunning(turnId, await turnOf(turnId));
    if (end === 'shutting down') return shuttingDown(turnId);
    context.reached(end.position);
    await context.settled();
    if (end.type !== 'TurnCompleted') return failed(end);
    const firstRevision = (await turnOf(turnId))?.firstRevision ?? 0;
    const turn = { id: turnId, conversationId, firstRevision, lastRevision: end.revision };
    const events = await eventsOfTurn(store, turn);
    const { provider, model } = end.data;
    const window = contextWindow(provider === null ? null : `${provider}/${model}`);
    return {
      status: 200,
      replayed: asked.replayed,
      body: {
        response: end.data.content,
        execution_log: trinity.executionLog(events),
        metadata: trinity.metadataOf(end.data, events, conversationId, window),
        session_id: conversationId,
        timestamp: end.time,
        task_execution_id: turnId,
        ...(asked.saved && { chat_session_id: conversationId }),
      },
    };
  }

  return [
    endpoint(
      trinity.submitTask,
      async ({ params, body, context }) => {
        const agent = await agents.find(callerOf(context), params.name);
        const asked = await ask(agent, body, context);
        if (!body.async_mode) return answered(asked, context);
        const { turnId, conversationId, queued, saved, replayed } = asked;
        return {
          status: 200,
          replayed,
          body: {
            status: queued ? 'queued' : 'accepted',
            execution_id: turnId,
            agent_name: agent.name,
            message: queued ? 'Waits until the agent is free.' : 'The agent works on it.',
            async_mode: true,
            session_id: conversationId,
            ...(saved && { chat_session_id: conversationId }),
          },
        };
      },
      { inProgress },
    ),

    endpoint(trinity.terminateExecution, async ({ params, context }) => {
      const turn = await agents.execution(callerOf(context), params.name, params.id);
      const status = await runs.stop(turn, issuerOf(context), context);
      return { status: 200, body: { status, execution_id: turn.id } };
    }),
  ];
}

const isSaved = ({ save_to_session, chat_session_id, create_new_session }: Task): boolean =>
  save_to_session === true ||
  typeof chat_session_id === 'string' ||
  (create_new_session && save_to_session !== false);

const isSet = (header: string | string[] | undefined): boolean =>
  header !== undefined && !['', '0', 'false'].includes(String(header).toLowerCase());

const invalid = (field: string, message: string): Refusal =>
  new Refusal('VALIDATION_ERROR', 'The request is not valid.', {
    issues: [{ path: ['body', field], message }],
  });
