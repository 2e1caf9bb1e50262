/**
 * A task as the built-in assistant takes it: part by part, each with the calls of tools that it takes, the step of a
 * plan that says so, and what is reported once the tools have answered. What no rule fits is left to a language
 * model, and named. Pure.
 */
import { answerFrom, quote, say, type ToolOutcome } from './answers.ts';
import { operatorsIn } from './arithmetic.ts';
import { READ_CHARACTERS, sentencesOf, understand, type Wish } from './understanding.ts';

export interface ToolCall {
  readonly tool: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}
type Values = (call: ToolCall) => ToolOutcome | undefined;

/** One thing that a task asks for. */
export interface Part {
  readonly kind: 'calculation' | 'comparison' | 'dates' | 'tool' | 'open';
  /** The task's own. */
  readonly words: string;
  readonly calls: readonly ToolCall[];
  /** As a plan has it, after `N. `. */
  readonly step: string;
  /** In the plan's last step. */
  readonly reported: string;
  /** Null: the tools did not bring what it takes. */
  readonly answer: (values: Values) => string | null;
}

const PARTS = 8;

/** The parts of a task, in its order. What only asks for a report of the rest is no part. */
export function partsOf(task: string): readonly Part[] {
  const parts: Part[] = [];
  for (const sentence of sentencesOf(task.slice(0, READ_CHARACTERS))) {
    for (const clause of clausesOf(sentence)) parts.push(...partsIn(clause, parts));
  }
  const unique = new Map(parts.map((part) => [`${part.kind} ${part.words} ${part.step}`, part]));
  return [...unique.values()].slice(0, PARTS);
}

// ── clauses ───────────────────────────────────────────────────────────────
const VERBS =
  'add|answer|buy|calculate|check|compare|compute|convert|count|create|decide|delete|describe|determine|divide|draft|e-?mail|erase|evaluate|explain|export|find|fix|forget|give|list|look|make|move|multiply|name|order|pay|plan|post|publish|recall|remember|remove|report|say|search|see|sell|send|show|state|subtract|sum|summari[sz]e|tell|transfer|translate|wipe|wire|work out|write|whether|what|how|which|who|when|is|are|does';
const OBJECT = 'the|all|every|each|my|our|your|it|its|them|this|these|those|me|us|whether|if|how|what|to';
const BREAK = new RegExp(
  `\\s*[,;]?\\s+(?:and then|and also|and finally|and|then|also|after that|finally),?\\s+(?=(?:please |also |then )?(?:(?:${VERBS})\\b|[a-z]+ (?:${OBJECT})\\b))|,\\s+(?=(?:and |then )?(?:${VERBS})\\b)`,
  'i',
);
const clausesOf = (sentence: string): string[] =>
  sentence
    .split(BREAK)
    .map((clause) => clause.trim())
    .filter((clause) => clause !== '');

/** Asks for nothing but that the rest is told. */
const REPORT =
  /^(?:please |then |and |finally )*(?:tell|report|say|give|show|state|write|present|return|print|output|answer)(?: me| us| back| down| out| with)*(?: (?:it|that|them|both|everything|all|(?:the|all|both|your|each|every|my)(?: of)?(?: \w+){0,2}? ?(?:results?|answers?|outcomes?|numbers?|values?|findings?|totals?|sums?|figures?|conclusions?)))?(?: (?:to me|to us|back|here|please))*[.!]?$/i;

// ── expressions ───────────────────────────────────────────────────────────
const NUMBER = '-?\\d[\\d.]*%?';
const RUN = /(?<![\p{L}\d])[-(]{0,5}\d(?:[\d.()+\-*/^%\s]|sqrt\(|of(?= \d)){0,300}/giu;
const DATE = /\b\d{4}-\d{2}-\d{2}\b/g;
const OPERATOR = /[\d)%]\s?(?:[+*/^]|-(?!\s?-)|% of)\s?[-(\d]/;

/** Words for what is done with several numbers, and how it is written. */
const NAMED: readonly (readonly [RegExp, (numbers: readonly string[]) => string])[] = [
  [/\b(?:sum|total) of\b/i, (numbers) => numbers.join(' + ')],
  [/\b(?:product) of\b/i, (numbers) => numbers.join(' * ')],
  [/\b(?:average|mean) of\b/i, (numbers) => `(${numbers.join(' + ')}) / ${numbers.length}`],
  [/\bdifference (?:between|of)\b/i, (numbers) => numbers.join(' - ')],
  [/\b(?:add(?: up)?|sum(?: up)?)\b/i, (numbers) => numbers.join(' + ')],
  [/\bmultiply\b/i, (numbers) => numbers.join(' * ')],
  [/\bdivide\b/i, (numbers) => numbers.join(' / ')],
  [/\bsubtract\b/i, (numbers) => [...numbers].reverse().join(' - ')],
];
const AGAIN =
  /\b(?:it|that|this|the (?:result|sum|product|total|difference|quotient|answer|outcome|value))\b/i;

const numbersIn = (text: string): string[] =>
  (text.match(/(?<![\p{L}\d.])-?\d[\d.]*%?/gu) ?? []).map((number) => number.replace(/\.$/, ''));

/** The calculations that a clause writes out; `it` is what the calculation before it came to. */
function expressionsIn(clause: string, before: string | null): string[] {
  const text = operatorsIn(clause).replace(DATE, ' ');
  const found = [...text.matchAll(RUN)].flatMap(([run]) => {
    const trimmed = balanced(run.replace(/[\s.+\-*/^]+$/, '').trim());
    return trimmed !== null && OPERATOR.test(trimmed) ? [trimmed] : [];
  });
  if (found.length > 0) return found;
  for (const [words, write] of NAMED) {
    const at = text.search(words);
    if (at < 0) continue;
    const rest = text.slice(at);
    const numbers = numbersIn(rest.replace(words, ' '));
    const again = before !== null && AGAIN.test(rest.replace(words, ''));
    if (again && numbers.length === 1) {
      const first =
        /\b(?:add|subtract)\b/i.test(rest) &&
        numbers[0] !== undefined &&
        rest.search(AGAIN) > rest.indexOf(numbers[0]);
      const operands = first ? [numbers[0]!, `(${before})`] : [`(${before})`, numbers[0]!];
      return [write(operands)];
    }
    if (numbers.length > 1) return [write(numbers)];
  }
  return [];
}

/** Without parentheses that are not closed, or were not opened; null where they do not fit at all. */
function balanced(run: string): string | null {
  let text = run;
  while (text.startsWith('(') && text.split('(').length > text.split(')').length) text = text.slice(1);
  while (text.endsWith(')') && text.split(')').length > text.split('(').length) text = text.slice(0, -1);
  return text.split('(').length === text.split(')').length ? text.trim() : null;
}

const calculating = (expression: string): ToolCall => ({ tool: 'calculate', arguments: { expression } });
const isNumber = (text: string): boolean => new RegExp(`^${NUMBER}$`).test(text);

function valueIn(expression: string, values: Values): string | null {
  if (isNumber(expression)) return expression;
  const outcome = values(calculating(expression));
  if (outcome === undefined || outcome.isError) return null;
  const result = (outcome.result as { result?: unknown } | null)?.result;
  return typeof result === 'string' ? result : null;
}

// ── parts ─────────────────────────────────────────────────────────────────
function partsIn(clause: string, before: readonly Part[]): Part[] {
  if (REPORT.test(clause) && before.length > 0) return [];
  const previous = before.findLast(({ kind }) => kind === 'calculation')?.reported ?? null;
  const compared = comparisonIn(clause, previous);
  if (compared !== null) return compared;
  const dates = datesIn(clause);
  if (dates !== null) return [dates];
  const expressions = expressionsIn(clause, previous);
  if (expressions.length > 0) return expressions.map((expression) => calculation(clause, expression));
  const { wishes, rest } = understand(clause);
  const found = wishes.flatMap((wish) => (wish.kind === 'tool' ? [usingTool(clause, wish)] : []));
  const named = /\bfacts? (?:about|on|of|for)\b/i.test(clause);
  const lookedUp = found.length > 0 && !named ? [] : lookUp(clause);
  if (named && lookedUp.length > 0) return lookedUp;
  if (found.length === wishes.length && found.length > 0 && rest.length === 0) return found;
  if (lookedUp.length > 0) return lookedUp;
  const [wish] = wishes;
  if (wish !== undefined && BY_RULE.has(wish.kind) && rest.length === 0) return [byRule(clause, wish)];
  return [open(clause)];
}

const calculation = (words: string, expression: string): Part => ({
  ...{ kind: 'calculation', words, reported: expression },
  calls: [calculating(expression)],
  step: `Calculate ${expression} with calculate.`,
  answer(values) {
    const value = valueIn(expression, values);
    return value === null ? null : `${expression} = ${value}`;
  },
});

const RELATION =
  /\b(?:at least|at most|no (?:more|less) than|not (?:more|less) than|above|over|exceeds?|exceed|below|under|(?:more|greater|larger|higher|bigger|less|lower|smaller|fewer) than|equals?(?: to)?|the same as)\b/i;
const COMPARE = /\bcompar\w+\b/i;
const WHICH =
  /\b(?:which|what) (?:is|one is|of these is|number is)? ?(?:the )?(?:larger|bigger|greater|more|higher|smaller|less|lower|largest|biggest|smallest)\b/i;

/** `whether it is above 400`, `compare 2*3 with 7`: what is compared, as the task has it. */
function comparisonIn(clause: string, previous: string | null): Part[] | null {
  const text = operatorsIn(clause);
  const relation = RELATION.exec(text);
  const splits = COMPARE.test(text) || WHICH.test(text);
  if (relation === null && !splits) return null;
  if (DATE.test(text.replace(DATE, '0000-00-00')) && datesNamed(clause).length > 0) return null;
  const [left = '', right = ''] =
    relation !== null && !COMPARE.test(text)
      ? [text.slice(0, relation.index), text.slice(relation.index + relation[0].length)]
      : (text
          .replace(COMPARE, '')
          .replace(WHICH, '')
          .split(/\s+(?:with|to|against|and|or)\s+(?=\D{0,20}\d)/i) as [string, string?]);
  const operand = (side: string): string | null =>
    expressionsIn(side, previous)[0] ?? numbersIn(side).at(-1) ?? null;
  const a = operand(left) ?? previous;
  const b = operand(right);
  if (a === null || b === null) return null;
  const operands = [a, b].filter((one) => !isNumber(one));
  const known = previous === a ? operands.filter((one) => one !== a) : operands;
  const difference = `(${a}) - (${b})`;
  return [
    ...known.map((expression) => calculation(clause, expression)),
    {
      ...{ kind: 'comparison', words: clause, reported: `how ${a} stands to ${b}` },
      calls: [...operands.map(calculating), calculating(difference)],
      step: `Compare ${a} with ${b}, by their difference, with calculate.`,
      answer(values) {
        const [first, second, by] = [a, b, difference].map((one) => valueIn(one, values));
        if (first == null || second == null || by == null) return null;
        if (by === '0') return `${first} is equal to ${second}.`;
        return `${first} is ${by.startsWith('-') ? 'below' : 'above'} ${second}, by ${by.replace('-', '')}.`;
      },
    },
  ];
}

// ── dates ─────────────────────────────────────────────────────────────────
const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const MONTH = '(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\\.?';
const DATES = new RegExp(
  `\\b(\\d{4})-(\\d{2})-(\\d{2})\\b|\\b(\\d{1,2})(?:st|nd|rd|th)?\\s(?:of\\s)?${MONTH},?\\s(\\d{4})\\b|\\b${MONTH}\\s(\\d{1,2})(?:st|nd|rd|th)?,?\\s(\\d{4})\\b`,
  'gi',
);
/** The days that are named, as YYYY-MM-DD; only days that there are. */
function datesNamed(text: string): string[] {
  return [...text.matchAll(DATES)].flatMap(([, y1, m1, d1, d2, m2, y2, m3, d3, y3]) => {
    const month = m1 ?? String(MONTHS.indexOf((m2 ?? m3 ?? '').slice(0, 3).toLowerCase()) + 1);
    const date = `${y1 ?? y2 ?? y3}-${month.padStart(2, '0')}-${(d1 ?? d2 ?? d3 ?? '').padStart(2, '0')}`;
    const parsed = new Date(`${date}T00:00:00Z`);
    return !Number.isNaN(parsed.getTime()) && parsed.toISOString().startsWith(date) ? [date] : [];
  });
}
const CLOCK: ToolCall = { tool: 'current_time', arguments: { timeZone: 'UTC' } };
const DAY_MS = 86_400_000;
const daysBetween = (from: string, to: string): number =>
  Math.round((Date.parse(to) - Date.parse(from)) / DAY_MS);
const days = (count: number): string => `${count} ${Math.abs(count) === 1 ? 'day' : 'days'}`;
const weekday = (date: string): string =>
  new Date(`${date}T00:00:00Z`).toLocaleDateString('en-GB', { weekday: 'long', timeZone: 'UTC' });

function datesIn(clause: string): Part | null {
  const [first, second] = datesNamed(clause);
  if (first === undefined) return null;
  if (/\b(?:what|which) (?:day of the week|weekday|day)\b|\bweekday\b|\bday of the week\b/i.test(clause)) {
    return {
      ...{ kind: 'dates', words: clause, calls: [], reported: `the weekday of ${first}` },
      step: `Determine the weekday of ${first} by the calendar.`,
      answer: () => `${first} is a ${weekday(first)}.`,
    };
  }
  if (!/\b(?:days?|long|weeks?|left|remain\w*|until|till|since|ago)\b/i.test(clause)) return null;
  if (second !== undefined) {
    return {
      ...{ kind: 'dates', words: clause, calls: [], reported: `the days from ${first} to ${second}` },
      step: `Count the days from ${first} to ${second} by the calendar.`,
      answer: () => `From ${first} to ${second} it is ${days(daysBetween(first, second))}.`,
    };
  }
  return {
    ...{ kind: 'dates', words: clause, calls: [CLOCK], reported: `the days between today and ${first}` },
    step: `Look up today's date with current_time, and count the days between it and ${first}.`,
    answer(values) {
      const outcome = values(CLOCK);
      const iso = (outcome?.result as { iso?: unknown } | null | undefined)?.iso;
      if (outcome === undefined || outcome.isError || typeof iso !== 'string') return null;
      const today = iso.slice(0, 10);
      const count = daysBetween(today, first);
      return count >= 0
        ? `From today, ${today}, until ${first} it is ${days(count)}.`
        : `${first} was ${days(-count)} ago: today is ${today}.`;
    },
  };
}

// ── what is looked up ─────────────────────────────────────────────────────
const SUBJECT =
  '(?:what )?(?:(?:is|was|are|were|i|we|you) )?(?:\\w+ )?(?:about|for|on|of|mention\\w*|said about)';
const CONVERSATIONS = new RegExp(
  `\\b(?:conversations?|chats?|messages|history)\\b.{0,40}?\\b${SUBJECT} (.{1,120})$|\\b(?:mentioned|discussed|said about|talked about|wrote about|spoke about|spoke of) (.{1,120})$`,
  'i',
);
const FACTS =
  /\b(?:facts?|what you know|what is known|what do you know)\b(?:.{0,30}?\b(?:about|on|of|for) (.{1,80}))?$/i;
const subject = (text: string): string =>
  text
    .replace(/[.?!"“”]+/g, '')
    .replace(/^(?:the|my|our|a|an) /i, '')
    .replace(/ in (?:my|our|the|all|past|earlier|previous).{0,30}$/i, '')
    .trim();

function lookUp(clause: string): Part[] {
  const said = CONVERSATIONS.exec(clause);
  const query = subject(said?.[1] ?? said?.[2] ?? '');
  if (query !== '') {
    return [usingTool(clause, { kind: 'tool', tool: 'search_conversations', arguments: { query } })];
  }
  const facts = FACTS.exec(clause);
  if (facts === null) return [];
  const about = subject(facts[1] ?? '');
  const all = about === '' || /^(?:me|myself|us)$/i.test(about);
  return [usingTool(clause, { kind: 'tool', tool: 'recall_facts', arguments: all ? {} : { query: about } })];
}

const steps: Readonly<Record<string, (args: Readonly<Record<string, unknown>>) => string>> = {
  calculate: ({ expression }) => `Calculate ${expression} with calculate.`,
  search_conversations: ({ query }) => `Search the conversations for “${query}” with search_conversations.`,
  recall_facts: ({ query, category }) =>
    `Recall the facts${(query ?? category) ? ` about “${query ?? category}”` : ''} with recall_facts.`,
  current_time: ({ timeZone }) => `Look up the time${timeZone ? ` in ${timeZone}` : ''} with current_time.`,
};

function usingTool(words: string, { tool, arguments: given }: Extract<Wish, { kind: 'tool' }>): Part {
  const call = { tool, arguments: given };
  const isSum = tool === 'calculate' && typeof given.expression === 'string';
  return {
    kind: isSum ? 'calculation' : 'tool',
    words,
    calls: [call],
    step:
      (Object.hasOwn(steps, tool) ? steps[tool]?.(given) : null) ?? `Do “${quote(words, 200)}” with ${tool}.`,
    reported: isSum ? String(given.expression) : `what ${tool} gave for “${quote(words, 120)}”`,
    answer(values) {
      const outcome = values(call);
      return outcome === undefined ? null : answerFrom(tool, given, outcome);
    },
  };
}

/** Wishes that are fulfilled without a tool. */
const BY_RULE: ReadonlySet<Wish['kind']> = new Set([
  'count',
  'repeat',
  'who are you',
  'greeting',
  'thanks',
  'goodbye',
]);
const byRule = (words: string, wish: Wish): Part => ({
  ...{ kind: 'tool', words, calls: [], reported: `what “${quote(words, 120)}” asks for` },
  step: `Do “${quote(words, 200)}” by a rule, which takes no tool.`,
  answer: () => (wish.kind === 'tool' ? null : [...say(wish, [])].join('')),
});

const open = (words: string): Part => ({
  ...{ kind: 'open', words, calls: [], reported: '' },
  step: `“${quote(words, 300).replace(/[“”]/g, "'")}”: this part needs a language model, for no tool that I have does it.`,
  answer: () => null,
});

// ── the plan, and the report ──────────────────────────────────────────────
const lackingFor = ({ calls }: Part, tools: ReadonlySet<string>): string | undefined =>
  calls.map(({ tool }) => tool).find((tool) => !tools.has(tool));

/** A plan of numbered steps, from the task's own words and the tools that there will be. */
export function planText(task: string, parts: readonly Part[], tools: ReadonlySet<string>): string {
  const can = parts.filter((part) => part.kind !== 'open' && lackingFor(part, tools) === undefined);
  const lines = parts.map((part) => {
    const lacking = lackingFor(part, tools);
    return lacking === undefined
      ? part.step
      : `“${quote(part.words, 300)}”: this would take the tool ${lacking}, which I may not use here.`;
  });
  if (can.length > 0) lines.push(`Report ${listed(can.map(({ reported }) => reported))}.`);
  const numbered = [...new Set(lines)].map((line, index) => `${index + 1}. ${line}`);
  const left = parts.length - can.length;
  const seen =
    can.length === 0
      ? 'So there is nothing in it that I can carry out by rule.'
      : `What could go wrong: a tool may give an error, or find nothing; the report then says so. It is seen to be done when the report has ${listed(can.map(({ reported }) => reported))}${left === 0 ? '' : `, and names the ${left === 1 ? 'part' : `${left} parts`} that a language model is needed for`}.`;
  return `Plan by rule for the task “${quote(task, 300).replace(/[“”]/g, "'")}”:\n${numbered.join('\n')}\n${seen}`;
}

const listed = (list: readonly string[]): string =>
  list.length < 2 ? (list[0] ?? '') : `${list.slice(0, -1).join(', ')} and ${list.at(-1)}`;

/** What each part came to; and which parts were not done, and why. */
export function reportText(parts: readonly Part[], values: Values, tools: ReadonlySet<string>): string {
  const lines = parts.map((part) => {
    const answer = part.answer(values);
    if (answer !== null) return answer;
    const words = `Not done: “${quote(part.words, 200)}”`;
    const lacking = lackingFor(part, tools);
    if (part.kind === 'open') return `${words}. That needs a language model.`;
    if (lacking !== undefined) return `${words}. The tool ${lacking} is not offered to me here.`;
    const failed = part.calls.find((call) => values(call)?.isError ?? true)!;
    const outcome = values(failed) ?? { result: { error: 'it gave no answer' }, isError: true };
    return `${words}. ${answerFrom(failed.tool, failed.arguments, outcome)}`;
  });
  return [...new Set(lines)].join('\n');
}
