/** Finds arithmetic in a sentence and writes it the way the `calculate` tool reads it. Pure. */

const PREFIX =
  /^(?:please )?(?:tell me )?(?:use (?:the |your |a )?calculator(?: to (?:calculate|compute|work out))?[:,]?|what(?:'s| is| are| does)?|how much (?:is|are)|calculate|compute|evaluate|work out|solve)[:]?(?: the (?:result|value|sum|product) of)? /i;

/** Words for operators, as they are replaced in order. */
const words: readonly (readonly [RegExp, string])[] = [
  [/(?<=\d),(?=\d{3}(?!\d))/g, ''],
  [/[×✕⋅·]/g, '*'],
  [/÷/g, '/'],
  [/[−–]/g, '-'],
  [/\*\*/g, '^'],
  [/(?<=\d) ?x ?(?=[\d(])/gi, '*'],
  [/\bmultiplied by\b|\btimes\b/gi, '*'],
  [/\bdivided by\b/gi, '/'],
  [/\bplus\b/gi, '+'],
  [/\bminus\b/gi, '-'],
  [/\b(?:raised )?to the power (?:of )?/gi, '^'],
  [/\bsquared\b/gi, '^2'],
  [/\bcubed\b/gi, '^3'],
  [/\b(?:the )?square root of ?(\d{1,40}(?:\.\d{1,40})?)/gi, 'sqrt($1)'],
  [/\b(?:the )?square root of ?(?=\()/gi, 'sqrt'],
  [/ ?\b(?:percent|per cent)\b/gi, '%'],
  [/% of /gi, '% of '],
];

const ARITHMETIC = /^(?:[\d.()+\-*/^%\s]|sqrt|of){1,500}$/;
const OPERATION = /\d\s{0,9}(?:[+*/^%]|-)|sqrt|[)]\s{0,9}[+\-*/^%]/;
const DATE = /^\d{1,4}([-/.])\d{1,2}\1\d{1,4}$/;

/** With signs for the words of operators: `3 times 4` as `3 *4`. */
export function operatorsIn(sentence: string): string {
  let text = sentence;
  for (const [pattern, replacement] of words) text = text.replace(pattern, replacement);
  return text;
}

/** The expression that is asked for, e.g. `12.5% of 80`; null when the sentence is no arithmetic. */
export function expressionIn(sentence: string): string | null {
  const asked = PREFIX.test(sentence);
  const text = operatorsIn(sentence.replace(PREFIX, ''))
    .replace(/[=?!\s]{1,20}$/, '')
    .replace(asked ? / (?:is|are|equals?|makes?)$/i : '', '')
    .trim();
  if (!ARITHMETIC.test(text) || !OPERATION.test(text)) return null;
  return !asked && DATE.test(text) ? null : text;
}
