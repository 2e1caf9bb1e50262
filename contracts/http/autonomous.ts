/**
 * The Council in Luna Chat's words (api-notes A2.6): sessions in which it deliberates on a user's topic, its members,
 * and the records of deliberations, judgements among them. The theater's frames are in contracts/live/theater.ts.
 */
import { z } from 'zod';
import {
  DEFAULT_LOOPS,
  DEFAULT_TOOL_USES,
  MAX_LOOPS,
  MAX_TOOL_USES,
  maxLoops,
  maxToolUses,
  memberFields,
  saying,
  sessionMode,
} from '../commands/deliberation.ts';
import { position } from '../envelope.ts';
import { tokenUsage } from '../events/conversation.ts';
import { deliberationPurpose, memberName } from '../events/deliberation.ts';
import { frameId } from '../live/frames.ts';
import {
  type CouncilDocument,
  type DeliberationDocument,
  deliberationDocument,
} from '../read-models/documents.ts';
import { asOf, idParams, limit, offset } from './parameters.ts';
import { route } from './route.ts';

// ── records ───────────────────────────────────────────────────────────────
export const lunaCouncilMember = z.strictObject({
  /** Its name, by which it is addressed. */
  id: z.string(),
  name: memberName,
  displayName: z.string(),
  role: z.string(),
  personality: z.string(),
  functionDescription: z.string(),
  systemPrompt: z.string(),
  avatarEmoji: z.string(),
  color: z.string(),
  loopOrder: z.int(),
  isActive: z.boolean(),
  createdAt: z.string(),
});
export type LunaCouncilMember = z.infer<typeof lunaCouncilMember>;

/** @param since what a ready-made member says of when it was made: when its user came */
export const renderMember = (
  member: CouncilDocument['members'][number],
  since: string,
): LunaCouncilMember => ({
  id: member.name,
  name: member.name,
  displayName: member.displayName,
  role: member.role,
  personality: member.personality,
  functionDescription: member.role,
  systemPrompt: member.instructions,
  avatarEmoji: member.avatarEmoji,
  color: member.color,
  loopOrder: member.order,
  isActive: member.active,
  createdAt: member.createdAt ?? since,
});

export const lunaDeliberation = z.strictObject({
  id: z.string(),
  autonomousSessionId: z.string().nullable(),
  userId: z.string(),
  topic: z.string(),
  loopNumber: z.int(),
  conversationData: z.array(
    z.strictObject({ speaker: z.string(), message: z.string(), timestamp: z.string(), phase: z.string() }),
  ),
  participants: z.array(z.string()),
  /** How the votes were; null before there is a decision. */
  summary: z.string().nullable(),
  decision: z.string().nullable(),
  actionTaken: z.string().nullable(),
  /** The reasons of the votes of the last round. */
  insights: z.array(z.string()),
  createdAt: z.string(),
  purpose: deliberationPurpose,
  sessionMode,
  status: deliberationDocument.shape.status,
});
export type LunaDeliberation = z.infer<typeof lunaDeliberation>;

const tallied = ({ tally, outcome, by }: NonNullable<DeliberationDocument['decision']>): string =>
  `${outcome} by the ${by}: ${tally.for} for, ${tally.against} against, ${tally.abstain} abstained`;

export const renderDeliberation = (doc: DeliberationDocument): LunaDeliberation => ({
  id: doc.id,
  autonomousSessionId: doc.sessionId,
  userId: doc.owner,
  topic: doc.topic,
  loopNumber: doc.loop,
  conversationData: doc.said.map(({ member, text, at, phase }) => ({
    speaker: member,
    message: text,
    timestamp: at,
    phase,
  })),
  participants: doc.members.map(({ name }) => name),
  summary: doc.decision && tallied(doc.decision),
  decision: doc.decision?.decision ?? null,
  actionTaken: doc.actions.at(-1)?.detail ?? null,
  insights: doc.votes
    .filter(({ loop }) => loop === doc.loop)
    .map(({ member, reason }) => `${member}: ${reason}`),
  createdAt: doc.openedAt,
  purpose: doc.purpose,
  sessionMode: doc.mode,
  status: doc.status,
});

/** With everything that is known of it. */
export const lunaDeliberationRecord = lunaDeliberation.extend({
  currentPhase: z.string().nullable(),
  maxLoops: z.int(),
  toolUseCount: z.int(),
  maxToolUses: z.int(),
  members: z.array(lunaCouncilMember.omit({ createdAt: true })),
  material: deliberationDocument.shape.material,
  phases: deliberationDocument.shape.phases,
  statements: deliberationDocument.shape.said,
  objections: deliberationDocument.shape.said,
  votes: deliberationDocument.shape.votes,
  troubles: deliberationDocument.shape.troubles,
  /** The decision as it was reached, `id` being what actions cite; `decision` is its text. */
  decisionReached: deliberationDocument.shape.decision,
  dissent: z.array(z.strictObject({ member: z.string(), reason: z.string() })),
  actions: deliberationDocument.shape.actions,
  cost: z.strictObject({
    ...tokenUsage.shape,
    /** US dollars; null when a model without a known price took part. */
    costUsd: z.number().nullable(),
  }),
  /** Why it failed. */
  reason: z.string().nullable(),
  durationMs: z.number().nullable(),
  startedAt: z.string().nullable(),
  endedAt: z.string().nullable(),
});
export type LunaDeliberationRecord = z.infer<typeof lunaDeliberationRecord>;

const currentPhase = (doc: DeliberationDocument): string | null =>
  doc.endedAt === null ? (doc.phases.at(-1)?.phase ?? null) : null;

export const renderDeliberationRecord = (doc: DeliberationDocument): LunaDeliberationRecord => ({
  ...renderDeliberation(doc),
  currentPhase: currentPhase(doc),
  maxLoops: doc.maxLoops,
  toolUseCount: doc.toolUses,
  maxToolUses: doc.maxToolUses,
  members: doc.members.map((member) => {
    const { createdAt: _none, ...rendered } = renderMember({ ...member, createdAt: null }, '');
    return rendered;
  }),
  material: doc.material,
  phases: doc.phases,
  statements: doc.said.filter(({ kind }) => kind === 'statement'),
  objections: doc.said.filter(({ kind }) => kind === 'objection'),
  votes: doc.votes,
  troubles: doc.troubles,
  decisionReached: doc.decision,
  dissent: doc.decision?.dissent ?? [],
  actions: doc.actions,
  cost: { ...doc.usage, costUsd: doc.costUsd },
  reason: doc.reason,
  durationMs: doc.durationMs,
  startedAt: doc.startedAt,
  endedAt: doc.endedAt,
});

export const lunaAutonomousSession = z.strictObject({
  id: z.string(),
  userId: z.string(),
  /** `paused`: no worker has it at the moment. */
  status: z.enum(['active', 'completed', 'paused', 'stopped', 'error']),
  currentPhase: z.string().nullable(),
  startedAt: z.string(),
  endedAt: z.string().nullable(),
  sessionType: z.literal('autonomous'),
  sessionMode,
  taskDescription: z.string(),
  /** What the planner said is to be settled; null before it has spoken. */
  taskPlan: z.string().nullable(),
  summary: z.string().nullable(),
  insightsGenerated: z.array(z.string()),
  loopCount: z.int(),
  toolUseCount: z.int(),
  createdAt: z.string(),
  deliberationId: z.string(),
});
export type LunaAutonomousSession = z.infer<typeof lunaAutonomousSession>;

const SESSION_STATUS = {
  queued: 'active',
  running: 'active',
  paused: 'paused',
  decided: 'completed',
  stopped: 'stopped',
  failed: 'error',
} as const satisfies Record<DeliberationDocument['status'], LunaAutonomousSession['status']>;

/** Of a deliberation that belongs to one: a session is what it is seen as from outside. */
export const renderAutonomousSession = (
  doc: DeliberationDocument & { readonly sessionId: string },
): LunaAutonomousSession => ({
  id: doc.sessionId,
  userId: doc.owner,
  status: SESSION_STATUS[doc.status],
  currentPhase: currentPhase(doc),
  startedAt: doc.openedAt,
  endedAt: doc.endedAt,
  sessionType: 'autonomous',
  sessionMode: doc.mode,
  taskDescription: doc.topic,
  taskPlan: doc.said.find(({ phase }) => phase === 'planning')?.text ?? null,
  summary: doc.decision?.decision ?? null,
  insightsGenerated: renderDeliberation(doc).insights,
  loopCount: doc.loop,
  toolUseCount: doc.toolUses,
  createdAt: doc.openedAt,
  deliberationId: doc.id,
});

export const isSession = (doc: DeliberationDocument): doc is DeliberationDocument & { sessionId: string } =>
  doc.sessionId !== null;

/** While it can still be stopped. */
export const isOpen = ({ status }: DeliberationDocument): boolean =>
  status === 'queued' || status === 'running' || status === 'paused';

// ── sessions ──────────────────────────────────────────────────────────────
const PATH = '/api/autonomous';
const reading = { surface: 'luna', access: 'chat:read' } as const;
const writing = { surface: 'luna', access: 'chat:write' } as const;

export const startAutonomous = route({
  ...writing,
  method: 'POST',
  path: `${PATH}/start`,
  summary:
    'Starts a session of the Council on a topic, or without one on what the latest conversation or the known facts are about.',
  body: z
    .object({
      taskDescription: saying('task', 4_000).optional(),
      sessionMode: sessionMode.default('standard'),
      /** What the members have to go by, beside what tools find. */
      material: z
        .array(z.strictObject({ title: z.string().max(200).default(''), text: saying('material', 20_000) }))
        .max(20)
        .default([]),
      /** Rounds without a majority after which the judge decides. */
      maxLoops: maxLoops.default(DEFAULT_LOOPS),
      maxToolUses: maxToolUses.default(DEFAULT_TOOL_USES),
    })
    .prefault({}),
  example: {
    body: {
      taskDescription: 'Should we move the archive to cold storage?',
      sessionMode: 'standard',
      material: [
        { title: 'Bill', text: 'The archive costs 310 dollars a month.' },
        { title: 'Offer', text: 'Cold storage saves 900 dollars a month.' },
      ],
    },
  },
  answers: { 200: z.strictObject({ success: z.literal(true), session: lunaAutonomousSession }) },
});

export const stopAutonomous = route({
  ...writing,
  method: 'POST',
  path: `${PATH}/stop`,
  summary: 'Stops the session that is active. Without one it says so, with 400.',
  answers: { 200: z.strictObject({ success: z.literal(true), session: lunaAutonomousSession }) },
});

export const getAutonomousStatus = route({
  ...reading,
  method: 'GET',
  path: `${PATH}/status`,
  summary:
    'Whether a session is active, and which; what a session may use; and how many were begun today (UTC).',
  answers: {
    200: z.strictObject({
      status: z.enum(['active', 'paused', 'idle']),
      currentSession: lunaAutonomousSession.nullable(),
      config: z.strictObject({
        maxLoops: z.int(),
        defaultLoops: z.int(),
        maxToolUses: z.int(),
        defaultToolUses: z.int(),
        sessionModes: z.array(sessionMode),
        /** `rule` while no model is connected. */
        speaking: z.enum(['model', 'rule']),
        activeMembers: z.array(memberName),
      }),
      todaySessionCount: z.int(),
    }),
  },
});

export const autonomousLimits = {
  maxLoops: MAX_LOOPS,
  defaultLoops: DEFAULT_LOOPS,
  maxToolUses: MAX_TOOL_USES,
  defaultToolUses: DEFAULT_TOOL_USES,
  sessionModes: sessionMode.options,
};

export const listAutonomousSessions = route({
  ...reading,
  method: 'GET',
  path: `${PATH}/sessions`,
  summary: "The caller's sessions of the Council, newest first.",
  query: z.object({ limit: limit(100, 20), offset }),
  answers: {
    200: z.strictObject({ sessions: z.array(lunaAutonomousSession), limit: z.int(), offset: z.int() }),
  },
});

// ── deliberations ─────────────────────────────────────────────────────────
export const listDeliberations = route({
  ...reading,
  method: 'GET',
  path: `${PATH}/deliberations`,
  summary:
    'Deliberations, newest first: the caller’s, or all that the caller may see. Judgements of agents’ plans and results are among them.',
  query: z.object({ limit: limit(100, 20), offset, purpose: deliberationPurpose.optional() }),
  answers: {
    200: z.strictObject({ deliberations: z.array(lunaDeliberation), limit: z.int(), offset: z.int() }),
  },
});

const SPEED = 'speed is a number from 0.1 to 100';
/** Before `/:id`, which it would be taken for. */
export const streamDeliberations = route({
  ...reading,
  method: 'GET',
  path: `${PATH}/deliberations/live`,
  summary:
    'Theater mode: the session that is active, from its beginning and as it goes on; or with `deliberation` a past or running one, played back at its own rhythm.',
  query: z
    .object({
      lastEventId: z.preprocess((id) => (id === '' ? undefined : id), frameId.optional()),
      /** Played back. */
      deliberation: z.string().min(1).optional(),
      /** So many times as fast as it went. */
      speed: z
        .string()
        .regex(/^\d{1,3}(?:\.\d{1,6})?$/, SPEED)
        .transform(Number)
        .refine((speed) => speed >= 0.1 && speed <= 100, SPEED)
        .optional(),
      /** Begins after this position. */
      from: position.optional(),
    })
    .refine(({ deliberation, speed }) => deliberation !== undefined || speed === undefined, {
      message: 'speed is for playing back: say which deliberation',
      path: ['speed'],
    })
    .refine(({ deliberation, from }) => deliberation !== undefined || from === undefined, {
      message: 'from is for playing back: say which deliberation',
      path: ['from'],
    }),
  /** 204: everything was read, and no session is active. 404: of `deliberation`. */
  answers: { 200: 'stream', 204: 'empty', 404: z.object({ error: z.string() }) },
});

export const getDeliberation = route({
  ...reading,
  method: 'GET',
  path: `${PATH}/deliberations/:id`,
  summary:
    'A deliberation with everything that was said, found, voted, decided and done; now or in the past.',
  params: idParams,
  query: z.object({ asOf }),
  answers: { 200: lunaDeliberationRecord },
});

// ── the Council ───────────────────────────────────────────────────────────
const council = z.strictObject({ council: z.array(lunaCouncilMember) });
const nameParams = z.object({ name: z.string() });

export const getCouncil = route({
  ...reading,
  method: 'GET',
  path: `${PATH}/council`,
  summary: "The members of the caller's Council, in the order in which they speak.",
  answers: { 200: council },
});

const { order, active, instructions, ...sameNames } = memberFields;
/** `functionDescription` is another name for `role`, `systemPrompt` is the instructions. */
const changes = z
  .strictObject({
    ...sameNames,
    functionDescription: memberFields.role,
    systemPrompt: instructions,
    loopOrder: order,
    isActive: active,
    // What a member that was read has besides may come back with it, and changes nothing.
    id: z.unknown(),
    name: z.unknown(),
    createdAt: z.unknown(),
  })
  .partial()
  .refine(
    ({ role, functionDescription }) =>
      role === undefined || functionDescription === undefined || role === functionDescription,
    { message: 'role and functionDescription are the same: give one of them', path: ['functionDescription'] },
  );
export type MemberChanges = z.infer<typeof changes>;

export const putMember = route({
  ...writing,
  method: 'PUT',
  path: `${PATH}/council/:name`,
  summary: 'Adds a member to the Council (with a role and a systemPrompt), or changes one.',
  params: nameParams,
  body: changes,
  example: {
    params: { name: 'lawyer' },
    body: {
      displayName: 'Vesta',
      role: 'Lawyer: contracts and what is unlawful',
      personality: 'Precise, and sparing with words.',
      systemPrompt: 'Look for what breaks a contract or a law. Name the clause.',
      loopOrder: 3,
    },
  },
  answers: { 200: lunaCouncilMember, 201: lunaCouncilMember },
});

export const patchMember = route({
  ...writing,
  method: 'PATCH',
  path: `${PATH}/council/:name`,
  summary: 'Changes a member of the Council: what is left out stays as it is.',
  params: nameParams,
  body: changes,
  example: {
    params: { name: 'sceptic' },
    body: { personality: 'Blunt, and proud of it.', isActive: true },
  },
  answers: { 200: lunaCouncilMember },
});

export const deleteMember = route({
  ...writing,
  method: 'DELETE',
  path: `${PATH}/council/:name`,
  summary: 'Removes a member from the Council. The judge, and one active member beside it, must remain.',
  params: nameParams,
  answers: { 200: z.strictObject({ success: z.literal(true) }) },
});

export const resetCouncilRoute = route({
  ...writing,
  method: 'POST',
  path: `${PATH}/council/reset`,
  summary: 'Makes the Council, or the ready-made member that is named, as it was at first.',
  body: z.object({ name: memberName.optional() }).optional(),
  example: { body: { name: 'sceptic' } },
  answers: { 200: council },
});

export const autonomousRoutes = [
  startAutonomous,
  stopAutonomous,
  getAutonomousStatus,
  listAutonomousSessions,
  listDeliberations,
  streamDeliberations,
  getDeliberation,
  getCouncil,
  resetCouncilRoute,
  putMember,
  patchMember,
  deleteMember,
];
