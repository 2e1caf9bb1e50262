/**
 * How the built-in assistant uses tools that it has no rules of its own for, such as a client's: which of them a
 * sentence is about, and what of it their arguments are. Pure. Schemas come from outside: anything may be in them.
 */
import type { ToolDescription } from '../port.ts';
import { expressionIn } from './arithmetic.ts';

type JsonObject = Readonly<Record<string, unknown>>;
const object = (value: unknown): JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : {};
const strings = (value: unknown): readonly string[] =>
  Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];

/** A tool that a text is about, with what of its arguments the text says. */
export interface Filled {
  readonly tool: ToolDescription;
  readonly arguments: Readonly<Record<string, unknown>>;
  /** The required ones that it does not say. */
  readonly missing: readonly Missing[];
}

export interface Missing {
  readonly name: string;
  /** As the schema has it; empty where it has none. */
  readonly description: string;
}

const PROPERTIES = 50;
const DEPTH = 3;

// ── which tool a text is about ────────────────────────────────────────────

const GENERIC = new Set(
  'get set list fetch find search look lookup show tell give make create add update delete remove send run call use check retrieve return query read write new current currently user data info information value result item function tool'.split(
    ' ',
  ),
);
const STOP = new Set(
  'the a an of for to in on at and or by with from is are was be this that it its what which who how when where any all can you your i me my we our us given specified based provided please if not no will would should could does do as into about'.split(
    ' ',
  ),
);

/** Lower-case words, without their commonest endings. */
function wordsOf(text: string): string[] {
  return text
    .slice(0, 4_000)
    .replace(/([a-z])([A-Z])/g, '$1 $2')
    .toLowerCase()
    .split(/[^\p{L}\p{N}]+/u)
    .filter((word) => word !== '')
    .map((word) => (word.length > 4 ? word.replace(/(?:ing|ed|es|s)$/, '') : word.replace(/s$/, '')));
}

interface ToolWords {
  readonly named: readonly string[];
  readonly telling: readonly string[];
  readonly described: readonly string[];
}
/** A message may have many sentences, and each is held against every tool. */
const readTools = new WeakMap<ToolDescription, ToolWords>();

function wordsOfTool(tool: ToolDescription): ToolWords {
  const read = readTools.get(tool);
  if (read !== undefined) return read;
  const named = [...new Set(wordsOf(tool.name))];
  const described = new Set(
    wordsOf(tool.description.slice(0, 300)).filter(
      (word) => word.length > 2 && !STOP.has(word) && !GENERIC.has(word),
    ),
  );
  const telling = named.filter((word) => !GENERIC.has(word) && !STOP.has(word));
  const words = { named, telling, described: [...described] };
  readTools.set(tool, words);
  return words;
}

/** How much a text is about a tool; 0: not at all. */
function relevance(tool: ToolDescription, words: ReadonlySet<string>): number {
  const { named, telling, described } = wordsOfTool(tool);
  const hits = telling.filter((word) => words.has(word)).length;
  const descriptionHits = described.filter((word) => words.has(word)).length;
  const isNamed =
    telling.length > 0 ? hits * 2 >= telling.length && hits > 0 : named.every((w) => words.has(w));
  return isNamed || descriptionHits >= 2 ? 1 + 3 * hits + Math.min(descriptionHits, 3) : 0;
}

/** The tool that a sentence is about, filled from it and from the whole text around it; null when about none. */
export function toolFor(sentence: string, text: string, tools: readonly ToolDescription[]): Filled | null {
  const words = new Set(wordsOf(sentence));
  if (words.size === 0) return null;
  let best: ToolDescription | null = null;
  let most = 0;
  for (const tool of tools) {
    const score = relevance(tool, words);
    if (score > most) [best, most] = [tool, score];
  }
  return best && filled(best, sentence, text);
}

/** The tool that a text is most about, or else the first: for clients that require one. */
export const likeliestTool = (text: string, tools: readonly ToolDescription[]): ToolDescription | undefined =>
  toolFor(text, text, tools)?.tool ?? tools[0];

// ── what its arguments are ────────────────────────────────────────────────

/** Fills a tool's arguments from a sentence, and what that lacks from the text that the sentence is from. */
export function filled(tool: ToolDescription, sentence: string, text = sentence): Filled {
  const found = fillObject(tool.parameters, material(sentence), 0);
  if (text !== sentence && missingOf(tool, found).length > 0) {
    const around = fillObject(tool.parameters, material(text), 0);
    for (const [name, value] of Object.entries(around)) if (!Object.hasOwn(found, name)) found[name] = value;
  }
  return { tool, arguments: found, missing: missingOf(tool, found) };
}

/** One call for each of several places or symbols: “in Paris and London”. */
export function calls({ tool, arguments: given }: Filled, sentence: string): Record<string, unknown>[] {
  for (const [name, value] of Object.entries(given)) {
    if (typeof value !== 'string' || !(is(PLACE_NAMES, name) || is(SYMBOL_NAMES, name))) continue;
    const more = new RegExp(`${RegExp.escape(value)},? and (?:in |for |of )?(${PLACE.source})`, 'u').exec(
      sentence.slice(0, 4_000),
    )?.[1];
    if (more === undefined || !takesText(propertiesOf(tool.parameters)[name])) continue;
    // A comma may stand between two of them, or within one: “Austin, TX”.
    const all = [...value.split(/, (?![A-Z]{2}\b)/), more];
    return all.map((one) => ({ ...given, [name]: one }));
  }
  return [{ ...given }];
}

/** The answer to the question for what was missing, put where it belongs. */
export function completed(asked: Filled, answer: string): Filled {
  const { tool } = asked;
  const more = filled(tool, answer);
  const args: Record<string, unknown> = { ...more.arguments, ...asked.arguments };
  const open = missingOf(tool, args);
  const [only] = open;
  if (only !== undefined && open.length === 1 && takesText(propertiesOf(tool.parameters)[only.name])) {
    args[only.name] = trimmed(answer);
  }
  return { tool, arguments: args, missing: missingOf(tool, args) };
}

/** With something in every required argument that is plain: for clients that require a call. */
export function forced(asked: Filled, text: string): Filled {
  const args: Record<string, unknown> = { ...asked.arguments };
  for (const { name } of asked.missing) {
    const value = anyValue(chosen(propertiesOf(asked.tool.parameters)[name]), text);
    if (value !== undefined) args[name] = value;
  }
  return { ...asked, arguments: args, missing: missingOf(asked.tool, args) };
}

function anyValue(schema: JsonObject, text: string): unknown {
  if (Array.isArray(schema.enum)) return schema.enum[0];
  switch (typeOf(schema)) {
    case 'string':
      return trimmed(text);
    case 'number':
    case 'integer':
      return typeof schema.minimum === 'number' ? schema.minimum : 0;
    case 'boolean':
      return false;
    case 'array':
      return [];
    case 'object':
      return {};
    default:
      return undefined;
  }
}

const propertiesOf = (schema: unknown): JsonObject => object(object(schema).properties);

function missingOf(tool: ToolDescription, args: JsonObject): Missing[] {
  const properties = propertiesOf(tool.parameters);
  return strings(object(tool.parameters).required)
    .filter((name) => !Object.hasOwn(args, name))
    .map((name) => {
      const { description } = object(properties[name]);
      return { name, description: typeof description === 'string' ? description.slice(0, 200) : '' };
    });
}

/** What a text holds that arguments may be made of. Numbers, quotations and names are used up as they are taken. */
interface Material {
  readonly text: string;
  /** ` lower case words between blanks ` */
  readonly plain: string;
  readonly numbers: { readonly value: number; readonly before: string; readonly after: string }[];
  readonly quotations: { readonly value: string; readonly before: string }[];
  readonly codes: string[];
  readonly names: string[];
}

const plainOf = (text: string): string =>
  ` ${text
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, ' ')
    .trim()} `;

const NUMBER = /(?<![\p{L}\p{N}.,-])-?\d{1,15}(?:,\d{3}){0,4}(?:\.\d{1,10})?(?![\p{L}\p{N}]|[-:/]\d)/gu;
const QUOTATION =
  /"([^"\n]{1,2000})"|“([^”\n]{1,2000})”|(?<!\p{L})'([^'\n]{1,2000})'(?!\p{L})|`([^`\n]{1,2000})`/gu;
const CODE = /#?\b(?=[A-Za-z-]{0,20}\d)[A-Za-z0-9]{1,20}(?:-[A-Za-z0-9]{1,20}){0,4}\b/g;
const NAME =
  /(?<=[^.?!\s]\s)\p{Lu}[\p{L}'’-]{1,30}(?:\s(?:(?:of|de|del|la|van|von|al)\s)?\p{Lu}[\p{L}'’-]{1,30}){0,3}/gu;

function material(given: string): Material {
  const text = given.slice(0, 4_000);
  return {
    text,
    plain: plainOf(text),
    numbers: [...text.matchAll(NUMBER)].map((match) => ({
      value: Number(match[0].replaceAll(',', '')),
      before: plainOf(text.slice(Math.max(0, match.index - 30), match.index)),
      after: plainOf(text.slice(match.index + match[0].length, match.index + match[0].length + 30)),
    })),
    quotations: [...text.matchAll(QUOTATION)].map((match) => ({
      value: match.slice(1).find((part) => part) ?? '',
      before: plainOf(text.slice(Math.max(0, match.index - 30), match.index)),
    })),
    codes: [...text.matchAll(CODE)].map(([code]) => code.replace('#', '')),
    names: [...text.matchAll(NAME)].map(([name]) => name),
  };
}

function fillObject(schema: unknown, from: Material, depth: number): Record<string, unknown> {
  const properties = propertiesOf(schema);
  const required = new Set(strings(object(schema).required));
  const args: Record<string, unknown> = {};
  const names = Object.keys(properties).slice(0, PROPERTIES);
  const ordered = [...names.filter((name) => required.has(name)), ...names.filter((n) => !required.has(n))];
  const put = (name: string, value: unknown): void => {
    if (value !== undefined) Object.defineProperty(args, name, { value, enumerable: true, writable: true });
  };
  for (const name of ordered) put(name, fill(name, properties[name], from, depth, required.has(name)));
  // The text itself, for the one argument that is a text of any kind.
  const texts = ordered.filter((name) => isFreeText(name, properties[name]));
  const [text] = texts;
  if (text !== undefined && texts.length === 1 && !Object.hasOwn(args, text) && required.has(text)) {
    put(text, wholeText(text, from.text));
  }
  return args;
}

/** What the text says for one argument; undefined when nothing. */
function fill(name: string, given: unknown, from: Material, depth: number, required: boolean): unknown {
  const schema = chosen(given);
  if (Object.hasOwn(schema, 'const')) return schema.const;
  if (Array.isArray(schema.enum)) {
    const found = schema.enum.find((value) => mentions(from.plain, value));
    return found ?? (required ? schema.default : undefined);
  }
  const value = byType(name, schema, from, depth);
  return value ?? (required ? schema.default : undefined);
}

function byType(name: string, schema: JsonObject, from: Material, depth: number): unknown {
  switch (typeOf(schema)) {
    case 'boolean':
      return flag(name, from);
    case 'integer':
      return numberFor(name, from, Number.isInteger);
    case 'number':
      return numberFor(name, from, () => true);
    case 'array':
      return listFor(name, chosen(schema.items), from);
    case 'object': {
      if (depth >= DEPTH) return undefined;
      const inner = fillObject(schema, from, depth + 1);
      return Object.keys(inner).length > 0 ? inner : undefined;
    }
    case 'string':
      return textFor(name, schema, from);
    default:
      return undefined;
  }
}

/** Of alternatives, the first that is not null. */
function chosen(schema: unknown): JsonObject {
  const { anyOf, oneOf } = object(schema);
  const alternatives = Array.isArray(anyOf) ? anyOf : Array.isArray(oneOf) ? oneOf : null;
  if (alternatives === null) return object(schema);
  return object(alternatives.find((each) => object(each).type !== 'null'));
}

function typeOf(schema: JsonObject): string {
  const { type } = schema;
  if (typeof type === 'string') return type;
  const listed = strings(type).find((each) => each !== 'null');
  if (listed !== undefined) return listed;
  return Object.hasOwn(schema, 'properties') ? 'object' : 'string';
}

const mentions = (plain: string, value: unknown): boolean =>
  (typeof value === 'string' || typeof value === 'number') && plain.includes(plainOf(String(value)));

function flag(name: string, { plain }: Material): boolean | undefined {
  const about = wordsOf(name).filter(
    (word) => !STOP.has(word) && !['include', 'enable', 'with', 'has'].includes(word),
  );
  const words = wordsOf(plain);
  const at = words.findIndex((word) => about.includes(word));
  if (at < 0) return undefined;
  return !words.slice(Math.max(0, at - 3), at).some((w) => /^(?:no|not|without|don|except|disable)$/.test(w));
}

function numberFor(name: string, from: Material, fits: (value: number) => boolean): number | undefined {
  const about = wordsOf(name).filter((word) => !GENERIC.has(word));
  const near = ({ before, after }: Material['numbers'][number]): boolean =>
    wordsOf(before)
      .slice(-2)
      .some((word) => about.includes(word)) ||
    wordsOf(after)
      .slice(0, 2)
      .some((word) => about.includes(word));
  const candidates = from.numbers.filter(({ value }) => fits(value));
  const taken = candidates.find(near) ?? candidates[0];
  if (taken === undefined) return undefined;
  from.numbers.splice(from.numbers.indexOf(taken), 1);
  return taken.value;
}

function listFor(name: string, items: JsonObject, from: Material): unknown {
  if (Array.isArray(items.enum)) {
    const found = items.enum.filter((value) => mentions(from.plain, value));
    return found.length > 0 ? found : undefined;
  }
  const type = typeOf(items);
  if (type === 'number' || type === 'integer') {
    const found = from.numbers.splice(0).map(({ value }) => value);
    return found.length > 0 ? found : undefined;
  }
  if (type !== 'string') return undefined;
  const emails = is(EMAIL_NAMES, name) ? all(EMAIL, from.text) : [];
  const found =
    emails.length > 0
      ? emails
      : from.quotations.length > 0
        ? from.quotations.splice(0).map(({ value }) => value)
        : from.names;
  return found.length > 0 ? [...found] : undefined;
}

const EMAIL = /[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}/g;
const URL_TEXT = /https?:\/\/[^\s<>"')\]]{1,500}/g;
const DATE = /\b\d{4}-\d{2}-\d{2}\b/g;
const DATE_TIME = /\b\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:\d{2})?/g;
const SAID_DATE =
  /\b(?:today|tonight|tomorrow|yesterday|(?:(?:next|this|last|on) )?(?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:next|this|last) (?:week|month|year|weekend)|(?:\d{1,2}(?:st|nd|rd|th)? (?:of )?)?(?:january|february|march|april|may|june|july|august|september|october|november|december)(?: \d{1,2}(?:st|nd|rd|th)?)?(?:,? \d{4})?)\b/gi;
const TIME = /\b(?:[01]?\d|2[0-3]):[0-5]\d(?: ?[ap]m)?\b|\b(?:1[0-2]|[1-9]) ?[ap]m\b/gi;
const SYMBOL = /\b[A-Z]{2,5}(?:[/-][A-Z]{2,5})?\b/g;

const all = (pattern: RegExp, text: string): string[] => [...text.matchAll(pattern)].map(([found]) => found);
const first = (pattern: RegExp, text: string): string | undefined => all(pattern, text)[0];

/** Whether one of the words of an argument's name is among `names`. */
const is = (names: ReadonlySet<string>, name: string): boolean =>
  wordsOf(name).some((word) => names.has(word));
const setOf = (text: string): ReadonlySet<string> => new Set(wordsOf(text));

const EMAIL_NAMES = setOf('email emails mail recipient recipients attendee attendees cc bcc');
const URL_NAMES = setOf('url uri link website');
const DATE_NAMES = setOf('date day when deadline due');
const TIME_NAMES = setOf('time hour');
const PLACE_NAMES = setOf(
  'city location place where town country region state address destination origin departure arrival area venue',
);
const SYMBOL_NAMES = setOf('symbol ticker currency stock pair coin asset base quote market');
const CODE_NAMES = setOf('id number code reference sku order invoice ticket account');
const PERSON_NAMES = setOf('name person user customer contact author member employee');
const FREE_NAMES = setOf(
  'query text expression question prompt input message content body q keyword keywords term topic subject sentence statement description task request search phrase formula math note title',
);

const isFreeText = (name: string, given: unknown): boolean => {
  const schema = chosen(given);
  return takesText(given) && schema.format === undefined && is(FREE_NAMES, name);
};
const takesText = (given: unknown): boolean => {
  const schema = chosen(given);
  return typeOf(schema) === 'string' && !Array.isArray(schema.enum);
};

function textFor(name: string, { format }: JsonObject, from: Material): string | undefined {
  const { text } = from;
  if (format === 'email' || is(EMAIL_NAMES, name)) return first(EMAIL, text);
  if (format === 'uri' || format === 'url' || is(URL_NAMES, name)) return first(URL_TEXT, text);
  if (format === 'date-time') return first(DATE_TIME, text);
  if (format === 'date') return first(DATE, text);
  if (is(DATE_NAMES, name)) return first(DATE_TIME, text) ?? first(DATE, text) ?? first(SAID_DATE, text);
  if (format === 'time' || is(TIME_NAMES, name)) return first(TIME, text);
  if (/^(?:to|from|sender|receiver)$/i.test(name)) {
    const email = first(EMAIL, text);
    if (email !== undefined) return email;
  }
  const directed = withDirection(name, text);
  if (directed !== undefined) return directed;
  if (is(PLACE_NAMES, name)) return placeIn(from);
  if (is(SYMBOL_NAMES, name)) return take(all(SYMBOL, text));
  if (is(CODE_NAMES, name)) return take(from.codes);
  if (is(PERSON_NAMES, name) && from.quotations.length === 0) return called(text) ?? take(from.names);
  return quotationFor(name, from);
}

function quotationFor(name: string, { quotations }: Material): string | undefined {
  const about = wordsOf(name);
  const introduced = quotations.find(({ before }) =>
    wordsOf(before)
      .slice(-2)
      .some((w) => about.includes(w)),
  );
  const taken = introduced ?? quotations[0];
  if (taken === undefined) return undefined;
  quotations.splice(quotations.indexOf(taken), 1);
  return taken.value;
}

const take = (list: string[]): string | undefined => list.shift();

/** `from`, `to`, `origin`, `destination`, `source_currency`, …: what stands after the word in the text. */
function withDirection(name: string, text: string): string | undefined {
  const words = wordsOf(name);
  const after = words.some((word) => ['from', 'origin', 'source', 'departure', 'base'].includes(word))
    ? 'from'
    : words.some((word) => ['to', 'destination', 'target', 'arrival'].includes(word))
      ? '(?:to|into)'
      : null;
  if (after === null) return undefined;
  const found = new RegExp(`\\b${after} (${PLACE.source})`, 'u').exec(text)?.[1];
  if (found !== undefined) return found;
  return after === 'from' ? /\b([A-Z]{3}) (?:to|into|in) [A-Z]{3}\b/.exec(text)?.[1] : undefined;
}

const PLACE =
  /\p{Lu}[\p{L}'’-]{0,30}(?:[ ,]{1,2}(?:(?:of|de|del|la|upon|am|an der)\s)?\p{Lu}[\p{L}'’-]{0,30}){0,3}/u;
const IN_PLACE = new RegExp(`(?<!\\band )\\b(?:in|at|near|around) (${PLACE.source})`, 'gu');
const OF_PLACE = new RegExp(`\\b(?:for|of|to|from) (${PLACE.source})`, 'gu');
const LOWER_PLACE =
  /\b(?:in|near|at) ((?!the\b|a\b|an\b|my\b|your\b|degrees\b|celsius\b|fahrenheit\b|general\b)[\p{Ll}][\p{L}'’-]{1,30}(?: [\p{L}'’-]{2,30})??)(?=[?.!,]|\s(?:today|tonight|tomorrow|now|right|please|this|next|and)\b|\s{0,5}$)/u;

function placeIn(from: Material): string | undefined {
  // What is asked comes last: “I live in Paris. What is the weather in London?”
  const last = (pattern: RegExp) => [...from.text.matchAll(pattern)].at(-1)?.[1];
  const at = last(IN_PLACE) ?? last(OF_PLACE) ?? LOWER_PLACE.exec(from.text)?.[1];
  return at?.replace(/[.,'’-]{1,9}$/, '') ?? from.names[0];
}

const called = (text: string): string | undefined =>
  /\b(?:named|called|name is|for) (\p{Lu}[\p{L}'’-]{0,30}(?: \p{Lu}[\p{L}'’-]{0,30}){0,2})/u.exec(text)?.[1];

const ASKING =
  /^(?:please )?(?:can|could|would|will) you (?:please )?|^(?:please )?(?:search|look up|look|find|google|query|translate|summari[sz]e|analy[sz]e|evaluate|calculate|compute|check|send|post|note|write|add|create)(?: up| out| me)?(?: (?:the )?(?:web|internet|online|docs?|documents?|database|files?|text|message|note))?(?: (?:for|about|on|that|this|:))? ?:? ?/i;

function wholeText(name: string, text: string): string {
  const plain = trimmed(text);
  if (/expression|formula|math/i.test(name)) return expressionIn(plain) ?? plain;
  let rest = plain;
  for (let times = 0; times < 2; times++) rest = rest.replace(ASKING, '').trim();
  return rest === '' ? plain : rest;
}

const trimmed = (text: string): string => {
  const plain = text.trim().replace(/[?.!\s]{1,20}$/, '');
  return plain === '' ? text.trim() : plain;
};
