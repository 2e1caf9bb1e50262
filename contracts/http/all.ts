/** Every route that there is, from one table: the API documents and the routes × roles test read it. */

import { agentChatRoutes } from './agent-chat.ts';
import { agentRoutes } from './agents.ts';
import { autonomousRoutes } from './autonomous.ts';
import { documentationRoutes } from './documentation.ts';
import { executionRoutes } from './executions.ts';
import { graphqlRoutes } from './graphql.ts';
import { administration, luna, zerg } from './identity.ts';
import { internalRoutes } from './internal.ts';
import * as live from './live.ts';
import { lunaChatRoutes } from './luna.ts';
import { openAiRoutes } from './openai.ts';
import { operatorRoutes } from './operators.ts';
import { orchestrationRoutes } from './orchestration.ts';
import { publicLinkRoutes } from './public-links.ts';
import type { RouteContract } from './route.ts';
import { searchRoutes } from './search.ts';
import { serviceRoutes } from './services.ts';
import { systemRoutes } from './system.ts';
import { trinityRoutes } from './trinity.ts';
import { zergChatRoutes } from './zerg.ts';

export const routes: readonly RouteContract[] = [
  ...systemRoutes,
  ...Object.values(luna),
  ...Object.values(zerg),
  ...Object.values(administration),
  ...lunaChatRoutes,
  ...zergChatRoutes,
  ...agentChatRoutes,
  ...graphqlRoutes,
  ...openAiRoutes,
  ...serviceRoutes,
  ...agentRoutes,
  ...executionRoutes,
  ...trinityRoutes,
  ...publicLinkRoutes,
  ...orchestrationRoutes,
  ...searchRoutes,
  ...autonomousRoutes,
  live.streamTurn,
  live.streamCompletionAgain,
  live.streamActivity,
  live.streamLog,
  live.streamConversation,
  ...operatorRoutes,
  ...documentationRoutes,
  ...internalRoutes,
];
