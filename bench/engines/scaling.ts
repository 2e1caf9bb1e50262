/**
 * One process that runs projections, and two: how long each takes over the same log. The log is there before they
 * begin, and they begin when every partition is in its hands, so that starting and joining do not count.
 *
 * Run as a program: a process that runs projections.
 */
import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { cpus } from 'node:os';
import { openKafkaEventBus } from '../../infra/bus/kafka/events.ts';
import type { EventBus } from '../../infra/bus/port.ts';
import { openMongoReadModels } from '../../infra/read-models/mongodb/store.ts';
import { conversations } from '../../projections/conversations.ts';
import { messages } from '../../projections/messages.ts';
import { startSharedProjections } from '../../projections/runtime/shared.ts';
import { startFerretDb } from '../../test/engines/ferretdb.ts';
import { startKafka } from '../../test/engines/kafka.ts';
import { type BenchResult, median } from '../result.ts';
import {
  benchIsOver,
  fillLog,
  makeTopics,
  onError,
  openKafka,
  openLog,
  openSignals,
  PARTITIONS,
  rate,
  startProcess,
  taskOf,
  temporaryFolder,
  until,
} from './setting.ts';

const EVENTS = 3_000;
const CONVERSATIONS = 300;
const ROUNDS = 3;
const LONGEST_MS = 120_000;

interface Deployment {
  readonly broker: string;
  readonly url: string;
  readonly directory: string;
}

interface Task extends Deployment {
  readonly database: string;
  readonly topics: { readonly events: string; readonly signals: string };
}

/** The partitions that the process has now; or, once it has been asked for that, the CPU time it took, in ms. */
type Report = { readonly holds: number } | { readonly cpuMs: number };

interface Measured {
  readonly durationMs: number;
  /** Of the processes that ran projections, together. */
  readonly cpuMs: number;
  /** The share of all cores' time that was not idle, whoever used it. */
  readonly busy: number;
}

export async function benchTwoProcesses(): Promise<BenchResult> {
  await using open = new AsyncDisposableStack();
  const [kafka, ferretdb] = await Promise.all([startKafka(), startFerretDb()]);
  open.defer(() => Promise.all([kafka.stop(), ferretdb.stop()]).then(() => {}));
  const directory = await temporaryFolder(open);
  const store = await openLog(directory);
  await fillLog(store, EVENTS, CONVERSATIONS);
  await store.close();

  const deployment = { broker: kafka.brokers, url: ferretdb.url, directory };
  const one: Measured[] = [];
  const two: Measured[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    one.push(await catchUp(deployment, 1));
    two.push(await catchUp(deployment, 2));
  }
  console.error(`  ${explained('one process', one)}; ${explained('two', two)}.`);
  console.error(
    `  Kafka, FerretDB (one writer at a time) and this process share ${cpus().length} cores with them: where those ` +
      'are busy, or FerretDB is, a second process cannot help.',
  );
  const of = (all: readonly Measured[]) => (EVENTS / median(all.map((each) => each.durationMs))) * 1_000;
  return rate(
    `two processes with projections into FerretDB / one, ${EVENTS.toLocaleString('en')} events`,
    'events/s',
    { floor: of(one), ours: of(two) },
  );
}

function explained(name: string, all: readonly Measured[]): string {
  const of = (what: keyof Measured) => median(all.map((each) => each[what]));
  const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`;
  const busy = `${Math.round(of('busy') * 100)} % of all cores busy`;
  return `${name}: ${seconds(of('durationMs'))}, of CPU ${seconds(of('cpuMs'))}, ${busy}`;
}

async function catchUp(deployment: Deployment, processes: number): Promise<Measured> {
  await using open = new AsyncDisposableStack();
  const topics = await makeTopics(openKafka(deployment.broker));
  const task: Task = { ...deployment, topics, database: randomUUID() };
  // This process is one that only watches, as query nodes do.
  const { store, runtime } = await openProjections(task, open, { run: false, given: (bus) => bus });
  const head = await store.head();

  const holds = Array.from({ length: processes }, () => 0);
  const cpuMs: number[] = [];
  const children: ChildProcess[] = holds.map((_, at) =>
    startProcess<Report>(import.meta.filename, task, open, (report) => {
      if ('holds' in report) holds[at] = report.holds;
      else cpuMs.push(report.cpuMs);
    }),
  );
  await until('the partitions are shared out', () => holds.every((held) => held === PARTITIONS / processes));

  const before = cpuTimes();
  const began = performance.now();
  for (const child of children) child.send('begin');
  if (!(await runtime.waitFor(head, LONGEST_MS))) throw new Error('They did not catch up.');
  const durationMs = performance.now() - began;
  const after = cpuTimes();
  for (const child of children) child.send('report');
  await until('they report', () => cpuMs.length === processes);
  return {
    durationMs,
    cpuMs: cpuMs.reduce((a, b) => a + b),
    busy: (after.busy - before.busy) / (after.all - before.all),
  };
}

function cpuTimes(): { busy: number; all: number } {
  const times = cpus().map((cpu) => cpu.times);
  const all = times.flatMap((each) => Object.values(each)).reduce((a, b) => a + b);
  return { all, busy: all - times.reduce((sum, { idle }) => sum + idle, 0) };
}

// ── both kinds of process ─────────────────────────────────────────────────

interface Role {
  readonly run: boolean;
  /** The bus that the projections are given, made of the real one. */
  readonly given: (bus: EventBus) => EventBus;
}

async function openProjections(
  { broker, url, directory, database, topics }: Task,
  open: AsyncDisposableStack,
  { run, given }: Role,
) {
  const onAvailability = (problem: string | null) => problem !== null && onError(new Error(problem));
  const kafka = openKafka(broker);
  const store = await openLog(directory);
  open.defer(() => store.close());
  const readModels = await openMongoReadModels({ url, database, partitions: PARTITIONS, onAvailability });
  open.defer(() => readModels.close());
  const signals = await openSignals(kafka, topics.signals, open);
  const events = openKafkaEventBus({
    kafka,
    store,
    topic: topics.events,
    partitions: PARTITIONS,
    groupPrefix: topics.events,
    onError,
  });
  open.defer(() => events.close());
  const runtime = await startSharedProjections({
    store,
    events: given(events),
    signals,
    readModels,
    projections: [conversations, messages],
    run,
    onError,
  });
  open.defer(() => runtime.stop());
  return { store, runtime };
}

// ── the other process ─────────────────────────────────────────────────────

async function runProjections(task: Task): Promise<void> {
  await using open = new AsyncDisposableStack();
  const tell = (report: Report) => process.connected && process.send!(report);
  const begin = Promise.withResolvers<void>();
  let used = process.cpuUsage();
  process.on('message', (message) => {
    if (message === 'begin') {
      used = process.cpuUsage();
      begin.resolve();
    } else {
      const { user, system } = process.cpuUsage(used);
      tell({ cpuMs: (user + system) / 1_000 });
    }
  });

  const held = new Set<number>();
  const onceAllBegin = (bus: EventBus): EventBus => ({
    ...bus,
    consume: (group, work) =>
      bus.consume(group, async (partition) => {
        held.add(partition.number);
        tell({ holds: held.size });
        const moved = new Promise<void>((resolve) =>
          partition.signal.addEventListener('abort', () => resolve(), { once: true }),
        );
        await Promise.race([begin.promise, moved]);
        if (!partition.signal.aborted) await work(partition);
        held.delete(partition.number);
        tell({ holds: held.size });
      }),
  });
  await openProjections(task, open, { run: true, given: onceAllBegin });
  await benchIsOver();
}

if (import.meta.main) await runProjections(taskOf());
