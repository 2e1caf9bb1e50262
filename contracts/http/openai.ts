/**
 * Agent Chat's chat completions (seeds/agent-chat.txt, api-notes B1): as OpenAI's clients know them. What a request
 * says that cannot be done is refused by name. Without effect are `user`, `metadata`, `store`, `safety_identifier`,
 * `prompt_cache_key`, `service_tier` (auto or default), the `name` of a message's author, a function's `strict`, and
 * whatever is not of OpenAI's API.
 */
import { z } from 'zod';
import type { FinishReason, TokenUsage, ToolRequest } from '../events/conversation.ts';
import { route } from './route.ts';

// ── requests ──────────────────────────────────────────────────────────────
const text = z
  .string()
  .refine((value) => value.isWellFormed(), 'holds a lone surrogate, which is not valid Unicode');

/** Text, or parts of it: anything but text is refused by its name. */
const textPart = z.looseObject({ type: z.string(), text: text.optional() }).superRefine((part, context) => {
  if (part.type !== 'text') {
    const message = `parts of type ${part.type} are not supported: send text`;
    context.addIssue({ code: 'custom', path: ['type'], message });
  } else if (part.text === undefined) {
    context.addIssue({ code: 'custom', path: ['text'], message: 'a text part has a text' });
  }
});
const content = z.union([text, z.array(textPart).min(1).max(1_000)]);
export type Content = z.infer<typeof content>;

const toolCall = z.object({
  id: z.string().min(1).max(200),
  type: z.literal('function', { error: 'only calls of functions are supported' }),
  function: z.object({ name: z.string().min(1).max(200), arguments: text }),
});

const nothing = (message: string) => z.null({ error: message }).optional();

const chatMessage = z.discriminatedUnion(
  'role',
  [
    z.object({ role: z.literal('system'), content }),
    z.object({ role: z.literal('developer'), content }),
    z.object({ role: z.literal('user'), content }),
    z.object({
      role: z.literal('assistant'),
      content: content.nullish(),
      tool_calls: z.array(toolCall).max(128).nullish(),
      function_call: nothing('function_call is not supported: use tool_calls'),
      audio: nothing('audio is not supported'),
    }),
    z.object({ role: z.literal('tool'), content, tool_call_id: z.string().min(1).max(200) }),
  ],
  { error: 'a role is system, developer, user, assistant or tool' },
);
export type ChatMessage = z.infer<typeof chatMessage>;

const functionName = z
  .string()
  .regex(/^[\w-]{1,64}$/, 'a function has a name of at most 64 letters, digits, - and _');
const tool = z.object({
  type: z.literal('function', { error: 'only functions are supported as tools' }),
  function: z.object({
    name: functionName,
    description: text.nullish(),
    parameters: z.record(z.string(), z.unknown()).nullish(),
  }),
});

const between = (least: number, most: number) => z.number().min(least).max(most).nullish();

const requestFields = {
  model: text.max(200).nullish().meta({
    description:
      'A model of a provider, a route (`nano`, `pro`, `tools`), an agent (`agent:<name>`), or `default` (also: nothing).',
  }),
  messages: z.array(chatMessage).min(1, 'messages is empty').max(10_000),
  conversation_id: text.max(200).nullish().meta({
    description:
      'Continues the conversation: of `messages` only what follows the last one of the assistant is new.',
  }),
  temperature: between(0, 2),
  top_p: between(0, 1),
  max_tokens: z.int().positive().nullish(),
  max_completion_tokens: z.int().positive().nullish(),
  stop: z.union([text.min(1), z.array(text.min(1)).max(4)]).nullish(),
  seed: z.int().nullish(),
  presence_penalty: between(-2, 2),
  frequency_penalty: between(-2, 2),
  tools: z.array(tool).max(128).nullish(),
  tool_choice: z
    .union(
      [
        z.enum(['none', 'auto', 'required']),
        z.object({ type: z.literal('function'), function: z.object({ name: functionName }) }),
      ],
      { error: 'tool_choice is none, auto, required, or {type: "function", function: {name}}' },
    )
    .nullish(),
  n: z.literal(1, { error: 'only n = 1 is supported' }).nullish(),
  logprobs: z.literal(false, { error: 'logprobs are not supported' }).nullish(),
  top_logprobs: z.literal(0, { error: 'logprobs are not supported' }).nullish(),
  logit_bias: z.strictObject({}, { error: 'logit_bias is not supported' }).nullish(),
  response_format: z
    .object({ type: z.literal('text') }, { error: 'only text is supported as response_format' })
    .nullish(),
  modalities: z.array(z.literal('text', { error: 'only text is supported as modality' })).nullish(),
  parallel_tool_calls: z
    .literal(true, { error: 'that tools are called one at a time only is not supported' })
    .nullish(),
  service_tier: z
    .enum(['auto', 'default'], { error: 'only auto and default are supported as service_tier' })
    .nullish(),
  audio: nothing('audio is not supported'),
  functions: nothing('functions are not supported: use tools'),
  function_call: nothing('function_call is not supported: use tool_choice'),
  prediction: nothing('prediction is not supported'),
  web_search_options: nothing('web_search_options are not supported'),
  reasoning_effort: nothing('reasoning_effort is not supported'),
  verbosity: nothing('verbosity is not supported'),
};
const streamOptions = z
  .object({ include_usage: z.boolean().nullish(), include_obfuscation: z.literal(false).nullish() })
  .nullish();

type Fields = {
  readonly max_tokens?: number | null | undefined;
  readonly max_completion_tokens?: number | null | undefined;
  readonly tools?: readonly z.infer<typeof tool>[] | null | undefined;
  readonly tool_choice?: z.infer<typeof requestFields.tool_choice>;
};

/** What is right by itself and wrong together. */
function refuseContradictions(request: Fields, context: z.RefinementCtx): void {
  const { tools, tool_choice: choice, max_tokens: old, max_completion_tokens: most } = request;
  const wrong = (path: (string | number)[], message: string) =>
    context.addIssue({ code: 'custom', path, message });
  if (old != null && most != null && old !== most) {
    wrong(['max_tokens'], 'max_tokens and max_completion_tokens say different things');
  }
  const names = (tools ?? []).map((one) => one.function.name);
  const twice = names.findIndex((name, index) => names.indexOf(name) < index);
  if (twice >= 0) wrong(['tools', twice, 'function', 'name'], 'another tool has this name');
  if (typeof choice === 'object' && choice !== null && !names.includes(choice.function.name)) {
    wrong(['tool_choice'], `there is no tool ${choice.function.name} among tools`);
  }
}

export const completionRequest = z
  .object({ ...requestFields, stream: z.boolean().nullish(), stream_options: streamOptions })
  .superRefine((request, context) => {
    refuseContradictions(request, context);
    if (request.stream_options != null && request.stream !== true) {
      const message = 'stream_options are for streams only: set stream to true';
      context.addIssue({ code: 'custom', path: ['stream_options'], message });
    }
  });
export type CompletionRequest = z.infer<typeof completionRequest>;

const streamRequest = z
  .object({
    ...requestFields,
    stream: z
      .literal(true, { error: 'this path streams: without a stream, ask /api/chat/completions' })
      .nullish(),
    stream_options: streamOptions,
  })
  .superRefine(refuseContradictions);

// ── answers ───────────────────────────────────────────────────────────────
export const completionUsage = z.strictObject({
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
  total_tokens: z.int(),
  prompt_tokens_details: z.strictObject({ cached_tokens: z.int() }),
});
export type CompletionUsage = z.infer<typeof completionUsage>;

export const completionFinish = z.enum(['stop', 'length', 'tool_calls', 'content_filter']);
export type CompletionFinish = z.infer<typeof completionFinish>;

const answeredCall = z.strictObject({
  id: z.string(),
  type: z.literal('function'),
  function: z.strictObject({ name: z.string(), arguments: z.string() }),
});
export type AnsweredCall = z.infer<typeof answeredCall>;

export const completion = z.strictObject({
  /** Of the answer's message. */
  id: z.string(),
  object: z.literal('chat.completion'),
  /** Unix seconds. */
  created: z.int(),
  /** Who really answered. */
  model: z.string(),
  choices: z.array(
    z.strictObject({
      index: z.literal(0),
      message: z.strictObject({
        role: z.literal('assistant'),
        content: z.string().nullable(),
        refusal: z.null(),
        tool_calls: z.array(answeredCall).optional(),
      }),
      logprobs: z.null(),
      finish_reason: completionFinish,
    }),
  ),
  usage: completionUsage,
  /** Send it along to continue the conversation. */
  conversation_id: z.string(),
  turn_id: z.string(),
  /** The turn was stopped: the answer is what there was of it. */
  interrupted: z.literal(true).optional(),
});
export type Completion = z.infer<typeof completion>;

/** A turn that could not be answered with: where to look for it. */
const unanswered = z.looseObject({
  success: z.literal(false),
  error: z.strictObject({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string().nullable(),
  }),
  details: z.string(),
  code: z.string(),
  timestamp: z.string(),
  conversation_id: z.string().optional(),
  turn_id: z.string().optional(),
});

/**
 * `error` as OpenAI's clients read it, among Agent Chat's keys.
 * @param now RFC 3339
 * @param more further keys, or others in place of these
 */
export const openAiError = (
  error: { message: string; type: string; param: string | null; code: string },
  now: string,
  more: object = {},
) => ({
  success: false as const,
  error,
  details: error.message,
  code: error.code,
  timestamp: now,
  ...more,
});

/** What cannot be seen looks as if it did not exist. */
export const noSuchModel = (model: string, now: string) =>
  openAiError(
    {
      message: `The model ${model} does not exist or you may not use it: GET /api/models lists those that you may.`,
      type: 'invalid_request_error',
      param: 'model',
      code: 'model_not_found',
    },
    now,
    { code: 'NOT_FOUND' },
  );

export const renderUsage = (usage: TokenUsage): CompletionUsage => ({
  prompt_tokens: usage.promptTokens,
  completion_tokens: usage.completionTokens,
  total_tokens: usage.promptTokens + usage.completionTokens,
  prompt_tokens_details: { cached_tokens: usage.cachedTokens },
});

const finishes: Readonly<Partial<Record<FinishReason, CompletionFinish>>> = {
  length: 'length',
  'content-filter': 'content_filter',
};
export const renderFinish = (end: {
  readonly finishReason: FinishReason | null;
  readonly toolRequests: readonly ToolRequest[];
}): CompletionFinish => {
  if (end.toolRequests.length > 0) return 'tool_calls';
  return (end.finishReason && finishes[end.finishReason]) ?? 'stop';
};

/** Arguments that are no JSON come as the model wrote them. */
export const renderCall = ({ toolCallId, tool: name, arguments: given }: ToolRequest): AnsweredCall => ({
  id: toolCallId,
  type: 'function',
  function: { name, arguments: typeof given === 'string' ? given : JSON.stringify(given ?? {}) },
});

// ── models ────────────────────────────────────────────────────────────────
export const openAiModel = z.strictObject({
  id: z.string(),
  object: z.literal('model'),
  /** Unix seconds; 0 where it is not known. */
  created: z.int(),
  owned_by: z.string(),
});

/** What is null is not known. */
export const agentChatModel = z.strictObject({
  id: z.string(),
  name: z.string(),
  provider: z.string(),
  /** Tokens. */
  context_window: z.int().nullable(),
  max_output: z.int().nullable(),
  capabilities: z.array(z.string()),
  /** US dollars. */
  cost_per_1k_tokens: z.strictObject({ input: z.number(), output: z.number() }).nullable(),
  /** `route` and `agent`: the model is the one that is asked first. */
  kind: z.enum(['model', 'route', 'agent']),
  /** `provider/model`, which is asked (first). */
  answered_by: z.string(),
});
export type AgentChatModel = z.infer<typeof agentChatModel>;

// ── routes ────────────────────────────────────────────────────────────────
const example = {
  body: {
    model: 'default',
    messages: [{ role: 'user', content: 'What is the capital of France?' }],
    max_tokens: 1000,
  },
};

export const createCompletion = route({
  surface: 'agent-chat',
  method: 'POST',
  path: '/api/chat/completions',
  summary:
    "OpenAI's chat completions. Each request adds to a conversation, or begins one; the answer names it. Going away " +
    'does not stop the turn: `X-Turn-Id` names it, and GET /api/turns/:turnId/stream shows it from its beginning.',
  access: 'chat:write',
  errors: 'openai',
  rateLimit: 'chat',
  body: completionRequest,
  streams: ['text/event-stream'],
  answers: { 200: completion, 404: unanswered, 502: unanswered, 503: unanswered, 504: unanswered },
  repeat: 'derived',
  example,
});

export const streamCompletion = route({
  surface: 'agent-chat',
  method: 'POST',
  path: '/api/chat/stream',
  summary: 'As /api/chat/completions with `stream: true`.',
  access: 'chat:write',
  errors: 'openai',
  rateLimit: 'chat',
  body: streamRequest,
  answers: { 200: 'stream', 404: unanswered },
  repeat: 'derived',
  example,
});

export const listModels = route({
  surface: 'agent-chat',
  method: 'GET',
  path: '/api/models',
  summary:
    'What can be asked for as `model`: models of providers, routes, and agents that the caller may use. `data` is ' +
    "OpenAI's list, `models` Agent Chat's.",
  access: ['chat:read', 'chat:write'],
  errors: 'openai',
  rateLimit: 'default',
  answers: {
    200: z.strictObject({
      object: z.literal('list'),
      data: z.array(openAiModel),
      models: z.array(agentChatModel),
    }),
  },
});

export const getModel = route({
  surface: 'agent-chat',
  method: 'GET',
  path: '/api/models/:model',
  summary: 'One of them. The slash of `provider/model` is written %2F.',
  access: ['chat:read', 'chat:write'],
  errors: 'openai',
  rateLimit: 'default',
  params: z.object({ model: z.string() }),
  answers: { 200: openAiModel.extend(agentChatModel.shape), 404: unanswered },
});

export const openAiRoutes = [createCompletion, streamCompletion, listModels, getModel] as const;
