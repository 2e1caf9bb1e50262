/**
 * The adapters for more than one machine on real engines: Kafka, and FerretDB for MongoDB's protocol, which
 * test/engines starts (the first time on a machine it fetches and builds them, which takes minutes).
 */
import { type EngineName, engineSkipReason } from '../test/engines/availability.ts';
import * as documents from './engines/documents.ts';
import * as latency from './engines/latency.ts';
import * as relay from './engines/relay.ts';
import * as scaling from './engines/scaling.ts';
import type { Bench } from './result.ts';

const onEngines =
  (engines: readonly EngineName[], bench: Bench): Bench =>
  async () => {
    const reasons = engines.map(engineSkipReason).filter((reason) => reason !== null);
    if (reasons.length === 0) return bench();
    console.error(`  not run: ${reasons.join('; ')}`);
    return [];
  };

export const benchRelay = onEngines(['kafka'], relay.benchRelay);
export const benchLatency = onEngines(['kafka'], latency.benchLatency);
export const benchDocuments = onEngines(['ferretdb'], documents.benchDocuments);
export const benchTwoProcesses = onEngines(['kafka', 'ferretdb'], scaling.benchTwoProcesses);
