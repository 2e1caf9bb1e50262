/**
 * A conversation and the turns in it: one stream, `conversation-<id>`, so that who may answer, what was
 * interrupted and what is still waiting is decided in one place. Stored format: version with care.
 */
import { z } from 'zod';
import { agentName, budget } from './agent.ts';
import { adding, event, revisedEvent } from './define.ts';

export const conversationMode = z.enum(['assistant', 'companion', 'voice', 'build', 'dj_luna', 'ceo_luna']);
export type ConversationMode = z.infer<typeof conversationMode>;

export const modelRoute = z.enum(['nano', 'pro', 'tools']);
export type ModelRoute = z.infer<typeof modelRoute>;

export const tokenUsage = z.strictObject({
  promptTokens: z.int().nonnegative(),
  completionTokens: z.int().nonnegative(),
  /** The part of promptTokens that the provider took from its cache. */
  cachedTokens: z.int().nonnegative(),
});
export type TokenUsage = z.infer<typeof tokenUsage>;

/** One attempt at one provider within a turn, in the order they were tried. */
export const providerTry = z.strictObject({
  provider: z.string(),
  model: z.string(),
  outcome: z.enum(['answered', 'failed', 'interrupted']),
  /** Why it failed; null when it answered. */
  reason: z.string().nullable(),
});
export type ProviderTry = z.infer<typeof providerTry>;

export const toolRequest = z.strictObject({
  /** Unique in the turn; the tool's idempotency key. */
  toolCallId: z.string(),
  tool: z.string(),
  arguments: z.unknown(),
});
export type ToolRequest = z.infer<typeof toolRequest>;

export const routerDecision = z.strictObject({
  class: z.enum(['chat', 'transform', 'factual', 'actionable']),
  route: modelRoute,
  confidence: z.enum(['estimate', 'verified']),
  needsFreshData: z.boolean(),
  needsTools: z.boolean(),
  riskIfWrong: z.enum(['low', 'medium', 'high']),
  /** What decided: the request's own model or route, a pattern, a keyword, or the default. */
  decisionSource: z.enum(['hard_rule', 'regex', 'keyword', 'classifier']),
  matchedPatterns: z.array(z.string()),
  decisionTimeMs: z.number().nonnegative(),
});
export type RouterDecision = z.infer<typeof routerDecision>;

/** What an answer says of the decision that led to it. */
export const answerDecision = routerDecision.pick({ route: true, class: true, confidence: true });

/**
 * What a conversation is for. `run`: made for one run of an agent, and not shown in lists of conversations.
 * `public`: a visitor's, by a public link of its owner's.
 */
export const conversationKind = z.enum(['chat', 'run', 'public']);
export type ConversationKind = z.infer<typeof conversationKind>;

export const agentReference = z.strictObject({ id: z.string(), name: agentName });
export type AgentReference = z.infer<typeof agentReference>;

/** What asked an agent to run; in Trinity's words. */
export const runTrigger = z.enum(['chat', 'manual', 'agent', 'public', 'fan_out', 'room', 'mcp']);
export type RunTrigger = z.infer<typeof runTrigger>;

/**
 * A turn that an agent answers: how it may run. Taken from the agent (and from what the request narrows) when the
 * run is asked for. Its instructions are in ContextPrepared.
 */
export const run = z.strictObject({
  agent: agentReference,
  trigger: runTrigger,
  /** The turn that asked for this one; null when a request from outside did. */
  parent: z.strictObject({ conversationId: z.string(), turnId: z.string() }).nullable(),
  /** The agent for which a request from outside says that it asks. */
  sourceAgent: agentName.optional(),
  /** Of which orchestration it is a step. */
  orchestrationId: z.string().nullable(),
  /** Names of the tools that it may use; null: all. */
  tools: z.array(z.string()).nullable(),
  budget,
  /** From its first start to its end. */
  timeoutMs: z.int().positive(),
  maxAttempts: z.int().positive(),
  /** How many runs of this agent run at once. */
  concurrency: z.int().positive(),
});
export type Run = z.infer<typeof run>;

/** A message as a client sent it along: OpenAI's roles. */
export const sentMessage = z.discriminatedUnion('role', [
  z.strictObject({ role: z.literal('user'), content: z.string() }),
  z.strictObject({ role: z.literal('assistant'), content: z.string(), toolRequests: z.array(toolRequest) }),
  z.strictObject({
    role: z.literal('tool'),
    toolCallId: z.string(),
    tool: z.string(),
    result: z.unknown(),
    isError: z.boolean(),
  }),
]);
export type SentMessage = z.infer<typeof sentMessage>;

/** A tool that the client runs itself: a request for it ends the turn. */
export const clientTool = z.strictObject({
  name: z.string(),
  description: z.string(),
  /** JSON Schema of the arguments. */
  parameters: z.record(z.string(), z.unknown()),
});
export type ClientTool = z.infer<typeof clientTool>;

/** How a model is asked to write; what is null is the model's own default. */
export const modelSettings = z.strictObject({
  temperature: z.number().nullable(),
  topP: z.number().nullable(),
  maxTokens: z.int().positive().nullable(),
  stop: z.array(z.string()),
  seed: z.int().nullable(),
  presencePenalty: z.number().nullable(),
  frequencyPenalty: z.number().nullable(),
});
export type ModelSettings = z.infer<typeof modelSettings>;
/** Everything as the model has it. */
export const NO_SETTINGS: ModelSettings = {
  temperature: null,
  topP: null,
  maxTokens: null,
  stop: [],
  seed: null,
  presencePenalty: null,
  frequencyPenalty: null,
};

/** What a client of the OpenAI-compatible routes says beside its message. */
export const clientPrompt = z.strictObject({
  /** Its own system messages, which come after ours. */
  system: z.string().nullable(),
  /** What the model is shown in place of the message's content. */
  messages: z.array(sentMessage),
  /** Whether `messages` stand in place of the conversation so far, too. */
  afresh: z.boolean(),
  /** Offered in place of our own tools where there are any. */
  tools: z.array(clientTool),
  /** `auto`, `none`, `required`, or the name of the one tool to call. */
  toolChoice: z.union([z.enum(['auto', 'none', 'required']), z.strictObject({ tool: z.string() })]),
  settings: modelSettings,
});
export type ClientPrompt = z.infer<typeof clientPrompt>;

export const finishReason = z.enum(['stop', 'length', 'tool-calls', 'content-filter', 'other']);
export type FinishReason = z.infer<typeof finishReason>;

/** What every ended turn says about how its answer came about. */
const turnOutcome = {
  turnId: z.string(),
  /** The answer's message id; derived from the turn's. */
  messageId: z.string(),
  /** The answer, as far as it got. */
  content: z.string(),
  /** Who really answered; null when nobody did. */
  provider: z.string().nullable(),
  model: z.string().nullable(),
  /** What the request or the conversation asked for; null when nothing. */
  requestedModel: z.string().nullable(),
  /** Null when the turn ended before it was routed. */
  decision: answerDecision.nullable(),
  tried: z.array(providerTry),
  toolsUsed: z.array(z.string()),
  usage: tokenUsage,
  /** US dollars; null when a model without a known price took part. */
  costUsd: z.number().nonnegative().nullable(),
  durationMs: z.number().nonnegative(),
  /** Of the last call; null when none answered. */
  finishReason: finishReason.nullable(),
  /** For tools that the client runs: they are answered with its next message. */
  toolRequests: z.array(toolRequest),
};
const finished = { 1: adding({ finishReason: null, toolRequests: [] }) };

const turnId = z.string();

export const conversationEvents = {
  ConversationStarted: revisedEvent(
    z.strictObject({
      title: z.string().nullable(),
      mode: conversationMode,
      /** As asked for: `provider/model`, a model's name, a route, or null for the default. */
      model: z.string().nullable(),
      kind: conversationKind,
      /** Who answers in it; null for the assistant without a name. */
      agent: agentReference.nullable(),
      /** Of a visitor's conversation: the link it came by. */
      linkId: z.string().nullable(),
    }),
    { 1: adding({ kind: 'chat', agent: null, linkId: null }) },
    ['title'],
  ),
  ConversationRenamed: event(z.strictObject({ title: z.string() }), ['title']),
  ConversationModeChanged: event(z.strictObject({ mode: conversationMode })),
  ConversationArchived: event(z.strictObject({})),
  ConversationUnarchived: event(z.strictObject({})),
  ConversationEnded: event(z.strictObject({})),
  ConversationDeleted: event(z.strictObject({})),

  /** A user's message, and with it the request for a turn that answers it. */
  MessageSent: revisedEvent(
    z.strictObject({
      messageId: z.string(),
      turnId,
      content: z.string(),
      /** The model asked for with this message; null: the conversation's. */
      model: z.string().nullable(),
      /** What the request adds to the agent's instructions. */
      instructions: z.string().nullable(),
      /** When an agent is to answer. */
      run: run.nullable(),
      /** When the client says how the model is to be asked. */
      prompt: clientPrompt.nullable(),
    }),
    { 1: adding({ instructions: null, run: null, prompt: null }) },
    ['content', 'instructions', 'prompt'],
  ),

  /** A worker takes the turn: the claim that makes it the only one to record steps of it. */
  TurnStarted: event(z.strictObject({ turnId, attempt: z.int().positive(), worker: z.string() })),
  /** A worker that shuts down gives the turn back; the next attempt does not count against it. */
  TurnReleased: event(z.strictObject({ turnId, worker: z.string() })),
  MessageRouted: event(z.strictObject({ turnId, decision: routerDecision })),
  /** What the turn's prompts are made of besides the conversation's own messages. */
  ContextPrepared: event(
    z.strictObject({
      turnId,
      /** The system prompt, with what is known about the user. */
      system: z.string(),
      tools: z.array(z.string()),
    }),
    ['system'],
  ),
  ContextCompacted: event(
    z.strictObject({
      turnId,
      summary: z.string(),
      /** The events of this stream that the summary stands for, both ends included. */
      fromRevision: z.int().nonnegative(),
      toRevision: z.int().nonnegative(),
      tokensBefore: z.int().nonnegative(),
      tokensAfter: z.int().nonnegative(),
      provider: z.string(),
      model: z.string(),
    }),
    ['summary'],
  ),
  ModelCalled: event(
    z.strictObject({
      turnId,
      callId: z.string(),
      /** 1 for the turn's first call, then one more after each round of tools. */
      step: z.int().positive(),
      provider: z.string(),
      model: z.string(),
      /** SHA-256 of the canonical JSON of what was sent, which the stream's events up to here rebuild. */
      promptDigest: z.string(),
      promptTokens: z.int().nonnegative(),
      tools: z.array(z.string()),
    }),
  ),
  ModelAnswered: event(
    z.strictObject({
      turnId,
      callId: z.string(),
      /** Who answered, as in the call's ModelCalled. */
      provider: z.string(),
      model: z.string(),
      text: z.string(),
      reasoning: z.string(),
      toolRequests: z.array(toolRequest),
      finishReason,
      usage: tokenUsage,
      costUsd: z.number().nonnegative().nullable(),
      durationMs: z.number().nonnegative(),
      firstTokenMs: z.number().nonnegative().nullable(),
    }),
    ['text', 'reasoning', 'toolRequests.*.arguments'],
  ),
  ModelFailed: event(
    z.strictObject({
      turnId,
      callId: z.string(),
      /** Who failed, as in the call's ModelCalled. */
      provider: z.string(),
      model: z.string(),
      reason: z.string(),
      /** The text that had already been streamed; empty when the failure came before the first token. */
      text: z.string(),
      durationMs: z.number().nonnegative(),
    }),
    ['text'],
  ),
  /** Taken before a tool that changes something: the point to come back to. */
  CheckpointTaken: event(z.strictObject({ turnId, toolCallId: z.string(), revision: z.int().nonnegative() })),
  ToolCalled: event(
    z.strictObject({ turnId, callId: z.string(), ...toolRequest.shape, readOnly: z.boolean() }),
    ['arguments'],
  ),
  ToolReturned: event(
    z.strictObject({
      turnId,
      toolCallId: z.string(),
      tool: z.string(),
      /** JSON, verbatim as the tool gave it; for an error `{error: string}`. */
      result: z.unknown(),
      isError: z.boolean(),
      durationMs: z.number().nonnegative(),
    }),
    ['result'],
  ),
  InterruptRequested: event(z.strictObject({ turnId })),
  TurnCompleted: revisedEvent(z.strictObject(turnOutcome), finished, ['content', 'toolRequests.*.arguments']),
  TurnInterrupted: revisedEvent(z.strictObject(turnOutcome), finished, [
    'content',
    'toolRequests.*.arguments',
  ]),
  TurnFailed: revisedEvent(z.strictObject({ ...turnOutcome, reason: z.string() }), finished, [
    'content',
    'toolRequests.*.arguments',
  ]),
};
