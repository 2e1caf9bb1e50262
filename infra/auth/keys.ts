/**
 * The deployment's secrets: the RSA keys that sign tokens, and a master secret from which every other key is
 * derived. All processes of a deployment share them, in one file on a volume that all of them see (by default in
 * the data folder, which only its owner can read), or in the environment. Losing them would lock everybody out
 * (user ids and passwords depend on them), so a file that is missing or unreadable stops the start and is never
 * replaced.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  hkdfSync,
  type KeyObject,
  randomBytes,
  randomUUID,
} from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { chmod, copyFile, mkdir, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { z } from 'zod';
import { Refusal, refuse } from '../../contracts/errors.ts';
import type { JsonWebKey, SigningKeys } from './port.ts';

const MODE = 0o600;
const OTHERS = 0o077;
const MODULUS_BITS = 2048;
/** Whether another process has changed the file is looked up so often, and whenever a key is not known. */
const LOOK_EVERY_MS = 1_000;
/** The lock is held for as long as it takes to write a small file: one that stays was left by a crash. */
const LOCK_STALE_MS = 3_000;
const LOCK_WAIT_MS = 10_000;
const LOCK_POLL_MS = 20;

const keyFile = z.strictObject({
  version: z.literal(1),
  /** 32 bytes, base64url. */
  masterSecret: z.string().regex(/^[\w-]{43}$/),
  /** Oldest first; the last one signs. */
  signingKeys: z
    .array(
      z.strictObject({
        kid: z.string().min(1),
        /** PKCS #8, PEM. */
        privateKey: z.string(),
        createdAt: z.iso.datetime(),
        /** Null while it signs; afterwards, until when tokens that it signed may be valid. */
        verifiesUntil: z.iso.datetime().nullable(),
      }),
    )
    .min(1)
    .refine(
      (keys) => keys.every((key, index) => (key.verifiesUntil === null) === (index === keys.length - 1)),
      'exactly the last signing key is the current one',
    ),
});
type KeyFile = z.infer<typeof keyFile>;
type StoredKey = KeyFile['signingKeys'][number];

interface SigningKey extends StoredKey {
  readonly signWith: KeyObject;
  readonly verifyWith: KeyObject;
  readonly jwk: JsonWebKey;
}

/** A key file as it was read, ready for use. */
interface KeyRing {
  readonly file: KeyFile;
  readonly signing: readonly SigningKey[];
}

export interface Keys extends SigningKeys {
  current(): { readonly kid: string; readonly signWith: KeyObject };
  /** The public key of a token's `kid`; null when it is unknown or no longer valid. */
  verifyWith(kid: string): KeyObject | null;
  /** 32 bytes for one purpose, named by `label`. */
  secret(label: string): Buffer;
  /**
   * Says which master secret this is, and nothing about it: 32 hexadecimal digits, the same for all processes of
   * a deployment, whatever keys sign. A process that finds another one recorded was started with the wrong keys.
   */
  fingerprint(): string;
}

export interface KeysOptions {
  /** Its folder is made if need be. */
  readonly file: string;
  /** Whether the file may be made: only where there is no log yet that depends on it. */
  readonly create: boolean;
  /** A key is kept so long after its successor took over: the longest lifetime of a token. */
  readonly tokenLifetimeMs: number;
  readonly now?: () => number;
  /**
   * Told, once, of what goes wrong later: the file can be read by others and this cannot be changed, or it was
   * changed and cannot be read (the keys that are known stay in use).
   */
  readonly onProblem?: (problem: Error) => void;
}

/**
 * The keys in a file that other processes may use, too. Of several that find none at the same time, one makes it
 * and all use it; when one of them rotates the signing key, the others follow.
 * @throws Error that names the file, when it cannot be read, is damaged, or is missing and may not be made
 */
export async function openKeys({
  file: path,
  create,
  tokenLifetimeMs,
  now = Date.now,
  onProblem = (problem) => process.emitWarning(problem),
}: KeysOptions): Promise<Keys> {
  if (!(await exists(path))) {
    if (!create) {
      throw new Error(
        `${path} is missing, and the log needs it (passwords and user ids depend on it): restore it from a backup.`,
      );
    }
    await mkdir(dirname(path), { recursive: true });
    const made = await generate(now());
    await withLock(path, async (stillHeld) => {
      if (await exists(path)) return;
      await replaceFile(path, made, stillHeld);
    });
  }
  await tighten(path, onProblem);
  // What is looked at is noted before it is read: a change in between is read again.
  let seen = versionOf(path);
  let ring = parseFile(path, await readFileOf(path));
  let lookedAtMs = performance.now();
  let complaint: string | null = null;

  /** Reads the file again if it is another one than before. Small, local and rare: it may be done at once. */
  function follow(): void {
    lookedAtMs = performance.now();
    try {
      const found = versionOf(path);
      if (found !== seen) {
        const next = parseFile(path, readFileSync(path, 'utf8'));
        if (next.file.masterSecret !== ring.file.masterSecret) {
          throw new Error(`${path} was replaced by the keys of another deployment: put the file back.`);
        }
        seen = found;
        ring = next;
      }
      complaint = null;
    } catch (error) {
      const problem = error as Error;
      if (problem.message !== complaint) onProblem(problem);
      complaint = problem.message;
    }
  }
  function latest(): KeyRing {
    if (performance.now() - lookedAtMs >= LOOK_EVERY_MS) follow();
    return ring;
  }

  let rotation: Promise<unknown> = Promise.resolve();
  async function rotate(commandId: string): Promise<{ kid: string; previousKid: string | null }> {
    const kid = kidOf(commandId);
    // Made before the lock is taken, which is then held for a moment only.
    const successor = await newSigningKey(kid, now());
    try {
      return await withLock(path, async (stillHeld) => {
        const { file } = parseFile(path, await readFileOf(path));
        const rotated = successorOf(file, successor, now(), tokenLifetimeMs);
        if (rotated.file !== file) await replaceFile(path, rotated.file, stillHeld);
        follow();
        return { kid, previousKid: rotated.previousKid };
      });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'EROFS' && code !== 'EACCES' && code !== 'EPERM') throw error;
      return refuse(
        'CONFLICT',
        'The keys cannot be written from here: rotate them where their file is kept.',
      );
    }
  }

  return {
    ...keysOf(
      latest,
      () => {
        follow();
        return ring;
      },
      now,
    ),
    rotate: (commandId) => {
      const run = rotation.then(
        () => rotate(commandId),
        () => rotate(commandId),
      );
      rotation = run;
      return run;
    },
  };
}

/**
 * The keys that a deployment keeps in its environment.
 * @param text what `newKeys` made, as it is or in base64
 * @throws Error that says where the text is wrong, and never what is in it
 */
export function keysFromEnvironment(text: string, now: () => number = Date.now): Keys {
  const ring = parseText(text);
  return {
    ...keysOf(
      () => ring,
      () => ring,
      now,
    ),
    rotate: async () =>
      refuse(
        'CONFLICT',
        'The keys come from KEYS in the environment: rotate them where that is kept, and start every process again.',
      ),
  };
}

/** New keys for a deployment: a line of JSON for KEYS, or for the file. Secret. */
export const newKeys = async (now: () => number = Date.now): Promise<string> =>
  JSON.stringify(await generate(now()));

/**
 * The same keys with another one that signs from now on; those before still verify until their tokens have expired.
 * @param text what `newKeys` made, as it is or in base64
 * @throws Error as `keysFromEnvironment` does
 */
export async function rotatedKeys(
  text: string,
  tokenLifetimeMs: number,
  now: () => number = Date.now,
): Promise<string> {
  const successor = await newSigningKey(kidOf(randomUUID()), now());
  return JSON.stringify(successorOf(parseText(text).file, successor, now(), tokenLifetimeMs).file);
}

function keysOf(latest: () => KeyRing, reread: () => KeyRing, now: () => number): Omit<Keys, 'rotate'> {
  const stillVerifies = (key: StoredKey): boolean => verifies(key, now());
  const find = ({ signing }: KeyRing, kid: string) => signing.find((key) => key.kid === kid);
  const master = Buffer.from(latest().file.masterSecret, 'base64url');
  const secret = (label: string) => Buffer.from(hkdfSync('sha256', master, '', `odeon ${label}`, 32));
  return {
    current: () => latest().signing.at(-1)!,
    verifyWith(kid) {
      const key = find(latest(), kid) ?? find(reread(), kid);
      return key !== undefined && stillVerifies(key) ? key.verifyWith : null;
    },
    secret,
    fingerprint: () => secret('fingerprint of the keys').toString('hex').slice(0, 32),
    jwks: () => ({
      keys: latest()
        .signing.filter(stillVerifies)
        .map((key) => key.jwk),
    }),
  };
}

const verifies = (key: StoredKey, nowMs: number): boolean =>
  key.verifiesUntil === null || Date.parse(key.verifiesUntil) > nowMs;

const kidOf = (commandId: string): string =>
  createHash('sha256').update(`signing key\n${commandId}`).digest('base64url').slice(0, 16);

/** The file itself when it holds a key of that id already. */
function successorOf(
  file: KeyFile,
  successor: StoredKey,
  nowMs: number,
  tokenLifetimeMs: number,
): { file: KeyFile; previousKid: string | null } {
  const { signingKeys } = file;
  const made = signingKeys.findIndex(({ kid }) => kid === successor.kid);
  if (made >= 0) return { file, previousKid: signingKeys[made - 1]?.kid ?? null };
  const verifiesUntil = new Date(nowMs + tokenLifetimeMs).toISOString();
  const kept = signingKeys
    .map((key) => (key.verifiesUntil === null ? { ...key, verifiesUntil } : key))
    .filter((key) => verifies(key, nowMs));
  return {
    file: { ...file, signingKeys: [...kept, successor] },
    previousKid: signingKeys.at(-1)!.kid,
  };
}

async function generate(nowMs: number): Promise<KeyFile> {
  return {
    version: 1,
    masterSecret: randomBytes(32).toString('base64url'),
    signingKeys: [await newSigningKey(randomBytes(12).toString('base64url'), nowMs)],
  };
}

async function newSigningKey(kid: string, nowMs: number): Promise<StoredKey> {
  const { privateKey } = await promisify(generateKeyPair)('rsa', { modulusLength: MODULUS_BITS });
  return {
    kid,
    privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    createdAt: new Date(nowMs).toISOString(),
    verifiesUntil: null,
  };
}

// ── text ──────────────────────────────────────────────────────────────────
// No error has a cause here: that may quote the text, and with it a secret.

/** @throws Error */
const load = (file: KeyFile): KeyRing => ({
  file,
  signing: file.signingKeys.map((key) => {
    const signWith = createPrivateKey(key.privateKey);
    const verifyWith = createPublicKey(signWith);
    const { n, e } = verifyWith.export({ format: 'jwk' });
    if (n === undefined || e === undefined) throw new Error('not an RSA key');
    return {
      ...key,
      signWith,
      verifyWith,
      jwk: { kty: 'RSA', n, e, kid: key.kid, alg: 'RS256', use: 'sig' },
    };
  }),
});

function parseFile(path: string, text: string): KeyRing {
  try {
    return load(keyFile.parse(JSON.parse(text)));
  } catch {
    throw new Error(
      `${path} is damaged: restore it from a backup. It is not replaced, because the log needs it.`,
    );
  }
}

function parseText(text: string): KeyRing {
  const wrong = (what: string) => new Error(`KEYS is not what was made for it: ${what}.`);
  const trimmed = text.trim();
  let json: unknown;
  try {
    json = JSON.parse(trimmed.startsWith('{') ? trimmed : Buffer.from(trimmed, 'base64').toString());
  } catch {
    throw wrong('it is neither JSON nor the base64 of it');
  }
  const parsed = keyFile.safeParse(json);
  if (!parsed.success) {
    const places = parsed.error.issues.map(({ path }) => path.join('.') || 'the whole');
    throw wrong(`wrong at ${[...new Set(places)].join(', ')}`);
  }
  try {
    return load(parsed.data);
  } catch {
    throw wrong('a privateKey in it is not an RSA key in PEM');
  }
}

// ── the file ──────────────────────────────────────────────────────────────
async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw unreadable(path, error);
  }
}

async function readFileOf(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw unreadable(path, error);
  }
}

const unreadable = (path: string, error: unknown): Error =>
  new Error(`${path} cannot be read: ${(error as Error).message}`, { cause: error });

/** A backup restored with wider rights is tightened again; a secret that an orchestrator mounted may be its own. */
async function tighten(path: string, onProblem: (problem: Error) => void): Promise<void> {
  const { mode } = await stat(path);
  if ((mode & OTHERS) === 0) return;
  await chmod(path, MODE).catch((cause: Error) => {
    const rights = (mode & 0o777).toString(8);
    onProblem(
      new Error(`${path} can be read by others (${rights}), and this cannot be changed: ${cause.message}`, {
        cause,
      }),
    );
  });
}

/** Changes whenever the file does. It is opened for it: that makes network file systems ask their server. */
function versionOf(path: string): string {
  const file = openSync(path, 'r');
  try {
    const { dev, ino, size, mtimeNs } = fstatSync(file, { bigint: true });
    return `${dev} ${ino} ${size} ${mtimeNs}`;
  } finally {
    closeSync(file);
  }
}

/**
 * Replaces the file as a whole, or makes it: after a crash there is the old one or the new one.
 * @param stillHeld asked last, so that nobody else has written meanwhile
 */
async function replaceFile(path: string, file: KeyFile, stillHeld: () => Promise<void>): Promise<void> {
  const temporary = `${path}.${randomUUID()}.new`;
  try {
    const handle = await open(temporary, 'wx', MODE);
    try {
      await handle.chmod(MODE);
      await handle.writeFile(`${JSON.stringify(file, null, 2)}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await stillHeld();
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

// ── the lock ──────────────────────────────────────────────────────────────
// It asks no more of a file system (which may be one of a network) than that of several processes one can make a
// file, and that renaming is done at once.

const busy = (): Refusal =>
  new Refusal('SERVICE_UNAVAILABLE', 'The keys are being written by another process: try again.', {
    retryAfterSeconds: Math.ceil(LOCK_STALE_MS / 1_000),
  });

/**
 * Does the work while no other process does. What it gets throws once the lock is lost to another process, which
 * took this one for dead.
 * @throws Refusal SERVICE_UNAVAILABLE when others hold the lock for too long
 */
async function withLock<Result>(
  path: string,
  work: (stillHeld: () => Promise<void>) => Promise<Result>,
): Promise<Result> {
  const lock = `${path}.lock`;
  const token = randomUUID();
  const deadlineMs = performance.now() + LOCK_WAIT_MS;
  let seen: string | null = null;
  let seenSinceMs = 0;
  while (!(await makeLock(lock, token))) {
    const nowMs = performance.now();
    if (nowMs > deadlineMs) throw busy();
    const holder = await holderOf(lock);
    if (holder === null || holder !== seen) {
      seen = holder;
      seenSinceMs = nowMs;
    } else if (nowMs - seenSinceMs > LOCK_STALE_MS) {
      await breakLock(lock, holder, token);
    }
    await delay(LOCK_POLL_MS);
  }
  try {
    return await work(async () => {
      if ((await holderOf(lock)) !== token) throw busy();
    });
  } finally {
    if ((await holderOf(lock)) === token) await rm(lock);
  }
}

async function makeLock(lock: string, token: string): Promise<boolean> {
  try {
    await writeFile(lock, token, { flag: 'wx', mode: MODE });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** The token of who holds it; null when nobody does. */
async function holderOf(lock: string): Promise<string | null> {
  try {
    return await readFile(lock, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** Takes a lock away that a crash left: of several processes that try, one moves it, and none a newer one. */
async function breakLock(lock: string, holder: string, token: string): Promise<void> {
  const moved = `${lock}.${token}`;
  try {
    await rename(lock, moved);
    // Another process was quicker, and this is its own lock: it goes back.
    if ((await readFile(moved, 'utf8')) !== holder) await copyFile(moved, lock, constants.COPYFILE_EXCL);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'EEXIST') throw error;
  } finally {
    await rm(moved, { force: true });
  }
}
