/** How the built-in assistant words its answers, from the real results of its tools. Pure. */
import type { ToolDescription } from '../port.ts';
import type { Wish } from './understanding.ts';

const COUNT_AT_MOST = 10_000;
const LISTED = 20;
const QUOTED = 200;

export interface ToolOutcome {
  readonly result: unknown;
  readonly isError: boolean;
}

type JsonObject = Readonly<Record<string, unknown>>;
const object = (value: unknown): JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : {};
const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
const text = (value: unknown): string =>
  typeof value === 'string' ? value : value === undefined || value === null ? '' : JSON.stringify(value);

/** At most `length` characters, on one line. */
export function quote(value: string, length = QUOTED): string {
  const line = value
    .slice(0, 4 * length)
    .replace(/\s{1,4000}/g, ' ')
    .trim();
  return line.length <= length ? line : `${line.slice(0, length - 1).trimEnd()}…`;
}

/** Tools' names come from outside: `constructor` must not find what every object has. */
const own = <Value>(table: Readonly<Record<string, Value>>, key: string): Value | undefined =>
  Object.hasOwn(table, key) ? table[key] : undefined;

const verbs: Readonly<Record<string, string>> = {
  calculate: 'work that out',
  current_time: 'look at the clock',
  remember_fact: 'remember that',
  recall_facts: 'look up what I know about you',
  forget_fact: 'forget that',
  search_conversations: 'search your conversations',
  list_abilities: 'list my abilities',
  explain_setup: 'look up the setup',
  delegate: 'hand that on',
};
const verb = (tool: string): string => own(verbs, tool) ?? `use ${tool}`;

/** The answer to a wish that a tool was asked for. */
export function answerFrom(tool: string, args: unknown, outcome: ToolOutcome): string {
  if (outcome.isError) {
    const reason = text(object(outcome.result).error ?? outcome.result);
    return `I could not ${verb(tool)}: ${quote(reason) || 'the tool gave no reason'}`.replace(
      /(?<![.!?])$/,
      '.',
    );
  }
  return (
    own(phrases, tool)?.(object(outcome.result), object(args)) ??
    `${tool}${givenWith(args)} answered: ${inWords(outcome.result)}`
  );
}

/** ` (city: Paris)` */
function givenWith(args: unknown): string {
  const given = Object.entries(object(args));
  return given.length === 0
    ? ''
    : ` (${given.map(([name, value]) => `${name}: ${quote(text(value), 80)}`).join(', ')})`;
}

/** A result as it is, one level of it told as a list of names and values. */
function inWords(result: unknown): string {
  const value = parsed(result);
  const entries = Object.entries(object(value));
  if (entries.length === 0) return quote(text(value), 2_000);
  return `${entries
    .slice(0, LISTED)
    .map(([name, item]) => `${name}: ${quote(text(item), 500)}`)
    .join(', ')}${entries.length > LISTED ? ', …' : ''}`;
}

/** Clients send results as text, which often is JSON. */
function parsed(result: unknown): unknown {
  if (typeof result !== 'string' || !/^\s{0,20}[{[]/.test(result)) return result;
  try {
    return JSON.parse(result);
  } catch {
    return result;
  }
}

const phrases: Readonly<Record<string, (result: JsonObject, args: JsonObject) => string>> = {
  calculate: (result, args) => `${text(result.expression ?? args.expression)} = ${text(result.result)}`,

  current_time: (result) => `It is ${text(result.local ?? result.iso)} (${text(result.timeZone)}).`,

  remember_fact: (result, args) =>
    `I will remember: ${fact(text(result.key ?? args.key), text(result.value ?? args.value))}.`,

  recall_facts: (result, args) => {
    const facts = list(result.facts).map(object);
    const subject = text(args.query ?? args.category);
    if (facts.length === 0) {
      return subject === ''
        ? 'I know no facts about you yet.'
        : `I know nothing about “${quote(subject, 80)}” yet.`;
    }
    const lines = facts.map((item) => fact(text(item.key), text(item.value)));
    const [only] = lines;
    return lines.length === 1 && only !== undefined
      ? `From what you told me: ${only}.`
      : `What I know:\n${listed(lines)}`;
  },

  forget_fact: (result) => {
    const keys = new Set(list(result.forgotten).map((item) => `“${text(object(item).key)}”`));
    return `I have forgotten what you told me about ${[...keys].join(', ')}.`;
  },

  search_conversations: (result, args) => {
    const hits = list(result.results).map(object);
    const query = quote(text(args.query), 80);
    if (hits.length === 0) return `I found nothing about “${query}” in your conversations.`;
    const lines = hits.map((hit) => {
      const title = text(hit.title) === '' ? 'an untitled conversation' : `“${quote(text(hit.title), 80)}”`;
      const who = hit.role === 'user' ? 'you' : text(hit.role) || 'someone';
      return `${text(hit.createdAt).slice(0, 10)}, ${title}, ${who}: ${quote(text(hit.content))}`;
    });
    return `I found ${hits.length} ${hits.length === 1 ? 'message' : 'messages'} about “${query}”:\n${listed(lines)}`;
  },

  list_abilities: (result) =>
    `${selfDescription} My tools:\n${listed(
      list(result.tools)
        .map(object)
        .map((item) => `${text(item.name)}: ${quote(text(item.description))}`),
    )}\nI can also count and repeat after you.`,

  delegate: (result, args) => {
    const agent = text(result.agent ?? args.agent);
    if (result.status === 'success') return `The agent ${agent} answered:\n${text(result.response)}`;
    const why = text(result.error);
    return `The agent ${agent} did not finish (${text(result.status)})${why === '' ? '' : `: ${why}`}.`;
  },

  explain_setup: (result) => {
    const connected = list(result.connected).map(text);
    const now = connected.length === 0 ? '' : `Connected now: ${connected.slice(0, LISTED).join(', ')}.\n`;
    return `${now}To connect a language model:\n${listed(list(result.steps).map(text))}`;
  },
};

/** A taste is kept under its object: `tea` → `likes`. */
const tastes: Readonly<Record<string, string>> = {
  likes: 'you like',
  prefers: 'you prefer',
  dislikes: 'you dislike',
};
const fact = (key: string, value: string): string =>
  own(tastes, value) === undefined ? `${key}: ${value}` : `${own(tastes, value)} ${key}`;

function listed(lines: readonly string[]): string {
  const shown = lines.slice(0, LISTED).map((line) => `- ${line}`);
  if (lines.length > LISTED) shown.push(`- and ${lines.length - LISTED} more`);
  return shown.join('\n');
}

export const selfDescription = 'I am Odeon’s built-in assistant: a set of rules, without a language model.';

const CONNECT = 'Ask “how do I connect a model?” to get answers from a language model.';

/** The answer to a wish that needs no tool. Pieces, because counting can be long. */
export function* say(
  wish: Exclude<Wish, { kind: 'tool' }>,
  tools: readonly ToolDescription[],
): Generator<string> {
  switch (wish.kind) {
    case 'count':
      yield* count(wish.from, wish.to);
      return;
    case 'repeat':
      yield wish.text;
      return;
    case 'unknown place':
      yield `I do not know which time zone “${quote(wish.place, 60)}” is in. Name a larger city, or a zone such as Europe/Berlin.`;
      return;
    case 'web search':
      yield 'I cannot search the web. I can search your own conversations: “what did I say about …”.';
      return;
    case 'who are you':
      yield `${selfDescription} ${abilities(tools)} ${CONNECT}`;
      return;
    case 'greeting':
      yield `Hello. ${selfDescription} ${abilities(tools)}`;
      return;
    case 'thanks':
      yield 'You are welcome.';
      return;
    case 'goodbye':
      yield 'Goodbye.';
      return;
    default:
      wish satisfies never;
  }
}

function* count(from: number, to: number): Generator<string> {
  const step = from <= to ? 1 : -1;
  const numbers = Math.abs(to - from) + 1;
  const counted = Math.min(numbers, COUNT_AT_MOST);
  for (let index = 0; index < counted; index += 1) {
    yield index === 0 ? `${from}` : `, ${from + index * step}`;
  }
  if (numbers > counted) yield `. I stop here: I count at most ${COUNT_AT_MOST} numbers at a time`;
  yield '.';
}

/** What the tools that are offered here allow. */
const offers: Readonly<Record<string, string>> = {
  calculate: 'do arithmetic',
  current_time: 'tell the time',
  remember_fact: 'remember facts about you',
  recall_facts: 'recall them',
  forget_fact: 'forget them',
  search_conversations: 'search your conversations',
  delegate: 'hand tasks to agents',
};

function abilities(tools: readonly ToolDescription[]): string {
  const can = tools.flatMap(({ name }) => own(offers, name) ?? []);
  can.push('count', 'repeat after you');
  return `I can ${can.slice(0, -1).join(', ')} and ${can.at(-1)}.`;
}

/** For a wish that no result answers: its tool is not offered in this call, or was never run. */
export const unanswered = (tool: string, tools: readonly ToolDescription[]): string =>
  tools.some(({ name }) => name === tool)
    ? `I could not ${verb(tool)}: the tool ${tool} gave no answer to what I asked.`
    : `I cannot ${verb(tool)} here: the tool ${tool} is not offered to me in this conversation.`;

const ASKING = 'Before I can use ';
/** For a tool whose arguments the message does not say. `askedFor` reads it again. */
export function askFor(tool: string, missing: readonly { name: string; description: string }[]): string {
  const wanted = missing.map(({ name, description }) =>
    description === '' ? name : `${name} (${quote(description, 120)})`,
  );
  return `${ASKING}${tool} for that, I need to know: ${wanted.join('; ')}.`;
}
/** The tool that a message of the assistant's asked the arguments for; null when it asked for none. */
export function askedFor(content: string): string | null {
  const at = content.indexOf(ASKING);
  return at < 0
    ? null
    : (/^([^\s]{1,100}) for that, I need/.exec(content.slice(at + ASKING.length))?.[1] ?? null);
}

/** What was done about a task that no rule fits: the material that tools gave, without a judgement on it. */
export function reportOn(task: string, findings: readonly string[], figures: readonly string[]): string {
  const sections = [
    `${selfDescription} I cannot reason about this task: it is not done. I gathered what is to be had by rule.`,
    `Task: ${quote(task, 400)}`,
  ];
  if (figures.length > 0) sections.push(`Figures in the task: ${figures.join(', ')}.`);
  sections.push(
    findings.length > 0
      ? `What my tools gave:\n\n${findings.join('\n\n')}`
      : 'No tool that I may use here had anything to give for it.',
    `What is left: the judgement. ${CONNECT}`,
  );
  return sections.join('\n\n');
}

/** For what no rule fits. */
export const notUnderstood = (tools: readonly ToolDescription[]): string =>
  `I cannot answer that. ${selfDescription} ${abilities(tools)} ${CONNECT}`;

/** For the part of a message that no rule fits, when other parts were understood. */
export const partlyUnderstood = (rest: readonly string[]): string =>
  `I did not understand ${rest
    .slice(0, 3)
    .map((sentence) => `“${quote(sentence, 80)}”`)
    .join(', ')}: I go by rules, without a language model.`;
