/**
 * What a text means to do that cannot be taken back, and what it names as a safeguard against that. Words that are
 * denied (`do not delete`) or only spoken of (`explain why deleting backups is dangerous`, `the word “delete”`) are told
 * from those that are meant. English only. Pure.
 */
import type { Sentence } from './reading.ts';
import type { Course } from './record.ts';

export interface Danger {
  /** `The plan … <what>`. */
  readonly what: string;
  readonly words: RegExp;
  readonly weight: number;
  /** Without a safeguard it decides, whatever else there is. */
  readonly decisive: boolean;
  /** A matter that is only talked over does not do it. */
  readonly judgedOnly?: true;
}

const MONEY =
  '(?:money|funds?|cash|amounts?|balance|savings|salar(?:y|ies)|wages|fees?|invoices?|bills?|deposits?|payments?|bitcoins?|btc|eth|usdt?|eur|gbp|dollars?|euros?|[$€£]\\s?\\d\\S*|\\d[\\d.,]*\\s?(?:usdt?|eur|gbp|chf|btc|eth|dollars?|euros?|pounds?|[$€£]))';
const SECRET =
  '(?:passwords?|passcodes?|credentials?|secrets?|api[- ]keys?|private keys?|access tokens?|seed phrases?|credit card (?:numbers?|details?|data)|social security numbers?)\\b(?!\\s+(?:polic|length|reset|manage|strength|hash|rotation|hygiene|rules?|requirements?|field|form|guideline|generator))';
const GIVE =
  '(?:send|give|share|reveal|disclose|show|print|post|publish|leak|expose|hand|tell|list|export|dump|read out|display|e-?mail|upload|paste|output|steal|collect|extract|copy|forward)(?:s|es|ing)?';
const ONWARD =
  '(?:\\W+(?!how\\b|why\\b|whether\\b|about\\b|tips\\b|not\\b|never\\b|no\\b|and\\b|then\\b)[\\w$€£.]+)';
/** Where a verb is what is to be done, and not something that somebody does anyway. */
const TO_DO =
  '(?:(?:^|[.;:!?,“"]\\s*|\\b(?:then|to|will|shall|must|now|please|also|should|let[\'’]s|you)\\s+)|\\band\\s+(?![^.;]*\\b(?:a|per|each|every)\\s+(?:hour|day|week|month|year)\\b))';
/** Of a text, taking these out is editing. */
const EDITING =
  '(?!\\W+(?:[\\w’]+\\W+){0,4}(?:words?|letters?|commas?|spaces?|whitespace|characters?|typos?|paragraphs?|punctuation|adjectives?|duplicates?|sentences?|vowels?)\\b)';

export const dangers: readonly Danger[] = [
  {
    what: 'destroys what cannot be brought back',
    words: new RegExp(
      `\\b(?:(?:delet(?:e|es|ing|ion)|(?:is|are|be|been|was|were|gets?|have|has|i|we) deleted|eras(?:e[sd]?|ing)|wip(?:e[sd]?|ing)|purg(?:e[sd]?|ing)|destroy(?:s|ed|ing)?|destruction of|overwrit(?:es?|ing|ten)|truncat(?:e[sd]?|ing)|shred(?:s|ding|ded)?|remov(?:e[sd]?|ing) (?:all|every|the (?:data|account|database|backup|record|user|customer)\\w*))${EDITING}|drop(?:s|ped|ping)? (?:the |all |every |our )?(?:\\w+ )?(?:tables?|databases?|collections?|schemas?|data|index(?:es)?)\\b|format(?:s|ted|ting)? (?:the )?(?:\\w+ )?(?:disks?|drives?)|rm -[a-z]*r[a-z]*|terminat(?:es?|ing)|force[- ]push\\w*|reset --hard|factory reset|(?:shut(?:ting|s)? down|tak(?:e|es|ing) down|kill(?:s|ing)?|disabl(?:e|es|ing)|cancel(?:s|ling|ing)?|revok(?:e|es|ing)) (?:all|every|the production|production|our production|the (?:live|whole|entire))\\b)`,
      'gi',
    ),
    weight: 4,
    decisive: true,
  },
  {
    what: 'gives out secrets',
    words: new RegExp(
      `\\b${GIVE}${ONWARD}{0,6}?\\W+${SECRET}|\\bwhat(?:['’]s| is| are) (?:the|our|his|her|their|\\w+['’]s) (?:\\w+ ){0,2}${SECRET}|\\b(?:stor|keep|sav|logg?|writ)\\w*${ONWARD}{0,4}?\\W+${SECRET}${ONWARD}{0,4}?\\W+(?:plain ?text|clear ?text|unencrypted|publicly)\\b`,
      'gi',
    ),
    weight: 3,
    decisive: true,
  },
  {
    what: 'moves money',
    words: new RegExp(
      `\\b(?:wir(?:e|es|ing)|transfer(?:s|ring)?|remit(?:s|ting)?|send(?:s|ing)?|mov(?:e|es|ing)|donat(?:e|es|ing)|refund(?:s|ing)?|withdraw(?:s|ing)?|pay(?:s|ing)? out)${ONWARD}{0,5}?\\W+${MONEY}|\\bplac(?:e|es|ing) (?:an? |the )?orders?\\b|\\bsell(?:s|ing)? (?:all|everything)\\b|\\bliquidat(?:e|es|ing)\\b`,
      'gi',
    ),
    weight: 3,
    decisive: true,
  },
  {
    what: 'pays or trades',
    words: new RegExp(
      `${TO_DO}(?:pay (?!attention|heed|respect|close|tribute)|buy |purchase |sell |order (?!(?:of|by|from|the (?:list|numbers|words|steps|items))\\b)|invest )\\w+`,
      'gi',
    ),
    weight: 3,
    decisive: true,
    judgedOnly: true,
  },
  {
    what: 'publishes something that cannot be taken back',
    words:
      /\b(?:publish(?:es|ing)?|tweet(?:s|ing)?|post(?:s|ing)? (?:it|this|them|on|to|publicly|(?:the|our|my|all|a) (?:\w+ ){1,4}(?:on|to|in) (?:the |our |my )?(?:web|internet|site|website|blog|forum|twitter|x|facebook|linkedin|reddit|social|public)\w*)|announc(?:e|es|ing)|broadcast(?:s|ing)?|leak(?:s|ing)|leak (?:the|all|our|it|this|them)|expos(?:e|es|ing) (?:the|all|our|it|this|them)|(?:shar(?:e|es|ing)|upload(?:s|ing)?|mak(?:e|es|ing)) (?:\w+ ){1,5}?(?:public(?:ly)?|with everyone|online)|(?:send|e-?mail)(?:s|ing)? (?:\w+ ){0,4}?(?:(?:to )?(?:all|every|everyone|everybody|the whole|our (?:customers|users)|customers|users))\b)/gi,
    weight: 3,
    decisive: true,
  },
  {
    what: 'sends something that cannot be called back',
    words:
      /\b(?:send(?:s|ing)?(?! (?:me|us|back|it back|it to me|this to me|them to me)\b)(?= )|e-?mail(?:s|ing)? (?=(?:the|all|every|our|my|them|him|her|it|this|that|\S+@)\b)|upload(?:s|ing)? (?=(?:the|all|it|this|them|our|my)\b))/gi,
    weight: 1.5,
    decisive: false,
  },
  {
    what: 'cannot be undone',
    words:
      /\b(?:permanently|irrevocabl[ey]|irreversibl[ey]|(?:cannot|can['’]t|can not) be (?:undone|taken back|reverted|reversed)|no way back)\b/gi,
    weight: 3,
    decisive: true,
  },
];

export const WIDE =
  /\b(?:all|every|everything|everyone|entire|whole|production|prod|live|customers?|users?)\b/i;

/** What a result says was done. */
const DONE =
  /(?:^[\W\d]*|\b(?:i|we)(?:['’]ve| have| has| just| already| now){0,3} |\b(?:has|have|had|was|were|are|is)(?: now| all)?(?: been)?(?: all| permanently| irrevocably)? )(?:deleted|erased|wiped|purged|destroyed|overwritten|dropped|wired|transferred|remitted|paid|bought|purchased|sold|ordered|published|posted|tweeted|leaked|emailed|sent)\b/i;
/** What looks like a secret itself. */
const SECRET_ITSELF =
  /\b(?:password|passcode|api[- ]key|private key|access token|seed phrase|credentials?)s?\b[^.]{0,30}(?:\bis|\bare|=|:)\s*["'“`]?(?=\S*[\d!@#$%^&*])\S{6,}|\bsk-[\w-]{16,}|\bAKIA[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY/;

// ── meant, denied, or spoken of ───────────────────────────────────────────
/** Whether a word at this place is denied: `do not delete`, `without deleting`. Not across the end of a clause. */
export const denied = (text: string, at: number): boolean =>
  /\b(?:not|never|no|without|avoid\w*|don['’]t|won['’]t|doesn['’]t|cannot|can['’]t|nothing|instead of|rather than|refus\w+ to|neither|nor)\b(?:[^\w.,;:!?“”"]+\w+){0,4}[^\w.;:!?”]*$/i.test(
    text.slice(Math.max(0, at - 60), at),
  );

const TALK =
  '(?:explain|describe|define|discuss|summari[sz]e|translate|outline|compare|analy[sz]e|review|research|investigate|assess|evaluate|list|count|check|find|search|look|read|calculate|compute|recall|spell|proofread|rewrite|rephrase|name|warn|document|quote|(?:tell|show|remind|teach) (?:me|us)|write (?:an? |the |me )?(?:\\w+ ){0,3}?(?:about|on|why|that (?:explains|warns|describes))|why|how (?:do|does|did|can|could|to|many|much|often|long)|what (?:is|are|does|do|did|was|were|would|happens|if)|whether)';
const LEAD = new RegExp(`(?:^[\\W\\d]*|\\b(?:and|then|to|please|you)\\s+|[,:]\\s*)${TALK}\\b`, 'i');
const QUESTION =
  /^[\W\d]*(?:what|why|how|who|when|where|which|is|are|was|were|do|does|did|has|have|had)\b.*\?\W*$/i;
const ADVICE = /^[\W\d]*(?:should|may|must|can|could|shall) (?:i|we|one|they|he|she)\b.*\?\W*$/i;
/** What is said with it begins anew, whatever was spoken of before. */
const AND_THEN = /(?:\bthen|\bafterwards|[,;]\s*and|[.;!])\s+(?:also |please )?$/i;
const AND = /(?:\band|,)\s+(?:also |please )?$/i;
const OBJECT =
  /^[\w-]+(?:\W+\w+)?\W+(?:the|all|every|each|my|our|your|its?|them|him|her|this|that|these|those|everyone|everybody|everything)\b/i;
const NAMED =
  /\b(?:words?|sentences?|phrases?|texts?|titles?|strings?|terms?|labels?|called|named|says?|saying|reads?|means?)\W{0,3}$/i;

function isSpokenOf({ text }: Sentence, at: number, purpose: Course['purpose']): boolean {
  const before = text.slice(0, at);
  const quotes = before.match(/["“”]/g)?.length ?? 0;
  if (
    quotes % 2 === 1 &&
    NAMED.test(before.slice(0, Math.max(before.lastIndexOf('“'), before.lastIndexOf('"'))))
  )
    return true;
  // A secret that is asked for is what the question is about.
  if (/^what/i.test(text.slice(at))) return false;
  const anew = AND_THEN.test(before) || (AND.test(before) && OBJECT.test(text.slice(at)));
  if (anew && !/^[\W\d]*$/.test(before)) return false;
  if (QUESTION.test(text) || (purpose !== 'autonomous' && ADVICE.test(text))) return true;
  return LEAD.test(before);
}

export interface Mention {
  readonly word: string;
  readonly sentence: Sentence;
  readonly at: number;
  readonly as: 'meant' | 'denied' | 'spoken of';
}

/** The first mention of the words in each sentence that is meant; else the first. */
export function mentionsOf(
  sentences: readonly Sentence[],
  words: RegExp,
  purpose: Course['purpose'],
): Mention[] {
  return sentences.flatMap((sentence) => {
    const all = [...sentence.text.matchAll(words)].map((match): Mention => {
      const at = match.index + (/^[\W_]*/.exec(match[0])?.[0].length ?? 0);
      const as = denied(sentence.text, at)
        ? 'denied'
        : isSpokenOf(sentence, at, purpose)
          ? 'spoken of'
          : 'meant';
      return { word: match[0].replace(/^[\W_]+/, '').toLowerCase(), sentence, at, as };
    });
    const first = all.find((one) => one.as === 'meant') ?? all[0];
    return first === undefined ? [] : [first];
  });
}

/** The first thing that a result says was done, or the secret that it holds. */
export function doneIn(sentences: readonly Sentence[]): { sentence: Sentence; word: string } | null {
  for (const sentence of sentences) {
    const match = DONE.exec(sentence.text);
    if (match !== null && !denied(sentence.text, match.index + match[0].length)) {
      return { sentence, word: match[0].trim().toLowerCase() };
    }
    if (SECRET_ITSELF.test(sentence.text)) return { sentence, word: 'a secret itself' };
  }
  return null;
}

// ── safeguards ────────────────────────────────────────────────────────────
const SAFEGUARD =
  /\b(?:(?:tak(?:e|es|ing|en)|mak(?:e|es|ing)|creat(?:e|es|ing)|keep(?:s|ing)?|hav(?:e|ing)|verif(?:y|ies|ying)|there (?:is|are)|after|with|from) (?:\w+ ){0,3}?(?:back-?ups?|snapshots?|cop(?:y|ies))|back(?:ed|ing|s)? (?:\w+ ){0,4}?up|dry[- ]run|roll(?:ed|s)? ?back|restor(?:e[sd]?|ing|able)|staging|test (?:copy|environment|database|account)|sandbox|(?:ask|wait)\w*(?: \w+){0,3} for (?:\w+ ){0,3}?(?:approval|confirmation|permission|consent|go-ahead)|ask\w*(?: \w+){0,3} (?:first|before)|(?:after|once|when|with|until|unless|has|have|gives?|given) (?:\w+ ){0,4}?(?:approv\w+|confirm\w+|consent\w*|permission|agree[sd]?|sign(?:s|ed)? off)|(?:approved|authori[sz]ed|confirmed|signed off|agreed) by|confirm\w* (?:with|by|it with)|reversibl[ey]|drafts?|anonymi[sz]\w+|encrypt\w+|trash|recycle bin|soft[- ]delet\w+)\b/gi;
/** Between what is done and what stands here: if only such words, that is what it is done to. */
const ITS_OBJECT =
  /^[\w-]*(?:\W+(?!(?:after|once|with|when|from|until|unless|if|having|following|provided|and|then|but|in|on|to)\b)\w+){0,6}\W*$/i;

/** The first safeguard that is named and meant. What is itself destroyed or sent is none: `delete all backups`. */
export function safeguardIn(
  sentences: readonly Sentence[],
  found: readonly Mention[],
): { sentence: Sentence; word: string } | null {
  for (const sentence of sentences) {
    for (const match of sentence.text.matchAll(SAFEGUARD)) {
      const isObject = found.some(
        (mention) =>
          mention.sentence.text === sentence.text &&
          mention.at <= match.index &&
          ITS_OBJECT.test(sentence.text.slice(mention.at, match.index)),
      );
      if (!isObject && !denied(sentence.text, match.index)) return { sentence, word: match[0] };
    }
  }
  return null;
}
