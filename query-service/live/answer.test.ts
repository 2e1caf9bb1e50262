import { expect } from 'chai';
import fc from 'fast-check';
import { type Step, seeded, turnScript } from '../../test/live-scenario.ts';
import {
  type Answer,
  type ConversationEvent,
  evolve,
  NO_ANSWER,
  type Reader,
  readerOf,
  type Shown,
  show,
  upToDate,
} from './answer.ts';
import { BEGINNING, type Cursor, fnv1a, formatCursor, parseCursor } from './cursor.ts';
import { createRunningTexts, type RunningTexts } from './running-texts.ts';

const CONVERSATION = 'c0ffeec0ffee';
const STREAM = `conversation-${CONVERSATION}`;

/** What a client makes of what it is shown. */
interface Screen {
  text: string;
  turnId: string | null;
  readonly events: string[];
  cursor: Cursor;
}

function look(screen: Screen, { item, cursor }: Shown): void {
  if (item.kind === 'content') screen.text += item.text;
  if (item.kind === 'restarted') screen.text = '';
  if (item.kind === 'event') {
    if (item.event.type === 'TurnStarted' && item.event.data.turnId !== screen.turnId) {
      screen.text = '';
      screen.turnId = item.event.data.turnId;
    }
    screen.events.push(`${item.event.position} ${item.event.type}`);
  }
  // As it travels.
  screen.cursor = parseCursor(formatCursor(cursor));
}

/** The server's side of a connection: the log so far, the signals it knows of, and what it has sent. */
class Server {
  readonly log: ConversationEvent[] = [];
  texts: RunningTexts = createRunningTexts();

  apply(step: Step): ConversationEvent | null {
    if (step.kind !== 'event') {
      const call = this.log.findLast((event) => event.type === 'ModelCalled')!;
      const { kind, offset, text } = step;
      this.texts.take(
        {
          kind,
          offset,
          text,
          owner: 'ada',
          conversationId: CONVERSATION,
          turnId: call.data.turnId,
          call: call.position,
        },
        this.log.at(-1)!.position,
      );
      return null;
    }
    const event = {
      type: step.type,
      data: step.data,
      stream: STREAM,
      revision: this.log.length,
      position: String(this.log.length * 3 + 7),
    } as unknown as ConversationEvent;
    this.log.push(event);
    this.texts.follow(event);
    return event;
  }

  connect(cursor: Cursor): Connection {
    return new Connection(this, cursor);
  }
}

class Connection {
  private answer: Answer = NO_ANSWER;
  private reader: Reader;
  private readonly server: Server;
  readonly sent: Shown[] = [];

  constructor(server: Server, cursor: Cursor) {
    this.server = server;
    const read = server.log.filter((event) => Number(event.position) <= Number(cursor.position));
    for (const event of read) this.answer = evolve(this.answer, event);
    this.reader = cursor.read === null ? upToDate(this.answer) : readerOf(cursor.read);
    for (const event of server.log.slice(read.length)) this.next(event, false);
    this.next(null);
  }

  next(event: ConversationEvent | null, live = true): void {
    if (event !== null) this.answer = evolve(this.answer, event);
    const running = live ? this.server.texts.of(STREAM) : null;
    const { shown, reader } = show(this.answer, this.reader, event, running);
    this.sent.push(...shown);
    this.reader = reader;
  }
}

describe('an answer as it is shown', () => {
  it('is complete and shown once, wherever its reader is cut off and whatever crashes', () =>
    fc.assert(
      fc.property(
        fc.nat(),
        fc.integer({ min: 1, max: 3 }),
        fc.constantFrom(0, 0.05, 0.3),
        (seed, turns, cutting) => {
          const random = seeded(seed);
          const server = new Server();
          const screen: Screen = { text: '', turnId: null, events: [], cursor: BEGINNING };
          let connection = server.connect(screen.cursor);
          let read = 0;
          for (let turn = 0; turn < turns; turn++) {
            const { steps, content } = turnScript(random, String(turn));
            for (const step of steps) {
              connection.next(server.apply(step));
              // The reader takes some of what was sent, is cut off, and comes again, perhaps much later.
              const take = read + Math.floor(random() * (connection.sent.length - read + 1));
              while (read < take) look(screen, connection.sent[read++]!);
              if (random() < 0.02) server.texts = createRunningTexts();
              if (random() < cutting) {
                connection = server.connect(screen.cursor);
                read = 0;
              }
            }
            while (read < connection.sent.length) look(screen, connection.sent[read++]!);
            expect(screen.text).to.equal(content);
          }
          expect(screen.events).to.deep.equal(server.log.map((event) => `${event.position} ${event.type}`));
        },
      ),
      { numRuns: 3_000 },
    ));

  /** One call after a crash in mid-call, seen by a reader that saw the first attempt's text. */
  function afterCrash(first: string, second: string): Shown[] {
    const server = new Server();
    const connection = server.connect(BEGINNING);
    const { steps } = turnScript(seeded(1), '1');
    const started = steps.slice(0, 3);
    const called: Step = { kind: 'event', type: 'ModelCalled', data: { turnId: 'turn_1', callId: 'c' } };
    const again: Step = {
      kind: 'event',
      type: 'TurnStarted',
      data: { turnId: 'turn_1', attempt: 2, worker: 'w2' },
    };
    for (const step of [...started, called]) connection.next(server.apply(step));
    connection.next(server.apply({ kind: 'text', offset: 0, text: first }));
    for (const step of [again, called]) connection.next(server.apply(step));
    connection.sent.length = 0;
    for (let offset = 0; offset < second.length; offset++) {
      connection.next(server.apply({ kind: 'text', offset, text: second[offset]! }));
    }
    return connection.sent;
  }
  const brief = ({ item }: Shown) => (item.kind === 'content' ? item.text : item.kind);

  it('goes on after a crash without repeating what is said again', () => {
    expect(afterCrash('Once upon', 'Once upon a').map(brief)).to.deep.equal([' ', 'a']);
  });

  it('begins anew after a crash when something else is said', () => {
    expect(afterCrash('Once upon', 'Twice upon').map(brief)).to.deep.equal(['restarted', 'Twice upo', 'n']);
  });

  it('waits with comparing until as much has been said again', () => {
    expect(afterCrash('Once upon', 'Once up').map(brief)).to.deep.equal([]);
  });

  it('cuts long texts into pieces, never within a character', () => {
    const server = new Server();
    const connection = server.connect(BEGINNING);
    const { steps } = turnScript(seeded(1), '1');
    const called: Step = { kind: 'event', type: 'ModelCalled', data: { turnId: 'turn_1', callId: 'c' } };
    for (const step of [...steps.slice(0, 3), called]) connection.next(server.apply(step));
    connection.sent.length = 0;
    const text = `x${'🙂'.repeat(30_000)}`;
    connection.next(server.apply({ kind: 'text', offset: 0, text }));
    const pieces = connection.sent.map(brief);
    expect(pieces.join('')).to.equal(text);
    expect(pieces.every((piece) => piece.isWellFormed() && piece.length <= 16_384)).to.equal(true);
  });
});

describe('a cursor', () => {
  it('is the same after it has travelled as a frame id', () =>
    fc.assert(
      fc.property(
        fc.nat().map(String),
        fc.option(fc.record({ length: fc.nat(999_999), hash: fc.nat(0xffffffff), reasoning: fc.nat(999) })),
        (position, read) => {
          expect(parseCursor(formatCursor({ position, read }))).to.deep.equal({ position, read });
        },
      ),
    ));

  it('holds a hash that can be continued piece by piece', () =>
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (a, b) => {
        expect(fnv1a(b, fnv1a(a))).to.equal(fnv1a(a + b));
        expect(fnv1a(a + b, undefined, a.length)).to.equal(fnv1a(a));
      }),
    ));
});
