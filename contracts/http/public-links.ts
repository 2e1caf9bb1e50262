/**
 * Links by which anybody talks to an agent (api-notes A1.6): what its owner does with them, and what visitors do. To
 * visitors every link that does not hold looks the same. Links for verified e-mail addresses are not made here.
 */
import { z } from 'zod';
import { messageContent } from '../commands/conversation.ts';
import { linkExpiry, linkName } from '../commands/public-link.ts';
import { frameId } from '../live/frames.ts';
import type {
  AgentDocument,
  MessageDocument,
  PublicLinkDocument,
  TurnDocument,
} from '../read-models/documents.ts';
import type { LinkUsage } from '../read-models/link-usage.ts';
import { executionStatus, statusOf } from './executions.ts';
import { limit, offset } from './parameters.ts';
import { route } from './route.ts';

// ── links, to the agent's owner ───────────────────────────────────────────
export const publicLink = z.strictObject({
  id: z.string(),
  agent_name: z.string(),
  token: z.string(),
  /** A user id: whom the visitors' conversations belong to. */
  created_by: z.string(),
  created_at: z.string(),
  /** Null: it does not expire. */
  expires_at: z.string().nullable(),
  enabled: z.boolean(),
  name: z.string().nullable(),
  require_email: z.literal(false),
  url: z.string(),
  usage_stats: z.strictObject({
    total_sessions: z.int(),
    total_messages: z.int(),
    input_tokens: z.int(),
    output_tokens: z.int(),
    /** US dollars, as far as the models' prices are known. */
    total_cost_usd: z.number(),
    last_used_at: z.string().nullable(),
  }),
});
export type PublicLink = z.infer<typeof publicLink>;

/** @param origin under which the deployment is reached, without a slash at its end */
export const renderLink = (
  doc: Pick<
    PublicLinkDocument,
    'id' | 'agentName' | 'owner' | 'createdAt' | 'expiresAt' | 'enabled' | 'name'
  >,
  { token, origin, usage }: { readonly token: string; readonly origin: string; readonly usage: LinkUsage },
): PublicLink => ({
  id: doc.id,
  agent_name: doc.agentName,
  token,
  created_by: doc.owner,
  created_at: doc.createdAt,
  expires_at: doc.expiresAt,
  enabled: doc.enabled,
  name: doc.name,
  require_email: false,
  url: `${origin}/api/public/link/${token}`,
  usage_stats: {
    total_sessions: usage.sessions,
    total_messages: usage.messages,
    input_tokens: usage.inputTokens,
    output_tokens: usage.outputTokens,
    total_cost_usd: usage.costUsd,
    last_used_at: usage.lastUsedAt,
  },
});

/** As the request reached this deployment; what a proxy says of it concerns only who reads the answer. */
export function originOf(headers: Readonly<Record<string, string | string[] | undefined>>): string {
  const first = (name: string): string | undefined =>
    String(headers[name] ?? '')
      .split(',')[0]
      ?.trim();
  const scheme = first('x-forwarded-proto') === 'https' ? 'https' : 'http';
  return `${scheme}://${first('host')}`;
}

const agentParams = z.object({ name: z.string() });
const linkParams = z.object({ name: z.string(), id: z.string() });
const noEmail = z
  .literal(false, 'links for verified e-mail addresses are not supported here: leave it out')
  .optional();
const agentExample = { name: 'researcher' };
const linkExample = { ...agentExample, id: '1a2b3c4d5e6f1a2b3c4d5e6f' };
const exampleLink: PublicLink = {
  id: linkExample.id,
  agent_name: 'researcher',
  token: 'Zq3nX0b8m1VYt5sKc9LrWd2GhJ7fPaEu',
  created_by: '7c1f0b6d2a9e4c53',
  created_at: '2026-11-22T10:00:00.000Z',
  expires_at: '2027-01-31T12:00:00.000Z',
  enabled: true,
  name: 'Spring fair',
  require_email: false,
  url: 'https://odeon.example.org/api/public/link/Zq3nX0b8m1VYt5sKc9LrWd2GhJ7fPaEu',
  usage_stats: {
    total_sessions: 0,
    total_messages: 0,
    input_tokens: 0,
    output_tokens: 0,
    total_cost_usd: 0,
    last_used_at: null,
  },
};
const FOR_OWNERS = "For the agent's owner and admins.";

export const createPublicLink = route({
  surface: 'trinity',
  method: 'POST',
  path: '/api/agents/:name/public-links',
  summary: `Makes a link by which anybody talks to the agent. ${FOR_OWNERS}`,
  access: 'agents:manage',
  params: agentParams,
  body: z
    .strictObject({
      name: linkName.nullish(),
      expires_at: linkExpiry.nullish(),
      enabled: z.boolean().default(true),
      require_email: noEmail,
    })
    .prefault({}),
  answers: { 201: publicLink },
  repeat: 'derived',
  example: {
    params: agentExample,
    body: { name: 'Spring fair', expires_at: '2027-01-31T12:00:00.000Z' },
    answer: exampleLink,
  },
});

export const listPublicLinks = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/agents/:name/public-links',
  summary: `The agent's links, oldest first, with what came by each. ${FOR_OWNERS}`,
  access: 'agents:manage',
  params: agentParams,
  query: z.object({ limit: limit(200, 100), offset }),
  answers: { 200: z.array(publicLink) },
  example: { params: agentExample, answer: [exampleLink] },
});

export const getPublicLink = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/agents/:name/public-links/:id',
  summary: `A link with what came by it. ${FOR_OWNERS}`,
  access: 'agents:manage',
  params: linkParams,
  answers: { 200: publicLink },
  example: { params: linkExample, answer: exampleLink },
});

const change = {
  surface: 'trinity',
  path: '/api/agents/:name/public-links/:id',
  access: 'agents:manage',
  params: linkParams,
  body: z
    .strictObject({
      name: linkName.nullable().optional(),
      expires_at: linkExpiry.nullable().optional(),
      enabled: z.boolean().optional(),
      require_email: noEmail,
    })
    .refine(
      ({ name, expires_at, enabled }) =>
        name !== undefined || expires_at !== undefined || enabled !== undefined,
      'name at least one of name, expires_at and enabled',
    ),
  answers: { 200: publicLink },
  repeat: 'derived',
  example: {
    params: linkExample,
    body: { enabled: false },
    answer: { ...exampleLink, enabled: false },
  },
} as const;

export const changePublicLink = route({
  ...change,
  method: 'PATCH',
  summary: `Renames a link, disables or enables it, or lets it expire at another time. ${FOR_OWNERS}`,
});
export const putPublicLink = route({
  ...change,
  method: 'PUT',
  summary: `As PATCH: what is left out stays as it is. ${FOR_OWNERS}`,
});

export const deletePublicLink = route({
  surface: 'trinity',
  method: 'DELETE',
  path: '/api/agents/:name/public-links/:id',
  summary: `Deletes a link for good; what was said by way of it stays. ${FOR_OWNERS}`,
  access: 'agents:manage',
  params: linkParams,
  answers: { 200: z.strictObject({ status: z.literal('deleted'), id: z.string() }) },
  example: { params: linkExample, answer: { status: 'deleted', id: linkExample.id } },
});

// ── visitors ──────────────────────────────────────────────────────────────
/** Whatever is wrong with it. */
export const INVALID_LINK = 'Invalid or expired link';

const tokenParams = z.object({ token: z.string() });
const executionParams = z.object({ token: z.string(), id: z.string() });
/** Which makes a visitor's conversation theirs: as the first answer gave it. */
const sessionId = z.string().max(100).optional();
const bySession = z.object({ session_id: sessionId });
const visitorMessage = messageContent.max(8_000, 'a message has at most 8,000 characters');
const tokenExample = { token: exampleLink.token };
const exampleSession = '0123456789ab.Qm9va3MgYXJlIGZ1bi4uLg';
const executionExample = { ...tokenExample, id: 'turn_1a2b3c4d5e6f1a2b3c4d5e6f' };
const sessionExample = { session_id: exampleSession };

export const lookAtLink = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/public/link/:token',
  summary: 'Whether a link holds, and whom it leads to. Always 200; 60 look-ups a minute from an address.',
  access: 'public',
  params: tokenParams,
  answers: {
    200: z.strictObject({
      valid: z.boolean(),
      require_email: z.literal(false),
      agent_available: z.boolean(),
      reason: z.literal('invalid_or_expired').optional(),
      agent_name: z.string().optional(),
      agent_description: z.string().optional(),
    }),
    429: z.strictObject({ detail: z.string() }),
  },
  example: {
    params: tokenExample,
    answer: {
      valid: true,
      require_email: false,
      agent_available: true,
      agent_name: 'researcher',
      agent_description: 'Finds out what is known.',
    },
  },
});

export const invalidLink = {
  valid: false,
  require_email: false,
  agent_available: false,
  reason: 'invalid_or_expired',
} as const;
export const renderValidLink = (agent: AgentDocument) => ({
  valid: true,
  require_email: false as const,
  agent_available: true,
  agent_name: agent.name,
  agent_description: agent.description,
});

const failure = z.strictObject({ detail: z.string() });

export const publicChat = route({
  surface: 'trinity',
  method: 'POST',
  path: '/api/public/chat/:token',
  summary:
    "Sends a visitor's message: in the session that is named, else in a new one, whose id comes with the answer. " +
    '30 messages a minute from an address, and 60 by a link.',
  access: 'public',
  params: tokenParams,
  body: z.strictObject({
    message: visitorMessage,
    session_id: sessionId.nullable(),
    /** Answers at once, with the execution to follow. */
    async_mode: z.boolean().default(false),
    // Trinity's, and not carried out here: refused by name, not ignored.
    session_token: z.null('there are no links for verified e-mail addresses here: leave it out').optional(),
    files: z.array(z.unknown()).max(0, 'files are not supported here yet: leave them out').nullish(),
  }),
  answers: {
    200: z.union([
      z.strictObject({
        response: z.string(),
        session_id: z.string(),
        /** Of the session. */
        message_count: z.int(),
        usage: z.strictObject({ input_tokens: z.int(), output_tokens: z.int() }),
      }),
      z.strictObject({
        status: z.literal('accepted'),
        execution_id: z.string(),
        agent_name: z.string(),
        session_id: z.string(),
        async_mode: z.literal(true),
      }),
    ]),
    404: failure,
    429: failure,
    502: failure,
    503: failure,
    504: failure,
  },
  repeat: 'derived',
  example: {
    params: tokenExample,
    body: { message: 'When do you open?' },
    answer: {
      response: 'At nine.',
      session_id: exampleSession,
      message_count: 2,
      usage: { input_tokens: 120, output_tokens: 4 },
    },
  },
});

export const publicHistory = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/public/history/:token',
  summary: "The last 100 messages of a visitor's session, oldest first; without a session, none.",
  access: 'public',
  params: tokenParams,
  query: bySession,
  answers: {
    200: z.strictObject({
      messages: z.array(
        z.strictObject({ role: z.enum(['user', 'assistant']), content: z.string(), timestamp: z.string() }),
      ),
      session_id: z.string().nullable(),
      message_count: z.int(),
    }),
    404: failure,
    429: failure,
  },
  example: {
    params: tokenExample,
    query: sessionExample,
    answer: {
      messages: [{ role: 'user', content: 'When do you open?', timestamp: '2026-11-22T10:00:00.000Z' }],
      session_id: exampleSession,
      message_count: 1,
    },
  },
});

export const PUBLIC_HISTORY = 100;
/** Answers that brought nothing are left out. */
export const renderPublicMessages = (messages: readonly MessageDocument[]) =>
  messages
    .filter(({ role, content }) => role === 'user' || content !== '')
    .map(({ role, content, createdAt: timestamp }) => ({ role, content, timestamp }));

export const clearPublicSession = route({
  surface: 'trinity',
  method: 'DELETE',
  path: '/api/public/session/:token',
  summary: "Ends a visitor's session, and begins another.",
  access: 'public',
  params: tokenParams,
  query: bySession,
  answers: {
    200: z.strictObject({ cleared: z.literal(true), new_session_id: z.string() }),
    404: failure,
    429: failure,
  },
  repeat: 'derived',
  example: {
    params: tokenExample,
    query: sessionExample,
    answer: { cleared: true, new_session_id: exampleSession },
  },
});

export const publicIntro = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/public/intro/:token',
  summary: 'How the agent introduces itself to visitors.',
  access: 'public',
  params: tokenParams,
  answers: { 200: z.strictObject({ intro: z.string() }), 404: failure, 429: failure },
  example: { params: tokenExample, answer: { intro: 'I am researcher. Finds out what is known.' } },
});

export const introOf = ({ name, description }: AgentDocument): string => `I am ${name}. ${description}`;

export const publicExecutionStatus = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/public/executions/:token/:id/status',
  summary: "How far an execution of a visitor's session is, and its answer.",
  access: 'public',
  params: executionParams,
  query: bySession,
  answers: {
    200: z.strictObject({
      execution_id: z.string(),
      agent_name: z.string(),
      session_id: z.string(),
      status: executionStatus,
      response: z.string().nullable(),
      error: z.string().nullable(),
      started_at: z.string().nullable(),
      completed_at: z.string().nullable(),
    }),
    404: failure,
    429: failure,
  },
  example: { params: executionExample, query: sessionExample },
});

/** Why is for the owner to know. */
export const VISITOR_FAILURE = 'The agent could not answer: try again later.';

export const renderVisitorExecution = (
  turn: TurnDocument,
  { agentName, session, answer }: { agentName: string; session: string; answer: MessageDocument | null },
) => ({
  execution_id: turn.id,
  agent_name: agentName,
  session_id: session,
  status: statusOf(turn),
  response: answer?.content ?? null,
  error: turn.status === 'failed' ? VISITOR_FAILURE : null,
  started_at: turn.startedAt,
  completed_at: turn.endedAt,
});

/** 204: the execution has ended and all of it was read. */
export const publicExecutionStream = route({
  surface: 'trinity',
  method: 'GET',
  path: '/api/public/executions/:token/:id/stream',
  summary:
    "An answer of a visitor's session as it is written: `text` and `status` entries, and at its end " +
    '`{"type":"stream_end"}`. Last-Event-ID resumes.',
  access: 'public',
  params: executionParams,
  query: bySession.extend({
    lastEventId: z.preprocess((id) => (id === '' ? undefined : id), frameId.optional()),
  }),
  answers: { 200: 'stream', 204: 'empty', 404: failure, 429: failure },
  example: { params: executionExample, query: sessionExample },
});

export const terminatePublicExecution = route({
  surface: 'trinity',
  method: 'POST',
  path: '/api/public/executions/:token/:id/terminate',
  summary: "Stops an execution of a visitor's session.",
  access: 'public',
  params: executionParams,
  query: bySession,
  answers: {
    200: z.strictObject({
      status: z.enum(['terminated', 'cancelled_while_queued', 'already_finished']),
      execution_id: z.string(),
    }),
    404: failure,
    429: failure,
  },
  example: { params: executionExample, query: sessionExample },
});

export const publicLinkRoutes = [
  createPublicLink,
  listPublicLinks,
  getPublicLink,
  changePublicLink,
  putPublicLink,
  deletePublicLink,
  lookAtLink,
  publicChat,
  publicHistory,
  clearPublicSession,
  publicIntro,
  publicExecutionStatus,
  publicExecutionStream,
  terminatePublicExecution,
] as const;
