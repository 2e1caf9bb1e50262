/** Query and path parameters that several surfaces share. */
import { z } from 'zod';
import { position } from '../envelope.ts';

/** Any text: an id that cannot exist is answered like one that does not. */
export const idParams = z.object({ id: z.string() });

export const limit = (max: number, byDefault: number) =>
  z.coerce.number().int().min(1).max(max).default(byDefault);

export const offset = z.coerce.number().int().min(0).max(1_000_000).default(0);

/** Its offset may take a time of the years 0 and 9999 out of those that RFC 3339 can write in UTC. */
const inFourDigits = (text: string): boolean => /^\d{4}-/.test(new Date(text).toISOString());

/** RFC 3339: `t` and `z` are as good as `T` and `Z`; a `+` that was not written as %2B arrives as a space. */
export const time = z
  .string()
  .transform((text) => text.toUpperCase().replace(/ (?=\d\d:\d\d$)/, '+'))
  .pipe(z.iso.datetime({ offset: true }))
  .pipe(z.string().refine(inFourDigits));

/** Answers from the past: as of the position, or of the last event committed at or before the time. */
export const asOf = z
  .union([position, time], {
    error: 'asOf is a position (as X-Event-Position gave it) or an RFC 3339 time with its offset',
  })
  .optional();

/** Pages through messages: the page that ends before, or begins after, the message with this id. */
export const messagePage = { before: z.string().optional(), after: z.string().optional() };

export const notBoth = (query: { before?: string | undefined; after?: string | undefined }): boolean =>
  query.before === undefined || query.after === undefined;
export const NOT_BOTH = { error: 'give before or after, not both', path: ['before'] };
