import { readFileSync } from 'node:fs';
import { join, matchesGlob } from 'node:path';
import { expect } from 'chai';
import { parse } from 'yaml';
import { environment, readConfig } from '../config.ts';
import { serviceRoles } from '../contracts/http/system.ts';

interface Service {
  readonly image: string;
  readonly environment?: Readonly<Record<string, string | number>>;
  readonly depends_on?: Readonly<Record<string, { condition: string }>>;
  readonly volumes?: readonly string[];
  readonly networks: readonly string[];
  readonly healthcheck?: { readonly test: readonly string[] };
}
interface Compose {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
  readonly networks: Readonly<Record<string, unknown>>;
}

const read = (name: string): string => readFileSync(join(import.meta.dirname, name), 'utf8');

describe('deploy/compose.yaml', () => {
  const compose = parse(read('compose.yaml'), { merge: true, strict: true }) as Compose;
  const nodes = Object.entries(compose.services).filter(([, { image }]) => image.startsWith('odeon'));
  const variables = (service: Service): Record<string, string> =>
    Object.fromEntries(
      Object.entries(service.environment ?? {}).map(([name, value]) => [name, String(value)]),
    );

  it('runs 1 command, 2 query, 2 projections and 2 processes nodes', () => {
    const roles = nodes.map(([, { environment: given }]) => given?.ROLES);
    expect(serviceRoles.map((role) => roles.filter((one) => one === role).length)).to.deep.equal([
      1, 2, 2, 2,
    ]);
  });

  for (const [name, service] of nodes) {
    it(`configures ${name} as the program understands it`, () => {
      const given = variables(service);
      expect(Object.keys(environment.shape)).to.include.members(Object.keys(given));
      const config = readConfig(given);
      expect([...config.roles]).to.deep.equal([given.ROLES]);
      // All of a deployment must agree on what they share.
      const [, first] = nodes[0]!;
      for (const shared of [
        'EVENT_STORE_URL',
        'KAFKA_BROKERS',
        'KAFKA_PARTITIONS',
        'MONGODB_URL',
        'KEYS_FILE',
      ]) {
        expect(given[shared], shared).to.be.a('string').that.equals(variables(first)[shared]);
      }
    });
  }

  it('names hosts, volumes and networks that there are', () => {
    const { services } = compose;
    for (const [name, service] of Object.entries(services)) {
      const hosts = Object.values(variables(service))
        .flatMap((value) => [...value.matchAll(/(?:^|\/\/|@)([a-z][\w-]*):\d+/g)])
        .map(([, host]) => host!);
      expect(Object.keys(services), name).to.include.members(hosts);
      expect(Object.keys(services), name).to.include.members(Object.keys(service.depends_on ?? {}));
      expect(Object.keys(compose.networks), name).to.include.members([...service.networks]);
      const volumes = (service.volumes ?? []).map((volume) => volume.split(':')[0]!);
      for (const volume of volumes.filter((one) => !one.startsWith('.'))) {
        expect(Object.keys(compose.volumes), name).to.include(volume);
      }
      for (const host of [...hosts, ...Object.keys(service.depends_on ?? {})]) {
        expect(
          services[host]!.networks.some((network) => service.networks.includes(network)),
          `${name} → ${host}`,
        ).to.equal(true);
        expect(services[host]!.healthcheck, host).not.to.equal(undefined);
      }
    }
  });

  it('has the nodes that nginx sends requests to', () => {
    const named = [...read('nginx.conf').matchAll(/^\s*server ([\w-]+):3080 /gm)].map(([, host]) => host!);
    const upstreams = [...new Set(named)];
    const serving = nodes.filter(([, { environment: given }]) => /command|query/.test(String(given?.ROLES)));
    expect(upstreams.toSorted()).to.deep.equal(serving.map(([name]) => name).toSorted());
    expect(Object.keys(compose.services.nginx?.depends_on ?? {}).toSorted()).to.deep.equal(
      upstreams.toSorted(),
    );
  });
});

describe('deploy/Dockerfile.dockerignore', () => {
  const root = join(import.meta.dirname, '..');
  const lines = read('Dockerfile.dockerignore')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  /** The last line that matches a path, or a folder above it, counts. */
  const isSent = (path: string): boolean =>
    lines.reduce((sent, line) => {
      const glob = line.replace(/^!/, '');
      const parts = path.split('/');
      // Docker's * matches names that begin with a dot, too.
      const matches =
        glob === '*' || parts.some((_, index) => matchesGlob(parts.slice(0, index + 1).join('/'), glob));
      return matches ? line.startsWith('!') : sent;
    }, true);

  it('lets in every file that the program imports', () => {
    const seen = new Set<string>();
    const visit = (path: string): void => {
      if (seen.has(path)) return;
      seen.add(path);
      expect(isSent(path), path).to.equal(true);
      const source = readFileSync(join(root, path), 'utf8');
      // Also of workers, which are named by URL.
      const imports = source.matchAll(/(?:from|import\(|new URL\()\s*'(\.{1,2}\/[^']+\.ts)'/g);
      for (const [, target] of imports) visit(join(path, '..', target!));
    };
    visit('main.ts');
    expect(seen.size).to.be.above(100);
    expect(isSent('package.json') && isSent('package-lock.json')).to.equal(true);
  });

  it('keeps out secrets, data, tests and what is installed', () => {
    const files = [
      '.env',
      'deploy/odeon.env',
      'data/keys.json',
      '.git/config',
      'infra/auth/.env',
      'node_modules/x/index.js',
    ];
    const tests = ['test/program.ts', 'infra/auth/keys.test.ts', 'infra/http/fixture.ts', 'bench/index.ts'];
    for (const path of [...files, ...tests]) expect(isSent(path), path).to.equal(false);
  });
});
