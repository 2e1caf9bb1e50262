/** What must be true of every log, whatever happened to the program that wrote it. Pure. */
import { type EventEnvelope, isAfter, START } from '../contracts/envelope.ts';
import type { OdeonEvent } from '../contracts/events/catalogue.ts';

/** A message that the program said it had taken. */
export interface AcknowledgedMessage {
  /** Different for each message. */
  readonly content: string;
  readonly turnId: string;
}

/**
 * @param events the whole log
 * @param counted whether its positions are 1, 2, 3, …, as an embedded event store counts them
 * @returns what is wrong with it, in words; nothing when all is well
 */
export function faultsOf(
  events: readonly EventEnvelope[],
  acknowledged: readonly AcknowledgedMessage[] = [],
  counted = true,
): string[] {
  const faults: string[] = [];
  const fault = (text: string) => void faults.push(text);

  // ── order ───────────────────────────────────────────────────────────────
  const ids = new Set<string>();
  const nextRevision = new Map<string, number>();
  let time = '';
  let before = START;
  events.forEach(({ id, position, stream, revision, ...event }, index) => {
    if (counted && position !== String(index + 1)) {
      fault(`position ${position} stands where ${index + 1} should`);
    }
    if (!isAfter(position, before)) fault(`position ${position} follows ${before}`);
    before = position;
    const expected = nextRevision.get(stream) ?? 0;
    if (revision !== expected) fault(`${stream} has revision ${revision} where ${expected} should be`);
    nextRevision.set(stream, expected + 1);
    if (ids.has(id)) fault(`the event ${id} is there twice`);
    ids.add(id);
    if (event.time < time) fault(`the event at ${position} is earlier than the one before it`);
    time = event.time;
  });

  // ── turns ───────────────────────────────────────────────────────────────
  const turnOf = new Map<string, string[]>();
  /** Of those that agents ran: a request that is repeated after one failed runs it again. */
  const failedRuns = new Set<string>();
  const runs = new Set<string>();
  const starts = new Map<string, number>();
  const ended = new Set<string>();
  const returned = new Set<string>();
  for (const event of events as readonly OdeonEvent[]) {
    switch (event.type) {
      case 'MessageSent': {
        const { content, turnId, run } = event.data;
        // The steps of an orchestration may have the same task.
        if (run !== null && run.orchestrationId !== null) break;
        if (run !== null) runs.add(turnId);
        turnOf.set(content, [...(turnOf.get(content) ?? []), turnId]);
        break;
      }
      case 'TurnStarted': {
        const { turnId } = event.data;
        if (ended.has(turnId)) fault(`${turnId} was started after its end`);
        starts.set(turnId, (starts.get(turnId) ?? 0) + 1);
        break;
      }
      case 'ToolCalled': {
        const { turnId, toolCallId } = event.data;
        if (returned.has(toolCallId)) fault(`${toolCallId} of ${turnId} was run again after it had returned`);
        break;
      }
      case 'ToolReturned': {
        const { turnId, toolCallId } = event.data;
        if (returned.has(toolCallId)) fault(`${toolCallId} of ${turnId} returned twice`);
        returned.add(toolCallId);
        break;
      }
      case 'TurnCompleted':
      case 'TurnInterrupted':
      case 'TurnFailed': {
        const { turnId } = event.data;
        if (ended.has(turnId)) fault(`${turnId} ended twice`);
        ended.add(turnId);
        if (event.type !== 'TurnCompleted' && runs.has(turnId)) failedRuns.add(turnId);
        if (event.type === 'TurnFailed' && (starts.get(turnId) ?? 0) < 3) {
          fault(`${turnId} failed after ${starts.get(turnId)} attempts: ${event.data.reason}`);
        }
      }
    }
  }

  // ── messages ────────────────────────────────────────────────────────────
  for (const [content, turns] of turnOf) {
    const again = turns.slice(0, -1).filter((turnId) => !failedRuns.has(turnId));
    if (again.length > 0) fault(`the message “${content}” is there ${turns.length} times`);
  }
  for (const { content, turnId } of acknowledged) {
    const found = turnOf.get(content) ?? [];
    if (found.length === 0) fault(`the acknowledged message “${content}” is lost`);
    else if (!found.includes(turnId)) fault(`“${content}” was acknowledged as ${turnId}, and is ${found}`);
  }
  return faults;
}

/** The turns that were asked for and have not ended. */
export function openTurns(events: readonly EventEnvelope[]): string[] {
  const open = new Set<string>();
  for (const event of events as readonly OdeonEvent[]) {
    if (event.type === 'MessageSent') open.add(event.data.turnId);
    else if (
      event.type === 'TurnCompleted' ||
      event.type === 'TurnInterrupted' ||
      event.type === 'TurnFailed'
    ) {
      open.delete(event.data.turnId);
    }
  }
  return [...open];
}
