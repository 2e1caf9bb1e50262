/** Searching messages, for every surface that offers it. */
import { type Caller, sees } from '../contracts/caller.ts';
import { laterOf, type Position } from '../contracts/envelope.ts';
import { Refusal } from '../contracts/errors.ts';
import { type EventStore, StoreUnavailable } from '../infra/event-store/port.ts';
import {
  type Embedder,
  EmbedderUnavailable,
  type IndexQuery,
  type SearchFound,
  type SearchIndex,
  type SearchRole,
} from '../infra/search/port.ts';
import { asOfPosition } from './http/as-of.ts';

export interface SearchDependencies {
  readonly index: Pick<SearchIndex, 'search'>;
  readonly embedder: Pick<Embedder, 'embed'>;
  /** True once everything up to a position can be found. */
  readonly indexed: (position: Position, timeoutMs: number) => Promise<boolean>;
  readonly store: Pick<EventStore, 'head' | 'end' | 'positionAt'>;
  /** How long a search waits for what the log held when it was asked for. */
  readonly timeoutMs: number;
}

export interface SearchOptions {
  /** From 1 to 100. */
  readonly limit: number;
  /** From 0 to 1. */
  readonly minScore: number;
  /** Whose messages. Undefined: all that the caller sees. Of somebody whom the caller does not see nothing is found. */
  readonly userId?: string | undefined;
  readonly conversationId?: string | undefined;
  readonly role?: SearchRole | undefined;
  readonly model?: string | undefined;
  /** Milliseconds since the epoch: sent at `from` or later, and before `before`. */
  readonly from?: number | undefined;
  readonly before?: number | undefined;
  /** A position or an RFC 3339 time; undefined for the present. */
  readonly asOf?: string | undefined;
}

export interface SearchAnswer extends Pick<SearchFound, 'hits' | 'total'> {
  /** Of the answer: up to which position everything was searched. */
  readonly headers: Readonly<Record<string, string>>;
}

export interface Search {
  /**
   * @throws Refusal VALIDATION_ERROR for a position that the log has not reached; SERVICE_UNAVAILABLE while the model
   * cannot be run
   */
  searchMessages(query: string, caller: Caller, options: SearchOptions): Promise<SearchAnswer>;
}

export function createSearch(deps: SearchDependencies): Search {
  const { index, embedder, indexed, store, timeoutMs } = deps;

  async function vectorsOf(text: string): Promise<IndexQuery['vectors']> {
    try {
      return (await embedder.embed([text], { urgent: true }))[0] ?? [];
    } catch (error) {
      if (!(error instanceof EmbedderUnavailable)) return []; // the model takes no such text: its words count alone
      throw new Refusal('SERVICE_UNAVAILABLE', 'What is looked for cannot be understood now: try again.', {
        retryAfterSeconds: 2,
      });
    }
  }

  /** The position that is asked about, and whether the index has come so far. Null: the log cannot tell its end. */
  async function awaited(asOf: Position | undefined): Promise<{ at: Position | null; reached: boolean }> {
    try {
      const at = asOf ?? (await store.head());
      return { at, reached: await indexed(at, timeoutMs) };
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error;
      return { at: null, reached: false };
    }
  }

  return {
    async searchMessages(text, caller, options) {
      const { limit, minScore, userId, conversationId, role, model, from, before } = options;
      const asOf = options.asOf === undefined ? undefined : await asOfPosition(options.asOf, store);
      const owner = userId ?? (caller.permissions.has('all:read') ? null : caller.userId);
      const hidden = owner !== null && !sees(caller, owner);
      const [{ at, reached }, vectors] = await Promise.all([awaited(asOf), hidden ? [] : vectorsOf(text)]);
      const { hits, total, position } = await index.search({
        // Nobody's: it takes the same way as the search of a user who has said nothing.
        owner: hidden ? '' : owner,
        text,
        vectors,
        minScore,
        limit,
        ...(conversationId !== undefined && { conversationId }),
        ...(role !== undefined && { role }),
        ...(model !== undefined && { model }),
        ...(from !== undefined && { from }),
        ...(before !== undefined && { before }),
        ...(asOf !== undefined && { asOf }),
      });
      // Between what was searched and what the index had come to lies nothing for it.
      const searched = reached && at !== null ? (asOf ?? laterOf(at, position)) : position;
      return {
        hits,
        total,
        headers: {
          'X-Event-Position': searched,
          ...(!reached && { 'X-Read-Model': 'behind' }),
        },
      };
    },
  };
}
