/**
 * The router: which kind of model a message needs. Pure: a table of patterns, a table of keywords, and a default
 * by length and shape. The terms are those of Luna's RouterDecision (api-notes A2.2).
 */
import type { ModelRoute, RouterDecision } from '../../../contracts/events/conversation.ts';

export interface RouterInput {
  readonly content: string;
  /** A model that was asked for by name: it answers, whatever the route. */
  readonly requestedModel: string | null;
  readonly requestedRoute: ModelRoute | null;
  /** Names of the tools that the turn may use. */
  readonly toolsOffered: readonly string[];
}

export type Routing = Omit<RouterDecision, 'decisionTimeMs'>;

type MessageClass = RouterDecision['class'];
type Risk = RouterDecision['riskIfWrong'];

interface Verdict {
  readonly class: MessageClass;
  readonly needsFreshData?: boolean;
  /** Any of these tools helps; `any`: whatever is offered. */
  readonly tools?: readonly string[] | 'any';
  readonly risk?: Risk;
  /** Worth the larger model even where no tool is needed. */
  readonly hard?: boolean;
}

interface Rule extends Verdict {
  /** Shown in `matchedPatterns`. */
  readonly name: string;
  readonly pattern: RegExp;
}

/** Only the beginning is looked at. */
const READ_CHARACTERS = 4_000;
const LONG = 1_500;

/** What a message looks like as a whole. The first that fits decides; all that fit are named. */
const patterns: readonly Rule[] = [
  {
    name: 'trade',
    pattern:
      /\b(?:buy|sell|short|cancel|place)\b[^.?!\n]{0,60}\b(?:orders?|shares?|stocks?|btc|eth|bitcoin|usdt?|position)\b/i,
    class: 'actionable',
    needsFreshData: true,
    tools: 'any',
    risk: 'high',
  },
  {
    name: 'arithmetic',
    pattern:
      /\d ?[-+*/^×÷] ?[\d(]|\d ?(?:%|percent) of \d|\d (?:plus|minus|times|divided by|multiplied by) \d|\bsquare root of \d|\b(?:calculate|compute) [\d(]/i,
    class: 'factual',
    tools: ['calculate'],
    risk: 'medium',
  },
  {
    name: 'clock',
    pattern:
      /\bwhat(?:'s| is)? (?:the )?(?:current )?(?:time|date|day)\b|\btoday's date\b|\b(?:time|date) (?:is it|now|today)\b/i,
    class: 'factual',
    needsFreshData: true,
    tools: ['current_time'],
  },
  {
    name: 'remember',
    pattern:
      /^(?:please )?(?:remember|don't forget|note) |\bmy (?:name|birthday|favou?rite [a-z ]{1,30}) is\b|^call me\b|^i (?:like|love|hate|prefer|live in|work (?:at|for|as)) /i,
    class: 'actionable',
    tools: ['remember_fact'],
  },
  {
    name: 'forget',
    pattern: /^(?:please )?forget (?:that|my|about|what)\b/i,
    class: 'actionable',
    tools: ['forget_fact'],
    risk: 'medium',
  },
  {
    name: 'recall',
    pattern:
      /\b(?:what|who|when|where)(?:'s| is| are| was) my\b|\bknow about me\b|\bwho am i\b|\bremember (?:my|about me)\b/i,
    class: 'factual',
    tools: ['recall_facts'],
  },
  {
    name: 'search conversations',
    pattern:
      /\b(?:search|find|look through) [^.?!\n]{0,60}\b(?:conversations?|chats?|messages|history)\b|\bwhat did (?:i|we|you) (?:say|write|talk|tell|discuss)\b|^(?:search|find) /i,
    class: 'factual',
    tools: ['search_conversations'],
  },
  {
    name: 'abilities',
    pattern: /\bwhat can you do\b|^help\b|\byour (?:abilities|tools|capabilities)\b/i,
    class: 'factual',
    tools: ['list_abilities'],
  },
  {
    name: 'setup',
    pattern: /\b(?:connect|configure|set ?up|add) [^.?!\n]{0,30}\b(?:model|provider|api key)\b|\bapi key\b/i,
    class: 'factual',
    tools: ['explain_setup'],
  },
  { name: 'code', pattern: /```|\b(?:stack trace|typeerror|segfault)\b/i, class: 'transform', hard: true },
  {
    name: 'transform',
    pattern:
      /^(?:please |can you |could you )?(?:translate|summari[sz]e|rewrite|rephrase|shorten|proofread|correct|format|convert|repeat after me|count (?:to|from|down))\b/i,
    class: 'transform',
  },
  {
    name: 'greeting',
    pattern:
      /^(?:hello|hi|hey|good (?:morning|afternoon|evening|night)|thanks?|thank you|bye|goodbye|how are you)\b[^\n]{0,40}$/i,
    class: 'chat',
  },
];

const words = (alternatives: string): RegExp => new RegExp(`\\b(?:${alternatives})\\b`, 'i');

/** What a word in the message suggests, where no pattern fits. */
const keywords: readonly Rule[] = [
  {
    name: 'action',
    pattern: words('send|schedule|book|delete|cancel|deploy|execute|transfer|pay|order|remind'),
    class: 'actionable',
    tools: 'any',
    risk: 'medium',
  },
  {
    name: 'fresh data',
    pattern: words('today|tonight|latest|currently|right now|news|weather|price of|exchange rate'),
    class: 'factual',
    needsFreshData: true,
    tools: 'any',
    risk: 'medium',
  },
  {
    name: 'high stakes',
    pattern: words(
      'dosage|dose|medication|diagnosis|symptoms?|lawsuit|legal|tax(?:es)?|invest(?:ment)?|suicide',
    ),
    class: 'factual',
    risk: 'high',
    hard: true,
  },
  {
    name: 'reasoning',
    pattern: words(
      'explain|analy[sz]e|compare|design|prove|derive|debug|refactor|implement|architecture|algorithm|step by step|trade-?offs?',
    ),
    class: 'factual',
    hard: true,
  },
];

const riskOrder: readonly Risk[] = ['low', 'medium', 'high'];

export function routeMessage({
  content,
  requestedModel,
  requestedRoute,
  toolsOffered,
}: RouterInput): Routing {
  const text = content.slice(0, READ_CHARACTERS).replaceAll('’', "'").trim();
  const byPattern = patterns.filter(({ pattern }) => pattern.test(text));
  const byKeyword = keywords.filter(({ pattern }) => pattern.test(text));
  const matched = [...byPattern, ...byKeyword];
  const deciding = matched[0] ?? byShape(text);
  const verdicts: readonly Verdict[] = [deciding, ...matched];

  const helps = ({ tools }: Verdict): boolean =>
    tools === 'any' ? toolsOffered.length > 0 : (tools ?? []).some((name) => toolsOffered.includes(name));
  const needsTools = verdicts.some(helps);
  const hard =
    content.length > LONG || deciding.class === 'factual' || verdicts.some((verdict) => verdict.hard);
  const risk = Math.max(...verdicts.map((verdict) => riskOrder.indexOf(verdict.risk ?? 'low')));

  const asked = [
    ...(requestedRoute === null ? [] : [`requested route ${requestedRoute}`]),
    ...(requestedModel === null ? [] : [`requested model ${requestedModel}`]),
  ];
  return {
    class: deciding.class,
    route: requestedRoute ?? (needsTools ? 'tools' : hard ? 'pro' : 'nano'),
    confidence: asked.length > 0 || byPattern.length > 0 ? 'verified' : 'estimate',
    needsFreshData: verdicts.some((verdict) => verdict.needsFreshData === true),
    needsTools,
    riskIfWrong: riskOrder[risk] ?? 'low',
    decisionSource:
      asked.length > 0
        ? 'hard_rule'
        : byPattern.length > 0
          ? 'regex'
          : byKeyword.length > 0
            ? 'keyword'
            : 'classifier',
    matchedPatterns: [...asked, ...matched.map(({ name }) => name)],
  };
}

/** The default: a question wants facts, a long text wants work on it, the rest is talk. */
function byShape(text: string): Verdict {
  const question =
    /\?\s{0,20}$|^(?:what|who|whom|whose|when|where|why|which|how|is|are|does|do|did|can|could|should)\b/i.test(
      text,
    );
  if (text.length > LONG) return { class: 'transform', hard: true };
  if (question) return { class: 'factual' };
  return { class: 'chat' };
}
