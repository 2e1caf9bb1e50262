/** How the machine is doing: processor, memory, the disk that holds the data, network. */
import { readFile, statfs } from 'node:fs/promises';
import os from 'node:os';
import type { SystemMetrics } from '../../contracts/http/luna.ts';

/** Measuring over less says more about chance than about load. */
const MIN_WINDOW_MS = 250;
const GIGABYTE = 2 ** 30;
const MEGABYTE = 2 ** 20;

const round = (value: number, digits: number): number => Math.round(value * 10 ** digits) / 10 ** digits;
const percent = (part: number, whole: number): number => (whole > 0 ? round((part / whole) * 100, 1) : 0);

/** Returns the function that reads them. `directory`: anywhere on the disk that is meant. */
export function createMachine(directory: string): () => Promise<SystemMetrics> {
  const busyPercent = processorLoad();
  return async () => {
    const cpus = os.cpus();
    const [disk, network] = await Promise.all([statfs(directory), networkTraffic()]);
    const memory = os.totalmem();
    const memoryUsed = memory - os.freemem();
    const diskUsed = (disk.blocks - disk.bfree) * disk.bsize;
    // What is kept for the superuser is not free, as df counts.
    const diskFree = disk.bavail * disk.bsize;
    return {
      cpu: {
        percent: busyPercent(),
        cores: cpus.length,
        model: cpus[0]?.model ?? '',
        loadAvg: os.loadavg().map((load) => round(load, 2)),
      },
      memory: space(memoryUsed, os.freemem()),
      disk: space(diskUsed, diskFree),
      network,
      uptime: Math.floor(os.uptime()),
    };
  };
}

const space = (used: number, free: number): SystemMetrics['disk'] => ({
  percent: percent(used, used + free),
  total: round((used + free) / GIGABYTE, 2),
  used: round(used / GIGABYTE, 2),
  free: round(free / GIGABYTE, 2),
});

/** The share of time that the processors were busy between one reading and the next. */
function processorLoad(): () => number {
  const read = () => {
    let idle = 0;
    let total = 0;
    for (const { times } of os.cpus()) {
      idle += times.idle;
      total += times.user + times.nice + times.sys + times.idle + times.irq;
    }
    return { idle, total, atMs: performance.now() };
  };
  let before = { idle: 0, total: 0, atMs: Number.NEGATIVE_INFINITY };
  let last = 0;
  return () => {
    const now = read();
    if (now.atMs - before.atMs >= MIN_WINDOW_MS && now.total > before.total) {
      last = 100 - percent(now.idle - before.idle, now.total - before.total);
      before = now;
    }
    return round(last, 1);
  };
}

/** What all interfaces but the loopback have carried, as Linux tells it. */
async function networkTraffic(): Promise<SystemMetrics['network']> {
  if (process.platform !== 'linux') return null;
  let rx = 0;
  let tx = 0;
  for (const line of (await readFile('/proc/net/dev', 'utf8')).split('\n')) {
    const [name, counters] = line.split(':');
    if (counters === undefined || name?.trim() === 'lo') continue;
    const numbers = counters.trim().split(/\s+/).map(Number);
    rx += numbers[0] ?? 0;
    tx += numbers[8] ?? 0;
  }
  return { rx: round(rx / MEGABYTE, 2), tx: round(tx / MEGABYTE, 2) };
}
