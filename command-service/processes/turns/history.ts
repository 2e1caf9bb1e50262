/**
 * What a model is shown of a conversation: the turns before this one since the last compaction. Read backwards,
 * so that a long conversation costs no more than what fits a model.
 */
import type { EventStore } from '../../../infra/event-store/port.ts';
import { estimateTokens, type ModelMessage, type Prompt } from '../../../infra/models/port.ts';
import { type ConversationEvent, isConversationEvent } from '../../domain/conversation.ts';
import { summarySection } from './prompts.ts';
import type { Transcript } from './transcript.ts';

export interface PastTurn {
  /** Of the user's message, and of the event that ended the turn. */
  readonly firstRevision: number;
  readonly lastRevision: number;
  readonly question: string;
  readonly answer: string;
}

export interface History {
  readonly summary: { readonly text: string; readonly fromRevision: number } | null;
  /** Oldest first. */
  readonly turns: readonly PastTurn[];
}

/** The history that a turn whose message has `revision` is answered with. */
export async function readHistory(store: EventStore, stream: string, revision: number): Promise<History> {
  const answers = new Map<string, { content: string; revision: number }>();
  const turns: PastTurn[] = [];
  let summary: History['summary'] = null;
  let compactedTo = -1;

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
          answers.set(event.data.turnId, { content: event.data.content, revision: event.revision });
        }
        break;
      case 'MessageSent': {
        const answer = answers.get(event.data.turnId);
        answers.delete(event.data.turnId);
        if (answer === undefined || event.revision >= revision) break;
        turns.push({
          firstRevision: event.revision,
          lastRevision: answer.revision,
          question: event.data.content,
          answer: answer.content,
        });
        break;
      }
    }
  };

  for await (const page of store.readStream(stream, { direction: 'backwards' })) {
    for (const event of page) {
      // Messages that waited lie before answers that the summary does not cover: read on until they are found.
      if (event.revision <= compactedTo && answers.size === 0) return { summary, turns: turns.reverse() };
      if (isConversationEvent(event)) take(event);
    }
  }
  return { summary, turns: turns.reverse() };
}

/** The prompt of the turn's next call. The same events give the same prompt, byte for byte. */
export function promptOf(
  transcript: Transcript,
  context: NonNullable<Transcript['context']>,
  history: History,
  tools: Prompt['tools'],
): Prompt {
  const messages: ModelMessage[] = [];
  for (const turn of history.turns) {
    messages.push({ role: 'user', content: turn.question });
    if (turn.answer !== '') messages.push({ role: 'assistant', content: turn.answer, toolRequests: [] });
  }
  messages.push({ role: 'user', content: transcript.content });
  for (const round of transcript.rounds) {
    messages.push({ role: 'assistant', content: round.text.trimStart(), toolRequests: round.toolRequests });
    for (const { toolCallId } of round.toolRequests) {
      const outcome = round.outcomes[toolCallId];
      if (outcome !== undefined) messages.push({ role: 'tool', toolCallId, ...outcome });
    }
  }
  const system =
    history.summary === null ? context.system : context.system + summarySection(history.summary.text);
  return { purpose: 'answer', system, messages, tools };
}

export const tokensOf = (prompt: Prompt): number =>
  estimateTokens(prompt.system) +
  estimateTokens(JSON.stringify(prompt.messages)) +
  (prompt.tools.length === 0 ? 0 : estimateTokens(JSON.stringify(prompt.tools)));
