/** Live feeds as async iterables of objects, which read on only as fast as they are iterated. */
import type { Caller } from '../../contracts/caller.ts';
import { Refusal } from '../../contracts/errors.ts';
import { type Feed, resyncOf, type Start, type Transport } from '../live/feed.ts';
import type { Hub } from '../live/hub.ts';
import type { Logins } from '../live/logins.ts';
import type { Sink } from '../live/sink.ts';

/** Frames as JSON of their data and `seq`; written once for all subscribers, and parsed once. */
export const graphql: Transport = {
  name: 'graphql',
  joins: false,
  encode: ({ id, data }) => JSON.stringify(id === null ? data : { ...(data as object), seq: id }),
};

const parsed = new WeakMap<Buffer, object>();
function objectOf(frame: Buffer): object {
  let object = parsed.get(frame);
  if (object === undefined) {
    object = JSON.parse(String(frame)) as object;
    parsed.set(frame, object);
  }
  return object;
}

/** So much may wait for a subscriber to count as drained. */
const LITTLE = 128 * 1024;

export interface SubscribeOptions {
  readonly hub: Hub;
  readonly logins: Logins;
  /** For the metrics: called when the subscription has ended. */
  readonly left: () => void;
}

/**
 * The feed from `start` on, until either side ends it. Ends with Refusal UNAUTHORIZED when the login no longer
 * holds, and with SERVICE_UNAVAILABLE when too much waits for too long.
 */
export function iterate(
  feed: Feed,
  start: Start,
  login: { readonly caller: Caller; readonly may: (caller: Caller) => boolean },
  { hub, logins, left }: SubscribeOptions,
): AsyncIterableIterator<object> {
  let queue: Buffer[] = [];
  let next = 0;
  let pending = 0;
  let taken = 0;
  let failure: Refusal | null = null;
  let closed = false;
  /** Who waits for an object. */
  const readers: { resolve: (result: IteratorResult<object>) => void; reject: (error: unknown) => void }[] =
    [];
  const waiting = new Set<() => void>();
  const listeners: (() => void)[] = [];

  function take(): Buffer | undefined {
    const frame = queue[next];
    if (frame === undefined) return undefined;
    next++;
    if (next === queue.length) {
      queue = [];
      next = 0;
    }
    pending -= frame.length;
    taken += frame.length;
    if (pending < LITTLE) wake();
    return frame;
  }
  function wake(): void {
    for (const resolve of waiting) resolve();
    waiting.clear();
  }
  /** What waits is still read, unless `dropped`. */
  function close(error: Refusal | null, dropped: boolean): void {
    if (closed) return;
    closed = true;
    failure = error;
    if (dropped) {
      queue = [];
      next = 0;
    }
    watched.forget();
    left();
    for (const listener of listeners) listener();
    wake();
    for (const reader of readers.splice(0)) {
      if (failure === null) reader.resolve({ done: true, value: undefined });
      else reader.reject(failure);
    }
  }

  const sink: Sink = {
    write(frames) {
      if (closed) return;
      for (const frame of frames) {
        const reader = readers.shift();
        if (reader !== undefined) {
          taken += frame.length;
          reader.resolve({ done: false, value: objectOf(frame) });
        } else {
          queue.push(frame);
          pending += frame.length;
        }
      }
    },
    pending: () => pending,
    taken: () => taken,
    drained: () =>
      new Promise((resolve) => {
        if (closed || pending < LITTLE) resolve();
        else waiting.add(resolve);
      }),
    end: () => close(null, false),
    destroy: () =>
      close(new Refusal('SERVICE_UNAVAILABLE', 'Too much waited to be read for too long.'), true),
    onClose(listener) {
      if (closed) queueMicrotask(listener);
      else listeners.push(listener);
    },
  };
  const watched = logins.watch(login.caller, {
    may: login.may,
    end: () => close(new Refusal('UNAUTHORIZED', 'The login is no longer valid: log in again.'), true),
  });
  const resync = resyncOf(feed, start);
  if (resync !== '') sink.write([Buffer.from(resync)]);
  hub.subscribe(feed, start.cursor, sink);

  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    next() {
      const frame = take();
      if (frame !== undefined) return Promise.resolve({ done: false, value: objectOf(frame) });
      if (failure !== null) {
        const error = failure;
        failure = null;
        return Promise.reject(error);
      }
      if (closed) return Promise.resolve({ done: true, value: undefined });
      return new Promise((resolve, reject) => readers.push({ resolve, reject }));
    },
    return() {
      close(null, true);
      return Promise.resolve({ done: true, value: undefined });
    },
    throw(error: unknown) {
      close(null, true);
      return Promise.reject(error);
    },
  };
}
