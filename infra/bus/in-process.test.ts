import { signalBusConformance } from './conformance.ts';
import { createInProcessSignalBus } from './in-process.ts';

signalBusConformance('in-process', (onError) => createInProcessSignalBus({ onError }));
