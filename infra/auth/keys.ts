/**
 * The deployment's secrets, in one file that only its owner can read: the RSA keys that sign tokens, and a
 * master secret from which every other key is derived. Losing it would lock everybody out (user ids and
 * passwords depend on it), so a file that is missing or unreadable stops the start and is never replaced.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto';
import { chmod, mkdir, open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import type { JsonWebKey, SigningKeys } from './port.ts';

const FILE = 'keys.json';
const MODE = 0o600;
const MODULUS_BITS = 2048;

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

export interface Keys extends SigningKeys {
  current(): { readonly kid: string; readonly signWith: KeyObject };
  /** The public key of a token's `kid`; null when it is unknown or no longer valid. */
  verifyWith(kid: string): KeyObject | null;
  /** 32 bytes for one purpose, named by `label`. */
  secret(label: string): Buffer;
}

export interface KeysOptions {
  readonly directory: string;
  /** Whether the file may be made: only where there is no log yet that depends on it. */
  readonly create: boolean;
  /** A key is kept so long after its successor took over: the longest lifetime of a token. */
  readonly tokenLifetimeMs: number;
  readonly now?: () => number;
}

/** @throws Error that names the file, when it cannot be read, is damaged, or is missing and may not be made */
export async function openKeys({
  directory,
  create,
  tokenLifetimeMs,
  now = Date.now,
}: KeysOptions): Promise<Keys> {
  const path = join(directory, FILE);
  let file = await readKeys(path);
  if (file === null) {
    if (!create) {
      throw new Error(
        `${path} is missing, and the log needs it (passwords and user ids depend on it): restore it from a backup.`,
      );
    }
    file = {
      version: 1,
      masterSecret: randomBytes(32).toString('base64url'),
      signingKeys: [await newSigningKey(randomBytes(12).toString('base64url'), now())],
    };
    await mkdir(directory, { recursive: true });
    await writeKeys(directory, path, file);
  }
  const master = Buffer.from(file.masterSecret, 'base64url');
  let stored = file;
  let signingKeys = load(path, file.signingKeys);
  let rotation: Promise<unknown> = Promise.resolve();

  const stillVerifies = (key: StoredKey): boolean =>
    key.verifiesUntil === null || Date.parse(key.verifiesUntil) > now();

  async function rotate(commandId: string): Promise<{ kid: string; previousKid: string | null }> {
    const kid = createHash('sha256').update(`signing key\n${commandId}`).digest('base64url').slice(0, 16);
    const made = stored.signingKeys.findIndex((key) => key.kid === kid);
    if (made >= 0) return { kid, previousKid: stored.signingKeys[made - 1]?.kid ?? null };
    const successor = await newSigningKey(kid, now());
    const previousKid = stored.signingKeys.at(-1)!.kid;
    const verifiesUntil = new Date(now() + tokenLifetimeMs).toISOString();
    const kept = stored.signingKeys
      .map((key) => (key.verifiesUntil === null ? { ...key, verifiesUntil } : key))
      .filter(stillVerifies);
    const next: KeyFile = { ...stored, signingKeys: [...kept, successor] };
    await writeKeys(directory, path, next);
    stored = next;
    signingKeys = load(path, next.signingKeys);
    return { kid, previousKid };
  }

  return {
    current: () => signingKeys.at(-1)!,
    verifyWith: (kid) => signingKeys.find((key) => key.kid === kid && stillVerifies(key))?.verifyWith ?? null,
    secret: (label) => Buffer.from(hkdfSync('sha256', master, '', `odeon ${label}`, 32)),
    jwks: () => ({ keys: signingKeys.filter(stillVerifies).map((key) => key.jwk) }),
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

async function newSigningKey(kid: string, nowMs: number): Promise<StoredKey> {
  const { privateKey } = await promisify(generateKeyPair)('rsa', { modulusLength: MODULUS_BITS });
  return {
    kid,
    privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    createdAt: new Date(nowMs).toISOString(),
    verifiesUntil: null,
  };
}

/** Null when there is no such file. */
async function readKeys(path: string): Promise<KeyFile | null> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
    // A backup restored with wider rights is tightened again.
    await chmod(path, MODE);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new Error(`${path} cannot be read: ${(error as Error).message}`, { cause: error });
  }
  try {
    return keyFile.parse(JSON.parse(text));
  } catch {
    // The cause is left out: it may quote the file, and with it a secret.
    throw damaged(path);
  }
}

const damaged = (path: string): Error =>
  new Error(`${path} is damaged: restore it from a backup. It is not replaced, because the log needs it.`);

function load(path: string, stored: readonly StoredKey[]): readonly SigningKey[] {
  try {
    return stored.map((key) => {
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
    });
  } catch {
    throw damaged(path);
  }
}

/** Replaces the file as a whole: after a crash there is the old one or the new one. */
async function writeKeys(directory: string, path: string, file: KeyFile): Promise<void> {
  const temporary = `${path}.new`;
  const handle = await open(temporary, 'w', MODE);
  try {
    await handle.chmod(MODE);
    await handle.writeFile(`${JSON.stringify(file, null, 2)}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, path);
  const folder = await open(directory, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
