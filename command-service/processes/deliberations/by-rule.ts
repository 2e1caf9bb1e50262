/**
 * How members speak, vote and choose tools where no model does: by what rules find in the material, weighed by what
 * each member cares about, which is read from its character. Pure: the same course gives the same words.
 */
import type { CouncilMember } from '../../../contracts/events/deliberation.ts';
import { type Concern, concerns, type Finding, findingsIn, quote, TOPIC } from './findings.ts';
import { calculationsOf, datesOf, keywordsOf, sentencesOf } from './reading.ts';
import {
  type Course,
  judgeOf,
  NO_OBJECTION,
  objectionsOnTheTable,
  type Phase,
  type Said,
  type Sought,
  tallyOf,
  type Vote,
  votesOf,
} from './record.ts';

export interface Speech {
  readonly text: string;
  readonly cites: string[];
}

// ── what a member cares about ─────────────────────────────────────────────
const vocabulary: Readonly<Record<Concern, RegExp>> = {
  steps:
    /\b(?:steps?|order|plans?|planner|schedule\w*|deadlines?|dates?|time|resources?|missing|practical\w*|feasib\w+)\b/gi,
  evidence:
    /\b(?:evidence|numbers?|figures?|facts?|proofs?|contradict\w*|errors?|verif\w+|data|claims?|shown|check\w*|comput\w+|sceptic\w*|skeptic\w*|scien\w+)\b/gi,
  benefit:
    /\b(?:benefits?|values?|savings?|gains?|opportunit\w+|worth|profits?|growth|revenue|costs?|advocate|money|budget|business|commercial)\b/gi,
  people:
    /\b(?:people|harm\w*|safe\w*|privacy|consent|fair\w*|ethic\w*|moral\w*|danger\w*|undone|legal|users?|customers?|secur\w+|risks?)\b/gi,
};
/** A concern that a member speaks of at least so often, relative to its foremost one, is its own. */
const OWN = 0.6;
/** How much what others care about counts, and how much more with each further round. */
const OTHERS = 0.25;

/** What each concern counts with a member, between 0 and 1. */
function lensOf({ role, instructions, personality }: CouncilMember): Readonly<Record<Concern, number>> {
  const character = `${role} ${role} ${instructions} ${personality}`;
  const counts = concerns.map((concern) => character.match(vocabulary[concern])?.length ?? 0);
  const most = Math.max(...counts);
  // Of a member who says nothing of what it cares about, everything counts.
  const own = counts.map((count) => (most === 0 || count >= OWN * most ? 1 : OTHERS));
  return Object.fromEntries(concerns.map((concern, index) => [concern, own[index]!])) as Record<
    Concern,
    number
  >;
}

interface View {
  /** With what each counts for the member, the weightiest first. */
  readonly findings: readonly (Finding & { readonly counts: number })[];
  readonly own: readonly Concern[];
  readonly score: number;
  readonly leaning: Vote['vote'];
}

/** In a user's own matter a reason must weigh so much; a judgement goes by the smallest. */
const CONVINCED: Readonly<Record<Course['purpose'], number>> = { autonomous: 0.75, plan: 0.01, result: 0.01 };

function viewOf(member: CouncilMember, course: Course): View {
  const lens = lensOf(member);
  const persuasion = OTHERS * Math.max(0, course.loop - 1);
  const findings = findingsOf(course)
    .map((finding) => {
      const factor = finding.decisive ? 1 : Math.min(1, lens[finding.concern] + persuasion);
      return { ...finding, counts: factor * finding.weight };
    })
    .sort((a, b) => Math.abs(b.counts) - Math.abs(a.counts));
  const score = Math.round(findings.reduce((sum, { counts }) => sum + counts, 0) * 100) / 100;
  const convinced = CONVINCED[course.purpose];
  return {
    findings,
    own: concerns.filter((concern) => lens[concern] === 1),
    score,
    leaning: score >= convinced ? 'for' : score <= -convinced ? 'against' : 'abstain',
  };
}

/** Findings change with the material only. */
const known = new WeakMap<Course['material'], readonly Finding[]>();
function findingsOf(course: Course): readonly Finding[] {
  const found = known.get(course.material) ?? findingsIn(course);
  known.set(course.material, found);
  return found;
}

// ── speaking ──────────────────────────────────────────────────────────────
export const BY_RULE = '(speaking by rule: no model is connected)';
const SAID_AT_MOST = 4;

/** @returns what the member says in this phase, and the material that it speaks about */
export function speakByRule(course: Course, phase: Phase, member: CouncilMember): Speech {
  const speech = speeches[phase](course, member);
  const first = !course.said.some(({ text }) => text.endsWith(BY_RULE));
  return first ? { ...speech, text: `${speech.text} ${BY_RULE}` } : speech;
}

const speeches: Readonly<Record<Phase, (course: Course, member: CouncilMember) => Speech>> = {
  planning: frame,
  gathering: frame,
  statements: state,
  discussion: answer,
  objections: object,
  vote: state,
  decision: state,
  act: state,
};

const ids = (list: readonly string[]): string[] => [...new Set(list)].filter((id) => id !== TOPIC);
const matters: Readonly<Record<Concern, string>> = {
  steps: 'the steps and the time',
  evidence: 'the evidence',
  benefit: 'what it brings and costs',
  people: 'the people and what cannot be undone',
};
const about = (own: readonly Concern[]): string =>
  own.length === concerns.length ? 'all of it' : own.map((concern) => matters[concern]).join(' and ');
const subjects: Readonly<Record<Course['purpose'], string>> = {
  autonomous: 'To be decided',
  plan: 'The plan to be judged',
  result: 'The result to be judged',
};

/** The question, what there is to go by, and what would settle it. */
function frame(course: Course, member: CouncilMember): Speech {
  const { findings } = viewOf(member, course);
  const given = course.material;
  const list = given.slice(0, 8).map(({ id, title }) => `[${id}] ${title.slice(0, 80).toWellFormed()}`);
  const asks = [...new Set(findings.flatMap(({ asks }) => asks ?? []))].slice(0, 3);
  const table = objectionsOnTheTable(course);
  const parts = [
    `${subjects[course.purpose]}: ${quote(course.topic, 300)}`,
    given.length === 0
      ? 'There is no material but the topic itself.'
      : `There is this to go by: ${list.join('; ')}${given.length > 8 ? ` and ${given.length - 8} more` : ''}.`,
    ...(table.length === 0 ? [] : [`On the table from round ${course.loop - 1}: ${onTheTable(table)}.`]),
    asks.length === 0
      ? 'Nothing in it can be weighed as it is: figures, dates or reasons would settle it.'
      : `What would settle it: ${asks.map((ask, index) => `(${index + 1}) whether ${ask}`).join('; ')}.`,
  ];
  return { text: parts.join(' '), cites: ids(given.map(({ id }) => id)) };
}

const onTheTable = (objections: readonly Said[]): string =>
  objections
    .slice(0, 3)
    .map(
      ({ member, text }) => `${member}: ${quote(text.replace(/^Objection: /, '').replace(BY_RULE, ''), 140)}`,
    )
    .join('; ');

function state(course: Course, member: CouncilMember): Speech {
  const view = viewOf(member, course);
  const own = view.findings.filter(({ concern }) => view.own.includes(concern)).slice(0, SAID_AT_MOST);
  const [graver] = view.findings.filter(({ concern, decisive }) => decisive && !view.own.includes(concern));
  const said = graver === undefined ? own : [...own.slice(0, SAID_AT_MOST - 1), graver];
  const content = said.map((finding) =>
    finding === graver && own.length > 0 ? `What weighs more: ${finding.text}` : finding.text,
  );
  const table = objectionsOnTheTable(course);
  const opening =
    table.length === 0
      ? `On ${about(view.own)}:`
      : `With the objections of round ${course.loop - 1} on the table, on ${about(view.own)}:`;
  const cites = ids(said.flatMap((finding) => finding.cites));
  const before = course.said.findLast(
    ({ kind, phase, member: name }) => kind === 'statement' && phase === 'statements' && name === member.name,
  );
  if (before !== undefined && content.every((text) => before.text.includes(text))) {
    const text = `${opening} nothing new since round ${before.loop}, and I stand by what I said. ${leaningOf(view)}`;
    return { text, cites };
  }
  if (said.length === 0) {
    const looked = course.material.map(({ id }) => id).slice(0, 8);
    const where =
      looked.length === 0 ? 'in the topic alone' : `in ${looked.map((id) => `[${id}]`).join(', ')}`;
    const text = `${opening} I find nothing ${where} that a rule could weigh. ${leaningOf(view)}`;
    return { text, cites: looked };
  }
  return { text: `${opening} ${content.join(' ')} ${leaningOf(view)}`, cites };
}

function leaningOf({ leaning, findings }: View): string {
  const against = findings.find(
    ({ counts, asks }) => asks !== undefined && counts < 0 === (leaning !== 'for'),
  );
  const change = against?.asks;
  const lean = leaning === 'abstain' ? 'That does not decide it for me' : `I lean ${leaning}`;
  return change === undefined ? `${lean}.` : `${lean}, unless ${change}.`;
}

/** To who leans the other way: what they said, and what stands against it. */
function answer(course: Course, member: CouncilMember): Speech {
  const view = viewOf(member, course);
  const other = course.members.find(
    (one) => one.name !== member.name && opposed(viewOf(one, course).leaning, view.leaning),
  );
  const mine = view.findings.find(({ counts }) => (view.leaning === 'against' ? counts < 0 : counts > 0));
  if (other === undefined || mine === undefined) {
    const agreeing = course.members.filter(
      (one) => one.name !== member.name && viewOf(one, course).leaning === view.leaning,
    );
    const who = agreeing.map(({ name }) => name).join(', ');
    return {
      text: `Nobody speaks against me${who === '' ? '' : `; ${who} see it as I do`}. ${leaningOf(view)}`,
      cites: ids(mine?.cites ?? []),
    };
  }
  const theirs = viewOf(other, course).findings.find(({ counts }) =>
    view.leaning === 'against' ? counts > 0 : counts < 0,
  );
  const claim = theirs === undefined ? 'that it is otherwise' : quote(theirs.text, 200);
  return {
    text: `${other.name} holds ${claim} To that I say: ${mine.text} ${leaningOf(view)}`,
    cites: ids([...(theirs?.cites ?? []), ...mine.cites]),
  };
}

const opposed = (a: Vote['vote'], b: Vote['vote']): boolean =>
  (a === 'for' && b === 'against') || (a === 'against' && b === 'for');

function object(course: Course, member: CouncilMember): Speech {
  const view = viewOf(member, course);
  const grave = view.findings.find(
    ({ counts, concern, decisive }) => counts <= -0.5 && (decisive || view.own.includes(concern)),
  );
  if (grave === undefined) return { text: NO_OBJECTION, cites: [] };
  const sharing = course.said.find(
    ({ kind, loop, text }) => kind === 'objection' && loop === course.loop && text.includes(grave.text),
  );
  const remedy = grave.asks === undefined ? '' : ` It would be met if ${grave.asks}.`;
  return {
    text:
      sharing === undefined
        ? `Objection: ${grave.text}${remedy}`
        : `I share the objection of ${sharing.member}: ${quote(grave.text)}`,
    cites: ids(grave.cites),
  };
}

// ── voting and deciding ───────────────────────────────────────────────────
export function voteByRule(course: Course, member: CouncilMember): Pick<Vote, 'vote' | 'reason'> {
  const view = viewOf(member, course);
  const { leaning: vote } = view;
  if (vote === 'abstain') {
    const lack = view.findings.find(({ asks, counts }) => asks !== undefined && counts < 0)?.asks;
    return {
      vote,
      reason:
        lack === undefined
          ? 'The material says too little for or against it.'
          : `What speaks for and against it is about even; it would help if ${lack}.`,
    };
  }
  const reasons = view.findings
    .filter(({ counts }) => counts > 0 === (vote === 'for') && counts !== 0)
    .slice(0, 2);
  return { vote, reason: reasons.map(({ text }) => text).join(' ') };
}

/** Where the members did not agree: everything counts, and nothing is decided without a reason. */
export function judgeByRule(course: Course): { approved: boolean; reason: string } {
  const findings = [...findingsOf(course)].sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight));
  const score = findings.reduce((sum, { weight }) => sum + weight, 0);
  const approved = score >= CONVINCED[course.purpose];
  const reasons = findings.filter(({ weight }) => weight > 0 === approved && weight !== 0).slice(0, 2);
  const lack = findings.find(({ asks, weight }) => asks !== undefined && weight < 0)?.asks;
  const why =
    reasons.length === 0
      ? 'Nothing that could be weighed speaks for it.'
      : reasons.map(({ text }) => text).join(' ');
  return {
    approved,
    reason: approved || lack === undefined ? why : `${why} It could be otherwise if ${lack}.`,
  };
}

/** What was decided, in words, from the votes. */
export function decisionText(
  course: Course,
  outcome: 'approved' | 'rejected',
  judged: string | null,
): string {
  const tally = tallyOf(course);
  const winning = votesOf(course).find(({ vote }) => vote === (outcome === 'approved' ? 'for' : 'against'));
  const count = `${tally.for} for, ${tally.against} against, ${tally.abstain} abstained`;
  const verdict = outcome === 'approved' ? 'Approved' : 'Rejected';
  const how =
    judged === null
      ? `${verdict} (${count})`
      : `${verdict} by the ${judgeOf(course).name}, after ${course.loop} round${course.loop === 1 ? '' : 's'} without a majority (${count})`;
  return `${how}: ${quote(course.topic, 300)} ${judged ?? winning?.reason ?? ''}`.trim();
}

// ── tools ─────────────────────────────────────────────────────────────────
/** How much each mode looks up: calculations, words to recall facts by, and words to search conversations for. */
const LOOKED_UP = {
  standard: { calculations: 5, facts: 3, conversations: 2 },
  expert_discussion: { calculations: 5, facts: 3, conversations: 2 },
  research: { calculations: 15, facts: 8, conversations: 6 },
} as const;

/** The tools that would help, in this order, as far as there are such; those that were used already among them. */
export function wantedTools(course: Course): readonly Sought[] {
  const { mode, purpose, topic, material } = course;
  const looked = LOOKED_UP[mode];
  const given = material.filter(({ tool }) => tool === null);
  const sentences = [{ id: TOPIC, text: topic }, ...given].flatMap(sentencesOf);
  const expressions = [...new Set(sentences.flatMap(calculationsOf).map(({ expression }) => expression))];
  const about =
    purpose === 'autonomous' ? [topic, ...given.map(({ text }) => text)] : given.map(({ text }) => text);
  const words = keywordsOf(about.join('\n'));
  // A later round looks for what was objected to.
  const table = objectionsOnTheTable(course).map(({ text }) => text.replace(BY_RULE, ''));
  const objected = [...keywordsOf(table.join('\n')).keys()].flatMap((key) => words.get(key) ?? []);
  const sought = (count: number): string[] => {
    const first = [...words.values()].slice(0, count);
    return [
      ...first,
      ...(course.loop > 1 ? objected.filter((word) => !first.includes(word)).slice(0, 2) : []),
    ];
  };
  return [
    ...expressions
      .slice(0, looked.calculations)
      .map((expression) => ({ tool: 'calculate', arguments: { expression } })),
    ...(sentences.some((sentence) => datesOf(sentence).length > 0 || /\bdeadlines?\b/i.test(sentence.text))
      ? [{ tool: 'current_time', arguments: { timeZone: 'UTC' } }]
      : []),
    ...sought(looked.facts).map((query) => ({ tool: 'recall_facts', arguments: { query } })),
    // What an agent did is judged by what it was given, not by what its owner once talked about.
    ...(purpose === 'autonomous'
      ? sought(looked.conversations).map((query) => ({
          tool: 'search_conversations',
          arguments: { query, limit: 3 },
        }))
      : []),
  ];
}
