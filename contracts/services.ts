/** The parts of a process that can be stopped and started while the rest of it goes on. */

/** `simple`: what is needed to chat. `full`: everything. */
export const serviceProfiles = ['simple', 'full'] as const;
export type ServiceProfile = (typeof serviceProfiles)[number];

export interface ServiceStatus {
  readonly name: string;
  readonly running: boolean;
  /** Since when (ms since the epoch). */
  readonly since: number;
}

export interface Services {
  /** Those of the process, in the order in which they are started. */
  status(): readonly ServiceStatus[];
  /** Those of the profile that the process has. */
  of(profile: ServiceProfile): readonly string[];
  /**
   * Starts those that are stopped, in order; resolves once they run.
   * @throws Refusal SERVICE_UNAVAILABLE when one cannot be started (those before it run then), and at shutdown
   */
  start(names: readonly string[]): Promise<void>;
  /** Stops those that run, the last one first; resolves once they do nothing any more. @throws Refusal likewise */
  stop(names: readonly string[]): Promise<void>;
}
