/**
 * Runs `npm ci` when node_modules does not hold what package-lock.json asks for; otherwise does nothing, fast.
 *
 * Called by the `pre…` scripts, so that `npm start` and the like work on a fresh clone and after a pull. It runs
 * on whatever Node the machine has: plain JavaScript, no dependency. The scripts that follow find the project's
 * own Node (the package `node`), because npm puts node_modules/.bin first in their PATH.
 *
 * What is installed is read from node_modules/.package-lock.json, which npm writes last: an install that was
 * broken off has none, or an old one, and is done again.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const node = join(root, 'node_modules/node/bin/node');
/** `npm start` is content with what `npm ci --omit=dev` leaves. */
const mayLackDevelopment = process.env.npm_lifecycle_event === 'prestart';

const fault = findFault();
if (fault !== null) {
  process.stderr.write(`Installing dependencies (${fault}) …\n`);
  install();
  const remaining = findFault();
  if (remaining !== null) fail(`npm ci has run, but ${remaining}.`);
  const { stdout, error } = spawnSync(node, ['--version'], { encoding: 'utf8' });
  if (!stdout?.startsWith('v24.')) {
    fail(
      `The project needs Node 24, but ${node} ${error ? `cannot run: ${error.message}` : `is ${stdout}`}.`,
    );
  }
}

/** What is wrong with what is installed; null when nothing is. */
function findFault() {
  const wanted = packages('package-lock.json');
  if (wanted === null) fail('package-lock.json is missing or is not JSON.');
  const installed = packages('node_modules/.package-lock.json');
  if (installed === null) return 'nothing is installed yet, or an install was broken off';
  for (const [path, entry] of Object.entries(wanted)) {
    const found = installed[path];
    // Optional packages are there only for the platforms that they are made for.
    const mayBeAbsent = entry.optional === true || (entry.dev === true && mayLackDevelopment);
    if (found === undefined ? !mayBeAbsent : !same(found, entry))
      return `${path} is not as the lock file says`;
    if (found !== undefined && !existsSync(join(root, path))) return `${path} was removed`;
  }
  for (const path of Object.keys(installed)) {
    if (wanted[path] === undefined) return `${path} is not in the lock file`;
  }
  try {
    accessSync(node, constants.X_OK);
  } catch {
    return `Node 24 is not at ${node}; is the package's install script allowed in package.json ("allowScripts")`;
  }
  return null;
}

/** The packages of a lock file by path, without the project itself; null when there is no such file or it is torn. */
function packages(lockFile) {
  try {
    const { '': _project, ...rest } = JSON.parse(readFileSync(join(root, lockFile), 'utf8')).packages;
    return rest;
  } catch {
    return null;
  }
}

function same(a, b) {
  return a.version === b.version && a.integrity === b.integrity;
}

function install() {
  // Only errors: the warnings are about the machine's Node, which runs nothing but npm.
  const args = ['ci', '--loglevel=error', '--no-audit', '--no-fund'];
  const npm = process.env.npm_execpath;
  const { status, error, signal } = npm
    ? spawnSync(process.execPath, [npm, ...args], { cwd: root, stdio: ['ignore', 2, 2] })
    : spawnSync('npm', args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (error) fail(`npm could not be started: ${error.message}`);
  if (status !== 0) fail(`npm ci failed (${signal ?? `exit code ${status}`}); its message is above.`);
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
