/** `agents`: who can be asked. A deleted agent has no document. */
import { type AgentDocument, agentDocument } from '../contracts/read-models/documents.ts';
import { projection } from './projection.ts';

const id = (event: { readonly stream: string }): string => event.stream.slice('agent-'.length);

export const agents = projection<AgentDocument>('agents', {
  version: 1,
  document: agentDocument,
  // Of several agents of a name the oldest counts.
  indexes: [
    ['owner', 'createdAt'],
    ['shared', 'name', 'createdAt'],
    ['shared', 'createdAt'],
    ['name', 'createdAt'],
    ['createdAt'],
  ],
  on: {
    AgentCreated: {
      id,
      apply: (_none, event) => ({
        id: id(event),
        owner: event.owner,
        ...event.data,
        createdAt: event.time,
        updatedAt: event.time,
      }),
    },
    AgentChanged: {
      id,
      apply: (doc, { data, time }) => doc && { ...doc, ...data, updatedAt: time },
    },
    AgentDeleted: { id, apply: () => null },
  },
});
