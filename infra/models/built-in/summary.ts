/** An extractive summary: sentences taken as they are, the telling ones first, within a budget. Pure. */
import type { ModelMessage } from '../port.ts';
import { quote } from './answers.ts';
import { factIn } from './facts.ts';

/** Characters: about a thousand tokens. */
const AT_MOST = 4_000;
const AT_LEAST = 400;
const SENTENCE = 240;
const SENTENCES_A_MESSAGE = 200;

interface Candidate {
  /** Its place in the conversation. */
  readonly index: number;
  /** Which message it is from: sentences of one message share a line. */
  readonly message: number;
  /** What the line begins with. */
  readonly speaker: string;
  readonly sentence: string;
  readonly score: number;
}

const said: Readonly<Record<ModelMessage['role'], string>> = {
  user: 'User: ',
  assistant: 'Assistant: ',
  tool: 'Tool: ',
};

/**
 * At most a quarter as long as the messages together (but some 400 characters may always be used).
 * `earlier`: the summary of what was said before them, which competes for the same room.
 */
export function summarise(messages: readonly ModelMessage[], earlier = ''): string {
  const length = messages.reduce((sum, message) => sum + textOf(message).length, 4 * earlier.length);
  const budget = Math.min(AT_MOST, Math.max(AT_LEAST, Math.floor(length / 4)));
  const candidates = [...earlierCandidates(earlier), ...messages.flatMap(candidatesOf)].map(
    (candidate, index) => ({ ...candidate, index }),
  );
  const byWorth = candidates.toSorted((a, b) => b.score - a.score || b.index - a.index);
  const taken: Candidate[] = [];
  let used = 0;
  for (const candidate of byWorth) {
    const cost = candidate.sentence.length + candidate.speaker.length + 1;
    if (used + cost > budget) continue;
    used += cost;
    taken.push(candidate);
  }
  const lines = new Map<number, string>();
  for (const { message, speaker, sentence } of taken.toSorted((a, b) => a.index - b.index)) {
    const line = lines.get(message);
    lines.set(message, line === undefined ? `${speaker}${sentence}` : `${line} ${sentence}`);
  }
  return lines.size === 0 ? 'Nothing was said.' : [...lines.values()].join('\n');
}

function textOf(message: ModelMessage): string {
  if (message.role === 'tool') return `${message.tool} → ${JSON.stringify(message.result) ?? 'nothing'}`;
  const asked = message.role === 'assistant' ? message.toolRequests.map(({ tool }) => tool) : [];
  return asked.length === 0 ? message.content : `${message.content}\nAsked for ${asked.join(', ')}.`.trim();
}

/** The lines of an earlier summary name their speakers already; each stands for a message. */
const earlierCandidates = (summary: string): Omit<Candidate, 'index'>[] =>
  summary
    .split('\n', SENTENCES_A_MESSAGE)
    .map((line) => quote(line, 2 * SENTENCE))
    .filter((line) => line !== '')
    .map((sentence, index) => ({
      message: index - SENTENCES_A_MESSAGE,
      speaker: '',
      sentence,
      score: 2 + (/\d/.test(sentence) ? 1 : 0) + (/^User: /.test(sentence) && tells(sentence) ? 3 : 0),
    }));

function candidatesOf(message: ModelMessage, number: number): Omit<Candidate, 'index'>[] {
  const sentences = textOf(message)
    .split(/(?<=[.!?])\s|\n/, SENTENCES_A_MESSAGE)
    .map((sentence) => quote(sentence, SENTENCE))
    .filter((sentence) => sentence !== '');
  return sentences.map((sentence, index) => ({
    message: number,
    speaker: said[message.role],
    sentence,
    score: (index === 0 ? 2 : 0) + (/\d/.test(sentence) ? 1 : 0) + (tellsAFact(message, sentence) ? 3 : 0),
  }));
}

const tellsAFact = (message: ModelMessage, sentence: string): boolean =>
  message.role === 'tool' ? message.tool === 'remember_fact' : message.role === 'user' && tells(sentence);

/** A statement about the user themselves. */
function tells(sentence: string): boolean {
  const statement = sentence
    .replaceAll('’', "'")
    .replace(/^User: /, '')
    .replace(/^remember(?: that)? /i, '');
  return !sentence.endsWith('?') && factIn(statement.replace(/[.!]$/, ''), false) !== null;
}
