/** `orchestrations`: how far each orchestration is, and what its steps brought. */
import type { EventType, OdeonEvent } from '../contracts/events/catalogue.ts';
import { orchestrationEvents } from '../contracts/events/orchestration.ts';
import { type OrchestrationDocument, orchestrationDocument } from '../contracts/read-models/documents.ts';
import { evolveOrchestration, orchestrationIdOf } from '../contracts/read-models/orchestration.ts';
import { type EventHandler, type Handlers, projection } from './projection.ts';

type OrchestrationEventType = keyof typeof orchestrationEvents & EventType;

const handler: EventHandler<OrchestrationDocument, OdeonEvent<OrchestrationEventType>> = {
  id: orchestrationIdOf,
  apply: evolveOrchestration,
};

export const orchestrations = projection<OrchestrationDocument>('orchestrations', {
  version: 1,
  document: orchestrationDocument,
  indexes: [['status'], ['owner', 'position'], ['kind', 'owner', 'position'], ['kind', 'position']],
  on: Object.fromEntries(
    Object.keys(orchestrationEvents).map((type) => [type, handler]),
  ) as Handlers<OrchestrationDocument>,
});
