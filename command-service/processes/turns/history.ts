/**
 * What a model is shown of a conversation: the turns before this one since the last compaction. Read backwards,
 * so that a long conversation costs no more than what fits a model.
 */
import type { EventData } from '../../../contracts/events/catalogue.ts';
import { NO_SETTINGS } from '../../../contracts/events/conversation.ts';
import type { EventStore } from '../../../infra/event-store/port.ts';
import { estimateTokens, type ModelMessage, type Prompt } from '../../../infra/models/port.ts';
import { type ConversationEvent, isConversationEvent } from '../../domain/conversation.ts';
import { roomForAnswer } from './budget.ts';
import { summarySection } from './prompts.ts';
import type { Transcript } from './transcript.ts';

export interface PastTurn {
  /** Of the user's message, and of the event that ended the turn. */
  readonly firstRevision: number;
  readonly lastRevision: number;
  /** What the model was shown for the message, and the answer where there was one. */
  readonly messages: readonly ModelMessage[];
}

export interface History {
  readonly summary: { readonly text: string; readonly fromRevision: number } | null;
  /** Oldest first. */
  readonly turns: readonly PastTurn[];
}

const NO_HISTORY: History = { summary: null, turns: [] };

/**
 * The history that a turn whose message has `revision` is answered with. It begins anew where a client sent along
 * what stands in place of it.
 */
export async function readHistory(store: EventStore, stream: string, revision: number): Promise<History> {
  const answers = new Map<string, { messages: readonly ModelMessage[]; revision: number }>();
  const turns: PastTurn[] = [];
  let summary: History['summary'] = null;
  let compactedTo = -1;
  let begunAnew = false;

  const take = (event: ConversationEvent): void => {
    switch (event.type) {
      case 'ContextCompacted':
        if (summary === null) {
          summary = { text: event.data.summary, fromRevision: event.data.fromRevision };
          compactedTo = event.data.toRevision;
        }
        break;
      case 'TurnCompleted':
      case 'TurnInterrupted':
      case 'TurnFailed':
        if (event.revision > compactedTo) {
          answers.set(event.data.turnId, { messages: answerIn(event.data), revision: event.revision });
        }
        break;
      case 'MessageSent': {
        const answer = answers.get(event.data.turnId);
        answers.delete(event.data.turnId);
        if (answer === undefined || event.revision >= revision) break;
        turns.push({
          firstRevision: event.revision,
          lastRevision: answer.revision,
          messages: [...messagesFor(event.data), ...answer.messages],
        });
        begunAnew = event.data.prompt?.afresh ?? false;
        break;
      }
    }
  };

  for await (const page of store.readStream(stream, { direction: 'backwards' })) {
    for (const event of page) {
      // Messages that waited lie before answers that the summary does not cover: read on until they are found.
      if (event.revision <= compactedTo && answers.size === 0) return { summary, turns: turns.reverse() };
      if (!isConversationEvent(event)) continue;
      if (event.revision === revision && event.type === 'MessageSent' && event.data.prompt?.afresh) {
        return NO_HISTORY;
      }
      take(event);
      if (begunAnew) return { summary: null, turns: turns.reverse() };
    }
  }
  return { summary, turns: turns.reverse() };
}

/** What the model is shown for a message. */
const messagesFor = ({
  content,
  prompt,
}: Pick<EventData<'MessageSent'>, 'content' | 'prompt'>): readonly ModelMessage[] =>
  prompt === null ? [{ role: 'user', content }] : prompt.messages;

const answerIn = ({ content, toolRequests }: EventData<'TurnCompleted'>): readonly ModelMessage[] =>
  content === '' && toolRequests.length === 0 ? [] : [{ role: 'assistant', content, toolRequests }];

/** The prompt of the turn's next call. The same events give the same prompt, byte for byte. */
export function promptOf(
  transcript: Transcript,
  context: NonNullable<Transcript['context']>,
  history: History,
  tools: Prompt['tools'],
): Prompt {
  const messages = [...history.turns.flatMap((turn) => turn.messages), ...messagesFor(transcript)];
  for (const round of transcript.rounds) {
    messages.push({ role: 'assistant', content: round.text.trimStart(), toolRequests: round.toolRequests });
    for (const { toolCallId } of round.toolRequests) {
      const outcome = round.outcomes[toolCallId];
      if (outcome !== undefined) messages.push({ role: 'tool', toolCallId, ...outcome });
    }
  }
  const system =
    history.summary === null ? context.system : context.system + summarySection(history.summary.text);
  const purpose = transcript.run === null ? 'answer' : 'task';
  const prompt: Prompt = { purpose, system, messages: paired(messages), tools };
  return { ...prompt, ...toolChoiceFor(transcript, tools), ...settingsFor(transcript, prompt) };
}

function toolChoiceFor({ prompt }: Transcript, tools: Prompt['tools']): Pick<Prompt, 'toolChoice'> {
  const choice = prompt?.toolChoice ?? 'auto';
  return choice === 'auto' || tools.length === 0 ? {} : { toolChoice: choice };
}

/** What the client set, and of a run no more tokens than its budget leaves. */
function settingsFor(transcript: Transcript, prompt: Prompt): Pick<Prompt, 'settings'> {
  const room = roomForAnswer(transcript, tokensOf(prompt));
  const asked = transcript.prompt?.settings;
  if (room === null) return asked === undefined ? {} : { settings: asked };
  const settings = asked ?? NO_SETTINGS;
  return { settings: { ...settings, maxTokens: Math.min(settings.maxTokens ?? room, room) } };
}

/**
 * Providers take a request for a tool only with its result right after it, and a result only after its request:
 * requests that were never answered are left out, and results whose request is gone are told as text.
 */
function paired(messages: readonly ModelMessage[]): ModelMessage[] {
  const result: ModelMessage[] = [];
  let open = new Set<string>();
  messages.forEach((message, index) => {
    if (message.role === 'assistant') {
      const answered = new Set<string>();
      for (let next = index + 1; messages[next]?.role === 'tool'; next++) {
        answered.add((messages[next] as Extract<ModelMessage, { role: 'tool' }>).toolCallId);
      }
      const toolRequests = message.toolRequests.filter(({ toolCallId }) => answered.has(toolCallId));
      open = new Set(toolRequests.map(({ toolCallId }) => toolCallId));
      const all = toolRequests.length === message.toolRequests.length;
      if (all) result.push(message);
      else if (toolRequests.length > 0 || message.content !== '') result.push({ ...message, toolRequests });
    } else if (message.role === 'tool') {
      if (open.delete(message.toolCallId)) result.push(message);
      else result.push({ role: 'user', content: resultInWords(message) });
    } else {
      result.push(message);
    }
  });
  return result;
}

export const resultInWords = ({ tool, result }: Extract<ModelMessage, { role: 'tool' }>): string =>
  `Result of ${tool}: ${JSON.stringify(result)}`;

export const tokensOf = (prompt: Prompt): number =>
  estimateTokens(prompt.system) +
  estimateTokens(JSON.stringify(prompt.messages)) +
  (prompt.tools.length === 0 ? 0 : estimateTokens(JSON.stringify(prompt.tools)));

export const tokensOfTurn = ({ messages }: PastTurn): number =>
  messages.reduce(
    (sum, message) =>
      sum +
      (message.role === 'tool' || (message.role === 'assistant' && message.toolRequests.length > 0)
        ? estimateTokens(JSON.stringify(message))
        : estimateTokens(message.content)),
    0,
  );
