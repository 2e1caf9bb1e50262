/** Finds what a user says about themselves, as `remember_fact` and `forget_fact` take it. Pure. */
import type { FactCategory } from '../../../contracts/events/memory.ts';

/** Arguments of `remember_fact`. */
export type FactArguments = { readonly category: FactCategory; readonly key: string; readonly value: string };

/** The first category with a word of the key decides. */
const categories: readonly (readonly [FactCategory, RegExp])[] = [
  ['preference', /\b(?:favou?rite|preferred|preference)\b/],
  [
    'relationship',
    /\b(?:wife|husband|partner|girlfriend|boyfriend|mother|father|mom|mum|dad|parents?|sister|brother|sons?|daughters?|child|children|kids?|friend|dog|cat|pet|grandmother|grandfather|family)\b/,
  ],
  [
    'work',
    /\b(?:job|employer|company|boss|manager|colleague|team|project|salary|profession|office|work|business)\b/,
  ],
  ['goal', /\b(?:goal|dream|plan|ambition|target)\b/],
  ['hobby', /\b(?:hobby|hobbies|sport|instrument)\b/],
  [
    'personal',
    /\b(?:name|birthday|birth|age|email|phone|address|city|home|country|height|weight|language|nationality|time ?zone|eye|hair|car)\b/,
  ],
];

export const categoryOf = (key: string): FactCategory =>
  categories.find(([, pattern]) => pattern.test(key))?.[0] ?? 'context';

const KEY_LENGTH = 60;
const VALUE_LENGTH = 500;

function fact(category: FactCategory, key: string, value: string): FactArguments | null {
  const trimmed = value
    .trim()
    .replace(/[.!,;\s]{1,20}$/, '')
    .slice(0, VALUE_LENGTH);
  const name = key.trim().toLowerCase().slice(0, KEY_LENGTH).trim();
  return name === '' || trimmed === '' ? null : { category, key: name, value: trimmed };
}

/** `I like this` says nothing that is worth keeping. */
const POINTING = /^(?:it|this|that|them|these|those|you|him|her|your|to (?:know|see|ask|hear))\b/i;

interface Statement {
  readonly pattern: RegExp;
  /** False: only after `remember that`. */
  readonly unasked: boolean;
  readonly fact: (match: RegExpExecArray) => FactArguments | null;
}

const at = (match: RegExpExecArray, index: number): string => match[index] ?? '';

/** A taste is kept under its object, so that changing one's mind replaces it. */
const taste = (object: string, value: string): FactArguments | null =>
  POINTING.test(object) ? null : fact('preference', object, value);

const statements: readonly Statement[] = [
  {
    pattern: /^call me (.{1,80})$/i,
    unasked: true,
    fact: (m) => fact('personal', 'preferred name', at(m, 1)),
  },
  {
    pattern: /^(?:i am|i'm) called (.{1,80})$/i,
    unasked: true,
    fact: (m) => fact('personal', 'name', at(m, 1)),
  },
  {
    pattern:
      /^my ((?:full |first |last |middle )?name|birthday|email(?: address)?|phone(?: number)?|job|profession|hobby|(?:favou?rite|preferred) [\w -]{1,40}?|[\w -]{1,40}'s name) (?:is|are) (.{1,500})$/i,
    unasked: true,
    fact: (m) => fact(categoryOf(at(m, 1).toLowerCase()), at(m, 1), at(m, 2)),
  },
  {
    pattern: /^i (?:really |also )?(?:like|love|enjoy) (.{1,80})$/i,
    unasked: true,
    fact: (m) => taste(at(m, 1), 'likes'),
  },
  { pattern: /^i prefer (.{1,80})$/i, unasked: true, fact: (m) => taste(at(m, 1), 'prefers') },
  {
    pattern: /^i (?:really )?(?:dislike|hate|don't like|do not like) (.{1,80})$/i,
    unasked: true,
    fact: (m) => taste(at(m, 1).replace(/ (?:any ?more)$/i, ''), 'dislikes'),
  },
  {
    pattern: /^i live (?:in|at|near) (.{1,120})$/i,
    unasked: true,
    fact: (m) => fact('personal', 'home', at(m, 1)),
  },
  {
    pattern: /^i(?: am|'m) from (.{1,120})$/i,
    unasked: true,
    fact: (m) => fact('personal', 'origin', at(m, 1)),
  },
  {
    pattern: /^i work (?:at|for) (.{1,120})$/i,
    unasked: true,
    fact: (m) => fact('work', 'employer', at(m, 1)),
  },
  { pattern: /^i work as (?:an? )?(.{1,120})$/i, unasked: true, fact: (m) => fact('work', 'job', at(m, 1)) },
  {
    pattern: /^i(?: am|'m) allergic to (.{1,120})$/i,
    unasked: true,
    fact: (m) => fact('personal', `allergy to ${at(m, 1)}`, 'yes'),
  },
  {
    pattern: /^i(?: am|'m) (\d{1,3})(?: years old)?$/i,
    unasked: false,
    fact: (m) => fact('personal', 'age', at(m, 1)),
  },
  {
    pattern: /^my ([^.?!]{1,60}?) (?:is|are|was|will be) (.{1,500})$/i,
    unasked: false,
    fact: (m) => fact(categoryOf(at(m, 1).toLowerCase()), at(m, 1), at(m, 2)),
  },
  {
    pattern: /^(?:the |our )?([^.?!]{1,60}?) (?:is|are|was|will be) (.{1,500})$/i,
    unasked: false,
    fact: (m) => fact(categoryOf(at(m, 1).toLowerCase()), at(m, 1), at(m, 2)),
  },
];

/** What is kept as it is, after `remember that`, when it is none of the statements. */
const notes: readonly Statement[] = [
  { pattern: /^to (.{1,500})$/i, unasked: false, fact: (m) => fact('goal', noteKey(at(m, 1)), at(m, 1)) },
  {
    pattern: /^(?!when\b|how\b|what\b|me\b|my [^ ]{1,40}$)(.{1,500})$/i,
    unasked: false,
    fact: (m) => fact('context', noteKey(at(m, 1)), at(m, 1)),
  },
];

const noteKey = (note: string): string => subjectOf(note).split(' ').slice(0, 6).join(' ');

/** What the statement says about the user; `asked`: it came after `remember that`. */
export function factIn(statement: string, asked: boolean): FactArguments | null {
  return firstFit(asked ? [...statements, ...notes] : statements.filter(({ unasked }) => unasked), statement);
}

function firstFit(among: readonly Statement[], statement: string): FactArguments | null {
  for (const { pattern, fact: make } of among) {
    const match = pattern.exec(statement);
    const result = match === null ? null : make(match);
    if (result !== null) return result;
  }
  return null;
}

/** Facts that are asked for by a question. */
const questions: ReadonlyMap<string, string> = new Map([
  ['where i live', 'home'],
  ['where i work', 'employer'],
  ['who i work for', 'employer'],
  ['what i do', 'job'],
  ['where i am from', 'origin'],
  ['how old i am', 'age'],
]);

/** Names no fact in particular. */
const UNNAMED = /^(?:it|this|that|these|those|them|me|everything|anything|all|(?:all )?facts?|it all)$/;

/** Which fact `what` is about: one that it states, or one that it names. Null for none in particular. */
export function factNamed(what: string): { readonly category?: FactCategory; readonly key: string } | null {
  const question = /^(?:what|who|when|where|how) (.{1,80}) (?:is|are|was)$/i.exec(what);
  const stated = question === null ? firstFit(statements, what) : null;
  if (stated !== null) return { category: stated.category, key: stated.key };
  const name = noteKey(question?.[1] ?? what)
    .toLowerCase()
    .slice(0, KEY_LENGTH)
    .trim();
  if (name === '' || UNNAMED.test(name)) return null;
  return { key: questions.get(name) ?? name };
}

/** The words to look for: without quotation marks, articles and closing punctuation. */
export function subjectOf(text: string): string {
  return text
    .replace(/^[\s"'“”‘’]{1,20}|[\s"'“”‘’?.!,;:]{1,20}$/g, '')
    .replace(
      /^(?:the|my|an?|any|all|about|for|messages? about|something about|where (?:i|we) (?:said|mentioned)) /i,
      '',
    )
    .replace(/^["'“‘]{1,5}/, '')
    .trim();
}
