/**
 * What `port.ts` promises, as tests that any adapter can be held against. Every test works with streams, types
 * and owners of its own, so the store may be a shared server that holds other data; positions are only compared.
 */
import { randomUUID } from 'node:crypto';
import { setImmediate as othersRan } from 'node:timers/promises';
import { expect } from 'chai';
import fc from 'fast-check';
import {
  comparePositions,
  type EventEnvelope,
  isAfter,
  type NewEvent,
  type Position,
  START,
} from '../../contracts/envelope.ts';
import {
  type EventFilter,
  EventIdConflict,
  type EventPage,
  type EventStore,
  type ExpectedRevision,
  type ReadStreamOptions,
  WrongExpectedRevision,
  WrongLogEnd,
} from './port.ts';

/** What an adapter may be unable to do, and declares then: what it does instead is tested in its place. */
export type EventStoreCapability = 'ids unique across streams';

export type OpenEventStore = () => Promise<{ store: EventStore; cleanUp(): Promise<void> }>;

export function eventStoreConformance(
  name: string,
  open: OpenEventStore,
  {
    capabilities = {},
  }: { readonly capabilities?: Readonly<Partial<Record<EventStoreCapability, boolean>>> } = {},
): void {
  const can = (capability: EventStoreCapability): boolean => capabilities[capability] ?? true;

  describe(`${name} as an event store`, function () {
    // A server may be far away.
    this.timeout(120_000);
    let store: EventStore;
    let cleanUp: () => Promise<void>;
    before(async () => {
      ({ store, cleanUp } = await open());
    });
    after(() => cleanUp());

    describe('appending', () => {
      it('gives revisions from 0, growing positions and the time of the commit', async () => {
        const stream = unique('stream');
        const began = Date.now();
        const first = await store.append(stream, [newEvent(), newEvent()], { expectedRevision: 'no stream' });
        const second = await store.append(stream, [newEvent()], { expectedRevision: 1 });
        const events = [...first.events, ...second.events];
        expect(events.map((event) => event.revision)).to.deep.equal([0, 1, 2]);
        expect(first).to.include({ revision: 1, position: first.events[1]!.position });
        expect(second).to.include({ revision: 2, position: second.events[0]!.position });
        expectOrdered(events);
        for (const event of events) {
          expect(event.stream).to.equal(stream);
          expect(event.time).to.match(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
          expect(Date.parse(event.time)).to.be.within(began - 60_000, Date.now() + 60_000);
        }
      });

      it('answers what a reader gets, with all that was given and nothing that JSON does not carry', async () => {
        const stream = unique('stream');
        const data = {
          text: 'a\u0000b ü 😀 \ud800',
          nested: [{ deep: null }, 1.5, -0, true],
          gone: undefined,
        };
        const given = newEvent({ data, causationId: randomUUID(), actor: { kind: 'agent', id: 'vega' } });
        const { events } = await store.append(stream, [given], { expectedRevision: 'any' });
        const { data: _, ...rest } = given;
        expect(events[0]).to.deep.include(rest);
        expect(events[0]!.data).to.deep.equal(JSON.parse(JSON.stringify(data)));
        data.nested.length = 0;
        expect(await readStream(stream)).to.deep.equal(events);
      });

      const states = { 'an absent stream': 0, 'a stream of one event': 1, 'a stream of three events': 3 };
      const expectations: ExpectedRevision[] = ['no stream', 'exists', 'any', 0, 1, 2, 3];
      for (const [state, length] of Object.entries(states)) {
        for (const expected of expectations) {
          const fits = matches(expected, length - 1);
          it(`${fits ? 'appends to' : 'refuses'} ${state} when ${expected} is expected`, async () => {
            const stream = unique('stream');
            if (length > 0) await store.append(stream, newEvents(length), { expectedRevision: 'any' });
            const appending = store.append(stream, newEvents(2), { expectedRevision: expected });
            if (fits) {
              expect((await appending).revision).to.equal(length + 1);
            } else {
              const error = await failure(appending, WrongExpectedRevision);
              expect(error).to.include({ stream, expected, actual: length === 0 ? null : length - 1 });
            }
            expect(await readStream(stream)).to.have.length(fits ? length + 2 : length);
          });
        }
      }

      it('lets one of many appends with the same expected revision through', async () => {
        const stream = unique('stream');
        const results = await Promise.allSettled(
          Array.from({ length: 20 }, () =>
            store.append(stream, newEvents(2), { expectedRevision: 'no stream' }),
          ),
        );
        expect(results.filter(({ status }) => status === 'fulfilled')).to.have.length(1);
        expect(await readStream(stream)).to.have.length(2);
      });

      const invalid: [string, string, NewEvent[], ExpectedRevision][] = [
        ['an empty batch', 'stream', [], 'any'],
        ['an empty stream name', '', [newEvent()], 'any'],
        ['a stream name of 256 characters', 'x'.repeat(256), [newEvent()], 'any'],
        ['a stream name with a lone surrogate', 'x\ud800', [newEvent()], 'any'],
        ['an empty type', 'stream', [newEvent({ type: '' })], 'any'],
        ['an empty event id', 'stream', [newEvent({ id: '' })], 'any'],
        ['schema version 0', 'stream', [newEvent({ schemaVersion: 0 })], 'any'],
        ['data that is not JSON', 'stream', [newEvent({ data: undefined })], 'any'],
        ['a negative expected revision', 'stream', [newEvent()], -1],
        ['a fractional expected revision', 'stream', [newEvent()], 1.5],
        ['an unknown expectation', 'stream', [newEvent()], 'something' as 'any'],
      ];
      for (const [what, stream, events, expectedRevision] of invalid) {
        it(`refuses ${what}`, async () => {
          await failure(store.append(stream, events, { expectedRevision }), RangeError);
        });
      }

      it('takes the longest stream name, with any character in it', async () => {
        const stream = `${unique('ü😀')} '"%_*`.padEnd(255, 'x');
        await store.append(stream, newEvents(1), { expectedRevision: 'no stream' });
        expect(await readStream(stream)).to.have.length(1);
      });
    });

    describe('appending again', () => {
      for (const expectedRevision of ['no stream', 'exists', 'any', 0, 17] as const) {
        it(`answers as it did the first time, expecting ${expectedRevision}`, async () => {
          const stream = unique('stream');
          const batch = newEvents(3);
          const first = await store.append(stream, batch, { expectedRevision: 'no stream' });
          await store.append(stream, newEvents(1), { expectedRevision: 2 });
          expect(await store.append(stream, batch, { expectedRevision })).to.deep.equal(first);
          expect(await readStream(stream)).to.have.length(4);
        });
      }

      it('at the same time answers the same to all', async () => {
        const stream = unique('stream');
        const batch = newEvents(2);
        const results = await Promise.all(
          Array.from({ length: 8 }, () => store.append(stream, batch, { expectedRevision: 'no stream' })),
        );
        for (const result of results) expect(result).to.deep.equal(results[0]);
        expect(await readStream(stream)).to.deep.equal(results[0]!.events);
      });

      it('refuses a batch of which some are new, whatever is expected, and appends none of them', async () => {
        const stream = unique('stream');
        const [a, b, c] = newEvents(3) as [NewEvent, NewEvent, NewEvent];
        await store.append(stream, [a], { expectedRevision: 'any' });
        for (const batch of [
          [a, b],
          [b, a],
          [b, c, a],
        ]) {
          for (const expectedRevision of ['any', 'no stream', 0] as const) {
            await failure(store.append(stream, batch, { expectedRevision }), EventIdConflict);
          }
        }
        expect(await readStream(stream)).to.have.length(1);
        expect((await store.append(stream, [b, c], { expectedRevision: 0 })).revision).to.equal(2);
      });

      it('refuses the same events in another order', async () => {
        const stream = unique('stream');
        const batch = newEvents(2);
        await store.append(stream, batch, { expectedRevision: 'any' });
        await failure(store.append(stream, batch.toReversed(), { expectedRevision: 'any' }), EventIdConflict);
      });

      if (can('ids unique across streams')) {
        it('refuses ids that another stream has', async () => {
          const batch = newEvents(2);
          await store.append(unique('stream'), batch, { expectedRevision: 'any' });
          const other = unique('stream');
          await failure(store.append(other, batch, { expectedRevision: 'any' }), EventIdConflict);
          expect(await readStream(other)).to.be.empty;
        });
      } else {
        it('cannot refuse ids that another stream has (declared): takes them as events of their own', async () => {
          const batch = newEvents(2);
          const [one, other] = [unique('stream'), unique('stream')];
          const first = await store.append(one, batch, { expectedRevision: 'any' });
          const second = await store.append(other, batch, { expectedRevision: 'any' });
          expect(second.events.map(({ id, stream }) => ({ id, stream }))).to.deep.equal(
            batch.map(({ id }) => ({ id, stream: other })),
          );
          expect(isAfter(second.events[0]!.position, first.position)).to.equal(true);
          expect(await readStream(one)).to.deep.equal(first.events);
          expect(await readStream(other)).to.deep.equal(second.events);
        });
      }

      it('refuses a batch that names an id twice', async () => {
        const stream = unique('stream');
        const event = newEvent();
        await failure(store.append(stream, [event, event], { expectedRevision: 'any' }), EventIdConflict);
        expect(await readStream(stream)).to.be.empty;
      });
    });

    describe('reading a stream', () => {
      const stream = unique('stream');
      before(async () => {
        for (let n = 0; n < 12; n += 1)
          await store.append(stream, newEvents(100), { expectedRevision: 'any' });
      });

      const cases: [string, ReadStreamOptions, number[]][] = [
        ['forwards', {}, range(0, 1_200)],
        ['backwards', { direction: 'backwards' }, range(0, 1_200).reverse()],
        ['from a revision', { from: 1_195 }, range(1_195, 1_200)],
        ['backwards from a revision', { direction: 'backwards', from: 3 }, [3, 2, 1, 0]],
        ['from beyond its end', { from: 1_200 }, []],
        ['backwards from beyond its end', { direction: 'backwards', from: 5_000, limit: 2 }, [1_199, 1_198]],
        ['with a limit', { limit: 3 }, [0, 1, 2]],
        ['with a limit of several pages', { from: 1, limit: 1_001 }, range(1, 1_002)],
        ['backwards with a limit', { direction: 'backwards', limit: 2 }, [1_199, 1_198]],
        ['with a limit of 0', { limit: 0 }, []],
      ];
      for (const [what, options, revisions] of cases) {
        it(what, async () => {
          const events = await readStream(stream, options);
          expect(events.map((event) => event.revision)).to.deep.equal(revisions);
        });
      }

      it('yields nothing for one that does not exist', async () => {
        expect(await readStream(unique('stream'))).to.be.empty;
      });

      it('may be left after the first page', async () => {
        for await (const page of store.readStream(stream)) {
          expect(page).to.not.be.empty;
          break;
        }
      });

      for (const options of [{ from: -1 }, { from: 0.5 }, { limit: -1 }, { limit: Number.NaN }]) {
        it(`refuses ${JSON.stringify(options)}`, async () => {
          await failure(readStream(stream, options), RangeError);
        });
      }
    });

    describe('reading all', () => {
      const mark = unique('m');
      const owners = [`${mark}-ada`, `${mark}-bo`] as const;
      const types = [`${mark}-A`, `${mark}-B`, `${mark}-C`] as const;
      const correlation = randomUUID();
      const all: EventEnvelope[] = [];
      /** Where all of them come after: what a shared server holds before need not be read. */
      let start: Position;
      before(async () => {
        start = await store.head();
        for (let n = 0; n < 1_300; n += 13) {
          const batch = range(n, n + 13).map((i) =>
            newEvent({
              owner: owners[i % 7 === 0 ? 1 : 0],
              type: types[i % 100 === 0 ? 2 : i % 2]!,
              correlationId: i % 61 === 0 ? correlation : randomUUID(),
            }),
          );
          const result = await store.append(`${mark}${n % 2 === 0 ? 'x' : 'y'}-${n % 3}`, batch, {
            expectedRevision: 'any',
          });
          all.push(...result.events);
        }
      });

      const filters: Record<string, EventFilter> = {
        'an owner': { owner: owners[0] },
        'a type': { types: [types[0]] },
        'a rare type': { types: [types[2]] },
        'several types': { types: [types[0], types[2], 'unheard-of'] },
        'a correlation id': { correlationId: correlation },
        'a stream': { stream: `${mark}x-0` },
        'a stream prefix': { streamPrefix: `${mark}y` },
        'a stream prefix that is a whole name': { streamPrefix: `${mark}y-1` },
        'owner and types': { owner: owners[1], types: [types[1], types[2]] },
        'owner and stream prefix': { owner: owners[1], streamPrefix: `${mark}x` },
        'stream and types': { stream: `${mark}y-1`, types: [types[1]] },
        'stream and another prefix': { stream: `${mark}y-1`, streamPrefix: `${mark}x` },
        'stream, owner and correlation id': {
          stream: `${mark}x-0`,
          owner: owners[0],
          correlationId: correlation,
        },
        'all of them': {
          stream: `${mark}x-0`,
          streamPrefix: mark,
          types: [...types],
          owner: owners[1],
          correlationId: correlation,
        },
      };
      for (const [what, filter] of Object.entries(filters)) {
        it(`by ${what}: both ways, within bounds, limited and counted`, async () => {
          const matching = all.filter((event) => passesInTest(event, filter));
          const [after, upTo] = [all[200]!.position, all[1_100]!.position];
          const within = all.slice(201, 1_101).filter((event) => passesInTest(event, filter));
          expect(await readAll({ filter, after: start })).to.deep.equal(matching);
          expect(await readAll({ filter, after: start, direction: 'backwards' })).to.deep.equal(
            matching.toReversed(),
          );
          expect(await readAll({ filter, after, upTo })).to.deep.equal(within);
          expect(await readAll({ filter, after, upTo, direction: 'backwards' })).to.deep.equal(
            within.toReversed(),
          );
          expect(await readAll({ filter, after, upTo, limit: 3 })).to.deep.equal(within.slice(0, 3));
          expect(await readAll({ filter, after, upTo, limit: 3, direction: 'backwards' })).to.deep.equal(
            within.toReversed().slice(0, 3),
          );
          expect(await store.count({ filter, after: start })).to.equal(matching.length);
          expect(await store.count({ filter, after, upTo })).to.equal(within.length);
        });
      }

      it('by a stream from the beginning of the log to its end', async () => {
        const filter = { stream: `${mark}x-0` };
        const matching = all.filter((event) => event.stream === filter.stream);
        expect(await readAll({ filter })).to.deep.equal(matching);
        expect(await readAll({ filter, direction: 'backwards' })).to.deep.equal(matching.toReversed());
        expect(await store.count({ filter })).to.equal(matching.length);
      });

      it('by no type at all gives nothing', async () => {
        expect(await readAll({ after: start, filter: { types: [] } })).to.be.empty;
        expect(await store.count({ after: start, filter: { types: [] } })).to.equal(0);
      });

      it('without a filter gives every event in between, in order', async () => {
        const [after, upTo] = [all[0]!.position, all.at(-1)!.position];
        const read = await readAll({ after, upTo });
        expectOrdered(read);
        expect(read.filter((event) => event.stream.startsWith(mark))).to.deep.equal(all.slice(1));
        expect(await store.count({ after, upTo })).to.equal(read.length);
        expect(await readAll({ after, upTo, direction: 'backwards' })).to.deep.equal(read.toReversed());
      });

      it('tells how far it looked, also where the filter skipped everything', async () => {
        const [after, upTo] = [all[0]!.position, all.at(-1)!.position];
        for (const filter of [
          { owner: owners[0] },
          { owner: 'unheard-of' },
          { streamPrefix: 'unheard-of' },
        ]) {
          let position = after;
          for await (const page of store.readAll({ after, upTo, filter })) {
            expect(isAfter(page.position, position)).to.equal(true);
            for (const event of page.events) {
              expect(isAfter(event.position, position)).to.equal(true);
              expect(isAfter(event.position, page.position)).to.equal(false);
            }
            position = page.position;
          }
          expect(position).to.equal(upTo);
        }
      });

      it('says when nothing lies beyond', async () => {
        const pages = await collect(store.readAll({ after: all[0]!.position }));
        expect(pages.at(-1)!.caughtUp).to.equal(true);
        const before = await collect(store.readAll({ upTo: all[5]!.position, after: start }));
        expect(before.at(-1)!.caughtUp).to.equal(false);
        const filter = { stream: `${mark}x-0` };
        const backwards = await collect(store.readAll({ direction: 'backwards', filter }));
        expect(backwards.at(-1)!.caughtUp).to.equal(true);
      });

      it('of an empty range gives nothing', async () => {
        const { position } = all[5]!;
        expect(await readAll({ after: position, upTo: position })).to.be.empty;
        expect(await readAll({ after: position, upTo: START })).to.be.empty;
        expect(await readAll({ upTo: START })).to.be.empty;
        expect(await readAll({ after: '99999999999999999999' })).to.be.empty;
        expect(await readAll({ limit: 0 })).to.be.empty;
        expect(await store.count({ after: position, upTo: START })).to.equal(0);
      });

      for (const options of [{ after: 'x' }, { upTo: '-1' }, { after: '' }, { limit: -1 }]) {
        it(`refuses ${JSON.stringify(options)}`, async () => {
          await failure(readAll(options), RangeError);
        });
      }
    });

    describe('subscribing', () => {
      it('catches up, then goes on live, without a gap or a repeat while appends go on', async () => {
        const owner = unique('owner');
        const stream = unique('stream');
        const after = await store.head();
        const appending = (async () => {
          for (let n = 0; n < 150; n += 1) {
            await store.append(stream, newEvents(1 + (n % 5), { owner }), { expectedRevision: 'any' });
          }
        })();
        await store.append(stream, newEvents(1, { owner }), { expectedRevision: 'any' });
        const followed = await follow({ after, filter: { owner } }, 451);
        await appending;
        expect(followed).to.deep.equal(await readStream(stream));
      });

      it('is woken by an append while it waits', async () => {
        const owner = unique('owner');
        const following = follow({ after: await store.head(), filter: { owner } }, 1);
        await othersRan();
        const { events } = await store.append(unique('stream'), newEvents(1, { owner }), {
          expectedRevision: 'any',
        });
        expect(await following).to.deep.equal(events);
      });

      it('delivers only what passes the filter, and moves on over the rest', async () => {
        const [mine, other] = [unique('owner'), unique('owner')];
        const after = await store.head();
        const stop = new AbortController();
        const pages: EventPage[] = [];
        const iteration = (async () => {
          const subscription = store.subscribe({ after, filter: { owner: mine }, signal: stop.signal });
          for await (const page of subscription) pages.push(page);
        })();
        await store.append(unique('stream'), newEvents(1, { owner: mine }), { expectedRevision: 'any' });
        const last = await store.append(unique('stream'), newEvents(700, { owner: other }), {
          expectedRevision: 'any',
        });
        const reached = () => !isAfter(last.position, pages.at(-1)?.position ?? START);
        while (!reached() || !pages.at(-1)!.caughtUp) await othersRan();
        stop.abort();
        await iteration;
        expect(pages.flatMap((page) => page.events).map((event) => event.owner)).to.deep.equal([mine]);
        let position = after;
        for (const page of pages) {
          expect(isAfter(page.position, position)).to.equal(true);
          position = page.position;
        }
      });

      it('reads only as fast as it is iterated', async () => {
        const owner = unique('owner');
        const stream = unique('stream');
        const stop = new AbortController();
        const pages = store
          .subscribe({ after: await store.head(), filter: { owner }, signal: stop.signal })
          [Symbol.asyncIterator]();
        const events: EventEnvelope[] = [];
        for (let n = 0; n < 30; n += 1) {
          await store.append(stream, newEvents(100, { owner }), { expectedRevision: 'any' });
          if (n % 10 === 0) events.push(...(await pages.next()).value.events);
        }
        while (events.length < 3_000) {
          const page: EventPage = (await pages.next()).value;
          expect(page.events.length).to.be.below(3_000);
          events.push(...page.events);
        }
        stop.abort();
        expect((await pages.next()).done).to.equal(true);
        expect(events).to.deep.equal(await readStream(stream));
      });

      it('ends without an error when it is aborted: before, while it waits, and between pages', async () => {
        const after = await store.head();
        expect(await collect(store.subscribe({ after: START, signal: AbortSignal.abort() }))).to.be.empty;

        const waiting = new AbortController();
        const ending = collect(
          store.subscribe({ after, filter: { owner: unique('owner') }, signal: waiting.signal }),
        );
        await othersRan();
        waiting.abort();
        await ending;

        const between = new AbortController();
        await store.append(unique('stream'), newEvents(2_000), { expectedRevision: 'any' });
        let pages = 0;
        for await (const _ of store.subscribe({ after, signal: between.signal })) {
          pages += 1;
          between.abort();
        }
        expect(pages).to.equal(1);
      });

      it('waits when it begins beyond the head', async () => {
        const stop = new AbortController();
        const pages = collect(store.subscribe({ after: '99999999999999999999', signal: stop.signal }));
        await store.append(unique('stream'), newEvents(1), { expectedRevision: 'any' });
        stop.abort();
        expect(await pages).to.be.empty;
      });

      it('refuses what is not a position', () => {
        const { signal } = new AbortController();
        expect(() => store.subscribe({ after: 'x', signal })).to.throw(RangeError);
      });
    });

    describe('head and positionAt', () => {
      it('head is the position of the last event', async () => {
        const { position } = await store.append(unique('stream'), newEvents(2), { expectedRevision: 'any' });
        expect(isAfter(position, await store.head())).to.equal(false);
      });

      it('positionAt is the last position at or before a time', async () => {
        const earlier = await store.append(unique('stream'), newEvents(2), { expectedRevision: 'any' });
        const { time } = earlier.events[1]!;
        // The clock is the server's.
        let later = earlier;
        while (later.events[0]!.time <= time) {
          later = await store.append(unique('stream'), newEvents(1), { expectedRevision: 'any' });
        }
        const at = await store.positionAt(time);
        expect(isAfter(earlier.position, at)).to.equal(false);
        expect(isAfter(later.position, at)).to.equal(true);
        expect(await store.positionAt(time.replace('Z', '+00:00'))).to.equal(at);
        expect(await store.positionAt('1970-01-01T00:00:00Z')).to.equal(START);
        expect(isAfter(later.position, await store.positionAt('9999-12-31T23:59:59Z'))).to.equal(false);
      });

      for (const time of ['', 'yesterday', '2026-01-01', '2026-13-01T00:00:00Z']) {
        it(`positionAt refuses ${JSON.stringify(time)}`, async () => {
          await failure(store.positionAt(time), RangeError);
        });
      }
    });

    it('keeps its promises under any interleaving of appends', async () => {
      const request = fc.record({
        stream: fc.nat(2),
        expected: fc.oneof(
          fc.constantFrom<ExpectedRevision>('any', 'no stream', 'exists'),
          fc.nat(6) as fc.Arbitrary<ExpectedRevision>,
        ),
        events: fc.integer({ min: 1, max: 3 }),
        /** How many appends are let go at once with the next ones. */
        pause: fc.boolean(),
        /** Sends the batch of an earlier append again. */
        again: fc.option(fc.nat(20), { freq: 6 }),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 24 }), async (requests) => {
          const owner = unique('owner');
          const after = await store.head();
          const stop = new AbortController();
          const followed: EventEnvelope[] = [];
          const following = (async () => {
            for await (const page of store.subscribe({ after, filter: { owner }, signal: stop.signal })) {
              followed.push(...page.events);
            }
          })();

          const asked: { stream: string; expected: ExpectedRevision; batch: NewEvent[] }[] = [];
          const settled = [];
          for (const { stream, expected, events, pause, again } of requests) {
            const earlier = again === null ? undefined : asked[again];
            const append = earlier
              ? { ...earlier, expected }
              : { stream: `${owner}-${stream}`, expected, batch: newEvents(events, { owner }) };
            asked.push(append);
            const appending = Promise.allSettled([
              store.append(append.stream, append.batch, { expectedRevision: expected }),
            ]);
            settled.push(appending);
            if (pause) await appending;
          }
          const results = (await Promise.all(settled)).map(([result]) => result!);

          const read = await readAll({ after, filter: { owner } });
          expectOrdered(read);
          for (const stream of new Set(read.map((event) => event.stream))) {
            const revisions = read.filter((event) => event.stream === stream).map((event) => event.revision);
            expect(revisions).to.deep.equal(range(0, revisions.length));
          }
          const acknowledged = new Set<string>();
          for (const [i, result] of results.entries()) {
            const { batch, expected } = asked[i]!;
            if (result.status === 'fulfilled') {
              const ids = batch.map((event) => event.id);
              const first = read.findIndex((event) => event.id === ids[0]);
              const isFirst = !ids.some((id) => acknowledged.has(id));
              for (const id of ids) acknowledged.add(id);
              const standing = read.filter((event) => ids.includes(event.id));
              expect(result.value.events).to.deep.equal(standing);
              expect(standing.map((event) => event.id)).to.deep.equal(ids);
              const sentOnce = asked.filter((append) => append.batch === batch).length === 1;
              if (isFirst && sentOnce) {
                expect(matches(expected, read[first]!.revision - 1)).to.equal(true);
              }
            } else {
              expect(result.reason).to.be.instanceOf(WrongExpectedRevision);
              expect(matches(expected, result.reason.actual ?? -1)).to.equal(false);
            }
          }
          expect(read.map((event) => event.id)).to.have.members([...acknowledged]);

          while (followed.length < read.length) await othersRan();
          stop.abort();
          await following;
          expect(followed).to.deep.equal(read);
        }),
        { numRuns: 60 },
      );
    });

    async function readStream(stream: string, options?: ReadStreamOptions): Promise<EventEnvelope[]> {
      return (await collect(store.readStream(stream, options))).flat();
    }

    async function readAll(options: Parameters<EventStore['readAll']>[0]): Promise<EventEnvelope[]> {
      return (await collect(store.readAll(options))).flatMap((page) => page.events);
    }

    /** The first `count` events of a subscription. */
    async function follow(options: { after: string; filter: EventFilter }, count: number) {
      const stop = new AbortController();
      const events: EventEnvelope[] = [];
      for await (const page of store.subscribe({ ...options, signal: stop.signal })) {
        events.push(...page.events);
        if (events.length >= count) stop.abort();
      }
      return events;
    }
  });
}

/**
 * What the port promises of events that are moved from another log. Not for a server with other data.
 * @param open an empty store, each time
 */
export function importConformance(name: string, open: OpenEventStore): void {
  describe(`${name} as an event store`, () => describeImports(open));
}

function describeImports(open: OpenEventStore): void {
  describe('taking in another log', () => {
    const times = ['2001-01-01T00:00:00.000Z', '2001-01-01T00:00:01.000Z'];
    let store: EventStore;
    let cleanUp: () => Promise<void>;
    beforeEach(async () => {
      ({ store, cleanUp } = await open());
    });
    afterEach(() => cleanUp());
    const all = async () => (await collect(store.readAll())).flatMap((page) => page.events);

    it('keeps the times of its events, and answers so again', async () => {
      const batch = newEvents(2);
      const options = { expectedRevision: 'no stream', imported: { times, previous: null } } as const;
      const result = await store.append('s', batch, options);
      expect(result.events.map(({ time }) => time)).to.deep.equal(times);
      expect(await all()).to.deep.equal(result.events);
      expect(await store.append('s', batch, options)).to.deep.equal(result);
      const previous = batch[1]!.id;
      const same = { expectedRevision: 1, imported: { times: [times[1]!], previous } } as const;
      const more = await store.append('s', newEvents(1), same);
      const { events } = await store.append('s', newEvents(1), { expectedRevision: 2 });
      expect(events[0]!.time > times[1]!).to.equal(true);
      expect(await store.positionAt(times[0]!)).to.equal(result.events[0]!.position);
      expect(await store.positionAt(times[1]!)).to.equal(more.position);
    });

    it('takes events only after the one that they follow', async () => {
      const [a, b] = [newEvents(1), newEvents(1)];
      const imported = (previous: string | null) => ({ times: [times[0]!], previous });
      const append = (stream: string, events: NewEvent[], previous: string | null) =>
        store.append(stream, events, { expectedRevision: 'any', imported: imported(previous) });
      const early = await failure(append('s', b, a[0]!.id), WrongLogEnd);
      expect(early.message).to.equal(`The log ends with no event at all, not with event ${a[0]!.id}`);
      await append('s', a, null);
      const again = await failure(append('t', b, null), WrongLogEnd);
      expect(again.message).to.contain(`ends with event ${a[0]!.id}, not with no event`);
      await append('t', b, a[0]!.id);
      expect((await all()).map(({ id }) => id)).to.deep.equal([a[0]!.id, b[0]!.id]);
    });

    it('lets one that fails stop those that were sent after it', async () => {
      const [a, b, c] = [newEvents(1), newEvents(1), newEvents(1)];
      const imported = (previous: string | null) => ({ times: [times[0]!], previous });
      const sent = await Promise.allSettled([
        store.append('s', a, { expectedRevision: 'any', imported: imported(null) }),
        store.append('s', b, { expectedRevision: 7, imported: imported(a[0]!.id) }),
        store.append('t', c, { expectedRevision: 'any', imported: imported(b[0]!.id) }),
      ]);
      expect(sent.map(({ status }) => status)).to.deep.equal(['fulfilled', 'rejected', 'rejected']);
      expect((await all()).map(({ id }) => id)).to.deep.equal([a[0]!.id]);
    });

    it('does not let times go back', async () => {
      const [a, b] = [newEvents(1), newEvents(1)];
      const options = (time: string, previous: string | null) =>
        ({ expectedRevision: 'any', imported: { times: [time], previous } }) as const;
      await store.append('s', a, options(times[1]!, null));
      const back = store.append('t', b, options(times[0]!, a[0]!.id));
      expect((await failure(back, RangeError)).message).to.equal(
        `Stream t: an event of ${times[0]} cannot follow one of ${times[1]}`,
      );
    });

    for (const wrong of [
      [],
      [times[0]!],
      times.toReversed(),
      ['2001-01-01', times[1]!],
      ['yesterday', times[1]!],
    ]) {
      it(`wants a good time for each event, and not ${JSON.stringify(wrong)}`, async () => {
        const imported = { times: wrong, previous: null };
        const options = { expectedRevision: 'any', imported } as const;
        await failure(store.append('s', newEvents(2), options), RangeError);
        expect(await store.head()).to.equal(START);
      });
    }
  });
}

const unique = (prefix: string): string => `${prefix}-${randomUUID()}`;

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

export const newEvent = (parts: Partial<NewEvent> = {}): NewEvent => ({
  id: randomUUID(),
  type: 'Tested',
  schemaVersion: 1,
  owner: 'tester',
  actor: { kind: 'user', id: 'tester' },
  correlationId: randomUUID(),
  causationId: null,
  commandId: randomUUID(),
  surface: 'odeon',
  data: { text: 'something happened' },
  ...parts,
});

export const newEvents = (count: number, parts?: Partial<NewEvent>): NewEvent[] =>
  Array.from({ length: count }, () => newEvent(parts));

/** Said in other words than the adapters use. */
function matches(expected: ExpectedRevision, lastRevision: number): boolean {
  if (expected === 'any') return true;
  if (expected === 'exists') return lastRevision !== -1;
  if (expected === 'no stream') return lastRevision === -1;
  return lastRevision === expected;
}

function passesInTest(event: EventEnvelope, filter: EventFilter): boolean {
  const wanted: [unknown, boolean][] = [
    [filter.stream, filter.stream === event.stream],
    [filter.streamPrefix, event.stream.startsWith(filter.streamPrefix ?? '')],
    [filter.types, new Set(filter.types).has(event.type)],
    [filter.owner, filter.owner === event.owner],
    [filter.correlationId, filter.correlationId === event.correlationId],
  ];
  return wanted.every(([asked, fits]) => asked === undefined || fits);
}

function expectOrdered(events: readonly EventEnvelope[]): void {
  for (const [i, event] of events.entries()) {
    const before = events[i - 1];
    if (before === undefined) continue;
    expect(comparePositions(before.position, event.position)).to.be.below(0);
    expect(before.time <= event.time, 'times never go back').to.equal(true);
  }
}

async function collect<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const collected: Item[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

/** The error that a promise is rejected with, which must be of this kind. */
async function failure<Kind extends Error>(
  promise: Promise<unknown>,
  kind: abstract new (...parameters: never[]) => Kind,
): Promise<Kind> {
  const outcome = await promise.then(
    () => new Error('nothing was refused'),
    (error: unknown) => error,
  );
  expect(outcome).to.be.instanceOf(kind);
  return outcome as Kind;
}
