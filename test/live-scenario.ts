/** Random turns for the tests of the live feeds: what a worker records and signals, with crashes and retries. */
import { randomUUID } from 'node:crypto';
import type { NewEvent } from '../contracts/envelope.ts';
import { catalogue, type EventData, type EventType } from '../contracts/events/catalogue.ts';

export type Random = () => number;

/** mulberry32: the same seed, the same numbers in [0, 1). */
export function seeded(seed: number): Random {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export type Step =
  | { readonly kind: 'event'; readonly type: EventType; readonly data: unknown }
  /** Of the last ModelCalled. */
  | { readonly kind: 'text' | 'reasoning'; readonly offset: number; readonly text: string };

export interface TurnScript {
  readonly turnId: string;
  readonly steps: readonly Step[];
  /** The answer as the end of the turn states it. */
  readonly content: string;
}

const usage = { promptTokens: 12, completionTokens: 7, cachedTokens: 2 };
/** A message that asks for nothing in particular. */
const plain = { model: null, instructions: null, run: null, prompt: null };
const WORDS = ['light', ' and ', 'shade', ', ', 'né', ' 🙂', '\n', 'the ', 'a', ' sea', '.', ' "quoted"'];
const pick = <T>(random: Random, items: readonly T[]): T => items[Math.floor(random() * items.length)]!;
const someText = (random: Random, most: number): string =>
  Array.from({ length: Math.floor(random() * most) }, () => pick(random, WORDS)).join('');

/** A turn that is answered in the end, is interrupted or fails; with tools, failed calls and crashes on the way. */
export function turnScript(random: Random, id: string): TurnScript {
  const turnId = `turn_${id}`;
  const messageId = `msg_${id}`;
  const steps: Step[] = [];
  const say = <Type extends EventType>(type: Type, data: EventData<Type>) =>
    steps.push({ kind: 'event', type, data: catalogue[type].schema.parse(data) });
  const provider = 'builtin';
  const model = 'assistant';

  let attempt = 1;
  let calls = 0;
  let finished = '';
  let ended = false;
  let outcome: 'TurnCompleted' | 'TurnInterrupted' | 'TurnFailed' = 'TurnCompleted';
  /** What the crashed call had said, for the next attempt to say again, or not. */
  let before = '';

  say('MessageSent', { messageId: `user_${id}`, turnId, content: 'Hello?', ...plain });
  say('TurnStarted', { turnId, attempt, worker: 'w1' });
  say('MessageRouted', {
    turnId,
    decision: {
      class: 'chat',
      route: 'tools',
      confidence: 'estimate',
      needsFreshData: false,
      needsTools: true,
      riskIfWrong: 'low',
      decisionSource: 'keyword',
      matchedPatterns: ['hello'],
      decisionTimeMs: 0.1,
    },
  });

  while (!ended) {
    const callId = `call_${++calls}`;
    const called = { turnId, callId, provider, model };
    say('ModelCalled', { ...called, step: 1, promptDigest: 'd', promptTokens: 12, tools: [] });
    const again = random();
    const begun = again < 0.4 ? before : again < 0.6 ? before.slice(0, Math.floor(before.length / 2)) : '';
    const text = begun + someText(random, 24);
    const reasoning = random() < 0.3 ? someText(random, 8) : '';
    signals(steps, random, 'reasoning', reasoning);
    const fate = random();
    if (fate < 0.15 && attempt < 3) {
      // The worker is killed in mid-call, of which nothing is recorded, or gives the turn back.
      const got = text.slice(0, Math.floor(random() * (text.length + 1)));
      signals(steps, random, 'text', got);
      before = got;
      if (random() < 0.3) say('TurnReleased', { turnId, worker: `w${attempt}` });
      else attempt++;
      say('TurnStarted', { turnId, attempt, worker: `w${attempt}` });
      continue;
    }
    if (fate < 0.25) {
      say('ModelFailed', { ...called, reason: '503', text: '', durationMs: 3 });
      if (calls < 6) continue;
      outcome = 'TurnFailed';
      break;
    }
    const got = text.slice(0, Math.floor(random() * (text.length + 1)));
    if (fate < 0.35) {
      signals(steps, random, 'text', random() < 0.5 ? got : got.slice(0, Math.floor(got.length / 2)));
      outcome = 'TurnInterrupted';
      say('InterruptRequested', { turnId });
      finished += got;
      ended = true;
    } else if (fate < 0.4) {
      signals(steps, random, 'text', got);
      say('ModelFailed', { ...called, reason: 'the stream broke', text: got, durationMs: 3 });
      outcome = 'TurnFailed';
      finished += got;
      ended = true;
    } else {
      // Some of it is never signalled: the event says it.
      signals(steps, random, 'text', random() < 0.7 ? text : got);
      const tools = fate < 0.65 && calls < 6;
      const toolCallId = `${callId}_1`;
      const request = { toolCallId, tool: 'clock', arguments: { zone: 'UTC' } };
      const toolRequests = tools ? [request] : [];
      const finishReason = tools ? 'tool-calls' : 'stop';
      say('ModelAnswered', {
        ...{ ...called, text, reasoning, toolRequests, finishReason, usage },
        ...{ costUsd: 0.001, durationMs: 5, firstTokenMs: 1 },
      });
      finished += text;
      before = '';
      if (tools) {
        say('ToolCalled', { turnId, callId, ...request, readOnly: true });
        if (random() < 0.2) sayQueued(say, id);
        const result = { time: '12:00' };
        say('ToolReturned', { turnId, toolCallId, tool: 'clock', result, isError: false, durationMs: 1 });
      } else ended = true;
    }
  }
  const tried = [{ provider, model, outcome: 'answered' as const, reason: null }];
  const end = {
    ...{ turnId, messageId, content: finished, provider, model, requestedModel: null },
    decision: { route: 'tools' as const, class: 'chat' as const, confidence: 'estimate' as const },
    ...{ tried, toolsUsed: ['clock'], usage, costUsd: 0.001, durationMs: 20 },
    ...{ finishReason: outcome === 'TurnCompleted' ? ('stop' as const) : null, toolRequests: [] },
  };
  if (outcome === 'TurnFailed') say(outcome, { ...end, reason: 'nobody answered' });
  else say(outcome, end);
  return { turnId, steps, content: finished };
}

/** Another message comes in, and is taken back, while the turn runs. */
function sayQueued(
  say: <Type extends EventType>(type: Type, data: EventData<Type>) => unknown,
  id: string,
): void {
  const turnId = `turn_${id}_queued`;
  say('MessageSent', { messageId: `user_${id}_q`, turnId, content: 'And?', ...plain });
  say('TurnInterrupted', {
    ...{ turnId, messageId: `msg_${id}_q`, content: '', provider: null, model: null, requestedModel: null },
    ...{ decision: null, tried: [], toolsUsed: [], costUsd: 0, durationMs: 0 },
    ...{ finishReason: null, toolRequests: [] },
    usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
  });
}

function signals(steps: Step[], random: Random, kind: 'text' | 'reasoning', text: string): void {
  for (let offset = 0; offset < text.length; ) {
    const piece = text.slice(offset, offset + 1 + Math.floor(random() * 9));
    steps.push({ kind, offset, text: piece });
    offset += piece.length;
  }
}

export const newEvent = (
  type: EventType,
  data: unknown,
  owner: string,
  correlationId = 'test',
): NewEvent => ({
  id: randomUUID(),
  type,
  schemaVersion: catalogue[type].version,
  owner,
  actor: { kind: 'user', id: owner },
  correlationId,
  causationId: null,
  commandId: randomUUID(),
  surface: 'luna',
  data,
});
