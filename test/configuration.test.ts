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
    CORS_ORIGINS: 'not an origin',
    OPENAI_BASE_URL: 'ftp://example.org',
    MODEL_PRICES: '{',
    EVENT_STORE_URL: 'esdb://localhost:2113',
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

  it('repeats no secret in its error', () => {
    expect(() => readConfig({ ADMIN_PASSWORD: 'secret1' }))
      .to.throw()
      .and.not.to.match(/secret1/);
  });
});
