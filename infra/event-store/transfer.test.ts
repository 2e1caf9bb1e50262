/** Moving a log: what arrives is what left, whatever happens on the way. */
import { fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { type EventEnvelope, START } from '../../contracts/envelope.ts';
import { newEvent, newEvents } from './conformance.ts';
import { checkLogFile, DamagedLogFile, writeLogFile } from './log-file.ts';
import { type EventStore, StoreUnavailable } from './port.ts';
import { openSqliteEventStore, readSqliteLog } from './sqlite.ts';
import { exportLog, importLog, OtherLog, type Phase } from './transfer.ts';

const VERSION = '1.2.3';
const onProgress = (): void => {};

describe('moving a log', () => {
  let folder: string;
  let file: string;
  let source: EventStore;
  const opened: EventStore[] = [];

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'odeon-transfer-'));
    file = join(folder, 'log.jsonl');
    source = await open('source');
  });
  afterEach(async () => {
    for (const store of opened.splice(0)) await store.close();
    await rm(folder, { recursive: true });
  });

  async function open(name: string, shared = false): Promise<EventStore> {
    const store = await openSqliteEventStore({ directory: join(folder, name), shared });
    opened.push(store);
    return store;
  }

  const exported = () =>
    exportLog({ store: source, file, version: VERSION, source: 'a test', expected: null, onProgress });
  const imported = (store: EventStore) => importLog({ store, file, onProgress });

  /** Appends so many commands of one to three events each, over some streams. */
  async function fill(store: EventStore, commands: number): Promise<void> {
    const appending = Array.from({ length: commands }, (_, n) =>
      store.append(`stream-${n % 17}`, newEvents(1 + (n % 3), { commandId: randomUUID() }), {
        expectedRevision: 'any',
      }),
    );
    await Promise.all(appending);
  }

  describe('brings over', () => {
    it('every event with its id, stream, revision, time and data, in order', async () => {
      const strange = {
        text: 'line\nend\u2028 ü 😀 \ud800 \u0000 "crc32":"00000000"}',
        nested: [{ deep: null, '10': 1, '9': 2 }, 1.5, 1e300, true, []],
        own: JSON.parse('{"__proto__":{"a":1},"constructor":2}'),
      };
      await source.append('a', [newEvent({ data: strange }), newEvent({ data: null })], {
        expectedRevision: 'any',
      });
      await source.append(`ü '"\\ ${'x'.repeat(200)}`, [newEvent({ data: 'x'.repeat(300_000) })], {
        expectedRevision: 'any',
      });
      await fill(source, 200);
      const original = await readAll(source);
      const { count, sha256 } = await exported();
      expect(count).to.equal(original.length);

      const target = await open('target');
      const result = await imported(target);
      expect(result).to.include({ held: 0, count });
      expect(result.file).to.include({ count, sha256, version: VERSION, source: 'a test' });
      expect(result.contentSha256).to.equal(result.file.contentSha256);
      expect(await readAll(target)).to.deep.equal(original);
    });

    it('what the log is asked: the time of a position, a command that comes again, and what comes next', async () => {
      const first = newEvents(2, { commandId: randomUUID() });
      const answer = await source.append('s', first, { expectedRevision: 'no stream' });
      await fill(source, 30);
      await exported();
      const target = await open('target', true);
      await imported(target);
      const { time } = answer.events[1]!;
      expect(await target.positionAt(time)).to.equal(await source.positionAt(time));
      expect(await target.append('s', first, { expectedRevision: 'no stream' })).to.deep.equal(answer);
      const next = await target.append('s', newEvents(1), { expectedRevision: 1 });
      expect(next.events[0]!.time >= time).to.equal(true);
    });

    it('a log without events', async () => {
      expect(await exported()).to.include({ count: 0 });
      expect(await imported(await open('target'))).to.include({ held: 0, count: 0 });
    });

    it('what is stored as it is stored, and as far as the log went when the export began', async () => {
      await fill(source, 400);
      const before = await readAll(source);
      const late: Promise<unknown>[] = [];
      const { count } = await exportLog({
        store: source,
        file,
        version: VERSION,
        source: '',
        expected: before.length,
        onProgress: (_, events, part) => {
          expect(part).to.equal(events / before.length);
          late.push(source.append('late', newEvents(1), { expectedRevision: 'any' }));
        },
      });
      await Promise.all(late);
      expect(late).to.not.be.empty;
      expect(count).to.equal(before.length);
      const target = await open('target');
      await imported(target);
      expect(await readAll(target)).to.deep.equal(before);
    });
  });

  describe('again', () => {
    it('compares what is there and appends nothing', async () => {
      await fill(source, 50);
      const { count } = await exported();
      const target = await open('target');
      await imported(target);
      expect(await imported(target)).to.include({ held: count, count });
      expect(await target.head()).to.equal(String(count));
    });

    it('goes on where an import was killed, over and over', async () => {
      for (let n = 0; n < 10; n += 1) await fill(source, 600);
      const { count } = await exported();
      const program = join(folder, 'import.mjs');
      writeFileSync(
        program,
        `import { openSqliteEventStore } from '${new URL('./sqlite.ts', import.meta.url)}';
        import { importLog } from '${new URL('./transfer.ts', import.meta.url)}';
        const store = await openSqliteEventStore({ directory: ${JSON.stringify(join(folder, 'target'))} });
        let said = 0;
        const { held } = await importLog({
          store,
          file: ${JSON.stringify(file)},
          onProgress: (phase) => { if (phase === 'importing') process.send(said++); },
        });
        process.send({ held });
        process.disconnect();
        await store.close();`,
      );
      const held: number[] = [];
      for (let round = 0; held.length === 0; round += 1) {
        const child = fork(program, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
        const enough = round < 4 ? 1 + Math.floor(Math.random() * 600) : Number.POSITIVE_INFINITY;
        child.on('message', (message: number | { held: number }) => {
          if (typeof message !== 'number') held.push(message.held);
          else if (message === enough) child.kill('SIGKILL');
        });
        const [code] = await once(child, 'exit');
        expect(code).to.equal(round < 4 ? null : 0);
      }
      expect(held[0]).to.be.within(1, count - 1);
      expect(await readAll(await open('target'))).to.deep.equal(await readAll(source));
    });

    it('goes on after an append that failed, which let none of those behind it through', async () => {
      await fill(source, 300);
      const { count } = await exported();
      const target = await open('target');
      let appends = 0;
      const failing: EventStore = {
        ...target,
        append: (...given) =>
          ++appends === 100
            ? Promise.reject(new StoreUnavailable('the disk is full'))
            : target.append(...given),
      };
      const error = await rejection(importLog({ store: failing, file, onProgress }));
      expect(error).to.be.instanceOf(StoreUnavailable).and.have.property('message', 'the disk is full');
      expect(appends).to.be.above(101);
      const arrived = await readAll(target);
      expect(arrived).to.deep.equal((await readAll(source)).slice(0, arrived.length));
      expect(await imported(target)).to.include({ held: arrived.length, count });
    });
  });

  describe('is refused', () => {
    it('by a log that holds other events, which it names', async () => {
      await fill(source, 3);
      await exported();
      const target = await open('target');
      const { events } = await target.append('other', newEvents(1), { expectedRevision: 'any' });
      const error = await rejection(imported(target));
      expect(error).to.be.instanceOf(OtherLog);
      const [first] = await readAll(source);
      expect(error.message).to.equal(
        `the log holds other events than ${file}: at position 1 it has Tested ${events[0]!.id} (revision 0 of other), ` +
          `where line 2 has Tested ${first!.id} (revision 0 of stream-0). ` +
          'Import to an empty log, or to one that an import of this file began',
      );
      expect(await target.head()).to.equal('1');
    });

    it('by a log that holds the same event with other data, or more events than the file', async () => {
      const event = newEvent({ data: 'before' });
      await source.append('s', [event], { expectedRevision: 'any' });
      await exported();
      const [{ time }] = (await readAll(source)) as [EventEnvelope];
      const target = await open('target');
      await target.append('s', [{ ...event, data: 'after' }], {
        expectedRevision: 'any',
        imported: { times: [time], previous: null },
      });
      expect((await rejection(imported(target))).message).to.match(/other events.*not the same in all/);

      const more = await open('more');
      await imported(more);
      await more.append('s', newEvents(1), { expectedRevision: 0 });
      expect((await rejection(imported(more))).message).to.match(/more than .*: at position 2 it has Tested/);
    });

    it('when somebody else appends meanwhile', async () => {
      for (let n = 0; n < 4; n += 1) await fill(source, 1_000);
      await exported();
      const target = await open('target');
      let intrusion: Promise<unknown> | undefined;
      const intruding = (phase: Phase): void => {
        if (phase === 'importing')
          intrusion ??= target.append('s', newEvents(1), { expectedRevision: 'any' });
      };
      const error = await rejection(importLog({ store: target, file, onProgress: intruding }));
      await intrusion;
      expect(error)
        .to.be.instanceOf(OtherLog)
        .and.have.property('message')
        .that.matches(/somebody else appends/);
    });

    it('when the log does not hold in the end what it was given', async () => {
      await fill(source, 5);
      await exported();
      const target = await open('target');
      const forgetful: EventStore = {
        ...target,
        append: (stream, events, { expectedRevision }) => target.append(stream, events, { expectedRevision }),
      };
      const error = await rejection(importLog({ store: forgetful, file, onProgress }));
      expect(error.message).to.match(/the log does not hold what the file does: 9 events with digest/);
    });

    it('where a file of that name exists', async () => {
      await exported();
      expect((await rejection(exported())).message).to.equal(
        `${file} exists already: remove it, or choose another name`,
      );
    });
  });

  it('leaves no file when the log cannot be read to its end', async () => {
    const broken = {
      ...source,
      async *readAll(): ReturnType<EventStore['readAll']> {
        yield { events: [], position: START, caughtUp: false };
        throw new StoreUnavailable('gone');
      },
    };
    const about = { version: VERSION, source: '', expected: null };
    const error = await rejection(exportLog({ ...about, store: broken, file, onProgress }));
    expect(error).to.be.instanceOf(StoreUnavailable);
    expect(await readdir(folder)).to.deep.equal(['source']);
  });

  describe('with a file that is not whole', () => {
    type Damage = (lines: string[]) => string[];
    const cases: [string, Damage, number, RegExp][] = [
      ['is empty', () => [], 1, /is empty/],
      ['is another file', () => ['{"some":"json"}', ''], 1, /no file that odeon export wrote/],
      ['is not even text', () => ['\u0000\u0001', ''], 1, /no file that odeon export wrote/],
      ['has no end', (lines) => [...lines.slice(0, -2), ''], 10, /ends here, without its last line/],
      [
        'ends in the midst of an event',
        (lines) => [...lines.slice(0, 5), lines[5]!.slice(0, 50)],
        6,
        /midst/,
      ],
      [
        'ends in the midst of its end',
        (lines) => [...lines.slice(0, -2), lines.at(-2)!.slice(0, -1)],
        11,
        /midst/,
      ],
      ['ends with nothing but its header', (lines) => [lines[0]!, ''], 1, /without its last line/],
      [
        'has other data in an event',
        (lines) => lines.with(3, lines[3]!.replace('happened', 'happenes')),
        4,
        /checksum/,
      ],
      ['has another position', (lines) => lines.with(3, lines[3]!.replace('"3"', '"4"')), 4, /checksum/],
      [
        'has another checksum',
        (lines) => lines.with(3, lines[3]!.replace(/.{9}$/, '0000000"}')),
        4,
        /checksum/,
      ],
      ['lacks an event', (lines) => lines.toSpliced(4, 1), 5, /checksum/],
      ['has an event twice', (lines) => lines.toSpliced(4, 0, lines[4]!), 6, /checksum/],
      [
        'has two events in the wrong order',
        (lines) => lines.with(4, lines[5]!).with(5, lines[4]!),
        5,
        /checksum/,
      ],
      ['lacks the last event', (lines) => lines.toSpliced(-3, 1), 10, /should have 9 events, but has 8/],
      [
        'has an event that is none',
        (lines) => lines.with(4, 'something'),
        5,
        /no event: the line was changed/,
      ],
      ['has an empty line', (lines) => lines.toSpliced(4, 0, ''), 5, /no event/],
      [
        'has another digest',
        (lines) => lines.with(-2, lines.at(-2)!.replace(/.{10}"}$/, '0123456789"}')),
        11,
        /digest/,
      ],
      ['goes on after its end', (lines) => [...lines.slice(0, -1), lines[1]!, ''], 12, /after the end/],
      ['has the end twice', (lines) => [...lines.slice(0, -1), lines.at(-2)!, ''], 12, /after the end/],
    ];
    for (const [what, damage, line, reason] of cases) {
      it(`that ${what}, names the line and appends nothing`, async () => {
        for (let n = 0; n < 9; n += 1) {
          await source.append(`s-${n % 2}`, newEvents(1), { expectedRevision: 'any' });
        }
        await exported();
        writeFileSync(file, damage(readFileSync(file, 'utf8').split('\n')).join('\n'));
        const target = await open('target');
        const error = await rejection(imported(target));
        expect(error).to.be.instanceOf(DamagedLogFile);
        expect(error.message).to.match(reason);
        expect(error.message).to.satisfy(
          (text: string) => text.startsWith(`${file}, line ${line}: `),
          error.message,
        );
        expect(await target.head()).to.equal(START);
      });
    }

    it('notices each byte that is changed', async () => {
      await source.append('s', newEvents(1), { expectedRevision: 'any' });
      await exported();
      const bytes = readFileSync(file);
      const begin = bytes.indexOf(10) + 1;
      for (let at = begin; at < bytes.length; at += 1) {
        const changed = Buffer.from(bytes);
        changed[at] = changed[at]! ^ 1;
        writeFileSync(file, changed);
        expect(await rejection(checkLogFile(file, onProgress)), `byte ${at}`).to.be.instanceOf(
          DamagedLogFile,
        );
      }
    });

    const promises: [string, (events: EventEnvelope[]) => EventEnvelope[], RegExp][] = [
      [
        'positions that do not grow',
        ([a, b]) => [a!, { ...b!, position: '1' }],
        /line 3: position 1 after 1/,
      ],
      [
        'a time that goes back',
        ([a, b]) => [a!, { ...b!, time: '2000-01-01T00:00:00.000Z' }],
        /line 3: .*goes back/,
      ],
      ['a revision too many', ([a, b]) => [a!, { ...b!, revision: 2 }], /line 3: .* revision 1, not 2/],
      ['a stream without its beginning', ([, b]) => [b!], /line 2: stream s goes on with revision 0, not 1/],
      [
        'an envelope with a field of another kind',
        ([a]) => [{ ...a!, owner: 1 as never }],
        /line 2: .*owner/s,
      ],
    ];
    for (const [what, change, reason] of promises) {
      it(`refuses ${what}, even when the sums are right`, async () => {
        await source.append('s', newEvents(2), { expectedRevision: 'any' });
        const events = await readAll(source);
        const writer = await writeLogFile(file, { version: VERSION, source: '', created: '', head: '2' });
        await writer.write(change(events));
        await writer.finish();
        expect((await rejection(imported(await open('target')))).message).to.match(reason);
      });
    }
  });

  describe('from a directory that is in use', () => {
    it('reads what is committed, holds nobody up, and needs no lock', async () => {
      await fill(source, 100);
      const directory = join(folder, 'source');
      const log = await readSqliteLog(directory);
      const before = await readAll(source);
      await fill(source, 10);
      expect(log.events).to.equal(before.length);
      expect(await log.head()).to.equal(String(before.length));
      expect(await readAll(log)).to.deep.equal(before);
      await log.close();
    });

    it('reads what a process that was killed left behind', async () => {
      await fill(source, 20);
      const copy = join(folder, 'copy');
      await (await open('copy')).close();
      for (const name of ['log.db', 'log.db-wal'])
        copyFileSync(join(folder, 'source', name), join(copy, name));
      const log = await readSqliteLog(copy);
      expect(await readAll(log)).to.deep.equal(await readAll(source));
      await log.close();
      const again = await open('copy');
      await again.append('s', newEvents(1), { expectedRevision: 'no stream' });
    });

    it('says when there is no log, or none of ours', async () => {
      const nothing = join(folder, 'nothing');
      expect((await rejection(readSqliteLog(nothing))).message).to.equal(`there is no log.db in ${nothing}`);
      await (await open('other')).close();
      writeFileSync(join(folder, 'other', 'log.db'), 'x'.repeat(10_000));
      expect(await rejection(readSqliteLog(join(folder, 'other')))).to.be.instanceOf(StoreUnavailable);
    });
  });
});

async function readAll(store: Pick<EventStore, 'readAll'>): Promise<EventEnvelope[]> {
  const events: EventEnvelope[] = [];
  for await (const page of store.readAll()) events.push(...page.events);
  return events;
}

const rejection = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => new Error('nothing was refused'),
    (error: Error) => error,
  );
