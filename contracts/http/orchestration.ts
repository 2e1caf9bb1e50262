/**
 * Several agents on one task: Agent Chat's orchestrations (seeds/agent-chat.txt, api-notes A3: snake_case) and Luna's
 * delegation and orchestration (api-notes A2.7: camelCase).
 */
import { z } from 'zod';
import type { AgentDocument, OrchestrationDocument } from '../read-models/documents.ts';
import {
  messageOfStep,
  progressOf,
  progressOfStep,
  type StepDocument,
} from '../read-models/orchestration.ts';
import { lastEventId } from './live.ts';
import { limit, offset } from './parameters.ts';
import { route } from './route.ts';

// ── what a request says ───────────────────────────────────────────────────
const MAX_TASK = 16_000;
const MAX_CONTEXT = 8_000;
const MAX_AGENTS = 20;

const task = z
  .string()
  .max(MAX_TASK, `a task has at most ${MAX_TASK.toLocaleString('en')} characters`)
  .refine((text) => text.trim() !== '', 'the task is empty')
  .refine((text) => text.isWellFormed(), 'the task holds a lone surrogate, which is not valid Unicode');
/** Any JSON; null and absent are none. */
const context = z
  .unknown()
  .refine(fits, `the context has at most ${MAX_CONTEXT.toLocaleString('en')} characters as JSON`)
  .optional()
  .transform((value) => value ?? null);
const calledAs = z
  .string()
  .min(1, 'an agent has a name')
  .max(100, 'an agent has no such name')
  .refine((text) => text.isWellFormed(), 'the name holds a lone surrogate, which is not valid Unicode');
const agents = z
  .array(calledAs)
  .min(1, 'name an agent')
  .max(MAX_AGENTS, `an orchestration has at most ${MAX_AGENTS} agents`);
const timeout = z
  .int()
  .min(1_000, 'a timeout is at least 1000 ms')
  .max(3_600_000, 'a timeout is at most 3600000 ms')
  .default(300_000);

function fits(value: unknown): boolean {
  if (value === undefined || value === null) return true;
  try {
    return JSON.stringify(value).length <= MAX_CONTEXT;
  } catch {
    // It is nested deeper than the stack.
    return false;
  }
}

// ── Agent Chat ────────────────────────────────────────────────────────────
const status = z.enum(['pending', 'running', 'completed', 'failed', 'cancelled']);
type Status = z.infer<typeof status>;

export const agentChatOrchestration = z.strictObject({
  orchestration_id: z.string(),
  status,
  agents: z.array(z.strictObject({ id: z.string(), name: z.string(), status })),
  progress_url: z.string(),
});

const agentProgress = z.strictObject({
  /** `agent_1`, `agent_2`, … in the order in which they were named. */
  id: z.string(),
  /** As it was named. */
  name: z.string(),
  status,
  /** 0: it waits; 0.5: it runs; 1: it has ended. */
  progress: z.number(),
  message: z.string(),
  /** What it answered; absent until it has ended. */
  result: z.string().optional(),
  /** Why it did not complete. */
  error: z.string().optional(),
  /** Where its run can be read. */
  conversation_id: z.string().nullable(),
  turn_id: z.string().nullable(),
});
const judgement = z.strictObject({
  id: z.string(),
  /** Null until it has begun. */
  deliberation_id: z.string().nullable(),
  purpose: z.enum(['plan', 'result']),
  status,
  message: z.string(),
  outcome: z.enum(['approved', 'rejected']).nullable(),
  decision: z.string().nullable(),
});

export const orchestrationProgress = z.strictObject({
  orchestration_id: z.string(),
  status,
  /** How it ended, where `status` says less: in part, or at its time limit. */
  outcome: z.enum(['completed', 'partial', 'failed', 'cancelled', 'timed out']).nullable(),
  progress: z.number().min(0).max(1),
  agents: z.array(agentProgress),
  /** Of a delegation that the Council judges. */
  deliberations: z.array(judgement).optional(),
  task: z.string(),
  cancel_requested: z.boolean(),
  /** The results put together; absent until it has ended. */
  result: z.string().optional(),
  error: z.string().optional(),
  tokens_used: z.int(),
  /** US dollars; null when a model without a known price took part. */
  cost_usd: z.number().nullable(),
  started_at: z.string().nullable(),
  updated_at: z.string(),
  completed_at: z.string().nullable(),
});
export type OrchestrationProgress = z.infer<typeof orchestrationProgress>;

/** What is partly done is done, and says so of each agent. */
const statusOf: Readonly<Record<OrchestrationDocument['status'], Status>> = {
  pending: 'pending',
  running: 'running',
  completed: 'completed',
  partial: 'completed',
  failed: 'failed',
  cancelled: 'cancelled',
  'timed out': 'failed',
};
const statusOfStep = ({ status: step }: StepDocument): Status => (step === 'skipped' ? 'cancelled' : step);

const progressUrl = (id: string): string => `/api/agents/orchestrate/${id}/progress`;

export const renderOrchestration = (doc: OrchestrationDocument): z.infer<typeof agentChatOrchestration> => ({
  orchestration_id: doc.id,
  status: statusOf[doc.status],
  agents: runsOf(doc).map((step) => ({ id: step.id, name: nameOf(step), status: statusOfStep(step) })),
  progress_url: progressUrl(doc.id),
});

const runsOf = ({ steps }: OrchestrationDocument) => steps.filter(({ kind }) => kind === 'run');
const nameOf = ({ calledAs: asked, agentName }: StepDocument): string => asked ?? agentName ?? '';

/** @param shown whether the step's result is part of it: of what is told often, only what is new is */
export function renderProgress(
  doc: OrchestrationDocument,
  shown: (step: StepDocument) => boolean = () => true,
): OrchestrationProgress {
  const judgements = doc.steps.filter(({ kind }) => kind === 'judgement');
  return {
    orchestration_id: doc.id,
    status: statusOf[doc.status],
    outcome: doc.status === 'pending' || doc.status === 'running' ? null : doc.status,
    progress: progressOf(doc),
    agents: runsOf(doc).map((step) => ({
      id: step.id,
      name: nameOf(step),
      status: statusOfStep(step),
      progress: progressOfStep(step),
      message: messageOfStep(step),
      ...(step.result !== null && shown(step) && { result: step.result }),
      ...(step.reason !== null && { error: step.reason }),
      conversation_id: step.conversationId,
      turn_id: step.turnId,
    })),
    ...(judgements.length > 0 && {
      deliberations: judgements.map((step) => ({
        id: step.id,
        deliberation_id: step.deliberationId,
        purpose: step.purpose ?? 'result',
        status: statusOfStep(step),
        message: messageOfStep(step),
        outcome: step.verdict?.outcome ?? null,
        decision: step.verdict === null ? null : step.result,
      })),
    }),
    task: doc.task,
    cancel_requested: doc.cancelRequested,
    ...(doc.result !== null && { result: doc.result }),
    ...(doc.reason !== null && { error: doc.reason }),
    tokens_used: doc.tokens,
    cost_usd: doc.costUsd,
    started_at: doc.startedAt,
    updated_at: doc.updatedAt,
    completed_at: doc.endedAt,
  };
}

/** The agent is named, and nothing was started. */
const noSuchAgent = z.looseObject({ success: z.literal(false), error: z.string(), code: z.string() });
const orchestrationParams = z.object({ id: z.string() });

export const orchestrateAgents = route({
  surface: 'agent-chat',
  method: 'POST',
  path: '/api/agents/orchestrate',
  summary:
    'Has several agents work on a task: at once, or one after the other, each with the results before it. What they ' +
    'bring is at `progress_url`.',
  access: 'chat:write',
  rateLimit: 'chat',
  body: z.object({
    task,
    agents,
    context,
    options: z.strictObject({ parallel: z.boolean().default(true), timeout }).prefault({}),
  }),
  answers: { 202: agentChatOrchestration, 404: noSuchAgent },
  example: {
    body: {
      task: 'Analyze sales data and generate report',
      agents: ['data-analyst', 'report-writer'],
      context: { data_source: 'sales_q4_2024.csv' },
      options: { parallel: true, timeout: 300_000 },
    },
  },
});

export const listOrchestrations = route({
  surface: 'agent-chat',
  method: 'GET',
  path: '/api/agents/orchestrate',
  summary: "The caller's orchestrations, the one that changed last first; whoever sees everything gets all.",
  access: 'chat:read',
  rateLimit: 'default',
  query: z.object({ limit: limit(100, 20), offset }),
  answers: {
    200: z.strictObject({ orchestrations: z.array(orchestrationProgress), total: z.int() }),
  },
});

export const orchestrationProgressRoute = route({
  surface: 'agent-chat',
  method: 'GET',
  path: '/api/agents/orchestrate/:id/progress',
  summary:
    'How far an orchestration is, and what its agents brought. With `Accept: text/event-stream` the same at every ' +
    'change, from its beginning or from after `Last-Event-ID`, until it has ended.',
  access: 'chat:read',
  rateLimit: 'default',
  params: orchestrationParams,
  query: z.object({ lastEventId }),
  answers: { 200: orchestrationProgress, 204: 'empty' },
  streams: ['text/event-stream'],
});

export const cancelOrchestrationRoute = route({
  surface: 'agent-chat',
  method: 'POST',
  path: '/api/agents/orchestrate/:id/cancel',
  summary: 'Stops an orchestration: runs are interrupted, and nothing else begins. What there is, is kept.',
  access: 'chat:write',
  rateLimit: 'default',
  params: orchestrationParams,
  answers: { 200: orchestrationProgress },
});

// ── Luna ──────────────────────────────────────────────────────────────────
const lunaAgent = z.strictObject({
  id: z.string(),
  name: z.string(),
  description: z.string(),
  /** As asked for; null for the default. */
  model: z.string().nullable(),
  /** Names of the tools that it may use; null: all. */
  tools: z.array(z.string()).nullable(),
  aliases: z.array(z.string()),
  shared: z.boolean(),
  /** Whether it is the caller's. */
  own: z.boolean(),
});

export const renderAbility = (doc: AgentDocument, userId: string): z.infer<typeof lunaAgent> => ({
  id: doc.id,
  name: doc.name,
  description: doc.description,
  model: doc.model,
  tools: doc.tools,
  aliases: doc.aliases,
  shared: doc.shared,
  own: doc.owner === userId,
});

export const listAbilities = route({
  surface: 'luna',
  method: 'GET',
  path: '/api/abilities/agents',
  summary:
    "The agents that the caller may ask: the ready-made ones, and the caller's own and those of others.",
  access: 'chat:read',
  answers: { 200: z.strictObject({ builtIn: z.array(lunaAgent), custom: z.array(lunaAgent) }) },
});

const agentResult = {
  agentName: z.string(),
  success: z.boolean(),
  result: z.string(),
  executionTimeMs: z.number(),
  /** Agents save no files. */
  savedFiles: z.array(z.string()),
  /** The turn of the run; null when it never began. */
  executionId: z.string().nullable(),
  conversationId: z.string().nullable(),
  /** US dollars; null when a model without a known price took part. */
  costUsd: z.number().nullable(),
  tokensUsed: z.int(),
  /** Why it brought no result. */
  error: z.string().optional(),
};
export const lunaAgentResult = z.strictObject(agentResult);
export type LunaAgentResult = z.infer<typeof lunaAgentResult>;

const lunaDeliberation = z.strictObject({
  id: z.string(),
  purpose: z.enum(['plan', 'result']),
  outcome: z.enum(['approved', 'rejected', 'undecided']),
  decision: z.string(),
  /** The event that says so; null when there is no decision. */
  decisionId: z.string().nullable(),
  dissent: z.array(z.strictObject({ member: z.string(), reason: z.string() })),
});

const lunaExecution = z.strictObject({
  ...agentResult,
  /** With `useSanhedrin`: what the Council said of the plan and of the result. */
  deliberations: z.array(lunaDeliberation).optional(),
  delegation: z
    .strictObject({ via: z.literal('local'), reason: z.string(), orchestrationId: z.string() })
    .optional(),
});

export const resultOfStep = (step: StepDocument): LunaAgentResult => ({
  agentName: step.agentName ?? '',
  success: step.status === 'completed',
  result: step.result ?? '',
  executionTimeMs: step.durationMs,
  savedFiles: [],
  executionId: step.turnId,
  conversationId: step.conversationId,
  costUsd: step.costUsd,
  tokensUsed: step.tokens,
  ...(step.reason !== null && { error: step.reason }),
});

/** A delegation that has ended. */
export function renderDelegation(doc: OrchestrationDocument): z.infer<typeof lunaExecution> {
  const runs = runsOf(doc);
  const work = runs.at(-1);
  const began = runs.findLast(({ turnId }) => turnId !== null);
  return {
    agentName: work?.agentName ?? '',
    success: doc.status === 'completed',
    result: doc.result ?? '',
    executionTimeMs: doc.durationMs ?? 0,
    savedFiles: [],
    executionId: began?.turnId ?? null,
    conversationId: began?.conversationId ?? null,
    costUsd: doc.costUsd,
    tokensUsed: doc.tokens,
    ...(doc.reason !== null && { error: doc.reason }),
    deliberations: doc.steps.flatMap((step) =>
      step.deliberationId === null
        ? []
        : [
            {
              id: step.deliberationId,
              purpose: step.purpose ?? 'result',
              outcome: step.verdict?.outcome ?? ('undecided' as const),
              decision: step.verdict === null ? (step.reason ?? '') : (step.result ?? ''),
              decisionId: step.verdict?.decisionId ?? null,
              dissent: step.verdict?.dissent ?? [],
            },
          ],
    ),
    delegation: { via: 'local', reason: 'The Council of this deployment judges.', orchestrationId: doc.id },
  };
}

/** Nothing is lost: where it can be followed. */
const goesOn = z.looseObject({
  error: z.string(),
  executionId: z.string().optional(),
  conversationId: z.string().optional(),
  orchestrationId: z.string().optional(),
});
const notFound = z.looseObject({ error: z.string() });
const parentExecutionId = z
  .string()
  .max(100)
  .refine((text) => text.isWellFormed(), 'the id holds a lone surrogate, which is not valid Unicode')
  .optional();

export const executeAgent = route({
  surface: 'luna',
  method: 'POST',
  path: '/api/abilities/agents/execute',
  summary:
    "Has an agent do a task and answers with its result. With `useSanhedrin` the Council judges the agent's plan " +
    'before it acts, and its result before it is handed over.',
  access: 'chat:write',
  rateLimit: 'chat',
  body: z
    .object({
      agent: calledAs.optional(),
      agentName: calledAs.optional(),
      task,
      context,
      useSanhedrin: z.boolean().default(false),
      /** An execution of the caller's, of which this one is a part. */
      parentExecutionId,
    })
    .refine(({ agent, agentName }) => (agent ?? agentName) !== undefined, {
      error: 'name an agent',
      path: ['agent'],
    })
    .refine(({ agent, agentName }) => (agent ?? agentName) === (agentName ?? agent), {
      error: 'agent and agentName name different agents',
      path: ['agentName'],
    }),
  answers: { 200: lunaExecution, 404: notFound, 503: goesOn, 504: goesOn },
  repeat: 'derived',
  example: {
    body: { agent: 'researcher', task: 'What speaks for moving the launch to May?', useSanhedrin: false },
  },
});

export const orchestrateAbilities = route({
  surface: 'luna',
  method: 'POST',
  path: '/api/abilities/agents/orchestrate',
  summary:
    'Makes a plan over several agents for a task, unless `agents` names them, has it carried out in order and ' +
    'answers with all results.',
  access: 'chat:write',
  rateLimit: 'chat',
  body: z.object({ task, context, agents: agents.optional(), parentExecutionId }),
  answers: {
    200: z.strictObject({
      /** For people: who made it, and who does what. */
      plan: z.string(),
      plannedBy: z.enum(['request', 'model', 'rule']),
      results: z.array(lunaAgentResult),
      /** The results put together. */
      synthesis: z.string(),
      success: z.boolean(),
      error: z.string().optional(),
      orchestrationId: z.string(),
      costUsd: z.number().nullable(),
    }),
    404: notFound,
    503: goesOn,
    504: goesOn,
  },
  repeat: 'derived',
  example: { body: { task: 'Compare the two suppliers and write a recommendation.' } },
});

export const orchestrationRoutes = [
  orchestrateAgents,
  listOrchestrations,
  orchestrationProgressRoute,
  cancelOrchestrationRoute,
  listAbilities,
  executeAgent,
  orchestrateAbilities,
] as const;
