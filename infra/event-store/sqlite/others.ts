/** What other processes commit to the same log: taken up into the tail, within milliseconds. */
import { type FSWatcher, watch } from 'node:fs';
import type { EventEnvelope } from '../../../contracts/envelope.ts';
import { lockFile } from './lock.ts';
import { PAGE_EVENTS, type Reader } from './reader.ts';
import type { Tail } from './tail.ts';

/** In case that a process was killed between its commit and telling of it. */
const POLL_MS = 250;
/** Where the system has no more watches to give. */
const POLL_WITHOUT_WATCH_MS = 20;

export interface Others {
  /** Takes up what is committed by now. @throws StoreUnavailable when the file cannot be read */
  catchUp(): void;
  /** Takes in an event that this process committed. */
  push(event: EventEnvelope, bytes: number): void;
  close(): void;
}

/** @param reader belongs to the caller, who closes it after this */
export function followOthers(directory: string, reader: Reader, tail: Tail): Others {
  function takeUp(head: number): void {
    const page = reader.walk(undefined, 'forwards').next(tail.head, head, PAGE_EVENTS);
    if (page.after < head) {
      // Too much for one step: whoever needs it reads it from the file, page by page.
      tail.skipTo(head);
      return;
    }
    const bytes = Math.ceil(page.characters / page.events.length);
    for (const event of page.events) tail.push(event, bytes);
  }

  function catchUp(): void {
    const head = reader.head();
    if (head <= tail.head) return;
    takeUp(head);
    tail.wake();
  }

  function look(): void {
    try {
      catchUp();
    } catch (error) {
      tail.interrupt(error as Error);
    }
  }

  let looking: NodeJS.Immediate | undefined;
  /** Once for all that came at the same time, and after the writer's answers: its commits are told of too. */
  function lookSoon(): void {
    looking ??= setImmediate(() => {
      looking = undefined;
      look();
    });
  }

  let watcher: FSWatcher | undefined;
  let poll: NodeJS.Timeout;
  const pollEvery = (ms: number): void => {
    clearInterval(poll);
    poll = setInterval(look, ms).unref();
  };
  const withoutWatch = (): void => {
    watcher?.close();
    pollEvery(POLL_WITHOUT_WATCH_MS);
  };
  pollEvery(POLL_MS);
  try {
    watcher = watch(lockFile(directory), { persistent: false }, lookSoon).on('error', withoutWatch);
  } catch {
    withoutWatch();
  }

  return {
    catchUp,
    push(event, bytes) {
      const position = Number(event.position);
      if (position <= tail.head) return; // was read from the file before the writer's answer came
      if (position > tail.head + 1) {
        try {
          takeUp(position - 1);
        } catch {
          tail.skipTo(position - 1); // subscribers read it from the file, and are told why they cannot
        }
      }
      tail.push(event, bytes);
    },
    close() {
      clearInterval(poll);
      clearImmediate(looking);
      watcher?.close();
    },
  };
}
