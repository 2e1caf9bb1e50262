/** Every chat route that reads. */
import type { History } from '../../contracts/read-models/chat-reads.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import type { Endpoint } from '../../infra/http/port.ts';
import { presentReads } from '../chat-reads.ts';
import { agentChatQueryEndpoints } from './agent-chat.ts';
import { type AgentQueryDependencies, agentQueryEndpoints } from './agents.ts';
import { type ExecutionQueryDependencies, executionQueryEndpoints } from './executions.ts';
import { lunaChatQueryEndpoints } from './luna.ts';
import { createMachine } from './machine.ts';
import { parityEndpoints } from './parity.ts';
import { type PublicLinkQueryDependencies, publicLinkQueryEndpoints } from './public-links.ts';
import { type TrinityQueryDependencies, trinityQueryEndpoints } from './trinity.ts';
import { zergChatQueryEndpoints } from './zerg.ts';

export interface ChatQueryDependencies
  extends AgentQueryDependencies,
    ExecutionQueryDependencies,
    Pick<TrinityQueryDependencies, 'contextWindow'>,
    Pick<PublicLinkQueryDependencies, 'linkTokens' | 'visitors'> {
  readonly agents: AgentQueryDependencies['agents'] & ExecutionQueryDependencies['agents'];
  readonly store: Pick<EventStore, 'end' | 'positionAt' | 'readStream'>;
  readonly history: History;
  /** Where the data is kept: whose disk is measured. */
  readonly dataDir: string;
}

export function chatQueryEndpoints(deps: ChatQueryDependencies): Endpoint[] {
  const { readModels, store, history, defaultModel, dataDir } = deps;
  const asOf = { store, history, present: presentReads(readModels) };
  return [
    ...lunaChatQueryEndpoints({ ...asOf, readModels, machine: createMachine(dataDir) }),
    ...zergChatQueryEndpoints({ ...asOf, defaultModel }),
    ...agentChatQueryEndpoints({ ...asOf, defaultModel }),
    ...agentQueryEndpoints(deps),
    ...executionQueryEndpoints(deps),
    ...trinityQueryEndpoints({ ...deps, ...asOf }),
    ...publicLinkQueryEndpoints({ ...deps, ...asOf }),
    ...parityEndpoints(asOf),
  ];
}
