/**
 * What an orchestration is after each of its events, and how far: for the projection, and for live feeds, which show
 * each change as it happens. Pure.
 */
import type { EventData, OdeonEvent } from '../events/catalogue.ts';
import type { OrchestrationStep, orchestrationEvents } from '../events/orchestration.ts';
import type { OrchestrationDocument } from './documents.ts';

export const ORCHESTRATION_STREAM = 'orchestration-';

export type OrchestrationEvent = OdeonEvent<keyof typeof orchestrationEvents>;
export type StepDocument = OrchestrationDocument['steps'][number];

/** The id of the orchestration whose stream the event is in. */
export const orchestrationIdOf = (event: { readonly stream: string }): string =>
  event.stream.slice(ORCHESTRATION_STREAM.length);

const newStep = (step: OrchestrationStep): StepDocument => ({
  id: step.id,
  kind: step.kind,
  agentId: step.kind === 'run' ? step.run.agent.id : null,
  agentName: step.kind === 'run' ? step.run.agent.name : null,
  calledAs: step.kind === 'run' ? step.calledAs : null,
  purpose: step.kind === 'judgement' ? step.purpose : null,
  status: 'pending',
  conversationId: null,
  turnId: null,
  deliberationId: null,
  result: null,
  reason: null,
  verdict: null,
  tokens: 0,
  costUsd: 0,
  durationMs: 0,
  startedAt: null,
  endedAt: null,
});

const newOrchestration = (event: OdeonEvent<'OrchestrationRequested'>): OrchestrationDocument => ({
  id: orchestrationIdOf(event),
  owner: event.owner,
  kind: event.data.kind,
  surface: event.surface,
  task: event.data.task,
  parallel: event.data.parallel,
  timeoutMs: event.data.timeoutMs,
  parentTurnId: event.data.parent?.turnId ?? null,
  status: 'pending',
  cancelRequested: false,
  steps: event.data.steps.map(newStep),
  result: null,
  reason: null,
  tokens: 0,
  costUsd: 0,
  durationMs: null,
  requestedAt: event.time,
  startedAt: null,
  updatedAt: event.time,
  endedAt: null,
});

/** The orchestration after the event; null as long as it was not asked for. */
export function evolveOrchestration(
  doc: OrchestrationDocument | null,
  event: OrchestrationEvent,
): OrchestrationDocument | null {
  if (event.type === 'OrchestrationRequested') return newOrchestration(event);
  return doc && { ...doc, ...changes(doc, event), updatedAt: event.time };
}

function changes(doc: OrchestrationDocument, event: OrchestrationEvent): Partial<OrchestrationDocument> {
  switch (event.type) {
    case 'OrchestrationStarted':
      return { status: 'running', startedAt: doc.startedAt ?? event.time };
    case 'OrchestrationReleased':
      return { status: 'pending' };
    case 'OrchestrationCancelRequested':
      return { cancelRequested: true };
    case 'StepStarted':
      return { steps: withStep(doc, event.data.stepId, { ...begun(event.data), startedAt: event.time }) };
    case 'StepEnded': {
      const { stepId, outcome, ...rest } = event.data;
      const spent = {
        tokens: doc.tokens + rest.tokens,
        costUsd: addUsd(doc.costUsd, rest.costUsd),
      };
      return { ...spent, steps: withStep(doc, stepId, { ...rest, status: outcome, endedAt: event.time }) };
    }
    case 'OrchestrationEnded': {
      const { outcome, ...rest } = event.data;
      return { ...rest, status: outcome, endedAt: event.time };
    }
    default:
      return {};
  }
}

/** US dollars; null where one is not known. In units of 10⁻¹², so that sums have no rounding errors of their own. */
export const addUsd = (a: number | null, b: number | null): number | null =>
  a === null || b === null ? null : (Math.round(a * 1e12) + Math.round(b * 1e12)) / 1e12;

function begun(data: EventData<'StepStarted'>): Partial<StepDocument> {
  const { kind, stepId: _id, ...ids } = data;
  return { ...ids, status: 'running' };
}

const withStep = (
  { steps }: OrchestrationDocument,
  stepId: string,
  change: Partial<StepDocument>,
): StepDocument[] => steps.map((step) => (step.id === stepId ? { ...step, ...change } : step));

// ── how far it is ─────────────────────────────────────────────────────────
/** 0: it waits; 0.5: it runs (how far is not known before it ends); 1: it has ended. */
export const progressOfStep = ({ status }: Pick<StepDocument, 'status'>): number =>
  status === 'pending' ? 0 : status === 'running' ? 0.5 : 1;

/** From 0 to 1, over all steps; 1 only once it has ended. */
export function progressOf({ steps, endedAt }: OrchestrationDocument): number {
  if (endedAt !== null) return 1;
  const sum = steps.reduce((total, step) => total + progressOfStep(step), 0);
  return Math.min(0.99, Math.round((sum / steps.length) * 100) / 100);
}

/** Whether nothing of it happens any more. */
export const hasEnded = ({ endedAt }: Pick<OrchestrationDocument, 'endedAt'>): boolean => endedAt !== null;

const messages: Readonly<Record<StepDocument['status'], string>> = {
  pending: 'Waiting for its turn',
  running: 'Working on its task',
  completed: 'Finished',
  failed: 'Failed',
  cancelled: 'Cancelled',
  skipped: 'Skipped',
};

/** What is to be said of a step, for people. */
export function messageOfStep({ status, reason, verdict, kind }: StepDocument): string {
  if (reason !== null) return `${messages[status]}: ${reason}`;
  if (verdict !== null) return `The Council ${verdict.outcome} it`;
  return kind === 'judgement' && status === 'running' ? 'The Council deliberates' : messages[status];
}
