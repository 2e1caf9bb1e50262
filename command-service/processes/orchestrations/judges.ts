/** The Council, as orchestrations ask it to judge a plan or a result. */
import { DEFAULT_LOOPS, MAX_MATERIAL_TEXT } from '../../../contracts/commands/deliberation.ts';
import type { Material } from '../../../contracts/events/deliberation.ts';
import type { CommandBus, CommandMeta } from '../../command.ts';
import { membersOf } from '../../domain/council.ts';
import { openDeliberation, requestDeliberationStop } from '../../domain/deliberation.ts';

export interface Question {
  readonly deliberationId: string;
  /** Whose Council judges. */
  readonly owner: string;
  readonly topic: string;
  readonly purpose: 'plan' | 'result';
  /** That with the id `task` is what was asked for; the rest is judged. */
  readonly material: readonly Material[];
}

/**
 * Asks for a judgement: a deliberation, which ends with DecisionReached and DeliberationEnded in its stream. Safe to
 * repeat.
 */
export async function askCouncil(
  bus: CommandBus,
  { material, topic, ...question }: Question,
  meta: CommandMeta,
): Promise<void> {
  await bus.dispatch(
    openDeliberation,
    {
      ...question,
      topic: topic.toWellFormed(),
      material: material.map((piece) => ({ ...piece, text: fitting(piece.text) })),
      members: await membersOf(bus, question.owner),
      maxLoops: DEFAULT_LOOPS,
      // It judges what it is shown.
      maxToolUses: 0,
      sessionId: null,
      mode: 'standard',
    },
    meta,
  );
}

export async function stopCouncil(
  bus: CommandBus,
  { deliberationId, at }: { deliberationId: string; at: Date },
  meta: CommandMeta,
): Promise<void> {
  await bus.dispatch(requestDeliberationStop, { deliberationId, at: at.toISOString() }, meta);
}

function fitting(text: string): string {
  const note = '\n[cut]';
  const fits = text.length <= MAX_MATERIAL_TEXT;
  return (fits ? text : text.slice(0, MAX_MATERIAL_TEXT - note.length) + note).toWellFormed();
}
