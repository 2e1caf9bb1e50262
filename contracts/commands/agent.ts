/** The commands of a named agent, and what the parts of its definition must be. */
import { z } from 'zod';
import {
  type AgentPolicy,
  agentDefinition,
  agentName,
  agentPolicy,
  type Budget,
  budget,
} from '../events/agent.ts';
import { requestedModel } from './conversation.ts';

/** Its paths would be those of orchestrations. */
export const RESERVED_AGENT_NAME = 'orchestrate';

export const newAgentName = agentName.refine(
  (name) => name !== RESERVED_AGENT_NAME,
  `${RESERVED_AGENT_NAME} is reserved: call the agent something else`,
);

const wellFormed = (text: string): boolean => text.isWellFormed();
const LONE_SURROGATE = 'holds a lone surrogate, which is not valid Unicode';

export const agentDescription = z
  .string()
  .trim()
  .min(1, 'the description is empty')
  .max(2_000, 'a description has at most 2,000 characters')
  .refine(wellFormed, LONE_SURROGATE);
export const agentInstructions = z
  .string()
  .max(32_000, 'instructions have at most 32,000 characters')
  .refine((text) => text.trim() !== '', 'the instructions are empty')
  .refine(wellFormed, LONE_SURROGATE);
export const agentModel = requestedModel.refine(
  (model) => !model.startsWith('agent:'),
  'an agent is answered by a model, not by another agent',
);
export const agentTools = z
  .array(z.string().min(1).max(100))
  .max(100, 'an agent has at most 100 tools')
  .refine((names) => new Set(names).size === names.length, 'names a tool twice');

/** What an agent is given that says nothing else. */
export const defaultBudget: Budget = { tokens: null, cost: null, turns: null };
export const defaultPolicy: AgentPolicy = {
  timeoutMs: 600_000,
  maxAttempts: 2,
  concurrency: 3,
  queueLength: 20,
};

export const newBudget = z.strictObject({
  tokens: budget.shape.tokens.unwrap().max(1_000_000_000).nullable(),
  cost: budget.shape.cost.unwrap().max(1_000_000).nullable(),
  turns: budget.shape.turns.unwrap().max(1_000).nullable(),
});
export const newPolicy = z.strictObject({
  timeoutMs: agentPolicy.shape.timeoutMs.max(24 * 60 * 60_000),
  maxAttempts: agentPolicy.shape.maxAttempts.max(10),
  concurrency: agentPolicy.shape.concurrency.max(100),
  queueLength: agentPolicy.shape.queueLength.max(1_000),
});

const definition = agentDefinition.extend({
  name: newAgentName,
  description: agentDescription,
  instructions: agentInstructions,
  model: agentModel.nullable(),
  tools: agentTools.nullable(),
  budget: newBudget,
  policy: newPolicy,
});

/** The agent's id is made of its owner and its name. */
export const createAgent = z.strictObject({ owner: z.string(), definition });
/** What is left out stays as it is, in budget and policy, too. */
export const changeAgent = z.strictObject({
  agentId: z.string(),
  changes: definition
    .omit({ name: true, aliases: true })
    .partial()
    .extend({ budget: newBudget.partial().optional(), policy: newPolicy.partial().optional() }),
});
export const deleteAgent = z.strictObject({ agentId: z.string() });
