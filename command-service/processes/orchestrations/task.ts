/** What an agent is told to do: its task, and beside it the context and the results of others, marked as such. Pure. */
import { MATERIAL } from '../../../contracts/commands/orchestration.ts';
import type { OrchestrationStep } from '../../../contracts/events/orchestration.ts';
import type { EndedStep, OrchestrationState } from '../../domain/orchestration.ts';

/** Less than a message holds (contracts/commands/conversation.ts). */
const LONGEST = 31_500;
/** What stands around a result. */
const LONGEST_AROUND = 200;

/**
 * The task of a step. Results that are too long for a message are cut, which is said.
 * @param state in which the steps in `after` have ended
 */
export function taskText(
  step: Extract<OrchestrationStep, { kind: 'run' }>,
  { request, ended }: OrchestrationState,
): string {
  const parts = [withContext(step.task, request!.context)];
  const before = step.after.flatMap((id) => {
    const earlier = request!.steps.find((other) => other.id === id);
    return earlier === undefined || ended[id] === undefined ? [] : [{ earlier, end: ended[id] }];
  });
  if (before.length > 0) parts.push(`What came before this step. ${MATERIAL}`);
  const used = parts.join('\n\n').length;
  const share = Math.floor((LONGEST - used) / Math.max(1, before.length)) - LONGEST_AROUND;
  for (const { earlier, end } of before) parts.push(shown(earlier, end, share));
  return parts.join('\n\n').toWellFormed();
}

/** @param context JSON; null for none */
export const withContext = (task: string, context: unknown): string =>
  context === null
    ? task
    : `${task}\n\nContext of the task, as JSON. ${MATERIAL}\n<context>\n${asJson(context)}\n</context>`;

function shown(step: OrchestrationStep, end: EndedStep, longest: number): string {
  if (step.kind === 'judgement') {
    const dissent = (end.verdict?.dissent ?? []).map(({ member, reason }) => `\n- ${member}: ${reason}`);
    const text = dissent.length === 0 ? end.result : `${end.result}\nDissent:${dissent.join('')}`;
    return tagged(
      `judgement step="${step.id}" outcome="${end.verdict?.outcome ?? end.outcome}"`,
      text,
      longest,
    );
  }
  const about = `result agent="${step.run.agent.name}" step="${step.id}" outcome="${end.outcome}"`;
  if (end.outcome === 'completed') return tagged(about, end.result, longest);
  return tagged(about, `${step.run.agent.name} brought no result: ${end.reason}`, longest);
}

function tagged(about: string, text: string, longest: number): string {
  const [name] = about.split(' ');
  const fits = text.length <= longest;
  const cut = `${text.slice(0, Math.max(0, longest))}\n[cut: there were ${text.length} characters]`;
  return `<${about}>\n${fits ? text : cut}\n</${name}>`;
}

export const asJson = (value: unknown): string => JSON.stringify(value);
