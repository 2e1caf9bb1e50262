/** Every projection that runs. Adding a read model is adding its file and naming it here. */
import { activity } from './activity.ts';
import { agents } from './agents.ts';
import { apiKeys } from './api-keys.ts';
import { conversations } from './conversations.ts';
import { councils } from './councils.ts';
import { deliberations } from './deliberations.ts';
import { facts } from './facts.ts';
import { messages } from './messages.ts';
import { orchestrations } from './orchestrations.ts';
import type { Projection } from './projection.ts';
import { publicLinks } from './public-links.ts';
import { sessions } from './sessions.ts';
import { turns } from './turns.ts';
import { usage } from './usage.ts';
import { users } from './users.ts';

export const projections: readonly Projection[] = [
  conversations,
  messages,
  turns,
  activity,
  facts,
  usage,
  users,
  sessions,
  apiKeys,
  agents,
  deliberations,
  councils,
  publicLinks,
  orchestrations,
];
