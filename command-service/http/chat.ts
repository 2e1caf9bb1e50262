/** Every chat command route. */
import type { Endpoint } from '../../infra/http/port.ts';
import { type AgentChatCommandDependencies, agentChatCommandEndpoints } from './agent-chat.ts';
import { type AgentCommandDependencies, agentCommandEndpoints } from './agents.ts';
import { type ExecutionCommandDependencies, executionCommandEndpoints } from './executions.ts';
import { type LunaCommandDependencies, lunaChatCommandEndpoints } from './luna.ts';
import { type OpenAiCommandDependencies, openAiCommandEndpoints } from './openai.ts';
import { createAgentRuns } from './runs.ts';
import { type ZergCommandDependencies, zergChatCommandEndpoints } from './zerg.ts';

export type ChatCommandDependencies = LunaCommandDependencies &
  ZergCommandDependencies &
  AgentChatCommandDependencies &
  OpenAiCommandDependencies &
  AgentCommandDependencies &
  Omit<ExecutionCommandDependencies, 'runs'>;

export function chatCommandEndpoints(dependencies: ChatCommandDependencies): Endpoint[] {
  const deps = { ...dependencies, runs: createAgentRuns(dependencies) };
  return [
    ...lunaChatCommandEndpoints(deps),
    ...zergChatCommandEndpoints(deps),
    ...agentChatCommandEndpoints(deps),
    ...openAiCommandEndpoints(deps),
    ...agentCommandEndpoints(deps),
    ...executionCommandEndpoints(deps),
  ];
}
