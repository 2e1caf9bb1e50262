/** Agent Chat's progress of an orchestration as server-sent events: the same JSON as the route's, at every change. */
import type { EventEnvelope } from '../../contracts/envelope.ts';
import { renderProgress } from '../../contracts/http/orchestration.ts';
import type { OrchestrationDocument } from '../../contracts/read-models/documents.ts';
import {
  evolveOrchestration,
  ORCHESTRATION_STREAM,
  type OrchestrationEvent,
} from '../../contracts/read-models/orchestration.ts';
import { readerOf } from './answer.ts';
import { NOTHING_READ } from './cursor.ts';
import { type Feed, sse } from './feed.ts';

export function orchestrationFeed(id: string): Feed {
  const stream = ORCHESTRATION_STREAM + id;
  const feed: Feed<OrchestrationDocument | null> = {
    key: `orchestration ${sse.name} ${id}`,
    transport: sse,
    source: { kind: 'conversation', stream, turnId: null, firstRevision: 0 },
    initial: null,
    takes: (event) => event.stream === stream,
    evolve: (doc, event) => evolveOrchestration(doc, event as OrchestrationEvent),
    reader: () => readerOf(NOTHING_READ),
    render: (doc, reader, event) => ({ frames: event && doc ? [frameOf(doc, event)] : [], reader }),
    ends: ({ type }) => type === 'OrchestrationEnded',
    cursor: (_doc, _reader, position) => ({ position, read: null }),
    resync: (error) => ({ id: null, name: null, data: { error } }),
    farewell: null,
  };
  // Only the feed itself looks into its state.
  return feed as Feed;
}

/** A result is told when it comes, and all of them at the end. */
function frameOf(doc: OrchestrationDocument, envelope: EventEnvelope): string {
  const event = envelope as OrchestrationEvent;
  const shown = (stepId: string): boolean =>
    event.type === 'OrchestrationEnded' || (event.type === 'StepEnded' && event.data.stepId === stepId);
  const data = renderProgress(doc, (step) => shown(step.id));
  return sse.encode({ id: event.position, name: null, data });
}
