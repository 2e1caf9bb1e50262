/** The AI SDK is heavy: what does not use it does not load it. Seen from a process of its own. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';

const registry = join(import.meta.dirname, 'registry.ts');

/** The packages of the SDK that were loaded once models were made of `env` and everything under way had ended. */
async function loadedWith(env: Readonly<Record<string, string>>): Promise<string[]> {
  const script = `
    import { registerHooks } from 'node:module';
    const loaded = new Set();
    registerHooks({ load(url, context, next) {
      const name = /node_modules\\/(ai|@ai-sdk\\/[^/]+)\\//.exec(url)?.[1];
      if (name !== undefined) loaded.add(name);
      return next(url, context);
    } });
    const { createModels, modelsConfigFrom, modelsEnvironment } = await import(${JSON.stringify(registry)});
    createModels(modelsConfigFrom(modelsEnvironment.parse(${JSON.stringify(env)})));
    process.on('exit', () => process.stdout.write(JSON.stringify([...loaded])));
  `;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script]);
  return JSON.parse(stdout);
}

describe('the AI SDK', function () {
  this.timeout(30_000);

  it('is not loaded for the built-in assistant', async () => {
    expect(await loadedWith({})).to.deep.equal([]);
  });

  it('is loaded as soon as a provider is configured, before anybody asks', async () => {
    const loaded = await loadedWith({ OLLAMA_BASE_URL: 'http://127.0.0.1:1' });
    expect(loaded).to.include.members(['ai', '@ai-sdk/openai-compatible']);
  });
});
