/**
 * What Agent Chat's Socket.IO takes and sends (seeds/agent-chat.txt, "WebSocket API"). Beside the keys of its
 * document, events have some more: `seq` above all.
 *
 * `seq` is opaque: `<frame id>@<what was subscribed to>`. Who was cut off comes again with `auth.lastSeq`, the last
 * `seq` that it got of each subscription (one, or a list of them), and is subscribed again, and given exactly what
 * it missed; or it subscribes with `lastSeq`. A `seq` that this log does not know is answered with `resync`, and the
 * subscription begins anew.
 *
 * Every event may come with an acknowledgement: it is called with `{ok: true, …}`, or with `{ok: false, …}` and the
 * keys of `error_event`, which is sent as well.
 */
import { z } from 'zod';
import { messageContent, requestedModel } from '../commands/conversation.ts';
import { frameId } from './frames.ts';

// ── seq ───────────────────────────────────────────────────────────────────
/** What can be subscribed to. `agent_progress` without an id: all that is the caller's. */
export const subscriptionKinds = ['conversation', 'agent', 'orchestration', 'agents'] as const;

/** A `seq`, taken apart. */
export const seq = z
  .string()
  .max(200)
  .regex(/^[^@]+@(?:conversation|agent|orchestration|agents)(?::[^@]+)?$/, 'lastSeq is the seq of an event')
  .transform((text) => {
    const at = text.indexOf('@');
    const [kind, id = ''] = text.slice(at + 1).split(':');
    return { frame: text.slice(0, at), kind: kind as (typeof subscriptionKinds)[number], id };
  })
  .refine(({ frame }) => frameId.safeParse(frame).success, 'lastSeq is the seq of an event');
export type Seq = z.output<typeof seq>;

const MAX_RESUMED = 100;
/** Nothing has been read yet where it is empty. */
const blank = (value: unknown) => (value === '' || value === null ? undefined : value);
const lastSeq = z.preprocess(blank, seq.optional());

/** `io(url, {auth})`. The credential may also come as `Authorization`, `X-API-Key` or a cookie. */
export const socketAuth = z.object({
  token: z.preprocess(blank, z.string().max(8_192).optional()),
  apiKey: z.preprocess(blank, z.string().max(8_192).optional()),
  lastSeq: z.preprocess(
    (value) => (Array.isArray(value) ? value : blank(value) === undefined ? [] : [value]),
    z.array(seq).max(MAX_RESUMED, `lastSeq names at most ${MAX_RESUMED} subscriptions`),
  ),
});

// ── client → server ───────────────────────────────────────────────────────
/** The client's own id of an event: sent again with it, nothing is done twice. */
const id = z.string().min(1).max(200).optional();
/** Any text: an id that cannot exist is answered like one that does not. */
const anyId = z.string().min(1).max(200);

const target = {
  type: z.enum(['conversation', 'agent_progress', 'orchestration'], {
    error: 'type is conversation, agent_progress or orchestration',
  }),
  conversation_id: anyId.optional(),
  /** An agent's name or id. */
  agent_id: anyId.optional(),
  orchestration_id: anyId.optional(),
};
const named = (value: z.infer<z.ZodObject<typeof target>>): boolean =>
  value.type === 'conversation'
    ? value.conversation_id !== undefined
    : value.type === 'agent_progress' || value.orchestration_id !== undefined;
const NOT_NAMED = 'say which one: conversation_id, or orchestration_id';

export const clientEvents = {
  /** Without `conversation_id` it begins a conversation. `stream: false`: the answer comes in one piece. */
  chat_message: z.object({
    conversation_id: anyId.nullish(),
    message: messageContent,
    model: requestedModel.nullish(),
    stream: z.boolean().default(true),
    id,
  }),
  voice_command: z.object({
    transcription: messageContent,
    /** How sure the recogniser is. */
    confidence: z.number().min(0).max(1).default(1),
    /** Where it is said; without one, in the conversation that the last command was about. */
    session_id: anyId.nullish(),
    id,
  }),
  subscribe: z.object({ ...target, lastSeq }).refine(named, NOT_NAMED),
  unsubscribe: z.object(target).refine(named, NOT_NAMED),
  interrupt: z.object({ conversation_id: anyId, turn_id: anyId.nullish(), id }),
} as const;
export type ClientEventName = keyof typeof clientEvents;
export type ClientEvent<Name extends ClientEventName> = z.output<(typeof clientEvents)[Name]>;

// ── server → client ───────────────────────────────────────────────────────
export const errorEvent = z.strictObject({
  success: z.literal(false),
  error: z.string(),
  details: z.string(),
  code: z.string(),
  timestamp: z.string(),
  limit: z.int().optional(),
  window: z.string().optional(),
  retry_after: z.int().optional(),
  correlationId: z.string().optional(),
});
export type ErrorEvent = z.infer<typeof errorEvent>;

export const serverEvents = {
  /** A piece of an answer. What comes with `finished` is its last one, and may be empty. */
  chat_response: z.strictObject({
    conversation_id: z.string(),
    message_id: z.string(),
    token: z.string(),
    finished: z.boolean(),
    /** Who writes; what was asked for, until that is known. */
    model: z.string().nullable(),
    /** Forget the tokens of this answer so far: it begins anew. */
    restarted: z.literal(true).optional(),
    /** How it ended. */
    status: z.enum(['complete', 'interrupted', 'failed']).optional(),
    /** Why it failed. */
    error: z.string().optional(),
    seq: z.string(),
  }),
  agent_progress: z.strictObject({
    /** As it was subscribed to: the agent's name or id. */
    agent_id: z.string(),
    /** The execution, or the orchestration. */
    task_id: z.string(),
    /** From 0 to 1, which is when it has ended. */
    progress: z.number().min(0).max(1),
    status: z.string(),
    message: z.string(),
    seq: z.string(),
  }),
  voice_feedback: z.strictObject({
    speech: z.string(),
    action: z.enum([
      'session_created',
      'sessions_listed',
      'search_results',
      'message_sent',
      'message_answered',
      'interrupted',
      'not_understood',
    ]),
    /** The conversation that it is about; null where it is about none. */
    session_id: z.string().nullable(),
  }),
  /** The subscription begins anew: what came before may lack something. */
  resync: z.strictObject({ reason: z.string(), conversation_id: z.string().optional(), seq: z.string() }),
  error_event: errorEvent,
} as const;
export type ServerEventName = keyof typeof serverEvents;
export type ServerEvent<Name extends ServerEventName> = z.infer<(typeof serverEvents)[Name]>;
