/** A link by which anybody who has it may talk to an agent. Who owns the agent decides over its links. */
import type { z } from 'zod';
import * as commands from '../../contracts/commands/public-link.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import type { OdeonEvent } from '../../contracts/events/catalogue.ts';
import type { AgentReference } from '../../contracts/events/conversation.ts';
import type { publicLinkEvents } from '../../contracts/events/public-link.ts';
import type { Aggregate, Command } from '../command.ts';
import { derivedId } from './derived-id.ts';

export type PublicLinkEventType = keyof typeof publicLinkEvents;

export const linkIdFor = (commandId: string): string => derivedId(24, 'public link', commandId);

// ── state: only what deciding needs ───────────────────────────────────────
export type PublicLinkState =
  | { readonly status: 'none' }
  | { readonly status: 'deleted' }
  | {
      readonly status: 'active';
      readonly owner: string;
      readonly agent: AgentReference;
      readonly name: string | null;
      readonly expiresAt: string | null;
      readonly enabled: boolean;
      readonly createdAt: string;
    };

function evolve(state: PublicLinkState, event: OdeonEvent<PublicLinkEventType>): PublicLinkState {
  switch (event.type) {
    case 'PublicLinkCreated': {
      const { agent, name, expiresAt } = event.data;
      const { owner, time: createdAt } = event;
      return { status: 'active', owner, agent, name, expiresAt, enabled: true, createdAt };
    }
    case 'PublicLinkChanged':
      return state.status === 'active' ? { ...state, ...event.data } : state;
    case 'PublicLinkDeleted':
      return { status: 'deleted' };
  }
}

export const publicLink: Aggregate<PublicLinkState, PublicLinkEventType> = {
  category: 'link',
  initial: { status: 'none' },
  evolve,
  stateVersion: 1,
};

// ── commands. Whether the caller owns the agent, who issues them has found out. ──
type LinkCommand<Input> = Command<Input, PublicLinkState, PublicLinkEventType>;

export const createPublicLink: LinkCommand<z.infer<typeof commands.createPublicLink>> = {
  name: 'CreatePublicLink',
  aggregate: publicLink,
  schema: commands.createPublicLink,
  id: ({ linkId }) => linkId,
  owner: ({ owner }) => owner,
  decide({ agent, name, tokenHash, expiresAt, at }, state) {
    if (state.status !== 'none') refuse('CONFLICT', 'There is such a link already.');
    if (expiresAt !== null && expiresAt <= at) {
      throw new Refusal('VALIDATION_ERROR', 'The request is not valid.', {
        issues: [{ path: ['body', 'expires_at'], message: 'lies in the past' }],
      });
    }
    return [{ type: 'PublicLinkCreated', data: { agent, name, tokenHash, expiresAt } }];
  },
};

const existing = {
  aggregate: publicLink,
  id: ({ linkId }: { linkId: string }) => linkId,
  owner: (input: { agentId: string }, state: PublicLinkState) => activeOf(input, state).owner,
};

export const changePublicLink: LinkCommand<z.infer<typeof commands.changePublicLink>> = {
  ...existing,
  name: 'ChangePublicLink',
  schema: commands.changePublicLink,
  decide(input, state) {
    const { name, expiresAt, enabled } = activeOf(input, state);
    const after = {
      name: input.name === undefined ? name : input.name,
      expiresAt: input.expiresAt === undefined ? expiresAt : input.expiresAt,
      enabled: input.enabled ?? enabled,
    };
    const changed = after.name !== name || after.expiresAt !== expiresAt || after.enabled !== enabled;
    return changed ? [{ type: 'PublicLinkChanged', data: after }] : [];
  },
};

export const deletePublicLink: LinkCommand<z.infer<typeof commands.deletePublicLink>> = {
  ...existing,
  name: 'DeletePublicLink',
  schema: commands.deletePublicLink,
  decide(input, state) {
    activeOf(input, state);
    return [{ type: 'PublicLinkDeleted', data: {} }];
  },
};

/** @throws Refusal NOT_FOUND for a link that is gone, or another agent's */
function activeOf({ agentId }: { agentId: string }, state: PublicLinkState) {
  if (state.status !== 'active' || state.agent.id !== agentId) refuse('NOT_FOUND', 'Public link not found.');
  return state;
}
