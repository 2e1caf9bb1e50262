/**
 * Gives out the partitions of a topic to the members of a group, one member each at a time. It reads no records.
 *
 * Partitions are handed over in two steps, so that work is never interrupted where nothing moves, and two members
 * never work on one partition, however long one of them takes to end: each member tells, when it joins, which
 * partitions it holds. A partition that is to move is given to nobody at first; its holder ends its work, and
 * joins again without it; only then is it given away. (Kafka's own clients call this cooperative rebalancing;
 * kafkajs has only the kind in which all members give up everything at once, and does not wait for their work.)
 *
 * What is left: a member that is cut off, or stopped by its machine, for longer than the session timeout counts as
 * gone, and its partitions are given to others. It learns of it, and ends its work, as soon as it reaches Kafka
 * again; until then there may be two. What they write must therefore be safe: by expected revisions, by positions,
 * or, in the relay, by Kafka's fencing of producers.
 */
import { setTimeout as pause } from 'node:timers/promises';
import {
  AssignerProtocol,
  type GroupMember,
  type Joined,
  type Kafka,
  type PartitionAssigner,
} from './client.ts';

const SESSION_TIMEOUT_MS = 6_000;
/** How long the others wait for a member that is alive to join when partitions are given out. */
const JOIN_WITHIN_MS = 6_000;
const HEARTBEAT_MS = 500;
/** How often a member looks whether it has to join again. */
const TICK_MS = 200;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;
/** What a broker answers while its group is moved or loaded, as after a start: told only when it goes on. */
const PASSING = new Set([
  'GROUP_LOAD_IN_PROGRESS',
  'GROUP_COORDINATOR_NOT_AVAILABLE',
  'NOT_COORDINATOR_FOR_GROUP',
]);
const UNTOLD_FAILURES = 3;
/** Work that has not ended so long after it was asked to no longer keeps its partition from others. */
const END_WITHIN_MS = 30_000;

export interface Slot {
  /** The partition. */
  readonly number: number;
  /** Aborted when the partition is to be given up. */
  readonly signal: AbortSignal;
  /** Joins the group again, and resolves when that is done; `signal` says whether the partition is still held. */
  confirm(): Promise<void>;
}

export interface GroupOptions {
  readonly kafka: Kafka;
  /** The group's id. */
  readonly group: string;
  readonly topic: string;
  /** Which partitions of the topic are given out. */
  readonly partitions: readonly number[];
  /** Runs for each partition while it is held. When it ends or throws before, it is begun again after a pause. */
  readonly work: (slot: Slot) => Promise<void>;
  /** What `work` threw, and work that does not end. Must not throw. */
  readonly onError: (error: unknown) => void;
  /** Told why the group cannot be reached, and null when it can. */
  readonly tell: (problem: unknown) => void;
}

export interface GroupMembership {
  /** Ends all work, leaves, and resolves when that is done. */
  stop(): Promise<void>;
}

interface Held {
  readonly abort: AbortController;
  /** Whether the others are told that it is held. */
  claimed: boolean;
  ended: Promise<void>;
}

/** Joins as soon as Kafka can be reached, and again whenever it was lost. */
export function joinGroup(options: GroupOptions): GroupMembership {
  const { kafka, group, topic, partitions, work, onError } = options;
  const stopping = new AbortController();
  let failures = 0;
  const reached = () => {
    failures = 0;
    if (!stopping.signal.aborted) options.tell(null);
  };
  const failed = (error: unknown) => {
    failures += 1;
    const { type, cause } = error as { type?: string; cause?: { type?: string } };
    const passing = PASSING.has(type ?? cause?.type ?? '') && failures <= UNTOLD_FAILURES;
    if (!passing && !stopping.signal.aborted) options.tell(error);
  };
  const held = new Map<number, Held>();
  let assigned: ReadonlySet<number> = new Set();
  let generation = -1;
  let joinAgain = false;
  let confirming: (() => void)[] = [];

  const consumer = kafka.consumer({
    groupId: group,
    sessionTimeout: SESSION_TIMEOUT_MS,
    rebalanceTimeout: JOIN_WITHIN_MS,
    heartbeatInterval: HEARTBEAT_MS,
    maxWaitTimeInMs: TICK_MS,
    allowAutoTopicCreation: false,
    partitionAssigners: [
      handOver(topic, partitions, () => {
        joinAgain = false; // it is joining
        return { generation, holds: [...held].filter(([, one]) => one.claimed).map(([number]) => number) };
      }),
    ],
    staysMember: () => held.size > 0,
    onJoined,
    onLost() {
      assigned = new Set();
      for (const one of held.values()) {
        one.claimed = false;
        one.abort.abort();
      }
    },
  });
  consumer.on(consumer.events.HEARTBEAT, reached);
  consumer.on(consumer.events.FETCH_START, () => {
    if (!joinAgain) return;
    // Thrown where kafkajs looks for errors of fetching: it then joins again, as after the broker's own error.
    throw Object.assign(new Error('The member joins again.'), { type: 'REBALANCE_IN_PROGRESS' });
  });
  consumer.on(consumer.events.CRASH, ({ payload: { error, restart } }) => {
    failed(error);
    if (!restart) void runAgain();
  });

  function onJoined(joined: Joined): void {
    consumer.pause([{ topic }]); // nothing is fetched; what it does goes on with heartbeats only
    ({ generation } = joined);
    assigned = new Set(joined.partitions.flatMap((one) => (one.topic === topic ? one.partitions : [])));
    reached();
    for (const [number, { abort }] of held) if (!assigned.has(number)) abort.abort();
    if (!stopping.signal.aborted) for (const number of assigned) if (!held.has(number)) hold(number);
    const confirmed = confirming;
    confirming = [];
    for (const resolve of confirmed) resolve();
  }

  function hold(number: number): void {
    const one: Held = { abort: new AbortController(), claimed: true, ended: Promise.resolve() };
    held.set(number, one);
    one.ended = persistently(number, one.abort.signal).finally(() => {
      held.delete(number);
      if (stopping.signal.aborted) return;
      if (assigned.has(number)) hold(number);
      else joinAgain = true;
    });
    one.abort.signal.addEventListener('abort', () => void giveUpLate(number, one), { once: true });
  }

  async function persistently(number: number, signal: AbortSignal): Promise<void> {
    const confirm = () =>
      new Promise<void>((resolve) => {
        const settle = () => {
          signal.removeEventListener('abort', settle);
          resolve();
        };
        signal.addEventListener('abort', settle);
        confirming.push(settle);
        joinAgain = true;
      });
    for (let pauseMs = FIRST_PAUSE_MS; !signal.aborted; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      const began = performance.now();
      try {
        await work({ number, signal, confirm });
      } catch (error) {
        if (!signal.aborted) onError(error);
      }
      if (performance.now() - began > LONGEST_PAUSE_MS) pauseMs = FIRST_PAUSE_MS; // it had worked meanwhile
      await pause(pauseMs, undefined, { signal }).catch(() => {});
    }
  }

  async function giveUpLate(number: number, one: Held): Promise<void> {
    const ended = new AbortController();
    void one.ended.then(() => ended.abort());
    const late = await pause(END_WITHIN_MS, true, { signal: ended.signal }).catch(() => false);
    if (!late) return;
    one.claimed = false;
    joinAgain = true;
    const seconds = END_WITHIN_MS / 1000;
    onError(
      new Error(
        `${group}: the work on partition ${number} has not ended within ${seconds} s; others may begin it.`,
      ),
    );
  }

  async function run(): Promise<void> {
    for (
      let pauseMs = FIRST_PAUSE_MS;
      !stopping.signal.aborted;
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)
    ) {
      try {
        await consumer.connect();
        await consumer.subscribe({ topic });
        if (stopping.signal.aborted) return;
        await consumer.run({ autoCommit: false, eachBatch: async () => {} });
        return;
      } catch (error) {
        failed(error);
        await pause(pauseMs, undefined, { signal: stopping.signal }).catch(() => {});
      }
    }
  }

  /** After an error that kafkajs takes for final: it may be mended at the broker. */
  async function runAgain(): Promise<void> {
    await pause(LONGEST_PAUSE_MS, undefined, { signal: stopping.signal }).catch(() => {});
    await run();
  }

  void run();

  return {
    async stop() {
      stopping.abort();
      for (const { abort } of held.values()) abort.abort();
      await Promise.all([...held.values()].map(({ ended }) => ended));
      // What still tries to connect is refused from here on; it gives up by itself.
      await consumer.disconnect();
      options.tell(null);
    },
  };
}

interface Claim {
  /** When the member last joined. */
  readonly generation: number;
  readonly holds: readonly number[];
}

const NAME = 'odeon';
const VERSION = 1;

function handOver(topic: string, partitions: readonly number[], claim: () => Claim): PartitionAssigner {
  return () => ({
    name: NAME,
    version: VERSION,
    protocol: ({ topics }) => ({
      name: NAME,
      metadata: AssignerProtocol.MemberMetadata.encode({
        version: VERSION,
        topics,
        userData: Buffer.from(JSON.stringify(claim())),
      }),
    }),
    async assign({ members }) {
      const shares = share(partitions, new Map(members.map((member) => [member.memberId, claimOf(member)])));
      return [...shares].map(([memberId, numbers]) => ({
        memberId,
        memberAssignment: AssignerProtocol.MemberAssignment.encode({
          version: VERSION,
          assignment: { [topic]: [...numbers] },
          userData: Buffer.alloc(0),
        }),
      }));
    },
  });
}

function claimOf({ memberMetadata }: GroupMember): Claim {
  const { userData } = AssignerProtocol.MemberMetadata.decode(memberMetadata) ?? {};
  return JSON.parse(userData?.toString() ?? '');
}

/**
 * Who is given which partitions: as evenly as can be, as few as can be in other hands than before, and none that
 * somebody else still holds.
 * @returns the partitions of each member
 */
export function share(
  partitions: readonly number[],
  claims: ReadonlyMap<string, Claim>,
): Map<string, readonly number[]> {
  const held = new Map<number, string>();
  // Of two that claim a partition, one was counted as gone meanwhile: the one that joined longer ago.
  const byGeneration = [...claims].sort(([, a], [, b]) => a.generation - b.generation);
  for (const [member, { holds }] of byGeneration) for (const number of holds) held.set(number, member);
  const heldBy = (member: string) => partitions.filter((number) => held.get(number) === member);
  const free = partitions.filter((number) => !held.has(number));

  // When it does not come out even, those who hold most may have one more.
  const members = [...claims.keys()]
    .map((member) => ({ member, kept: heldBy(member) }))
    .sort((a, b) => b.kept.length - a.kept.length || (a.member < b.member ? -1 : 1));
  const shares = new Map<string, readonly number[]>();
  for (const [at, { member, kept }] of members.entries()) {
    const most =
      Math.floor(partitions.length / members.length) + (at < partitions.length % members.length ? 1 : 0);
    shares.set(member, [...kept.slice(0, most), ...free.splice(0, Math.max(0, most - kept.length))]);
  }
  return shares;
}
