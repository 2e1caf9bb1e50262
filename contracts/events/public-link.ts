/**
 * A link by which anybody who has it may talk to an agent: one stream, `link-<id>`. Its token is made from the id and
 * a key of the deployment, and is not in the log. Stored format: version with care.
 */
import { z } from 'zod';
import { agentReference } from './conversation.ts';
import { event } from './define.ts';

export const publicLinkEvents = {
  PublicLinkCreated: event(
    z.strictObject({
      agent: agentReference,
      name: z.string().nullable(),
      /** Keyed hash of the token. */
      tokenHash: z.string(),
      /** RFC 3339; null: it does not expire. */
      expiresAt: z.string().nullable(),
    }),
    ['name'],
  ),
  /** What it is now, whole. */
  PublicLinkChanged: event(
    z.strictObject({ name: z.string().nullable(), expiresAt: z.string().nullable(), enabled: z.boolean() }),
    ['name'],
  ),
  PublicLinkDeleted: event(z.strictObject({})),
};
