/**
 * A named agent: one stream, `agent-<id>`; the id is made of its owner and its name. Stored format: version with care.
 */
import { z } from 'zod';
import { event } from './define.ts';

export const agentName = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9_-]{0,63}$/,
    'an agent has a name of at most 64 lower-case letters, digits, - and _, and begins with a letter or digit',
  );

/** What one run may use up; null: without limit. */
export const budget = z.strictObject({
  /** Of prompts and answers together. */
  tokens: z.int().positive().nullable(),
  /** US dollars. Calls of models whose price is not known count nothing. */
  cost: z.number().positive().nullable(),
  /** Calls of a model. */
  turns: z.int().positive().nullable(),
});
export type Budget = z.infer<typeof budget>;

/** How runs are carried out. */
export const agentPolicy = z.strictObject({
  timeoutMs: z.int().positive(),
  /** Failed and timed-out attempts are made again until there were so many. */
  maxAttempts: z.int().positive(),
  /** How many run at once, and how many more may wait. */
  concurrency: z.int().positive(),
  queueLength: z.int().nonnegative(),
});
export type AgentPolicy = z.infer<typeof agentPolicy>;

export const agentDefinition = z.strictObject({
  name: agentName,
  description: z.string(),
  instructions: z.string(),
  /** `provider/model`, a model's name, a route, or null for the default. */
  model: z.string().nullable(),
  /** Names of the tools that it may use; null: all. */
  tools: z.array(z.string()).nullable(),
  budget,
  policy: agentPolicy,
  /** Whether everybody may use it. */
  shared: z.boolean(),
  /** Other names that it answers to. */
  aliases: z.array(agentName),
});
export type AgentDefinition = z.infer<typeof agentDefinition>;

export const agentEvents = {
  AgentCreated: event(agentDefinition, ['description', 'instructions']),
  /** What it is now, whole. */
  AgentChanged: event(agentDefinition.omit({ name: true }), ['description', 'instructions']),
  AgentDeleted: event(z.strictObject({})),
};
