/** Named agents, in Trinity's words: snake_case, bare objects and arrays. */
import { z } from 'zod';
import {
  agentDescription,
  agentInstructions,
  agentModel,
  agentTools,
  newAgentName,
  newBudget,
  newPolicy,
} from '../commands/agent.ts';
import { SYSTEM_OWNER } from '../envelope.ts';
import { modelRoute } from '../events/conversation.ts';
import type { AgentDocument } from '../read-models/documents.ts';
import { limit, offset } from './parameters.ts';
import { route } from './route.ts';

// ── what an agent looks like ──────────────────────────────────────────────
const policy = z.strictObject({
  /** Of a run, from its first start. */
  timeout_seconds: z.number().positive(),
  max_attempts: newPolicy.shape.maxAttempts,
  /** How many runs at once, and how many more may wait. */
  concurrency: newPolicy.shape.concurrency,
  queue_length: newPolicy.shape.queueLength,
});

export const trinityAgent = z.strictObject({
  id: z.string(),
  name: z.string(),
  description: z.string(),
  instructions: z.string(),
  /** `provider/model`, a model's name, a route (`nano`, `pro`, `tools`), or null for the default. */
  model: z.string().nullable(),
  /** Names of the tools that it may use; null: all. */
  tools: z.array(z.string()).nullable(),
  /** Of one run: tokens of prompts and answers, US dollars, calls of models; null: without limit. */
  budget: z.strictObject({
    tokens: z.int().nullable(),
    cost: z.number().nullable(),
    turns: z.int().nullable(),
  }),
  policy,
  /** Whether everybody may use it. */
  shared: z.boolean(),
  ready_made: z.boolean(),
  /** Other names that it answers to. */
  aliases: z.array(z.string()),
  /** A user id; `system` for those that are ready-made. */
  owner: z.string(),
  created_at: z.string(),
  updated_at: z.string(),
});
export type TrinityAgent = z.infer<typeof trinityAgent>;

export const renderAgent = (doc: AgentDocument): TrinityAgent => ({
  id: doc.id,
  name: doc.name,
  description: doc.description,
  instructions: doc.instructions,
  model: doc.model,
  tools: doc.tools,
  budget: doc.budget,
  policy: {
    timeout_seconds: doc.policy.timeoutMs / 1_000,
    max_attempts: doc.policy.maxAttempts,
    concurrency: doc.policy.concurrency,
    queue_length: doc.policy.queueLength,
  },
  shared: doc.shared,
  ready_made: doc.owner === SYSTEM_OWNER,
  aliases: doc.aliases,
  owner: doc.owner,
  created_at: doc.createdAt,
  updated_at: doc.updatedAt,
});

export const modelRoutes = modelRoute.options;

/** @param serves whether a configured provider serves the model (or route) */
export function modelAnswer(model: string | null, defaultModel: string, serves: (model: string) => boolean) {
  if (model === null) return { model: defaultModel, note: 'Nothing was asked for: the default answers.' };
  const note = serves(model)
    ? 'Used from the next message on.'
    : 'No configured provider serves it: the default answers until one does.';
  return { model, note };
}

// ── routes ────────────────────────────────────────────────────────────────
const agentParams = z.object({ name: z.string() });
const newTrinityPolicy = policy.extend({ timeout_seconds: z.number().min(0.001).max(86_400) }).partial();

/** In the units of the commands. */
export const policyOf = ({
  timeout_seconds: seconds,
  max_attempts: maxAttempts,
  concurrency,
  queue_length: queueLength,
}: z.infer<typeof newTrinityPolicy>) => ({
  ...(seconds !== undefined && { timeoutMs: Math.max(1, Math.round(seconds * 1_000)) }),
  ...(maxAttempts !== undefined && { maxAttempts }),
  ...(concurrency !== undefined && { concurrency }),
  ...(queueLength !== undefined && { queueLength }),
});

const body = z.strictObject({
  name: newAgentName,
  description: agentDescription,
  instructions: agentInstructions,
  /** Empty or null: the default. */
  model: z
    .union([z.literal('').transform(() => null), agentModel])
    .nullable()
    .optional(),
  /** Null: all. */
  tools: agentTools.nullable().optional(),
  budget: newBudget.partial().optional(),
  shared: z.boolean().optional(),
  policy: newTrinityPolicy.optional(),
});

const example = {
  name: 'scout',
  description: 'Looks things up and sums them up.',
  instructions: 'You look things up. Say where each fact comes from.',
  tools: ['calculate', 'search_conversations'],
  budget: { tokens: 20_000, turns: 8 },
};

export const createAgent = route({
  surface: 'trinity',
  method: 'POST',
  path: '/api/agents',
  summary: "Makes an agent of the caller's.",
  access: 'agents:manage',
  body,
  answers: { 201: trinityAgent },
  example: { body: example },
});

export const listAgents = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/agents',
  summary:
    "The caller's agents, the shared and the ready-made ones, oldest first; auditors and admins see all.",
  access: 'chat:read',
  query: z.object({ owner: z.string().max(100).optional(), limit: limit(1_000, 200), offset }),
  answers: { 200: z.array(trinityAgent) },
});

export const getAgent = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/agents/:name',
  summary: 'An agent: of a name the caller has an own one for, that one; else the shared one.',
  access: 'chat:read',
  params: agentParams,
  answers: { 200: trinityAgent },
});

export const changeAgent = route({
  surface: 'trinity',
  method: 'PATCH',
  path: '/api/agents/:name',
  summary: 'Changes an agent; what is left out stays as it is. For its owner and for admins.',
  access: 'agents:manage',
  params: agentParams,
  body: body
    .omit({ name: true })
    .partial()
    .refine((changes) => Object.keys(changes).length > 0, 'names nothing that is to change'),
  answers: { 200: trinityAgent },
  example: { params: { name: 'scout' }, body: { description: 'Looks things up.', shared: true } },
});

export const deleteAgent = route({
  surface: 'trinity',
  method: 'DELETE',
  path: '/api/agents/:name',
  summary: 'Deletes an agent: runs that were asked for go on. For its owner and for admins.',
  access: 'agents:manage',
  params: agentParams,
  answers: { 200: z.strictObject({ status: z.literal('deleted'), name: z.string() }) },
});

export const getAgentModel = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/agents/:name/model',
  summary: 'What answers for an agent, and what could.',
  access: 'chat:read',
  params: agentParams,
  answers: {
    200: z.strictObject({
      /** As asked for; the default's name where nothing was. */
      model: z.string(),
      available_models: z.array(z.string()),
      note: z.string(),
    }),
  },
});

export const setAgentModel = route({
  surface: 'trinity',
  method: 'PUT',
  path: '/api/agents/:name/model',
  summary: 'Changes what answers for an agent. For its owner and for admins.',
  access: 'agents:manage',
  params: agentParams,
  body: z.strictObject({ model: body.shape.model.unwrap() }),
  answers: {
    200: z.strictObject({ status: z.literal('success'), model: z.string(), note: z.string() }),
  },
  example: {
    params: { name: 'scout' },
    body: { model: 'nano' },
    answer: { status: 'success', model: 'nano', note: 'Used from the next message on.' },
  },
});

export const agentRoutes = [
  createAgent,
  listAgents,
  getAgent,
  changeAgent,
  deleteAgent,
  getAgentModel,
  setAgentModel,
] as const;
