/**
 * What must be true of every log that agents at work have written, whatever happened to the program: no step, word,
 * vote or judgement is there twice, and what has ended stays so. Pure.
 */
import type { EventEnvelope } from '../contracts/envelope.ts';
import type { EventData, OdeonEvent } from '../contracts/events/catalogue.ts';

/** A worker is lost so often before it is told why a deliberation failed. */
const LOST_WORKERS = 5;

/**
 * @param events the whole log
 * @returns what is wrong with its orchestrations, deliberations and sessions of the Council, in words
 */
export function agentFaultsOf(events: readonly EventEnvelope[]): string[] {
  const faults: string[] = [];
  const fault = (text: string) => void faults.push(text);
  /** Says so when it is there again. */
  const seen = new Set<string>();
  const once = (what: string) => {
    if (seen.has(what)) fault(`twice: ${what}`);
    seen.add(what);
  };

  const plans = new Map<string, EventData<'OrchestrationRequested'>>();
  /** Of the steps of orchestrations: by whom they are done, and whose they are. */
  const runOf = new Map<string, string>();
  const judgementOf = new Map<string, string>();
  const answers = new Map<string, string>();
  const decisions = new Map<string, string>();
  const over = new Set<string>();
  const starts = new Map<string, number>();
  /** Uses of tools that have not brought anything yet, by stream. */
  const seeking = new Map<string, number>();

  for (const event of events as readonly OdeonEvent[]) {
    const { stream } = event;
    if (over.has(stream)) fault(`${stream} goes on after its end with ${event.type}`);
    switch (event.type) {
      // ── orchestrations ──────────────────────────────────────────────────
      case 'OrchestrationRequested':
        once(`${stream} was asked for`);
        plans.set(stream, event.data);
        break;
      case 'StepStarted': {
        const { stepId } = event.data;
        once(`${stream} begins ${stepId}`);
        const step = plans.get(stream)?.steps.find(({ id }) => id === stepId);
        if (step?.kind !== event.data.kind) fault(`${stream} begins ${stepId}, which its plan does not have`);
        for (const earlier of step?.after ?? []) {
          if (!seen.has(`${stream} ends ${earlier}`))
            fault(`${stream} begins ${stepId} before ${earlier} ended`);
        }
        if (event.data.kind === 'run') {
          once(`a step is ${event.data.turnId}`);
          once(`a step is in ${event.data.conversationId}`);
          runOf.set(event.data.turnId, stream);
        } else {
          once(`a step is ${event.data.deliberationId}`);
          judgementOf.set(`deliberation-${event.data.deliberationId}`, stream);
        }
        break;
      }
      case 'StepEnded': {
        const { stepId, outcome, verdict, result } = event.data;
        once(`${stream} ends ${stepId}`);
        const begun = seen.has(`${stream} begins ${stepId}`);
        if (!begun && outcome !== 'skipped' && outcome !== 'cancelled') {
          fault(`${stream} ends ${stepId} as ${outcome}, which has not begun`);
        }
        if (verdict !== null && decisions.get(verdict.decisionId) !== result) {
          fault(`${stream} cites ${verdict.decisionId}, which decided something else`);
        }
        break;
      }
      case 'OrchestrationEnded': {
        over.add(stream);
        for (const { id } of plans.get(stream)?.steps ?? []) {
          if (!seen.has(`${stream} ends ${id}`)) fault(`${stream} ended without ${id}`);
        }
        break;
      }
      case 'MessageSent': {
        const { run, turnId } = event.data;
        if (run === null || run.orchestrationId === null) break;
        once(`the message of ${turnId}`);
        const asked = runOf.get(turnId);
        if (asked !== `orchestration-${run.orchestrationId}`) {
          fault(`${turnId} runs for ${run.orchestrationId}, of which it is no step`);
        }
        break;
      }
      case 'TurnCompleted':
        answers.set(event.data.turnId, event.data.content);
        break;

      // ── deliberations ───────────────────────────────────────────────────
      case 'DeliberationOpened':
        once(`${stream} was opened`);
        if (event.data.purpose !== 'autonomous' && !judgementOf.has(stream)) {
          fault(`${stream} judges what is no step`);
        }
        break;
      case 'DeliberationStarted':
        starts.set(stream, (starts.get(stream) ?? 0) + 1);
        break;
      case 'PhaseStarted':
        once(`${stream} begins ${event.data.phase} of loop ${event.data.loop}`);
        break;
      case 'PhaseEnded':
        once(`${stream} ends ${event.data.phase} of loop ${event.data.loop}`);
        if (!seen.has(`${stream} begins ${event.data.phase} of loop ${event.data.loop}`)) {
          fault(`${stream} ends ${event.data.phase} before it begins`);
        }
        break;
      case 'MaterialSought':
        if (seeking.get(stream)) fault(`${stream} uses a tool while it uses another`);
        seeking.set(stream, 1);
        break;
      case 'MaterialGathered':
        if (!seeking.get(stream)) fault(`${stream} has found ${event.data.material.id} again`);
        seeking.set(stream, 0);
        once(`${stream} has ${event.data.material.id}`);
        break;
      case 'DeliberationLimited':
        once(`${stream} has a limit`);
        break;
      case 'MemberSpoke': {
        const { member, phase, loop } = event.data;
        once(`${stream}: ${member} speaks in ${phase} of loop ${loop}`);
        break;
      }
      case 'VoteCast':
        once(`${stream}: ${event.data.member} votes in loop ${event.data.loop}`);
        break;
      case 'DecisionReached':
        once(`${stream} decides`);
        decisions.set(event.id, event.data.decision);
        break;
      case 'ActionTaken':
        once(`${stream} acts`);
        if (!decisions.has(event.data.decisionId)) fault(`${stream} acts on no decision`);
        break;
      case 'FactRemembered':
        if (event.causationId !== null && decisions.has(event.causationId)) {
          once(`${event.causationId} is remembered`);
        }
        break;
      case 'DeliberationEnded': {
        over.add(stream);
        const { outcome, reason } = event.data;
        if (outcome === 'failed' && (starts.get(stream) ?? 0) <= LOST_WORKERS) {
          fault(`${stream} failed after ${starts.get(stream)} starts: ${reason}`);
        }
        if (outcome === 'decided' && !seen.has(`${stream} acts`)) fault(`${stream} ended without an action`);
        break;
      }

      // ── sessions of the Council ─────────────────────────────────────────
      case 'AutonomousSessionStarted':
        once(`${event.data.sessionId} begins`);
        break;
      case 'AutonomousSessionEnded':
        once(`${event.data.sessionId} ends`);
        if (!seen.has(`${event.data.sessionId} begins`))
          fault(`${event.data.sessionId} ends before it begins`);
        break;
    }
  }

  // What a step brought is what its run answered.
  for (const event of events as readonly OdeonEvent[]) {
    if (event.type !== 'StepEnded' || event.data.outcome !== 'completed' || event.data.verdict !== null)
      continue;
    const { stepId, result } = event.data;
    const begun = (events as readonly OdeonEvent[]).find(
      (one): one is OdeonEvent<'StepStarted'> =>
        one.type === 'StepStarted' && one.stream === event.stream && one.data.stepId === stepId,
    );
    if (begun?.data.kind === 'run' && answers.get(begun.data.turnId) !== result) {
      fault(`${event.stream}: ${stepId} did not bring what ${begun.data.turnId} answered`);
    }
  }
  return faults;
}

/** The streams of the orchestrations and deliberations, and the sessions of the Council, that have not ended. */
export function openWork(events: readonly EventEnvelope[]): string[] {
  const open = new Set<string>();
  for (const event of events as readonly OdeonEvent[]) {
    switch (event.type) {
      case 'OrchestrationRequested':
      case 'DeliberationOpened':
        open.add(event.stream);
        break;
      case 'OrchestrationEnded':
      case 'DeliberationEnded':
        open.delete(event.stream);
        break;
      case 'AutonomousSessionStarted':
        open.add(event.data.sessionId);
        break;
      case 'AutonomousSessionEnded':
        open.delete(event.data.sessionId);
        break;
    }
  }
  return [...open];
}
