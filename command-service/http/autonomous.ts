/** The Council's commands in Luna Chat's words: sessions, and the members of a user's Council. */
import { setTimeout as delay } from 'node:timers/promises';
import { MAX_TOPIC } from '../../contracts/commands/deliberation.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import { memberName } from '../../contracts/events/deliberation.ts';
import * as routes from '../../contracts/http/autonomous.ts';
import type {
  ConversationDocument,
  CouncilDocument,
  DeliberationDocument,
  FactDocument,
  MessageDocument,
  UserDocument,
} from '../../contracts/read-models/documents.ts';
import type { SignalBus } from '../../infra/bus/port.ts';
import { callerOf, type Endpoint, endpoint, type RequestContext } from '../../infra/http/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import type { CommandBus } from '../command.ts';
import {
  changeMember,
  council,
  endSession,
  membersOf,
  removeMember,
  requestSessionStop,
  resetCouncil,
  sessionIdFor,
  startSession,
} from '../domain/council.ts';
import {
  deliberation,
  deliberationIdFor,
  openDeliberation,
  requestDeliberationStop,
} from '../domain/deliberation.ts';
import { requestMeta } from './conversations.ts';

export interface AutonomousCommandDependencies {
  readonly bus: CommandBus;
  readonly readModels: Pick<ReadModels, 'get' | 'find'>;
  readonly signals: SignalBus;
  readonly now: () => Date;
}

/** How long a stop waits for the session's worker to end it, and how often it looks. */
const STOPPED_MS = 2_000;
const LOOK_AGAIN_MS = 20;
/** A session whose deliberation has still not been opened after so long never will be: whoever began it was killed. */
const OPENED_MS = 10_000;

export function autonomousCommandEndpoints(deps: AutonomousCommandDependencies): Endpoint[] {
  const { bus, readModels, signals, now } = deps;

  /** Ends a session that nobody will end any more; true when there was one. */
  async function endForgotten(owner: string, context: RequestContext): Promise<boolean> {
    const { session } = (await bus.load(council, owner)).state;
    if (session === null) return false;
    const { status } = (await bus.load(deliberation, session.deliberationId)).state;
    const forgotten =
      status === 'ended' ||
      (status === 'none' && now().getTime() - Date.parse(session.startedAt) > OPENED_MS);
    if (!forgotten) return false;
    const outcome = status === 'ended' ? 'stopped' : 'failed';
    await bus.dispatch(endSession, { owner, sessionId: session.sessionId, outcome }, requestMeta(context));
    return true;
  }

  async function sessionShown(deliberationId: string): Promise<routes.LunaAutonomousSession> {
    const found = await readModels.get<DeliberationDocument>('deliberations', deliberationId);
    if (found === null || !routes.isSession(found.body)) {
      refuse('SERVICE_UNAVAILABLE', 'It is recorded, but cannot be shown yet: read it later.');
    }
    return routes.renderAutonomousSession(found.body);
  }

  const memberShown = async (owner: string, name: string): Promise<routes.LunaCouncilMember> => {
    const { state } = await bus.load(council, owner);
    const member = state.members.find((one) => one.name === name)!;
    const stored = await readModels.get<CouncilDocument>('councils', owner);
    const createdAt = stored?.body.members.find((one) => one.name === name)?.createdAt ?? null;
    return routes.renderMember({ ...member, createdAt }, await sinceOf(owner));
  };
  /** When the ready-made members were there: as long as their user. */
  const sinceOf = async (owner: string): Promise<string> =>
    (await readModels.get<UserDocument>('users', owner))?.body.createdAt ?? new Date(0).toISOString();

  async function change(
    name: string,
    given: routes.MemberChanges,
    create: boolean,
    context: RequestContext,
  ): Promise<void> {
    const owner = callerOf(context).userId;
    const { displayName, personality, avatarEmoji, color, role } = given;
    const { functionDescription, systemPrompt, loopOrder, isActive } = given;
    const changes = Object.fromEntries(
      Object.entries({
        ...{ displayName, personality, avatarEmoji, color },
        role: role ?? functionDescription,
        instructions: systemPrompt,
        order: loopOrder,
        active: isActive,
      }).filter(([, value]) => value !== undefined),
    );
    const input = { owner, name, changes, create };
    const { position } = await bus.dispatch(changeMember, input, requestMeta(context));
    if (position !== null) context.reached(position);
    await context.settled();
  }

  return [
    endpoint(routes.startAutonomous, async ({ body, context }) => {
      const owner = callerOf(context).userId;
      const meta = requestMeta(context);
      const { taskDescription, sessionMode: mode, material: given, maxLoops, maxToolUses } = body;
      const subject =
        taskDescription === undefined
          ? await ownSubject(readModels, owner)
          : { topic: taskDescription, material: [] };
      if (subject === null) {
        refuse(
          'VALIDATION_ERROR',
          'There is no conversation and no fact to deliberate on yet: say in taskDescription what it is about.',
        );
      }
      const sessionId = sessionIdFor(context.commandId);
      const deliberationId = deliberationIdFor(context.commandId);
      const { topic } = subject;
      const session = { owner, sessionId, deliberationId, task: topic, mode };
      try {
        await bus.dispatch(startSession, session, meta);
      } catch (error) {
        if (!(error instanceof Refusal) || !(await endForgotten(owner, context))) throw error;
        await bus.dispatch(startSession, session, meta);
      }
      const { position } = await bus.dispatch(
        openDeliberation,
        {
          ...{ deliberationId, owner, topic, purpose: 'autonomous', maxLoops, maxToolUses, sessionId, mode },
          material: [...given, ...subject.material].map(({ title, text }, index) => ({
            id: `m${index + 1}`,
            title: title === '' ? `Material ${index + 1}` : title,
            text,
            tool: null,
          })),
          members: await membersOf(bus, owner),
        },
        meta,
      );
      if (position !== null) context.reached(position);
      await context.settled();
      return { status: 200, body: { success: true, session: await sessionShown(deliberationId) } };
    }),

    endpoint(routes.stopAutonomous, async ({ context }) => {
      const owner = callerOf(context).userId;
      await endForgotten(owner, context);
      const { session } = (await bus.load(council, owner)).state;
      if (session === null) refuse('VALIDATION_ERROR', 'No session is active.');
      const { sessionId, deliberationId } = session;
      const meta = requestMeta(context);
      const { state, position } = await bus.dispatch(
        requestDeliberationStop,
        { deliberationId, at: now().toISOString() },
        meta,
      );
      if (position !== null) context.reached(position);
      const ended =
        state.status === 'ended'
          ? await bus.dispatch(endSession, { owner, sessionId, outcome: 'stopped' }, meta)
          : await bus.dispatch(requestSessionStop, { owner, sessionId }, meta);
      if (ended.position !== null) context.reached(ended.position);
      // The worker follows the log as well; the signal only saves it the way through the subscription.
      const stream = `${deliberation.category}-${deliberationId}`;
      if (state.worker !== null) signals.publish({ kind: 'interrupt', stream, workId: deliberationId });
      const deadline = performance.now() + STOPPED_MS;
      for (;;) {
        await context.settled();
        const shown = await sessionShown(deliberationId);
        const over = shown.status !== 'active' && shown.status !== 'paused';
        if (over || performance.now() > deadline || context.signal.aborted) {
          return { status: 200, body: { success: true, session: shown } };
        }
        await delay(LOOK_AGAIN_MS);
      }
    }),

    endpoint(routes.putMember, async ({ params: { name }, body, context }) => {
      const parsed = memberName.safeParse(name);
      if (!parsed.success) {
        const message = parsed.error.issues[0]!.message;
        throw new Refusal('VALIDATION_ERROR', message, { issues: [{ path: ['params', 'name'], message }] });
      }
      const owner = callerOf(context).userId;
      const { members } = (await bus.load(council, owner)).state;
      const status = members.some((member) => member.name === name) ? 200 : 201;
      await change(name, body, true, context);
      return { status, body: await memberShown(owner, name) };
    }),

    endpoint(routes.patchMember, async ({ params, body, context }) => {
      const name = existing(params.name);
      await change(name, body, false, context);
      return { status: 200, body: await memberShown(callerOf(context).userId, name) };
    }),

    endpoint(routes.deleteMember, async ({ params, context }) => {
      const input = { owner: callerOf(context).userId, name: existing(params.name) };
      const { position } = await bus.dispatch(removeMember, input, requestMeta(context));
      if (position !== null) context.reached(position);
      return { status: 200, body: { success: true } };
    }),

    endpoint(routes.resetCouncilRoute, async ({ body, context }) => {
      const owner = callerOf(context).userId;
      const input = { owner, name: body?.name ?? null };
      const { state, position } = await bus.dispatch(resetCouncil, input, requestMeta(context));
      if (position !== null) context.reached(position);
      await context.settled();
      const names = [...state.members].sort((a, b) => a.order - b.order).map(({ name }) => name);
      return {
        status: 200,
        body: { council: await Promise.all(names.map((name) => memberShown(owner, name))) },
      };
    }),
  ];
}

/** @throws Refusal NOT_FOUND for what no member can be called */
function existing(name: string): string {
  if (!memberName.safeParse(name).success) refuse('NOT_FOUND', 'The council has no such member.');
  return name;
}

interface Subject {
  readonly topic: string;
  readonly material: readonly { readonly title: string; readonly text: string }[];
}

/** So many conversations are looked through for one in which something was said, and so much of it is taken. */
const CONVERSATIONS = 10;
const MESSAGES = 10;
const FACTS = 50;
const MESSAGE_TEXT = 8_000;

/** What the user was last busy with: the latest conversation, or else what is known about them. */
async function ownSubject(readModels: Pick<ReadModels, 'find'>, owner: string): Promise<Subject | null> {
  const conversations = await readModels.find<ConversationDocument>('conversations', {
    where: { owner, kind: 'chat' },
    orderBy: { field: 'position', direction: 'descending' },
    limit: CONVERSATIONS,
  });
  for (const { body: conversation } of conversations.documents) {
    const { documents } = await readModels.find<MessageDocument>('messages', {
      where: { conversationId: conversation.id },
      orderBy: { field: 'revision', direction: 'descending' },
      limit: MESSAGES,
    });
    const messages = documents.map(({ body }) => body).filter(({ content }) => content.trim() !== '');
    const asked = messages.find(({ role }) => role === 'user');
    if (asked === undefined) continue;
    const title = conversation.title ?? 'Conversation';
    return {
      topic: cut(asked.content.trim(), MAX_TOPIC),
      material: messages
        .filter((message) => message !== asked)
        .reverse()
        .map(({ role, content }) => ({
          title: cut(`${title}: ${role}`, 200),
          text: cut(content, MESSAGE_TEXT),
        })),
    };
  }
  const facts = await readModels.find<FactDocument>('facts', {
    where: { owner },
    orderBy: { field: 'position', direction: 'descending' },
    limit: FACTS,
  });
  if (facts.documents.length === 0) return null;
  const lines = facts.documents.map(({ body }) => `${body.key}: ${body.value}`);
  return {
    topic: `What follows from what is known about you? Most recently: ${cut(lines[0]!, 500)}`,
    material: [{ title: 'What is known', text: cut(lines.join('\n'), MESSAGE_TEXT) }],
  };
}

const cut = (text: string, maximum: number): string => text.slice(0, maximum).toWellFormed();
