/** What a chat completion asks for, as a message of a conversation. Pure. */
import { messageContent } from '../../contracts/commands/conversation.ts';
import { type Issue, Refusal } from '../../contracts/errors.ts';
import {
  type ClientPrompt,
  NO_SETTINGS,
  type SentMessage,
  type ToolRequest,
} from '../../contracts/events/conversation.ts';
import type { ChatMessage, CompletionRequest, Content } from '../../contracts/http/openai.ts';

export interface AskedMessage {
  /** What people are shown of it. */
  readonly content: string;
  /** Null where it says no more than `content`. */
  readonly prompt: ClientPrompt | null;
}

/** What people are shown has the length of any message. */
const MAX_CONTENT = 32_000;

/**
 * @param continued the tools that the conversation's last answer asked its client for; null: it is begun now, and the
 *   earlier messages stand in place of a history
 * @throws Refusal VALIDATION_ERROR naming the message that is not sound
 */
export function messageFrom(
  request: CompletionRequest,
  continued: readonly ToolRequest[] | null,
): AskedMessage {
  const { messages } = request;
  const issues: Issue[] = [];
  const wrong = (path: readonly (string | number)[], message: string): void =>
    void issues.push({ path: ['body', 'messages', ...path], message });

  const asked = new Map((continued ?? []).map(({ toolCallId, tool }) => [toolCallId, tool]));
  const system: string[] = [];
  const said: { readonly index: number; readonly message: SentMessage }[] = [];
  for (const [index, message] of messages.entries()) {
    if (message.role === 'system' || message.role === 'developer') {
      system.push(textOf(message.content));
      continue;
    }
    if (message.role === 'assistant') {
      for (const { id, function: called } of message.tool_calls ?? []) asked.set(id, called.name);
    } else if (message.role === 'tool' && !asked.has(message.tool_call_id)) {
      wrong([index, 'tool_call_id'], `no message before asks for ${message.tool_call_id}`);
    }
    said.push({ index, message: sentMessage(message, asked) });
  }

  const fresh = said.slice(said.findLastIndex(({ message }) => message.role === 'assistant') + 1);
  if (fresh.length === 0) {
    wrong([], 'messages hold nothing new: the last one is to be of the user, or the result of a tool');
  }
  const content = shown(fresh.map(({ message }) => message));
  if (issues.length === 0) {
    const sound = messageContent.safeParse(content);
    const path = fresh.length === 1 ? [fresh[0]!.index, 'content'] : [];
    for (const { message } of sound.success ? [] : sound.error.issues) wrong(path, message);
  }
  if (issues.length > 0) throw new Refusal('VALIDATION_ERROR', 'The request is not valid.', { issues });

  const prompt: ClientPrompt = {
    system: system.length === 0 ? null : system.join('\n\n'),
    messages: (continued === null ? said : fresh).map(({ message }) => message),
    afresh: continued === null,
    tools: (request.tools ?? []).map(({ function: { name, description, parameters } }) => ({
      name,
      description: description ?? '',
      parameters: parameters ?? { type: 'object', properties: {} },
    })),
    toolChoice: toolChoiceOf(request),
    settings: settingsOf(request),
  };
  return { content, prompt: saysMore(prompt, content) ? prompt : null };
}

const textOf = (content: Content): string =>
  typeof content === 'string' ? content : content.map(({ text }) => text ?? '').join('');

function sentMessage(
  message: Exclude<ChatMessage, { role: 'system' | 'developer' }>,
  asked: ReadonlyMap<string, string>,
): SentMessage {
  switch (message.role) {
    case 'user':
      return { role: 'user', content: textOf(message.content) };
    case 'assistant':
      return {
        role: 'assistant',
        content: textOf(message.content ?? ''),
        toolRequests: (message.tool_calls ?? []).map(({ id, function: { name, arguments: given } }) => ({
          toolCallId: id,
          tool: name,
          arguments: parsed(given),
        })),
      };
    case 'tool':
      return {
        role: 'tool',
        toolCallId: message.tool_call_id,
        tool: asked.get(message.tool_call_id) ?? '',
        result: textOf(message.content),
        isError: false,
      };
  }
}

/** What is no JSON stays as it is. */
function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return json;
  }
}

/** What the user says now; without it, what tools have returned. */
function shown(fresh: readonly SentMessage[]): string {
  const texts = fresh.flatMap((message) => (message.role === 'user' ? [message.content] : []));
  if (texts.length > 0) return texts.join('\n\n');
  const results = fresh.flatMap((message) =>
    message.role === 'tool' ? [`Result of ${message.tool}: ${message.result}`] : [],
  );
  const all = results.join('\n\n');
  return all.length <= MAX_CONTENT ? all : `${all.slice(0, MAX_CONTENT - 1).toWellFormed()}…`;
}

function toolChoiceOf({ tool_choice: choice }: CompletionRequest): ClientPrompt['toolChoice'] {
  if (choice === null || choice === undefined) return 'auto';
  return typeof choice === 'string' ? choice : { tool: choice.function.name };
}

const settingsOf = (request: CompletionRequest): ClientPrompt['settings'] => ({
  temperature: request.temperature ?? null,
  topP: request.top_p ?? null,
  maxTokens: request.max_completion_tokens ?? request.max_tokens ?? null,
  stop: request.stop === null || request.stop === undefined ? [] : [request.stop].flat(),
  seed: request.seed ?? null,
  presencePenalty: request.presence_penalty ?? null,
  frequencyPenalty: request.frequency_penalty ?? null,
});

function saysMore({ system, messages, tools, toolChoice, settings }: ClientPrompt, content: string): boolean {
  const [only] = messages;
  return (
    system !== null ||
    tools.length > 0 ||
    toolChoice !== 'auto' ||
    JSON.stringify(settings) !== JSON.stringify(NO_SETTINGS) ||
    messages.length !== 1 ||
    only?.role !== 'user' ||
    only.content !== content
  );
}
