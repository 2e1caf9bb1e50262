/** What the events of a deliberation say, and what is to be done next. Pure. */
import { JUDGE } from '../../../contracts/council.ts';
import type { Position } from '../../../contracts/envelope.ts';
import type { EventData } from '../../../contracts/events/catalogue.ts';
import type { CouncilMember, Material } from '../../../contracts/events/deliberation.ts';
import type { DeliberationEvent } from '../../domain/deliberation.ts';

export type Phase =
  | 'planning'
  | 'gathering'
  | 'statements'
  | 'discussion'
  | 'objections'
  | 'vote'
  | 'decision'
  | 'act';
export type Said = EventData<'MemberSpoke'>;
export type Vote = EventData<'VoteCast'>;

/** Material, and whether it says why a tool found none. */
export interface Piece extends Material {
  readonly isError: boolean;
}

export interface Sought {
  readonly tool: string;
  readonly arguments: unknown;
}

/** A deliberation as far as it has come. */
export interface Course {
  readonly topic: string;
  readonly purpose: EventData<'DeliberationOpened'>['purpose'];
  readonly mode: EventData<'DeliberationOpened'>['mode'];
  readonly sessionId: string | null;
  /** In the order in which they speak. */
  readonly members: readonly CouncilMember[];
  readonly maxLoops: number;
  readonly maxToolUses: number;
  readonly openedAt: string;
  readonly material: readonly Piece[];
  /** 0 before the first. */
  readonly loop: number;
  /** The phase that has not ended. */
  readonly phase: Phase | null;
  /** Of this loop, those that have ended. */
  readonly ended: readonly Phase[];
  readonly sought: readonly Sought[];
  /** What was sought last and has not been found yet. */
  readonly seeking: Sought | null;
  /** No more tools may be used. */
  readonly limited: boolean;
  readonly said: readonly Said[];
  readonly votes: readonly Vote[];
  readonly decision: (EventData<'DecisionReached'> & { readonly eventId: string }) | null;
  readonly acted: boolean;
  /** Of the last event. */
  readonly revision: number;
  readonly position: Position;
}

export function begin(event: DeliberationEvent & { type: 'DeliberationOpened' }): Course {
  const { members, material, ...opened } = event.data;
  return {
    ...opened,
    members: [...members].sort((a, b) => a.order - b.order || (a.name < b.name ? -1 : 1)),
    material: material.map((piece) => ({ ...piece, isError: false })),
    openedAt: event.time,
    loop: 0,
    phase: null,
    ended: [],
    sought: [],
    seeking: null,
    limited: false,
    said: [],
    votes: [],
    decision: null,
    acted: false,
    revision: event.revision,
    position: event.position,
  };
}

export function fold(course: Course, event: DeliberationEvent): Course {
  return { ...course, ...changes(course, event), revision: event.revision, position: event.position };
}

function changes(course: Course, event: DeliberationEvent): Partial<Course> {
  switch (event.type) {
    case 'PhaseStarted': {
      const { phase, loop } = event.data;
      return { phase: phase as Phase, loop, ended: loop === course.loop ? course.ended : [] };
    }
    case 'PhaseEnded':
      return { phase: null, ended: [...course.ended, event.data.phase as Phase] };
    case 'MaterialSought': {
      const { tool, arguments: given } = event.data;
      const seeking = { tool, arguments: given };
      return { seeking, sought: [...course.sought, seeking] };
    }
    case 'MaterialGathered': {
      const { material, isError } = event.data;
      return { seeking: null, material: [...course.material, { ...material, isError }] };
    }
    case 'DeliberationLimited':
      return { limited: true };
    case 'MemberSpoke':
      return { said: [...course.said, event.data] };
    case 'VoteCast':
      return { votes: [...course.votes, event.data] };
    case 'DecisionReached':
      return { decision: { ...event.data, eventId: event.id } };
    case 'ActionTaken':
      return { acted: true };
    default:
      return {};
  }
}

// ── what is next ──────────────────────────────────────────────────────────
export type Step =
  | { readonly kind: 'start phase'; readonly phase: Phase; readonly loop: number }
  | { readonly kind: 'end phase' }
  /** Choose a tool, or end the phase. */
  | { readonly kind: 'gather' }
  | { readonly kind: 'use tool'; readonly sought: Sought }
  | { readonly kind: 'speak'; readonly phase: Phase; readonly member: CouncilMember }
  | { readonly kind: 'vote'; readonly member: CouncilMember }
  | { readonly kind: 'decide' }
  | { readonly kind: 'act' }
  | { readonly kind: 'end' };

/** The phases of a round. Experts answer each other before they object. */
export const phasesOf = ({ mode }: Pick<Course, 'mode'>): readonly Phase[] => [
  'planning',
  'gathering',
  'statements',
  ...(mode === 'expert_discussion' ? (['discussion'] as const) : []),
  'objections',
  'vote',
  'decision',
];

export function nextStep(course: Course): Step {
  const { phase, loop } = course;
  if (phase === null) return nextPhase(course);
  switch (phase) {
    case 'planning':
      return speaker(course, phase, [framerOf(course)]);
    case 'gathering':
      if (course.seeking !== null) return { kind: 'use tool', sought: course.seeking };
      return course.limited ? { kind: 'end phase' } : { kind: 'gather' };
    case 'statements':
    case 'discussion':
    case 'objections':
      return speaker(course, phase, course.members);
    case 'vote': {
      const votes = votesOf(course);
      const member = course.members.find(({ name }) => !votes.some((vote) => vote.member === name));
      return member === undefined ? { kind: 'end phase' } : { kind: 'vote', member };
    }
    case 'decision': {
      const open = course.decision === null && (majority(course) !== null || loop >= course.maxLoops);
      return { kind: open ? 'decide' : 'end phase' };
    }
    case 'act':
      return { kind: course.acted ? 'end phase' : 'act' };
  }
}

function nextPhase(course: Course): Step {
  const { loop, ended, decision } = course;
  if (ended.includes('act')) return { kind: 'end' };
  if (decision !== null && ended.includes('decision')) return { kind: 'start phase', phase: 'act', loop };
  const phase = loop === 0 ? undefined : phasesOf(course).find((one) => !ended.includes(one));
  return phase === undefined
    ? { kind: 'start phase', phase: 'planning', loop: loop + 1 }
    : { kind: 'start phase', phase, loop };
}

function speaker(course: Course, phase: Phase, members: readonly CouncilMember[]): Step {
  const spoken = course.said.filter((said) => said.loop === course.loop && said.phase === phase);
  const member = members.find(({ name }) => !spoken.some((said) => said.member === name));
  return member === undefined ? { kind: 'end phase' } : { kind: 'speak', phase, member };
}

/** Who says what is to be decided: the planner, or who speaks first. */
export const framerOf = ({ members }: Pick<Course, 'members'>): CouncilMember =>
  members.find(({ name }) => name === 'planner') ?? members[0]!;

export const judgeOf = ({ members }: Pick<Course, 'members'>): CouncilMember =>
  members.find(({ name }) => name === JUDGE) ?? members.at(-1)!;

export const votesOf = ({ votes, loop }: Course): readonly Vote[] =>
  votes.filter((vote) => vote.loop === loop);

export function tallyOf(course: Course): { for: number; against: number; abstain: number } {
  const count = (kind: Vote['vote']) => votesOf(course).filter(({ vote }) => vote === kind).length;
  return { for: count('for'), against: count('against'), abstain: count('abstain') };
}

/** Of those who did not abstain; null where there is none. */
export function majority(course: Course): 'approved' | 'rejected' | null {
  const tally = tallyOf(course);
  if (tally.for === tally.against) return null;
  return tally.for > tally.against ? 'approved' : 'rejected';
}

/** What was objected to in the round before this one. */
export const objectionsOnTheTable = ({ said, loop }: Course): readonly Said[] =>
  said.filter((one) => one.kind === 'objection' && one.loop === loop - 1 && one.text !== NO_OBJECTION);

/** What a member says who has none. */
export const NO_OBJECTION = 'I have no objection.';
