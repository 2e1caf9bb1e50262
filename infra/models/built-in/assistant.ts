/**
 * The built-in assistant: a ChatModel that needs nothing. It understands by rules, works through the same tool
 * loop as language models, and says what it is. The same prompt always gives the same parts.
 */
import { createHash } from 'node:crypto';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { PLAN_ONLY, TOOLS_LATER } from '../../../contracts/commands/orchestration.ts';
import type { FinishReason, ToolRequest } from '../../../contracts/events/conversation.ts';
import {
  type ChatModel,
  estimateTokens,
  type ModelMessage,
  type ModelPart,
  type Prompt,
  type ToolDescription,
} from '../port.ts';
import {
  answerFrom,
  askedFor,
  askFor,
  notUnderstood,
  partlyUnderstood,
  reportOn,
  say,
  type ToolOutcome,
  unanswered,
} from './answers.ts';
import { calls, completed, type Filled, filled, forced, likeliestTool, toolFor } from './client-tools.ts';
import { summarise } from './summary.ts';
import { type Part, partsOf, planText, reportText } from './tasks.ts';
import { READ_CHARACTERS, sentencesOf, taskIn, understand, WISHES, type Wish } from './understanding.ts';

export interface BuiltInOptions {
  /** The pause after each piece (about a word); 0: none. */
  readonly delayMs?: number | undefined;
}

const DEFAULT_DELAY_MS = 8;
/** Without a pause, others get their turn after so many pieces. */
const PIECES_AT_ONCE = 32;
/** So many times it asks for tools in one turn. */
const ROUNDS = 2;
const CALLS = 8;
/** So many figures of a task are repeated. */
const FIGURES = 20;
/** As `estimateTokens` counts. */
const BYTES_A_TOKEN = 4;

export function createBuiltInAssistant({ delayMs = DEFAULT_DELAY_MS }: BuiltInOptions = {}): ChatModel {
  return {
    provider: 'builtin',
    model: 'assistant',
    // Small on purpose: a conversation can be compacted within a short trial.
    contextWindow: 8_192,
    price: { input: 0, cachedInput: 0, output: 0 },
    async *stream(prompt, { signal }) {
      signal.throwIfAborted();
      const promptTokens = estimateTokens(
        JSON.stringify({ system: prompt.system, messages: prompt.messages, tools: prompt.tools }),
      );
      const response = withinLimits(
        prompt,
        prompt.purpose === 'summarise' ? summaryOf(prompt) : respond(prompt),
      );
      const { requests, text, finishReason } = response;
      let sent = 0;
      for (const piece of piecesOf(text)) {
        yield { type: 'text', text: piece };
        sent += 1;
        if (delayMs > 0) await pause(delayMs, signal);
        else if (sent % PIECES_AT_ONCE === 0) await nextTurn();
        signal.throwIfAborted();
      }
      for (const request of requests) yield { type: 'tool request', request };
      const completion = text + requests.map((request) => JSON.stringify(request)).join('');
      yield {
        type: 'finish',
        finishReason,
        usage: { promptTokens, completionTokens: estimateTokens(completion), cachedTokens: 0 },
      } satisfies ModelPart;
    },
  };
}

/** Cuts a response at the prompt's stop sequences and at its most tokens. */
function withinLimits(
  { settings }: Prompt,
  { requests, text: pieces }: Response,
): { requests: readonly ToolRequest[]; text: string; finishReason: FinishReason } {
  const whole = [...pieces].join('');
  const stops = (settings?.stop ?? []).flatMap((stop) => {
    const at = stop === '' ? -1 : whole.indexOf(stop);
    return at < 0 ? [] : [at];
  });
  const stopped = stops.length > 0;
  const said = stopped ? whole.slice(0, Math.min(...stops)) : whole;
  const most = settings?.maxTokens ?? Number.POSITIVE_INFINITY;
  const text = cut(said, most);
  const asked = text + requests.map((request) => JSON.stringify(request)).join('');
  const isCut = text !== said || estimateTokens(asked) > most;
  if (isCut) return { requests: [], text, finishReason: 'length' };
  if (requests.length > 0 && !stopped) return { requests, text, finishReason: 'tool-calls' };
  return { requests: [], text, finishReason: 'stop' };
}

/** The longest beginning of at most so many tokens. */
function cut(text: string, tokens: number): string {
  if (estimateTokens(text) <= tokens) return text;
  let end = 0;
  let bytes = 0;
  for (const character of text) {
    bytes += Buffer.byteLength(character);
    if (bytes > tokens * BYTES_A_TOKEN) break;
    end += character.length;
  }
  return text.slice(0, end);
}

async function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(delayMs, undefined, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}

interface Response {
  readonly requests: readonly ToolRequest[];
  readonly text: Iterable<string>;
}

/** The last message asks for the summary; what was summarised before stands at the end of the system prompt. */
function summaryOf({ system, messages }: Prompt): Response {
  const asks = messages.at(-1)?.role === 'user';
  const before = /\nSummary of the conversation[^\n]{0,80}:\n/.exec(system);
  const earlier = before === null ? '' : system.slice(before.index + before[0].length);
  return { requests: [], text: [summarise(asks ? messages.slice(0, -1) : messages, earlier)] };
}

/** Requests the tools that the last message calls for, or answers from what they returned. */
function respond(prompt: Prompt): Response {
  const { messages, toolChoice = 'auto' } = prompt;
  const last = messages.findLastIndex(({ role }) => role === 'user');
  const message = messages[last];
  const content = message?.role === 'user' ? taskIn(message.content) : '';
  const since = messages.slice(last + 1);
  const outcomes = outcomesIn(since);
  const planning = prompt.purpose === 'task' ? toolsPlanned(prompt.system) : null;
  if (planning !== null) {
    return { requests: [], text: [planText(content, partsOf(content), planning)] };
  }
  const rounds = since.filter((m) => m.role === 'assistant' && m.toolRequests.length > 0).length;

  if (toolChoice !== 'auto' && toolChoice !== 'none') {
    const call = requiredCall(prompt, content, toolChoice);
    if (call !== null) return { requests: requestsFor(prompt, [call]), text: [] };
  }
  const plan = planFor(prompt, content, messages.slice(0, last));
  const open = [...new Map(plan.calls.map((call) => [keyOf(call), call])).values()].filter(
    (call) => !outcomes.has(keyOf(call)),
  );
  if (open.length > 0 && rounds < ROUNDS && toolChoice !== 'none') {
    return { requests: requestsFor(prompt, open.slice(0, CALLS)), text: [] };
  }
  return { requests: [], text: answer(prompt, plan, content, outcomes) };
}

/** The tools that there will be for what is to be planned; null where no plan is asked for. */
function toolsPlanned(system: string): ReadonlySet<string> | null {
  if (!system.includes(PLAN_ONLY)) return null;
  const line = system.split('\n').find((one) => one.startsWith(TOOLS_LATER));
  return new Set(
    (line ?? '')
      .slice(TOOLS_LATER.length)
      .split(',')
      .map((name) => name.trim()),
  );
}

interface Call {
  readonly tool: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** What is made of the last message. */
interface Plan {
  readonly wishes: readonly Wish[];
  /** Of the wishes and of what else tools can do for it, those that are offered. */
  readonly calls: readonly Call[];
  /** Tools that it is about without saying all that they need. */
  readonly lacking: readonly Filled[];
  /** Sentences that nothing fits. */
  readonly rest: readonly string[];
  /** Of a task that is more than wishes, its parts. */
  readonly parts?: readonly Part[];
}

function planFor(prompt: Prompt, content: string, before: readonly ModelMessage[]): Plan {
  const offered = new Map(prompt.tools.map((tool) => [tool.name, tool]));
  const isOffered = (wish: Wish): wish is Extract<Wish, { kind: 'tool' }> =>
    wish.kind === 'tool' && offered.has(wish.tool) && isOwn(offered.get(wish.tool)!);
  const others = prompt.tools.filter((tool) => !isOwn(tool));
  const filledBy: Filled[] = [];
  let { wishes, rest } = understand(content);

  if (others.length > 0) {
    const followUp = answerToAsking(content, before, others);
    if (followUp !== null)
      return { wishes: [], lacking: lackingOf([followUp]), calls: callsOf([followUp], content), rest: [] };
    // A sentence that no offered tool of ours is for may be one for the others.
    const kept: string[] = [];
    for (const sentence of sentencesOf(content.slice(0, READ_CHARACTERS))) {
      const own = understand(sentence).wishes;
      const isSettled = own.length > 0 && own.every((wish) => isOffered(wish) || SETTLED.has(wish.kind));
      const isEnough = filledBy.length === WISHES;
      const found = isSettled || isEnough ? null : toolFor(sentence, content, others);
      if (found === null) kept.push(sentence);
      else filledBy.push(found);
    }
    if (filledBy.length > 0) ({ wishes, rest } = understand(kept.join('\n')));
  }
  if (prompt.purpose === 'task' && others.length === 0) {
    const parts = partsOf(content);
    const isPlain =
      parts.every(({ kind }) => kind === 'open') ||
      (rest.length === 0 &&
        parts.length <= wishes.length &&
        parts.every(
          ({ kind, calls: taken }) =>
            PLAIN.has(kind) &&
            taken.every((call) => wishes.some((wish) => wish.kind === 'tool' && keyOf(wish) === keyOf(call))),
        ));
    if (!isPlain) {
      const own = parts.flatMap((part) => part.calls).filter(({ tool }) => offered.has(tool));
      return { wishes: [], lacking: [], calls: own, rest: [], parts };
    }
  }
  const planned = [...wishes.filter(isOffered).map(callOf), ...callsOf(filledBy, content)];
  const isTask = prompt.purpose === 'task' && planned.length === 0 && rest.length > 0;
  return {
    wishes,
    lacking: lackingOf(filledBy),
    calls: isTask ? gatheringCalls(content, offered) : planned,
    rest,
  };
}

/** Parts of a task that are answered like any message. */
const PLAIN: ReadonlySet<Part['kind']> = new Set(['calculation', 'tool']);

/** Wishes that are answered without a tool. */
const SETTLED: ReadonlySet<Wish['kind']> = new Set([
  'count',
  'repeat',
  'who are you',
  'greeting',
  'thanks',
  'goodbye',
]);

const callOf = ({ tool, arguments: given }: Call): Call => ({ tool, arguments: given });
const callsOf = (found: readonly Filled[], content: string): Call[] =>
  found
    .filter(({ missing }) => missing.length === 0)
    .flatMap((each) => calls(each, content).map((given) => ({ tool: each.tool.name, arguments: given })));
const lackingOf = (found: readonly Filled[]): Filled[] => found.filter(({ missing }) => missing.length > 0);

/** The message as the answer to a question for a tool's arguments; null when none was asked. */
function answerToAsking(
  content: string,
  before: readonly ModelMessage[],
  tools: readonly ToolDescription[],
): Filled | null {
  const asking = before.at(-1);
  const name = asking?.role === 'assistant' ? askedFor(asking.content) : null;
  const tool = tools.find((candidate) => candidate.name === name);
  if (tool === undefined || toolFor(content, content, tools) !== null) return null;
  const question = before.findLast(({ role }) => role === 'user');
  return completed(filled(tool, question?.role === 'user' ? question.content : ''), content);
}

/** The call that the client requires; null when it requires a tool that is not offered. */
function requiredCall(
  { tools }: Prompt,
  content: string,
  choice: 'required' | { readonly tool: string },
): Call | null {
  const own = understand(content).wishes.find(
    (wish) => wish.kind === 'tool' && tools.some((tool) => tool.name === wish.tool && isOwn(tool)),
  );
  if (own?.kind === 'tool' && (choice === 'required' || choice.tool === own.tool)) return callOf(own);
  const tool =
    choice === 'required'
      ? likeliestTool(content, tools)
      : tools.find((candidate) => candidate.name === choice.tool);
  if (tool === undefined) return null;
  return { tool: tool.name, arguments: forced(filled(tool, content), content).arguments };
}

const requestsFor = ({ messages }: Prompt, calls: readonly Call[]): ToolRequest[] => {
  const digest = createHash('sha256').update(JSON.stringify(messages)).digest('hex').slice(0, 16);
  return calls.map((call, index) => ({ toolCallId: `call_${digest}_${index}`, ...callOf(call) }));
};

/** What our own tools are given by the rules. Others may have the same names and take something else. */
const ownArguments: Readonly<Record<string, readonly string[]>> = {
  calculate: ['expression'],
  current_time: ['timeZone'],
  remember_fact: ['category', 'key', 'value'],
  recall_facts: ['query', 'category'],
  forget_fact: ['category', 'key'],
  search_conversations: ['query'],
  list_abilities: [],
  explain_setup: [],
  delegate: ['agent', 'task'],
};

function isOwn({ name, parameters }: ToolDescription): boolean {
  if (!Object.hasOwn(ownArguments, name)) return false;
  const { properties, required } = parameters;
  if (typeof properties !== 'object' || properties === null) return true;
  const given = ownArguments[name]!;
  return (
    given.every((argument) => Object.hasOwn(properties, argument)) &&
    (!Array.isArray(required) || required.every((argument) => given.includes(argument)))
  );
}

/** For a task that no rule fits: what our tools know about its subject. */
function gatheringCalls(task: string, offered: ReadonlyMap<string, ToolDescription>): Call[] {
  const gathering: Call[] = [];
  const has = (name: string): boolean => offered.has(name) && isOwn(offered.get(name)!);
  if (has('recall_facts')) gathering.push({ tool: 'recall_facts', arguments: {} });
  const subject = subjectWords(task);
  if (has('search_conversations')) {
    for (const word of subject.slice(0, 2))
      gathering.push({ tool: 'search_conversations', arguments: { query: word } });
  }
  if (has('current_time') && /\b(?:today|now|date|week|month|year|deadline|schedule)\b/i.test(task)) {
    gathering.push({ tool: 'current_time', arguments: {} });
  }
  return gathering;
}

/** The words of a task that are likeliest to name its subject: names first, then the longest. */
function subjectWords(task: string): string[] {
  const words = [...task.slice(0, READ_CHARACTERS).matchAll(/\p{L}[\p{L}\p{N}-]{3,40}/gu)];
  const isName = (match: RegExpMatchArray): boolean =>
    /^\p{Lu}/u.test(match[0]) && match.index !== 0 && !/[.?!:\n]\s{0,3}$/.test(task.slice(0, match.index));
  const ranked = words.toSorted((a, b) => Number(isName(b)) - Number(isName(a)) || b[0].length - a[0].length);
  return [...new Set(ranked.map(([word]) => word.toLowerCase()))];
}

const figuresIn = (task: string): string[] =>
  [...task.slice(0, READ_CHARACTERS).matchAll(/[$€£]?\d[\d.,]{0,20}(?: ?(?:%|percent|million|billion))?/g)]
    .map(([figure]) => figure.replace(/[.,]{1,5}$/, ''))
    .slice(0, FIGURES);

function* answer(
  prompt: Prompt,
  { wishes, calls: planned, lacking, rest, parts }: Plan,
  content: string,
  outcomes: ReadonlyMap<string, Asked>,
): Generator<string> {
  if (parts !== undefined) {
    const offered = new Set(prompt.tools.map(({ name }) => name));
    yield reportText(parts, (call) => outcomes.get(keyOf(call))?.outcome, offered);
    return;
  }
  let paragraphs = 0;
  const separator = () => (paragraphs++ === 0 ? '' : '\n\n');
  const told = new Set<string>();
  if (prompt.purpose === 'task' && wishes.length === 0 && lacking.length === 0 && rest.length > 0) {
    const own = new Set(planned.map(keyOf));
    const isAnswered = [...outcomes].some(([key]) => !own.has(key));
    if (!isAnswered) {
      const findings = [...outcomes.values()].map(({ tool, args, outcome }) =>
        answerFrom(tool, args, outcome),
      );
      yield reportOn(content, findings, figuresIn(content));
      return;
    }
  }
  for (const wish of wishes) {
    yield separator();
    if (wish.kind !== 'tool') {
      yield* say(wish, prompt.tools);
      continue;
    }
    const asked = outcomes.get(keyOf(wish));
    told.add(keyOf(wish));
    yield asked === undefined
      ? unanswered(wish.tool, prompt.tools)
      : answerFrom(wish.tool, wish.arguments, asked.outcome);
  }
  // What the message did not name by a rule of ours, or what another model asked for before this one took over.
  for (const [key, { tool, args, outcome }] of outcomes) {
    if (!told.has(key)) yield separator() + answerFrom(tool, args, outcome);
  }
  for (const { tool, missing } of lacking) yield separator() + askFor(tool.name, missing);
  for (const call of planned) {
    const key = keyOf(call);
    if (!told.has(key) && !outcomes.has(key)) yield separator() + unanswered(call.tool, prompt.tools);
  }
  if (paragraphs === 0) yield notUnderstood(prompt.tools);
  else if (rest.length > 0 && outcomes.size === told.size) yield separator() + partlyUnderstood(rest);
}

interface Asked {
  readonly tool: string;
  readonly args: unknown;
  readonly outcome: ToolOutcome;
}

/** The same for the same arguments, in whatever order they come back from the log. */
function keyOf(call: { readonly tool: string; readonly arguments: unknown }): string {
  const args =
    typeof call.arguments === 'object' && call.arguments !== null ? Object.entries(call.arguments) : [];
  return JSON.stringify([call.tool, args.toSorted(([a], [b]) => (a < b ? -1 : 1))]);
}

/** The tools asked for since the last message, by tool and arguments, each with what it returned. */
function outcomesIn(messages: readonly ModelMessage[]): ReadonlyMap<string, Asked> {
  const results = new Map(
    messages.flatMap((message) => (message.role === 'tool' ? [[message.toolCallId, message] as const] : [])),
  );
  const outcomes = new Map<string, Asked>();
  for (const message of messages) {
    if (message.role !== 'assistant') continue;
    for (const request of message.toolRequests) {
      const result = results.get(request.toolCallId);
      const outcome = result ?? { result: { error: 'it returned nothing' }, isError: true };
      outcomes.set(keyOf(request), { tool: request.tool, args: request.arguments, outcome });
    }
  }
  return outcomes;
}

/** Cuts text into words, each with the blanks after it; very long words into parts of them. */
function* piecesOf(text: string): Generator<string> {
  for (const [piece] of text.matchAll(/\S{1,40}\s{0,40}|\s{1,40}/gu)) yield piece;
}
