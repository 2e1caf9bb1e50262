/** What waits for one connection of Engine.IO, and the sinks of its subscriptions, which share it. */
import type { Socket } from 'engine.io';
import * as ws from 'ws';
import type { Sink } from '../sink.ts';

export interface Outbox {
  /** @param packets as `packet` writes them */
  write(packets: readonly Buffer[]): void;
  /** How many packets wait, acknowledgements included. */
  unread(): number;
  /** A sink for a subscription; when it is destroyed, so is the connection. */
  sink(): SubscriptionSink;
}

export interface SubscriptionSink extends Sink {
  /** What is written is kept back until `release`, which leaves out what is about the message, if it names one. */
  hold(): void;
  release(withoutMessage: string | null): void;
}

/** So much may be pending for a sink to count as drained. */
const LITTLE = 128 * 1024;
/** Answers that are left out: of those that have ended, nothing more comes. */
const MOST_LEFT_OUT = 100;
/** Where a message id stands in a packet. */
const ID_WITHIN = 160;

/** Every connection that is given the same packet is given the same frame. */
const frames = new WeakMap<Buffer, readonly Buffer[]>();
interface Sender {
  frame(data: Buffer, options: object): readonly Buffer[];
}
// Exported, and not in its types.
const { Sender } = ws as unknown as { Sender: Sender };

function frameOf(packet: Buffer): readonly Buffer[] {
  let frame = frames.get(packet);
  if (frame === undefined) {
    frame = Sender.frame(packet, { readOnly: false, mask: false, rsv1: false, opcode: 1, fin: true });
    frames.set(packet, frame);
  }
  return frame;
}

/** Ends the connection without the other side, which may be gone. */
export function cut(connection: Socket): void {
  const { socket } = connection.transport as { socket?: ws.WebSocket };
  connection.close(true);
  socket?.terminate();
}

export function createOutbox(connection: Socket): Outbox {
  let pending = 0;
  let taken = 0;
  const waiting = new Set<() => void>();
  const isOpen = () => connection.readyState === 'open';
  const wake = () => {
    if (isOpen() && pending >= LITTLE) return;
    for (const resolve of waiting) resolve();
    waiting.clear();
  };
  connection.once('close', wake);

  function write(packets: readonly Buffer[]): void {
    for (const packet of packets) {
      if (!isOpen()) return;
      const { length } = packet;
      pending += length;
      // Engine.IO writes its own `4` before what is no ready frame; once on WebSocket, it never leaves it.
      const onWebSocket = connection.transport.name === 'websocket' && !connection.upgrading;
      const text = onWebSocket ? '' : packet.toString('utf8', 1);
      const options = { compress: false, wsPreEncodedFrame: frameOf(packet) };
      connection.write(text, options as object, () => {
        pending -= length;
        taken += length;
        wake();
      });
    }
  }

  return {
    write,
    // Engine.IO bounds nothing itself, and tells nobody else.
    unread: () => (connection as unknown as { writeBuffer: readonly unknown[] }).writeBuffer.length,
    sink() {
      const listeners: (() => void)[] = [];
      const leftOut = new Set<string>();
      let held: Buffer[] | null = null;
      let heldBytes = 0;
      let closed = false;

      function close(): void {
        if (closed) return;
        closed = true;
        held = null;
        connection.off('close', close);
        for (const listener of listeners) listener();
        wake();
      }
      connection.once('close', close);

      const isWanted = (packet: Buffer): boolean => {
        if (leftOut.size === 0) return true;
        const head = packet.subarray(0, ID_WITHIN);
        for (const id of leftOut) if (head.includes(`"message_id":"${id}"`)) return false;
        return true;
      };

      return {
        write(packets) {
          if (closed) return;
          if (held === null) return write(leftOut.size === 0 ? packets : packets.filter(isWanted));
          held.push(...packets);
          for (const { length } of packets) heldBytes += length;
        },
        hold() {
          held ??= [];
        },
        release(withoutMessage) {
          if (withoutMessage !== null) {
            leftOut.add(withoutMessage);
            if (leftOut.size > MOST_LEFT_OUT) leftOut.delete(leftOut.values().next().value!);
          }
          const packets = held ?? [];
          held = null;
          heldBytes = 0;
          if (!closed) write(packets.filter(isWanted));
        },
        pending: () => pending + heldBytes,
        taken: () => taken,
        drained: () =>
          new Promise((resolve) => {
            if (closed) return resolve();
            waiting.add(resolve);
            wake();
          }),
        end: close,
        destroy: () => cut(connection),
        onClose(listener) {
          if (closed || !isOpen()) queueMicrotask(listener);
          else listeners.push(listener);
        },
      };
    },
  };
}
