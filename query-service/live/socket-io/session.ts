/** One client of Agent Chat's Socket.IO: what it asks for, one event after the other, and what it is subscribed to. */
import { createHash, randomUUID } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Socket } from 'socket.io';
import type { z } from 'zod';
import { type Caller, sees } from '../../../contracts/caller.ts';
import {
  type ChatCommands,
  type Issuer,
  conversationId as idOfConversation,
} from '../../../contracts/commands/conversation.ts';
import type { Position } from '../../../contracts/envelope.ts';
import { Refusal, refuse } from '../../../contracts/errors.ts';
import type { RateLimitClass } from '../../../contracts/http/route.ts';
import {
  type ClientEvent,
  type ClientEventName,
  clientEvents,
  type ErrorEvent,
  type Seq,
  type ServerEvent,
  type ServerEventName,
} from '../../../contracts/live/socket-io.ts';
import type { ConversationDocument } from '../../../contracts/read-models/documents.ts';
import type { ReadModels } from '../../../infra/read-models/port.ts';
import type { Logger } from '../../../infra/telemetry/port.ts';
import type { Cursor } from '../cursor.ts';
import { formatCursor } from '../cursor.ts';
import { conversationFeed, type Feed, resyncOf, type Start } from '../feed.ts';
import type { Hub, Subscription } from '../hub.ts';
import type { Logins } from '../logins.ts';
import type { ProgressFeeds } from '../progress.ts';
import { fromNow } from '../zerg.ts';
import { type AnswerId, answers, packet, socketIo, subscriptionName, wholeAnswer } from './formats.ts';
import { createOutbox, cut, type SubscriptionSink } from './outbox.ts';
import { type Found, voiceCommand } from './voice.ts';

export interface SessionOptions {
  readonly hub: Hub;
  readonly logins: Logins;
  readonly readModels: ReadModels;
  readonly commands: ChatCommands;
  /** Waits, bounded, until the read models show everything up to the position. */
  readonly settled: (position: Position) => Promise<unknown>;
  readonly logger: Logger;
  /** The message id of a turn's answer. */
  readonly answerId: AnswerId;
  /** A failure in Agent Chat's words; what is none of the client's business is masked. */
  readonly describe: (error: unknown, correlationId: string) => ErrorEvent;
  /** @throws Refusal RATE_LIMIT_EXCEEDED */
  readonly limit: (kind: RateLimitClass, caller: Caller, address: string) => Promise<void>;
  readonly resume: (id: string | undefined, begin: Cursor) => Promise<Start>;
  readonly progress: Pick<ProgressFeeds, 'feed'>;
  /** The caller's messages that fit best, those first. @throws Refusal */
  readonly search: (query: string, caller: Caller) => Promise<readonly Found[]>;
}

const MAX_SUBSCRIPTIONS = 100;
/** Who sends more in a row that is refused is not listening. */
const REFUSED_IN_A_ROW = 100;
/** Events of one client that wait here, and answers that wait for it. */
const MOST_WAITING = 256;
const MOST_UNREAD = 10_000;

type Ack = (answer: object) => void;
interface Subscribed {
  /** Who must see it; null: it shows only what the caller sees. */
  readonly owner: string | null;
  readonly subscription: Subscription;
  readonly sink: SubscriptionSink;
}

/** Serves the client until either side ends it. `resumed`: what it had been subscribed to. */
export function serveClient(
  socket: Socket,
  address: string,
  begin: { readonly caller: Caller; readonly resumed: readonly Seq[] },
  options: SessionOptions,
): void {
  const { hub, readModels, commands, logger } = options;
  const connection = socket.conn;
  const outbox = createOutbox(connection);
  const subscriptions = new Map<string, Subscribed>();
  const gone = new AbortController();
  let current: string | null = null;

  const may = (caller: Caller) =>
    caller.permissions.has('chat:read') &&
    [...subscriptions.values()].every(({ owner }) => owner === null || sees(caller, owner));
  const login = options.logins.watch(begin.caller, { may, end: expel });
  socket.on('disconnect', () => {
    gone.abort();
    login.forget();
    for (const { subscription } of subscriptions.values()) subscription.end();
  });

  // ── what comes in ───────────────────────────────────────────────────────
  let waiting = 0;
  let refused = 0;
  let handled: Promise<void> = Promise.all(begin.resumed.map(resume)).then(() => {});
  // The name may be a number, or not be there.
  socket.onAny((name: unknown, ...args: unknown[]) => {
    const last = args.at(-1);
    const ack = typeof last === 'function' ? (last as Ack) : null;
    if (ack !== null) args.pop();
    if (++waiting > MOST_WAITING || outbox.unread() > MOST_UNREAD) {
      logger.info({ waiting }, 'A client of Socket.IO sends more than it can be answered: it is cut off.');
      cut(connection);
      return;
    }
    handled = handled.then(async () => {
      await nextTurn();
      if (!gone.signal.aborted) await receive(String(name ?? ''), args, ack);
      waiting--;
    });
  });

  async function receive(name: string, args: readonly unknown[], ack: Ack | null): Promise<void> {
    const correlationId = randomUUID();
    try {
      const caller = await login.check();
      if (caller === null) return;
      const answer = await handlers.take(name, args, { caller, correlationId });
      refused = 0;
      ack?.({ ok: true, ...answer });
    } catch (error) {
      report(error, correlationId, ack);
    }
  }

  function report(error: unknown, correlationId: string, ack: Ack | null = null): void {
    const described = options.describe(error, correlationId);
    if (!(error instanceof Refusal))
      logger.error({ err: error, correlationId }, 'An event of Socket.IO failed.');
    emit('error_event', described);
    ack?.({ ok: false, ...described });
    if (++refused >= REFUSED_IN_A_ROW) socket.disconnect(true);
  }

  function emit<Name extends ServerEventName>(name: Name, data: ServerEvent<Name>): void {
    outbox.write([Buffer.from(packet(name, data))]);
  }

  function expel(): void {
    const ended = new Refusal('UNAUTHORIZED', 'The login is no longer valid: log in again.');
    emit('error_event', options.describe(ended, randomUUID()));
    socket.disconnect(true);
  }

  // ── what is asked for ───────────────────────────────────────────────────
  interface Asked {
    readonly caller: Caller;
    readonly correlationId: string;
  }
  type Handle<Name extends ClientEventName> = (event: ClientEvent<Name>, asked: Asked) => Promise<object>;

  const table: { readonly [Name in ClientEventName]: Handle<Name> } = {
    async chat_message({ conversation_id, message, model, stream, id }, asked) {
      await options.limit('chat', asked.caller, address);
      const conversationId = conversation_id ?? (await startConversation(null, id, asked)).id;
      const { turn, ...sent } = await send(
        { conversationId, content: message, model: model ?? null, stream, id },
        asked,
      );
      return sent;
    },

    async voice_command({ transcription, confidence, session_id, id }, asked) {
      await options.limit('chat', asked.caller, address);
      const { caller } = asked;
      const feedback = await voiceCommand(
        { transcription, confidence, sessionId: session_id ?? current },
        {
          start: async (title) => (await startConversation(title, id, asked)).id,
          conversations: async () => {
            const { documents } = await readModels.find<ConversationDocument>('conversations', {
              where: { owner: caller.userId, kind: 'chat', archived: false },
              orderBy: { field: 'position', direction: 'descending' },
              limit: 5,
            });
            const where = { owner: caller.userId, kind: 'chat', archived: false };
            return {
              latest: documents.map(({ body }) => body),
              total: await readModels.count('conversations', where),
            };
          },
          search: (query) => options.search(query, caller),
          interrupt: async (conversationId) => {
            const issuer = issuerOf('voice_command', id, asked);
            return (await commands.interrupt({ conversationId, turnId: null }, issuer)).turnId !== null;
          },
          async send(conversationId, content) {
            const { turn } = await send({ conversationId, content, model: null, stream: true, id }, asked);
            void speak(turn);
          },
        },
      );
      current = feedback.session_id ?? current;
      emit('voice_feedback', feedback);
      return feedback;
    },

    async subscribe(event, { caller }) {
      const { lastSeq } = event;
      const of = subscribedTo(event);
      if (lastSeq !== undefined && subscriptionName(lastSeq) !== subscriptionName(of)) {
        throw invalid('lastSeq', 'lastSeq belongs to another subscription');
      }
      const cursor = await subscribe(of, lastSeq?.frame, caller);
      return { ...targetOf(event), seq: `${formatCursor(cursor)}@${subscriptionName(of)}` };
    },

    async unsubscribe(event) {
      const name = subscriptionName(subscribedTo(event));
      const found = subscriptions.get(name);
      found?.subscription.end();
      return { ...targetOf(event), subscribed: false };
    },

    async interrupt({ conversation_id, turn_id, id }, asked) {
      await options.limit('chat', asked.caller, address);
      const conversationId = existingId(conversation_id);
      const issuer = issuerOf('interrupt', id, asked);
      const { turnId } = await commands.interrupt({ conversationId, turnId: turn_id ?? null }, issuer);
      return { conversation_id: conversationId, turn_id: turnId };
    },
  };
  const handlers = {
    async take(name: string, args: readonly unknown[], asked: Asked): Promise<object> {
      if (!Object.hasOwn(table, name)) {
        throw new Refusal('VALIDATION_ERROR', `There is no event ${JSON.stringify(name.slice(0, 100))}.`, {
          issues: [{ path: ['event'], message: `is one of ${Object.keys(table).join(', ')}` }],
        });
      }
      const known = name as ClientEventName;
      const event = parse(clientEvents[known], args[0]);
      return (table[known] as Handle<ClientEventName>)(event as never, asked);
    },
  };

  // ── conversations ───────────────────────────────────────────────────────
  function issuerOf(command: string, id: string | undefined, { caller, correlationId }: Asked): Issuer {
    if (!caller.permissions.has('chat:write')) refuse('FORBIDDEN', 'This needs the permission chat:write.');
    const commandId =
      id === undefined
        ? randomUUID()
        : createHash('sha256')
            .update(JSON.stringify(['socket.io', caller.userId, command, id]))
            .digest('hex');
    return { caller, commandId, correlationId, surface: 'agent-chat', retried: id !== undefined };
  }

  async function startConversation(title: string | null, id: string | undefined, asked: Asked) {
    const { conversation, position } = await commands.startConversation(
      { title },
      issuerOf('start conversation', id, asked),
    );
    await options.settled(position);
    return conversation;
  }

  async function ownConversation(caller: Caller, id: string): Promise<ConversationDocument> {
    const found = await readModels.get<ConversationDocument>('conversations', existingId(id));
    if (found === null || !sees(caller, found.body.owner)) refuse('NOT_FOUND', 'Conversation not found.');
    return found.body;
  }

  interface Sending {
    readonly conversationId: string;
    readonly content: string;
    readonly model: string | null;
    readonly stream: boolean;
    readonly id: string | undefined;
  }
  async function send({ stream, id, ...message }: Sending, asked: Asked) {
    const conversationId = existingId(message.conversationId);
    const issuer = issuerOf('chat_message', id, asked);
    const of = { kind: 'conversation', id: conversationId } as const;
    const subscribed = subscriptions.get(subscriptionName(of));
    // Where it is subscribed to all pieces of all answers, those of this one are left out.
    if (!stream) subscribed?.sink.hold();
    let answered: string | null = null;
    try {
      const sent = await commands.sendMessage({ ...message, conversationId }, issuer);
      const { messageId, turnId, position } = sent;
      answered = options.answerId(turnId);
      current = conversationId;
      const { userId } = asked.caller;
      if (!stream) {
        const feed = conversationFeed(
          wholeAnswer(conversationId),
          socketIo(subscriptionName(of)),
          conversationId,
          {
            turnId,
          },
        );
        open(`answer:${turnId}`, feed, { cursor: { position, read: null }, resync: null }, userId);
      } else if (subscribed === undefined) {
        open(
          subscriptionName(of),
          answersOf(conversationId),
          { cursor: fromNow(position), resync: null },
          userId,
        );
      }
      return {
        conversation_id: conversationId,
        message_id: messageId,
        turn_id: turnId,
        /** The `message_id` of the answer's events. */
        answer_id: answered,
        /** Where the answer begins. */
        seq: `${position}@${subscriptionName(of)}`,
        turn: { conversationId, turnId, after: position },
      };
    } finally {
      if (!stream) subscribed?.sink.release(answered);
    }
  }

  /** Says the answer to a spoken message when it is there. */
  async function speak({ conversationId, ...turn }: Awaited<ReturnType<typeof send>>['turn']): Promise<void> {
    const stream = `conversation-${conversationId}`;
    try {
      const end = await hub.turnEnded({ stream, ...turn }, gone.signal);
      const speech =
        end.type === 'TurnFailed' ? 'I could not answer that. Please try again.' : end.data.content;
      emit('voice_feedback', { speech, action: 'message_answered', session_id: conversationId });
    } catch (error) {
      // The client has gone, or this process shuts down: either way nobody listens.
      if (!gone.signal.aborted && !(error instanceof Refusal)) report(error, randomUUID());
    }
  }

  // ── subscriptions ───────────────────────────────────────────────────────
  const answersOf = (conversationId: string): Feed =>
    conversationFeed(
      answers(conversationId, options.answerId),
      socketIo(subscriptionName({ kind: 'conversation', id: conversationId })),
      conversationId,
      null,
    );

  /** @returns where it begins. To be subscribed twice is to be subscribed once. */
  async function subscribe(
    of: Omit<Seq, 'frame'>,
    frame: string | undefined,
    caller: Caller,
  ): Promise<Cursor> {
    const name = subscriptionName(of);
    const now = fromNow(hub.position());
    if (subscriptions.has(name)) return now;
    if (of.kind === 'conversation') {
      const { owner } = await ownConversation(caller, of.id);
      const start = await options.resume(frame, now);
      open(name, answersOf(of.id), start, owner);
      return start.cursor;
    }
    const start = await options.resume(frame, { position: now.position, read: null });
    open(name, await options.progress.feed(of, caller, start.cursor.position, socketIo(name)), start, null);
    return start.cursor;
  }

  /** `owner` null: the feed itself shows nothing that the caller does not see. */
  function open(name: string, feed: Feed, start: Start, owner: string | null): void {
    if (subscriptions.has(name) || gone.signal.aborted) return;
    if (subscriptions.size >= MAX_SUBSCRIPTIONS) {
      refuse(
        'CONFLICT',
        `A connection has at most ${MAX_SUBSCRIPTIONS} subscriptions: unsubscribe from one.`,
      );
    }
    const sink = outbox.sink();
    const resync = resyncOf(feed, start);
    if (resync !== '') sink.write([Buffer.from(resync)]);
    const subscription = hub.subscribe(feed, start.cursor, sink);
    subscriptions.set(name, { owner, subscription, sink });
    sink.onClose(() => subscriptions.delete(name));
  }

  async function resume({ frame, ...of }: Seq): Promise<void> {
    try {
      await subscribe(of, frame, begin.caller);
    } catch (error) {
      report(error, randomUUID());
    }
  }
}

/** @throws Refusal NOT_FOUND */
function existingId(id: string): string {
  if (!idOfConversation.safeParse(id).success) refuse('NOT_FOUND', 'Conversation not found.');
  return id;
}

type Target = Pick<ClientEvent<'unsubscribe'>, 'type' | 'conversation_id' | 'agent_id' | 'orchestration_id'>;

function subscribedTo({ type, conversation_id, agent_id, orchestration_id }: Target): Omit<Seq, 'frame'> {
  if (type === 'conversation') return { kind: 'conversation', id: conversation_id! };
  if (orchestration_id !== undefined) return { kind: 'orchestration', id: orchestration_id };
  return agent_id === undefined ? { kind: 'agents', id: '' } : { kind: 'agent', id: agent_id };
}

const targetOf = ({ type, conversation_id, agent_id, orchestration_id }: Target): object => ({
  type,
  ...(conversation_id !== undefined && { conversation_id }),
  ...(agent_id !== undefined && { agent_id }),
  ...(orchestration_id !== undefined && { orchestration_id }),
});

/** @throws Refusal VALIDATION_ERROR that names the fields */
export function parse<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map(({ path, message }) => ({ path: path.map(String), message }));
  throw new Refusal('VALIDATION_ERROR', 'The event is not valid.', { issues });
}

const invalid = (field: string, message: string): Refusal =>
  new Refusal('VALIDATION_ERROR', `${message}.`, { issues: [{ path: [field], message }] });
