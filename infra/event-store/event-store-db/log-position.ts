/**
 * Positions of EventStoreDB's log as tokens. A record has a commit and a prepare position, byte offsets of 64 bits;
 * they differ only where several records were committed later, as one (and for places between two records).
 *
 * Both equal: `<commit>`. Otherwise `<commit - 1>-<prepare>`, which comes before `<commit>` and after whatever
 * was committed earlier, as the record does. Nothing is at 0 but the beginning.
 */
import { type Position, START } from '../../../contracts/envelope.ts';

export interface LogPosition {
  readonly commit: bigint;
  readonly prepare: bigint;
}

/** The server counts in signed numbers. */
const LAST = 2n ** 63n - 1n;

export function tokenOf({ commit, prepare }: LogPosition): Position {
  if (commit === prepare) return String(commit);
  return commit === 0n ? START : `${commit - 1n}-${prepare}`;
}

/** The inverse; `beyond` when no log reaches so far. */
export function logPositionOf(token: Position): LogPosition | 'start' | 'beyond' {
  if (token === START) return 'start';
  const [first, second] = token.split('-').map(BigInt) as [bigint, bigint?];
  const position =
    second === undefined ? { commit: first, prepare: first } : { commit: first + 1n, prepare: second };
  // No record is prepared after it was committed: the token is from another store.
  if (position.prepare > position.commit) return { commit: position.commit, prepare: position.commit };
  return position.commit > LAST ? 'beyond' : position;
}
