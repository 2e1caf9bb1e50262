/**
 * Which workers are alive. Each sends a beat over the signal bus every other second. A worker is gone when so many of
 * our own beats have come round since its last one: counted so, a bus that is away makes nobody look gone. The other
 * way round, a worker whose own beats do not come round is out of touch, and must let go of what it holds before
 * the others may take it over.
 */
import type { SignalBus } from '../../infra/bus/port.ts';

export interface Workers {
  /** The name of this worker: different at every start. */
  readonly self: string;
  /** Whether another worker may still be running. */
  isAlive(worker: string): boolean;
  /** False while this worker is out of touch: it must not begin anything. */
  inTouch(): boolean;
  /** Told when this worker has come out of touch or back into it, and when others may have gone. */
  onChange(listener: () => void): void;
  /** Tells the others that this worker has ended. */
  stop(): void;
}

/** This worker is the only one: whoever was at work before has ended. */
export const soleWorker = (self: string): Workers => ({
  self,
  isAlive: () => false,
  inTouch: () => true,
  onChange() {},
  stop() {},
});

export interface WorkersOptions {
  readonly self: string;
  readonly signals: SignalBus;
  readonly timing?: Partial<WorkersTiming>;
}

export interface WorkersTiming {
  readonly beatMs: number;
  /** Without an own beat for so long, this worker is out of touch. Well before others count it as gone. */
  readonly outOfTouchMs: number;
  /** Own beats after which a silent worker is gone. */
  readonly goneAfterBeats: number;
}

const defaultTiming: WorkersTiming = { beatMs: 2_000, outOfTouchMs: 6_500, goneAfterBeats: 6 };

export function watchWorkers({ self, signals, timing }: WorkersOptions): Workers {
  const { beatMs, outOfTouchMs, goneAfterBeats } = { ...defaultTiming, ...timing };
  const listeners: (() => void)[] = [];
  const changed = (): void => {
    for (const listener of listeners) listener();
  };
  /** Own beats that have come round; and by worker, what that number was at its last beat. */
  let rounds = 0;
  const heard = new Map<string, number>();
  let lastRound = performance.now();
  let touched = true;

  const beat = (alive: boolean): void => signals.publish({ kind: 'worker', worker: self, alive });

  const unsubscribe = signals.subscribe((signal) => {
    if (signal.kind !== 'worker') return;
    if (signal.worker !== self) {
      heard.set(signal.worker, signal.alive ? rounds : rounds - goneAfterBeats);
      if (!signal.alive) changed();
      return;
    }
    rounds++;
    lastRound = performance.now();
    if (!touched) {
      touched = true;
      // What the others sent meanwhile may not have come yet.
      for (const [worker, at] of heard) heard.set(worker, Math.max(at, rounds));
    }
    for (const [worker, at] of heard) if (rounds - at > 10 * goneAfterBeats) heard.delete(worker);
    changed();
  });

  const timer = setInterval(() => {
    beat(true);
    if (!touched || performance.now() - lastRound < outOfTouchMs) return;
    touched = false;
    changed();
  }, beatMs);
  beat(true);

  return {
    self,
    // Of a worker that was never heard: it has had as much time to be heard as any.
    isAlive: (worker) => rounds - (heard.get(worker) ?? 0) < goneAfterBeats,
    inTouch: () => touched,
    onChange: (listener) => void listeners.push(listener),
    stop() {
      clearInterval(timer);
      unsubscribe();
      beat(false);
    },
  };
}
