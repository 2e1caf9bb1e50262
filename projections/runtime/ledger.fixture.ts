/** A small domain for the tests of the runtime: payments into accounts, in two read models. */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import type { EventEnvelope, NewEvent } from '../../contracts/envelope.ts';
import { type Handlers, type Projection, projection } from '../projection.ts';

type LedgerEvent = EventEnvelope<string, { account: string | null; amount: number }>;

const account = z.object({
  id: z.string(),
  version: z.int(),
  balance: z.int(),
  payments: z.int(),
  /** Differs for another order of the same payments. */
  digest: z.int(),
  note: z.string().optional(),
});
export type Account = z.infer<typeof account>;

const entry = z.object({ account: z.string(), amount: z.int() });

export interface LedgerOptions {
  readonly version?: number;
  readonly indexes?: Projection['indexes'];
  /** Events that `apply` fails on. */
  readonly fails?: (event: LedgerEvent) => boolean;
  /** Events that `id` fails on. */
  readonly nameless?: (event: LedgerEvent) => boolean;
}

// These types are not in the catalogue: the runtime takes any.
const anyTypes = <Document>(on: Record<string, unknown>) => on as Handlers<Document>;

/** `accounts`: what was paid into each account, until it is closed. */
export function accounts({
  version = 1,
  indexes = [],
  fails = () => false,
  nameless = () => false,
}: LedgerOptions = {}): Projection {
  const id = (event: LedgerEvent) => {
    if (nameless(event)) throw new Error('Which account?');
    return event.data.account;
  };
  return projection<Account>('accounts', {
    version,
    document: account,
    indexes,
    on: anyTypes<Account>({
      Paid: {
        id,
        apply: (doc: Account | null, event: LedgerEvent) => {
          if (fails(event)) throw new Error(`Cannot apply ${event.id}`);
          const { amount } = event.data;
          if (amount === 0) return doc;
          return {
            // In an order of keys that depends on the history, which must not show in what is stored.
            ...(amount % 2 === 0 ? { note: undefined, ...doc } : { ...doc, note: 'odd' }),
            digest: ((doc?.digest ?? 7) * 31 + amount) % 1_000_003,
            payments: (doc?.payments ?? 0) + 1,
            balance: (doc?.balance ?? 0) + amount,
            version,
            id: event.data.account,
          };
        },
      },
      Closed: { id, apply: () => null },
    }),
  });
}

/** `journal`: one document a payment, never changed. */
export const journal: Projection = projection<z.infer<typeof entry>>('journal', {
  version: 1,
  document: entry,
  indexes: [['account', 'position']],
  on: anyTypes({
    Paid: { id: (event: LedgerEvent) => event.id, apply: (_: unknown, event: LedgerEvent) => event.data },
  }),
});

const ledgerEvent = (type: string, data: unknown): NewEvent => ({
  id: randomUUID(),
  type,
  schemaVersion: 1,
  owner: 'ann',
  actor: { kind: 'user', id: 'ann' },
  correlationId: 'test',
  causationId: null,
  commandId: 'test',
  surface: 'odeon',
  data,
});
export const paid = (name: string | null, amount: number) => ledgerEvent('Paid', { account: name, amount });
export const closed = (name: string) => ledgerEvent('Closed', { account: name });
/** Of a type that no projection takes. */
export const audited = () => ledgerEvent('Audited', {});
