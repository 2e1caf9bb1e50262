/**
 * A deliberation of the Council: members speak in turn about a topic and its material, object, vote with reasons, and
 * reach a decision that later actions cite. One stream, `deliberation-<id>`. And the Council of a user: its members
 * and its session; one stream, `council-<owner>`. Stored format: version with care.
 */
import { z } from 'zod';
import { tokenUsage } from './conversation.ts';
import { event } from './define.ts';

export const memberName = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9_-]{0,31}$/,
    'a member has a name of at most 32 lower-case letters, digits, - and _',
  );

export const councilMember = z.strictObject({
  name: memberName,
  displayName: z.string(),
  role: z.string(),
  personality: z.string(),
  /** What it is asked to do in a deliberation. */
  instructions: z.string(),
  avatarEmoji: z.string(),
  color: z.string(),
  /** The order in which members speak. */
  order: z.int().nonnegative(),
  active: z.boolean(),
});
export type CouncilMember = z.infer<typeof councilMember>;

/** `autonomous`: a user's own topic. The others judge what an agent is about to do, and what it has done. */
export const deliberationPurpose = z.enum(['autonomous', 'plan', 'result']);

/** What the members speak about: given with the topic, or found by a tool. */
export const material = z.strictObject({
  id: z.string(),
  title: z.string(),
  text: z.string(),
  /** The tool that found it; null when it was given. */
  tool: z.string().nullable(),
});
export type Material = z.infer<typeof material>;

/** Who really spoke for a member. */
export const voice = z.strictObject({
  /** Null: no model is connected, and a rule spoke. */
  model: z.string().nullable(),
  usage: tokenUsage,
  costUsd: z.number().nonnegative().nullable(),
  durationMs: z.number().nonnegative(),
});

export type Voice = z.infer<typeof voice>;

const phase = z.string();
const loop = z.int().positive();
const vote = z.enum(['for', 'against', 'abstain']);

export const deliberationEvents = {
  CouncilMemberChanged: event(councilMember, ['personality', 'instructions']),
  CouncilMemberRemoved: event(z.strictObject({ name: memberName })),
  AutonomousSessionStarted: event(
    z.strictObject({
      sessionId: z.string(),
      deliberationId: z.string(),
      task: z.string(),
      mode: z.enum(['standard', 'expert_discussion', 'research']),
    }),
    ['task'],
  ),
  AutonomousSessionStopRequested: event(z.strictObject({ sessionId: z.string() })),
  AutonomousSessionEnded: event(
    z.strictObject({ sessionId: z.string(), outcome: z.enum(['completed', 'stopped', 'failed']) }),
  ),

  DeliberationOpened: event(
    z.strictObject({
      topic: z.string(),
      purpose: deliberationPurpose,
      material: z.array(material),
      members: z.array(councilMember).min(1),
      /** Rounds without a majority after which the judge decides alone. */
      maxLoops: loop,
      maxToolUses: z.int().nonnegative(),
      /** Of an autonomous session; null for a judgement. */
      sessionId: z.string().nullable(),
      mode: z.enum(['standard', 'expert_discussion', 'research']),
    }),
    ['topic', 'material.*.text', 'material.*.title'],
  ),
  /** A worker takes it: the claim that makes it the only one to record steps of it. */
  DeliberationStarted: event(z.strictObject({ attempt: z.int().positive(), worker: z.string() })),
  DeliberationReleased: event(z.strictObject({ worker: z.string() })),
  PhaseStarted: event(z.strictObject({ phase, loop })),
  /** A tool is about to be used; one that was is not used again after a crash, one that was not yet, is. */
  MaterialSought: event(z.strictObject({ phase, loop, tool: z.string(), arguments: z.unknown() }), [
    'arguments',
  ]),
  /** A tool found material. `isError`: it did not, and `material.text` says why. */
  MaterialGathered: event(
    z.strictObject({
      phase,
      loop,
      tool: z.string(),
      arguments: z.unknown(),
      material,
      isError: z.boolean(),
      durationMs: z.number().nonnegative(),
    }),
    ['arguments', 'material.text', 'material.title'],
  ),
  /**
   * No more tools: `tools`, so many were used as may be; `repetition`, the same was asked for again and again.
   */
  DeliberationLimited: event(
    z.strictObject({ limit: z.enum(['tools', 'repetition']), phase, loop, message: z.string() }),
    ['message'],
  ),
  /** No model answered for a member: a rule speaks for it in what follows. */
  VoiceFailed: event(z.strictObject({ phase, loop, member: memberName, reason: z.string() })),
  MemberSpoke: event(
    z.strictObject({
      phase,
      loop,
      member: memberName,
      kind: z.enum(['statement', 'objection']),
      text: z.string(),
      /** Ids of the material that it speaks about. */
      cites: z.array(z.string()),
      voice,
    }),
    ['text'],
  ),
  VoteCast: event(z.strictObject({ loop, member: memberName, vote, reason: z.string(), voice }), ['reason']),
  PhaseEnded: event(z.strictObject({ phase, loop })),
  DecisionReached: event(
    z.strictObject({
      loop,
      outcome: z.enum(['approved', 'rejected']),
      decision: z.string(),
      /** How it came about: by a majority, or by the judge after too many rounds. */
      by: z.enum(['majority', 'judge']),
      tally: z.strictObject({ for: z.int(), against: z.int(), abstain: z.int() }),
      dissent: z.array(z.strictObject({ member: memberName, reason: z.string() })),
      /** Of the judge; null for a majority, which is counted. */
      voice: voice.nullable(),
    }),
    ['decision', 'dissent.*.reason'],
  ),
  /** Something that was done because of the decision. */
  ActionTaken: event(
    z.strictObject({
      action: z.string(),
      detail: z.string(),
      /** The event id of the DecisionReached that it cites. */
      decisionId: z.string(),
    }),
    ['detail'],
  ),
  DeliberationStopRequested: event(z.strictObject({})),
  DeliberationEnded: event(
    z.strictObject({
      outcome: z.enum(['decided', 'stopped', 'failed']),
      reason: z.string().nullable(),
      usage: tokenUsage,
      costUsd: z.number().nonnegative().nullable(),
      durationMs: z.number().nonnegative(),
    }),
  ),
};
