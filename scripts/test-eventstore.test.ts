/** The checks of a real server, run as its tester runs them, on the double. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { expect } from 'chai';
import { startEventStoreServer } from '../test/engines/event-store-server.ts';

const TESTS = new URL('test-eventstore.ts', import.meta.url).pathname;

async function run(url: string | undefined): Promise<{ code: number; output: string; errors: string }> {
  const { EVENT_STORE_URL: _, ...env } = process.env;
  const child = spawn(process.execPath, [TESTS], {
    env: url === undefined ? env : { ...env, EVENT_STORE_URL: url },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [output, errors, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit') as Promise<[number]>,
  ]);
  return { code, output, errors };
}

describe('npm run test:eventstore', function () {
  this.timeout(180_000);

  it('says which server it spoke to and what it checked, and deletes what it made', async () => {
    const server = await startEventStoreServer();
    try {
      const { code, output, errors } = await run(server.url);
      expect(errors).to.equal('');
      expect(output).to.include(
        `Speaking to esdb://127.0.0.1:${server.port}, which says that it is version 24.10`,
      );
      expect(output)
        .to.match(/^\| Event store \| The server \|$/m)
        .and.match(/^\| reading all \| ✔ \d+ \|$/m);
      expect(output.match(/^✘.*/gm)).to.equal(null);
      expect(output.match(/^○.*/gm)).to.have.length(2);
      const checked = output.match(/^✔/gm)!.length;
      expect(checked).to.be.above(100);
      expect(output.trimEnd().split('\n').at(-1)).to.equal(`${checked} passed, 0 failed`);
      expect(code).to.equal(0);
      const streams = new Set(
        server.log.records.map(({ stream }) => stream).filter((name) => !name.startsWith('$')),
      );
      expect(streams.size).to.be.above(100);
      for (const stream of streams)
        expect(server.log.readStream(stream, 'start', false, 1).kind).to.equal('no stream');
    } finally {
      await server.stop();
    }
  });

  it('fails without EVENT_STORE_URL, and for what is no server', async () => {
    const unset = await run(undefined);
    expect(unset).to.deep.include({ code: 1, output: '0 passed, 1 failed\n' });
    expect(unset.errors).to.match(/^EVENT_STORE_URL is not set/);
    const wrong = await run('http://user:secret@localhost');
    expect(wrong).to.deep.include({ code: 1, output: '0 passed, 1 failed\n' });
    expect(wrong.errors)
      .to.match(/must look like esdb/)
      .and.not.include('secret');
  });
});
