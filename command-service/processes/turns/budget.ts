/** What a run of an agent has used up, and whether its budget allows another call of a model. Pure. */
import type { Run } from '../../../contracts/events/conversation.ts';
import type { Transcript } from './transcript.ts';

type Spending = Pick<
  Transcript,
  'run' | 'usage' | 'brokenCalls' | 'lostTokens' | 'knownCostUsd' | 'calls' | 'refusedCalls'
>;

/** Prompts and answers together, broken and lost calls included. */
function tokensSpent({ usage, brokenCalls, lostTokens }: Spending): number {
  const broken = brokenCalls.map((call) => call.usage);
  return [usage, ...broken].reduce(
    (sum, each) => sum + each.promptTokens + each.completionTokens,
    lostTokens,
  );
}

/** How many tokens the next answer may have, at least one; null: as many as it likes. */
export function roomForAnswer(transcript: Spending, promptTokens: number): number | null {
  const tokens = transcript.run?.budget.tokens ?? null;
  return tokens === null ? null : Math.max(1, tokens - tokensSpent(transcript) - promptTokens);
}

/** What a call is going to cost at least. */
export interface NextCall {
  readonly promptTokens: number;
  /** US dollars; 0 where the price is not known. */
  readonly costUsd: number;
}

/**
 * @param brokenCostUsd what broken calls cost
 * @param next the call that is to be made; null: none, only what is spent counts
 * @returns which part of the budget is used up, as the reason that the turn fails for; null while none is
 */
export function usedUp(transcript: Spending, brokenCostUsd: number, next: NextCall | null): string | null {
  const { run } = transcript;
  if (run === null) return null;
  const parts = overrun(run.budget, transcript, brokenCostUsd, next);
  return parts.length === 0 ? null : `The run's budget is used up: ${parts.join('; ')}.`;
}

function overrun(
  budget: Run['budget'],
  transcript: Spending,
  brokenCostUsd: number,
  next: NextCall | null,
): string[] {
  const tokens = tokensSpent(transcript);
  const cost = transcript.knownCostUsd + brokenCostUsd;
  const turns = transcript.calls - transcript.refusedCalls;
  const parts: string[] = [];
  // The answer has one token at least.
  const nextTokens = next === null ? 0 : next.promptTokens + 1;
  if (budget.tokens !== null && tokens + nextTokens > budget.tokens) {
    parts.push(
      `tokens (${tokens} of ${budget.tokens}${next ? `, the next call needs ${nextTokens} or more` : ''})`,
    );
  }
  const nextCost = next?.costUsd ?? 0;
  if (budget.cost !== null && cost + nextCost > budget.cost) {
    const needs = next ? `, the next call costs $${usd(nextCost)} or more` : '';
    parts.push(`cost ($${usd(cost)} of $${usd(budget.cost)}${needs})`);
  }
  if (budget.turns !== null && turns + (next === null ? 0 : 1) > budget.turns) {
    parts.push(`turns (${turns} of ${budget.turns})`);
  }
  return parts;
}

/** Without the noise of binary fractions and without exponents. */
const usd = (value: number): string => value.toFixed(12).replace(/\.?0+$/, '');
