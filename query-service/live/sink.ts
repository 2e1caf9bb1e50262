/** Where the frames of a feed go: an HTTP response, or a WebSocket. */
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { WebSocket } from 'ws';

export interface Sink {
  write(chunk: readonly Buffer[]): void;
  /** Bytes that wait in this process. */
  pending(): number;
  /** Bytes that the operating system has taken so far. */
  taken(): number;
  /** Resolves when little is pending, or the sink is closed. */
  drained(): Promise<void>;
  /** Ends it in good order, after what is pending. */
  end(): void;
  /** Ends it at once. */
  destroy(): void;
  /** Called once, however it ends. */
  onClose(listener: () => void): void;
}

/** So much may be pending for a sink to count as drained. More than any stream's high-water mark. */
const LITTLE = 128 * 1024;

/** A sink that, before it ends in good order, is given what only then can be said; null: nothing. */
export const endingWith = (sink: Sink, last: () => Promise<Buffer | null>): Sink => ({
  ...sink,
  end() {
    last().then(
      (bytes) => {
        if (bytes !== null) sink.write([bytes]);
        sink.end();
      },
      () => sink.destroy(),
    );
  },
});

export function responseSink(response: ServerResponse): Sink {
  const pending = () => response.writableLength;
  // What goes wrong with the connection closes the response, which is what counts.
  response.on('error', () => response.destroy());
  return {
    write(chunk) {
      if (response.destroyed) return;
      for (const bytes of chunk) response.write(bytes);
    },
    pending,
    taken: () => takenBy(response.socket),
    drained: () =>
      new Promise((resolve) => {
        if (response.destroyed || pending() < LITTLE) return resolve();
        const done = () => {
          response.off('drain', done).off('close', done);
          resolve();
        };
        response.on('drain', done).on('close', done);
      }),
    end: () => {
      response.end();
    },
    destroy: () => {
      response.destroy();
    },
    onClose(listener) {
      if (response.destroyed) queueMicrotask(listener);
      else response.once('close', listener);
    },
  };
}

/** Node counts what is buffered as written. */
const takenBy = (socket: Socket | null) =>
  socket === null ? 0 : socket.bytesWritten - socket.writableLength;

/** @param connection that the WebSocket runs on */
export function webSocketSink(socket: WebSocket, connection: Socket): Sink {
  const waiting = new Set<() => void>();
  const wake = () => {
    if (socket.readyState === WebSocket.OPEN && socket.bufferedAmount >= LITTLE) return;
    for (const resolve of waiting) resolve();
    waiting.clear();
  };
  socket.once('close', wake);
  return {
    write(chunk) {
      // An error of sending closes the socket, which is what counts.
      for (const message of chunk) socket.send(message, { binary: false }, wake);
    },
    pending: () => socket.bufferedAmount,
    taken: () => takenBy(connection),
    drained: () =>
      new Promise((resolve) => {
        waiting.add(resolve);
        wake();
      }),
    end: () => socket.close(1000),
    destroy: () => socket.terminate(),
    onClose(listener) {
      if (socket.readyState === WebSocket.CLOSED) queueMicrotask(listener);
      else socket.once('close', listener);
    },
  };
}
