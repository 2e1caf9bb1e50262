/** A projection as it runs: the copy that readers see, and the one that is being filled to take its place. */
import { type Position, START } from '../../contracts/envelope.ts';
import type { CollectionSpec, CopyInfo, ReadModelStore } from '../../infra/read-models/port.ts';
import type { Projection } from '../projection.ts';
import { type Feed, openFeed } from './feed.ts';

export interface Running {
  readonly projection: Projection;
  /** The copy that readers see, when the definition at hand can feed it. */
  current: Feed | null;
  /** Else the copy that readers see, made by another definition: it stays as it is. */
  outdated: CopyInfo | null;
  /** A copy that is being filled, to take the place of the one that readers see. */
  rebuild: Feed | null;
  /** A rebuild that was asked for and is not in `rebuild` yet. */
  beginning: Promise<void> | null;
}

/** The copy that the definition at hand feeds: the one that readers see, else the one that will be. */
export const fedCopy = ({ current, rebuild }: Running): Feed => (current ?? rebuild)!;

/** What readers of the projection see. */
export const readerPosition = ({ current, outdated }: Running): Position =>
  (current ?? outdated)!.checkpoint.position;

/** Finds the copies of a projection, makes what is missing, and drops what nobody needs any more. */
export async function openRunning(
  readModels: ReadModelStore,
  projection: Projection,
  copies: readonly CopyInfo[],
): Promise<Running> {
  const own = copies.filter((copy) => copy.projection === projection.name);
  const live = own.find((copy) => copy.live);
  // One that was being filled when the process ended goes on from its own checkpoint.
  const unfinished = own.find((copy) => !copy.live && fits(copy, projection));
  for (const copy of own) if (copy !== live && copy !== unfinished) await readModels.dropCopy(copy.copy);

  const feedOf = (copy: CopyInfo | undefined): Promise<Feed> =>
    copy === undefined
      ? openNewFeed(readModels, projection)
      : openFeed(readModels, projection, copy.copy, copy.checkpoint);

  const running: Running = { projection, current: null, outdated: null, rebuild: null, beginning: null };
  if (live === undefined || fits(live, projection)) {
    running.current = await feedOf(live);
    if (unfinished !== undefined) running.rebuild = await feedOf(unfinished);
  } else {
    running.outdated = live;
    running.rebuild = await feedOf(unfinished);
  }
  return running;
}

/** Makes an empty copy. It is live at once when the projection has none yet. */
export async function openNewFeed(readModels: ReadModelStore, projection: Projection): Promise<Feed> {
  const { name, version, indexes } = projection;
  const spec: CollectionSpec = { projection: name, version, indexes };
  const copy = await readModels.createCopy(spec);
  return openFeed(readModels, projection, copy, { position: START, seen: 0 });
}

const fits = (copy: CopyInfo, { version, indexes }: Projection): boolean =>
  copy.version === version && JSON.stringify(copy.indexes) === JSON.stringify(indexes);
