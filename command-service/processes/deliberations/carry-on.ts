/**
 * Carries one deliberation on from wherever its events say it is, to its end. Every step is recorded before the next
 * one depends on it, under an id of its own, so that none is recorded twice.
 */
import type { Actor, EventEnvelope } from '../../../contracts/envelope.ts';
import { Refusal } from '../../../contracts/errors.ts';
import type { CouncilMember, Voice } from '../../../contracts/events/deliberation.ts';
import type { EventStore } from '../../../infra/event-store/port.ts';
import { type ChatModel, ModelError, type Models } from '../../../infra/models/port.ts';
import type { ReadModels } from '../../../infra/read-models/port.ts';
import type { Metrics } from '../../../infra/telemetry/port.ts';
import type { CommandBus, CommandMeta } from '../../command.ts';
import { endSession } from '../../domain/council.ts';
import {
  type DeliberationEvent,
  type DeliberationState,
  type DeliberationStep,
  deliberation,
  recordDeliberation,
} from '../../domain/deliberation.ts';
import { rememberFact } from '../../domain/fact.ts';
import { call, costOf } from '../turns/call.ts';
import { describe, type Tool, useTool } from '../turns/tool.ts';
import type { StopReason } from '../work.ts';
import { promptFor, readJudgement, readSpeech, readVote, researcherOf } from './by-model.ts';
import { decisionText, judgeByRule, speakByRule, voteByRule, wantedTools } from './by-rule.ts';
import {
  begin,
  type Course,
  fold,
  judgeOf,
  majority,
  nextStep,
  type Phase,
  type Sought,
  type Step,
  tallyOf,
  votesOf,
} from './record.ts';
import { IDENTICAL_USES, materialOf, readOnly, usesOf } from './tools.ts';

/** A deliberation of which so many workers in a row were lost, each at the same step, has failed. */
const MAX_LOST = 5;

export interface DeliberationDependencies {
  readonly bus: CommandBus;
  readonly store: EventStore;
  readonly readModels: ReadModels;
  readonly models: Models;
  readonly tools: readonly Tool[];
  /** Waits, bounded, until the read models show everything committed so far. */
  readonly settled: () => Promise<void>;
  readonly now: () => Date;
  readonly metrics: Pick<Metrics, 'modelCall'>;
  /** Before each speech by rule on a user's own topic, so that it can be followed live, and stopped. */
  readonly paceMs: number;
}

/** A deliberation that this worker holds. */
export interface HeldDeliberation {
  readonly deliberationId: string;
  readonly worker: string;
  /** Right after it was claimed. */
  readonly state: DeliberationState;
}

/** It is no longer this worker's, or has ended. */
class Lost extends Error {}

const BY_RULE: Voice = {
  model: null,
  usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
  costUsd: 0,
  durationMs: 0,
};

/**
 * Runs it until it has ended, was given back (shutdown), or was lost to another worker.
 * @param stop aborted with a StopReason
 */
export async function carryOn(
  { deliberationId, worker, state }: HeldDeliberation,
  dependencies: DeliberationDependencies,
  stop: AbortSignal,
): Promise<void> {
  const { bus, store, now, metrics, paceMs } = dependencies;
  const { owner, attempt, requestId, correlationId, surface } = state;
  const stream = `${deliberation.category}-${deliberationId}`;
  const tools = readOnly(dependencies.tools);
  const models = dependencies.models
    .candidates(null, 'pro')
    .models.filter(({ provider }) => provider !== 'builtin');
  let course = await readCourse(store, stream);

  const meta = (key: string, actor: Actor): CommandMeta => ({
    commandId: `${deliberationId}/${key}`,
    correlationId,
    causationId: requestId,
    surface,
    actor,
    caller: null,
    retried: false,
  });
  const COUNCIL: Actor = { kind: 'system', id: 'deliberations' };

  /** `key` makes the ids of the events: the same step is recorded once. */
  async function record(
    key: string,
    steps: readonly DeliberationStep[],
    actor: Actor = COUNCIL,
  ): Promise<void> {
    let events: readonly EventEnvelope[];
    try {
      const input = { deliberationId, worker, attempt, steps: [...steps] };
      ({ events } = await bus.dispatch(recordDeliberation, input, meta(key, actor)));
    } catch (error) {
      if (error instanceof Refusal && error.code === 'CONFLICT') throw new Lost();
      throw error;
    }
    for (const event of events) course = fold(course, event as DeliberationEvent);
  }

  try {
    if (state.fruitless >= MAX_LOST) {
      await end(
        'failed',
        `It was tried ${MAX_LOST} times at the same step, and its worker was lost each time.`,
      );
      return;
    }
    try {
      for (;;) {
        stop.throwIfAborted();
        const step = nextStep(course);
        await perform(step);
        if (step.kind === 'end') return;
      }
    } catch (error) {
      if (!stop.aborted || error instanceof Lost) throw error;
      if ((stop.reason as StopReason) === 'interrupt') await end('stopped', null);
      else await record(`released/${course.revision}`, [{ type: 'DeliberationReleased', data: { worker } }]);
    }
  } catch (error) {
    if (!(error instanceof Lost)) throw error;
  }

  async function perform(step: Step): Promise<void> {
    const { loop } = course;
    switch (step.kind) {
      case 'start phase':
        return record(`started/${step.loop}/${step.phase}`, [
          { type: 'PhaseStarted', data: { phase: step.phase, loop: step.loop } },
        ]);
      case 'end phase':
        return endPhase();
      case 'gather':
        return gather();
      case 'use tool':
        return useSought(step.sought);
      case 'speak':
        return speak(step.phase, step.member);
      case 'vote': {
        const { name: member } = step.member;
        const { value, voice, failed } = await voiced(step.member, 'vote', {
          byModel: readVote,
          byRule: () => voteByRule(course, step.member),
        });
        const cast: DeliberationStep = { type: 'VoteCast', data: { loop, member, ...value, voice } };
        return record(`vote/${loop}/${member}`, [...failed, cast], memberActor(step.member));
      }
      case 'decide':
        return decide();
      case 'act':
        return act();
      case 'end':
        return end('decided', null);
    }
  }

  function endPhase(): Promise<void> {
    const { phase, loop } = course;
    return record(`ended/${loop}/${phase}`, [{ type: 'PhaseEnded', data: { phase: phase!, loop } }]);
  }

  // ── tools ───────────────────────────────────────────────────────────────
  async function gather(): Promise<void> {
    const next = wantedTools(course).find(
      (sought) => usesOf(course, sought) === 0 && tools.some(({ name }) => name === sought.tool),
    );
    if (course.sought.length >= course.maxToolUses) {
      // Who may use none is not told that there are no more.
      if (course.maxToolUses === 0 || (next === undefined && models.length === 0)) return endPhase();
      return limit('tools', `The ${course.maxToolUses} uses of tools that it may have are used up.`);
    }
    if (next !== undefined) return seek(next);
    const chosen = models.length === 0 ? null : await chooseTool();
    if (chosen === null) return endPhase();
    if (usesOf(course, chosen) >= IDENTICAL_USES) {
      const given = JSON.stringify(chosen.arguments)?.slice(0, 200).toWellFormed();
      const times = IDENTICAL_USES + 1;
      return limit(
        'repetition',
        `${chosen.tool} was asked for ${times} times with the same arguments: ${given}`,
      );
    }
    return seek(chosen);
  }

  function seek({ tool, arguments: given }: Sought): Promise<void> {
    const { loop, sought } = course;
    return record(`sought/${sought.length + 1}`, [
      { type: 'MaterialSought', data: { phase: 'gathering', loop, tool, arguments: given } },
    ]);
  }

  function limit(kind: 'tools' | 'repetition', message: string): Promise<void> {
    const data = { limit: kind, phase: 'gathering', loop: course.loop, message };
    return record('limited', [{ type: 'DeliberationLimited', data }]);
  }

  /** Null: none, or no model answered. */
  async function chooseTool(): Promise<Sought | null> {
    const member = researcherOf(course);
    for (const model of models) {
      const prompt = promptFor(course, 'tools', member, { ...model, tools: tools.map(describe) });
      const { end: ended, toolRequests } = await ask(model, prompt);
      if (ended instanceof ModelError) continue;
      const [request] = toolRequests;
      return request === undefined ? null : { tool: request.tool, arguments: request.arguments };
    }
    return null;
  }

  async function useSought(sought: Sought): Promise<void> {
    const { loop } = course;
    const number = course.sought.length;
    const began = performance.now();
    const { result, isError } = await useTool(
      tools.find(({ name }) => name === sought.tool),
      sought.tool,
      sought.arguments,
      {
        owner,
        conversationId: deliberationId,
        turnId: deliberationId,
        toolCallId: `${deliberationId}/${number}`,
        meta: meta(`tool/${number}`, COUNCIL),
        signal: stop,
        now,
        bus,
        store,
        readModels: dependencies.readModels,
        settled: dependencies.settled,
        // A tool that only reads waits for no other work.
        lend: (meanwhile) => meanwhile(),
      },
    );
    stop.throwIfAborted();
    const durationMs = milliseconds(performance.now() - began);
    const material = materialOf(course, sought, result);
    const { tool, arguments: given } = sought;
    await record(`found/${number}`, [
      {
        type: 'MaterialGathered',
        data: { phase: 'gathering', loop, tool, arguments: given, material, isError, durationMs },
      },
    ]);
  }

  // ── voices ──────────────────────────────────────────────────────────────
  async function speak(phase: Phase, member: CouncilMember): Promise<void> {
    const { loop } = course;
    const { value, voice, failed } = await voiced(member, phase, {
      byModel: (text) => readSpeech(course, text),
      byRule: () => speakByRule(course, phase, member),
    });
    const kind = phase === 'objections' ? 'objection' : 'statement';
    const said: DeliberationStep = {
      type: 'MemberSpoke',
      data: { phase, loop, member: member.name, kind, ...value, voice },
    };
    await record(`spoke/${loop}/${phase}/${member.name}`, [...failed, said], memberActor(member));
  }

  /** Through the first model that answers; by rule where there is none, or none does. */
  async function voiced<Value>(
    member: CouncilMember,
    asked: Phase | 'judgement',
    { byModel, byRule }: { byModel: (text: string) => Value | null; byRule: () => Value },
  ): Promise<{ value: Value; voice: Voice; failed: DeliberationStep[] }> {
    if (models.length === 0) {
      if (course.purpose === 'autonomous') await pause(paceMs, stop);
      return { value: byRule(), voice: BY_RULE, failed: [] };
    }
    const reasons: string[] = [];
    for (const model of models) {
      const prompt = promptFor(course, asked, member, { ...model, tools: [] });
      const { end: ended, text, durationMs } = await ask(model, prompt);
      if (ended instanceof ModelError) {
        reasons.push(ended.message);
        continue;
      }
      const value = byModel(text);
      if (value === null) {
        reasons.push(`${model.provider}/${model.model} answered what could not be read`);
        continue;
      }
      const { usage } = ended;
      const name = `${model.provider}/${model.model}`;
      return { value, voice: { model: name, usage, costUsd: costOf(model, usage), durationMs }, failed: [] };
    }
    const { loop } = course;
    const phase = course.phase ?? 'decision';
    const reason = reasons.join('; ').slice(0, 1_000).toWellFormed();
    return {
      value: byRule(),
      voice: BY_RULE,
      failed: [{ type: 'VoiceFailed', data: { phase, loop, member: member.name, reason } }],
    };
  }

  /** @throws the stop's reason when it is stopped meanwhile */
  async function ask(model: ChatModel, prompt: Parameters<ChatModel['stream']>[0]) {
    const result = await call(model, prompt, {
      signal: stop,
      separator: '',
      toolCallId: (index) => `${deliberationId}/asked/${index}`,
      show: () => {},
    });
    const { end: ended, durationMs, firstTokenMs } = result;
    const about = { provider: model.provider, model: model.model, durationMs, firstTokenMs };
    const nothing = { usage: BY_RULE.usage, costUsd: 0 };
    if (ended === 'stopped') {
      metrics.modelCall({ ...about, ...nothing, outcome: 'interrupted' });
      throw stop.reason;
    }
    if (ended instanceof ModelError) metrics.modelCall({ ...about, ...nothing, outcome: 'failed' });
    else {
      const { usage } = ended;
      metrics.modelCall({ ...about, usage, costUsd: costOf(model, usage), outcome: 'answered' });
    }
    return { ...result, end: ended };
  }

  // ── the decision and what follows from it ───────────────────────────────
  async function decide(): Promise<void> {
    const { loop } = course;
    const counted = majority(course);
    const judge = judgeOf(course);
    const judged =
      counted === null
        ? await voiced(judge, 'judgement', { byModel: readJudgement, byRule: () => judgeByRule(course) })
        : null;
    const outcome = counted ?? (judged?.value.approved ? 'approved' : 'rejected');
    const lost = outcome === 'approved' ? 'against' : 'for';
    const reached: DeliberationStep = {
      type: 'DecisionReached',
      data: {
        loop,
        outcome,
        decision: decisionText(course, outcome, judged?.value.reason ?? null),
        by: judged === null ? 'majority' : 'judge',
        tally: tallyOf(course),
        dissent: votesOf(course)
          .filter(({ vote }) => vote === lost)
          .map(({ member, reason }) => ({ member, reason })),
        voice: judged?.voice ?? null,
      },
    };
    const by = judged === null ? COUNCIL : memberActor(judge);
    await record(`decided/${loop}`, [...(judged?.failed ?? []), reached], by);
  }

  async function act(): Promise<void> {
    const { purpose, topic } = course;
    const { outcome, decision, tally, by, eventId: decisionId } = course.decision!;
    const done = (action: string, detail: string) =>
      record('acted', [{ type: 'ActionTaken', data: { action, detail, decisionId } }]);
    if (purpose !== 'autonomous') {
      const what = purpose === 'plan' ? 'The agent may act on its plan.' : 'The result may be handed over.';
      const not = purpose === 'plan' ? 'The agent may not act on its plan.' : 'The result is withheld.';
      return outcome === 'approved' ? done('handed over', what) : done('withheld', not);
    }
    const key = `decision: ${topic.replace(/\s+/g, ' ').trim().slice(0, 180)}`.toWellFormed();
    const voting = tally.for + tally.against;
    await bus.dispatch(
      rememberFact,
      {
        owner,
        category: 'context',
        key,
        value: decision.slice(0, 2_000).toWellFormed(),
        confidence: by === 'judge' ? 0.5 : Math.max(tally.for, tally.against) / voting,
        conversationId: null,
        turnId: null,
      },
      { ...meta('remembered', COUNCIL), causationId: decisionId },
    );
    await done(
      'decision remembered',
      `The decision is kept among the facts in the category context, as “${key}”.`,
    );
  }

  async function end(outcome: 'decided' | 'stopped' | 'failed', reason: string | null): Promise<void> {
    const current = (await bus.load(deliberation, deliberationId)).state;
    if (current.worker !== worker || current.attempt !== attempt) throw new Lost();
    if (course.sessionId !== null) {
      // Before its deliberation: a session whose deliberation has ended could not be ended by it any more.
      const ended = outcome === 'decided' ? 'completed' : outcome;
      const input = { owner, sessionId: course.sessionId, outcome: ended } as const;
      await bus.dispatch(endSession, input, meta('session ended', COUNCIL));
    }
    const { usage, costUsd } = current;
    const durationMs = Math.max(0, now().getTime() - Date.parse(course.openedAt));
    await record('ended', [
      { type: 'DeliberationEnded', data: { outcome, reason, usage, costUsd, durationMs } },
    ]);
  }
}

const memberActor = ({ name }: CouncilMember): Actor => ({ kind: 'agent', id: name });

async function readCourse(store: EventStore, stream: string): Promise<Course> {
  let course: Course | null = null;
  for await (const page of store.readStream(stream)) {
    for (const event of page as readonly DeliberationEvent[]) {
      if (course !== null) course = fold(course, event);
      else if (event.type === 'DeliberationOpened') course = begin(event);
    }
  }
  if (course === null) throw new Error(`${stream} does not begin with DeliberationOpened.`);
  return course;
}

const milliseconds = (duration: number): number => Math.round(duration * 1000) / 1000;

/** @throws the signal's reason when it is aborted */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms === 0) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', stopped);
      resolve();
    }, ms);
    function stopped() {
      clearTimeout(timer);
      reject(signal.reason);
    }
    signal.addEventListener('abort', stopped, { once: true });
  });
}
