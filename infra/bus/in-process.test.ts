import { signalBusConformance } from './conformance.ts';
import { createInProcessSignalBus } from './in-process.ts';

signalBusConformance('The in-process bus', (onError) => createInProcessSignalBus({ onError }));
