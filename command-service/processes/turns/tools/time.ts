/** Date and time. */
import { z } from 'zod';
import { tool } from '../tool.ts';

export const currentTimeTool = tool({
  name: 'current_time',
  description: 'The date and time now, in a time zone (IANA name, e.g. Asia/Tokyo; default UTC).',
  input: z.object({ timeZone: z.string().min(1).max(64).default('UTC') }),
  readOnly: true,
  forVisitors: true,
  run({ timeZone }, { now }) {
    const at = now();
    try {
      const local = new Intl.DateTimeFormat('en-GB', { dateStyle: 'full', timeStyle: 'long', timeZone });
      return { iso: at.toISOString(), timeZone, local: local.format(at) };
    } catch (error) {
      if (error instanceof RangeError) {
        throw new Error(`"${timeZone}" is not a time zone: use a name such as Europe/Berlin.`);
      }
      throw error;
    }
  },
});
