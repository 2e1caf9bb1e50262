/** What this deployment can do, told by the routes that it has. */
import type { RouteContract } from '../../contracts/http/route.ts';

export interface Feature {
  readonly name: string;
  readonly enabled: boolean;
  /** Where it begins; null while it is not here. */
  readonly endpoint: string | null;
}

/** No route of the table: the live feeds serve it in every process that has them. */
const SOCKET_IO = '/socket.io';

/** The words of Agent Chat's document where it has some; whatever begins so makes the feature. */
const known: readonly (readonly [name: string, path: string])[] = [
  ['OpenAI-Compatible Chat', '/api/chat/completions'],
  ['Multi-Provider LLM Gateway', '/api/models'],
  ['Conversations on Four APIs', '/api/conversations'],
  ['Vector Search', '/api/search'],
  ['Named Agents', '/api/agents'],
  ['Agentic Workflows', '/api/agents/orchestrate'],
  ['Deliberations', '/api/autonomous'],
  ['GraphQL', '/graphql'],
  ['Socket.IO', SOCKET_IO],
  ['Live Activity', '/api/activity/stream'],
  ['Enterprise Security', '/api/auth'],
  ['Audit Log', '/api/log'],
  ['Service Management', '/api/cli'],
  ['Echo Voice Assistant Integration', '/api/voice'],
  ['TDDAI Cursor Agent Support', '/api/tddai'],
];

/** The keys of Agent Chat's document, and more. */
const places: Readonly<Record<string, string>> = {
  health: '/health',
  chat: '/api/chat',
  models: '/api/models',
  conversations: '/api/conversations',
  search: '/api/search',
  agents: '/api/agents',
  graphql: '/graphql',
  socketio: SOCKET_IO,
  cli: '/api/cli',
  activity: '/api/activity',
  documentation: '/docs',
  tddai: '/api/tddai',
  voice: '/api/voice',
};

const isServed = (routes: readonly RouteContract[], place: string): boolean =>
  place === SOCKET_IO ||
  routes.some(({ path, access }) => access !== 'service' && (path === place || path.startsWith(`${place}/`)));

export const featuresOf = (routes: readonly RouteContract[]): readonly Feature[] =>
  known.map(([name, place]) => {
    const enabled = isServed(routes, place);
    return { name, enabled, endpoint: enabled ? place : null };
  });

export const endpointsOf = (routes: readonly RouteContract[]): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(places).filter(([, place]) => isServed(routes, place)));
