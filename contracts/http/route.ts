/**
 * Routes are data: validation, authorisation, error rendering, API documents and the routes × roles test all
 * read the same table.
 */
import type { z } from 'zod';
import type { Role } from '../events/identity.ts';

/** Whose naming, envelope and error body a route speaks. Operators' routes (`odeon`) speak Luna's. */
export type RouteSurface = 'luna' | 'trinity' | 'agent-chat' | 'zerg' | 'odeon';

export const permissions = [
  'chat:read',
  'chat:write',
  'keys:manage',
  'log:read',
  'users:manage',
  'projections:manage',
  /** Makes agents and links to them. Using one takes chat:write. */
  'agents:manage',
  /** Starts and stops what this deployment consists of. */
  'services:manage',
  /** Sees what belongs to others. */
  'all:read',
] as const;
export type Permission = (typeof permissions)[number];

export const rolePermissions: Readonly<Record<Role, readonly Permission[]>> = {
  user: ['chat:read', 'chat:write', 'keys:manage', 'agents:manage'],
  auditor: ['chat:read', 'log:read', 'all:read'],
  admin: permissions,
};

/**
 * Who may call: anybody, anybody who is logged in, or whoever holds the permission (of several: any one). `service`:
 * another process of this deployment, and no user or API key, whatever they hold; to them there is no such route.
 */
export type Access = 'public' | 'authenticated' | 'service' | Permission | readonly Permission[];

/** Whether a user or API key with these permissions may call. */
export function admits(access: Access, held: ReadonlySet<Permission>): boolean {
  if (access === 'public' || access === 'authenticated') return true;
  if (access === 'service') return false;
  return typeof access === 'string' ? held.has(access) : access.some((permission) => held.has(permission));
}

export interface RouteContract<
  Params extends z.ZodType = z.ZodType,
  Query extends z.ZodType = z.ZodType,
  Body extends z.ZodType = z.ZodType,
> {
  readonly surface: RouteSurface;
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** With `:name` parameters. */
  readonly path: string;
  readonly summary: string;
  readonly access: Access;
  readonly params?: Params;
  readonly query?: Query;
  readonly body?: Body;
  /** How the body is written. Default: JSON. `form`: application/x-www-form-urlencoded, or JSON. */
  readonly bodyType?: 'json' | 'form';
  /**
   * Served where it is read though its method is not GET: a search whose question is in the body; GraphQL, whose
   * mutations are passed on as commands.
   */
  readonly reads?: true;
  /**
   * `openai`: its clients read `error.message`, `error.type`, `error.param` and `error.code`. `graphql`: they read
   * `errors`, of which each has a `message` and `extensions.code`.
   */
  readonly errors?: 'openai' | 'graphql';
  /** Which of the rate limits counts it; without one, none does. */
  readonly rateLimit?: RateLimitClass;
  /** For the API document: a request and its answer as they really were. */
  readonly example?: {
    readonly params?: object;
    readonly query?: object;
    readonly body?: unknown;
    readonly answer?: unknown;
  };
  /** Media types in which a 200 may come as a stream, beside JSON (or, for `stream`, only so: default server-sent events). */
  readonly streams?: readonly string[];
  /** Status → schema of the body; `stream` for server-sent events or another text stream. */
  readonly answers: Readonly<Record<number, z.ZodType | 'stream' | 'empty'>>;
  /**
   * How a command route answers a repeated Idempotency-Key: with the stored first answer, or (for answers that
   * are streams or hold a secret, which are not stored) by running again over the recorded events.
   */
  readonly repeat?: 'stored' | 'derived';
  /** The path parameter within whose value an Idempotency-Key counts: elsewhere the same key is another one. */
  readonly keyScope?: string;
}

/** Limits on requests are by class: see RATE_LIMIT_PER_MINUTE and its finer ones. */
export type RateLimitClass = 'default' | 'chat' | 'search';

export const isCommand = (route: RouteContract): boolean => route.method !== 'GET' && route.reads !== true;

/** Declares a route, keeping the types of its schemas. */
export const route = <
  const Params extends z.ZodType = z.ZodUnknown,
  const Query extends z.ZodType = z.ZodUnknown,
  const Body extends z.ZodType = z.ZodUnknown,
>(
  contract: RouteContract<Params, Query, Body>,
): RouteContract<Params, Query, Body> => contract;
