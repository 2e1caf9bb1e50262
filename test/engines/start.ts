/**
 * `node test/engines/start.ts [kafka] [ferretdb]`: starts them (both when none is named), prints what to set in the
 * environment to point Odeon at them, and runs until Ctrl-C. Their data is gone then.
 */
import { ENGINE_NAMES, type EngineName, engineSkipReason } from './availability.ts';
import type { Engine } from './engine.ts';
import { startFerretDb } from './ferretdb.ts';
import { startKafka } from './kafka.ts';

const START: Readonly<Record<EngineName, () => Promise<{ engine: Engine; variable: string }>>> = {
  async kafka() {
    const engine = await startKafka();
    return { engine, variable: `KAFKA_BROKERS=${engine.brokers}` };
  },
  async ferretdb() {
    const engine = await startFerretDb();
    return { engine, variable: `MONGODB_URL=${engine.url}` };
  },
};

const isEngine = (name: string): name is EngineName => (ENGINE_NAMES as string[]).includes(name);
const wanted = process.argv.length > 2 ? process.argv.slice(2) : ENGINE_NAMES;
const unknown = wanted.filter((name) => !isEngine(name));
const reasons = wanted
  .filter(isEngine)
  .map(engineSkipReason)
  .filter((reason) => reason !== null);
if (unknown.length > 0 || reasons.length > 0) {
  const names = ENGINE_NAMES.join(', ');
  for (const name of unknown) console.error(`There is no engine ${name}; there are: ${names}.`);
  for (const reason of reasons) console.error(`${reason}.`);
  process.exit(1);
}

// Ended before, this process takes what it started with it: the engines' watchdogs see to that.
const engines = await Promise.all(
  wanted.filter(isEngine).map(async (name) => {
    console.error(`Starting ${name} (the first time on a machine takes minutes) …`);
    const { engine, variable } = await START[name]();
    console.log(variable);
    return engine;
  }),
);
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void Promise.all(engines.map((engine) => engine.stop())));
}
