import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { z } from 'zod';
import type { EventEnvelope, NewEvent } from '../../contracts/envelope.ts';
import { catalogue, type EventDefinition } from '../../contracts/events/catalogue.ts';
import { newEvent } from './conformance.ts';
import type { EventStore } from './port.ts';
import { openSqliteEventStore } from './sqlite.ts';
import { InvalidEvent, withCatalogue } from './with-catalogue.ts';

describe('an event store with the catalogue', () => {
  let directory: string;
  let plain: EventStore;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'odeon-events-'));
    plain = await openSqliteEventStore({ directory });
  });
  afterEach(async () => {
    await plain.close();
    await rm(directory, { recursive: true });
  });

  const append = (store: EventStore, ...events: NewEvent[]) =>
    store.append('s', events, { expectedRevision: 'any' });

  describe('refuses', () => {
    const started = { title: null, mode: 'assistant', model: null, kind: 'chat', agent: null, linkId: null };
    const refused: [string, Partial<NewEvent>, RegExp][] = [
      ['an unknown type', { type: 'SomethingElse' }, /^SomethingElse is not in the catalogue/],
      ['a type that is a property of every object', { type: 'constructor' }, /^constructor is not in/],
      ['another version', { schemaVersion: 1 }, /^ConversationStarted: schemaVersion must be 2, not 1$/],
      ['a wrong value', { data: { ...started, mode: 'x' } }, /^ConversationStarted: data\.mode: /],
      [
        'a missing field',
        { data: { title: null, mode: 'assistant' } },
        /^ConversationStarted: data\.model: /,
      ],
      ['a field too many', { data: { ...started, more: 1 } }, /^ConversationStarted: data: .*more/],
      ['no data', { data: undefined }, /^ConversationStarted: data: /],
    ];
    for (const [what, parts, message] of refused) {
      it(what, async () => {
        const store = withCatalogue(plain);
        const fine = newEvent({ type: 'ConversationStarted', schemaVersion: 2, data: started });
        const error = await append(store, fine, { ...fine, id: crypto.randomUUID(), ...parts }).catch(
          (reason: unknown) => reason,
        );
        expect(error).to.be.instanceOf(InvalidEvent).with.property('message').that.matches(message);
        expect(await plain.head()).to.equal('0');
      });
    }
  });

  it('appends what the schema made of the data', async () => {
    const definitions = { Noted: define(1, z.object({ text: z.string().trim().default('nothing') })) };
    const store = withCatalogue(plain, definitions);
    const { events } = await append(
      store,
      newEvent({ type: 'Noted', data: { text: ' a ', more: 1 } }),
      newEvent({ type: 'Noted', data: {} }),
    );
    expect(events.map(({ data }) => data)).to.deep.equal([{ text: 'a' }, { text: 'nothing' }]);
    expect(await everyRead(plain)).to.deep.equal(Array(4).fill(events));
  });

  it('gives pages on as they are when all in them is current', async () => {
    const page = { events: [], position: '1', caughtUp: true };
    const store = withCatalogue({
      ...plain,
      async *readAll() {
        yield page;
      },
    });
    for await (const read of store.readAll()) expect(read).to.equal(page);
  });

  describe('reads events of older versions', () => {
    const definitions = {
      Moved: define(3, z.object({ to: z.string(), by: z.string() }), {
        1: (data) => ({ to: (data as { where: string }).where }),
        2: (data) => ({ ...(data as object), by: 'foot' }),
      }),
    };
    const moved = (schemaVersion: number, data: unknown) => newEvent({ type: 'Moved', schemaVersion, data });

    it('in the current one, whichever way they are read', async () => {
      const old = [moved(1, { where: 'north' }), moved(2, { to: 'south' }), newEvent({ type: 'Unheard' })];
      await append(plain, ...old);
      const store = withCatalogue(plain, definitions);
      await append(store, moved(3, { to: 'west', by: 'train' }));
      for (const events of await everyRead(store)) {
        expect(events.map(({ schemaVersion, data }) => [schemaVersion, data])).to.deep.equal([
          [3, { to: 'north', by: 'foot' }],
          [3, { to: 'south', by: 'foot' }],
          [1, { text: 'something happened' }],
          [3, { to: 'west', by: 'train' }],
        ]);
      }
    });

    it('also where a repeated append answers with them', async () => {
      const event = moved(2, { to: 'south' });
      await append(plain, event);
      const { events } = await append(withCatalogue(plain, definitions), {
        ...event,
        schemaVersion: 3,
        data: { to: 'south', by: 'car' },
      });
      expect(events[0]).to.deep.include({ schemaVersion: 3, data: { to: 'south', by: 'foot' } });
    });

    it('but not of a version that this program does not know', async () => {
      await append(plain, moved(4, {}));
      const reading = everyRead(withCatalogue(plain, definitions));
      const error = await reading.catch((reason: unknown) => reason);
      expect(error).to.be.instanceOf(InvalidEvent);
      expect(String(error)).to.include('Moved at position 1 has schemaVersion 4');
    });
  });

  it('has an upcaster for every older version of every type', () => {
    for (const [type, { version, upcasters }] of Object.entries(catalogue)) {
      const older = Array.from({ length: version - 1 }, (_, n) => String(n + 1));
      expect(Object.keys(upcasters), type).to.deep.equal(older);
    }
  });
});

function define(
  version: number,
  schema: z.ZodType,
  upcasters: EventDefinition['upcasters'] = {},
): EventDefinition {
  return { schema, version, upcasters, personal: [] };
}

/** The events of stream `s`, which are all there are, as each way of reading gives them. */
async function everyRead(store: EventStore): Promise<EventEnvelope[][]> {
  const reads: EventEnvelope[][] = [[], [], [], []];
  for await (const events of store.readStream('s')) reads[0]!.push(...events);
  for await (const { events } of store.readAll()) reads[1]!.push(...events);
  for await (const { events } of store.readAll({ direction: 'backwards' }))
    reads[2]!.unshift(...events.toReversed());
  const stop = new AbortController();
  for await (const { events, caughtUp } of store.subscribe({ after: '0', signal: stop.signal })) {
    reads[3]!.push(...events);
    if (caughtUp) stop.abort();
  }
  return reads;
}
