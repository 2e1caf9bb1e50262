/**
 * Carries one turn on from wherever its events say it is, to its end: route the message, call models, run the
 * tools they ask for, until there is an answer. Every step is recorded before the next one depends on it.
 */
import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Actor, EventEnvelope, Surface } from '../../../contracts/envelope.ts';
import { Refusal } from '../../../contracts/errors.ts';
import type { EventData } from '../../../contracts/events/catalogue.ts';
import type {
  FinishReason,
  ModelRoute,
  TokenUsage,
  ToolRequest,
} from '../../../contracts/events/conversation.ts';
import type { FactDocument } from '../../../contracts/read-models/documents.ts';
import type { SignalBus } from '../../../infra/bus/port.ts';
import type { EventStore } from '../../../infra/event-store/port.ts';
import {
  type ChatModel,
  estimateTokens,
  ModelError,
  type Models,
  type Prompt,
} from '../../../infra/models/port.ts';
import type { ReadModels } from '../../../infra/read-models/port.ts';
import type { Metrics } from '../../../infra/telemetry/port.ts';
import type { CommandBus, CommandMeta } from '../../command.ts';
import { agent } from '../../domain/agent.ts';
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
import type { Held, StopReason } from '../work.ts';
import { type NextCall, usedUp } from './budget.ts';
import { call, costOf } from './call.ts';
import { compact, needsCompaction } from './compaction.ts';
import { type History, promptOf, readHistory, tokensOf } from './history.ts';
import { systemPrompt } from './prompts.ts';
import { routeMessage } from './router.ts';
import { describe, type Tool, type ToolContext, useTool } from './tool.ts';
import {
  addUsage,
  addUsd,
  afterTimeout,
  answerText,
  type BrokenCall,
  begin,
  fold,
  type Round,
  type Transcript,
  tried,
} from './transcript.ts';

/** After so many rounds of tools the model is asked to answer without any. */
const MAX_ROUNDS = 12;
/** How many facts about the user a system prompt holds. */
const MAX_FACTS = 50;
/** Waits before the second and third attempt when every model failed; the last one before later ones, too. */
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
  /** Resolves after so long; at once, rejecting, when `signal` is aborted. */
  readonly wait?: (milliseconds: number, signal: AbortSignal) => Promise<void>;
}

/** A turn that this worker holds. */
export interface HeldTurn {
  readonly conversationId: string;
  readonly turnId: string;
  readonly worker: string;
  readonly attempt: number;
  readonly state: ConversationState;
  /** As the work's. */
  readonly lend: Held<ConversationState>['lend'];
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
/** A call broke after its first token: what came stays, and the turn ends; a run may try again. */
class BrokenAnswer extends Error {
  readonly retryable: boolean;
  constructor(message: string, options: { retryable: boolean }) {
    super(message);
    this.retryable = options.retryable;
  }
}
/** What keeps the turn from going on will not change: the agent is gone, or the run's budget. */
class CannotGoOn extends Error {}
/** Whoever asked for the run waits for it no more. */
class NobodyWaits extends Error {}

/**
 * Runs the turn until it has ended, was given back (shutdown), or was lost to another worker.
 * @param stopped aborted with a StopReason
 */
export async function runTurn(
  held: HeldTurn,
  dependencies: TurnDependencies,
  stopped: AbortSignal,
): Promise<void> {
  const { bus, store, readModels, models, signals, now, metrics } = dependencies;
  const { retryAfterMs = RETRY_AFTER_MS, wait = waitFor } = dependencies;
  const { conversationId, turnId, worker } = held;
  const stream = streamOf(conversationId);

  let { attempt } = held;
  const loaded = await readTurn(store, stream, turnId);
  const { request } = loaded;
  let { transcript } = loaded;
  const { run } = transcript;
  /** Whoever has a link reads what is answered: nothing of the owner's may come into it. */
  const withVisitor = run?.trigger === 'public' || held.state.kind === 'public';
  const actor: Actor = { kind: 'agent', id: run?.agent.name ?? 'assistant' };
  /** A worker that ends costs an attempt, too; but it takes several for that alone to fail a run. */
  const failAfter = run?.maxAttempts ?? MAX_ATTEMPTS;
  const giveUpAfter = Math.max(failAfter, MAX_ATTEMPTS);
  /** Aborted like `stopped`, and when the run's time is up. */
  let stop = stopped;
  let timeUp = new AbortController();
  let clock = new AbortController();
  const lending = lendingOnce(held.lend);
  let history: History | null = null;
  /** Steps that need not be on disk before what follows them is. */
  let pending: TurnStep[] = [];
  /** The text of a call that did not end well. */
  let partial = '';
  /** What a call cost that was interrupted. */
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
      startClock();
      try {
        if (attempt > giveUpAfter) {
          await abandonTools();
          await end('TurnFailed', `The turn was tried ${giveUpAfter} times, and its worker ended each time.`);
        } else {
          await answer();
        }
        return;
      } catch (error) {
        if (error instanceof TurnLost) throw error;
        if (stopped.aborted) {
          if ((stopped.reason as StopReason) === 'interrupt') {
            await abandonTools();
            await end('TurnInterrupted', null);
          } else {
            await record(`released/${transcript.revision}`, [
              { type: 'TurnReleased', data: { turnId, worker } },
            ]);
          }
          return;
        }
        if (error instanceof NobodyWaits) {
          await end('TurnInterrupted', null);
          return;
        }
        if (timeUp.signal.aborted) await giveToolsUp();
        const failure = timeUp.signal.aborted ? { reason: timedOut(), again: true } : failureIn(error);
        if (failure === null) throw error;
        if (!failure.again || attempt >= failAfter) {
          await end('TurnFailed', failure.reason);
          return;
        }
        // Not cut short by the time that is up: the next attempt has it anew.
        const backOffMs = retryAfterMs[Math.min(attempt, retryAfterMs.length) - 1] ?? 0;
        await wait(backOffMs, stopped).catch(() => {});
        await lending.back();
        if (!stopped.aborted) await tryAgain();
      }
    }
  } catch (error) {
    if (!(error instanceof TurnLost)) throw error;
  } finally {
    clock.abort();
    await lending.back();
  }

  /** What to tell of an attempt that failed, and whether another is worth while; null when it did not fail as such. */
  function failureIn(error: unknown): { reason: string; again: boolean } | null {
    if (error instanceof NoAnswer) return { reason: error.message, again: error.retryable };
    if (error instanceof BrokenAnswer) {
      return { reason: error.message, again: run !== null && error.retryable };
    }
    if (error instanceof CannotGoOn) return { reason: error.message, again: false };
    return null;
  }

  /** Counts the run's time from where its events say, whatever was restarted meanwhile. */
  function startClock(): void {
    clock.abort();
    if (run === null) return;
    clock = new AbortController();
    timeUp = new AbortController();
    stop = AbortSignal.any([stopped, timeUp.signal]);
    const running = timeUp;
    const endsAtMs = (transcript.timedFromMs ?? now().getTime()) + run.timeoutMs;
    const leftMs = endsAtMs - now().getTime();
    if (leftMs <= 0) {
      running.abort();
      return;
    }
    wait(leftMs, clock.signal).then(
      () => running.abort(),
      () => {}, // the attempt ended before
    );
  }

  function timedOut(): string {
    return `timed out after ${run!.timeoutMs / 1000} s`;
  }

  async function tryAgain(): Promise<void> {
    const commandId = timeUp.signal.aborted
      ? afterTimeout(turnId, attempt + 1)
      : `${turnId}/${attempt}/again`;
    const events = await whileHeld(() =>
      bus.dispatch(
        claimTurn,
        { conversationId, turnId, worker, takeOverFrom: worker },
        { ...meta('again'), commandId },
      ),
    );
    attempt++;
    partial = '';
    for (const event of events) transcript = fold(transcript, event as ConversationEvent);
  }

  async function answer(): Promise<void> {
    stop.throwIfAborted();
    if (await isForsaken()) throw new NobodyWaits();
    const { decision, route } = routed();
    const context = await prepared();
    history ??= await readHistory(store, stream, request.revision);

    for (;;) {
      const last = transcript.rounds.at(-1);
      if (last !== undefined && isLast(last.toolRequests)) return end('TurnCompleted', null);
      if (last !== undefined) await runTools(last.callId, last.toolRequests);
      if ((await callModel(route ?? decision.route, context)) === 'ended') return;
    }
  }

  /** Whether the turn that asked for this run with a tool ended before it, which then had not stopped this one yet. */
  async function isForsaken(): Promise<boolean> {
    if (run === null || run.parent === null || request.causationId === null) return false;
    const { parent } = run;
    let hasEnded = false;
    for await (const page of store.readStream(streamOf(parent.conversationId), { direction: 'backwards' })) {
      for (const event of page) {
        if (!isConversationEvent(event)) continue;
        if (event.id === request.causationId) return event.type === 'ToolCalled' && hasEnded;
        if (!('turnId' in event.data) || event.data.turnId !== parent.turnId) continue;
        if (event.type === 'MessageSent') return false;
        hasEnded ||= endTypes.has(event.type);
      }
    }
    return false;
  }

  /** A client runs its tools itself: a request for them ends the turn. */
  function isLast(toolRequests: readonly ToolRequest[]): boolean {
    return toolRequests.length === 0 || clientTools().length > 0;
  }

  function clientTools() {
    return transcript.prompt?.tools ?? [];
  }

  /** The model that was asked for: an agent answers with its own, whatever the conversation's. */
  function requestedModel(): string | null {
    return transcript.messageModel ?? (run === null ? held.state.model : null);
  }

  /** The router's decision, from the events or made now. */
  function routed() {
    const requested = requestedModel();
    const route = isRoute(requested) ? requested : null;
    if (transcript.decision !== null) return { decision: transcript.decision, route };
    const began = performance.now();
    const decided = routeMessage({
      content: transcript.content,
      requestedModel: route === null ? requested : null,
      requestedRoute: route,
      toolsOffered: toolsOffered(),
    });
    const decision = { ...decided, decisionTimeMs: milliseconds(performance.now() - began) };
    pending.push({ type: 'MessageRouted', data: { turnId, decision } });
    return { decision, route };
  }

  /** The system prompt and tools, from the events or put together now. */
  async function prepared(): Promise<NonNullable<Transcript['context']>> {
    if (transcript.context !== null) return transcript.context;
    const agentInstructions = run === null ? null : await instructionsOf(run.agent);
    const facts = withVisitor ? [] : await ownersFacts();
    const system = systemPrompt({
      mode: held.state.mode,
      agentInstructions,
      instructions: transcript.instructions,
      facts,
      clientSystem: transcript.prompt?.system ?? null,
    });
    const context = { system, tools: toolsOffered() };
    pending.push({ type: 'ContextPrepared', data: { turnId, ...context } });
    return context;
  }

  async function ownersFacts(): Promise<readonly FactDocument[]> {
    const { documents } = await readModels.find<FactDocument>('facts', {
      where: { owner: request.owner },
      orderBy: { field: 'position', direction: 'descending' },
      limit: MAX_FACTS,
    });
    return documents.map((document) => document.body);
  }

  /** The client's tools in place of ours; of ours, those that the agent may use. */
  function toolsOffered(): string[] {
    const fit = dependencies.tools.filter((tool) => !withVisitor || tool.forVisitors === true);
    const own = fit.map((tool) => tool.name);
    if (clientTools().length > 0) return clientTools().map((tool) => tool.name);
    const allowed = run?.tools ?? null;
    return allowed === null ? own : own.filter((name) => allowed.includes(name));
  }

  async function instructionsOf({ id, name }: { id: string; name: string }): Promise<string> {
    const { state } = await bus.load(agent, id);
    if (state.status === 'active') return state.definition.instructions;
    throw new CannotGoOn(`The agent ${name} was deleted before its run began.`);
  }

  /** One round: the first of the models that answers. */
  async function callModel(
    route: ModelRoute,
    context: NonNullable<Transcript['context']>,
  ): Promise<'asked for tools' | 'ended'> {
    const failures: ModelError[] = [];
    for (const model of models.candidates(requestedModel(), route).models) {
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
      throw new BrokenAnswer('The model that began the answer is no longer configured.', {
        retryable: false,
      });
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
    const ours = dependencies.tools.filter((tool) => context.tools.includes(tool.name));
    const offered =
      clientTools().length > 0
        ? clientTools()
        : transcript.rounds.length >= MAX_ROUNDS
          ? []
          : ours.map(describe);
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
    const promptTokens = tokensOf(prompt);
    refuseOverspending({
      promptTokens,
      costUsd: costOf(model, { ...noUsage, promptTokens }) ?? 0,
    });

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
          promptTokens,
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

    // A provider tells no usage of a call that was cut off: it is estimated from what went to and fro.
    const estimated = { promptTokens, completionTokens: estimateTokens(text), cachedTokens: 0 };
    if (ended === 'stopped' && stopped.aborted) {
      partial = text;
      cutOff = { ...estimated, costUsd: costOf(model, estimated) };
      metrics.modelCall({ ...observed, outcome: 'interrupted', usage: estimated, costUsd: cutOff.costUsd });
      throw stopped.reason;
    }
    if (ended === 'stopped' || ended instanceof ModelError) {
      partial = text;
      const reason = ended === 'stopped' ? timedOut() : ended.message;
      const usage = text === '' ? noUsage : estimated;
      const costUsd = text === '' ? null : costOf(model, estimated);
      metrics.modelCall({ ...observed, outcome: 'failed', usage, costUsd });
      await record(`failed/${callId}`, [
        { type: 'ModelFailed', data: { ...about, reason, text, durationMs } },
      ]);
      if (ended === 'stopped') throw stop.reason;
      throw text === '' ? ended : new BrokenAnswer(ended.message, { retryable: ended.retryable });
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
    const after = fold(transcript, { ...request, ...answered } as ConversationEvent);
    const isEnd = isLast(toolRequests);
    const overspent =
      usedUp(after, brokenCostUsd(), isEnd ? null : NO_CALL) ??
      (isEnd && finishReason === 'length' ? usedUpBy(prompt) : null);
    if (!isEnd && overspent === null) {
      await record(`answered/${callId}`, [answered, ...toolCalls(callId, toolRequests)]);
      return 'asked for tools';
    }
    pending.push(answered);
    await end(overspent === null ? 'TurnCompleted' : 'TurnFailed', overspent, after);
    return 'ended';
  }

  /** @throws CannotGoOn when the run's budget does not allow the call */
  function refuseOverspending(next: NextCall): void {
    const reason = usedUp(transcript, brokenCostUsd(), next);
    if (reason !== null) throw new CannotGoOn(reason);
  }

  /** For an answer that was cut short: whether what the budget had left cut it. */
  function usedUpBy({ settings }: Prompt): string | null {
    const tokens = run?.budget.tokens ?? null;
    const asked = transcript.prompt?.settings.maxTokens ?? null;
    if (tokens === null || settings === undefined || settings.maxTokens === asked) return null;
    return `The run's budget is used up: tokens (the answer was cut at what was left of ${tokens}).`;
  }

  function brokenCostUsd(): number {
    return transcript.brokenCalls.reduce((sum, broken) => sum + (costOfBroken(broken) ?? 0), 0);
  }

  function costOfBroken({ provider, model, usage }: BrokenCall): number | null {
    const found = models
      .candidates(`${provider}/${model}`, 'pro')
      .models.find((candidate) => candidate.provider === provider && candidate.model === model);
    return found === undefined ? null : costOf(found, usage);
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
    const fresh = requests.filter(({ toolCallId }) => begun[toolCallId] === undefined);
    if (fresh.length > 0) await record(`tools/${callId}`, toolCalls(callId, fresh));
    const open = requests.filter((toolRequest) => outcomes[toolRequest.toolCallId] === undefined);
    const results = await Promise.allSettled(open.map((toolRequest) => runTool(toolRequest)));
    const failure = results.find((result) => result.status === 'rejected');
    if (failure !== undefined) throw failure.reason;
  }

  async function runTool({ toolCallId, tool: name, arguments: given }: ToolRequest): Promise<void> {
    const began = performance.now();
    const allowed = transcript.context?.tools.includes(name) ?? false;
    const found = allowed ? toolNamed(name) : undefined;
    const outcome = await useTool(found, name, given, contextOf(toolCallId));
    // What comes after the turn was stopped is not recorded: the call counts as not finished.
    stop.throwIfAborted();
    const durationMs = milliseconds(performance.now() - began);
    await record(`returned/${toolCallId}`, [
      { type: 'ToolReturned', data: { turnId, toolCallId, tool: name, ...outcome, durationMs } },
    ]);
  }

  function contextOf(toolCallId: string): ToolContext {
    return {
      owner: request.owner,
      conversationId,
      turnId,
      toolCallId,
      meta: {
        ...meta(`tool/${toolCallId}`),
        causationId: transcript.rounds.at(-1)?.begun[toolCallId] ?? request.id,
        // A try before a crash may have carried the tool's command out already.
        retried: true,
      },
      signal: stop,
      now,
      bus,
      store,
      readModels,
      settled: dependencies.settled,
      lend: lending.lend,
    };
  }

  /** The calls of tools that were begun and have no result. */
  function openTools(): readonly ToolRequest[] {
    const last = transcript.rounds.at(-1);
    if (last === undefined) return [];
    return last.toolRequests.filter(
      ({ toolCallId }) => last.begun[toolCallId] !== undefined && last.outcomes[toolCallId] === undefined,
    );
  }

  /** Before the turn ends: what its tools have under way ends, too. */
  async function abandonTools(): Promise<void> {
    for (const { tool, toolCallId } of openTools()) await toolNamed(tool)?.cancel?.(contextOf(toolCallId));
  }

  /** When the time is up: the next attempt goes on with that as their result. */
  async function giveToolsUp(): Promise<void> {
    await abandonTools();
    const returned = openTools().map(
      ({ tool, toolCallId }): TurnStep => ({
        type: 'ToolReturned',
        data: { turnId, toolCallId, tool, result: { error: timedOut() }, isError: true, durationMs: 0 },
      }),
    );
    if (returned.length > 0) await record(`given up/${transcript.revision}`, returned);
  }

  /** Records the end of the turn. `now` is the transcript with what is still pending. */
  async function end(
    type: 'TurnCompleted' | 'TurnInterrupted' | 'TurnFailed',
    reason: string | null,
    current: Transcript = transcript,
  ): Promise<void> {
    const unfinished = partial || current.brokenText;
    // A broken answer is its provider's, though the call counts as failed.
    const broken = unfinished !== '' ? current.tried.at(-1) : undefined;
    const by = current.openCall ?? broken ?? current.answeredBy;
    const { decision, brokenCalls } = current;
    const last = current.rounds.at(-1);
    const toolRequests = type === 'TurnCompleted' ? [...(last?.toolRequests ?? [])] : [];
    let { usage, costUsd } = current;
    for (const spent of brokenCalls.map((call) => ({ ...call.usage, costUsd: costOfBroken(call) }))) {
      usage = addUsage(usage, spent);
      costUsd = addUsd(costUsd, spent.costUsd);
    }
    const data: EventData<'TurnCompleted'> = {
      turnId,
      messageId: answerIdFor(turnId),
      content: answerText(current) + unfinished,
      provider: by?.provider ?? null,
      model: by?.model ?? null,
      requestedModel: requestedModel(),
      decision: decision && { route: decision.route, class: decision.class, confidence: decision.confidence },
      tried: [...(cutOff === null ? current.tried : tried(current, 'interrupted', null))],
      toolsUsed: [
        ...new Set(current.rounds.flatMap((round) => Object.values(round.outcomes).map((o) => o.tool))),
      ],
      usage: cutOff === null ? usage : addUsage(usage, cutOff),
      costUsd: cutOff === null ? costUsd : addUsd(costUsd, cutOff.costUsd),
      durationMs: Math.max(0, now().getTime() - (current.startedAtMs ?? current.requestedAtMs)),
      finishReason:
        current.openCall === null && current.tried.at(-1)?.outcome === 'answered'
          ? finishOf(last, toolRequests)
          : null,
      toolRequests,
    };
    await record(
      `ended/${type}`,
      type === 'TurnFailed' ? [{ type, data: { ...data, reason: reason ?? 'unknown' } }] : [{ type, data }],
    );
    metrics.turnEnded({ outcome: outcomeOf[type], durationMs: data.durationMs });
  }
}

/** Some servers say `stop` where they ask for tools. */
const finishOf = (last: Round | undefined, toolRequests: readonly ToolRequest[]): FinishReason | null =>
  toolRequests.length > 0 ? 'tool-calls' : (last?.finishReason ?? null);

/** Several tools may wait for others' work side by side: the place is lent while any of them does. */
function lendingOnce(lend: ToolContext['lend']): {
  readonly lend: ToolContext['lend'];
  /** Resolves when no place is lent any more. */
  readonly back: () => Promise<void>;
} {
  let waiting = 0;
  let allBack = Promise.withResolvers<void>();
  let lent: Promise<void> = Promise.resolve();
  return {
    back: () => lent,
    async lend(meanwhile) {
      if (waiting++ === 0) {
        const back = Promise.withResolvers<void>();
        allBack = back;
        lent = lent.then(() => lend(() => back.promise));
      }
      try {
        return await meanwhile();
      } finally {
        if (--waiting === 0) {
          allBack.resolve();
          await lent;
        }
      }
    },
  };
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

const waitFor = (milliseconds: number, signal: AbortSignal): Promise<void> =>
  delay(milliseconds, undefined, { signal });

const streamOf = (conversationId: string): string => `${conversation.category}-${conversationId}`;
const endTypes: ReadonlySet<string> = new Set(Object.keys(outcomeOf));
const NO_CALL: NextCall = { promptTokens: 0, costUsd: 0 };

const isRoute = (requested: string | null): requested is ModelRoute =>
  requested === 'nano' || requested === 'pro' || requested === 'tools';

const digest = (text: string): string => createHash('sha256').update(text).digest('hex');
const milliseconds = (value: number): number => Math.round(value * 1000) / 1000;
const noUsage: TokenUsage = { promptTokens: 0, completionTokens: 0, cachedTokens: 0 };
