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
  readonly message: number;
  readonly speaker: string;
  readonly sentence: string;
  readonly score: number;
}

const said: Readonly<Record<ModelMessage['role'], string>> = {
  user: 'User',
  assistant: 'Assistant',
  tool: 'Tool',
};

/** At most a quarter as long as the messages together (but some 400 characters may always be used). */
export function summarise(messages: readonly ModelMessage[]): string {
  const length = messages.reduce((sum, message) => sum + textOf(message).length, 0);
  const budget = Math.min(AT_MOST, Math.max(AT_LEAST, Math.floor(length / 4)));
  const candidates = messages.flatMap(candidatesOf).map((candidate, index) => ({ ...candidate, index }));
  const byWorth = candidates.toSorted((a, b) => b.score - a.score || b.index - a.index);
  const taken: Candidate[] = [];
  let used = 0;
  for (const candidate of byWorth) {
    const cost = candidate.sentence.length + candidate.speaker.length + 3;
    if (used + cost > budget) continue;
    used += cost;
    taken.push(candidate);
  }
  const lines = new Map<number, string>();
  for (const { message, speaker, sentence } of taken.toSorted((a, b) => a.index - b.index)) {
    const line = lines.get(message);
    lines.set(message, line === undefined ? `${speaker}: ${sentence}` : `${line} ${sentence}`);
  }
  return lines.size === 0 ? 'Nothing was said.' : [...lines.values()].join('\n');
}

function textOf(message: ModelMessage): string {
  if (message.role === 'tool') return `${message.tool} → ${JSON.stringify(message.result) ?? 'nothing'}`;
  const asked = message.role === 'assistant' ? message.toolRequests.map(({ tool }) => tool) : [];
  return asked.length === 0 ? message.content : `${message.content}\nAsked for ${asked.join(', ')}.`.trim();
}

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

/** A user's statement about themselves; also as a line of an earlier summary. */
function tellsAFact(message: ModelMessage, sentence: string): boolean {
  if (message.role === 'tool') return message.tool === 'remember_fact';
  const statement = sentence
    .replace(/^User: /, '')
    .replace(/^remember(?: that)? /i, '')
    .replace(/[.!]$/, '');
  return message.role === 'user' && !sentence.endsWith('?') && factIn(statement, false) !== null;
}
