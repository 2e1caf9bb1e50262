/**
 * Routes that the processes of a deployment call at one another, and nobody else: how a query node passes on the
 * commands that come in over its WebSockets. A refusal is part of the answer, so that whatever else has another
 * status than 200 comes from the way there and not from the command.
 */
import { z } from 'zod';
import type { Caller } from '../caller.ts';
import type { Issuer } from '../commands/conversation.ts';
import { actor, position, surface } from '../envelope.ts';
import { Refusal, type RefusalCode, refusals } from '../errors.ts';
import { type ClientPrompt, conversationKind, conversationMode, type Run } from '../events/conversation.ts';
import { role } from '../events/identity.ts';
import { conversationDocument } from '../read-models/documents.ts';
import { permissions, route } from './route.ts';

// ── who issues a command ──────────────────────────────────────────────────
const caller = z
  .strictObject({
    userId: z.string(),
    email: z.string(),
    displayName: z.string(),
    role,
    actor,
    permissions: z.array(z.enum(permissions)),
    sessionId: z.string().nullable(),
    expiresAtMs: z.number().nullable(),
  })
  .transform((sent): Caller => ({ ...sent, permissions: new Set(sent.permissions) }));

const id = z.string().min(1).max(200);
const issuer = z.strictObject({
  caller,
  commandId: id,
  correlationId: id,
  surface,
  retried: z.boolean(),
  causationId: id.nullish(),
}) satisfies z.ZodType<Issuer>;

/** An issuer as the routes take it. */
export const issuerToSend = (from: Issuer): z.input<typeof issuer> => ({
  ...from,
  caller: { ...from.caller, permissions: [...from.caller.permissions] },
});

// ── what became of it ─────────────────────────────────────────────────────
const refusal = z.strictObject({
  code: z.enum(Object.keys(refusals) as [RefusalCode, ...RefusalCode[]]),
  message: z.string(),
  issues: z.array(z.strictObject({ path: z.array(z.union([z.string(), z.number()])), message: z.string() })),
  retryAfterSeconds: z.number().optional(),
  rateLimit: z.strictObject({ limit: z.number(), windowSeconds: z.number() }).optional(),
});
export type SentRefusal = z.infer<typeof refusal>;

export const refusalToSend = ({ code, message, issues, retryAfterSeconds, rateLimit }: Refusal) => ({
  code,
  message,
  issues,
  retryAfterSeconds,
  rateLimit,
});
export const refusalFrom = ({ code, message, issues, retryAfterSeconds, rateLimit }: SentRefusal): Refusal =>
  new Refusal(code, message, {
    issues,
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    ...(rateLimit === undefined ? {} : { rateLimit }),
  });

const outcome = <Result extends z.ZodType>(result: Result) =>
  z.union([z.strictObject({ result }), z.strictObject({ refusal })]);

export const conversationOutcome = outcome(z.strictObject({ conversation: conversationDocument, position }));
export const messageOutcome = outcome(
  z.strictObject({ messageId: z.string(), turnId: z.string(), position, waiting: z.int().nonnegative() }),
);
export const interruptOutcome = outcome(
  z.strictObject({ turnId: z.string().nullable(), position: position.nullable() }),
);
export const changeOutcome = outcome(z.strictObject({ position: position.nullable() }));

// ── routes ────────────────────────────────────────────────────────────────
// What is in a command is checked by the command itself, so that its refusals are the same on every way.

const asTheCommandChecks = <Value>() => z.unknown() as z.ZodType<Value>;

export const passConversation = route({
  surface: 'odeon',
  method: 'POST',
  path: '/internal/commands/start-conversation',
  summary: 'Begins a conversation of a user whom the calling process has checked.',
  access: 'service',
  body: z.strictObject({
    input: z.strictObject({
      title: z.string().nullable(),
      mode: conversationMode,
      model: z.string().nullable(),
      kind: conversationKind,
      agent: z.strictObject({ id: z.string(), name: z.string() }).nullable(),
      linkId: z.string().nullable(),
    }),
    issuer,
  }),
  answers: { 200: conversationOutcome },
});

export const passMessage = route({
  surface: 'odeon',
  method: 'POST',
  path: '/internal/commands/send-message',
  summary: 'Sends a message on behalf of a user whom the calling process has checked.',
  access: 'service',
  body: z.strictObject({
    input: z.strictObject({
      conversationId: z.string(),
      content: z.string(),
      model: z.string().nullable(),
      instructions: z.string().nullable(),
      run: asTheCommandChecks<Run | null>(),
      prompt: asTheCommandChecks<ClientPrompt | null>(),
    }),
    issuer,
  }),
  answers: { 200: messageOutcome },
});

export const passInterrupt = route({
  surface: 'odeon',
  method: 'POST',
  path: '/internal/commands/interrupt',
  summary: 'Interrupts a turn on behalf of a user whom the calling process has checked.',
  access: 'service',
  body: z.strictObject({
    input: z.strictObject({ conversationId: z.string(), turnId: z.string().nullable() }),
    issuer,
  }),
  answers: { 200: interruptOutcome },
});

export const passRename = route({
  surface: 'odeon',
  method: 'POST',
  path: '/internal/commands/rename-conversation',
  summary: 'Renames a conversation on behalf of a user whom the calling process has checked.',
  access: 'service',
  body: z.strictObject({ input: z.strictObject({ conversationId: z.string(), title: z.string() }), issuer }),
  answers: { 200: changeOutcome },
});

export const passDeletion = route({
  surface: 'odeon',
  method: 'POST',
  path: '/internal/commands/delete-conversation',
  summary: 'Deletes a conversation on behalf of a user whom the calling process has checked.',
  access: 'service',
  body: z.strictObject({ input: z.strictObject({ conversationId: z.string() }), issuer }),
  answers: { 200: changeOutcome },
});

export const internalRoutes = [
  passConversation,
  passMessage,
  passInterrupt,
  passRename,
  passDeletion,
] as const;
