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

/** The copy that is being filled to take the place of the live one. */
export const unfinishedCopy = (copies: readonly CopyInfo[], projection: Projection): CopyInfo | undefined =>
  copies.find((copy) => copy.projection === projection.name && !copy.live && fits(copy, projection));

/** Drops the copies that nobody reads or fills: those that other definitions have left unfinished. */
export async function dropAbandoned(
  readModels: ReadModelStore,
  projections: readonly Projection[],
): Promise<void> {
  for (const copy of await readModels.copies()) {
    const projection = projections.find(({ name }) => name === copy.projection);
    // One of a newer version may be another process's work.
    if (projection === undefined || copy.live || copy.version > projection.version) continue;
    if (!fits(copy, projection)) await readModels.dropCopy(copy.copy);
  }
}

/** Makes the live copies that are missing. */
export async function ensureLiveCopies(
  readModels: ReadModelStore,
  projections: readonly Projection[],
): Promise<void> {
  const live = new Set(
    (await readModels.copies()).filter((copy) => copy.live).map((copy) => copy.projection),
  );
  for (const projection of projections) {
    if (!live.has(projection.name)) await readModels.ensureLiveCopy(specOf(projection));
  }
}

const specOf = ({ name, version, indexes }: Projection): CollectionSpec => ({
  projection: name,
  version,
  indexes,
});

/** Opens the copies of a projection, which has a live one, and begins to fill a new one where that is outdated. */
export async function openRunning(
  readModels: ReadModelStore,
  projection: Projection,
  copies: readonly CopyInfo[],
): Promise<Running> {
  const own = copies.filter((copy) => copy.projection === projection.name);
  const live = own.find((copy) => copy.live)!;
  // One that was being filled when the process ended goes on from its own checkpoint.
  const unfinished = unfinishedCopy(own, projection);

  const feedOf = (copy: CopyInfo | undefined): Promise<Feed> =>
    copy === undefined
      ? openNewFeed(readModels, projection)
      : openFeed(readModels, projection, copy.copy, copy.checkpoint);

  const running: Running = { projection, current: null, outdated: null, rebuild: null, beginning: null };
  if (fits(live, projection)) {
    running.current = await feedOf(live);
    if (unfinished !== undefined) running.rebuild = await feedOf(unfinished);
  } else {
    running.outdated = live;
    running.rebuild = await feedOf(unfinished);
  }
  return running;
}

/** Makes a copy to take the place of the live one. */
export async function openNewFeed(readModels: ReadModelStore, projection: Projection): Promise<Feed> {
  const copy = await readModels.createCopy(specOf(projection));
  const made = (await readModels.copies()).find((one) => one.copy === copy);
  return openFeed(readModels, projection, copy, made?.checkpoint ?? { position: START, seen: 0 });
}

const fits = (copy: CopyInfo, projection: Projection): boolean =>
  !copy.outdated && sameDefinition(copy, projection);

/** A copy with other indexes than its projection's is as outdated as one of another version. */
export const sameDefinition = (
  copy: Pick<CopyInfo, 'version' | 'indexes'>,
  { version, indexes }: Projection,
): boolean => copy.version === version && JSON.stringify(copy.indexes) === JSON.stringify(indexes);
