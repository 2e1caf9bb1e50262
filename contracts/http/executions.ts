/**
 * Trinity's tasks and executions (seeds/trinity-chat.txt, api-notes A1.8, A1.9): snake_case, bare objects and
 * arrays. An execution is a turn that an agent answers; its id is the turn's. What Trinity names and Odeon has no
 * source for is null: schedules, validation, fan-out's business status, and compaction.
 */
import { z } from 'zod';
import { agentModel, agentTools } from '../commands/agent.ts';
import { messageContent } from '../commands/conversation.ts';
import type { OdeonEvent } from '../events/catalogue.ts';
import { type conversationEvents, runTrigger } from '../events/conversation.ts';
import { frameId } from '../live/frames.ts';
import type { Execution } from '../read-models/agents.ts';
import type { MessageDocument, TurnDocument } from '../read-models/documents.ts';
import { limit, offset } from './parameters.ts';
import { route } from './route.ts';

export { type Execution, isExecution } from '../read-models/agents.ts';

type ConversationEvent = OdeonEvent<keyof typeof conversationEvents>;

// ── the log of an execution ───────────────────────────────────────────────
const logged = { id: z.string(), timestamp: z.string() };

export const logEntry = z.discriminatedUnion('type', [
  z.strictObject({ ...logged, type: z.literal('tool_use'), tool: z.string(), input: z.unknown() }),
  z.strictObject({
    ...logged,
    type: z.literal('tool_result'),
    tool: z.string(),
    output: z.unknown(),
    success: z.boolean(),
    duration_ms: z.number(),
  }),
  /** What a model wrote; in a stream, a piece of it. */
  z.strictObject({ ...logged, type: z.literal('text'), text: z.string() }),
  z.strictObject({ ...logged, type: z.literal('thinking'), text: z.string() }),
  /** A model that failed; another may have been asked. */
  z.strictObject({ ...logged, type: z.literal('error'), error: z.string() }),
  /** `running` begins an attempt. `restarted` (in streams): forget the text so far, it begins anew. */
  z.strictObject({
    ...logged,
    type: z.literal('status'),
    status: z.enum(['running', 'restarted', 'success', 'failed', 'cancelled']),
    attempt: z.int().optional(),
    error: z.string().optional(),
  }),
]);
export type LogEntry = z.infer<typeof logEntry>;
export type ToolEntry = Extract<LogEntry, { type: 'tool_use' | 'tool_result' }>;

/** What the log of an execution says of an event of its turn. Pure. */
export function logEntriesOf(event: ConversationEvent): readonly LogEntry[] {
  const { time: timestamp } = event;
  switch (event.type) {
    case 'TurnStarted':
      return [{ id: event.id, type: 'status', status: 'running', attempt: event.data.attempt, timestamp }];
    case 'ToolCalled': {
      const { toolCallId: id, tool, arguments: input } = event.data;
      return [{ id, type: 'tool_use', tool, input, timestamp }];
    }
    case 'ToolReturned': {
      const { toolCallId: id, tool, result: output, isError, durationMs } = event.data;
      return [
        { id, type: 'tool_result', tool, output, success: !isError, duration_ms: durationMs, timestamp },
      ];
    }
    case 'ModelAnswered': {
      const { callId: id, text, reasoning } = event.data;
      return [
        ...(reasoning === '' ? [] : [{ id, type: 'thinking' as const, text: reasoning, timestamp }]),
        ...(text === '' ? [] : [{ id, type: 'text' as const, text, timestamp }]),
      ];
    }
    case 'ModelFailed': {
      const { callId: id, provider, model, reason } = event.data;
      return [{ id, type: 'error', error: `${provider}/${model}: ${reason}`, timestamp }];
    }
    case 'TurnCompleted':
      return [{ id: event.id, type: 'status', status: 'success', timestamp }];
    case 'TurnInterrupted':
      return [{ id: event.id, type: 'status', status: 'cancelled', timestamp }];
    case 'TurnFailed':
      return [{ id: event.id, type: 'status', status: 'failed', error: event.data.reason, timestamp }];
    default:
      return [];
  }
}

/** @param events of one turn, in order */
export const executionLog = (events: readonly ConversationEvent[]): readonly LogEntry[] =>
  events.flatMap(logEntriesOf);

/** Trinity's simplified log: the tools that were used, and what they gave. */
export const toolEntries = (log: readonly LogEntry[]): readonly ToolEntry[] =>
  log.filter((entry): entry is ToolEntry => entry.type === 'tool_use' || entry.type === 'tool_result');

// ── how an answer came about ──────────────────────────────────────────────
export const executionMetadata = z.strictObject({
  /** US dollars; null when a model without a known price took part. */
  cost_usd: z.number().nullable(),
  duration_ms: z.number(),
  /** Calls of models. */
  num_turns: z.int(),
  tool_count: z.int(),
  /** Of the conversation; `resume_session_id` goes on with it. */
  session_id: z.string(),
  input_tokens: z.int(),
  output_tokens: z.int(),
  cache_creation_tokens: z.null(),
  cache_read_tokens: z.int(),
  /** Tokens that the model takes. */
  context_window: z.int(),
});
export type ExecutionMetadata = z.infer<typeof executionMetadata>;

/**
 * @param events of one turn that has ended, in order
 * @param contextWindow of the model that answered, in tokens
 */
export function metadataOf(
  end: OdeonEvent<'TurnCompleted' | 'TurnInterrupted' | 'TurnFailed'>['data'],
  events: readonly ConversationEvent[],
  conversationId: string,
  contextWindow: number,
): ExecutionMetadata {
  const count = (type: ConversationEvent['type']) => events.filter((event) => event.type === type).length;
  return {
    cost_usd: end.costUsd,
    duration_ms: end.durationMs,
    num_turns: count('ModelAnswered') + count('ModelFailed'),
    tool_count: count('ToolCalled'),
    session_id: conversationId,
    input_tokens: end.usage.promptTokens,
    output_tokens: end.usage.completionTokens,
    cache_creation_tokens: null,
    cache_read_tokens: end.usage.cachedTokens,
    context_window: contextWindow,
  };
}

// ── executions ────────────────────────────────────────────────────────────
/** Trinity's words. No execution of Odeon's is `skipped` or `pending_retry`. */
export const executionStatus = z.enum([
  'queued',
  'running',
  'success',
  'failed',
  'cancelled',
  'skipped',
  'pending_retry',
]);
export type ExecutionStatus = z.infer<typeof executionStatus>;

const statusOfTurn = {
  queued: 'queued',
  running: 'running',
  completed: 'success',
  failed: 'failed',
  interrupted: 'cancelled',
} as const satisfies Record<TurnDocument['status'], ExecutionStatus>;

export const statusOf = (turn: Pick<TurnDocument, 'status'>): ExecutionStatus => statusOfTurn[turn.status];

/** The status of the turns that Trinity calls so; null where there are none. */
export const turnStatusOf = (status: ExecutionStatus): TurnDocument['status'] | null =>
  (Object.keys(statusOfTurn) as TurnDocument['status'][]).find((one) => statusOfTurn[one] === status) ?? null;

/** Trinity's words. Those that nothing here begins (schedules, webhooks, …) find nothing. */
export const executionTrigger = z.enum([
  ...runTrigger.options,
  'schedule',
  'self_task',
  'session',
  'paid',
  'webhook',
  'loop',
  'reminder',
]);

export const executionSummary = z.strictObject({
  id: z.string(),
  schedule_id: z.null(),
  agent_name: z.string(),
  status: executionStatus,
  /** Until it runs: when it was asked for. */
  started_at: z.string(),
  completed_at: z.string().nullable(),
  duration_ms: z.number().nullable(),
  message: z.string(),
  triggered_by: runTrigger,
  /** Tokens of the last prompt. */
  context_used: z.int().nullable(),
  /** Tokens that the model takes that was asked last. */
  context_max: z.int().nullable(),
  /** US dollars; null when it is not known, or not yet. */
  cost: z.number().nullable(),
  source_user_id: z.string(),
  source_user_email: z.string().nullable(),
  source_agent_name: z.string().nullable(),
  /** Of the API key that asked. */
  source_mcp_key_id: z.string().nullable(),
  source_mcp_key_name: z.string().nullable(),
  /** Of the conversation. */
  claude_session_id: z.string(),
  model_used: z.string().nullable(),
  /** Of the orchestration that it is a step of. */
  fan_out_id: z.string().nullable(),
  business_status: z.null(),
  validation_execution_id: z.null(),
  compact_metadata: z.null(),
  // Beyond Trinity's:
  queued_at: z.string(),
  attempt: z.int(),
  max_attempts: z.int(),
  parent_execution_id: z.string().nullable(),
});
export type ExecutionSummary = z.infer<typeof executionSummary>;

export const executionDetail = executionSummary.extend({
  response: z.string().nullable(),
  error: z.string().nullable(),
  /** JSON: the tools' entries of the log. */
  tool_calls: z.string(),
  /** JSON: the log. */
  execution_log: z.string(),
  validated_at: z.null(),
  validates_execution_id: z.null(),
});
export type ExecutionDetail = z.infer<typeof executionDetail>;

/** Who asked, as far as the read models know them by name. */
export interface ExecutionSource {
  readonly email: string | null;
  readonly keyName: string | null;
  /** Of the execution that asked. */
  readonly parentAgent: string | null;
  /** Tokens that a model takes. */
  readonly contextWindow: (model: string) => number;
}

/** The call of a model that tells most of a turn: the last that was answered, or else the last. */
const lastCall = (calls: TurnDocument['calls']) =>
  calls.findLast((call) => call.error === null) ?? calls.at(-1);

/** Tokens of a turn's last prompt; null when no model has answered. */
export const contextUsed = ({ calls }: Pick<TurnDocument, 'calls'>): number | null =>
  lastCall(calls)?.usage?.promptTokens ?? null;

export function renderExecution(turn: Execution, source: ExecutionSource): ExecutionSummary {
  const { run, calls } = turn;
  const last = lastCall(calls);
  const model = last === undefined ? null : `${last.provider}/${last.model}`;
  const startedAt = turn.startedAt ?? turn.requestedAt;
  const { actor } = run;
  return {
    id: turn.id,
    schedule_id: null,
    agent_name: run.agentName,
    status: statusOf(turn),
    started_at: startedAt,
    completed_at: turn.endedAt,
    duration_ms: turn.endedAt === null ? null : Date.parse(turn.endedAt) - Date.parse(startedAt),
    message: run.message,
    triggered_by: run.trigger,
    context_used: contextUsed(turn),
    context_max: model === null ? null : source.contextWindow(model),
    cost: turn.costUsd,
    source_user_id: turn.owner,
    source_user_email: source.email,
    source_agent_name: run.sourceAgent ?? source.parentAgent ?? (actor.kind === 'agent' ? actor.id : null),
    source_mcp_key_id: actor.kind === 'apiKey' ? actor.id : null,
    source_mcp_key_name: source.keyName,
    claude_session_id: turn.conversationId,
    model_used: model,
    fan_out_id: run.orchestrationId,
    business_status: null,
    validation_execution_id: null,
    compact_metadata: null,
    queued_at: turn.requestedAt,
    attempt: turn.attempt,
    max_attempts: run.maxAttempts,
    parent_execution_id: run.parentTurnId,
  };
}

export const renderExecutionDetail = (
  turn: Execution,
  source: ExecutionSource,
  answer: Pick<MessageDocument, 'content'> | null,
  log: readonly LogEntry[],
): ExecutionDetail => ({
  ...renderExecution(turn, source),
  response: answer?.content ?? null,
  error: turn.reason,
  tool_calls: JSON.stringify(toolEntries(log)),
  execution_log: JSON.stringify(log),
  validated_at: null,
  validates_execution_id: null,
});

// ── routes ────────────────────────────────────────────────────────────────
const agentParams = z.object({ name: z.string() });
const executionParams = z.object({ name: z.string(), id: z.string() });

const orText = <Detail extends z.ZodType>(detail: Detail) =>
  z.strictObject({ detail: z.union([z.string(), detail]) });
/** Why there is no answer (yet), and where to look for it. */
export const executionFailure = orText(
  z.strictObject({
    error: z.string(),
    message: z.string(),
    execution_id: z.string(),
    status: executionStatus,
  }),
);
export const queueFull = orText(
  z.strictObject({
    error: z.literal('Agent queue is full'),
    agent: z.string(),
    queue_length: z.int(),
    retry_after: z.int(),
    message: z.string(),
  }),
);
export const requestInProgress = orText(
  z.strictObject({ error: z.literal('request_in_progress'), message: z.string(), execution_id: z.string() }),
);

const NOT_YET = 'this option is not supported here yet: leave it out';

export const taskBody = z
  .strictObject({
    message: messageContent,
    /** Empty: the agent's. */
    model: z.union([z.literal('').transform(() => null), agentModel]).nullish(),
    /** Of the agent's tools, those that it may use. */
    allowed_tools: agentTools.nullish(),
    /** Added to the agent's instructions. */
    system_prompt: z.string().max(32_000, 'a system prompt has at most 32,000 characters').nullish(),
    /** The agent's own when that is less, however long this is. */
    timeout_seconds: z.number().positive().nullish(),
    /** Calls of models; no more than the agent's budget allows. */
    max_turns: z.int().positive().max(1_000).nullish(),
    async_mode: z.boolean().default(false),
    /** Keeps message and answer in the caller's chat with the agent: the one named, a new one, or the latest. */
    save_to_session: z.boolean().optional(),
    create_new_session: z.boolean().default(false),
    chat_session_id: z.string().nullish(),
    /** Goes on with the conversation of an earlier task (its `session_id`). */
    resume_session_id: z.string().nullish(),
    /** The execution that asks for this one. */
    parent_execution_id: z.string().nullish(),
    // Trinity's, and not carried out here: refused by name, not ignored.
    user_message: z.null(NOT_YET).optional(),
    inject_result: z.literal(false, NOT_YET).optional(),
    files: z.array(z.unknown()).max(0, NOT_YET).nullish(),
  })
  .refine(
    ({ chat_session_id: chat, resume_session_id: resume }) =>
      chat == null || resume == null || chat === resume,
    { error: 'names another conversation than chat_session_id', path: ['resume_session_id'] },
  )
  .refine(
    (body) => !body.create_new_session || (body.chat_session_id == null && body.resume_session_id == null),
    { error: 'a new session is not one that exists: give one or the other', path: ['create_new_session'] },
  )
  .refine((body) => body.save_to_session !== false || body.chat_session_id == null, {
    error: 'chat_session_id saves to that session: leave out save_to_session, or the id',
    path: ['save_to_session'],
  });

const taskAccepted = z.strictObject({
  /** `queued`: as many run as the agent may run at once. */
  status: z.enum(['accepted', 'queued']),
  execution_id: z.string(),
  agent_name: z.string(),
  message: z.string(),
  async_mode: z.literal(true),
  session_id: z.string(),
  chat_session_id: z.string().optional(),
});
export const taskResult = z.strictObject({
  response: z.string(),
  execution_log: z.array(logEntry),
  metadata: executionMetadata,
  session_id: z.string(),
  timestamp: z.string(),
  task_execution_id: z.string(),
  chat_session_id: z.string().optional(),
});

export const submitTask = route({
  surface: 'trinity',
  method: 'POST',
  path: '/api/agents/:name/task',
  summary:
    'Has an agent carry out a task, and answers with its result, or at once (`async_mode`) with the execution to ' +
    'poll. A repeated Idempotency-Key gets the same execution, unless that one failed or was cancelled.',
  access: 'chat:write',
  params: agentParams,
  body: taskBody,
  repeat: 'derived',
  keyScope: 'name',
  example: {
    params: { name: 'research-agent' },
    body: { message: 'Generate a report on Q1 sales data', async_mode: true },
    answer: {
      status: 'accepted',
      execution_id: 'turn_d3110c687507d45f2741e9f4',
      agent_name: 'researcher',
      message: 'The agent works on it.',
      async_mode: true,
      session_id: '5d6ebccda614',
    },
  },
  answers: {
    200: z.union([taskAccepted, taskResult]),
    409: requestInProgress,
    429: queueFull,
    502: executionFailure,
    503: executionFailure,
    504: executionFailure,
  },
});

export const listExecutions = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/agents/:name/executions',
  summary: "The caller's executions of an agent, the latest first; auditors and admins see everybody's.",
  access: 'chat:read',
  params: agentParams,
  query: z.object({ limit: limit(200, 50), offset, status: executionStatus.optional() }),
  answers: { 200: z.array(executionSummary) },
});

export const runningExecutions = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/agents/:name/executions/running',
  summary: 'The executions of an agent that run now.',
  access: 'chat:read',
  params: agentParams,
  answers: { 200: z.strictObject({ executions: z.array(executionSummary) }) },
});

export const getExecution = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/agents/:name/executions/:id',
  summary: 'An execution with its response, error, tool calls and log.',
  access: 'chat:read',
  params: executionParams,
  answers: { 200: executionDetail },
});

export const getExecutionLog = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/agents/:name/executions/:id/log',
  summary: 'What an execution did so far, step by step.',
  access: 'chat:read',
  params: executionParams,
  answers: {
    200: z.union([
      z.strictObject({
        execution_id: z.string(),
        agent_name: z.string(),
        has_log: z.literal(true),
        log: z.array(logEntry),
        started_at: z.string(),
        completed_at: z.string().nullable(),
        status: executionStatus,
      }),
      z.strictObject({
        execution_id: z.string(),
        has_log: z.literal(false),
        log: z.null(),
        message: z.string(),
      }),
    ]),
  },
});

/** 204: the execution has ended and all of it was read. */
export const streamExecution = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/agents/:name/executions/:id/stream',
  summary:
    'The log of an execution as it is written, `text` token by token, and at its end `{"type":"stream_end"}`. ' +
    'Last-Event-ID resumes.',
  access: 'chat:read',
  params: executionParams,
  query: z.object({ lastEventId: z.preprocess((id) => (id === '' ? undefined : id), frameId.optional()) }),
  answers: { 200: 'stream', 204: 'empty' },
});

export const terminateExecution = route({
  surface: 'trinity',
  method: 'POST',
  path: '/api/agents/:name/executions/:id/terminate',
  summary: 'Stops an execution that runs or waits.',
  access: 'chat:write',
  params: executionParams,
  answers: {
    200: z.strictObject({
      status: z.enum(['terminated', 'cancelled_while_queued', 'already_finished']),
      execution_id: z.string(),
    }),
  },
});

/** Hours back from now; 0: all. */
const hours = z.coerce
  .number()
  .pipe(z.literal([0, 1, 6, 24, 168, 720], 'hours is one of 0 (all), 1, 6, 24, 168 and 720'));

const fleetFilter = {
  status: executionStatus.optional(),
  triggered_by: executionTrigger.optional(),
  agent: z.string().max(64).optional(),
  /** In the message or the agent's name, whatever the case. */
  search: z.string().max(200).optional(),
};

export const listAllExecutions = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/executions',
  summary: "The caller's executions of all agents, the latest first; auditors and admins see everybody's.",
  access: 'chat:read',
  query: z.object({ ...fleetFilter, hours: hours.default(0), limit: limit(200, 50), offset }),
  answers: {
    200: z.strictObject({
      executions: z.array(executionSummary),
      count: z.int(),
      limit: z.int(),
      offset: z.int(),
      has_more: z.boolean(),
    }),
  },
});

export const executionStatistics = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/executions/stats',
  summary: 'How many executions there were, by status, trigger and agent, and what they cost and took.',
  access: 'chat:read',
  query: z.object({ ...fleetFilter, hours: hours.default(24) }),
  answers: {
    200: z.strictObject({
      hours: z.int(),
      total: z.int(),
      /** False: only the latest were counted, because there are too many. */
      complete: z.boolean(),
      by_status: z.record(executionStatus, z.int()),
      by_trigger: z.record(z.string(), z.int()),
      by_agent: z.record(z.string(), z.int()),
      /** Of those that ended by themselves; null when none did. */
      success_rate: z.number().nullable(),
      /** US dollars, of those whose cost is known. */
      total_cost: z.number(),
      average_duration_ms: z.number().nullable(),
    }),
  },
});

export const timelineGroup = z.enum(['hour', 'day', 'trigger', 'agent']);

export const executionTimeline = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/executions/timeline',
  summary:
    'How many executions were asked for in each hour or day (UTC, those without any included, the oldest first), or ' +
    'by each trigger or agent, the most first.',
  access: 'chat:read',
  query: z
    .object({ ...fleetFilter, hours: hours.default(24), group_by: timelineGroup.default('hour') })
    .refine((query) => query.hours !== 0 || query.group_by !== 'hour', {
      error: 'not all of the time by the hour: say how many hours, or group by day',
      path: ['hours'],
    }),
  answers: {
    200: z.strictObject({
      group_by: timelineGroup,
      hours: z.int(),
      /** False: only the latest were counted, because there are too many. */
      complete: z.boolean(),
      timeline: z.array(
        z.strictObject({
          /** When the hour or day begins (RFC 3339), or the trigger's or agent's name. */
          bucket: z.string(),
          total: z.int(),
          by_status: z.record(executionStatus, z.int()),
          /** US dollars, of those whose cost is known. */
          total_cost: z.number(),
          average_duration_ms: z.number().nullable(),
        }),
      ),
    }),
  },
  example: {
    query: { group_by: 'agent' },
    answer: {
      ...{ group_by: 'agent', hours: 24, complete: true },
      timeline: [
        {
          bucket: 'researcher',
          total: 3,
          by_status: {
            ...{ queued: 0, running: 1, success: 2, failed: 0, cancelled: 0, skipped: 0, pending_retry: 0 },
          },
          total_cost: 0.0042,
          average_duration_ms: 1830,
        },
      ],
    },
  },
});

export const executionRoutes = [
  submitTask,
  listExecutions,
  runningExecutions,
  getExecution,
  getExecutionLog,
  streamExecution,
  terminateExecution,
  listAllExecutions,
  executionStatistics,
  executionTimeline,
] as const;
