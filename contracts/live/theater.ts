/**
 * What theater mode sends (api-notes A2.6): data-only server-sent events. One event of a deliberation is one frame, and
 * its `id:` is the event's position, so that a reader resumes without gap or repeat. `connected`, `ping`, and what is
 * said of a session that stands still have no id, except `history_load`, which stands for all frames up to its id.
 *
 * Beside the frames of A2.6 there are `deliberation` (what it is about, first of all), `vote`, `decision` and
 * `session_resumed` (a worker has taken it again). Of what a frame has in A2.6 nothing is left out; fields that are
 * not there are ours.
 */
import { z } from 'zod';
import { deliberationEvents, deliberationPurpose, memberName } from '../events/deliberation.ts';

const uses = { toolUseCount: z.int(), maxToolUses: z.int() };
const of = { phase: z.string(), loopCount: z.int() };
const timestamp = z.string();

export const theaterFrame = z.discriminatedUnion('type', [
  /** `sessionId` of a judgement, which belongs to no session, is the deliberation's id. */
  z.object({ type: z.literal('connected'), sessionId: z.string(), deliberationId: z.string() }),
  z.object({ type: z.literal('ping'), timestamp }),
  /** What was there when the reader came to a session of which no worker runs. */
  z.object({
    type: z.literal('history_load'),
    deliberations: z.array(z.looseObject({ id: z.string() })),
    currentLoop: z.int(),
  }),
  z.object({ type: z.literal('session_paused'), message: z.string() }),
  z.object({ type: z.literal('session_resumed'), sessionId: z.string(), attempt: z.int() }),
  z.object({
    type: z.literal('deliberation'),
    deliberationId: z.string(),
    sessionId: z.string(),
    topic: z.string(),
    purpose: deliberationPurpose,
    sessionMode: z.string(),
    members: z.array(
      z.object({
        name: memberName,
        displayName: z.string(),
        role: z.string(),
        avatarEmoji: z.string(),
        color: z.string(),
      }),
    ),
    material: z.array(z.object({ id: z.string(), title: z.string() })),
    maxLoops: z.int(),
    maxToolUses: z.int(),
    timestamp,
  }),
  z.object({ type: z.literal('phase_start'), ...of, ...uses, timestamp }),
  z.object({ type: z.literal('phase_end'), ...of, toolUseCount: z.int(), timestamp }),
  z.object({
    type: z.literal('council_message'),
    ...of,
    speaker: z.string(),
    message: z.string(),
    toolUseCount: z.int(),
    kind: z.enum(['statement', 'objection']),
    /** Ids of the material that it speaks about. */
    cites: z.array(z.string()),
    /** Null: a rule spoke. */
    model: z.string().nullable(),
    timestamp,
  }),
  z.object({
    type: z.literal('vote'),
    loopCount: z.int(),
    speaker: z.string(),
    vote: deliberationEvents.VoteCast.schema.shape.vote,
    reason: z.string(),
    model: z.string().nullable(),
    timestamp,
  }),
  z.object({
    type: z.literal('decision'),
    /** What actions cite. */
    decisionId: z.string(),
    loopCount: z.int(),
    outcome: z.enum(['approved', 'rejected']),
    decision: z.string(),
    by: z.enum(['majority', 'judge']),
    tally: deliberationEvents.DecisionReached.schema.shape.tally,
    dissent: deliberationEvents.DecisionReached.schema.shape.dissent,
    timestamp,
  }),
  z.object({
    type: z.literal('action'),
    action: z.string(),
    detail: z.string(),
    decisionId: z.string(),
    timestamp,
  }),
  /** A tool that searches. */
  z.object({ type: z.literal('search_start'), query: z.string(), tool: z.string(), ...uses, timestamp }),
  z.object({
    type: z.literal('search_complete'),
    query: z.string(),
    resultCount: z.int(),
    results: z.array(z.object({ title: z.string(), url: z.null(), snippet: z.string() })),
    tool: z.string(),
    /** Of the material that it makes. */
    materialId: z.string(),
    isError: z.boolean(),
    ...uses,
    timestamp,
  }),
  /** Any other tool, when it has found something. */
  z.object({
    type: z.literal('tool_count_update'),
    ...uses,
    tool: z.string(),
    arguments: z.unknown(),
    materialId: z.string(),
    result: z.string(),
    isError: z.boolean(),
    timestamp,
  }),
  z.object({
    type: z.literal('tool_limit_reached'),
    ...uses,
    message: z.string(),
    loopCount: z.int(),
    timestamp,
  }),
  z.object({ type: z.literal('circuit_breaker'), message: z.string(), loopCount: z.int(), timestamp }),
  /** Without a timestamp: there is nothing to follow. */
  z.object({ type: z.literal('error'), message: z.string(), timestamp: timestamp.optional() }),
  z.object({
    type: z.literal('session_end'),
    sessionId: z.string(),
    outcome: z.enum(['decided', 'stopped', 'failed']),
    /** Why it failed. */
    reason: z.string().nullable(),
    timestamp,
  }),
  z.object({ type: z.literal('resync'), reason: z.string(), timestamp }),
  /** The server ends the stream because it shuts down: it can be resumed at once. */
  z.object({ type: z.literal('shutdown'), timestamp }),
]);
export type TheaterFrame = z.infer<typeof theaterFrame>;
