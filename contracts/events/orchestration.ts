/**
 * An orchestration: a plan of steps over several agents, carried out at once or in order, within a time limit. A
 * delegation that the Council judges is one, too: plan, judgement, work, judgement. One stream,
 * `orchestration-<id>`. Stored format: version with care.
 */
import { z } from 'zod';
import { run } from './conversation.ts';
import { event } from './define.ts';
import { deliberationPurpose, memberName } from './deliberation.ts';

export const orchestrationKind = z.enum(['orchestration', 'delegation']);

/** `run`: an agent does it. `judgement`: the Council judges what the step `judges` brought, and may stop the rest. */
export const orchestrationStep = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('run'),
    id: z.string(),
    /** What the agent was called when it was asked for: its name, or another that it answers to. */
    calledAs: z.string(),
    /** Who does it, and what it is allowed: as its definition was when the orchestration was asked for. */
    run: run.omit({ trigger: true, parent: true, orchestrationId: true, sourceAgent: true }),
    /** The agent's; null for the default. */
    model: z.string().nullable(),
    task: z.string(),
    /** What the step adds to the agent's instructions. */
    instructions: z.string().nullable(),
    /** Ids of steps whose results are shown to it; they end before it begins. */
    after: z.array(z.string()),
  }),
  z.strictObject({
    kind: z.literal('judgement'),
    id: z.string(),
    purpose: deliberationPurpose.exclude(['autonomous']),
    judges: z.string(),
    question: z.string(),
    after: z.array(z.string()),
  }),
]);
export type OrchestrationStep = z.infer<typeof orchestrationStep>;

/** What the Council decided, and who did not agree. */
export const verdict = z.strictObject({
  outcome: z.enum(['approved', 'rejected']),
  /** The event id of its DecisionReached. */
  decisionId: z.string(),
  dissent: z.array(z.strictObject({ member: memberName, reason: z.string() })),
});
export type Verdict = z.infer<typeof verdict>;

const stepId = z.string();
const usage = {
  tokens: z.int().nonnegative(),
  /** US dollars; null when a model without a known price took part. */
  costUsd: z.number().nonnegative().nullable(),
  durationMs: z.number().nonnegative(),
};

export const orchestrationEvents = {
  OrchestrationRequested: event(
    z.strictObject({
      kind: orchestrationKind,
      task: z.string(),
      /** JSON that every step is shown; null for none. */
      context: z.unknown(),
      steps: z.array(orchestrationStep).min(1),
      parallel: z.boolean(),
      timeoutMs: z.int().positive(),
      /** The turn that asked for it; null when a request from outside did. */
      parent: z.strictObject({ conversationId: z.string(), turnId: z.string() }).nullable(),
    }),
    ['task', 'context', 'steps.*.task', 'steps.*.instructions', 'steps.*.question'],
  ),
  /** A worker takes it: the claim that makes it the only one to record steps of it. */
  OrchestrationStarted: event(z.strictObject({ attempt: z.int().positive(), worker: z.string() })),
  OrchestrationReleased: event(z.strictObject({ worker: z.string() })),
  StepStarted: event(
    z.discriminatedUnion('kind', [
      z.strictObject({
        kind: z.literal('run'),
        stepId,
        conversationId: z.string(),
        turnId: z.string(),
      }),
      z.strictObject({ kind: z.literal('judgement'), stepId, deliberationId: z.string() }),
    ]),
  ),
  StepEnded: event(
    z.strictObject({
      stepId,
      outcome: z.enum(['completed', 'failed', 'cancelled', 'skipped']),
      /** What the agent answered, or what the Council decided. */
      result: z.string(),
      /** Why it did not complete; null when it did. */
      reason: z.string().nullable(),
      /** Of a judgement that came to a decision; else null. */
      verdict: verdict.nullable(),
      ...usage,
    }),
    ['result', 'verdict.dissent.*.reason'],
  ),
  OrchestrationCancelRequested: event(z.strictObject({})),
  OrchestrationEnded: event(
    z.strictObject({
      /** `partial`: some steps completed and others did not. */
      outcome: z.enum(['completed', 'partial', 'failed', 'cancelled', 'timed out']),
      reason: z.string().nullable(),
      /** The results put together. */
      result: z.string(),
      ...usage,
    }),
    ['result'],
  ),
};
