/**
 * Reads material as a rule can: sentences, the words that carry meaning, amounts, dates, calculations. English only:
 * of other languages it sees the numbers. Pure, and linear in the length of the text.
 */
import { calculate } from '../turns/tools/calculate.ts';
import type { Piece } from './record.ts';

export interface Sentence {
  readonly text: string;
  /** Of the piece of material. */
  readonly id: string;
}

/** So many sentences of one piece are read; the longest that is read whole, in UTF-16 code units. */
const MAX_SENTENCES = 600;
const MAX_SENTENCE = 600;

const BULLET = /^\s*(?:[-*•–]|\(?\d{1,3}[.)]|[a-z][.)])\s+/i;

export function sentencesOf({ id, text }: Pick<Piece, 'id' | 'text'>): Sentence[] {
  const sentences: Sentence[] = [];
  for (const line of text.split('\n')) {
    // A full stop between digits or within a word ends no sentence.
    for (const part of line.replace(BULLET, '').split(/(?<=[.!?;])\s+/)) {
      const trimmed = part.trim();
      if (trimmed !== '') sentences.push({ id, text: trimmed.slice(0, MAX_SENTENCE).toWellFormed() });
      if (sentences.length === MAX_SENTENCES) return sentences;
    }
  }
  return sentences;
}

/** Lines that are written as steps: numbered, or with a dash. */
export const listedSteps = (text: string): string[] =>
  text
    .split('\n')
    .filter((line) => BULLET.test(line))
    .map((line) => line.replace(BULLET, '').trim())
    .filter((line) => line !== '');

const STOP_WORDS = new Set(
  `a about above after again all also am an and any are as at be because been before being below between both but by
can could did do does doing done down during each few for from further get give go had has have having he her here hers
him his how i if in into is it its itself just let like make me more most my need no nor not now of off on once one only
or other our out over own per please put same say see shall she should so some such take tell than that the their them
then there these they this those through to too under until up us use used using very want was way we were what when
where which while who whom why will with would yes you your yours new old good bad much many thing things task plan
result answer question whether compute calculate report two three four five today tomorrow agent`
    .split(/\s+/)
    .filter(Boolean),
);

/** The words that carry meaning, as they are first written, by a form in which singular and plural are the same. */
export function keywordsOf(text: string): ReadonlyMap<string, string> {
  const words = text.toLowerCase().match(/\p{L}[\p{L}\p{N}'’-]*/gu) ?? [];
  const found = new Map<string, string>();
  for (const word of words) {
    if (word.length < 3 || STOP_WORDS.has(word)) continue;
    const key = stem(word);
    if (!found.has(key)) found.set(key, word.replace(/['’]s?$/, ''));
  }
  return found;
}

/** Crude on purpose: it only has to map the forms of a word to the same thing. */
export const stem = (word: string): string =>
  word.replace(/['’]s?$/, '').replace(/(?<=\p{L}{3})(?:ing|ed|es|s|e)$/u, '');

// ── amounts ───────────────────────────────────────────────────────────────
export type Period = 'hour' | 'day' | 'week' | 'month' | 'year';

export interface Amount {
  /** As it is written. */
  readonly text: string;
  /** A decimal number, which `calculate` takes. */
  readonly value: string;
  /** `USD`, `EUR`, …; null where none is named. */
  readonly currency: string | null;
  readonly percent: boolean;
  /** `per` this. */
  readonly per: Period | null;
  /** What is counted, where that is a time: `3 weeks`. */
  readonly duration: Period | null;
  readonly clause: string;
  /** In the clause: what stands between this amount and the ones beside it. */
  readonly before: string;
  readonly after: string;
  readonly sentence: Sentence;
}

const CURRENCIES: ReadonlyMap<string, string> = new Map([
  ['$', 'USD'],
  ['usd', 'USD'],
  ['dollar', 'USD'],
  ['dollars', 'USD'],
  ['€', 'EUR'],
  ['eur', 'EUR'],
  ['euro', 'EUR'],
  ['euros', 'EUR'],
  ['£', 'GBP'],
  ['gbp', 'GBP'],
  ['pound', 'GBP'],
  ['pounds', 'GBP'],
  ['chf', 'CHF'],
  ['francs', 'CHF'],
  ['usdt', 'USDT'],
  ['btc', 'BTC'],
]);
const PERIODS: ReadonlyMap<string, Period> = new Map([
  ['hour', 'hour'],
  ['hours', 'hour'],
  ['hourly', 'hour'],
  ['day', 'day'],
  ['days', 'day'],
  ['daily', 'day'],
  ['week', 'week'],
  ['weeks', 'week'],
  ['weekly', 'week'],
  ['month', 'month'],
  ['months', 'month'],
  ['monthly', 'month'],
  ['year', 'year'],
  ['years', 'year'],
  ['yearly', 'year'],
  ['annually', 'year'],
  ['annual', 'year'],
]);
const SCALES: ReadonlyMap<string, string> = new Map([
  ['k', '1000'],
  ['thousand', '1000'],
  ['m', '1000000'],
  ['million', '1000000'],
  ['billion', '1000000000'],
]);

const NUMBER =
  /([$€£])?\s?((?<![\p{L}\p{N}.,-])(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d{1,30})(?:\.\d{1,30})?)(?!\d)\s?(%|k\b|m\b|(?!(?:per|each|every|an)\b)[a-z]{2,12}\b)?(?:\s?(%|(?!(?:per|each|every|an)\b)[a-z]{2,12}\b))?(?:\s?(?:(?:a|an|per|each|every)\s|\/\s?)(hour|day|week|month|year)\b|\s(hourly|daily|weekly|monthly|yearly|annually)\b)?/giu;

export function amountsOf(sentence: Sentence): Amount[] {
  const amounts: Amount[] = [];
  // Of a calculation only what it comes to is an amount of its own.
  const text = sentence.text.replace(OPERATION, (_whole, _expression, claimed) => ` ${claimed ?? ''} `);
  for (const clause of text.split(
    /,\s+|;\s*|\s+(?:and|but|while|whereas|when|if|since|because|although|against|versus|vs\.?)\s+/i,
  )) {
    const matches = [...clause.matchAll(NUMBER)];
    for (const [index, match] of matches.entries()) {
      const earlier = matches[index - 1];
      const [whole, sign, digits = '', first = '', second = '', per, adverb] = match;
      const words = [first, second].map((word) => word.toLowerCase());
      const scale = words[0] === undefined ? undefined : SCALES.get(words[0]);
      const unit = scale === undefined ? words[0] : words[1];
      const named = words.map((word) => CURRENCIES.get(word)).find((name) => name !== undefined);
      const number = digits.replaceAll(',', '');
      amounts.push({
        text: whole.trim(),
        value: scale === undefined ? number : calculate(`${number} * ${scale}`),
        currency: (sign === undefined ? undefined : CURRENCIES.get(sign)) ?? named ?? null,
        percent: words.includes('%') || words[0] === 'percent',
        per: PERIODS.get((per ?? adverb ?? '').toLowerCase()) ?? adverbIn(words),
        duration: unit === undefined ? null : /ly$/.test(unit) ? null : (PERIODS.get(unit) ?? null),
        clause,
        before: clause.slice(earlier === undefined ? 0 : earlier.index + earlier[0].length, match.index),
        after: clause.slice(match.index + whole.length, matches[index + 1]?.index),
        sentence,
      });
    }
  }
  return amounts;
}

const adverbIn = (words: readonly string[]): Period | null => {
  const word = words.find((one) => /ly$/.test(one));
  return word === undefined ? null : (PERIODS.get(word) ?? null);
};

/** How many of a period a year has, and how many days a period has. */
export const PER_YEAR: Readonly<Record<Period, string>> = {
  hour: '8760',
  day: '365',
  week: '52',
  month: '12',
  year: '1',
};
export const DAYS: Readonly<Record<Period, number>> = { hour: 1 / 24, day: 1, week: 7, month: 30, year: 365 };

// ── dates ─────────────────────────────────────────────────────────────────
const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const MONTH_NAME = '(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\\.?';
const ISO_DATE = /\b(\d{4})-(\d{2})-(\d{2})\b/g;
const DAY_FIRST = new RegExp(
  `\\b(\\d{1,2})(?:st|nd|rd|th)?\\s+(?:of\\s+)?${MONTH_NAME},?\\s+(\\d{4})\\b`,
  'gi',
);
const MONTH_FIRST = new RegExp(`\\b${MONTH_NAME}\\s+(\\d{1,2})(?:st|nd|rd|th)?,?\\s+(\\d{4})\\b`, 'gi');

export interface NamedDate {
  /** YYYY-MM-DD. */
  readonly date: string;
  readonly sentence: Sentence;
}

export function datesOf(sentence: Sentence): NamedDate[] {
  const found: string[] = [];
  const add = (year: string, month: number, day: string): void => {
    const date = `${year}-${String(month).padStart(2, '0')}-${day.padStart(2, '0')}`;
    // Only days that there are.
    const parsed = new Date(`${date}T00:00:00Z`);
    if (!Number.isNaN(parsed.getTime()) && parsed.toISOString().startsWith(date)) found.push(date);
  };
  const { text } = sentence;
  for (const [, year = '', month = '', day = ''] of text.matchAll(ISO_DATE)) add(year, Number(month), day);
  for (const [, day = '', month = '', year = ''] of text.matchAll(DAY_FIRST)) add(year, monthOf(month), day);
  for (const [, month = '', day = '', year = ''] of text.matchAll(MONTH_FIRST))
    add(year, monthOf(month), day);
  return [...new Set(found)].map((date) => ({ date, sentence }));
}

const monthOf = (name: string): number => MONTHS.indexOf(name.slice(0, 3).toLowerCase()) + 1;

// ── calculations ──────────────────────────────────────────────────────────
export interface Calculation {
  readonly expression: string;
  /** What the material says that it comes to; null where it only asks. */
  readonly claimed: string | null;
  /** What it comes to. */
  readonly value: string;
  readonly id: string;
}

const PLAIN = '[$€£]?\\d[\\d,]*(?:\\.\\d+)?%?';
const OPERATION = new RegExp(
  `(${PLAIN}(?:\\s?[-+*/×÷x^]\\s?${PLAIN}){1,12}|${PLAIN}\\s+of\\s+${PLAIN})(?:\\s*(?:=|is|equals|makes|comes to|gives)\\s*([$€£]?-?\\d[\\d,]*(?:\\.\\d+)?))?`,
  'gi',
);

/** Words for operators between numbers, as they are replaced. */
const OPERATORS: readonly (readonly [RegExp, string])[] = [
  [/(?<=[\d%)])\s+(?:times|multiplied by)\s+(?=[\d(])/gi, ' * '],
  [/(?<=[\d%)])\s+(?:over|divided by)\s+(?=[\d(])/gi, ' / '],
  [/(?<=[\d%)])\s+plus\s+(?=[\d(])/gi, ' + '],
  [/(?<=[\d%)])\s+minus\s+(?=[\d(])/gi, ' - '],
  [/(?<=\d)\s?(?:percent|per cent)(?=\s+of\s)/gi, '%'],
];
const NESTED = /[\d(][\d.,()+\-*/×÷^%\s]*[\d)%]/g;

/** An expression with parentheses, the whole of it. */
function nestedIn(text: string): string[] {
  return [...text.matchAll(NESTED)].flatMap(([run]) => {
    if (!/\(.*[-+*/×÷^].*\)/.test(run) || !/[-+*/×÷^]\s*\(|\)\s*[-+*/×÷^]/.test(run)) return [];
    const opened = run.split('(').length;
    return opened === run.split(')').length ? [run.trim()] : [];
  });
}

/** The calculations that are written out: `17 * 3 = 51`, `12.5% of 80`, `(2 + 3) * 4`. Dates and versions are none. */
export function calculationsOf({ text: raw, id }: Sentence): Calculation[] {
  let text = raw.replace(ISO_DATE, ' ');
  for (const [words, sign] of OPERATORS) text = text.replace(words, sign);
  const found: Calculation[] = [];
  for (const expression of nestedIn(text)) {
    try {
      const after = text.slice(text.indexOf(expression) + expression.length);
      const claimed = /^\s*(?:=|is|equals|makes|comes to|gives)\s*([$€£]?-?\d[\d,]*(?:\.\d+)?)/i.exec(
        after,
      )?.[1];
      const value = calculate(expression);
      found.push({ expression, claimed: claimed === undefined ? null : plain(claimed), value, id });
      text = text.replace(expression, ' ');
    } catch {
      // Not a calculation after all.
    }
  }
  for (const [, written = '', claimed] of text.matchAll(OPERATION)) {
    const expression = plain(written).replaceAll('x', '*').replaceAll('X', '*').replace(/\s+/g, ' ');
    if (/^[\d,]+(?:-[\d,]+)+$/.test(expression) && claimed === undefined) continue; // a range, a telephone number
    if (/%/.test(expression) === false && /\bof\b/i.test(expression)) continue; // 3 of 5
    try {
      const value = calculate(expression);
      found.push({ expression, claimed: claimed === undefined ? null : plain(claimed), value, id });
    } catch {
      // Not a calculation after all, e.g. a division by zero.
    }
  }
  return found;
}

// ── comparisons ───────────────────────────────────────────────────────────
/** How two numbers stand to each other, by the words for it. */
const RELATIONS: readonly (readonly [RegExp, (sign: number) => boolean])[] = [
  [/\b(?:at least|no less than|not less than|not below|not under|minimum)\b|>=|≥/gi, (sign) => sign >= 0],
  [
    /\b(?:at most|no more than|not more than|not above|not over|not greater than|not exceed\w*|up to)\b|<=|≤/gi,
    (sign) => sign <= 0,
  ],
  [/\b(?:above|over|(?:more|greater|larger|higher|bigger) than|exceed\w*)\b|>(?!=)/gi, (sign) => sign > 0],
  [/\b(?:below|under|(?:less|lower|smaller|fewer) than|short of)\b|<(?!=)/gi, (sign) => sign < 0],
  [/\b(?:equals?(?: to)?|the same as|exactly)\b/gi, (sign) => sign === 0],
];
const NUMBER_NEXT = /^\W{0,3}(?:the |a )?(?:\w+ ){0,2}?[$€£]?(-?\d[\d,]*(?:\.\d+)?)(?!\s?[-+*/^%×÷]\s?\d)/i;

export interface Relation {
  readonly text: string;
  readonly to: string;
  /** Whether it holds of a number that differs so. */
  readonly holds: (sign: number) => boolean;
}

/** `above 400`, `at least 10`: each with the number that follows it. */
export function relationsOf(text: string): Relation[] {
  return RELATIONS.flatMap(([words, holds]) =>
    [...text.matchAll(words)].flatMap((match) => {
      const to = NUMBER_NEXT.exec(text.slice(match.index + match[0].length));
      // `not above` is a relation of its own.
      if (to === null || /\b(?:not|no)\s*$/i.test(text.slice(0, match.index))) return [];
      return [{ text: match[0], to: plain(to[1] ?? ''), holds }];
    }),
  );
}

const plain = (number: string): string => number.replace(/[$€£,]/g, '').trim();

/** Whether two decimal numbers are the same, the second as exactly as it is written. */
export function sameNumber(exact: string, written: string): boolean {
  try {
    const decimals = /\.(\d+)$/.exec(written)?.[1]?.length ?? 0;
    const difference = calculate(`(${exact}) - (${written})`).replace('-', '');
    // Written with less digits than it has, it may be rounded or cut off in the last one.
    const tolerance = exact.includes('.') ? `1/10^${decimals}` : '0';
    return calculate(`(${difference}) - (${tolerance})`).startsWith('-') || difference === '0';
  } catch {
    return false;
  }
}

/** How two decimal numbers compare: negative, zero or positive. */
export function compare(a: string, b: string): number {
  const difference = calculate(`(${a}) - (${b})`);
  return difference === '0' ? 0 : difference.startsWith('-') ? -1 : 1;
}
