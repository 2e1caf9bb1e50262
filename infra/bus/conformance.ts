/** What every adapter of the signal bus is held to. Call it inside a mocha run. */
import { expect } from 'chai';
import type { Signal, TextSignal } from '../../contracts/live/signals.ts';
import type { SignalBus } from './port.ts';

const text = (turn: string, offset: number): TextSignal => ({
  kind: 'text',
  owner: 'ada',
  conversationId: 'c',
  turnId: turn,
  call: '7',
  offset,
  text: 'x',
});

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 5_000 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 1));
  if (!condition()) throw new Error('The bus did not deliver within its time.');
}

export function signalBusConformance(
  name: string,
  create: (onError: (error: unknown) => void) => SignalBus | Promise<SignalBus>,
): void {
  describe(`${name} as a signal bus`, () => {
    let bus: SignalBus;
    let errors: unknown[];
    beforeEach(async () => {
      errors = [];
      bus = await create((error) => errors.push(error));
    });
    afterEach(() => bus.close());

    describe('order', () => {
      it('gives every listener the signals of a turn in the order they were published', async () => {
        const seen: Signal[][] = [[], []];
        for (const list of seen) bus.subscribe((signal) => list.push(signal));
        const sent = Array.from({ length: 100 }, (_, i) => text('t', i));
        for (const signal of sent) bus.publish(signal);
        await until(() => seen.every((list) => list.length === sent.length));
        expect(seen).to.deep.equal([sent, sent]);
      });

      it('keeps the order for others when a listener publishes in answer to a signal', async () => {
        const seen: number[] = [];
        bus.subscribe((signal) => {
          if (signal.kind === 'text' && signal.offset < 3) bus.publish(text('t', signal.offset + 1));
        });
        bus.subscribe((signal) => {
          if (signal.kind === 'text') seen.push(signal.offset);
        });
        bus.publish(text('t', 0));
        await until(() => seen.length === 4);
        expect(seen).to.deep.equal([0, 1, 2, 3]);
      });

      it('keeps the order of each of several turns', async () => {
        const turns = ['t1', 't2', 't3', 't4', 't5'];
        const seen = new Map<string, number[]>(turns.map((turn) => [turn, []]));
        bus.subscribe((signal) => {
          if (signal.kind === 'text') seen.get(signal.turnId)?.push(signal.offset);
        });
        const offsets = Array.from({ length: 40 }, (_, i) => i);
        for (const offset of offsets) {
          for (const turn of turns) bus.publish({ ...text(turn, offset), conversationId: `of ${turn}` });
        }
        await until(() => [...seen.values()].every((list) => list.length === offsets.length));
        for (const list of seen.values()) expect(list).to.deep.equal(offsets);
      });
    });

    describe('listeners', () => {
      it('gives a listener what is published once it listens, and nothing older', async () => {
        const [first, second]: Signal[][] = [[], []];
        bus.subscribe((signal) => first?.push(signal));
        bus.publish(text('t', 0));
        await until(() => first?.length === 1);
        bus.subscribe((signal) => second?.push(signal));
        bus.publish(text('t', 1));
        await until(() => first?.length === 2);
        expect(second).to.deep.equal([text('t', 1)]);
      });

      it('does not deliver to a listener that has left', async () => {
        const left: Signal[] = [];
        const stayed: Signal[] = [];
        const leave = bus.subscribe((signal) => left.push(signal));
        bus.subscribe((signal) => stayed.push(signal));
        bus.publish(text('t', 0));
        await until(() => left.length === 1);
        leave();
        leave();
        bus.publish(text('t', 1));
        await until(() => stayed.length === 2);
        expect(left).to.have.length(1);
      });

      it('hands on what a listener throws and delivers to the others', async () => {
        const seen: Signal[] = [];
        bus.subscribe(() => {
          throw new Error('broken listener');
        });
        bus.subscribe((signal) => seen.push(signal));
        bus.publish(text('t', 0));
        bus.publish(text('t', 1));
        await until(() => seen.length === 2);
        expect(errors.map((error) => (error as Error).message)).to.deep.equal([
          'broken listener',
          'broken listener',
        ]);
      });
    });

    describe('closing', () => {
      it('delivers nothing once it is closed', async () => {
        const seen: Signal[] = [];
        bus.subscribe((signal) => seen.push(signal));
        await bus.close();
        bus.publish(text('t', 0));
        expect(seen).to.deep.equal([]);
      });
    });
  });
}
