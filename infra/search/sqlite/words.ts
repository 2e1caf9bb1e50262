/** The words of a text, as they are indexed and looked for: without case, accents and what is between words. */

/** Scripts that put no spaces between words: each sign counts as a word. */
const WORD =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Khmer}\p{Script=Lao}\p{Extended_Pictographic}]|[[\p{L}\p{N}\p{M}]--[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Khmer}\p{Script=Lao}]]+/gv;
const ACCENTS = /[\u0300-\u036f]/g;
const LONGEST_WORD = 64;
/** Different ones of one message. */
const MAX_WORDS = 4_000;

/** The different words of a text, in the order in which they come first. */
export function wordsOf(text: string): string[] {
  const words = new Set<string>();
  const plain = text.normalize('NFKD').replace(ACCENTS, '').toLowerCase();
  for (const [word] of plain.matchAll(WORD)) {
    words.add(word.slice(0, LONGEST_WORD));
    if (words.size === MAX_WORDS) break;
  }
  return [...words];
}

const STOP_WORDS = new Set(
  (
    'a about after all also am an and any are as at be been but by can could did do does for from get had has have ' +
    'he her here him his how i if in into is it its just like me more my no not of on or our out she so some than ' +
    'that the their them then there these they this to too up us was we were what when where which who why will ' +
    'with would you your'
  ).split(' '),
);
const MAX_QUERY_WORDS = 24;

/** The words of a query that tell messages apart; all of them when none does. */
export function queryWordsOf(text: string): string[] {
  const words = wordsOf(text);
  const telling = words.filter((word) => !STOP_WORDS.has(word));
  return (telling.length > 0 ? telling : words).slice(0, MAX_QUERY_WORDS);
}

/** FNV-1a, 32 bits: stands for the word beside its message. */
export function hashOf(word: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < word.length; index++) {
    hash = Math.imul(hash ^ word.charCodeAt(index), 0x01000193);
  }
  return hash >>> 0;
}

/**
 * A word as the full-text index holds it: with the number of the message's owner, so that looking for a word of one
 * owner touches nothing of the others. Words hold letters, digits and signs, but no `_`.
 */
export const ownedWord = (word: string, owner: number): string => `${word}_${owner}`;
/** The full-text query for a word of one owner, or of everybody. */
export const matching = (word: string, owner: number | null): string =>
  owner === null ? `"${word}_" *` : `"${ownedWord(word, owner)}"`;
