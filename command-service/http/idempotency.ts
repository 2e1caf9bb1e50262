/** Keeps the records of Idempotency-Keys in the log. */
import { randomUUID } from 'node:crypto';
import { SYSTEM_OWNER } from '../../contracts/envelope.ts';
import type { IdempotencyPort, KeyedRequest } from '../../infra/http/port.ts';
import type { CommandBus, CommandMeta } from '../command.ts';
import { acceptRequest, answerRequest } from '../domain/request.ts';

/**
 * Each with a command id of its own: with a derived one, two processes that accept the same key at once would
 * append the same event, and both would believe to be the first.
 */
const metaOf = ({ caller, correlationId, surface }: KeyedRequest): CommandMeta => ({
  commandId: randomUUID(),
  correlationId,
  causationId: null,
  surface,
  actor: caller?.actor ?? { kind: 'system', id: 'http' },
  caller: null,
  retried: false,
});

const ownerOf = ({ caller }: KeyedRequest): string => caller?.userId ?? SYSTEM_OWNER;

export function createIdempotencyRecords(bus: CommandBus): IdempotencyPort {
  return {
    async accept(request) {
      const { id, fingerprint } = request;
      const { events, state } = await bus.dispatch(
        acceptRequest,
        { id, owner: ownerOf(request), fingerprint },
        metaOf(request),
      );
      if (events.length > 0) return { status: 'accepted' };
      if (state.status === 'none' || state.fingerprint !== fingerprint) return { status: 'taken' };
      return state.status === 'answered'
        ? { status: 'answered', answer: state.answer, position: state.position }
        : { status: 'unanswered' };
    },

    async answered(request, { status, body }) {
      await bus.dispatch(
        answerRequest,
        { id: request.id, owner: ownerOf(request), status, body },
        metaOf(request),
      );
    },
  };
}
