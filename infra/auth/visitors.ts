/** Opens public links to whoever has one, within limits that keep a few from taking it all. */
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import { type Caller, sees } from '../../contracts/caller.ts';
import { Refusal } from '../../contracts/errors.ts';
import { rolePermissions } from '../../contracts/http/route.ts';
import type {
  AgentDocument,
  PublicLinkDocument,
  UserDocument,
} from '../../contracts/read-models/documents.ts';
import { network } from '../http/port.ts';
import type { ReadModels } from '../read-models/port.ts';
import type { LinkTokens, OpenLink, Visitors } from './port.ts';

/** In a minute. */
export interface VisitorLimits {
  readonly looksOfAddress: number;
  readonly actsOfAddress: number;
  readonly actsByLink: number;
}
const LIMITS: VisitorLimits = { looksOfAddress: 60, actsOfAddress: 30, actsByLink: 60 };
const WINDOW_SECONDS = 60;

export interface VisitorsOptions {
  readonly tokens: LinkTokens;
  readonly readModels: Pick<ReadModels, 'find' | 'get'>;
  readonly limits?: Partial<VisitorLimits>;
  readonly now?: () => number;
}

export function createVisitors(options: VisitorsOptions): Visitors {
  const { tokens, readModels, now = Date.now } = options;
  const limits = { ...LIMITS, ...options.limits };
  const looksOfAddress = limiter(limits.looksOfAddress);
  const actsOfAddress = limiter(limits.actsOfAddress);
  const actsByLink = limiter(limits.actsByLink);

  /** Reads the same whatever is wrong, so that nobody learns what by the time it takes. */
  async function open(token: string): Promise<OpenLink | null> {
    const { documents } = await readModels.find<PublicLinkDocument>('public-links', {
      where: { tokenHash: tokens.hash(token) },
      limit: 1,
    });
    const link = documents[0]?.body;
    const agent = (await readModels.get<AgentDocument>('agents', link?.agentId ?? 'none'))?.body;
    const owner = (await readModels.get<UserDocument>('users', link?.owner ?? 'none'))?.body;
    if (link === undefined || agent === undefined || owner === undefined) return null;
    const holds =
      link.enabled &&
      !owner.disabled &&
      (link.expiresAt === null || Date.parse(link.expiresAt) > now()) &&
      // Another agent may have been made under the name of one that was deleted.
      agent.createdAt <= link.createdAt;
    if (!holds) return null;
    const caller = visitorOf(link, owner);
    const mayUse = agent.shared || sees({ ...caller, permissions: permissionsOf(owner) }, agent.owner);
    return mayUse ? { link, agent, caller } : null;
  }

  return {
    async look(token, address) {
      await looksOfAddress(network(address));
      return open(token);
    },
    async act(token, address) {
      await actsOfAddress(network(address));
      const opened = await open(token);
      if (opened !== null) await actsByLink(opened.link.id);
      return opened;
    },
  };
}

const permissionsOf = ({ role }: UserDocument) => new Set(rolePermissions[role]);

const visitorOf = (link: PublicLinkDocument, owner: UserDocument): Caller => ({
  userId: owner.id,
  email: owner.email,
  displayName: owner.displayName,
  role: owner.role,
  actor: { kind: 'system', id: `link-${link.id}` },
  permissions: new Set(['chat:read', 'chat:write']),
  sessionId: null,
  expiresAtMs: null,
});

function limiter(points: number): (key: string) => Promise<void> {
  const counted = new RateLimiterMemory({ points, duration: WINDOW_SECONDS });
  return async (key) => {
    try {
      await counted.consume(key);
    } catch (rejected) {
      if (!(rejected instanceof RateLimiterRes)) throw rejected;
      throw new Refusal('RATE_LIMIT_EXCEEDED', 'Too many requests: try again later.', {
        retryAfterSeconds: Math.max(1, Math.ceil(rejected.msBeforeNext / 1_000)),
        rateLimit: { limit: points, windowSeconds: WINDOW_SECONDS },
      });
    }
  };
}
