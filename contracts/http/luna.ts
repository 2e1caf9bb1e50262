/**
 * Luna Chat (seeds/luna-chat.txt, api-notes A2): camelCase, bare objects. The schemas of what it answers, the
 * pure functions that render documents so, and its chat, facts, activity and metrics routes.
 */
import { z } from 'zod';
import { conversationTitle, messageContent, requestedModel } from '../commands/conversation.ts';
import { actor, type Position, position, surface } from '../envelope.ts';
import { answerDecision, conversationMode, providerTry } from '../events/conversation.ts';
import { factCategory } from '../events/memory.ts';
import {
  type ActivityDocument,
  activityDocument,
  type ConversationDocument,
  type FactDocument,
  type MessageDocument,
  messageDocument,
  type TurnDocument,
  type UsageDocument,
} from '../read-models/documents.ts';
import { asOf, idParams, limit, messagePage, NOT_BOTH, notBoth, offset } from './parameters.ts';
import { route } from './route.ts';

// ── sessions (conversations) ──────────────────────────────────────────────
export const lunaSession = z.strictObject({
  id: z.string(),
  userId: z.string(),
  title: z.string().nullable(),
  mode: conversationMode,
  isArchived: z.boolean(),
  createdAt: z.string(),
  updatedAt: z.string(),
  metadata: z.strictObject({
    /** The surface it was begun on. */
    surface,
    /** As asked for; null for the default. */
    model: z.string().nullable(),
    status: z.enum(['active', 'ended']),
    messageCount: z.int(),
  }),
});
export type LunaSession = z.infer<typeof lunaSession>;

export const renderSession = (doc: ConversationDocument): LunaSession => ({
  id: doc.id,
  userId: doc.owner,
  title: doc.title,
  mode: doc.mode,
  isArchived: doc.archived,
  createdAt: doc.createdAt,
  updatedAt: doc.updatedAt,
  metadata: {
    surface: doc.surface,
    model: doc.model,
    status: doc.status,
    messageCount: doc.messageCount,
  },
});

// ── messages ──────────────────────────────────────────────────────────────
export const lunaMetrics = z.strictObject({
  promptTokens: z.int(),
  completionTokens: z.int(),
  processingTimeMs: z.number(),
  tokensPerSecond: z.number(),
  toolsUsed: z.array(z.string()),
  /** Who really answered; `none` when nobody did. */
  model: z.string(),
  /** US dollars; left out when a model without a known price took part. */
  totalCost: z.number().optional(),
  /** One entry for each answer of a model; left out where only the message is at hand. */
  llmBreakdown: z
    .array(
      z.strictObject({
        node: z.string(),
        model: z.string(),
        provider: z.string(),
        inputTokens: z.int(),
        outputTokens: z.int(),
        cacheTokens: z.int(),
        /** US dollars; null when the price is not known. */
        cost: z.number().nullable(),
        durationMs: z.number(),
      }),
    )
    .optional(),
  routeInfo: z
    .strictObject({
      route: z.enum(['nano', 'pro', 'pro+tools']),
      confidence: answerDecision.shape.confidence,
      class: answerDecision.shape.class,
    })
    .optional(),
});
export type LunaMetrics = z.infer<typeof lunaMetrics>;

/** How an answer came about, as the message and the event that ended its turn both hold it. */
export type Outcome = NonNullable<MessageDocument['answer']>;

/** What is known of a turn while it runs: the router's decision, and the calls that have ended. */
export type TurnSteps = Pick<TurnDocument, 'decision' | 'calls'>;

/** `steps` are left out where only the message is at hand. */
export function renderMetrics(outcome: Outcome, steps: TurnSteps | null = null): LunaMetrics {
  const { usage, durationMs, decision } = outcome;
  return {
    promptTokens: usage.promptTokens,
    completionTokens: usage.completionTokens,
    processingTimeMs: durationMs,
    tokensPerSecond: durationMs > 0 ? Math.round((usage.completionTokens / durationMs) * 10_000) / 10 : 0,
    toolsUsed: [...outcome.toolsUsed],
    model: outcome.model ?? 'none',
    ...(outcome.costUsd !== null && { totalCost: outcome.costUsd }),
    ...(steps !== null && { llmBreakdown: renderCalls(steps.calls) }),
    ...(decision !== null && {
      routeInfo: { ...decision, route: decision.route === 'tools' ? 'pro+tools' : decision.route },
    }),
  };
}

/** The calls that were answered. */
const renderCalls = (calls: TurnSteps['calls']): NonNullable<LunaMetrics['llmBreakdown']> =>
  calls.flatMap(({ provider, model, usage, costUsd, durationMs }, index) =>
    usage === null
      ? []
      : {
          node: `answer:${index + 1}`,
          model,
          provider,
          inputTokens: usage.promptTokens,
          outputTokens: usage.completionTokens,
          cacheTokens: usage.cachedTokens,
          cost: costUsd,
          durationMs,
        },
  );

const tokensUsed = ({ usage }: Outcome): number => usage.promptTokens + usage.completionTokens;

const outcomeFields = {
  tokensUsed: z.int(),
  /** Who really answered; null when nobody did. */
  model: z.string().nullable(),
  provider: z.string().nullable(),
  requestedModel: z.string().nullable(),
  /** Every attempt at a provider, in order, with why it failed. */
  tried: z.array(providerTry),
  metrics: lunaMetrics,
};

const renderOutcome = (outcome: Outcome, steps: TurnSteps | null = null) => ({
  tokensUsed: tokensUsed(outcome),
  model: outcome.model,
  provider: outcome.provider,
  requestedModel: outcome.requestedModel,
  tried: outcome.tried,
  metrics: renderMetrics(outcome, steps),
});

const messageFields = {
  id: z.string(),
  sessionId: z.string(),
  turnId: z.string(),
  content: z.string(),
  createdAt: z.string(),
};
export const lunaMessage = z.discriminatedUnion('role', [
  z.strictObject({
    ...messageFields,
    role: z.literal('user'),
    status: z.literal('complete'),
    tokensUsed: z.literal(0),
  }),
  z.strictObject({
    ...messageFields,
    role: z.literal('assistant'),
    status: messageDocument.shape.status,
    /** Why it failed. */
    reason: z.string().optional(),
    ...outcomeFields,
  }),
]);
export type LunaMessage = z.infer<typeof lunaMessage>;

export function renderMessage(doc: MessageDocument): LunaMessage {
  const { id, conversationId: sessionId, turnId, content, createdAt } = doc;
  const fields = { id, sessionId, turnId, content, createdAt };
  if (doc.answer === null) return { ...fields, role: 'user', status: 'complete', tokensUsed: 0 };
  return {
    ...fields,
    role: 'assistant',
    status: doc.status,
    ...(doc.reason !== null && { reason: doc.reason }),
    ...renderOutcome(doc.answer),
  };
}

// ── answers to `send` that are not streams ────────────────────────────────
export const lunaAnswer = z.strictObject({
  messageId: z.string(),
  turnId: z.string(),
  status: z.enum(['complete', 'interrupted']),
  content: z.string(),
  ...outcomeFields,
});
export type LunaAnswer = z.infer<typeof lunaAnswer>;

export const renderAnswer = (
  end: Outcome & { readonly messageId: string; readonly turnId: string; readonly content: string },
  status: LunaAnswer['status'],
  steps: TurnSteps | null,
): LunaAnswer => ({
  messageId: end.messageId,
  turnId: end.turnId,
  status,
  content: end.content,
  ...renderOutcome(end, steps),
});

const lunaFailedAnswer = z.strictObject({
  error: z.string(),
  messageId: z.string(),
  turnId: z.string(),
  status: z.literal('failed'),
  /** What had been written when it failed. */
  content: z.string(),
});

// ── facts ─────────────────────────────────────────────────────────────────
/** Facts are remembered or forgotten: none is temporary, overridden or planned, which the rest of the shape says. */
export const lunaFact = z.strictObject({
  id: z.string(),
  category: factCategory,
  factKey: z.string(),
  factValue: z.string(),
  confidence: z.number(),
  lastMentioned: z.string(),
  mentionCount: z.int(),
  intentId: z.null(),
  factStatus: z.literal('active'),
  factType: z.literal('permanent'),
  validFrom: z.null(),
  validUntil: z.null(),
  supersedesId: z.null(),
  overridePriority: z.literal(0),
});
export type LunaFact = z.infer<typeof lunaFact>;

export const renderFact = (doc: FactDocument): LunaFact => ({
  id: doc.id,
  category: doc.category,
  factKey: doc.key,
  factValue: doc.value,
  confidence: doc.confidence,
  lastMentioned: doc.lastMentioned,
  mentionCount: doc.mentionCount,
  intentId: null,
  factStatus: 'active',
  factType: 'permanent',
  validFrom: null,
  validUntil: null,
  supersedesId: null,
  overridePriority: 0,
});

// ── activity ──────────────────────────────────────────────────────────────
const { category, level } = activityDocument.shape;
export const lunaActivity = z.strictObject({
  id: z.string(),
  /** Of the event that it tells of: what `after` and `before` take. */
  position,
  userId: z.string(),
  sessionId: z.string().optional(),
  turnId: z.string().optional(),
  category,
  eventType: z.string(),
  level,
  title: z.string(),
  message: z.string().optional(),
  details: z.record(z.string(), z.unknown()),
  source: z.string(),
  durationMs: z.number().optional(),
  actor: actor.strict(),
  createdAt: z.string(),
});
export type LunaActivity = z.infer<typeof lunaActivity>;

export const renderActivity = (row: ActivityDocument, at: Position): LunaActivity => ({
  id: row.id,
  position: at,
  userId: row.owner,
  ...(row.conversationId !== null && { sessionId: row.conversationId }),
  ...(row.turnId !== null && { turnId: row.turnId }),
  category: row.category,
  eventType: row.eventType,
  level: row.level,
  title: row.title,
  ...(row.message !== null && { message: row.message }),
  details: row.details,
  source: row.source,
  ...(row.durationMs !== null && { durationMs: row.durationMs }),
  actor: row.actor,
  createdAt: row.createdAt,
});

// ── metrics ───────────────────────────────────────────────────────────────
/** Gigabytes (2^30 bytes). */
const space = z.strictObject({ percent: z.number(), total: z.number(), used: z.number(), free: z.number() });

export const systemMetrics = z.strictObject({
  cpu: z.strictObject({
    percent: z.number(),
    cores: z.int(),
    model: z.string(),
    loadAvg: z.array(z.number()).length(3),
  }),
  memory: space,
  disk: space,
  /** Megabytes (2^20 bytes) since the machine started; null where the operating system does not say. */
  network: z.strictObject({ rx: z.number(), tx: z.number() }).nullable(),
  /** Seconds that the machine has been up. */
  uptime: z.number(),
});
export type SystemMetrics = z.infer<typeof systemMetrics>;

const modelUsage = z.strictObject({
  input: z.int(),
  output: z.int(),
  cache: z.int(),
  total: z.int(),
  cost: z.number(),
});
export const llmMetrics = z.strictObject({
  inputTokens: z.int(),
  outputTokens: z.int(),
  cacheTokens: z.int(),
  totalTokens: z.int(),
  /** US dollars, of the models whose price is known. */
  estimatedCost: z.number(),
  /** By `provider/model`. */
  byModel: z.record(z.string(), modelUsage),
  requests: z.int(),
  errors: z.int(),
  avgLatencyMs: z.number(),
});
export type LlmMetrics = z.infer<typeof llmMetrics>;

/** A millionth of a cent is enough: it hides what adding binary fractions leaves behind. */
const dollars = (value: number): number => Math.round(value * 1e8) / 1e8;

/** Adds up what models cost, over any number of owners and days. */
export function renderUsage(docs: readonly UsageDocument[]): LlmMetrics {
  const byModel: Record<string, z.infer<typeof modelUsage>> = {};
  const sum = { input: 0, output: 0, cache: 0, total: 0, cost: 0 };
  let requests = 0;
  let errors = 0;
  let durationMs = 0;
  for (const doc of docs) {
    requests += doc.requests;
    errors += doc.errors;
    durationMs += doc.totalDurationMs;
    for (const [name, used] of Object.entries(doc.models)) {
      byModel[name] ??= { input: 0, output: 0, cache: 0, total: 0, cost: 0 };
      for (const into of [byModel[name], sum]) {
        into.input += used.inputTokens;
        into.output += used.outputTokens;
        into.cache += used.cachedTokens;
        into.total += used.inputTokens + used.outputTokens;
        into.cost = dollars(into.cost + used.costUsd);
      }
    }
  }
  return {
    inputTokens: sum.input,
    outputTokens: sum.output,
    cacheTokens: sum.cache,
    totalTokens: sum.total,
    estimatedCost: sum.cost,
    byModel,
    requests,
    errors,
    avgLatencyMs: requests === 0 ? 0 : Math.round(durationMs / requests),
  };
}

// ── routes ────────────────────────────────────────────────────────────────
const success = z.strictObject({ success: z.literal(true) });

export const createSession = route({
  surface: 'luna',
  method: 'POST',
  path: '/api/chat/sessions',
  example: { body: { title: 'Plans', mode: 'assistant' } },
  summary: 'Begins a conversation.',
  access: 'chat:write',
  body: z
    .object({
      title: conversationTitle.optional(),
      mode: conversationMode.default('assistant'),
      model: requestedModel.optional(),
    })
    .prefault({}),
  answers: { 201: lunaSession },
});

export const listSessions = route({
  surface: 'luna',
  method: 'GET',
  path: '/api/chat/sessions',
  summary:
    'Conversations, the one that changed last first. Whoever sees everything gets those of all, or of one user ' +
    'with `userId`.',
  access: 'chat:read',
  query: z.object({
    userId: z.string().optional(),
    limit: limit(100, 50),
    offset,
    archived: z
      .enum(['true', 'false'])
      .default('false')
      .transform((value) => value === 'true'),
    asOf,
  }),
  answers: {
    200: z.strictObject({ sessions: z.array(lunaSession), limit: z.int(), offset: z.int() }),
  },
});

export const getSession = route({
  surface: 'luna',
  method: 'GET',
  path: '/api/chat/sessions/:id',
  summary:
    'A conversation with its messages, oldest first: the last `limit` of them, or those next to the message ' +
    '`before` or `after`, and no more than a mebibyte of text. `hasMoreMessages` says whether others follow in ' +
    'that direction.',
  access: 'chat:read',
  params: idParams,
  query: z.object({ limit: limit(1_000, 200), ...messagePage, asOf }).refine(notBoth, NOT_BOTH),
  answers: {
    200: lunaSession.extend({ messages: z.array(lunaMessage), hasMoreMessages: z.boolean() }),
  },
});

export const changeSession = route({
  surface: 'luna',
  method: 'PATCH',
  path: '/api/chat/sessions/:id',
  example: { body: { title: 'Better plans' } },
  summary: 'Renames a conversation, changes its mode, archives it or takes it out of the archive.',
  access: 'chat:write',
  params: idParams,
  body: z.object({
    title: conversationTitle.optional(),
    mode: conversationMode.optional(),
    isArchived: z.boolean().optional(),
  }),
  answers: { 200: lunaSession },
});

export const deleteSession = route({
  surface: 'luna',
  method: 'DELETE',
  path: '/api/chat/sessions/:id',
  summary: 'Deletes a conversation: it is gone from every read, except of the past before (`asOf`).',
  access: 'chat:write',
  params: idParams,
  answers: { 200: success },
});

export const endSession = route({
  surface: 'luna',
  method: 'POST',
  path: '/api/chat/sessions/:id/end',
  summary: 'Ends a conversation: it can be read, and takes no more messages.',
  access: 'chat:write',
  params: idParams,
  answers: { 200: success },
});

export const sendSessionMessage = route({
  surface: 'luna',
  method: 'POST',
  path: '/api/chat/sessions/:id/send',
  example: { body: { message: 'What is 12.5% of 80?', stream: false } },
  summary:
    'Sends a message and answers with the turn: as server-sent events, or as one JSON object with ' +
    '`stream: false` or `Accept: application/json` alone. Going away does not stop the turn.',
  access: 'chat:write',
  params: idParams,
  body: z.object({
    message: messageContent,
    stream: z.boolean().optional(),
    model: requestedModel.optional(),
  }),
  streams: ['text/event-stream'],
  answers: {
    200: lunaAnswer,
    502: lunaFailedAnswer,
    /** With the turn when it is the answer that has to wait: the server shuts down, and will finish it. */
    503: z.strictObject({ error: z.string(), turnId: z.string().optional() }),
    504: z.strictObject({ error: z.string(), turnId: z.string() }),
  },
  repeat: 'derived',
});

const interrupted = z.strictObject({
  success: z.literal(true),
  /** The turn that is being stopped; null when there was nothing to stop. */
  turnId: z.string().nullable(),
});

export const interruptSession = route({
  surface: 'luna',
  method: 'POST',
  path: '/api/chat/sessions/:id/interrupt',
  summary: 'Stops the turn that runs in a conversation; what it has written is kept.',
  access: 'chat:write',
  params: idParams,
  answers: { 200: interrupted },
});

export const interruptTurn = route({
  surface: 'luna',
  method: 'POST',
  path: '/api/turns/:turnId/interrupt',
  summary: 'Stops a turn that runs or waits; what it has written is kept.',
  access: 'chat:write',
  params: z.object({ turnId: z.string() }),
  answers: { 200: interrupted },
});

export const listFacts = route({
  surface: 'luna',
  method: 'GET',
  path: '/api/abilities/facts',
  summary: 'What is known about the caller, the fact mentioned last first.',
  access: 'chat:read',
  query: z.object({ category: factCategory.optional(), limit: limit(1_000, 100), offset }),
  answers: { 200: z.array(lunaFact) },
});

const logs = z.strictObject({ logs: z.array(lunaActivity) });
const activityPage = {
  limit: limit(1_000, 100),
  category: category.optional(),
  level: level.optional(),
  /** Positions, both excluded: `after` for what is new, `before` for what is older. */
  after: position.optional(),
  before: position.optional(),
  asOf,
};

export const listActivity = route({
  surface: 'luna',
  method: 'GET',
  path: '/api/activity',
  summary: 'What happened, newest first. Whoever sees everything may choose one user with `userId`.',
  access: 'chat:read',
  query: z.object({ ...activityPage, userId: z.string().optional() }),
  answers: { 200: logs },
});

export const listSessionActivity = route({
  surface: 'luna',
  method: 'GET',
  path: '/api/activity/session/:id',
  summary: 'What happened in a conversation, newest first.',
  access: 'chat:read',
  params: idParams,
  query: z.object(activityPage),
  answers: { 200: logs },
});

export const getMetrics = route({
  surface: 'luna',
  method: 'GET',
  path: '/api/settings/metrics',
  summary: "The machine, and what models cost today (UTC): the caller's, or everybody's for who sees all.",
  access: 'chat:read',
  answers: {
    200: z.strictObject({ ...systemMetrics.shape, llm: llmMetrics, timestamp: z.string() }),
  },
});

export const lunaChatRoutes = [
  createSession,
  listSessions,
  getSession,
  changeSession,
  deleteSession,
  endSession,
  sendSessionMessage,
  interruptSession,
  interruptTurn,
  listFacts,
  listActivity,
  listSessionActivity,
  getMetrics,
] as const;
