/**
 * Trinity's login and its chat with agents (seeds/trinity-chat.txt, api-notes A1.0 to A1.4): snake_case, bare objects
 * and arrays. A session is a conversation with an agent; `user_id` is Odeon's, a text.
 */
import { z } from 'zod';
import { messageContent, requestedModel } from '../commands/conversation.ts';
import { normaliseEmail } from '../commands/identity.ts';
import type { OdeonEvent } from '../events/catalogue.ts';
import { type conversationEvents, runTrigger } from '../events/conversation.ts';
import type { TurnEnd } from '../live/feeds.ts';
import type { Execution } from '../read-models/agents.ts';
import type { ConversationDocument, MessageDocument, TurnDocument } from '../read-models/documents.ts';
import {
  executionFailure,
  executionLog,
  executionMetadata,
  logEntry,
  metadataOf,
  queueFull,
  requestInProgress,
  statusOf,
  toolEntries,
} from './executions.ts';
import { asOf, limit, offset, time } from './parameters.ts';
import { route } from './route.ts';

type ConversationEvent = OdeonEvent<keyof typeof conversationEvents>;

// ── logging in ────────────────────────────────────────────────────────────
export const getToken = route({
  surface: 'trinity',
  method: 'POST',
  path: '/api/token',
  summary: 'Log in; the user name is the e-mail address. API keys need no login: they are tokens themselves.',
  access: 'public',
  bodyType: 'form',
  body: z.object({
    username: z.string().max(254, 'an e-mail address has at most 254 characters').transform(normaliseEmail),
    password: z.string().max(256, 'a password has at most 256 characters'),
  }),
  answers: { 200: z.strictObject({ access_token: z.string(), token_type: z.literal('bearer') }) },
  repeat: 'derived',
  example: {
    body: { username: 'ada@example.org', password: 'correct horse battery staple' },
    answer: { access_token: 'eyJhbGciOiJSUzI1NiJ9…', token_type: 'bearer' },
  },
});

// ── sessions ──────────────────────────────────────────────────────────────
export const sessionStatus = z.enum(['active', 'closed']);
const sessionStatusOf = { active: 'active', ended: 'closed' } as const;
/** As conversations call it. */
export const conversationStatusOf = { active: 'active', closed: 'ended' } as const;

export const chatSession = z.strictObject({
  id: z.string(),
  agent_name: z.string(),
  user_id: z.string(),
  user_email: z.string().nullable(),
  started_at: z.string(),
  /** Until there is a message: when it was begun. */
  last_message_at: z.string(),
  message_count: z.int(),
  /** US dollars, as far as the models' prices are known. */
  total_cost: z.number(),
  /** Tokens: of the last prompt and its answer, and how many the model could take. */
  total_context_used: z.int(),
  total_context_max: z.int(),
  status: sessionStatus,
});
export type ChatSession = z.infer<typeof chatSession>;

/** What rendering needs besides the documents. */
export interface SessionSource {
  readonly agentName: string;
  readonly userEmail: string | null;
  /** Tokens. */
  readonly contextWindow: number;
}

export const renderSession = (doc: ConversationDocument, source: SessionSource): ChatSession => ({
  id: doc.id,
  agent_name: source.agentName,
  user_id: doc.owner,
  user_email: source.userEmail,
  started_at: doc.createdAt,
  last_message_at: doc.lastMessageAt ?? doc.createdAt,
  message_count: doc.messageCount,
  total_cost: doc.costUsd,
  total_context_used: doc.contextTokens,
  total_context_max: source.contextWindow,
  status: sessionStatusOf[doc.status],
});

export const chatMessage = z.strictObject({
  id: z.string(),
  session_id: z.string(),
  agent_name: z.string(),
  user_id: z.string(),
  user_email: z.string().nullable(),
  role: z.enum(['user', 'assistant']),
  content: z.string(),
  timestamp: z.string(),
  /** Of an answer: US dollars (null: not known), tokens of its last prompt, and what took part in it. */
  cost: z.number().nullable().optional(),
  context_used: z.int().optional(),
  context_max: z.int().optional(),
  /** JSON: `[{"tool": …}]`. */
  tool_calls: z.string().optional(),
  execution_time_ms: z.number().optional(),
  output_tokens: z.int().optional(),
  // Beyond Trinity's: the execution, how it ended and, where it failed, why.
  execution_id: z.string(),
  status: z.enum(['success', 'cancelled', 'failed']).optional(),
  error: z.string().optional(),
});
export type ChatMessage = z.infer<typeof chatMessage>;

const answerStatus = { complete: 'success', interrupted: 'cancelled', failed: 'failed' } as const;

/** @param lastPrompt tokens of the answer's last prompt; null: no model was reached, or it is not known */
export function renderMessage(
  doc: MessageDocument,
  source: SessionSource,
  lastPrompt: number | null,
): ChatMessage {
  const { answer } = doc;
  return {
    id: doc.id,
    session_id: doc.conversationId,
    agent_name: source.agentName,
    user_id: doc.owner,
    user_email: source.userEmail,
    role: doc.role,
    content: doc.content,
    timestamp: doc.createdAt,
    ...(answer !== null && {
      cost: answer.costUsd,
      ...(lastPrompt !== null && { context_used: lastPrompt }),
      context_max: source.contextWindow,
      tool_calls: JSON.stringify(answer.toolsUsed.map((tool) => ({ tool }))),
      execution_time_ms: answer.durationMs,
      output_tokens: answer.usage.completionTokens,
    }),
    execution_id: doc.turnId,
    ...(answer !== null && { status: answerStatus[doc.status] }),
    ...(doc.reason !== null && { error: doc.reason }),
  };
}

const agentParams = z.object({ name: z.string() });
const sessionParams = z.object({ name: z.string(), id: z.string() });
const agentExample = { name: 'researcher' };
const sessionExample = { ...agentExample, id: '0123456789ab' };
const exampleSession: ChatSession = {
  id: '0123456789ab',
  agent_name: 'researcher',
  user_id: '7c1f0b6d2a9e4c53',
  user_email: 'ada@example.org',
  started_at: '2026-11-22T10:00:00.000Z',
  last_message_at: '2026-11-22T10:00:04.000Z',
  message_count: 2,
  total_cost: 0.0021,
  total_context_used: 420,
  total_context_max: 200_000,
  status: 'active',
};
const exampleMessages: ChatMessage[] = [
  {
    id: 'msg_1a2b3c4d5e6f1a2b3c4d5e6f',
    session_id: '0123456789ab',
    agent_name: 'researcher',
    user_id: '7c1f0b6d2a9e4c53',
    user_email: 'ada@example.org',
    role: 'user',
    content: 'Summarize the latest research findings',
    timestamp: '2026-11-22T10:00:00.000Z',
    execution_id: 'turn_1a2b3c4d5e6f1a2b3c4d5e6f',
  },
];

export const listSessions = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/agents/:name/chat/sessions',
  summary:
    "The caller's sessions with an agent, the one that changed last first; admins and auditors see everybody's.",
  access: 'chat:read',
  params: agentParams,
  query: z.object({ status: sessionStatus.optional(), limit: limit(500, 100), offset, asOf }),
  answers: {
    200: z.strictObject({
      agent_name: z.string(),
      /** Of all pages. */
      session_count: z.int(),
      sessions: z.array(chatSession),
    }),
  },
  example: {
    params: agentExample,
    answer: { agent_name: 'researcher', session_count: 1, sessions: [exampleSession] },
  },
});

export const getSession = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/agents/:name/chat/sessions/:id',
  summary: 'A session with its last messages, oldest first.',
  access: 'chat:read',
  params: sessionParams,
  query: z.object({ limit: limit(1_000, 100), asOf }),
  answers: {
    200: z.strictObject({
      session: chatSession,
      /** Of the messages below. */
      message_count: z.int(),
      messages: z.array(chatMessage),
    }),
  },
  example: {
    params: sessionExample,
    answer: { session: exampleSession, message_count: 1, messages: exampleMessages },
  },
});

export const closeSession = route({
  surface: 'trinity',
  method: 'POST',
  path: '/api/agents/:name/chat/sessions/:id/close',
  summary: 'Ends a session: what runs in it is stopped, and it takes no more messages.',
  access: 'chat:write',
  params: sessionParams,
  answers: { 200: z.strictObject({ status: z.literal('closed'), session_id: z.string() }) },
  example: { params: sessionExample, answer: { status: 'closed', session_id: '0123456789ab' } },
});

// ── history ───────────────────────────────────────────────────────────────
export const getPersistentHistory = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/agents/:name/chat/history/persistent',
  summary:
    "The last messages of all the caller's sessions with an agent, oldest first. Admins and auditors get everybody's, " +
    'unless `user_filter` is true.',
  access: 'chat:read',
  params: agentParams,
  query: z.object({
    limit: limit(1_000, 100),
    user_filter: z
      .enum(['true', 'false', '1', '0'])
      .default('false')
      .transform((text) => text === 'true' || text === '1'),
    asOf,
  }),
  answers: {
    200: z.strictObject({ agent_name: z.string(), message_count: z.int(), messages: z.array(chatMessage) }),
  },
  example: {
    params: agentExample,
    answer: { agent_name: 'researcher', message_count: 1, messages: exampleMessages },
  },
});

export const getHistory = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/agents/:name/chat/history',
  summary: "The last messages of the caller's current session with an agent, oldest first.",
  access: 'chat:read',
  params: agentParams,
  query: z.object({ limit: limit(1_000, 1_000) }),
  answers: {
    200: z.array(
      z.strictObject({ role: z.enum(['user', 'assistant']), content: z.string(), timestamp: z.string() }),
    ),
  },
  example: {
    params: agentExample,
    answer: [
      {
        role: 'user',
        content: 'Summarize the latest research findings',
        timestamp: '2026-11-22T10:00:00.000Z',
      },
    ],
  },
});

export const resetHistory = route({
  surface: 'trinity',
  method: 'DELETE',
  path: '/api/agents/:name/chat/history',
  summary:
    "Ends the caller's current session with an agent and what runs in it: the next message begins another. What was " +
    'said stays in the persistent history.',
  access: 'chat:write',
  params: agentParams,
  answers: {
    200: z.strictObject({
      status: z.literal('cleared'),
      session_reset: z.literal(true),
      session: z.strictObject({
        total_cost_usd: z.literal(0),
        context_tokens: z.literal(0),
        context_window: z.int(),
        message_count: z.literal(0),
      }),
    }),
  },
  example: {
    params: agentExample,
    answer: {
      status: 'cleared',
      session_reset: true,
      session: { total_cost_usd: 0, context_tokens: 0, context_window: 200_000, message_count: 0 },
    },
  },
});

export const currentSession = z.strictObject({
  session_started: z.boolean(),
  /** Null until the first message begins one. */
  session_id: z.string().nullable(),
  message_count: z.int(),
  total_cost_usd: z.number(),
  context_tokens: z.int(),
  context_window: z.int(),
  context_percent: z.number(),
  /** Who answered last; until then who is to. */
  model: z.string(),
});

export const getCurrentSession = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/agents/:name/chat/session',
  summary: "The caller's current session with an agent: what it took so far.",
  access: 'chat:read',
  params: agentParams,
  answers: { 200: currentSession },
  example: {
    params: agentExample,
    answer: {
      session_started: true,
      session_id: '0123456789ab',
      message_count: 2,
      total_cost_usd: 0.0021,
      context_tokens: 420,
      context_window: 200_000,
      context_percent: 0.21,
      model: 'anthropic/claude-sonnet-4-5',
    },
  },
});

// ── chat ──────────────────────────────────────────────────────────────────
/** Trinity's families of models; what this deployment serves is checked by who knows it. */
export const MODEL_FAMILIES = /^(?:sonnet|opus|haiku|fable|claude-|gemini-|gpt-|codex)/i;

const queueStatus = z.string().regex(/^(?:running|queued:\d+)$/);

export const chatAnswer = z.strictObject({
  response: z.string(),
  execution_log: z.array(logEntry),
  /** The tools' entries of it. */
  execution_log_simplified: z.array(logEntry),
  metadata: executionMetadata,
  session: z.strictObject({
    total_cost_usd: z.number(),
    context_tokens: z.int(),
    context_window: z.int(),
    message_count: z.int(),
    model: z.string().nullable(),
    session_id: z.string(),
  }),
  session_id: z.string(),
  timestamp: z.string(),
  execution: z.strictObject({
    /** Of the request's place in the queue; ends with it. */
    id: z.string(),
    /** Of the execution, for good. */
    task_execution_id: z.string(),
    queue_status: queueStatus,
    was_queued: z.boolean(),
  }),
});
export type ChatAnswer = z.infer<typeof chatAnswer>;

/** What an answer is rendered from. */
export interface AnsweredChat {
  readonly end: TurnEnd;
  /** Of the turn, in order, its end included. */
  readonly events: readonly ConversationEvent[];
  /** As it was when the turn had ended. */
  readonly session: ConversationDocument;
  readonly contextWindow: number;
  /** How many messages of the session were before it when it was sent. */
  readonly ahead: number;
}

export function renderChatAnswer({ end, events, session, contextWindow, ahead }: AnsweredChat): ChatAnswer {
  const log = [...executionLog(events)];
  const { data } = end;
  return {
    response: data.content,
    execution_log: log,
    execution_log_simplified: [...toolEntries(log)],
    metadata: metadataOf(data, events, session.id, contextWindow),
    session: {
      total_cost_usd: session.costUsd,
      context_tokens: session.contextTokens,
      context_window: contextWindow,
      message_count: session.messageCount,
      model: session.answeredBy,
      session_id: session.id,
    },
    session_id: session.id,
    timestamp: end.time,
    execution: {
      id: `queue_${data.turnId.slice('turn_'.length)}`,
      task_execution_id: data.turnId,
      queue_status: ahead === 0 ? 'running' : `queued:${ahead}`,
      was_queued: ahead > 0,
    },
  };
}

export const chat = route({
  surface: 'trinity',
  method: 'POST',
  path: '/api/agents/:name/chat',
  summary:
    "Sends a message in the caller's current session with an agent (its newest that is active, else a new one) and " +
    'answers with what the agent says. For `Accept: text/event-stream` or `application/x-ndjson` the entries of its ' +
    'log come as they are written, text piece by piece, and the answer as the last entry; server-sent events resume ' +
    'at `…/executions/{id}/stream`. A repeated Idempotency-Key gets the same answer, unless the execution failed or ' +
    'was cancelled: then it runs again.',
  access: 'chat:write',
  params: agentParams,
  body: z.strictObject({
    message: messageContent,
    /** Of a family of Trinity's, or of this deployment. Empty: the agent's. */
    model: z.union([z.literal('').transform(() => null), requestedModel]).nullish(),
    files: z.array(z.unknown()).max(0, 'files are not supported here yet: leave them out').nullish(),
  }),
  repeat: 'derived',
  keyScope: 'name',
  streams: ['text/event-stream', 'application/x-ndjson'],
  answers: {
    200: chatAnswer,
    409: requestInProgress,
    429: queueFull,
    502: executionFailure,
    503: executionFailure,
    504: executionFailure,
  },
  example: { params: agentExample, body: { message: 'Summarize the latest research findings' } },
});

// ── activity ──────────────────────────────────────────────────────────────
/** In characters. */
const SUMMARY = 200;
const summaryOf = (value: unknown): string => {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? '');
  return text.length <= SUMMARY ? text : `${text.slice(0, SUMMARY - 1).toWellFormed()}…`;
};

export const toolActivity = z.strictObject({
  id: z.string(),
  tool: z.string(),
  input: z.unknown(),
  input_summary: z.string(),
  output_summary: z.string().optional(),
  duration_ms: z.number().optional(),
  started_at: z.string(),
  ended_at: z.string().optional(),
  success: z.boolean().optional(),
  status: z.enum(['running', 'completed']),
  execution_id: z.string(),
});
export type ToolActivity = z.infer<typeof toolActivity>;

export const toolCall = z.strictObject({
  id: z.string(),
  tool: z.string(),
  input: z.unknown(),
  /** Null while it runs, and where it was stopped. */
  output: z.unknown(),
  duration_ms: z.number().nullable(),
  started_at: z.string(),
  ended_at: z.string().nullable(),
  success: z.boolean().nullable(),
});
export type ToolCall = z.infer<typeof toolCall>;

/** A use of a tool, from its call to its end. */
export interface ToolUse extends ToolCall {
  readonly executionId: string;
}

/** @param events of one turn, in order; a turn that has ended ends what its tools had not */
export function toolUsesOf(events: readonly ConversationEvent[]): readonly ToolUse[] {
  const uses = new Map<string, ToolUse>();
  for (const event of events) {
    switch (event.type) {
      case 'ToolCalled': {
        const { turnId: executionId, toolCallId: id, tool, arguments: input } = event.data;
        const running = { output: null, duration_ms: null, ended_at: null, success: null };
        uses.set(id, { id, tool, input, executionId, started_at: event.time, ...running });
        break;
      }
      case 'ToolReturned': {
        const { toolCallId, result: output, isError, durationMs } = event.data;
        const use = uses.get(toolCallId);
        if (use === undefined) break;
        const returned = { output, duration_ms: durationMs, ended_at: event.time, success: !isError };
        uses.set(toolCallId, { ...use, ...returned });
        break;
      }
      case 'TurnCompleted':
      case 'TurnInterrupted':
      case 'TurnFailed':
        for (const [id, use] of uses) {
          if (use.ended_at !== null) continue;
          const duration_ms = Date.parse(event.time) - Date.parse(use.started_at);
          uses.set(id, { ...use, duration_ms, ended_at: event.time, success: false });
        }
        break;
    }
  }
  return [...uses.values()];
}

export const renderToolCall = ({ executionId: _execution, ...call }: ToolUse): ToolCall => call;

const renderToolActivity = (use: ToolUse): ToolActivity => ({
  id: use.id,
  tool: use.tool,
  input: use.input,
  input_summary: summaryOf(use.input),
  ...(use.output !== null && { output_summary: summaryOf(use.output) }),
  ...(use.duration_ms !== null && { duration_ms: use.duration_ms }),
  started_at: use.started_at,
  ...(use.ended_at !== null && { ended_at: use.ended_at }),
  ...(use.success !== null && { success: use.success }),
  status: use.ended_at === null ? 'running' : 'completed',
  execution_id: use.executionId,
});

export const agentActivity = z.strictObject({
  /** `running`: one of the caller's executions runs. */
  status: z.enum(['running', 'idle']),
  active_tool: z
    .strictObject({ name: z.string(), input_summary: z.string(), started_at: z.string() })
    .nullable(),
  tool_counts: z.record(z.string(), z.int()),
  /** Newest first. */
  timeline: z.array(toolActivity),
  /** `started_at`: of the first call that is counted. */
  totals: z.strictObject({ calls: z.int(), duration_ms: z.number(), started_at: z.string().nullable() }),
});
export type AgentActivity = z.infer<typeof agentActivity>;

/** Of the executions that are looked at, so many entries are listed; all are counted. */
const LONGEST_TIMELINE = 100;

/** @param uses in any order */
export function renderActivity(uses: readonly ToolUse[], running: boolean): AgentActivity {
  const newest = uses.toSorted((a, b) => compare(b.started_at, a.started_at));
  const active = newest.find((use) => use.ended_at === null);
  const counts = Object.groupBy(newest, (use) => use.tool);
  return {
    status: running ? 'running' : 'idle',
    active_tool:
      active === undefined
        ? null
        : { name: active.tool, input_summary: summaryOf(active.input), started_at: active.started_at },
    tool_counts: Object.fromEntries(Object.entries(counts).map(([tool, calls]) => [tool, calls!.length])),
    timeline: newest.slice(0, LONGEST_TIMELINE).map(renderToolActivity),
    totals: {
      calls: uses.length,
      duration_ms: uses.reduce((sum, use) => sum + (use.duration_ms ?? 0), 0),
      started_at: newest.at(-1)?.started_at ?? null,
    },
  };
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

export const getActivity = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/agents/:name/activity',
  summary:
    "What an agent does for the caller, and which tools it used: of the caller's latest 50 executions, the newest " +
    'call first.',
  access: 'chat:read',
  params: agentParams,
  answers: { 200: agentActivity },
  example: {
    params: agentExample,
    answer: {
      status: 'idle',
      active_tool: null,
      tool_counts: {},
      timeline: [],
      totals: { calls: 0, duration_ms: 0, started_at: null },
    },
  },
});

export const getToolActivity = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/agents/:name/activity/:tool_id',
  summary: 'A use of a tool in whole: what it was asked, and what it gave.',
  access: 'chat:read',
  params: z.object({ name: z.string(), tool_id: z.string() }),
  answers: { 200: toolCall },
  example: { params: { ...agentExample, tool_id: 'call_1a2b3c4d5e6f1a2b_1' } },
});

/** Trinity's words. Odeon's executions are chats, collaborations (an agent asked) and their tool calls. */
export const activityType = z.enum([
  'chat_start',
  'chat_end',
  'tool_call',
  'schedule_start',
  'schedule_end',
  'agent_collaboration',
  'self_task',
  'execution_cancelled',
  'file_access',
  'model_change',
  'credential_reload',
  'git_sync',
]);
export type ActivityType = z.infer<typeof activityType>;

export const activity = z.strictObject({
  id: z.string(),
  agent_name: z.string(),
  activity_type: activityType,
  activity_state: z.enum(['started', 'completed', 'failed', 'cancelled']),
  parent_activity_id: z.string().nullable(),
  started_at: z.string(),
  completed_at: z.string().nullable(),
  duration_ms: z.number().nullable(),
  user_id: z.string(),
  triggered_by: runTrigger,
  related_chat_message_id: z.string().nullable(),
  related_execution_id: z.string(),
  details: z.record(z.string(), z.unknown()).nullable(),
  error: z.string().nullable(),
  created_at: z.string(),
});
export type Activity = z.infer<typeof activity>;

const activityState = {
  queued: 'started',
  running: 'started',
  success: 'completed',
  failed: 'failed',
  cancelled: 'cancelled',
} as const;

/** An execution as an activity. */
export function renderRunActivity(turn: Execution): Activity {
  const { run } = turn;
  return {
    id: turn.id,
    agent_name: run.agentName,
    activity_type: runActivityType(run),
    activity_state: activityState[statusOf(turn) as keyof typeof activityState],
    parent_activity_id: run.parentTurnId,
    started_at: turn.startedAt ?? turn.requestedAt,
    completed_at: turn.endedAt,
    duration_ms:
      turn.endedAt === null
        ? null
        : Date.parse(turn.endedAt) - Date.parse(turn.startedAt ?? turn.requestedAt),
    user_id: turn.owner,
    triggered_by: run.trigger,
    related_chat_message_id: turn.userMessageId,
    related_execution_id: turn.id,
    details: {
      session_id: turn.conversationId,
      queued: turn.status === 'queued',
      ...(run.sourceAgent !== null && { source_agent: run.sourceAgent }),
    },
    error: turn.reason,
    created_at: turn.requestedAt,
  };
}

export const runActivityType = (run: NonNullable<TurnDocument['run']>): ActivityType =>
  run.trigger === 'agent' || run.trigger === 'fan_out' ? 'agent_collaboration' : 'chat_start';

/** A use of a tool in an execution, as an activity. */
export const renderToolUse = (turn: Execution, use: ToolUse): Activity => ({
  id: use.id,
  agent_name: turn.run.agentName,
  activity_type: 'tool_call',
  activity_state: use.ended_at === null ? 'started' : use.success === true ? 'completed' : 'failed',
  parent_activity_id: turn.id,
  started_at: use.started_at,
  completed_at: use.ended_at,
  duration_ms: use.duration_ms,
  user_id: turn.owner,
  triggered_by: turn.run.trigger,
  related_chat_message_id: turn.userMessageId,
  related_execution_id: turn.id,
  details: { tool_name: use.tool, input_summary: summaryOf(use.input) },
  error: use.success === false ? summaryOf(use.output ?? 'It was stopped.') : null,
  created_at: use.started_at,
});

export const getTimeline = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/activities/timeline',
  summary:
    "What the caller's agents did, the newest first: executions that were asked for in the time, and their tool " +
    "calls. Admins and auditors get everybody's.",
  access: 'chat:read',
  query: z.object({
    start_time: time.optional(),
    end_time: time.optional(),
    /** Names with commas between them. */
    activity_types: z
      .string()
      .max(400)
      .transform((text) => text.split(',').filter((name) => name !== ''))
      .pipe(z.array(activityType))
      .optional(),
    limit: limit(500, 100),
  }),
  answers: { 200: z.strictObject({ count: z.int(), activities: z.array(activity) }) },
  example: { query: { activity_types: 'chat_start,tool_call', limit: 50 } },
});

export const trinityRoutes = [
  getToken,
  chat,
  listSessions,
  getSession,
  closeSession,
  getPersistentHistory,
  getHistory,
  resetHistory,
  getCurrentSession,
  getActivity,
  getToolActivity,
  getTimeline,
] as const;
