/** Starts and stops the services of this process. Each request that changes something is recorded first. */
import { Refusal } from '../../contracts/errors.ts';
import * as contract from '../../contracts/http/services.ts';
import type { Services } from '../../contracts/services.ts';
import { type Endpoint, endpoint, type RequestContext } from '../../infra/http/port.ts';
import type { CommandBus } from '../command.ts';
import { requestStart, requestStop } from '../domain/services.ts';
import { requestMeta } from './conversations.ts';

export interface ServiceDependencies {
  readonly bus: CommandBus;
  readonly services: Services;
  /** What tells this process from others of the deployment. */
  readonly process: string;
  readonly version: string;
  /** Where this process takes connections. */
  readonly address: { readonly host: string; readonly port: number };
}

/** What serves HTTP: it is shown, and never stopped. */
const HTTP = 'http';

export function serviceEndpoints(deps: ServiceDependencies): Endpoint[] {
  const { bus, services, version, address } = deps;
  const startedAt = Date.now();

  /** @throws Refusal VALIDATION_ERROR for what this process has not */
  function known(names: readonly string[]): readonly string[] {
    const own = services.status().map(({ name }) => name);
    const at = names.findIndex((name) => !own.includes(name));
    if (at < 0) return own.filter((name) => names.includes(name));
    throw new Refusal('VALIDATION_ERROR', 'The request is not valid.', {
      issues: [
        {
          path: ['body', 'services', at],
          message: `this process has no service ${names[at]} that can be started and stopped: it has ${own.join(', ')}`,
        },
      ],
    });
  }

  /** Records what is asked for, and only then does it. */
  async function change(
    command: typeof requestStart,
    names: readonly string[],
    context: RequestContext,
    carryOut: (names: readonly string[]) => Promise<void>,
  ): Promise<void> {
    const starts = command === requestStart;
    const changed = services
      .status()
      .filter(({ name, running }) => names.includes(name) && running !== starts)
      .map(({ name }) => name);
    if (changed.length === 0) return;
    const { position } = await bus.dispatch(
      command,
      { process: deps.process, services: changed },
      requestMeta(context),
    );
    if (position !== null) context.reached(position);
    // While the projections still run: the record of their end can be read.
    if (!starts) await context.settled();
    await carryOut(changed);
  }

  return [
    endpoint(contract.startServices, async ({ body, context }) => {
      const names = body.services === undefined ? services.of(body.profile ?? 'full') : known(body.services);
      await change(requestStart, names, context, services.start);
      return {
        status: 200,
        body: { success: true, message: 'Odeon services started successfully', services: names },
      };
    }),

    endpoint(contract.stopServices, async ({ body, context }) => {
      const names = body.services === undefined ? services.of('full') : known(body.services);
      await change(requestStop, names, context, services.stop);
      return { status: 200, body: { success: true, message: 'Odeon services stopped', services: names } };
    }),

    endpoint(contract.serviceStatus, () => {
      const all = [{ name: HTTP, running: true, since: startedAt }, ...services.status()];
      const now = Date.now();
      const containers = all.map(({ name, running, since }) => {
        const seconds = Math.max(0, Math.floor((now - since) / 1_000));
        return {
          name: `odeon-${name}`,
          status: running ? `Up ${inWords(seconds)}` : `Exited (0) ${inWords(seconds)} ago`,
          ports: running ? `${address.host}:${address.port}->${address.port}/tcp` : '',
          image: `odeon:${version}`,
          state: running ? 'running' : 'exited',
          uptime_seconds: running ? seconds : 0,
        };
      });
      return { status: 200, body: { containers } };
    }),
  ];
}

const units: readonly (readonly [seconds: number, name: string])[] = [
  [365 * 24 * 3_600, 'years'],
  [30 * 24 * 3_600 * 2, 'months'],
  [7 * 24 * 3_600 * 2, 'weeks'],
  [24 * 3_600 * 2, 'days'],
  [3_600 * 2, 'hours'],
  [60 * 2, 'minutes'],
];
const lengths: Readonly<Record<string, number>> = {
  years: 365 * 24 * 3_600,
  months: 30 * 24 * 3_600,
  weeks: 7 * 24 * 3_600,
  days: 24 * 3_600,
  hours: 3_600,
  minutes: 60,
};

/** As docker says how long ago something was. */
function inWords(seconds: number): string {
  const unit = units.find(([from]) => seconds >= from)?.[1];
  if (unit !== undefined) return `${Math.floor(seconds / lengths[unit]!)} ${unit}`;
  if (seconds >= 3_600) return 'About an hour';
  if (seconds >= 60) return 'About a minute';
  if (seconds < 1) return 'Less than a second';
  return seconds === 1 ? '1 second' : `${seconds} seconds`;
}
