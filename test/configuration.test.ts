import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import { environment, readConfig } from '../config.ts';

describe('the configuration', () => {
  it('is listed in .env.example, variable by variable', async () => {
    const text = await readFile(new URL('../.env.example', import.meta.url), 'utf8');
    const listed = [...text.matchAll(/^#? ?([A-Z][A-Z_]+)=/gm)].map(([, name]) => name);
    expect(listed).to.have.members(Object.keys(environment.shape));
  });

  it('needs nothing', () => {
    expect(readConfig({})).to.deep.include({ host: '127.0.0.1', port: 3080, dataDir: './data' });
  });

  it('takes an empty variable for one that is not set', () => {
    const empty = Object.fromEntries(Object.keys(environment.shape).map((name) => [name, '']));
    expect(readConfig(empty)).to.deep.equal(readConfig({}));
  });

  for (const [name, value] of Object.entries({
    PORT: '70000',
    ADMIN_EMAIL: 'nobody',
    ADMIN_PASSWORD: 'short',
    LOG_LEVEL: 'loud',
    ROLES: 'all,cook',
    ACCESS_TOKEN_MINUTES: '0',
    SECURE_COOKIES: 'perhaps',
    TRUSTED_PROXIES: '10.0.0.0/33',
    CORS_ORIGINS: 'not an origin',
    OPENAI_BASE_URL: 'ftp://example.org',
    MODEL_PRICES: '{',
    EVENT_STORE_URL: 'http://localhost:2113',
    KAFKA_BROKERS: 'kafka',
    KAFKA_PARTITIONS: '0',
    KAFKA_TOPIC_PREFIX: 'a b',
    KAFKA_SASL_MECHANISM: 'gssapi',
    KAFKA_USERNAME: 'without a password',
    MONGODB_URL: 'localhost:27017',
    COMMAND_SERVICE_URL: 'command:3080',
  })) {
    it(`names ${name} when it is wrong`, () => {
      expect(() => readConfig({ [name]: value }), name).to.throw(name);
    });
  }

  it('takes no roles without the one whose read models they need', () => {
    for (const ROLES of ['command,query', 'command', 'query,processes']) {
      expect(() => readConfig({ ROLES })).to.throw(`ROLES=${ROLES}: must include projections`);
    }
    expect([...readConfig({ ROLES: 'query,projections' }).roles]).to.deep.equal(['query', 'projections']);
  });

  const shared = { KAFKA_BROKERS: 'k1:9092, k2:9092', MONGODB_URL: 'mongodb://db/odeon' };

  it('takes any roles where Kafka and MongoDB are shared', () => {
    for (const ROLES of ['command', 'projections', 'processes', 'command,query']) {
      expect([...readConfig({ ...shared, ROLES }).roles]).to.deep.equal(ROLES.split(','));
    }
  });

  it('takes no query node that could not pass its commands on', () => {
    expect(() => readConfig({ ...shared, ROLES: 'query' })).to.throw('COMMAND_SERVICE_URL');
    const { commandServiceUrl } = readConfig({
      ...shared,
      ROLES: 'query',
      COMMAND_SERVICE_URL: 'http://command:3080',
    });
    expect(commandServiceUrl).to.equal('http://command:3080');
  });

  it('takes no settings of a Kafka that is not used', () => {
    expect(() => readConfig({ KAFKA_PARTITIONS: '8' })).to.throw('KAFKA_PARTITIONS=8: does nothing without');
  });

  it('takes the keys from one place only', () => {
    expect(() => readConfig({ KEYS: '{}', KEYS_FILE: 'keys.json' })).to.throw('KEYS_FILE');
    expect(readConfig({ DATA_DIR: 'd' }).keys).to.deep.equal({ file: 'd/keys.json' });
  });

  it('repeats no secret in its error', () => {
    expect(() => readConfig({ KEYS: 'secret2', KEYS_FILE: 'f', MONGODB_URL: 'mongodb//:secret3@x' }))
      .to.throw()
      .and.not.to.match(/secret2|secret3@x$/);
    expect(() => readConfig({ ADMIN_PASSWORD: 'secret1' }))
      .to.throw()
      .and.not.to.match(/secret1/);
  });
});
