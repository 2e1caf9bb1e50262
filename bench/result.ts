/** What a benchmark gives: our figure beside that of the simplest thing that does the same work. */
export interface BenchResult {
  readonly name: string;
  /** The median of the floor; null for a figure that is held against nothing. */
  readonly floor: number | null;
  readonly ours: number;
  readonly unit: string;
  /** How near ours comes to the floor, 1 being as good; null without a floor. */
  readonly ratio: number | null;
  /** The ratio that is asked for; null when none is. */
  readonly target: number | null;
}

export type Bench = () => Promise<BenchResult | readonly BenchResult[]>;

/** A figure that is held against a floor, and asked to come near it. */
export interface ComparedResult extends BenchResult {
  readonly floor: number;
  readonly ratio: number;
  readonly target: number;
}

export const percentile = (values: readonly number[], share: number): number =>
  values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) * share)]!;
export const median = (values: readonly number[]): number => percentile(values, 0.5);
