/** Handing a task to another agent: a run of it, in a conversation of its own, as a child of the turn that asks. */
import { z } from 'zod';
import type { Caller } from '../../../../contracts/caller.ts';
import { Refusal } from '../../../../contracts/errors.ts';
import { agentName } from '../../../../contracts/events/agent.ts';
import type { OdeonEvent } from '../../../../contracts/events/catalogue.ts';
import type { Agents } from '../../../../contracts/read-models/agents.ts';
import type { AgentDocument } from '../../../../contracts/read-models/documents.ts';
import type { EventStore } from '../../../../infra/event-store/port.ts';
import { type BegunRun, beginRun, runBegunBy } from '../../../chat.ts';
import { isConversationEvent, requestInterrupt } from '../../../domain/conversation.ts';
import { type Tool, type ToolContext, tool } from '../tool.ts';

/** A run that nobody delegated may delegate, and so may what it delegates to, so many times over. */
const MAX_DEPTH = 3;
const TASK_LENGTH = 30_000;
/** So many agents are named where one was not found. */
const LISTED = 50;

type Turn = { readonly conversationId: string; readonly turnId: string };
type TurnEnd = OdeonEvent<'TurnCompleted' | 'TurnInterrupted' | 'TurnFailed'>;

const statuses = { TurnCompleted: 'success', TurnInterrupted: 'cancelled', TurnFailed: 'failed' } as const;

type AgentsToRun = Pick<Agents, 'find' | 'list' | 'runOf'>;

export const delegateTool = (agents: AgentsToRun): Tool =>
  tool({
    name: 'delegate',
    description: 'Hand a task to another agent and wait for its answer. It knows only what the task says.',
    input: z.object({
      agent: agentName.describe("The agent's name, e.g. researcher"),
      task: z
        .string()
        .min(1)
        .max(TASK_LENGTH)
        .refine((text) => text.trim() !== '' && text.isWellFormed(), 'the task is no text'),
      context: z.string().max(TASK_LENGTH).optional().describe('What it needs to know beside the task'),
    }),
    readOnly: false,
    // The agent's own time limit holds, and the turn's.
    timeoutMs: null,

    async run({ agent: name, task, context: background }, context) {
      const { bus, store, owner, conversationId, turnId, signal, meta } = context;
      // After a restart it goes on with what it began, whatever became of the agent.
      let child = await runBegunBy(store, meta.commandId);
      if (child === null) {
        if ((await depthOf(store, { conversationId, turnId })) >= MAX_DEPTH) {
          throw new Error(`Tasks are handed on at most ${MAX_DEPTH} times: do this one yourself.`);
        }
        await context.settled();
        const agent = await found(agents, asOwner(owner), name);
        signal.throwIfAborted();
        const run = agents.runOf(agent, { trigger: 'agent', parent: { conversationId, turnId } });
        const instructions = background ? `What you need to know for this task:\n${background}` : null;
        child = await beginRun(bus, { owner, agent, run, task, instructions }, meta);
        // It was cancelled while this was under way, and then found nothing to cancel.
        if (signal.aborted && signal.reason !== 'shutdown') await stopRun(child, context);
      }
      const { type, data } = await context.lend(() => endOf(store, child, signal));
      return {
        execution_id: child.turnId,
        agent: name,
        status: statuses[type],
        response: data.content,
        ...(type === 'TurnFailed' && { error: data.reason }),
        cost_usd: data.costUsd,
      };
    },

    async cancel(context) {
      const child = await runBegunBy(context.store, context.meta.commandId);
      if (child !== null) await stopRun(child, context);
    },
  });

/** @throws Error that names those that there are */
async function found(agents: AgentsToRun, caller: Caller, name: string): Promise<AgentDocument> {
  try {
    return await agents.find(caller, name);
  } catch (error) {
    if (!(error instanceof Refusal && error.code === 'NOT_FOUND')) throw error;
    const others = await agents.list(caller, { limit: LISTED, offset: 0 });
    const names = [...new Set(others.map((agent) => agent.name))];
    throw new Error(`There is no agent "${name}". There are: ${names.join(', ')}.`);
  }
}

async function stopRun({ conversationId, turnId }: Turn, { bus, meta }: ToolContext): Promise<void> {
  const commandId = `${meta.commandId}/cancel`;
  await bus.dispatch(requestInterrupt, { conversationId, turnId }, { ...meta, commandId, retried: false });
}

/** How many times the turn's task was handed on before. */
async function depthOf(store: EventStore, turn: Turn): Promise<number> {
  let depth = 0;
  for (let at: Turn | null = turn; at !== null && depth < MAX_DEPTH; ) {
    at = await parentOf(store, at);
    if (at !== null) depth++;
  }
  return depth;
}

async function parentOf(store: EventStore, { conversationId, turnId }: Turn): Promise<Turn | null> {
  for await (const page of store.readStream(`conversation-${conversationId}`, { direction: 'backwards' })) {
    for (const event of page) {
      if (!isConversationEvent(event) || event.type !== 'MessageSent') continue;
      if (event.data.turnId === turnId) return event.data.run?.parent ?? null;
    }
  }
  return null;
}

/** @throws the signal's reason when it is aborted before */
async function endOf(
  store: EventStore,
  { conversationId, turnId, position }: BegunRun,
  signal: AbortSignal,
): Promise<TurnEnd> {
  const filter = { stream: `conversation-${conversationId}`, types: Object.keys(statuses) };
  for await (const page of store.subscribe({ after: position, filter, signal })) {
    const end = (page.events as TurnEnd[]).find((event) => event.data.turnId === turnId);
    if (end !== undefined) return end;
  }
  signal.throwIfAborted();
  throw new Error('The subscription of the log ended.');
}

/** The agents that the user may use are those that the user's turns may. */
const asOwner = (owner: string): Caller => ({
  userId: owner,
  email: '',
  displayName: '',
  role: 'user',
  actor: { kind: 'user', id: owner },
  permissions: new Set(),
  sessionId: null,
  expiresAtMs: null,
});
