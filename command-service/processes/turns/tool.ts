/** A tool: what a model may ask for, and what it is given to work with. `tools/` holds them, one file each. */
import { z } from 'zod';
import type { EventStore } from '../../../infra/event-store/port.ts';
import type { ToolDescription } from '../../../infra/models/port.ts';
import type { ReadModels } from '../../../infra/read-models/port.ts';
import type { CommandBus, CommandMeta } from '../../command.ts';

export interface ToolContext {
  /** Whose conversation it is: a tool sees and changes only what is theirs. */
  readonly owner: string;
  readonly conversationId: string;
  readonly turnId: string;
  /** The same for every try of this call: what changes something uses it as its command id. */
  readonly toolCallId: string;
  /** For commands that the tool issues. */
  readonly meta: CommandMeta;
  /** Aborted on an interrupt, a shutdown, or when the tool took too long. */
  readonly signal: AbortSignal;
  readonly now: () => Date;
  readonly bus: CommandBus;
  readonly store: EventStore;
  readonly readModels: ReadModels;
  /** Waits, bounded, until the read models show everything committed so far. */
  readonly settled: () => Promise<void>;
  /** Waits for other runs: while they work, this one takes no place of those that run at once. */
  readonly lend: <Result>(meanwhile: () => Promise<Result>) => Promise<Result>;
}

export interface Tool<Input = unknown> {
  readonly name: string;
  readonly description: string;
  readonly input: z.ZodType<Input>;
  /** A tool that changes something is preceded by a checkpoint, and must be safe to repeat by `toolCallId`. */
  readonly readOnly: boolean;
  /** Whether it is offered to visitors, too, whose conversations are the owner's: it touches nothing of the owner's. */
  readonly forVisitors?: true;
  /** Null: as long as the turn may take. */
  readonly timeoutMs: number | null;
  /** Its result must be plain JSON. What it throws becomes the result that the model sees. */
  readonly run: (input: Input, context: ToolContext) => unknown | Promise<unknown>;
  /**
   * Undoes what a call has under way when its turn ends before it: it may have begun or not, and may be asked to
   * more than once.
   */
  readonly cancel?: (context: ToolContext) => Promise<void>;
}

const DEFAULT_TIMEOUT_MS = 30_000;

export const tool = <Input>(
  definition: Omit<Tool<Input>, 'timeoutMs'> & { readonly timeoutMs?: number | null },
): Tool => ({ timeoutMs: DEFAULT_TIMEOUT_MS, ...definition }) as unknown as Tool;

const descriptions = new WeakMap<Tool, ToolDescription>();

/** As models are told of it. Made once: every call of a model needs it, and writing schemas takes milliseconds. */
export function describe(definition: Tool): ToolDescription {
  let description = descriptions.get(definition);
  if (description === undefined) {
    description = {
      name: definition.name,
      description: definition.description,
      parameters: z.toJSONSchema(definition.input, { io: 'input' }),
    };
    descriptions.set(definition, description);
  }
  return description;
}

/**
 * Runs a tool as a model asked for it. What goes wrong (no such tool, arguments that do not fit, an error, a
 * time-out) is a result that the model sees, not the end of the turn.
 */
export async function useTool(
  found: Tool | undefined,
  name: string,
  given: unknown,
  context: ToolContext,
): Promise<{ result: unknown; isError: boolean }> {
  const failed = (error: string) => ({ result: { error }, isError: true });
  if (found === undefined) return failed(`There is no tool named "${name}".`);
  const input = found.input.safeParse(given);
  if (!input.success) {
    const issues = input.error.issues.map(
      (issue) => `${issue.path.join('.') || 'arguments'}: ${issue.message}`,
    );
    return failed(`The arguments do not fit: ${issues.join('; ')}`);
  }
  const { timeoutMs } = found;
  const timeOut = timeoutMs === null ? null : AbortSignal.timeout(timeoutMs);
  const signal = timeOut === null ? context.signal : AbortSignal.any([context.signal, timeOut]);
  try {
    const run = async () => found.run(input.data, { ...context, signal });
    const result = await Promise.race([run(), aborted(signal)]);
    return { result: result === undefined ? null : JSON.parse(JSON.stringify(result)), isError: false };
  } catch (error) {
    if (timeOut?.aborted) return failed(`The tool took longer than ${timeoutMs! / 1000} s.`);
    return failed(error instanceof Error ? error.message : String(error));
  }
}

const aborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
