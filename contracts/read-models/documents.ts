/** The documents that the projections make: one read model each, which every surface renders in its own words. */
import { z } from 'zod';
import { actor, surface } from '../envelope.ts';
import { agentDefinition } from '../events/agent.ts';
import {
  answerDecision,
  conversationKind,
  conversationMode,
  finishReason,
  providerTry,
  routerDecision,
  runTrigger,
  tokenUsage,
  toolRequest,
} from '../events/conversation.ts';
import { councilMember, deliberationEvents, deliberationPurpose, material } from '../events/deliberation.ts';
import { role } from '../events/identity.ts';
import { factCategory } from '../events/memory.ts';
import { orchestrationKind, verdict } from '../events/orchestration.ts';

/** `conversations`, id = conversation id. A deleted conversation has no document. */
export const conversationDocument = z.object({
  id: z.string(),
  owner: z.string(),
  title: z.string().nullable(),
  mode: conversationMode,
  /** As asked for; null for the default. */
  model: z.string().nullable(),
  /** The surface it was begun on. */
  surface,
  status: z.enum(['active', 'ended']),
  archived: z.boolean(),
  kind: conversationKind,
  /** Who answers in it; null for the assistant without a name. */
  agentId: z.string().nullable(),
  agentName: z.string().nullable(),
  /** The public link that a visitor came by. */
  linkId: z.string().nullable(),
  messageCount: z.int(),
  /** Of all turns that have ended. */
  usage: tokenUsage,
  /** US dollars, of the turns whose cost is known. */
  costUsd: z.number(),
  /** What the last call of a model was sent and answered with. */
  contextTokens: z.int(),
  /** `provider/model` of the last answer; null until there is one. */
  answeredBy: z.string().nullable(),
  lastMessageAt: z.string().nullable(),
  createdAt: z.string(),
  updatedAt: z.string(),
});
export type ConversationDocument = z.infer<typeof conversationDocument>;

/** `messages`, id = message id. Ordered within a conversation by `revision`. */
export const messageDocument = z.object({
  id: z.string(),
  conversationId: z.string(),
  owner: z.string(),
  /** Of the event in the conversation's stream that it came from. */
  revision: z.int(),
  turnId: z.string(),
  role: z.enum(['user', 'assistant']),
  content: z.string(),
  status: z.enum(['complete', 'interrupted', 'failed']),
  /** Why a failed answer failed. */
  reason: z.string().nullable(),
  createdAt: z.string(),
  /** Of an answer: how it came about. Null on a user's message. */
  answer: z
    .object({
      provider: z.string().nullable(),
      model: z.string().nullable(),
      requestedModel: z.string().nullable(),
      decision: answerDecision.nullable(),
      tried: z.array(providerTry),
      toolsUsed: z.array(z.string()),
      usage: tokenUsage,
      costUsd: z.number().nullable(),
      durationMs: z.number(),
      finishReason: finishReason.nullable(),
      /** For tools that the client runs. */
      toolRequests: z.array(toolRequest),
    })
    .nullable(),
});
export type MessageDocument = z.infer<typeof messageDocument>;

/** `turns`, id = turn id. A turn that an agent answers is a run: Trinity's execution. */
export const turnDocument = z.object({
  id: z.string(),
  conversationId: z.string(),
  owner: z.string(),
  userMessageId: z.string(),
  /** The answer's message; null until the turn has ended. */
  answerId: z.string().nullable(),
  /** The agent that answers, and below what else is known of its run; null where it is no run. */
  agentId: z.string().nullable(),
  run: z
    .object({
      agentName: z.string(),
      trigger: runTrigger,
      /** Who asked. */
      actor,
      parentTurnId: z.string().nullable(),
      /** The agent that asked, as the request said. */
      sourceAgent: z.string().nullable(),
      orchestrationId: z.string().nullable(),
      message: z.string(),
      maxAttempts: z.int(),
    })
    .nullable(),
  /** When a run was asked for: what lists of runs are ordered by. Null where it is no run. */
  runAt: z.string().nullable(),
  /** Of all calls; null until the turn has ended. */
  usage: tokenUsage.nullable(),
  costUsd: z.number().nullable(),
  status: z.enum(['queued', 'running', 'completed', 'interrupted', 'failed']),
  attempt: z.int(),
  /** Of the conversation's stream: of the user's message, and of the event that ended the turn. */
  firstRevision: z.int(),
  lastRevision: z.int().nullable(),
  decision: routerDecision.nullable(),
  /** One entry for each finished call of a model, in order. */
  calls: z.array(
    z.object({
      provider: z.string(),
      model: z.string(),
      usage: tokenUsage.nullable(),
      costUsd: z.number().nullable(),
      durationMs: z.number(),
      error: z.string().nullable(),
    }),
  ),
  tools: z.array(z.object({ tool: z.string(), isError: z.boolean(), durationMs: z.number() })),
  reason: z.string().nullable(),
  requestedAt: z.string(),
  startedAt: z.string().nullable(),
  endedAt: z.string().nullable(),
});
export type TurnDocument = z.infer<typeof turnDocument>;

/** `activity`, id = event id: one row an event, never changed. */
export const activityDocument = z.object({
  id: z.string(),
  owner: z.string(),
  conversationId: z.string().nullable(),
  turnId: z.string().nullable(),
  category: z.enum([
    'llm_call',
    'tool_invoke',
    'memory_op',
    'state_event',
    'error',
    'background',
    'system',
    'irc',
  ]),
  eventType: z.string(),
  level: z.enum(['info', 'success', 'warn', 'error']),
  title: z.string(),
  message: z.string().nullable(),
  details: z.record(z.string(), z.unknown()),
  source: z.string(),
  durationMs: z.number().nullable(),
  actor,
  createdAt: z.string(),
});
export type ActivityDocument = z.infer<typeof activityDocument>;

/** `agents`, id = agent id. A deleted agent has no document. Ready-made agents belong to `system`. */
export const agentDocument = z.object({
  id: z.string(),
  owner: z.string(),
  ...agentDefinition.shape,
  createdAt: z.string(),
  updatedAt: z.string(),
});
export type AgentDocument = z.infer<typeof agentDocument>;

const stepDocument = z.object({
  id: z.string(),
  kind: z.enum(['run', 'judgement']),
  /** Who does it; null for a judgement. */
  agentId: z.string().nullable(),
  agentName: z.string().nullable(),
  /** What the agent was called when it was asked for. */
  calledAs: z.string().nullable(),
  /** What a judgement is about; null for a run. */
  purpose: z.enum(['plan', 'result']).nullable(),
  status: z.enum(['pending', 'running', 'completed', 'failed', 'cancelled', 'skipped']),
  /** Of a run that has begun. */
  conversationId: z.string().nullable(),
  turnId: z.string().nullable(),
  /** Of a judgement that has begun. */
  deliberationId: z.string().nullable(),
  /** What the agent answered, or what the Council decided; null until the step has ended. */
  result: z.string().nullable(),
  /** Why it did not complete. */
  reason: z.string().nullable(),
  verdict: verdict.nullable(),
  tokens: z.int(),
  costUsd: z.number().nullable(),
  durationMs: z.number(),
  startedAt: z.string().nullable(),
  endedAt: z.string().nullable(),
});

/** `orchestrations`, id = orchestration id. */
export const orchestrationDocument = z.object({
  id: z.string(),
  owner: z.string(),
  kind: orchestrationKind,
  surface,
  task: z.string(),
  parallel: z.boolean(),
  timeoutMs: z.int(),
  parentTurnId: z.string().nullable(),
  /** `pending`: no worker holds it. */
  status: z.enum(['pending', 'running', 'completed', 'partial', 'failed', 'cancelled', 'timed out']),
  cancelRequested: z.boolean(),
  steps: z.array(stepDocument),
  /** The results put together; null until it has ended. */
  result: z.string().nullable(),
  reason: z.string().nullable(),
  tokens: z.int(),
  costUsd: z.number().nullable(),
  durationMs: z.number().nullable(),
  requestedAt: z.string(),
  startedAt: z.string().nullable(),
  updatedAt: z.string(),
  endedAt: z.string().nullable(),
});
export type OrchestrationDocument = z.infer<typeof orchestrationDocument>;

/** `deliberations`, id = deliberation id. */
export const deliberationDocument = z.object({
  id: z.string(),
  owner: z.string(),
  topic: z.string(),
  purpose: deliberationPurpose,
  mode: z.enum(['standard', 'expert_discussion', 'research']),
  /** Of a user's own topic; null for a judgement. */
  sessionId: z.string().nullable(),
  /** `paused`: its worker gave it back, and no other has taken it yet. */
  status: z.enum(['queued', 'running', 'paused', 'decided', 'stopped', 'failed']),
  stopRequested: z.boolean(),
  /** Who holds it; null while nobody does. */
  worker: z.string().nullable(),
  attempt: z.int(),
  loop: z.int(),
  maxLoops: z.int(),
  toolUses: z.int(),
  maxToolUses: z.int(),
  members: z.array(councilMember),
  /** As it was given, and what tools found. */
  material: z.array(z.object({ ...material.shape, isError: z.boolean() })),
  phases: z.array(
    z.object({
      phase: z.string(),
      loop: z.int(),
      startedAt: z.string(),
      /** Null while it goes on, and where the deliberation was ended in it. */
      endedAt: z.string().nullable(),
    }),
  ),
  /** Statements and objections, in the order in which they were made. */
  said: z.array(
    z.object({
      ...deliberationEvents.MemberSpoke.schema.omit({ voice: true }).shape,
      model: z.string().nullable(),
      at: z.string(),
    }),
  ),
  votes: z.array(
    z.object({
      ...deliberationEvents.VoteCast.schema.omit({ voice: true }).shape,
      model: z.string().nullable(),
      at: z.string(),
    }),
  ),
  /** Why tools or models were not used any more. */
  troubles: z.array(z.object({ message: z.string(), loop: z.int(), at: z.string() })),
  decision: z
    .object({
      ...deliberationEvents.DecisionReached.schema.omit({ voice: true }).shape,
      /** Of the event: what actions cite. */
      id: z.string(),
      at: z.string(),
    })
    .nullable(),
  actions: z.array(z.object({ ...deliberationEvents.ActionTaken.schema.shape, at: z.string() })),
  /** Of all that was said by models so far. */
  usage: tokenUsage,
  costUsd: z.number().nullable(),
  /** Why it failed. */
  reason: z.string().nullable(),
  durationMs: z.number().nullable(),
  /** The position of its first event. */
  openedPosition: z.string(),
  openedAt: z.string(),
  startedAt: z.string().nullable(),
  endedAt: z.string().nullable(),
});
export type DeliberationDocument = z.infer<typeof deliberationDocument>;

/** `councils`, id = user id. Who never changed a member and never began a session has none. */
export const councilDocument = z.object({
  owner: z.string(),
  /** Null `createdAt`: there from the beginning. */
  members: z.array(z.object({ ...councilMember.shape, createdAt: z.string().nullable() })),
  /** The one that is active. */
  session: z
    .object({
      sessionId: z.string(),
      deliberationId: z.string(),
      task: z.string(),
      mode: z.enum(['standard', 'expert_discussion', 'research']),
      stopRequested: z.boolean(),
      startedAt: z.string(),
    })
    .nullable(),
});
export type CouncilDocument = z.infer<typeof councilDocument>;

/** `public-links`, id = link id. A deleted link has no document. */
export const publicLinkDocument = z.object({
  id: z.string(),
  /** Who made it, and whom the visitors' conversations belong to. */
  owner: z.string(),
  agentId: z.string(),
  agentName: z.string(),
  name: z.string().nullable(),
  tokenHash: z.string(),
  expiresAt: z.string().nullable(),
  enabled: z.boolean(),
  createdAt: z.string(),
  updatedAt: z.string(),
});
export type PublicLinkDocument = z.infer<typeof publicLinkDocument>;

/** `facts`, id = fact id. A forgotten fact has no document. */
export const factDocument = z.object({
  id: z.string(),
  owner: z.string(),
  category: factCategory,
  key: z.string(),
  value: z.string(),
  confidence: z.number(),
  mentionCount: z.int(),
  firstMentioned: z.string(),
  lastMentioned: z.string(),
});
export type FactDocument = z.infer<typeof factDocument>;

/** `users`, id = user id. The password's hash stays in the log: only deciding needs it. */
export const userDocument = z.object({
  id: z.string(),
  email: z.string(),
  displayName: z.string(),
  role,
  disabled: z.boolean(),
  /** Sessions that began before it no longer count; null when it never changed. */
  passwordChangedAt: z.string().nullable(),
  createdAt: z.string(),
});
export type UserDocument = z.infer<typeof userDocument>;

/** `sessions`, id = session id: who is logged in. */
export const sessionDocument = z.object({
  id: z.string(),
  owner: z.string(),
  active: z.boolean(),
  startedAt: z.string(),
  refreshedAt: z.string(),
  expiresAt: z.string(),
});
export type SessionDocument = z.infer<typeof sessionDocument>;

/** `api-keys`, id = key id. */
export const apiKeyDocument = z.object({
  id: z.string(),
  owner: z.string(),
  name: z.string(),
  permissions: z.array(z.string()),
  keyHash: z.string(),
  prefix: z.string(),
  expiresAt: z.string().nullable(),
  revokedAt: z.string().nullable(),
  createdAt: z.string(),
});
export type ApiKeyDocument = z.infer<typeof apiKeyDocument>;

/** `usage`, id = `<owner>:<YYYY-MM-DD>` (UTC): what models cost an owner on a day. */
export const usageDocument = z.object({
  owner: z.string(),
  day: z.string(),
  requests: z.int(),
  errors: z.int(),
  totalDurationMs: z.number(),
  /** By `provider/model`. */
  models: z.record(
    z.string(),
    z.object({
      requests: z.int(),
      inputTokens: z.int(),
      outputTokens: z.int(),
      cachedTokens: z.int(),
      /** Of the calls whose price is known. */
      costUsd: z.number(),
    }),
  ),
});
export type UsageDocument = z.infer<typeof usageDocument>;

/** The names of the collections and what is in them. */
export interface Collections {
  conversations: ConversationDocument;
  messages: MessageDocument;
  turns: TurnDocument;
  agents: AgentDocument;
  deliberations: DeliberationDocument;
  councils: CouncilDocument;
  'public-links': PublicLinkDocument;
  orchestrations: OrchestrationDocument;
  activity: ActivityDocument;
  facts: FactDocument;
  users: UserDocument;
  sessions: SessionDocument;
  'api-keys': ApiKeyDocument;
  usage: UsageDocument;
}
