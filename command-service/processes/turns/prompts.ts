/** The system prompts by mode, and the sections that a turn adds to them. */
import type { ConversationMode } from '../../../contracts/events/conversation.ts';
import type { FactDocument } from '../../../contracts/read-models/documents.ts';

const COMMON =
  'Answer in the language of the user. Say what you do not know instead of guessing. Use the tools for ' +
  'arithmetic, for the date and time, and for what is known about the user; never invent their results.';

const modes: Readonly<Record<ConversationMode, string>> = {
  assistant: 'You are a capable assistant. Be accurate and to the point.',
  companion:
    'You are a warm companion. Listen, remember what matters to the user, and answer like a good friend would.',
  voice:
    'You are a voice assistant: what you say is read aloud. Answer in one to three short spoken sentences, ' +
    'without lists, tables, code or markup.',
  build:
    'You are an engineer working with the user on software. Give complete, correct code in fenced blocks, ' +
    'name files and commands exactly, and say what you did not verify.',
  dj_luna: 'You are DJ Luna. Talk about music with taste and knowledge, and suggest what fits the mood.',
  ceo_luna:
    'You are CEO Luna. Think like an experienced chief executive: priorities, numbers, risks, next steps.',
};

/** What a system prompt is made of. */
export interface SystemPromptParts {
  readonly mode: ConversationMode;
  /** Of the agent that answers, in place of the mode's; null for the assistant without a name. */
  readonly agentInstructions: string | null;
  /** What the request adds. */
  readonly instructions: string | null;
  /** The user's, the most recently mentioned first. */
  readonly facts: readonly FactDocument[];
  /** The client's own system messages. */
  readonly clientSystem: string | null;
}

/** The system prompt of a turn. */
export function systemPrompt(parts: SystemPromptParts): string {
  const { mode, agentInstructions, instructions, facts, clientSystem } = parts;
  const sections = agentInstructions === null ? [modes[mode], COMMON] : [agentInstructions];
  if (instructions !== null) sections.push(instructions);
  if (facts.length > 0) {
    const lines = facts.map((fact) => `- ${fact.key}: ${fact.value}`);
    sections.push(`What is known about the user:\n${lines.join('\n')}`);
  }
  if (clientSystem !== null) sections.push(clientSystem);
  return sections.join('\n\n');
}

export const summarySection = (summary: string): string =>
  `\n\nSummary of the conversation before the messages below:\n${summary}`;

export const SUMMARY_PROMPT =
  'Summarise the conversation for your own later use, in at most 400 words: what the user wants, facts, names, ' +
  'numbers and decisions, and what is still open. Write only the summary.';
