/** The commands of a public link. */
import { z } from 'zod';
import { agentReference } from '../events/conversation.ts';

export const linkName = z
  .string()
  .trim()
  .min(1, 'the name is empty')
  .max(200, 'a name has at most 200 characters')
  .refine((text) => text.isWellFormed(), 'the name holds a lone surrogate, which is not valid Unicode');
/** As it is kept: UTC. */
export const linkExpiry = z.iso
  .datetime({ offset: true, error: 'must be an RFC 3339 time, e.g. 2030-01-31T12:00:00Z' })
  .transform((text) => new Date(text).toISOString())
  // Its offset may take a time out of the years that RFC 3339 can write in UTC.
  .pipe(z.iso.datetime('must lie in the years 0 to 9999'));

const storedExpiry = z.iso.datetime();

/** The link's id is made of the command's. */
export const createPublicLink = z.strictObject({
  linkId: z.string(),
  owner: z.string(),
  agent: agentReference,
  name: linkName.nullable(),
  tokenHash: z.string(),
  expiresAt: storedExpiry.nullable(),
  /** Now. */
  at: storedExpiry,
});
/** What is left out stays as it is. */
export const changePublicLink = z.strictObject({
  linkId: z.string(),
  /** Whose link it is to be. */
  agentId: z.string(),
  name: linkName.nullable().optional(),
  expiresAt: storedExpiry.nullable().optional(),
  enabled: z.boolean().optional(),
});
export const deletePublicLink = z.strictObject({ linkId: z.string(), agentId: z.string() });
