/** What is known of Kafka, put together from what each of its clients sees. */
import type { AvailabilityListener } from '../../engines/port.ts';

/**
 * @param listener told when the whole changes: the problem of a part that has one, or null
 * @returns makes a part; a part that is closed says null last
 */
export function availabilityOf(
  brokers: readonly string[],
  listener: AvailabilityListener = () => {},
): () => (problem: unknown) => void {
  const problems = new Map<object, string>();
  let told: string | null | undefined;
  return () => {
    const part = {};
    return (problem) => {
      if (problem === null) problems.delete(part);
      else problems.set(part, `Kafka at ${brokers.join(', ')}: ${textOf(problem)}`);
      const [first = null] = problems.values();
      if (first === told) return;
      told = first;
      listener(first);
    };
  };
}

const textOf = (problem: unknown): string => (problem instanceof Error ? problem.message : String(problem));
