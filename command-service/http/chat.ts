/** Every chat command route. */
import type { Endpoint } from '../../infra/http/port.ts';
import { type AgentChatCommandDependencies, agentChatCommandEndpoints } from './agent-chat.ts';
import { type AgentCommandDependencies, agentCommandEndpoints } from './agents.ts';
import { type ExecutionCommandDependencies, executionCommandEndpoints } from './executions.ts';
import { type LunaCommandDependencies, lunaChatCommandEndpoints } from './luna.ts';
import { type ZergCommandDependencies, zergChatCommandEndpoints } from './zerg.ts';

export type ChatCommandDependencies = LunaCommandDependencies &
  ZergCommandDependencies &
  AgentChatCommandDependencies &
  AgentCommandDependencies &
  ExecutionCommandDependencies;

export const chatCommandEndpoints = (deps: ChatCommandDependencies): Endpoint[] => [
  ...lunaChatCommandEndpoints(deps),
  ...zergChatCommandEndpoints(deps),
  ...agentChatCommandEndpoints(deps),
  ...agentCommandEndpoints(deps),
  ...executionCommandEndpoints(deps),
];
