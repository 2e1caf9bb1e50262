/**
 * Carries one turn on from wherever its events say it is, to its end: route the message, call models, run the
 * tools they ask for, until there is an answer. Every step is recorded before the next one depends on it.
 */
import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Actor, EventEnvelope, Surface } from '../../../contracts/envelope.ts';
import { Refusal } from '../../../contracts/errors.ts';
import type { EventData } from '../../../contracts/events/catalogue.ts';
import type { ModelRoute, TokenUsage, ToolRequest } from '../../../contracts/events/conversation.ts';
import type { FactDocument } from '../../../contracts/read-models/documents.ts';
import type { SignalBus } from '../../../infra/bus/port.ts';
import type { EventStore } from '../../../infra/event-store/port.ts';
import { type ChatModel, estimateTokens, ModelError, type Models } from '../../../infra/models/port.ts';
import type { ReadModels } from '../../../infra/read-models/port.ts';
import type { Metrics } from '../../../infra/telemetry/port.ts';
import type { CommandBus, CommandMeta } from '../../command.ts';
import {
  answerIdFor,
  type ConversationEvent,
  type ConversationState,
  claimTurn,
  conversation,
  isConversationEvent,
  MAX_ATTEMPTS,
  recordSteps,
  type TurnStep,
} from '../../domain/conversation.ts';
import type { StopReason } from '../work.ts';
import { call, costOf } from './call.ts';
import { compact, needsCompaction } from './compaction.ts';
import { type History, promptOf, readHistory, tokensOf } from './history.ts';
import { systemPrompt } from './prompts.ts';
import { routeMessage } from './router.ts';
import { describe, type Tool, useTool } from './tool.ts';
import { addUsage, addUsd, answerText, begin, fold, type Transcript, tried } from './transcript.ts';

/** After so many rounds of tools the model is asked to answer without any. */
const MAX_ROUNDS = 12;
/** How many facts about the user a system prompt holds. */
const MAX_FACTS = 50;
/** Waits before the second and third attempt when every model failed. */
const RETRY_AFTER_MS: readonly number[] = [1_000, 4_000];

export interface TurnDependencies {
  readonly bus: CommandBus;
  readonly store: EventStore;
  readonly readModels: ReadModels;
  readonly signals: SignalBus;
  readonly models: Models;
  readonly tools: readonly Tool[];
  /** Waits, bounded, until the read models show everything committed so far. */
  readonly settled: () => Promise<void>;
  readonly now: () => Date;
  readonly metrics: Pick<Metrics, 'turnEnded' | 'modelCall'>;
  readonly retryAfterMs?: readonly number[];
}

/** A turn that this worker holds. */
export interface HeldTurn {
  readonly conversationId: string;
  readonly turnId: string;
  readonly worker: string;
  readonly attempt: number;
  readonly state: ConversationState;
}

/** The turn is no longer this worker's: somebody else goes on with it, or it has ended. */
class TurnLost extends Error {}
/** Every model failed before the first token. */
class NoAnswer extends Error {
  readonly retryable: boolean;
  constructor(failures: readonly ModelError[]) {
    super(failures.map((failure) => failure.message).join('; '));
    this.retryable = failures.some((failure) => failure.retryable);
  }
}
/** A call broke after its first token: what came stays, and the turn ends. */
class BrokenAnswer extends Error {}

/**
 * Runs the turn until it has ended, was given back (shutdown), or was lost to another worker.
 * @param stop aborted with a StopReason
 */
export async function runTurn(
  held: HeldTurn,
  dependencies: TurnDependencies,
  stop: AbortSignal,
): Promise<void> {
  const { bus, store, readModels, models, signals, now, metrics } = dependencies;
  const { retryAfterMs = RETRY_AFTER_MS } = dependencies;
  const { conversationId, turnId, worker } = held;
  const stream = `${conversation.category}-${conversationId}`;
  const actor: Actor = { kind: 'agent', id: 'assistant' };

  let { attempt } = held;
  const loaded = await readTurn(store, stream, turnId);
  const { request } = loaded;
  let { transcript } = loaded;
  let history: History | null = null;
  /** Steps that need not be on disk before what follows them is. */
  let pending: TurnStep[] = [];
  /** The text of a call that did not end well. */
  let partial = '';
  /** What such a call cost. */
  let cutOff: (TokenUsage & { costUsd: number | null }) | null = null;

  const meta = (key: string): CommandMeta => ({
    commandId: `${turnId}/${key}`,
    correlationId: request.correlationId,
    causationId: request.id,
    surface: request.surface as Surface,
    actor,
    caller: null,
    retried: false,
  });

  /** Appends steps as one. `key` makes the step's event ids: the same step is recorded once. */
  async function record(key: string, steps: readonly TurnStep[]): Promise<readonly EventEnvelope[]> {
    const all = [...pending, ...steps];
    pending = [];
    const events = await whileHeld(() =>
      bus.dispatch(
        recordSteps,
        { conversationId, turnId, worker, attempt, steps: all },
        meta(`${attempt}/${key}`),
      ),
    );
    for (const event of events) transcript = fold(transcript, event as ConversationEvent);
    return events;
  }

  try {
    for (;;) {
      try {
        if (attempt > MAX_ATTEMPTS) {
          await end(
            'TurnFailed',
            `The turn was tried ${MAX_ATTEMPTS} times, and its worker ended each time.`,
          );
        } else {
          await answer();
        }
        return;
      } catch (error) {
        if (stop.aborted && !(error instanceof TurnLost)) {
          if ((stop.reason as StopReason) === 'interrupt') await end('TurnInterrupted', null);
          else
            await record(`released/${transcript.revision}`, [
              { type: 'TurnReleased', data: { turnId, worker } },
            ]);
          return;
        }
        if (error instanceof BrokenAnswer) {
          await end('TurnFailed', error.message);
          return;
        }
        if (!(error instanceof NoAnswer)) throw error;
        if (attempt >= MAX_ATTEMPTS || !error.retryable) {
          await end('TurnFailed', error.message);
          return;
        }
        await delay(retryAfterMs[attempt - 1], null, { signal: stop }).catch(() => {});
        if (!stop.aborted) await tryAgain();
      }
    }
  } catch (error) {
    if (!(error instanceof TurnLost)) throw error;
  }

  async function tryAgain(): Promise<void> {
    const events = await whileHeld(() =>
      bus.dispatch(
        claimTurn,
        { conversationId, turnId, worker, takeOverFrom: worker },
        meta(`${attempt}/again`),
      ),
    );
    attempt++;
    for (const event of events) transcript = fold(transcript, event as ConversationEvent);
  }

  async function answer(): Promise<void> {
    stop.throwIfAborted();
    const { decision, route } = routed();
    const context = await prepared();
    history ??= await readHistory(store, stream, request.revision);

    for (;;) {
      const last = transcript.rounds.at(-1);
      if (last !== undefined && last.toolRequests.length === 0) return end('TurnCompleted', null);
      if (last !== undefined) await runTools(last.callId, last.toolRequests);
      if ((await callModel(route ?? decision.route, context)) === 'ended') return;
    }
  }

  /** The router's decision, from the events or made now. */
  function routed() {
    const requested = transcript.messageModel ?? held.state.model;
    const route = isRoute(requested) ? requested : null;
    if (transcript.decision !== null) return { decision: transcript.decision, route };
    const began = performance.now();
    const decided = routeMessage({
      content: transcript.content,
      requestedModel: route === null ? requested : null,
      requestedRoute: route,
      toolsOffered: dependencies.tools.map((tool) => tool.name),
    });
    const decision = { ...decided, decisionTimeMs: milliseconds(performance.now() - began) };
    pending.push({ type: 'MessageRouted', data: { turnId, decision } });
    return { decision, route };
  }

  /** The system prompt and tools, from the events or put together now. */
  async function prepared(): Promise<NonNullable<Transcript['context']>> {
    if (transcript.context !== null) return transcript.context;
    const { documents } = await readModels.find<FactDocument>('facts', {
      where: { owner: request.owner },
      orderBy: { field: 'position', direction: 'descending' },
      limit: MAX_FACTS,
    });
    const facts = documents.map((document) => document.body);
    const context = {
      system: systemPrompt(held.state.mode, facts),
      tools: dependencies.tools.map((tool) => tool.name),
    };
    pending.push({ type: 'ContextPrepared', data: { turnId, ...context } });
    return context;
  }

  /** One round: the first of the models that answers. */
  async function callModel(
    route: ModelRoute,
    context: NonNullable<Transcript['context']>,
  ): Promise<'asked for tools' | 'ended'> {
    const requested = transcript.messageModel ?? held.state.model;
    const failures: ModelError[] = [];
    for (const model of models.candidates(requested, route).models) {
      if (!mayGoOn(model)) continue;
      stop.throwIfAborted();
      try {
        return await callOne(model, context);
      } catch (error) {
        if (stop.aborted || !(error instanceof ModelError)) throw error;
        failures.push(error);
      }
    }
    if (failures.length === 0)
      throw new BrokenAnswer('The model that began the answer is no longer configured.');
    throw new NoAnswer(failures);
  }

  /** An answer whose first words are out is not silently gone on with by another model. */
  function mayGoOn({ provider, model }: ChatModel): boolean {
    const by = transcript.answeredBy;
    return by === null || answerText(transcript) === '' || (by.provider === provider && by.model === model);
  }

  async function callOne(
    model: ChatModel,
    context: NonNullable<Transcript['context']>,
  ): Promise<'asked for tools' | 'ended'> {
    const offered =
      transcript.rounds.length >= MAX_ROUNDS
        ? []
        : dependencies.tools.filter((tool) => context.tools.includes(tool.name)).map(describe);
    let prompt = promptOf(transcript, context, history!, offered);
    const tokensBefore = tokensOf(prompt);
    if (needsCompaction(tokensBefore, model, history!)) {
      const compacted = await compact(turnId, history!, {
        model,
        summarisers: summarisers(),
        tokensBefore,
        signal: stop,
      });
      history = compacted.history;
      pending.push(compacted.event);
      prompt = promptOf(transcript, context, history, offered);
    }

    const { provider } = model;
    partial = '';
    const callId = `call_${digest(`${turnId}/${attempt}/${transcript.calls}`).slice(0, 16)}`;
    const called = await record(`called/${callId}`, [
      {
        type: 'ModelCalled',
        data: {
          turnId,
          callId,
          step: transcript.rounds.length + 1,
          provider,
          model: model.model,
          promptDigest: digest(JSON.stringify(prompt)),
          promptTokens: tokensOf(prompt),
          tools: offered.map((tool) => tool.name),
        },
      },
    ]);
    const position = called.at(-1)!.position;
    const result = await call(model, prompt, {
      signal: stop,
      // Texts of one answer are shown one after the other: a later call's begins a new paragraph.
      separator: answerText(transcript).trim() === '' ? '' : '\n\n',
      toolCallId: (index) => `${callId}_${index + 1}`,
      show: (kind, offset, text) =>
        signals.publish({
          kind,
          owner: request.owner,
          conversationId,
          turnId,
          call: position,
          offset,
          text,
        }),
    });
    const { text, end: ended, durationMs, firstTokenMs } = result;
    const observed = { provider, model: model.model, durationMs, firstTokenMs };
    const about = { turnId, callId, provider, model: model.model };

    if (ended === 'stopped' || (ended instanceof ModelError && text !== '')) {
      partial = text;
      // A provider tells no usage of a call that was cut off: it is estimated from what went to and fro.
      const completionTokens = estimateTokens(text);
      const spent = { promptTokens: tokensOf(prompt), completionTokens, cachedTokens: 0 };
      cutOff = { ...spent, costUsd: costOf(model, spent) };
    }
    if (ended === 'stopped') {
      metrics.modelCall({ ...observed, outcome: 'interrupted', usage: cutOff!, costUsd: cutOff!.costUsd });
      throw stop.reason;
    }
    if (ended instanceof ModelError) {
      const { costUsd, ...usage } = cutOff ?? { ...noUsage, costUsd: null };
      metrics.modelCall({ ...observed, outcome: 'failed', usage, costUsd });
      await record(`failed/${callId}`, [
        { type: 'ModelFailed', data: { ...about, reason: ended.message, text, durationMs } },
      ]);
      throw text === '' ? ended : new BrokenAnswer(ended.message);
    }
    const { finishReason, usage } = ended;
    const costUsd = costOf(model, usage);
    metrics.modelCall({ ...observed, outcome: 'answered', usage, costUsd });
    const { reasoning, toolRequests } = result;
    const answered: TurnStep = {
      type: 'ModelAnswered',
      data: {
        ...about,
        text,
        reasoning,
        toolRequests: [...toolRequests],
        finishReason,
        usage,
        costUsd,
        durationMs,
        firstTokenMs,
      },
    };
    // What follows an answer is recorded with it where it is already known.
    if (toolRequests.length > 0) {
      await record(`answered/${callId}`, [answered, ...toolCalls(callId, toolRequests)]);
      return 'asked for tools';
    }
    pending.push(answered);
    await end('TurnCompleted', null, fold(transcript, { ...request, ...answered } as ConversationEvent));
    return 'ended';
  }

  function summarisers(): readonly ChatModel[] {
    const local = models.list().filter((model) => model.provider === 'builtin');
    return [...models.candidates(null, 'nano').models, ...local];
  }

  function toolCalls(callId: string, requests: readonly ToolRequest[]): TurnStep[] {
    return requests.flatMap((toolRequest): TurnStep[] => {
      const readOnly = toolNamed(toolRequest.tool)?.readOnly ?? true;
      const called: TurnStep = { type: 'ToolCalled', data: { turnId, callId, ...toolRequest, readOnly } };
      if (readOnly) return [called];
      const { toolCallId } = toolRequest;
      const revision = transcript.revision;
      return [{ type: 'CheckpointTaken', data: { turnId, toolCallId, revision } }, called];
    });
  }

  function toolNamed(name: string): Tool | undefined {
    return dependencies.tools.find((candidate) => candidate.name === name);
  }

  /** Runs what has no result yet, side by side. A call begun before a crash is run again under the same id. */
  async function runTools(callId: string, requests: readonly ToolRequest[]): Promise<void> {
    const { begun, outcomes } = transcript.rounds.at(-1)!;
    const fresh = requests.filter((toolRequest) => !begun.includes(toolRequest.toolCallId));
    if (fresh.length > 0) await record(`tools/${callId}`, toolCalls(callId, fresh));
    const open = requests.filter((toolRequest) => outcomes[toolRequest.toolCallId] === undefined);
    const results = await Promise.allSettled(open.map((toolRequest) => runTool(toolRequest)));
    const failure = results.find((result) => result.status === 'rejected');
    if (failure !== undefined) throw failure.reason;
  }

  async function runTool({ toolCallId, tool: name, arguments: given }: ToolRequest): Promise<void> {
    const began = performance.now();
    const outcome = await useTool(toolNamed(name), name, given, {
      owner: request.owner,
      conversationId,
      turnId,
      toolCallId,
      // A try before a crash may have carried the tool's command out already.
      meta: { ...meta(`tool/${toolCallId}`), retried: true },
      signal: stop,
      now,
      bus,
      store,
      readModels,
      settled: dependencies.settled,
    });
    // What comes after the turn was stopped is not recorded: the call counts as not finished.
    stop.throwIfAborted();
    const durationMs = milliseconds(performance.now() - began);
    await record(`returned/${toolCallId}`, [
      { type: 'ToolReturned', data: { turnId, toolCallId, tool: name, ...outcome, durationMs } },
    ]);
  }

  /** Records the end of the turn. `now` is the transcript with what is still pending. */
  async function end(
    type: 'TurnCompleted' | 'TurnInterrupted' | 'TurnFailed',
    reason: string | null,
    current: Transcript = transcript,
  ): Promise<void> {
    // A broken answer is its provider's, though the call counts as failed.
    const broken = partial !== '' ? current.tried.at(-1) : undefined;
    const by = current.openCall ?? broken ?? current.answeredBy;
    const { decision } = current;
    const data: EventData<'TurnCompleted'> = {
      turnId,
      messageId: answerIdFor(turnId),
      content: answerText(current) + partial,
      provider: by?.provider ?? null,
      model: by?.model ?? null,
      requestedModel: current.messageModel ?? held.state.model,
      decision: decision && { route: decision.route, class: decision.class, confidence: decision.confidence },
      tried: [...(cutOff === null ? current.tried : tried(current, 'interrupted', null))],
      toolsUsed: [
        ...new Set(current.rounds.flatMap((round) => Object.values(round.outcomes).map((o) => o.tool))),
      ],
      usage: cutOff === null ? current.usage : addUsage(current.usage, cutOff),
      costUsd: cutOff === null ? current.costUsd : addUsd(current.costUsd, cutOff.costUsd),
      durationMs: Math.max(0, now().getTime() - (current.startedAtMs ?? current.requestedAtMs)),
      finishReason: null,
      toolRequests: [],
    };
    await record(
      `ended/${type}`,
      type === 'TurnFailed' ? [{ type, data: { ...data, reason: reason ?? 'unknown' } }] : [{ type, data }],
    );
    metrics.turnEnded({ outcome: outcomeOf[type], durationMs: data.durationMs });
  }
}

const outcomeOf = {
  TurnCompleted: 'completed',
  TurnInterrupted: 'interrupted',
  TurnFailed: 'failed',
} as const;

/** The message that began the turn, and the transcript of what followed. */
async function readTurn(
  store: EventStore,
  stream: string,
  turnId: string,
): Promise<{ request: EventEnvelope; transcript: Transcript }> {
  let request: EventEnvelope | undefined;
  const since: EventEnvelope[] = [];
  for await (const page of store.readStream(stream, { direction: 'backwards' })) {
    for (const event of page) {
      if (!isConversationEvent(event)) continue;
      if (event.type === 'MessageSent' && event.data.turnId === turnId) {
        request = event;
        break;
      }
      since.push(event);
    }
    if (request !== undefined) break;
  }
  if (request === undefined) throw new Error(`${stream} holds no message for ${turnId}.`);
  const transcript = since
    .reverse()
    .reduce((current, event) => fold(current, event as ConversationEvent), begin(request as never));
  return { request, transcript };
}

/** Turns the refusal of a step by a turn that is no longer held into TurnLost. */
async function whileHeld(
  dispatch: () => Promise<{ events: readonly EventEnvelope[] }>,
): Promise<readonly EventEnvelope[]> {
  try {
    return (await dispatch()).events;
  } catch (error) {
    if (error instanceof Refusal && error.code === 'CONFLICT') throw new TurnLost(error.message);
    throw error;
  }
}

const isRoute = (requested: string | null): requested is ModelRoute =>
  requested === 'nano' || requested === 'pro' || requested === 'tools';

const digest = (text: string): string => createHash('sha256').update(text).digest('hex');
const milliseconds = (value: number): number => Math.round(value * 1000) / 1000;
const noUsage: TokenUsage = { promptTokens: 0, completionTokens: 0, cachedTokens: 0 };
