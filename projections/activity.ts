/**
 * `activity`: one row for each event that people want to see go by, in plain words. What was said, remembered
 * or returned is not in it (the log and the messages have that), so a row holds nothing that has to be hidden
 * later, and stays small.
 */
import type { EventEnvelope } from '../contracts/envelope.ts';
import {
  type EventData,
  type EventType,
  isEventType,
  type OdeonEvent,
} from '../contracts/events/catalogue.ts';
import type { TokenUsage } from '../contracts/events/conversation.ts';
import { CONVERSATION_STREAM, conversationIdOf } from '../contracts/read-models/conversation.ts';
import { type ActivityDocument, activityDocument } from '../contracts/read-models/documents.ts';
import { type Handlers, projection } from './projection.ts';

type Category = ActivityDocument['category'];
type Level = ActivityDocument['level'];

/** How a type of event reads. Functions get the event's data. */
interface Reading<Data> {
  readonly category: Category;
  readonly level: Level | ((data: Data) => Level);
  readonly title: string | ((data: Data) => string);
  readonly message?: (data: Data) => string | null;
  /** Fields of the data that are shown as they are. */
  readonly details?: readonly (keyof Data & string)[];
}

/** Reasons may quote what a provider or a tool answered: enough of it to see what went wrong. */
const MAX_REASON = 300;
const clip = (text: string): string =>
  text.length > MAX_REASON ? `${text.slice(0, MAX_REASON).toWellFormed()}…` : text;

const modelName = (data: { provider: string; model: string }): string => `${data.provider}/${data.model}`;
const dollars = (costUsd: number | null): string =>
  costUsd === null ? 'cost unknown' : `$${Number(costUsd.toFixed(6))}`;
const tokens = (data: { usage: TokenUsage; costUsd: number | null }): string => {
  const { promptTokens, completionTokens } = data.usage;
  const cost = dollars(data.costUsd);
  return `${promptTokens} tokens in, ${completionTokens} out, ${cost}`;
};
const outcome = ['provider', 'model', 'requestedModel', 'decision', 'usage', 'costUsd', 'toolsUsed'] as const;
const answeredBy = (data: EventData<'TurnCompleted'>): string =>
  data.provider === null || data.model === null
    ? 'nobody'
    : modelName({ provider: data.provider, model: data.model });
const ofTool = (what: string) => (data: { tool: string }) => `${what}: ${data.tool}`;
/** What a worker does with its work. */
const started = (what: string) => ({
  category: 'background' as const,
  level: ({ attempt }: { attempt: number }) => (attempt > 1 ? ('warn' as const) : ('info' as const)),
  title: ({ attempt }: { attempt: number }) =>
    attempt > 1 ? `${what} taken up again, attempt ${attempt}` : `${what} started`,
  details: ['attempt', 'worker'] as const,
});
const released = (what: string) => ({
  category: 'background' as const,
  level: 'info' as const,
  title: `${what} given back by a worker that shuts down`,
  details: ['worker'] as const,
});
/** How steps, and what they are of, end. */
const levelOf = {
  completed: 'success',
  decided: 'success',
  failed: 'error',
  'timed out': 'error',
  partial: 'warn',
  cancelled: 'warn',
  stopped: 'warn',
  skipped: 'info',
} as const satisfies Record<string, Level>;
const spent = (data: { reason: string | null; tokens: number; costUsd: number | null }): string =>
  data.reason === null ? `${data.tokens} tokens, ${dollars(data.costUsd)}` : clip(data.reason);
const outcomes: { readonly [Outcome in EventData<'OrchestrationEnded'>['outcome']]: string } = {
  completed: 'completed',
  partial: 'completed in part',
  failed: 'failed',
  cancelled: 'cancelled',
  'timed out': 'timed out',
};
const endedAs = ({ outcome }: { outcome: keyof typeof levelOf }): Level => levelOf[outcome];
const ofProjection = (what: string) => (data: { projection: string }) => `${what}: ${data.projection}`;

/** Null: not shown. A new type of event does not compile until it is decided here. */
const readings: { readonly [Type in EventType]: Reading<EventData<Type>> | null } = {
  ConversationStarted: {
    category: 'state_event',
    level: 'info',
    title: ({ agent }) =>
      agent === null ? 'Conversation started' : `Conversation with ${agent.name} started`,
    details: ['mode', 'model', 'kind', 'agent', 'linkId'],
  },
  ConversationRenamed: { category: 'state_event', level: 'info', title: 'Conversation renamed' },
  ConversationModeChanged: {
    category: 'state_event',
    level: 'info',
    title: (data) => `Conversation mode changed to ${data.mode}`,
    details: ['mode'],
  },
  ConversationArchived: { category: 'state_event', level: 'info', title: 'Conversation archived' },
  ConversationUnarchived: {
    category: 'state_event',
    level: 'info',
    title: 'Conversation taken out of the archive',
  },
  ConversationEnded: { category: 'state_event', level: 'info', title: 'Conversation ended' },
  ConversationDeleted: { category: 'state_event', level: 'warn', title: 'Conversation deleted' },

  MessageSent: {
    category: 'state_event',
    level: 'info',
    title: ({ run }) => (run === null ? 'Message sent' : `Message sent to ${run.agent.name}`),
    message: (data) => `${data.content.length} characters`,
    details: ['messageId', 'model'],
  },
  TurnStarted: started('Turn'),
  TurnReleased: released('Turn'),
  MessageRouted: {
    category: 'background',
    level: 'info',
    title: (data) => `Message routed to ${data.decision.route}`,
    message: (data) => `${data.decision.class}, decided by ${data.decision.decisionSource}`,
    details: ['decision'],
  },
  ContextPrepared: {
    category: 'memory_op',
    level: 'info',
    title: 'Context prepared',
    details: ['tools'],
  },
  ContextCompacted: {
    category: 'memory_op',
    level: 'info',
    title: 'Context compacted',
    message: (data) => `${data.tokensBefore} tokens became ${data.tokensAfter}`,
    details: ['fromRevision', 'toRevision', 'tokensBefore', 'tokensAfter', 'provider', 'model'],
  },
  ModelCalled: {
    category: 'llm_call',
    level: 'info',
    title: (data) => `Model called: ${modelName(data)}`,
    details: ['callId', 'step', 'provider', 'model', 'promptTokens', 'tools'],
  },
  ModelAnswered: {
    category: 'llm_call',
    level: 'success',
    title: (data) => `Model answered: ${modelName(data)}`,
    message: tokens,
    details: ['callId', 'provider', 'model', 'finishReason', 'usage', 'costUsd', 'firstTokenMs'],
  },
  ModelFailed: {
    category: 'llm_call',
    level: 'error',
    title: (data) => `Model failed: ${modelName(data)}`,
    message: (data) => clip(data.reason),
    details: ['callId', 'provider', 'model'],
  },
  CheckpointTaken: {
    category: 'state_event',
    level: 'info',
    title: 'Checkpoint taken before a tool that changes something',
    details: ['toolCallId', 'revision'],
  },
  ToolCalled: {
    category: 'tool_invoke',
    level: 'info',
    title: ofTool('Tool called'),
    details: ['toolCallId', 'tool', 'readOnly'],
  },
  ToolReturned: {
    category: 'tool_invoke',
    level: (data) => (data.isError ? 'error' : 'success'),
    title: (data) => ofTool(data.isError ? 'Tool failed' : 'Tool returned')(data),
    details: ['toolCallId', 'tool', 'isError'],
  },
  InterruptRequested: { category: 'state_event', level: 'info', title: 'Interrupt requested' },
  TurnCompleted: {
    category: 'state_event',
    level: 'success',
    title: (data) => `Turn completed by ${answeredBy(data)}`,
    message: tokens,
    details: outcome,
  },
  TurnInterrupted: {
    category: 'state_event',
    level: 'warn',
    title: 'Turn interrupted',
    message: tokens,
    details: outcome,
  },
  TurnFailed: {
    category: 'error',
    level: 'error',
    title: 'Turn failed',
    message: (data) => clip(data.reason),
    details: outcome,
  },

  AgentCreated: {
    category: 'state_event',
    level: 'info',
    title: (data) => `Agent created: ${data.name}`,
    details: ['name', 'model', 'shared'],
  },
  AgentChanged: {
    category: 'state_event',
    level: 'info',
    title: 'Agent changed',
    details: ['model', 'shared'],
  },
  AgentDeleted: { category: 'state_event', level: 'warn', title: 'Agent deleted' },

  OrchestrationRequested: {
    category: 'state_event',
    level: 'info',
    title: (data) => (data.kind === 'delegation' ? 'Delegation requested' : 'Orchestration requested'),
    message: (data) => `${data.steps.length} steps, ${data.parallel ? 'at once' : 'in order'}`,
    details: ['kind', 'parallel', 'timeoutMs', 'parent'],
  },
  OrchestrationStarted: started('Orchestration'),
  OrchestrationReleased: released('Orchestration'),
  StepStarted: {
    category: 'background',
    level: 'info',
    title: (data) => `${data.kind === 'run' ? 'Step' : 'Judgement'} started: ${data.stepId}`,
    details: ['stepId', 'kind'],
  },
  StepEnded: {
    category: 'background',
    level: endedAs,
    title: (data) => `Step ${data.outcome}: ${data.stepId}`,
    message: spent,
    details: ['stepId', 'outcome', 'tokens', 'costUsd'],
  },
  OrchestrationCancelRequested: {
    category: 'state_event',
    level: 'info',
    title: 'Cancelling of an orchestration requested',
  },
  OrchestrationEnded: {
    category: 'state_event',
    level: endedAs,
    title: (data) => `Orchestration ${outcomes[data.outcome]}`,
    message: spent,
    details: ['outcome', 'tokens', 'costUsd'],
  },

  CouncilMemberChanged: {
    category: 'state_event',
    level: 'info',
    title: (data) => `Council member changed: ${data.name}`,
    details: ['name', 'active', 'order'],
  },
  CouncilMemberRemoved: {
    category: 'state_event',
    level: 'info',
    title: (data) => `Council member removed: ${data.name}`,
    details: ['name'],
  },
  AutonomousSessionStarted: {
    category: 'state_event',
    level: 'info',
    title: 'Autonomous session started',
    details: ['sessionId', 'deliberationId', 'mode'],
  },
  AutonomousSessionStopRequested: {
    category: 'state_event',
    level: 'info',
    title: 'Stopping of the autonomous session requested',
    details: ['sessionId'],
  },
  AutonomousSessionEnded: {
    category: 'state_event',
    level: endedAs,
    title: (data) => `Autonomous session ${data.outcome}`,
    details: ['sessionId', 'outcome'],
  },
  DeliberationOpened: {
    category: 'state_event',
    level: 'info',
    title: 'Deliberation opened',
    message: (data) => `${data.members.length} members`,
    details: ['purpose', 'mode', 'maxLoops', 'maxToolUses', 'sessionId'],
  },
  DeliberationStarted: started('Deliberation'),
  DeliberationReleased: released('Deliberation'),
  PhaseStarted: {
    category: 'background',
    level: 'info',
    title: (data) => `Phase started: ${data.phase}`,
    details: ['phase', 'loop'],
  },
  MaterialSought: {
    category: 'tool_invoke',
    level: 'info',
    title: ofTool('Material sought'),
    details: ['phase', 'loop', 'tool'],
  },
  MaterialGathered: {
    category: 'tool_invoke',
    level: (data) => (data.isError ? 'error' : 'success'),
    title: (data) => ofTool(data.isError ? 'No material found' : 'Material found')(data),
    details: ['phase', 'loop', 'tool', 'isError'],
  },
  DeliberationLimited: {
    category: 'state_event',
    level: 'warn',
    title: ({ limit }) =>
      limit === 'tools' ? 'No more tools: their limit is reached' : 'No more tools: the same was asked again',
    details: ['limit', 'phase', 'loop'],
  },
  VoiceFailed: {
    category: 'error',
    level: 'error',
    title: (data) => `No model answered for member ${data.member}`,
    message: (data) => clip(data.reason),
    details: ['phase', 'loop', 'member'],
  },
  MemberSpoke: {
    category: 'llm_call',
    level: 'success',
    title: (data) => `Member ${data.kind === 'objection' ? 'objected' : 'spoke'}: ${data.member}`,
    message: (data) => tokens(data.voice),
    details: ['phase', 'loop', 'member', 'kind', 'voice'],
  },
  VoteCast: {
    category: 'llm_call',
    level: 'success',
    title: (data) => `Vote cast by ${data.member}: ${data.vote}`,
    message: (data) => tokens(data.voice),
    details: ['loop', 'member', 'vote', 'voice'],
  },
  PhaseEnded: {
    category: 'background',
    level: 'info',
    title: (data) => `Phase ended: ${data.phase}`,
    details: ['phase', 'loop'],
  },
  DecisionReached: {
    category: 'state_event',
    level: (data) => (data.outcome === 'approved' ? 'success' : 'warn'),
    title: (data) => `Decision reached by the ${data.by}: ${data.outcome}`,
    message: ({ tally }) => `${tally.for} for, ${tally.against} against, ${tally.abstain} abstained`,
    details: ['loop', 'outcome', 'by', 'tally'],
  },
  ActionTaken: {
    category: 'state_event',
    level: 'info',
    title: (data) => `Action taken: ${data.action}`,
    details: ['action', 'decisionId'],
  },
  DeliberationStopRequested: {
    category: 'state_event',
    level: 'info',
    title: 'Stopping of a deliberation requested',
  },
  DeliberationEnded: {
    category: 'state_event',
    level: endedAs,
    title: (data) => `Deliberation ${data.outcome === 'decided' ? 'ended with a decision' : data.outcome}`,
    message: (data) => (data.reason === null ? tokens(data) : clip(data.reason)),
    details: ['outcome', 'usage', 'costUsd'],
  },

  PublicLinkCreated: {
    category: 'system',
    level: 'info',
    title: (data) => `Public link to ${data.agent.name} created`,
    details: ['agent', 'expiresAt'],
  },
  PublicLinkChanged: {
    category: 'system',
    level: 'info',
    title: (data) => (data.enabled ? 'Public link changed' : 'Public link switched off'),
    details: ['enabled', 'expiresAt'],
  },
  PublicLinkDeleted: { category: 'system', level: 'info', title: 'Public link deleted' },

  FactRemembered: {
    category: 'memory_op',
    level: 'success',
    title: (data) => `Fact remembered: ${data.category}`,
    details: ['factId', 'category', 'confidence'],
  },
  FactForgotten: { category: 'memory_op', level: 'info', title: 'Fact forgotten', details: ['factId'] },

  UserRegistered: {
    category: 'system',
    level: 'info',
    title: (data) => `User registered: ${data.role}`,
    details: ['role'],
  },
  UserRoleChanged: {
    category: 'system',
    level: 'warn',
    title: (data) => `User's role changed to ${data.role}`,
    details: ['role'],
  },
  UserDisabled: { category: 'system', level: 'warn', title: 'User disabled' },
  UserEnabled: { category: 'system', level: 'info', title: 'User enabled' },
  UserPasswordChanged: { category: 'system', level: 'warn', title: 'Password changed' },
  SessionStarted: { category: 'system', level: 'success', title: 'Logged in', details: ['address'] },
  // Every client does this all the time: it would hide the rest.
  SessionRefreshed: null,
  SessionEnded: {
    category: 'system',
    level: (data) => (data.reason === 'logout' ? 'info' : 'warn'),
    title: (data) => (data.reason === 'logout' ? 'Logged out' : `Login ended: ${data.reason}`),
    details: ['reason'],
  },
  LoginFailed: {
    category: 'system',
    level: 'warn',
    title: (data) => `Login failed: ${data.reason}`,
    details: ['reason', 'address'],
  },
  ApiKeyCreated: { category: 'system', level: 'info', title: 'API key created', details: ['permissions'] },
  ApiKeyRevoked: { category: 'system', level: 'info', title: 'API key revoked' },
  SigningKeyRotated: {
    category: 'system',
    level: 'info',
    title: 'Signing key rotated',
    details: ['kid', 'previousKid'],
  },
  ServicesStartRequested: {
    category: 'system',
    level: 'info',
    title: ({ services }) => `Services to be started: ${services.join(', ')}`,
    details: ['process', 'services'],
  },
  ServicesStopRequested: {
    category: 'system',
    level: 'warn',
    title: ({ services }) => `Services to be stopped: ${services.join(', ')}`,
    details: ['process', 'services'],
  },
  ProjectionRebuildRequested: {
    category: 'system',
    level: 'info',
    title: ofProjection('Rebuild requested'),
    details: ['projection'],
  },
  ProjectionRetryRequested: {
    category: 'system',
    level: 'info',
    title: ofProjection('Retry of failed events requested'),
    details: ['projection'],
  },

  // The answers that belong to idempotency keys: what the requests did has rows of its own.
  RequestAccepted: null,
  RequestAnswered: null,
};

/** The types of events that have a row, of one category or of all. */
export const activityTypes = (category?: Category): readonly EventType[] =>
  (Object.keys(readings) as EventType[]).filter((type) => {
    const reading = readings[type];
    return reading !== null && (category === undefined || reading.category === category);
  });

/** The row of an event; null for one that is not shown. Pure. */
export function activityRow(event: EventEnvelope): ActivityDocument | null {
  if (!isEventType(event.type)) return null;
  // The catalogue ties the type to its data, and the table ties the same type to its reading.
  const reading = readings[event.type] as Reading<Record<string, unknown>> | null;
  if (reading === null) return null;
  const data = event.data as Record<string, unknown>;
  const { category, level, title, message, details = [] } = reading;
  return {
    id: event.id,
    owner: event.owner,
    conversationId: conversationOf(event.stream, data),
    turnId: typeof data.turnId === 'string' ? data.turnId : null,
    category,
    eventType: event.type,
    level: typeof level === 'function' ? level(data) : level,
    title: typeof title === 'function' ? title(data) : title,
    message: message?.(data) ?? null,
    details: Object.fromEntries(details.map((field) => [field, data[field]])),
    source: event.surface,
    durationMs: typeof data.durationMs === 'number' ? data.durationMs : null,
    actor: event.actor,
    createdAt: event.time,
  };
}

function conversationOf(stream: string, data: Record<string, unknown>): string | null {
  if (stream.startsWith(CONVERSATION_STREAM)) return conversationIdOf({ stream });
  return typeof data.conversationId === 'string' ? data.conversationId : null;
}

const row = {
  id: (event: OdeonEvent) => event.id,
  apply: (_none: ActivityDocument | null, event: OdeonEvent) => activityRow(event),
};

export const activity = projection<ActivityDocument>('activity', {
  version: 3,
  document: activityDocument,
  // Indexes are most of what a row costs to write, so there are few. Category and level share one for each of
  // everybody and one owner: a list by only one of the two is put together from those by both (chat-reads.ts). A
  // conversation's rows are few enough to be looked through.
  indexes: [
    ['position'],
    ['category', 'level', 'position'],
    ['owner', 'position'],
    ['owner', 'category', 'level', 'position'],
    ['conversationId', 'position'],
  ],
  on: Object.fromEntries(activityTypes().map((type) => [type, row])) as Handlers<ActivityDocument>,
});
