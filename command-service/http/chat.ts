/** Every chat command route. */
import type { Endpoint } from '../../infra/http/port.ts';
import { type AgentChatCommandDependencies, agentChatCommandEndpoints } from './agent-chat.ts';
import { type AgentCommandDependencies, agentCommandEndpoints } from './agents.ts';
import { type ExecutionCommandDependencies, executionCommandEndpoints } from './executions.ts';
import { type LunaCommandDependencies, lunaChatCommandEndpoints } from './luna.ts';
import { type OpenAiCommandDependencies, openAiCommandEndpoints } from './openai.ts';
import { type PublicLinkCommandDependencies, publicLinkCommandEndpoints } from './public-links.ts';
import { createAgentRuns } from './runs.ts';
import { type TrinityCommandDependencies, trinityCommandEndpoints } from './trinity.ts';
import { type ZergCommandDependencies, zergChatCommandEndpoints } from './zerg.ts';

export type ChatCommandDependencies = LunaCommandDependencies &
  ZergCommandDependencies &
  AgentChatCommandDependencies &
  OpenAiCommandDependencies &
  AgentCommandDependencies &
  Omit<ExecutionCommandDependencies, 'runs'> &
  Omit<TrinityCommandDependencies, 'runs'> &
  Omit<PublicLinkCommandDependencies, 'runs'>;

export function chatCommandEndpoints(dependencies: ChatCommandDependencies): Endpoint[] {
  const deps = { ...dependencies, runs: createAgentRuns(dependencies) };
  return [
    ...lunaChatCommandEndpoints(deps),
    ...zergChatCommandEndpoints(deps),
    ...agentChatCommandEndpoints(deps),
    ...openAiCommandEndpoints(deps),
    ...agentCommandEndpoints(deps),
    ...executionCommandEndpoints(deps),
    ...trinityCommandEndpoints(deps),
    ...publicLinkCommandEndpoints(deps),
  ];
}
