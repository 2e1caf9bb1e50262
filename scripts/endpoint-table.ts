/** The README's table of endpoints, made from the route table. */
import { routes } from '../contracts/http/all.ts';
import type { RouteContract, RouteSurface } from '../contracts/http/route.ts';

const titles: readonly (readonly [RouteSurface, string])[] = [
  ['luna', 'Luna Chat'],
  ['trinity', 'Trinity'],
  ['agent-chat', 'Agent Chat'],
  ['zerg', 'ZERG'],
  ['odeon', 'For operators'],
];

const accessOf = ({ access }: RouteContract): string => {
  if (access === 'public') return 'anybody';
  if (access === 'authenticated') return 'who is logged in';
  return [access]
    .flat()
    .map((permission) => `\`${permission}\``)
    .join(' or ');
};

const byPath = (a: RouteContract, b: RouteContract): number =>
  a.path < b.path ? -1 : a.path > b.path ? 1 : 0;

const tableOf = (surface: RouteSurface, title: string): string => {
  const rows = routes
    .filter((route) => route.surface === surface && route.access !== 'service')
    .sort(byPath)
    .map(
      (route) =>
        `| \`${route.method} ${route.path}\` | ${accessOf(route)} | ${route.summary.replace(/\|/g, '\\|')} |`,
    );
  return [`| ${title} | who may | |`, '| --- | --- | --- |', ...rows].join('\n');
};

export const endpointTables = (): string =>
  titles.map(([surface, title]) => tableOf(surface, title)).join('\n\n');
