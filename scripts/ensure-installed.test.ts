import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect } from 'chai';

type Packages = Record<string, { version: string; dev?: boolean; optional?: boolean }>;

const wanted: Packages = {
  '': { version: '0.1.0' },
  'node_modules/node': { version: '24.0.0' },
  'node_modules/express': { version: '5.0.0' },
  'node_modules/mocha': { version: '12.0.0', dev: true },
  'node_modules/tool-for-another-platform': { version: '1.0.0', optional: true },
};
const { '': _project, 'node_modules/tool-for-another-platform': _optional, ...installed } = wanted;

describe('ensure-installed', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'odeon-ensure-installed-'));
    mkdirSync(join(root, 'scripts'));
    cpSync('scripts/ensure-installed.mjs', join(root, 'scripts/ensure-installed.mjs'));
    write('package-lock.json', { packages: wanted });
    // Stands in for npm: brings the project to what the lock file says, as `npm ci` does.
    writeFileSync(
      join(root, 'npm.cjs'),
      `console.log('ran npm', process.argv.slice(2).join(' '));
       require('fs').cpSync('after-install', 'node_modules', { recursive: true });`,
    );
    installInto('after-install', installed);
  });
  afterEach(() => rmSync(root, { recursive: true }));

  function write(file: string, content: unknown): void {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    writeFileSync(join(root, file), typeof content === 'string' ? content : JSON.stringify(content));
  }

  function installInto(folder: string, packages: Packages): void {
    write(`${folder}/.package-lock.json`, { packages });
    for (const path of Object.keys(packages)) {
      mkdirSync(join(root, path.replace('node_modules', folder), 'bin'), { recursive: true });
    }
    if ('node_modules/node' in packages) symlinkSync(process.execPath, join(root, folder, 'node/bin/node'));
  }

  function run(event = 'pretest') {
    const { status, stderr } = spawnSync(process.execPath, ['scripts/ensure-installed.mjs'], {
      cwd: root,
      env: { npm_execpath: join(root, 'npm.cjs'), npm_lifecycle_event: event },
      encoding: 'utf8',
    });
    return { status, stderr, installs: stderr.includes('ran npm ci') };
  }

  it('does nothing when what is installed is what the lock file says', () => {
    installInto('node_modules', installed);
    expect(run()).to.deep.equal({ status: 0, stderr: '', installs: false });
  });

  const { 'node_modules/mocha': _mocha, ...production } = installed;
  const states: [string, prepare: () => void][] = [
    ['nothing is installed', () => {}],
    ['an install was broken off', () => mkdirSync(join(root, 'node_modules/express'), { recursive: true })],
    [
      'its list is torn',
      () => {
        installInto('node_modules', installed);
        write('node_modules/.package-lock.json', '{"packages": {');
      },
    ],
    [
      'another version is installed',
      () => installInto('node_modules', { ...installed, 'node_modules/express': { version: '4.0.0' } }),
    ],
    ['a package is missing', () => installInto('node_modules', production)],
    [
      'a package was dropped from the lock file',
      () => installInto('node_modules', { ...installed, 'node_modules/chalk': { version: '1.0.0' } }),
    ],
    [
      'a folder was removed',
      () => {
        installInto('node_modules', installed);
        rmSync(join(root, 'node_modules/express'), { recursive: true });
      },
    ],
  ];
  for (const [state, prepare] of states) {
    it(`installs when ${state}`, () => {
      prepare();
      const first = run();
      expect(first.installs, first.stderr).to.equal(true);
    });
  }

  it('is content without the development packages for npm start', () => {
    installInto('node_modules', production);
    expect(run('prestart')).to.include({ status: 0, installs: false });
  });

  it('says so when there is no Node 24 after the install', () => {
    rmSync(join(root, 'after-install/node/bin/node'));
    const { status, stderr } = run();
    expect(status).to.equal(1);
    expect(stderr).to.contain('allowScripts');
  });

  it('fails when npm does', () => {
    write('npm.cjs', 'process.exit(3)');
    const { status, stderr } = run();
    expect(status).to.equal(1);
    expect(stderr).to.contain('npm ci failed (exit code 3)');
  });
});
