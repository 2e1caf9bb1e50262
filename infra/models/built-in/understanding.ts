/**
 * What the built-in assistant understands of a message: a table of rules, and nothing else. Pure. Every pattern
 * is anchored and bounded and the text is capped, so that no input makes it slow.
 */
import { MATERIAL } from '../../../contracts/commands/orchestration.ts';
import { expressionIn } from './arithmetic.ts';
import { factIn, factNamed, subjectOf } from './facts.ts';
import { timeZoneOf } from './places.ts';

export type Wish =
  | { readonly kind: 'tool'; readonly tool: string; readonly arguments: Readonly<Record<string, unknown>> }
  | { readonly kind: 'count'; readonly from: number; readonly to: number }
  | { readonly kind: 'repeat'; readonly text: string }
  | { readonly kind: 'unknown place'; readonly place: string }
  | { readonly kind: 'web search' }
  | { readonly kind: 'who are you' }
  | { readonly kind: 'greeting' }
  | { readonly kind: 'thanks' }
  | { readonly kind: 'goodbye' };

export interface Understood {
  readonly wishes: readonly Wish[];
  /** Sentences that no rule fits. */
  readonly rest: readonly string[];
}

/** Only so much of a message is read, apart from `repeat after me`. */
export const READ_CHARACTERS = 4_000;
/** So many of one message are granted. */
export const WISHES = 8;

const tool = (name: string, args: Readonly<Record<string, unknown>> = {}): Wish => ({
  kind: 'tool',
  tool: name,
  arguments: args,
});

const READY_MADE = 'assistant|coder|researcher|analyst|writer|planner|critic';

const CATEGORIES = /^(?:personal|work|preference|hobby|relationship|goal|context)$/;

interface Rule {
  readonly pattern: RegExp;
  /** The wish; null when the rule does not apply after all. */
  readonly wish: (match: RegExpExecArray) => Wish | null;
}

const group = (match: RegExpExecArray, index: number): string => (match[index] ?? '').trim();

/** The first rule that fits a sentence wins. */
const rules: readonly Rule[] = [
  {
    pattern:
      /^(?:please )?count (?:down )?from (-?\d{1,15}) (?:up |down )?(?:to|till|until|through) (-?\d{1,15})\b/i,
    wish: (m) => ({ kind: 'count', from: Number(m[1]), to: Number(m[2]) }),
  },
  {
    pattern: /^(?:please )?count (?:up )?(?:to|till|until) (\d{1,15})\b/i,
    wish: (m) => ({ kind: 'count', from: 1, to: Number(m[1]) }),
  },
  {
    pattern: /^(?:hello|hi|hey|good (?:morning|afternoon|evening|day))\b[^?]{0,40}$/i,
    wish: () => ({ kind: 'greeting' }),
  },
  { pattern: /^(?:thanks?|thank you|many thanks|thx)\b.{0,40}$/i, wish: () => ({ kind: 'thanks' }) },
  { pattern: /^(?:bye|goodbye|good bye|see you|good night)\b.{0,40}$/i, wish: () => ({ kind: 'goodbye' }) },
  {
    pattern:
      /^(?:who|what) are you\b|^are you (?:an? )?(?:real|human|person|robot|bot|ai|llm|language model|chatgpt|gpt|claude|machine|artificial)\b|^what (?:language )?model (?:are you|is this|do you use)|^which (?:language )?model\b/i,
    wish: () => ({ kind: 'who are you' }),
  },
  {
    pattern:
      /\b(?:connect|configure|set ?up|setup|add|use|enable|install|choose|switch to) (?:to )?(?:an? |the |my |another |other )?(?:real |different |own |language |llm |chat |local )?(?:model|models|llm|api[- ]?key|provider|openai|anthropic|claude|gpt|ollama|llama\.cpp|vllm|lm studio|z\.ai)\b|\b(?:set|where do i put|where does) (?:an? |the |my )?(?:[a-z]{1,20} )?api[- ]?key\b|^explain (?:the )?setup\b/i,
    wish: () => tool('explain_setup'),
  },
  {
    pattern:
      /^(?:help|help me|commands|abilities)$|^what (?:all )?can you do\b|^what (?:are|do) (?:you able|your (?:abilities|capabilities|tools|skills|functions))|^(?:list|show)(?: me)? (?:all )?(?:your |the )?(?:abilities|capabilities|tools|skills|functions|commands)|^how can you help|^what tools do you have|^what do you know how to do/i,
    wish: () => tool('list_abilities'),
  },
  {
    pattern: new RegExp(
      `^(?:please )?(?:ask|have|get|let|tell) (?:the |my )?(?:agent ([a-z0-9][\\w-]{0,63})|([a-z0-9][\\w-]{0,63}) agent|(${READY_MADE})) (?:to )?(.{1,2000})$`,
      'i',
    ),
    wish: (m) => handOn(group(m, 1) || group(m, 2) || group(m, 3), group(m, 4)),
  },
  {
    pattern:
      /^(?:please )?(?:delegate|hand|give) (?:this |that |it )?(?:on |over )?to (?:the )?(?:agent )?([a-z0-9][\w-]{0,63})(?: agent)?: ?(.{1,2000})$/i,
    wish: (m) => handOn(group(m, 1), group(m, 2)),
  },
  {
    pattern: /^(?:please )?delegate (.{1,2000}?) to (?:the )?(?:agent )?([a-z0-9][\w-]{0,63})(?: agent)?$/i,
    wish: (m) => handOn(group(m, 2), group(m, 1)),
  },
  {
    pattern:
      /^(?:please )?(?:search|look up|find|google) .{0,80}\b(?:on |in )?(?:the )?(?:web|internet|online|google)\b|^google\b/i,
    wish: () => ({ kind: 'web search' }),
  },
  {
    pattern:
      /^(?:please )?(?:search|look)(?: through| in)?(?: (?:my|our|the|all|past|previous|old|earlier))*(?: (?:conversations?|chats?|messages|history))(?: (?:for|about))? (.{1,200})$/i,
    wish: (m) => searchFor(group(m, 1)),
  },
  {
    pattern:
      /^(?:please )?(?:search|look|find)(?: for)? (.{1,200}?) in (?:my|our|the|all)(?: (?:past|previous|old|earlier))? (?:conversations?|chats?|messages|history)$/i,
    wish: (m) => searchFor(group(m, 1)),
  },
  {
    pattern:
      /^what (?:did|have|had) (?:i|we|you) (?:ever )?(?:say|said|talk(?:ed)?|wr[io]te|written|tell you|told you|mention(?:ed)?|discuss(?:ed)?)(?: to you)?(?: (?:about|of|on))? (.{1,200})$/i,
    wish: (m) => searchFor(group(m, 1)),
  },
  {
    pattern:
      /^(?:when |where )?(?:did|have) (?:i|we) (?:ever )?(?:say|said|talk(?:ed)?|mention(?:ed)?|discuss(?:ed)?)(?: (?:about|of))? (.{1,200})$/i,
    wish: (m) => searchFor(group(m, 1)),
  },
  {
    pattern: /^(?:please )?(?:search|find)(?: me)?(?: for)? (.{1,200})$/i,
    wish: (m) => searchFor(group(m, 1)),
  },
  {
    pattern:
      /^(?:(?:please )?tell me |do you know |can you tell me )?(?:what(?:'s| is)?|which) (?:the )?(?:current |local |exact )?(?:time|date)(?: and date| and time)?(?: is it| it is)?(?: right)?(?: now| today)?(?: (?:in|at|for) (.{1,60}?))?(?: right)?(?: now)?$/i,
    wish: (m) => timeIn(group(m, 1)),
  },
  {
    pattern:
      /^(?:(?:what(?:'s| is) )?(?:the )?(?:current |local )?(?:time|date)|time now|today's date)(?: (?:in|at) (.{1,60}?))?(?: right)?(?: now| today)?$/i,
    wish: (m) => timeIn(group(m, 1)),
  },
  {
    pattern:
      /^what(?:'s| is)? (?:today's date|today|(?:the )?day (?:is it|is today|today)|day)(?: today)?(?: in (.{1,60}?))?$/i,
    wish: (m) => timeIn(group(m, 1)),
  },
  {
    pattern:
      /^(?:please )?(?:what do you (?:know|remember) about me|who am i|what have you remembered|(?:list|show|tell me|recall)(?: me)? (?:all )?(?:my|the) facts|what are my facts|what facts do you (?:know|have|remember)\b.{0,30})$/i,
    wish: () => tool('recall_facts'),
  },
  {
    pattern:
      /^(?:what do you (?:know|remember) about|what have i told you about|recall|do you remember) (?:my |the )?(.{1,80})$/i,
    wish: (m) =>
      tool(
        'recall_facts',
        CATEGORIES.test(group(m, 1)) ? { category: group(m, 1) } : { query: subjectOf(group(m, 1)) },
      ),
  },
  {
    pattern: /^what do i (?:like|love|enjoy|dislike|hate|prefer)$/i,
    wish: () => tool('recall_facts', { category: 'preference' }),
  },
  { pattern: /^where do i live$/i, wish: () => tool('recall_facts', { query: 'home' }) },
  {
    pattern: /^where do i work$|^who do i work for$/i,
    wish: () => tool('recall_facts', { query: 'employer' }),
  },
  {
    pattern: /^what do i do (?:for a living|for work)$/i,
    wish: () => tool('recall_facts', { query: 'job' }),
  },
  {
    pattern:
      /^(?:(?:please )?(?:tell me|do you (?:know|remember)|remind me) )?(?:what|who|when|where|how old)(?:'s|'re| is| are| was) my (.{1,80}?)(?: is| are)?$/i,
    wish: (m) => tool('recall_facts', { query: subjectOf(group(m, 1)) }),
  },
  {
    pattern:
      /^(?:(?:please )?(?:tell me|remind me) |do you know )(?:what |who |when )?my (.{1,80}?)(?: is| are)?$/i,
    wish: (m) => tool('recall_facts', { query: subjectOf(group(m, 1)) }),
  },
];

const handOn = (agent: string, task: string): Wish =>
  tool('delegate', { agent: agent.toLowerCase(), task: task.replace(/^["“](.*)["”]$/, '$1') });

function searchFor(subject: string): Wish | null {
  const query = subjectOf(subject);
  return query === '' ? null : tool('search_conversations', { query });
}

function timeIn(place: string): Wish {
  if (place === '' || /^(?:here|my (?:time ?zone|place|city))$/i.test(place)) return tool('current_time');
  const timeZone = timeZoneOf(place);
  return timeZone === null ? { kind: 'unknown place', place } : tool('current_time', { timeZone });
}

/** What is asked for in `text`, in order, each wish once. */
/** Without what a task's agent is shown beside it: context, and what others brought. */
export function taskIn(content: string): string {
  const at = content.indexOf(MATERIAL);
  const paragraph = at < 0 ? -1 : content.lastIndexOf('\n\n', at);
  return paragraph < 0 ? content : content.slice(0, paragraph);
}

export function understand(text: string): Understood {
  const repeat = /^\s{0,20}(?:please )?repeat after me[:,]?\s/i.exec(text);
  const repeated = repeat === null ? '' : text.slice(repeat[0].length).trim();
  if (repeated !== '') return { wishes: [{ kind: 'repeat', text: repeated }], rest: [] };
  const wishes = new Map<string, Wish>();
  const rest: string[] = [];
  for (const sentence of sentencesOf(text.slice(0, READ_CHARACTERS))) {
    const found = wishesIn(sentence);
    if (found.length === 0) rest.push(sentence);
    for (const wish of found) wishes.set(JSON.stringify(wish), wish);
  }
  return { wishes: [...wishes.values()].slice(0, WISHES), rest };
}

/** One sentence: the whole of it, or its parts joined by `and` where these begin like a wish of their own. */
function wishesIn(sentence: string): readonly Wish[] {
  const remembering = REMEMBER.test(sentence);
  const clauses = sentence.split(CLAUSE_BREAK);
  const parts = clauses.map((clause) => wishIn(clause, remembering));
  if (parts.every((part) => part !== null)) return parts;
  const whole = wishIn(sentence, remembering);
  return whole === null ? parts.filter((part) => part !== null) : [whole];
}

const REMEMBER =
  /^(?:please )?(?:remember|note|keep in mind|don't forget|do not forget|memorise|memorize)(?: (?:that|down))?[:,]? /i;

const FORGET =
  /^(?:please )?forget (?:about |(?:the fact )?that |(?:everything|anything|all|what)(?: that)? (?:you (?:know|remember)|i (?:have )?(?:said|told you))(?: about)? |(?:everything|anything|all) about )?(.{1,300})$/i;

/** `and`, `then`, `also`, where a new wish begins after it. */
const CLAUSE_BREAK =
  /,? (?:and then|and also|and|then|also),? (?=(?:please |can you |could you )?(?:what|how|who|when|where|tell|calculate|compute|work out|remember|forget|search|find|count|call me|(?:that )?(?:i like|i love|i enjoy|i hate|i live|i work|my )|list|show|recall|note|do you)\b)/i;

function wishIn(sentence: string, remembering: boolean): Wish | null {
  const text = sentence.replace(
    /^(?:and|so|ok|okay|well|now|then|also|please|hey|hi|hello)[,!]? (?=\S+ \S)/i,
    '',
  );
  const question = text
    .replace(/[?.!\s]{1,20}$/, '')
    .replace(/,? please$/i, '')
    .replace(/^(?:can|could|would|will) you (?:please )?|^i (?:want|would like) (?:you )?to (?:know )?/i, '');
  const forget = FORGET.exec(question);
  if (forget !== null) {
    const named = factNamed(forget[1] ?? '');
    return named === null ? null : tool('forget_fact', named);
  }
  const statement = text.replace(REMEMBER, '').replace(remembering ? /^that /i : '', '');
  // "Remember when we met?" and "do you remember my name?" ask; only a statement is stored.
  if (!sentence.endsWith('?')) {
    const fact = factIn(statement.replace(/[.!]$/, ''), remembering);
    if (fact !== null) return tool('remember_fact', fact);
  }
  for (const candidate of [question, text]) {
    for (const { pattern, wish } of rules) {
      const match = pattern.exec(candidate);
      const result = match === null ? null : wish(match);
      if (result !== null) return result;
    }
    const expression = expressionIn(candidate);
    if (expression !== null) return tool('calculate', { expression });
  }
  return null;
}

/** Sentences end at a line's end, or at . ! ? ; before a blank: a decimal point does not end one. */
export function sentencesOf(text: string): readonly string[] {
  return text
    .replaceAll('’', "'")
    .split(/(?<=[.!?;])\s|\n/)
    .map((sentence) => sentence.replace(/\s{1,4000}/g, ' ').trim())
    .filter((sentence) => sentence !== '');
}
