/** The chat commands: for transports that carry both directions (WebSocket, Socket.IO, GraphQL), and for routes. */
import { sees } from '../contracts/caller.ts';
import type {
  ChatCommands,
  Issuer,
  NewConversation,
  NewMessage,
} from '../contracts/commands/conversation.ts';
import type { Position } from '../contracts/envelope.ts';
import { Refusal, refuse } from '../contracts/errors.ts';
import type { OdeonEvent } from '../contracts/events/catalogue.ts';
import type { Run } from '../contracts/events/conversation.ts';
import type { Agents } from '../contracts/read-models/agents.ts';
import { newConversation } from '../contracts/read-models/conversation.ts';
import type { AgentDocument, ConversationDocument } from '../contracts/read-models/documents.ts';
import type { SignalBus } from '../infra/bus/port.ts';
import type { EventStore } from '../infra/event-store/port.ts';
import type { CommandBus, CommandMeta } from './command.ts';
import {
  changeConversation,
  conversation,
  conversationIdFor,
  deleteConversation,
  messageIdFor,
  requestInterrupt,
  sendMessage,
  startConversation,
  turnIdFor,
} from './domain/conversation.ts';

/** A command that a request from outside began. */
export const metaOf = (issuer: Issuer): CommandMeta => ({
  commandId: issuer.commandId,
  correlationId: issuer.correlationId,
  causationId: issuer.causationId ?? null,
  surface: issuer.surface,
  actor: issuer.caller.actor,
  caller: issuer.caller,
  retried: issuer.retried,
});

/** 48 bits may meet an id that is taken; to do so again and again they cannot. */
const MAX_IDS = 5;

/**
 * Begins a conversation of the issuer's.
 * @returns it as it is now, and the position of its start
 * @throws Refusal
 */
export const beginConversation = (
  bus: CommandBus,
  input: NewConversation,
  issuer: Issuer,
): Promise<{ conversation: ConversationDocument; position: Position }> =>
  begin(bus, input, issuer.caller.userId, metaOf(issuer));

async function begin(
  bus: CommandBus,
  {
    title = null,
    mode = 'assistant',
    model = null,
    kind = 'chat',
    agent = null,
    linkId = null,
  }: NewConversation,
  owner: string,
  meta: CommandMeta,
): Promise<{ conversation: ConversationDocument; position: Position }> {
  for (let salt = 0; ; salt++) {
    const conversationId = conversationIdFor(meta.commandId, salt);
    try {
      const { events } = await bus.dispatch(
        startConversation,
        { conversationId, owner, title, mode, model, kind, agent, linkId },
        meta,
      );
      const started = events[0] as OdeonEvent<'ConversationStarted'>;
      return { conversation: newConversation(started), position: started.position };
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== 'CONFLICT' || salt === MAX_IDS) throw error;
    }
  }
}

export interface NewRun {
  readonly owner: string;
  readonly agent: AgentDocument;
  /** As `Agents.runOf` makes it. */
  readonly run: Run;
  readonly task: string;
  readonly instructions?: string | null;
}

export interface BegunRun {
  readonly conversationId: string;
  /** Of the run. */
  readonly turnId: string;
  /** Of the message that asks for it. */
  readonly position: Position;
}

/**
 * Asks for a run of an agent in a conversation of its own. Of several tries of a command (`meta.retried` but for the
 * first) all get the same run.
 * @throws Refusal
 */
export async function beginRun(
  bus: CommandBus,
  { owner, agent: { id, name, model }, run, task, instructions = null }: NewRun,
  meta: CommandMeta,
): Promise<BegunRun> {
  const { conversation: begun } = await begin(bus, { kind: 'run', agent: { id, name } }, owner, meta);
  const turnId = turnIdFor(meta.commandId);
  const message = {
    conversationId: begun.id,
    messageId: messageIdFor(meta.commandId),
    turnId,
    content: task,
  };
  const { events } = await bus.dispatch(
    sendMessage,
    { ...message, model, instructions, run, prompt: null },
    meta,
  );
  return { conversationId: begun.id, turnId, position: events[0]!.position };
}

/** What `beginRun` began under the command id; null when it did not, or not to the end. */
export async function runBegunBy(
  store: Pick<EventStore, 'readStream'>,
  commandId: string,
): Promise<BegunRun | null> {
  const turnId = turnIdFor(commandId);
  for (let salt = 0; salt <= MAX_IDS; salt++) {
    const conversationId = conversationIdFor(commandId, salt);
    let isTaken = false;
    for await (const page of store.readStream(`${conversation.category}-${conversationId}`)) {
      isTaken ||= page[0]?.revision === 0 && page[0].commandId !== commandId;
      if (isTaken) break;
      const asked = page.find((event) => event.type === 'MessageSent' && event.commandId === commandId);
      if (asked !== undefined) return { conversationId, turnId, position: asked.position };
    }
    if (!isTaken) return null;
  }
  return null;
}

const AGENT = 'agent:';
/** The agent's name in `agent:<name>`; null for what names a model or a route, and for none. */
export const agentIn = (model: string | null): string | null =>
  model?.startsWith(AGENT) ? model.slice(AGENT.length) : null;

/** @param agents finds the agents that `agent:<name>` and conversations name */
export function createChatCommands(
  bus: CommandBus,
  signals: SignalBus,
  agents: Pick<Agents, 'find' | 'get' | 'runOf'>,
): ChatCommands {
  /** The model and the run that a message is sent with. @throws Refusal NOT_FOUND when its agent is gone */
  async function answering(
    { conversationId, model, run = null }: NewMessage,
    { caller }: Issuer,
  ): Promise<{ model: string | null; run: Run | null }> {
    const name = agentIn(model);
    if (run !== null) {
      if (name !== null) refuse('VALIDATION_ERROR', 'model: the run names its agent already.');
      return { model, run };
    }
    const { state } = await bus.load(conversation, conversationId);
    // What may not be seen is refused by the command, whatever it names.
    if (state.status === 'none' || state.status === 'deleted' || !sees(caller, state.owner)) {
      return { model: null, run: null };
    }
    if (name === null && (model !== null || state.agent === null)) return { model, run: null };
    const agent = name === null ? await agents.get(caller, state.agent!.id) : await agents.find(caller, name);
    return { model: agent.model, run: agents.runOf(agent, { trigger: 'chat' }) };
  }

  return {
    async startConversation(input, issuer) {
      const name = agentIn(input.model ?? null);
      if (name === null) return beginConversation(bus, input, issuer);
      const { id, name: known } = await agents.find(issuer.caller, name);
      return beginConversation(bus, { ...input, model: null, agent: { id, name: known } }, issuer);
    },

    async sendMessage(input, issuer) {
      const { conversationId, content, instructions = null, prompt = null } = input;
      const messageId = messageIdFor(issuer.commandId);
      const turnId = turnIdFor(issuer.commandId);
      const { events, state } = await bus.dispatch(
        sendMessage,
        {
          conversationId,
          messageId,
          turnId,
          content,
          instructions,
          prompt,
          ...(await answering(input, issuer)),
        },
        metaOf(issuer),
      );
      return { messageId, turnId, position: events[0]!.position, waiting: state.waiting.length };
    },

    async interrupt({ conversationId, turnId }, issuer) {
      const { events, position, state } = await bus.dispatch(
        requestInterrupt,
        { conversationId, turnId },
        metaOf(issuer),
      );
      const interrupted = events.length > 0 ? (turnId ?? state.running?.turnId ?? null) : null;
      if (interrupted !== null) {
        // The worker follows the log as well; the signal only saves it the way through the subscription.
        const stream = `${conversation.category}-${conversationId}`;
        signals.publish({ kind: 'interrupt', stream, workId: interrupted });
      }
      return { turnId: interrupted, position };
    },

    async renameConversation({ conversationId, title }, issuer) {
      const { position } = await bus.dispatch(changeConversation, { conversationId, title }, metaOf(issuer));
      return { position };
    },

    async deleteConversation({ conversationId }, issuer) {
      const { position } = await bus.dispatch(deleteConversation, { conversationId }, metaOf(issuer));
      return { position };
    },
  };
}
