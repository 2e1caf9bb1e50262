import { expect } from 'chai';
import type { Signal } from '../../contracts/live/signals.ts';
import { createInProcessSignalBus } from '../../infra/bus/in-process.ts';
import type { SignalBus } from '../../infra/bus/port.ts';
import { condition } from '../../test/program.ts';
import { type Workers, watchWorkers } from './workers.ts';

const timing = { beatMs: 5, outOfTouchMs: 100, goneAfterBeats: 6 };
const within = { withinMs: 5_000 };

/** A bus that can be cut off, for each worker by itself. */
function cuttable(bus: SignalBus): SignalBus & { cut: boolean } {
  const own = {
    cut: false,
    publish: (signal: Signal) => {
      if (!own.cut) bus.publish(signal);
    },
    subscribe: (listener: (signal: Signal) => void) =>
      bus.subscribe((signal) => {
        if (!own.cut) listener(signal);
      }),
    close: async () => {},
  };
  return own;
}

describe('workers', () => {
  let bus: SignalBus;
  let started: Workers[];
  const watch = (self: string, signals: SignalBus = bus): Workers => {
    const workers = watchWorkers({ self, signals, timing });
    started.push(workers);
    return workers;
  };
  beforeEach(() => {
    started = [];
    bus = createInProcessSignalBus({ onError: (error) => expect.fail(String(error)) });
  });
  afterEach(() => {
    for (const workers of started) workers.stop();
  });

  it('count one that was never heard as alive until it has had time to be heard', async () => {
    const ada = watch('ada');
    expect(ada.isAlive('bo')).to.equal(true);
    let told = 0;
    ada.onChange(() => told++);
    await condition(() => !ada.isAlive('bo'), within);
    expect(told).to.be.greaterThan(0);
    expect(ada.inTouch()).to.equal(true);
  });

  it('count one that beats as alive, and as gone when it has said so', async () => {
    const ada = watch('ada');
    const bo = watch('bo');
    let beats = 0;
    bus.subscribe((signal) => {
      if (signal.kind === 'worker' && signal.worker === 'ada') beats++;
    });
    await condition(() => beats > 20, within);
    expect(ada.isAlive('bo')).to.equal(true);
    bo.stop();
    expect(ada.isAlive('bo')).to.equal(false);
  });

  it('count one that falls silent as gone, but not while the bus is away for all', async () => {
    const [signalsOfAda, signalsOfBo] = [cuttable(bus), cuttable(bus)];
    const ada = watch('ada', signalsOfAda);
    watch('bo', signalsOfBo);
    const chaos = watch('cy');
    await condition(() => ada.isAlive('bo') && !ada.isAlive('nobody'), within);
    signalsOfAda.cut = true;
    await condition(() => !ada.inTouch(), within);
    expect(ada.isAlive('bo'), 'not heard, but neither was ada').to.equal(true);
    signalsOfBo.cut = true;
    signalsOfAda.cut = false;
    await condition(() => ada.inTouch(), within);
    expect(ada.isAlive('bo'), 'it may just not have come back yet').to.equal(true);
    await condition(() => !ada.isAlive('bo'), within);
    expect(ada.isAlive('cy')).to.equal(true);
    expect(chaos.inTouch()).to.equal(true);
  });

  it('let go before others take over', async () => {
    const signalsOfBo = cuttable(bus);
    const ada = watch('ada');
    const bo = watchWorkers({
      self: 'bo',
      signals: signalsOfBo,
      timing: { ...timing, outOfTouchMs: 10, goneAfterBeats: 40 },
    });
    started.push(bo);
    const order: string[] = [];
    bo.onChange(() => {
      if (!bo.inTouch()) order.push('bo lets go');
    });
    ada.onChange(() => {
      if (!ada.isAlive('bo')) order.push('ada takes over');
    });
    await condition(() => !ada.isAlive('nobody'), within);
    order.length = 0;
    await condition(() => ada.isAlive('bo'), within);
    signalsOfBo.cut = true;
    await condition(() => order.includes('ada takes over'), within);
    expect(order[0]).to.equal('bo lets go');
  });
});
