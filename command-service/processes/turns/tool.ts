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
}

export interface Tool<Input = unknown> {
  readonly name: string;
  readonly description: string;
  readonly input: z.ZodType<Input>;
  /** A tool that changes something is preceded by a checkpoint, and must be safe to repeat by `toolCallId`. */
  readonly readOnly: boolean;
  readonly timeoutMs: number;
  /** Its result must be plain JSON. What it throws becomes the result that the model sees. */
  readonly run: (input: Input, context: ToolContext) => unknown | Promise<unknown>;
}

const DEFAULT_TIMEOUT_MS = 30_000;

export const tool = <Input>(
  definition: Omit<Tool<Input>, 'timeoutMs'> & { readonly timeoutMs?: number },
): Tool => ({ timeoutMs: DEFAULT_TIMEOUT_MS, ...definition }) as unknown as Tool;

export const describe = (definition: Tool): ToolDescription => ({
  name: definition.name,
  description: definition.description,
  parameters: z.toJSONSchema(definition.input, { io: 'input' }),
});
