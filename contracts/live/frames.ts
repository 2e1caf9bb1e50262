/**
 * What live feeds send and take. Luna's frames and the activity's are data-only server-sent events; ZERG's are
 * named server-sent events, and JSON messages with `type` (the event's name) and `id` on its WebSocket.
 *
 * Before the server shuts down it says so on every stream and ends it: the reader resumes at once, and goes on
 * without a gap. Luna's turns say `{type:"status", status:"server_shutdown"}`, the activity `{type:"shutdown",
 * timestamp}`, and ZERG's streams and the log `event: shutdown` with `{timestamp}`; a WebSocket is closed with
 * 1012 (service restart).
 *
 * A frame id beyond the end of the log belongs to another log, or to one that was restored from a backup. The first
 * frame says so, `resync` (refused, a native EventSource would give up for good), and the feed begins anew: a turn
 * with its first event, the others now. Its reader forgets what it has of a running answer, and reads again
 * elsewhere what it may have missed. A `resync` frame's id is sound to resume from.
 */
import { z } from 'zod';
import { messageContent, requestedModel } from '../commands/conversation.ts';
import { modelRoute, routerDecision } from '../events/conversation.ts';
import { lunaActivity, lunaAnswer } from '../http/luna.ts';
import { zergMessage } from '../http/zerg.ts';

/**
 * The `id:` of a frame, given back as `Last-Event-ID` or `?lastEventId=`: the position up to which the reader has
 * everything, and, where it has part of an answer that is being written, `.<length of the answer's text that it
 * has>.<FNV-1a of that text>` and, where it has shown reasoning, `.<length of the call's reasoning>`.
 */
export const frameId = z
  .string()
  .max(80)
  .regex(
    /^(?:0|[1-9]\d{0,19})(?:-(?:0|[1-9]\d{0,19}))?(?:\.\d{1,9}\.[0-9a-f]{8}(?:\.\d{1,9})?)?$/,
    'lastEventId is the id of a frame of this feed, or a position',
  );

const shutdown = z.object({ type: z.literal('shutdown'), timestamp: z.string() });
const resync = z.object({ type: z.literal('resync'), reason: z.string() });

// ── Luna ──────────────────────────────────────────────────────────────────
export const routerMetadata = z.object({
  class: routerDecision.shape.class,
  /** The seed's words; `metrics.routeInfo` says `pro+tools` for the last. */
  route: modelRoute,
  needs_fresh_data: z.boolean(),
  needs_tools: z.boolean(),
  risk_if_wrong: routerDecision.shape.riskIfWrong,
  confidence: routerDecision.shape.confidence,
  decision_source: routerDecision.shape.decisionSource,
  decision_time_ms: z.number(),
  matched_patterns: z.array(z.string()),
});
export type RouterMetadata = z.infer<typeof routerMetadata>;

export const lunaFrame = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('status'),
    /**
     * `restarted`: forget the answer's text so far, it begins anew. `server_shutdown`: the stream ends here and
     * can be resumed at once.
     */
    status: z.enum(['thinking', 'restarted', 'server_shutdown']),
  }),
  z.object({ type: z.literal('router_metadata'), router_metadata: routerMetadata }),
  z.object({ type: z.literal('reasoning'), content: z.string() }),
  z.object({ type: z.literal('tool_call'), id: z.string(), name: z.string(), arguments: z.unknown() }),
  z.object({
    type: z.literal('tool_result'),
    id: z.string(),
    name: z.string(),
    result: z.unknown(),
    isError: z.boolean(),
    durationMs: z.number(),
  }),
  z.object({ type: z.literal('content'), content: z.string() }),
  /** The answer without its content, which was shown. */
  z.object({
    type: z.literal('done'),
    ...lunaAnswer.omit({ content: true }).shape,
    router_metadata: routerMetadata.optional(),
    interrupted: z.literal(true).optional(),
  }),
  z.object({ type: z.literal('error'), error: z.string(), messageId: z.string() }),
  resync,
]);
export type LunaFrame = z.infer<typeof lunaFrame>;

// ── activity ──────────────────────────────────────────────────────────────
export const activityFrame = z.discriminatedUnion('type', [
  z.object({ type: z.literal('connected'), timestamp: z.string() }),
  z.object({ type: z.literal('ping'), timestamp: z.string() }),
  z.object({ type: z.literal('activity'), timestamp: z.string(), activity: lunaActivity }),
  resync.extend({ timestamp: z.string() }),
  shutdown,
]);
export type ActivityFrame = z.infer<typeof activityFrame>;

// ── the log ───────────────────────────────────────────────────────────────
/** What is sent beside envelopes (which are data-only): named events. */
export const logFrame = z.discriminatedUnion('type', [resync, shutdown]);
export type LogFrame = z.infer<typeof logFrame>;

// ── ZERG ──────────────────────────────────────────────────────────────────
const ofTurn = { turn_id: z.string(), message_id: z.string() };

/** What both of ZERG's transports send about a conversation. */
export const zergFeedFrame = z.discriminatedUnion('type', [
  z.object({ type: z.literal('connected'), session_id: z.string() }),
  z.object({ type: z.literal('token'), data: z.string() }),
  /** Forget the tokens of this answer so far: it begins anew. */
  z.object({ type: z.literal('restarted') }),
  z.object({
    type: z.literal('done'),
    usage: z.object({ prompt_tokens: z.int(), completion_tokens: z.int(), total_tokens: z.int() }),
    ...ofTurn,
  }),
  z.object({ type: z.literal('interrupted'), ...ofTurn }),
  /** With ids: the answer failed. Without: the client's own frame was refused, or the conversation is gone. */
  z.object({
    type: z.literal('error'),
    error: z.string(),
    turn_id: z.string().optional(),
    message_id: z.string().optional(),
  }),
  resync,
  shutdown,
]);
export type ZergFeedFrame = z.infer<typeof zergFeedFrame>;

/** What only the WebSocket sends. */
export const zergSocketFrame = z.discriminatedUnion('type', [
  z.object({ type: z.literal('history'), messages: z.array(zergMessage) }),
  z.object({ type: z.literal('ping') }),
  z.object({ type: z.literal('pong'), ts: z.int() }),
  /** Prove within so many seconds that the login still holds, or be closed with 4001. */
  z.object({ type: z.literal('auth_refresh'), expires_in: z.int() }),
]);
export type ZergSocketFrame = z.infer<typeof zergSocketFrame>;

/** What a client may send on ZERG's WebSocket. */
export const zergClientFrame = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('message'),
    content: messageContent,
    model: requestedModel.nullish(),
    /** The client's own id of the command: sent again with it, the message is not sent twice. */
    id: z.string().min(1).max(200).optional(),
  }),
  z.object({ type: z.literal('interrupt'), id: z.string().min(1).max(200).optional() }),
  z.object({ type: z.literal('history') }),
  z.object({ type: z.literal('ping') }),
  z.object({ type: z.literal('pong') }),
  z.object({ type: z.literal('auth'), token: z.string().min(1).max(8_192) }),
]);
export type ZergClientFrame = z.infer<typeof zergClientFrame>;
