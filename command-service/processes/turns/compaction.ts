/** Making a long conversation fit a model: older turns are replaced by a summary. */
import type { DecidedEvent } from '../../../contracts/events/catalogue.ts';
import { type ChatModel, estimateTokens, ModelError, type ModelMessage } from '../../../infra/models/port.ts';
import { type History, type PastTurn, resultInWords, tokensOfTurn } from './history.ts';
import { SUMMARY_PROMPT, summarySection } from './prompts.ts';

/** A prompt may fill so much of a model's window; beyond it the history is compacted. */
const COMPACT_AT = 0.7;
/** What compaction leaves of the window for the newest turns, word for word. */
const KEEP = 0.3;

export const needsCompaction = (tokens: number, model: ChatModel, history: History): boolean =>
  tokens > model.contextWindow * COMPACT_AT && history.turns.length > 0;

/** The oldest turns, of which a summary is to be made, and the newest, which stay as they are. */
export function split(history: History, model: ChatModel): { older: PastTurn[]; newer: PastTurn[] } {
  const room = model.contextWindow * KEEP;
  let from = history.turns.length;
  let kept = 0;
  while (from > 1) {
    kept += tokensOfTurn(history.turns[from - 1]!);
    if (kept > room) break;
    from--;
  }
  return { older: history.turns.slice(0, from), newer: history.turns.slice(from) };
}

export interface Compacted {
  readonly history: History;
  readonly event: DecidedEvent<'ContextCompacted'>;
}

/**
 * Summarises the older part of the history.
 * @param summarisers the models to ask, in order; the last one should be the built-in, which cannot fail
 * @throws ModelError when none of them gave a summary
 */
export async function compact(
  turnId: string,
  history: History,
  options: {
    readonly model: ChatModel;
    readonly summarisers: readonly ChatModel[];
    readonly tokensBefore: number;
    readonly signal: AbortSignal;
  },
): Promise<Compacted> {
  const { older, newer } = split(history, options.model);
  const messages: ModelMessage[] = older.flatMap((turn) => turn.messages.flatMap(inWords));
  messages.push({ role: 'user', content: 'Summarise our conversation up to here.' });
  const system =
    history.summary === null ? SUMMARY_PROMPT : SUMMARY_PROMPT + summarySection(history.summary.text);

  const { summary, by } = await firstSummary(options.summarisers, { system, messages }, options.signal);
  const fromRevision = history.summary?.fromRevision ?? older[0]!.firstRevision;
  const removed = older.reduce((sum, turn) => sum + tokensOfTurn(turn), 0);
  const tokensAfter = options.tokensBefore - removed - estimateTokens(history.summary?.text ?? '');
  return {
    history: { summary: { text: summary, fromRevision }, turns: newer },
    event: {
      type: 'ContextCompacted',
      data: {
        turnId,
        summary,
        fromRevision,
        toRevision: older.at(-1)!.lastRevision,
        tokensBefore: options.tokensBefore,
        tokensAfter: Math.max(0, tokensAfter) + estimateTokens(summary),
        provider: by.provider,
        model: by.model,
      },
    },
  };
}

/** Without tools to describe, providers take no requests for any. */
function inWords(message: ModelMessage): ModelMessage[] {
  if (message.role === 'tool') return [{ role: 'user', content: resultInWords(message) }];
  if (message.role === 'user' || message.toolRequests.length === 0) return [message];
  const asked = message.toolRequests.map(
    ({ tool, arguments: given }) => `Asked for ${tool}: ${JSON.stringify(given)}`,
  );
  const content = [message.content, ...asked].filter((line) => line !== '').join('\n');
  return [{ role: 'assistant', content, toolRequests: [] }];
}

async function firstSummary(
  models: readonly ChatModel[],
  prompt: { system: string; messages: readonly ModelMessage[] },
  signal: AbortSignal,
): Promise<{ summary: string; by: ChatModel }> {
  const failures: string[] = [];
  for (const by of models) {
    try {
      let summary = '';
      for await (const part of by.stream({ purpose: 'summarise', ...prompt, tools: [] }, { signal })) {
        if (part.type === 'text') summary += part.text;
      }
      if (summary.trim() !== '') return { summary: summary.trim(), by };
      failures.push(`${by.provider}/${by.model}: an empty summary`);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof ModelError)) throw error;
      failures.push(error.message);
    }
  }
  throw new ModelError(`No model could summarise the conversation. ${failures.join('; ')}`, {
    retryable: true,
  });
}
