/**
 * What rules find in a topic and its material: each finding speaks for or against it, says why in a sentence, and
 * cites what it was found in. Nothing here is made up: without material there is next to nothing to find. Pure.
 */
import { calculate } from '../turns/tools/calculate.ts';
import {
  type Mention as DangerMention,
  dangers,
  denied,
  doneIn,
  mentionsOf,
  safeguardIn,
  WIDE,
} from './dangers.ts';
import {
  type Amount,
  amountsOf,
  type Calculation,
  calculationsOf,
  compare,
  DAYS,
  datesOf,
  keywordsOf,
  listedSteps,
  PER_YEAR,
  relationsOf,
  type Sentence,
  sameNumber,
  sentencesOf,
  stem,
} from './reading.ts';
import type { Course, Piece } from './record.ts';

/** What members care about. */
export const concerns = ['steps', 'evidence', 'benefit', 'people'] as const;
export type Concern = (typeof concerns)[number];

export interface Finding {
  readonly concern: Concern;
  /** Positive speaks for it, negative against; 1 is a reason, 3 a strong one. */
  readonly weight: number;
  readonly text: string;
  /** Ids of the material that it was found in. */
  readonly cites: readonly string[];
  /** Counts in full with every member, whatever it cares about. */
  readonly decisive?: true;
  /** What would settle it. */
  readonly asks?: string;
}

/** What is read: which material is what was asked for, and which is what is judged. */
interface Readable {
  readonly course: Pick<Course, 'topic' | 'purpose'>;
  /** Everything that was given, found or asked, the topic among it. */
  readonly pieces: readonly Piece[];
  readonly sentences: readonly Sentence[];
  /** Of a judgement: what was asked for. */
  readonly task: readonly Piece[];
  /** What may be done, or was. Of a judgement the plan or result; else the topic and what was given with it. */
  readonly subject: readonly Piece[];
  readonly subjectSentences: readonly Sentence[];
  readonly calculations: readonly Calculation[];
  /** The day that a tool gave; null when none did. */
  readonly today: string | null;
}

export const TOPIC = 'topic';

/** All findings, the same for the same material. */
export function findingsIn(course: Pick<Course, 'topic' | 'purpose' | 'material'>): readonly Finding[] {
  const readable = read(course);
  return rules[course.purpose].flatMap((rule) => rule(readable));
}

function read(course: Pick<Course, 'topic' | 'purpose' | 'material'>): Readable {
  const given = course.material.filter(({ tool }) => tool === null);
  const topic: Piece = { id: TOPIC, title: 'The topic', text: course.topic, tool: null, isError: false };
  const judging = course.purpose !== 'autonomous';
  const tasks = given.filter((piece) => isTask(piece));
  const subject = judging ? given.filter((piece) => !tasks.includes(piece)) : [topic, ...given];
  const pieces = judging ? [...course.material] : [topic, ...course.material];
  const sentences = pieces.flatMap(sentencesOf);
  return {
    course,
    pieces,
    sentences,
    task: tasks.length > 0 ? tasks : [topic],
    // With nothing but the topic, that is what is judged.
    subject: judging && given.length === 0 ? [topic] : subject,
    subjectSentences: subject.flatMap(sentencesOf),
    calculations: sentences.flatMap(calculationsOf),
    today: todayIn(course.material),
  };
}

/** What was asked for, as `openDeliberation` has it. */
const isTask = ({ id, title }: Piece): boolean =>
  id === 'task' || /^\W*(?:the\s+)?(?:task|request|question)\b/i.test(title);

const todayIn = (material: readonly Piece[]): string | null => {
  const clock = material.find(({ tool, isError }) => tool === 'current_time' && !isError);
  return /\d{4}-\d{2}-\d{2}/.exec(clock?.text ?? '')?.[0] ?? null;
};

type Rule = (readable: Readable) => Finding[];

// ── words ─────────────────────────────────────────────────────────────────
const MAX_QUOTE = 160;
export const quote = (text: string, maximum = MAX_QUOTE): string => {
  const flat = text.replace(/\s+/g, ' ').trim();
  return `“${flat.length > maximum ? `${flat.slice(0, maximum).toWellFormed()}…` : flat}”`;
};
const names = (list: readonly string[]): string =>
  list.map((one) => (one === TOPIC ? 'the topic' : `[${one}]`)).join(', ');
const unique = <Item>(list: readonly Item[]): Item[] => [...new Set(list)];

interface Mention {
  readonly word: string;
  readonly sentence: Sentence;
  readonly denied: boolean;
}
/** The first mention in each sentence. */
function mentions(sentences: readonly Sentence[], words: RegExp): Mention[] {
  return sentences.flatMap((sentence) => {
    const match = words.exec(sentence.text);
    if (match === null) return [];
    return { word: match[0].toLowerCase(), sentence, denied: denied(sentence.text, match.index) };
  });
}

// ── numbers ───────────────────────────────────────────────────────────────
/** A tool that computed the same, where one did. */
const computedBy = (readable: Readable, { expression }: Calculation): string[] => {
  const key = expression.replace(/\s/g, '');
  return readable.pieces
    .filter(({ tool, title }) => tool === 'calculate' && title.replace(/\s/g, '').endsWith(key))
    .map(({ id }) => id);
};

const claims: Rule = (readable) => {
  const seen = new Set<string>();
  return readable.calculations.flatMap((calculation): Finding[] => {
    const { expression, claimed, value, id } = calculation;
    if (claimed === null || isTool(readable, id) || seen.has(`${expression}=${claimed}`)) return [];
    seen.add(`${expression}=${claimed}`);
    const cites = unique([id, ...computedBy(readable, calculation)]);
    return sameNumber(value, claimed)
      ? [
          {
            concern: 'evidence',
            weight: 1,
            text: `${expression} = ${claimed} is right (${names(cites)}).`,
            cites,
          },
        ]
      : [
          {
            ...{ concern: 'evidence', weight: -4, cites },
            ...(readable.course.purpose !== 'autonomous' && { decisive: true as const }),
            text: `${names([id])} says that ${expression} is ${claimed}, but it is ${value}.`,
            asks: `the figure ${claimed} is corrected to ${value}`,
          },
        ];
  });
};

const isTool = ({ pieces }: Readable, id: string): boolean =>
  pieces.some((piece) => piece.id === id && piece.tool !== null);

/** Less of a cost is a benefit, and less of a benefit a cost. */
const COSTS_NOUN = '(?:costs?|rent|fees?|expenses?|bills?|spending|charges?|prices?)';
const BENEFITS_NOUN = '(?:revenues?|income|profits?|sales|earnings|turnover|gains?)';
const LESS =
  '(?:sav(?:e|es|ed|ing)|cut(?:s|ting)?|reduc(?:e[sd]?|ing)|lower(?:s|ed|ing)?|avoid(?:s|ed|ing)?)';
const LOST = '(?:los(?:e|es|s|ses|t|ing)|forgo(?:es)?|miss(?:es|ed|ing)?)';
/** What an amount is for, by the word beside it; of two that end at the same place the first counts. */
const sides = [
  [
    'budget',
    /\b(?:budget(?:ed)?(?: of| is)?|at most|maximum|no more than|up to|limit(?:ed)?(?: to| of| is)?|cap(?:ped)?(?: at)?|afford)\b/gi,
  ],
  ['cost', new RegExp(`\\b${LOST}(?:\\s+(?:of|in|the|our|my|their))?\\s+${BENEFITS_NOUN}\\b`, 'gi')],
  [
    'benefit',
    new RegExp(
      `\\b${LESS}(?:\\s+(?:us|them|me|on|the|our|my|their|its|your|\\w+ing)){0,2}\\s+${COSTS_NOUN}\\b|\\b(?:gets?|are|is) paid\\b(?! (?:for|out) by us)`,
      'gi',
    ),
  ],
  [
    'benefit',
    /\b(?:sav(?:e|es|ed|ing|ings)|earn\w*|revenues?|gain(?:s|ed)?|profits?|benefits?|brings?|brought|returns?|worth(?! it)|income|sales|sells?|sold|turnover|yields?|makes us|takes? in)\b/gi,
  ],
  [
    'cost',
    /\b(?:costs?|costing|prices?|priced|fees?|pa(?:y|ys|id|ying|yments?)|spen[dt]\w*|expens\w+|charges?|charged|bills?|rent|buy(?:s|ing)?|bought|purchas\w+|salar(?:y|ies)|wages?|subscriptions?|invoices?|loss(?:es)?|lose\w*|invest\w*)\b/gi,
  ],
] as const;

type Side = (typeof sides)[number][0];

interface Nearest {
  readonly side: Side;
  /** In UTF-16 code units. */
  readonly distance: number;
}
function nearest(left: string, right: string): Nearest | null {
  const found = sides.flatMap(([side, words]) => [
    ...[...left.matchAll(words)].map((match) => ({
      side,
      distance: left.length - match.index - match[0].length,
    })),
    ...[...right.matchAll(words)].map(({ index }) => ({ side, distance: index })),
  ]);
  return found.reduce<Nearest | null>(
    (best, one) => (best === null || one.distance < best.distance ? one : best),
    null,
  );
}

/** The word that stands nearest to the amount says what it is for: in its clause, else in its sentence. */
function sideOf({ clause, before, after, sentence, text }: Amount): Side | null {
  const at = sentence.text.indexOf(text);
  const [left, right] = at < 0 ? [clause, ''] : [sentence.text.slice(0, at), sentence.text.slice(at)];
  return (nearest(before, after) ?? nearest(clause, '') ?? nearest(left, right))?.side ?? null;
}
/** A number without a currency is money only right beside such a word, and where it counts nothing else. */
const BESIDE = 10;
const COUNTS_THINGS = /\d\s?(?!k\b|m\b|thousand\b|million\b|billion\b)\p{L}{2,}/iu;
const isMoney = ({ currency, per, before, after, text }: Amount): boolean =>
  currency !== null ||
  ((per !== null || !COUNTS_THINGS.test(text)) && (nearest(before, after)?.distance ?? BESIDE + 1) <= BESIDE);

const perYear = ({ value, per }: Amount): string =>
  per === null ? value : calculate(`${value} * ${PER_YEAR[per]}`);
const sum = (amounts: readonly Amount[], of: (amount: Amount) => string): string =>
  amounts.reduce((total, amount) => calculate(`${total} + ${of(amount)}`), '0');
const idsOf = (amounts: readonly Amount[]): string[] => unique(amounts.map(({ sentence }) => sentence.id));
const MAX_SUMMED = 12;

const money: Rule = (readable) => {
  const all = readable.sentences
    .filter(({ id }) => !isTool(readable, id))
    .flatMap(amountsOf)
    .filter((amount) => !amount.percent && amount.duration === null && isMoney(amount));
  // What is said twice counts once.
  const said = new Map(
    all.map((one) => [`${sideOf(one)} ${one.value} ${one.per} ${one.sentence.text}`, one]),
  );
  const named = unique([...said.values()].flatMap(({ currency }) => currency ?? []));
  // Where one currency is named, it is that of the amounts beside it, too.
  const [only = null] = named.length === 1 ? named : [];
  const currencyOf = ({ currency }: Amount) => currency ?? only;
  const currencies = unique([...said.values()].map(currencyOf));
  return currencies.flatMap((currency) => {
    const amounts = [...said.values()].filter((one) => currencyOf(one) === currency);
    const of = (side: Side) => amounts.filter((one) => sideOf(one) === side).slice(0, MAX_SUMMED);
    return balance(of('cost'), of('benefit'), of('budget'), currency === null ? '' : ` ${currency}`);
  });
};

function balance(
  costs: readonly Amount[],
  benefits: readonly Amount[],
  budgets: readonly Amount[],
  unit: string,
): Finding[] {
  const findings: Finding[] = [];
  const recurring = (list: readonly Amount[]) => list.filter(({ per }) => per !== null);
  const once = (list: readonly Amount[]) => list.filter(({ per }) => per === null);
  const compared = (cost: readonly Amount[], benefit: readonly Amount[]): void => {
    const both = [...cost, ...benefit];
    const [{ per }] = both as [Amount];
    // What is all per month is compared per month; what is not, per year.
    const same = both.every((one) => one.per === per);
    const kind = per === null ? '' : ` a ${same ? per : 'year'}`;
    const value = same ? (one: Amount) => one.value : perYear;
    const show = same ? (list: readonly Amount[]) => list.map((one) => one.value).join(' + ') : written;
    const worked = (list: readonly Amount[], total: string): string =>
      list.length === 1 && /^[\d.]+$/.test(show(list))
        ? `${total}${unit}${kind}`
        : `${show(list)} = ${total}${unit}${kind}`;
    const paid = sum(cost, value);
    const gained = sum(benefit, value);
    const net = calculate(`${gained} - ${paid}`).replace('-', '');
    const cites = unique([...idsOf(benefit), ...idsOf(cost)]);
    const [gain, price] = [`benefits of ${worked(benefit, gained)}`, `costs of ${worked(cost, paid)}`];
    const sign = compare(gained, paid);
    const stands =
      sign === 0
        ? `The ${price} are even with ${gain}`
        : `The ${sign > 0 ? gain : price} exceed ${sign > 0 ? price : gain} by ${net}${unit}${kind}`;
    findings.push({
      concern: 'benefit',
      weight: sign > 0 ? (compare(gained, calculate(`2 * ${paid}`)) >= 0 ? 3 : 2) : sign < 0 ? -3 : 0,
      text: `${stands} (${names(cites)}).`,
      cites,
      asks: sign > 0 ? 'the costs turn out higher than the benefits' : 'the benefits exceed the costs',
    });
  };

  const [costsPerYear, benefitsPerYear] = [recurring(costs), recurring(benefits)];
  const [costsOnce, benefitsOnce] = [once(costs), once(benefits)];
  if (costsPerYear.length > 0 && benefitsPerYear.length > 0) compared(costsPerYear, benefitsPerYear);
  if (costsOnce.length > 0 && benefitsOnce.length > 0) compared(costsOnce, benefitsOnce);
  if (costsOnce.length > 0 && benefitsOnce.length === 0 && benefitsPerYear.length > 0) {
    findings.push(...payback(costsOnce, costsPerYear, benefitsPerYear, unit));
  }
  if (
    costsOnce.length === 0 &&
    costsPerYear.length > 0 &&
    benefitsOnce.length > 0 &&
    benefitsPerYear.length === 0
  ) {
    const cites = unique([...idsOf(costs), ...idsOf(benefits)]);
    const list = (amounts: readonly Amount[]) =>
      amounts.map(({ text, per }) => label(text, per)).join(' and ');
    findings.push({
      ...{ concern: 'benefit', weight: -1, cites },
      text: `The costs of ${list(costs)} come again and again, and no period is named for the benefits of ${list(benefits)} (${names(cites)}).`,
      asks: 'it is said how often the benefits come',
    });
  }
  if (costs.length > 0 && benefits.length === 0) {
    const cites = idsOf(costs);
    findings.push({
      concern: 'benefit',
      weight: -1,
      text: `It costs ${costs.map(({ text, per }) => label(text, per)).join(' and ')} (${names(cites)}), and nothing says what that brings.`,
      cites,
      asks: 'somebody names what it brings, as a figure',
    });
  }
  if (costs.length === 0 && benefits.length > 0) {
    const cites = idsOf(benefits);
    findings.push({
      concern: 'benefit',
      weight: 1,
      text: `It brings ${benefits.map(({ text, per }) => label(text, per)).join(' and ')} (${names(cites)}).`,
      cites,
    });
    findings.push({
      concern: 'evidence',
      weight: -0.5,
      text: `What it brings is named (${names(cites)}), what it costs is not.`,
      cites,
      asks: 'the costs are named',
    });
  }
  for (const budget of budgets) {
    const cost = budget.per === null ? costsOnce : costsPerYear;
    if (cost.length === 0) continue;
    const [allowed, needed] = [perYear(budget), sum(cost, perYear)];
    const cites = unique([...idsOf([budget]), ...idsOf(cost)]);
    const over = compare(needed, allowed) > 0;
    const kind = budget.per === null ? '' : ' a year';
    findings.push({
      concern: 'benefit',
      weight: over ? -3 : 1,
      ...(over && { decisive: true }),
      text: over
        ? `It needs ${needed}${unit}${kind}, which is ${calculate(`${needed} - ${allowed}`)}${unit} over the limit of ${allowed}${unit}${kind} (${names(cites)}).`
        : `The ${needed}${unit}${kind} that it needs are within the limit of ${allowed}${unit}${kind} (${names(cites)}).`,
      cites,
      asks: over ? `it can be done for ${allowed}${unit}${kind}` : 'the limit is lowered',
    });
  }
  return findings;
}

const label = (text: string, per: Amount['per']): string =>
  per === null || /\b(?:hour|day|week|month|year|ly)/i.test(text) ? text : `${text} a ${per}`;
const written = (list: readonly Amount[]): string =>
  list
    .map(({ value, per }) => (per === null || per === 'year' ? value : `${value} × ${PER_YEAR[per]}`))
    .join(' + ');

function payback(
  once: readonly Amount[],
  costsPerYear: readonly Amount[],
  benefitsPerYear: readonly Amount[],
  unit: string,
): Finding[] {
  const price = sum(once, ({ value }) => value);
  const yearly = calculate(`${sum(benefitsPerYear, perYear)} - ${sum(costsPerYear, perYear)}`);
  if (compare(yearly, '0') <= 0) return [];
  const months = Number(calculate(`${price} / (${yearly} / 12)`));
  const cites = unique([...idsOf(once), ...idsOf(benefitsPerYear), ...idsOf(costsPerYear)]);
  return [
    {
      concern: 'benefit',
      weight: months <= 12 ? 2 : months <= 36 ? 1 : -1,
      text: `At ${yearly}${unit} a year it pays for its ${price}${unit} after ${Math.round(months * 10) / 10} months (${names(cites)}).`,
      cites,
      asks: 'it pays for itself later or sooner than that',
    },
  ];
}

// ── time ──────────────────────────────────────────────────────────────────
const DEADLINE = /\b(?:deadline|due|by|until|before|expires?|no later than|ends? on|launch)\b/i;
const NEEDS_TIME = /\b(?:takes?|needs?|requires?|lasts?|will take|duration)\b/i;
const DAY_MS = 86_400_000;

const deadlines: Rule = (readable) => {
  const { today, sentences } = readable;
  if (today === null) return [];
  const clock = readable.pieces.find(({ tool }) => tool === 'current_time')!.id;
  const durations = sentences
    .filter(({ text, id }) => NEEDS_TIME.test(text) && !isTool(readable, id))
    .flatMap(amountsOf)
    .filter(({ duration }) => duration !== null);
  return sentences
    .filter(({ text, id }) => DEADLINE.test(text) && !isTool(readable, id))
    .flatMap(datesOf)
    .slice(0, 5)
    .flatMap(({ date, sentence }): Finding[] => {
      const days = Math.round((Date.parse(date) - Date.parse(today)) / DAY_MS);
      const cites = unique([sentence.id, clock]);
      if (days < 0) {
        return [
          {
            ...{ concern: 'steps', weight: -2, cites },
            text: `The date ${date} in ${names([sentence.id])} passed ${-days} days ago (${names([clock])}).`,
            asks: 'there is a date that can still be met',
          },
        ];
      }
      const longest = durations.reduce<Amount | null>(
        (a, b) => (a === null || daysOf(b) > daysOf(a) ? b : a),
        null,
      );
      if (longest === null) {
        return [
          {
            ...{ concern: 'steps', weight: 0.25, cites },
            text: `Until ${date} there are ${days} days (${names(cites)}).`,
            asks: `the work takes longer than ${days} days`,
          },
        ];
      }
      const needed = Math.ceil(daysOf(longest));
      const late = needed > days;
      const both = unique([...cites, longest.sentence.id]);
      return [
        {
          ...{ concern: 'steps', weight: late ? -3 : 1, cites: both },
          text: `Until ${date} there are ${days} days, and ${longest.text} are ${needed}: ${
            late ? `${needed - days} too many` : `enough, with ${days - needed} to spare`
          } (${names(both)}).`,
          asks: late ? `it takes no more than ${days} days` : `it takes more than ${days} days`,
        },
      ];
    });
};
const daysOf = ({ value, duration }: Amount): number => Number(value) * DAYS[duration ?? 'day'];

// ── what does not fit together, or is not known ───────────────────────────
const contradictions: Rule = ({ sentences }) => {
  const said = new Map<string, { sentence: Sentence; number: string; negative: boolean }>();
  const findings: Finding[] = [];
  for (const sentence of sentences) {
    const keywords = [...keywordsOf(sentence.text).keys()];
    if (keywords.length < 2 || keywords.length > 14 || sentence.text.endsWith('?')) continue;
    const numbers = amountsOf(sentence);
    if (numbers.length > 1) continue;
    const [amount] = numbers;
    const negative = /\b(?:not|never|no|isn['’]t|doesn['’]t|cannot|can['’]t|won['’]t)\b/i.test(sentence.text);
    const number = amount === undefined ? '' : amount.value;
    const key = keywords.sort().join(' ');
    const before = said.get(key);
    if (before === undefined) {
      said.set(key, { sentence, number, negative });
      continue;
    }
    if (before.number === number && before.negative === negative) continue;
    const cites = unique([before.sentence.id, sentence.id]);
    findings.push({
      ...{ concern: 'evidence', weight: -2, cites },
      text: `${quote(before.sentence.text)} in ${names([before.sentence.id])} and ${quote(sentence.text)} in ${names([sentence.id])} contradict each other.`,
      asks: `it is clear which of ${names(cites)} is right`,
    });
  }
  return findings.slice(0, 4);
};

const UNSURE =
  /\b(?:probably|maybe|perhaps|i (?:think|guess|believe|assume)|presumably|assum(?:e|es|ed|ing|ption)|should (?:work|be fine|be ok)|hopefully|not sure|unsure|untested|unverified|roughly|supposedly|allegedly|apparently|surely)\b/i;
const SHOWN = /\b(?:verified|measured|tested|confirmed|audited|according to|benchmark\w*|evidence shows)\b/i;

const certainty: Rule = (readable) => {
  const own = readable.subjectSentences;
  const unsure = mentions(own, UNSURE)
    .slice(0, 3)
    .map(
      ({ word, sentence }): Finding => ({
        ...{ concern: 'evidence', weight: -1, cites: [sentence.id] },
        text: `${quote(sentence.text)} in ${names([sentence.id])} is not verified: it says “${word}”.`,
        asks: `${quote(sentence.text, 60)} is verified`,
      }),
    );
  const shown = mentions(own, SHOWN)
    .slice(0, 2)
    .map(({ word, sentence, denied: not }): Finding => {
      const cites = [sentence.id];
      return not
        ? {
            ...{ concern: 'evidence', weight: -1, cites },
            text: `${quote(sentence.text)} in ${names(cites)} says itself that it is not ${word}.`,
            asks: 'it is',
          }
        : {
            ...{ concern: 'evidence', weight: 0.75, cites },
            text: `${quote(sentence.text)} in ${names(cites)} rests on something that was ${word}.`,
          };
    });
  return [...unsure, ...shown];
};

const UNKNOWN =
  /\b(?:tb[da]|to be (?:decided|determined|announced|done)|unknown|not known|unclear|undecided|missing|no (?:data|information|estimates?|figures?|numbers?|budget|deadline|owner))\b|\?\?\?/i;

const missing: Rule = ({ subjectSentences, course }) => {
  const unknown = mentions(subjectSentences, UNKNOWN)
    .filter((one) => !one.denied)
    .slice(0, 3)
    .map(
      ({ sentence }): Finding => ({
        ...{ concern: 'steps', weight: -1, cites: [sentence.id] },
        text: `Missing: ${quote(sentence.text)} (${names([sentence.id])}).`,
        asks: `what is open in ${quote(sentence.text, 60)} is known`,
      }),
    );
  const open = subjectSentences
    .filter(({ text, id }) => id !== TOPIC && text.endsWith('?') && course.purpose === 'autonomous')
    .slice(0, 2)
    .map(
      ({ text, id }): Finding => ({
        ...{ concern: 'steps', weight: -0.5, cites: [id] },
        text: `${quote(text)} in ${names([id])} has no answer.`,
        asks: `${quote(text, 60)} is answered`,
      }),
    );
  return [...unknown, ...open];
};

const tools: Rule = ({ pieces }) =>
  pieces.flatMap((piece): Finding[] => {
    if (piece.tool === null) return [];
    const cites = [piece.id];
    if (piece.isError) {
      return [
        {
          ...{ concern: 'evidence', weight: -0.5, cites },
          text: `${piece.tool} found nothing: ${quote(piece.text, 120)} (${names(cites)}).`,
          asks: `${piece.tool} works`,
        },
      ];
    }
    const lines = piece.text.split('\n').filter((line) => line.startsWith('- '));
    if (lines.length === 0) return [];
    const more = lines.length > 1 ? `, and ${lines.length - 1} more` : '';
    return [
      {
        ...{ concern: 'evidence', weight: 0.25, cites },
        text: `${piece.tool} found ${quote(lines[0]!.slice(2), 120)}${more} (${names(cites)}).`,
      },
    ];
  });

// ── harm ──────────────────────────────────────────────────────────────────
/** What a result did, or what a plan, a topic or the task itself would do, that cannot be taken back. */
const harm: Rule = (readable) => (readable.course.purpose === 'result' ? done(readable) : intended(readable));

function intended({ course, subject, subjectSentences, task }: Readable): Finding[] {
  const { purpose } = course;
  const judging = purpose !== 'autonomous';
  // A plan for what must not be done is no better for not saying so.
  const asked = judging ? task.filter((piece) => !subject.includes(piece)).flatMap(sentencesOf) : [];
  const findings: Finding[] = [];
  const all = dangers
    .filter(({ judgedOnly }) => judging || judgedOnly === undefined)
    .map((danger) => ({
      danger,
      wanted: mentionsOf(asked, danger.words, purpose),
      planned: mentionsOf(subjectSentences, danger.words, purpose),
    }));
  const are = (as: DangerMention['as'], list: readonly DangerMention[]) =>
    list.filter((one) => one.as === as);
  const everyMention = all.flatMap(({ wanted, planned }) => are('meant', [...wanted, ...planned]));
  const guard = safeguardIn([...asked, ...subjectSentences], everyMention);
  for (const { danger, wanted, planned } of all) {
    const [meant, ...others] = are('meant', [...wanted, ...planned]);
    const [refrains] = are('denied', planned);
    const keepsFrom = refrains !== undefined && are('meant', planned).length === 0;
    if (meant === undefined || keepsFrom) {
      if (refrains !== undefined) {
        const cites = [refrains.sentence.id];
        findings.push({
          ...{ concern: 'people', weight: 0.5, cites },
          text: `${quote(refrains.sentence.text)} in ${names(cites)} keeps from what ${danger.what}.`,
        });
      }
      continue;
    }
    const { sentence, word } = meant;
    const wide = WIDE.test(sentence.text);
    const weight = danger.weight * (wide ? 1.5 : 1) * (guard === null ? 1 : 0.25);
    const cites = unique([sentence.id, ...(guard === null ? [] : [guard.sentence.id])]);
    findings.push({
      concern: 'people',
      weight: -weight,
      ...((danger.decisive || wide) && guard === null && { decisive: true }),
      text:
        `${quote(sentence.text)} in ${names([sentence.id])} ${danger.what} (“${word}”)` +
        `${wide ? ', and not only in a small part' : ''}` +
        `${others.length > 0 ? `, as ${others.length === 1 ? 'does another sentence' : `do ${others.length} other sentences`}` : ''}` +
        `${guard === null ? '; no backup, confirmation or way back is mentioned.' : `; against that stands “${guard.word}” in ${quote(guard.sentence.text, 80)}.`}`,
      cites,
      asks: 'there is a backup or a confirmation first, or a smaller step that can be taken back',
    });
    if (judging && asked.length > 0 && are('meant', wanted).length === 0) {
      findings.push({
        ...{ concern: 'evidence', weight: -2, cites: [sentence.id] },
        text: `The task does not ask for anything that ${danger.what}; ${names([sentence.id])} has “${word}”.`,
        asks: 'somebody who may ask for it does',
      });
    }
  }
  const read = unique([...asked.map(({ id }) => id), ...subject.map(({ id }) => id)]).slice(0, 4);
  if (everyMention.length === 0 && subject.some(({ text }) => text.trim() !== '')) {
    findings.push({
      ...{ concern: 'people', weight: judging ? 1 : 0.5, cites: read },
      text: `Nothing in ${names(read)} sets out to delete, transfer, send or publish anything, or gives out secrets.`,
      asks: 'something that cannot be undone is added',
    });
  }
  return findings;
}

function done({ subject, subjectSentences, task }: Readable): Finding[] {
  const cites = unique(subject.map(({ id }) => id)).slice(0, 4);
  const did = doneIn(subjectSentences);
  if (did === null) {
    if (!subject.some(({ text }) => text.trim() !== '')) return [];
    const text = `Nothing in ${names(cites)} says that anything was deleted, paid, sent or published, and there is no secret in it.`;
    return [{ concern: 'people', weight: 1, text, cites, asks: 'it did something that cannot be undone' }];
  }
  const guard = safeguardIn([...task.flatMap(sentencesOf), ...subjectSentences], []);
  return [
    {
      ...{ concern: 'people', weight: guard === null ? -5 : -1, cites: [did.sentence.id] },
      ...(guard === null && { decisive: true as const }),
      text: `${quote(did.sentence.text)} in ${names([did.sentence.id])} (“${did.word}”) cannot be taken back${guard === null ? ', and nothing says that somebody agreed to it.' : `; against that stands ${quote(guard.sentence.text, 80)}.`}`,
      asks: 'somebody who may ask for it agreed to it before',
    },
  ];
}

const HURTS =
  /\b(?:harm(?:s|ed|ful|ing)?|injur\w+|unsafe|deceiv\w+|deception|mislead\w*|lie to|lying to|hide (?:it|this|them) from|spy\w*|surveil\w*|discriminat\w+|exploit (?:the )?(?:people|users|workers|customers)|illegal\w*|unlawful\w*|violat\w+|steal(?:s|ing)?|hack(?:s|ing)? into|phish(?:es|ing)?|blackmail\w*|launder(?:s|ing)?|counterfeit\w*|brib(?:e|es|ing|ery)|defraud\w*|scam(?:s|ming)?|ransomware|malware|ddos|explosives?|poison(?:s|ing)?|weapons?|lay(?:ing)? off|layoffs?|fire (?:people|staff|employees|workers)|without (?:their |any )?(?:consent|permission|knowledge))\b/gi;
const PRIVATE =
  /\b(?:personal data|medical|health (?:data|records?)|children|minors|privacy|location data|biometric\w*)\b/i;
const KIND =
  /\b(?:consent(?:s|ed)?|voluntar\w+|opt[- ]in|transparen\w+|accessib\w+|safer|safety|fair(?:ly|er)?|anonymi[sz]\w+)\b/i;

const people: Rule = ({ course, task, subject, subjectSentences }) => {
  const findings: Finding[] = [];
  const asked =
    course.purpose === 'plan' ? task.filter((piece) => !subject.includes(piece)).flatMap(sentencesOf) : [];
  const hurting = mentionsOf([...asked, ...subjectSentences], HURTS, course.purpose);
  for (const { word, sentence, as } of hurting.slice(0, 3)) {
    if (as === 'spoken of' && course.purpose !== 'autonomous') continue;
    // “without consent” is itself a denial.
    const against = as !== 'denied' || word.startsWith('without');
    const cites = [sentence.id];
    findings.push(
      against
        ? {
            ...{ concern: 'people', weight: -3, decisive: true, cites },
            text: `${quote(sentence.text)} in ${names(cites)} is done to people (“${word}”).`,
            asks: 'those affected agree, or it is done in another way',
          }
        : {
            ...{ concern: 'people', weight: 0.5, cites },
            text: `${quote(sentence.text)} in ${names(cites)} rules harm out.`,
          },
    );
  }
  const agreed = mentions(subjectSentences, KIND).filter(
    (one) => !one.denied && !/\bwithout\b.{0,20}consent/i.test(one.sentence.text),
  );
  for (const { sentence } of mentions(subjectSentences, PRIVATE).slice(0, 2)) {
    const cites = [sentence.id];
    findings.push({
      ...{ concern: 'people', weight: agreed.length > 0 ? -0.5 : -1.5, cites },
      text: `${quote(sentence.text)} in ${names(cites)} concerns people’s privacy${agreed.length > 0 ? '' : ', and says nothing of their consent'}.`,
      asks: 'those whose data it is have agreed',
    });
  }
  for (const { word, sentence } of agreed.slice(0, 2)) {
    findings.push({
      ...{ concern: 'people', weight: 0.75, cites: [sentence.id] },
      text: `${quote(sentence.text)} in ${names([sentence.id])} takes care of people (“${word}”).`,
    });
  }
  return findings;
};

// ── what it is good for ───────────────────────────────────────────────────
const GOOD =
  /\b(?:improv(?:e[sd]?|ing|ements?)|faster|simpler|easier|cheaper|useful|valuable|grow(?:s|ing|th)?|advantages?|opportunit(?:y|ies)|reduc(?:e[sd]?|ing) (?:the )?(?:costs?|risks?|time|errors?|waste)|reliabl[ey]|healthier|happier|demand|enjoy\w*)\b/i;
const BAD =
  /\b(?:risk(?:s|y)?|slower|worse|expensive|problems?|fail(?:s|ed|ure|ures)?|delay(?:s|ed)?|disadvantages?|drawbacks?|complain(?:s|ed|ts?)|outages?|breaks?|broken|bugs?|overload(?:ed)?|tired|difficult|hard to)\b/i;

const prospects: Rule = (readable) => {
  const own = readable.sentences.filter(({ id }) => id !== TOPIC && !isTool(readable, id));
  const findings = (words: RegExp, weight: number): Finding[] =>
    mentions(own, words)
      .slice(0, 3)
      .map(({ sentence, denied: not }) => ({
        concern: 'benefit',
        weight: not ? -weight : weight,
        text: `${quote(sentence.text)} (${names([sentence.id])}) speaks ${weight > 0 !== not ? 'for' : 'against'} it.`,
        cites: [sentence.id],
        asks: `${quote(sentence.text, 60)} turns out otherwise`,
      }));
  return [...findings(GOOD, 0.75), ...findings(BAD, -0.75)];
};

// ── plans ─────────────────────────────────────────────────────────────────
const CHECKS =
  /\b(?:check(?:s|ed|ing)?|verif(?:y|ies|ied|ying)|tests?|testing|review(?:s|ed|ing)?|confirm(?:s|ed)?|validat\w+|compare(?:s|d)?)\b/i;

const plan: Rule = ({ subject, subjectSentences }) => {
  const cites = subject.map(({ id }) => id);
  const text = subject.map((piece) => piece.text).join('\n');
  if (text.trim() === '') {
    return [
      {
        ...{ concern: 'steps', weight: -5, decisive: true, cites },
        text: 'The plan is empty.',
        asks: 'there is a plan',
      },
    ];
  }
  const listed = listedSteps(text);
  const steps = listed.length > 0 ? listed.length : subjectSentences.length;
  const findings: Finding[] = [
    steps > 1
      ? {
          ...{ concern: 'steps', weight: 2, cites },
          text: `The plan has ${steps} steps, the first ${quote(listed[0] ?? subjectSentences[0]!.text, 80)} (${names(cites)}).`,
          asks: 'a step cannot be carried out',
        }
      : {
          ...{ concern: 'steps', weight: 0.5, cites },
          text: `The plan is a single step: ${quote(text, 80)} (${names(cites)}).`,
          asks: 'it is said how that is done',
        },
  ];
  const [check] = mentions(subjectSentences, CHECKS).filter((one) => !one.denied);
  findings.push(
    check === undefined
      ? {
          ...{ concern: 'evidence', weight: steps > 2 ? -0.5 : 0, cites },
          text: `No step checks what the others did (${names(cites)}).`,
          asks: 'a step checks the outcome',
        }
      : {
          ...{ concern: 'evidence', weight: 1, cites: [check.sentence.id] },
          text: `${quote(check.sentence.text, 100)} checks the work (${names([check.sentence.id])}).`,
        },
  );
  return findings;
};

/** Words that say the same; each row by the form that `stem` gives. */
const SAME: ReadonlyMap<string, string> = new Map(
  [
    'summarise summarize summary condense shorten digest',
    'write draft compose author word',
    'find search look locate seek recall lookup retrieve',
    'delete remove erase wipe purge',
    'fix repair mend correct debug',
    'make create build produce prepare generate develop',
    'begin start launch',
    'buy purchase order acquire',
    'check verify test review inspect validate examine',
    'compare contrast comparison difference',
    'customer client buyer',
    'mail email message letter',
    'document doc file report',
    'explain describe clarify explanation description',
    'price cost fee',
    'conversation chat discussion',
    'meeting appointment',
    'multiply product times',
    'add sum total',
    'divide quotient',
    'subtract minus',
    'date day calendar',
    'big large',
    'quick fast',
  ].flatMap((row) => {
    const words = row.split(' ');
    return words.map((word) => [stem(word), words[0]!] as const);
  }),
);
/** The same for the forms of a word, and for words that say the same. */
const sense = (key: string): string => SAME.get(key) ?? (key.length > 6 ? key.slice(0, 6) : key);
const sensesIn = (text: string): Set<string> =>
  new Set([...[...keywordsOf(text).keys()].map(sense), ...numbersIn(text)]);
/** What a task is about: the words that matter, and the numbers; each as it is written, by its sense. */
const wantedIn = (task: readonly Piece[]): [sense: string, word: string][] => {
  const text = task.map((piece) => piece.text).join('\n');
  const words = [...keywordsOf(text)].map(([key, word]) => [sense(key), word] as const);
  const numbers = numbersIn(text).map((number) => [number, number] as const);
  return [...new Map([...words, ...numbers])].slice(0, 60);
};

/** How far what is judged speaks of what was asked for. */
const coverage: Rule = ({ task, subject }) => {
  const wanted = wantedIn(task);
  const said = sensesIn(subject.map(({ text }) => text).join('\n'));
  if (wanted.length < 2 || said.size === 0) return [];
  const cites = unique([...task, ...subject].map(({ id }) => id)).filter((id) => id !== TOPIC);
  const words = (taken: boolean) => wanted.flatMap(([key, word]) => (said.has(key) === taken ? word : []));
  const [covered, lacking] = [words(true), words(false)];
  const share = covered.length / wanted.length;
  const list = (some: readonly string[]) => some.slice(0, 6).join(', ');
  if (covered.length === 0) {
    return [
      {
        ...{ concern: 'evidence', weight: -5, decisive: true, cites },
        text: `It does not speak of what was asked for: no word of ${list(lacking)} (${names(cites)}).`,
        asks: 'it takes up the task',
      },
    ];
  }
  if (share < 0.25) {
    return [
      {
        ...{ concern: 'evidence', weight: -1, cites },
        text: `Of what was asked for it takes up only ${list(covered)}, and not ${list(lacking)} (${names(cites)}).`,
        asks: `it takes up ${list(lacking)}`,
      },
    ];
  }
  return [
    {
      ...{ concern: 'evidence', weight: share >= 0.5 ? 2 : 1, cites },
      text: `It takes up ${covered.length} of the ${wanted.length} words and numbers of the task that matter: ${list(covered)} (${names(cites)}).`,
      asks: 'the task turns out to be another one',
    },
  ];
};

/** A step that says itself that it cannot be carried out as things are. */
const NOT_FEASIBLE =
  /\b(?:needs? a language model|would take the tool|no tool (?:that )?(?:i|we) have|cannot be (?:done|carried out)|(?:i|we) (?:cannot|can['’]t|am unable to|are unable to) do)\b/i;

const feasible: Rule = ({ subject, subjectSentences }) => {
  const steps = subject.flatMap(({ id, text }) => listedSteps(text).map((step) => ({ id, text: step })));
  const all = steps.length > 0 ? steps : subjectSentences;
  const open = all.filter(({ text }) => NOT_FEASIBLE.test(text));
  if (open.length === 0) return [];
  const cites = unique(open.map(({ id }) => id));
  const none = all.every(({ text }) => NOT_FEASIBLE.test(text) || REPORTS.test(text));
  return [
    {
      ...{ concern: 'steps', weight: none ? -5 : -1.5, cites },
      ...(none && { decisive: true as const }),
      text: `${none ? 'No step of it can be carried out' : `${open.length} of its ${all.length} steps cannot be carried out`} as things are: ${quote(open[0]!.text, 140)} (${names(cites)}).`,
      asks: 'somebody, or a tool, can do that part',
    },
  ];
};
/** What tells of the other steps is no work of its own. */
const REPORTS = /^(?:report|tell|say|hand over)\b/i;

// ── results ───────────────────────────────────────────────────────────────
const FAILED =
  /^\W*(?:error|failed|failure|exception|traceback|fatal)\b|\b(?:could not|couldn['’]t|unable to|i (?:cannot|can['’]t|am not able)|did not (?:work|succeed)|gave up|timed? ?out|no answer)\b/i;

/** What was asked for and was not done. */
const UNDONE =
  /^\W*(?:not (?:yet )?(?:done|finished|answered)|left (?:undone|open)|to do\b|todo\b)|\b(?:i (?:cannot|can['’]t|could not|couldn['’]t|did not|didn['’]t|was not able to|am not able to|am unable to|was unable to) (?:do|answer|carry|finish|complete|reason|perform|help|work that|calculate|understand)|(?:was|were|is|are|remains?|has been|have been) (?:not done|left undone|not carried out|not finished|unfinished|undone)|what is left: |left for a language model)/i;

const result: Rule = (readable) => {
  const { subject, subjectSentences, task } = readable;
  const cites = subject.map(({ id }) => id);
  const text = subject.map((piece) => piece.text).join('\n');
  if (text.trim() === '') {
    return [
      {
        ...{ concern: 'evidence', weight: -5, decisive: true, cites },
        text: `The result is empty (${names(cites)}).`,
        asks: 'there is a result',
      },
    ];
  }
  const findings: Finding[] = [
    {
      ...{ concern: 'steps', weight: 1, cites },
      text: `There is a result: ${quote(text, 100)} (${names(cites)}).`,
      asks: 'it turns out to be something else',
    },
  ];
  for (const { sentence } of mentions(subjectSentences, FAILED).slice(0, 2)) {
    findings.push({
      ...{ concern: 'steps', weight: -4, cites: [sentence.id] },
      // A result that begins so, or is nothing but that, is none.
      ...((sentence === subjectSentences[0] || subjectSentences.length <= 2) && { decisive: true as const }),
      text: `${quote(sentence.text)} in ${names([sentence.id])} says that it did not work.`,
      asks: 'it works',
    });
  }
  const undone = subjectSentences.find((sentence) => UNDONE.test(sentence.text));
  if (undone !== undefined) {
    findings.push({
      ...{ concern: 'steps', weight: -6, decisive: true, cites: [undone.id] },
      text: `${quote(undone.text)} in ${names([undone.id])} admits that it was left undone.`,
      asks: 'that part is done, too',
    });
  }
  const answers = expected(readable);
  const answered = answers.some(({ weight }) => weight > 0);
  findings.push(...answers, ...related(readable, answered));
  findings.push(...figures(readable), ...parts(subjectSentences, task, cites));
  return findings;
};

/** What the task asks to compute and to compare, the result has to say. */
function expected({ task, subject }: Readable): Finding[] {
  const text = subject.map((piece) => piece.text).join('\n');
  const cites = unique([...task, ...subject].map(({ id }) => id));
  const stated = numbersIn(text);
  const asked = task.flatMap(sentencesOf);
  const wanted = unique(asked.flatMap(calculationsOf).filter(({ claimed }) => claimed === null)).slice(0, 5);
  const [only] = wanted;
  const comparisons =
    wanted.length === 1 && only !== undefined
      ? comparedWith(asked.map((sentence) => sentence.text).join('\n'), only, text)
      : [];
  const found = comparisons.map(({ to, right, said }): Finding => {
    const sign = compare(only!.value, to);
    const stands = sign === 0 ? 'equal to' : sign > 0 ? 'above' : 'below';
    return right
      ? {
          ...{ concern: 'evidence', weight: 3, cites },
          text: `${only!.expression} is ${only!.value}, ${stands} ${to}, and the result says “${said}” (${names(cites)}).`,
        }
      : {
          ...{ concern: 'evidence', weight: -5, decisive: true, cites },
          text: `${only!.expression} is ${only!.value}, ${stands} ${to}, but the result says “${said}” (${names(cites)}).`,
          asks: `the result says how ${only!.value} stands to ${to}`,
        };
  });
  const answered = found.some(({ weight }) => weight > 0);
  const computed = wanted.flatMap(({ expression, value }): Finding[] => {
    if (stated.some((number) => sameNumber(value.replace('-', ''), number))) {
      const is = `${expression} is ${value}, as the result says (${names(cites)}).`;
      return [{ ...{ concern: 'evidence', weight: 3, cites }, text: is }];
    }
    // Who is asked whether it is above a number need not say by how much.
    if (answered) return [];
    return [
      {
        ...{ concern: 'evidence', weight: -5, decisive: true, cites },
        text: `${expression} is ${value}, which the result does not say (${names(cites)}).`,
        asks: `the result says ${value}`,
      },
    ];
  });
  return [...found, ...computed];
}

/** What the result says of the number with which the task has a calculation compared. */
function comparedWith(
  asked: string,
  { value }: Calculation,
  result: string,
): { to: string; right: boolean; said: string }[] {
  const named = relationsOf(asked).map(({ to, holds }) => ({ to, holds }));
  const against = /\bcompar\w+\b[^.?!]{0,60}?\b(?:with|to|against)\s+[$€£]?(\d[\d,]*(?:\.\d+)?)/i.exec(
    asked,
  )?.[1];
  const all = [
    ...named,
    ...(against === undefined ? [] : [{ to: against.replaceAll(',', ''), holds: null }]),
  ];
  return all.slice(0, 3).flatMap(({ to, holds }) => {
    const sign = compare(value, to);
    const said = relationsOf(result).filter((one) => sameNumber(to, one.to));
    if (said.length > 0) {
      const wrong = said.find((one) => !one.holds(sign));
      return [{ to, right: wrong === undefined, said: `${(wrong ?? said[0]!).text} ${to}` }];
    }
    const yes = /^\W*(yes|no)\b/i.exec(result)?.[1];
    if (yes === undefined || holds === null) return [];
    return [{ to, right: holds(sign) === (yes.toLowerCase() === 'yes'), said: yes }];
  });
}

/** So many words of a result without one of the task's, and it is about something else. */
const OTHER_WORDS = 8;

/** A short answer may have none of the task's words; a long one that has none answers something else. */
function related({ task, subject }: Readable, answered: boolean): Finding[] {
  const wanted = wantedIn(task);
  const text = subject.map((piece) => piece.text).join('\n');
  const said = sensesIn(text);
  if (answered || wanted.length < 2 || said.size === 0) return [];
  const cites = unique([...task, ...subject].map(({ id }) => id)).filter((id) => id !== TOPIC);
  const covered = wanted.flatMap(([key, word]) => (said.has(key) ? word : []));
  if (covered.length > 0) {
    return [
      {
        ...{ concern: 'evidence', weight: 1, cites },
        text: `It speaks of what was asked for: ${covered.slice(0, 6).join(', ')} (${names(cites)}).`,
        asks: 'the task turns out to be another one',
      },
    ];
  }
  const other = said.size >= OTHER_WORDS || wanted.length >= OTHER_WORDS;
  const lacking = wanted.map(([, word]) => word).slice(0, 6);
  return [
    {
      ...{ concern: 'evidence', weight: other ? -5 : -0.75, cites },
      ...(other && { decisive: true as const }),
      text: `Nothing ties the result to what was asked for: no word of ${lacking.join(', ')} (${names(cites)}).`,
      asks: 'it takes up the task',
    },
  ];
}

const numbersIn = (text: string): string[] =>
  unique(
    (text.match(/(?<![\p{L}\d.,])\d[\d,]*(?:\.\d+)?(?![\p{L}\d])/gu) ?? []).map((one) =>
      one.replaceAll(',', ''),
    ),
  );
/** Years, list numbers and the like say nothing about where they come from. */
const tellsNothing = (number: string): boolean => /^(?:\d|10|100|1[89]\d\d|20\d\d)$/.test(number);
const MAX_FIGURES = 12;

/** Figures of the result that nothing they were given accounts for. */
function figures({ task, subject, pieces, calculations }: Readable): Finding[] {
  const known = unique([
    ...pieces.filter((piece) => !subject.includes(piece)).flatMap(({ text }) => numbersIn(text)),
    ...task.flatMap(({ text }) => numbersIn(text)),
    ...calculations.map(({ value }) => value),
  ]);
  // With nothing to compare with, any figure would be suspect.
  if (known.length === 0) return [];
  const small = known.slice(0, MAX_FIGURES);
  const accounted = (number: string): boolean =>
    known.some((one) => sameNumber(one, number)) ||
    small.some((a) =>
      small.some((b) =>
        [`${a} + ${b}`, `${a} - ${b}`, `${a} * ${b}`, `${a} / ${b}`, `${a}% of ${b}`].some((expression) => {
          try {
            return sameNumber(calculate(expression), number);
          } catch {
            return false; // a division by zero
          }
        }),
      ),
    );
  return subject
    .flatMap(({ id, text }) => numbersIn(text).map((number) => ({ id, number })))
    .filter(({ number }) => !tellsNothing(number))
    .slice(0, MAX_FIGURES)
    .filter(({ number }) => !accounted(number))
    .slice(0, 3)
    .map(({ id, number }) => ({
      ...{ concern: 'evidence', weight: -1, cites: [id] },
      text: `The figure ${number} in ${names([id])} is not in the task or the material, and does not follow from them.`,
      asks: `it is said where ${number} comes from`,
    }));
}

/** Questions of the task that the result leaves out while it takes others up. */
function parts(sentences: readonly Sentence[], task: readonly Piece[], cites: readonly string[]): Finding[] {
  const asked = unique(
    task.flatMap(({ text }) => [
      ...listedSteps(text),
      ...text.split(/(?<=\?)\s+|\n/).filter((part) => part.trim().endsWith('?')),
    ]),
  ).slice(0, 10);
  if (asked.length < 2) return [];
  const said = keywordsOf(sentences.map(({ text }) => text).join('\n'));
  const taken = (part: string) => [...keywordsOf(part).keys()].some((key) => said.has(key));
  const left = asked.filter((part) => !taken(part));
  if (left.length === 0) {
    return [
      {
        ...{ concern: 'steps', weight: 1, cites },
        text: `All ${asked.length} parts of the task are taken up (${names(cites)}).`,
      },
    ];
  }
  return left.slice(0, 3).map((part) => ({
    ...{ concern: 'steps', weight: -1.5, cites },
    text: `${quote(part, 100)} of the task is left unanswered (${names(cites)}).`,
    asks: `${quote(part, 60)} is answered`,
  }));
}

const rules: Readonly<Record<Course['purpose'], readonly Rule[]>> = {
  autonomous: [claims, money, deadlines, contradictions, certainty, missing, harm, people, prospects, tools],
  plan: [
    plan,
    feasible,
    coverage,
    claims,
    certainty,
    missing,
    contradictions,
    deadlines,
    harm,
    people,
    tools,
  ],
  result: [result, claims, contradictions, certainty, harm, people, tools],
};
