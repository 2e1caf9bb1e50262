import { Writable } from 'node:stream';
import { expect } from 'chai';
import { createLogger, type LogLevel } from './logger.ts';

function capture(level: LogLevel = 'debug') {
  const lines: Record<string, unknown>[] = [];
  const destination = new Writable({
    write(chunk, _encoding, done) {
      lines.push(JSON.parse(String(chunk)));
      done();
    },
  });
  return { logger: createLogger({ level, destination }), lines };
}

describe('The log', () => {
  it('is JSON lines with a level, a time and the fields', () => {
    const { logger, lines } = capture();
    logger.child({ correlationId: 'c1' }).info({ route: '/x' }, 'request');
    expect(lines[0]).to.include({ level: 'info', correlationId: 'c1', route: '/x', msg: 'request' });
    expect(Date.parse(String(lines[0]?.time))).to.be.closeTo(Date.now(), 5_000);
  });

  it('leaves out what is below its level', () => {
    const { logger, lines } = capture('warn');
    logger.info({}, 'not this');
    logger.warn({}, 'this');
    expect(lines.map(({ msg }) => msg)).to.deep.equal(['this']);
  });

  it('takes out secrets by name', () => {
    const { logger, lines } = capture();
    logger.info(
      { password: 's1', user: { apiKey: 's2', name: 'ada' }, headers: { authorization: 's3' } },
      'x',
    );
    logger.info({ request: { headers: { 'set-cookie': 's4', cookie: 's5', 'x-api-key': 's6' } } }, 'x');
    const sent = { tries: [{ token: 's7', count: 1 }] };
    logger.child({ token: 's8' }).info(sent, 'x');
    expect(lines[2]?.tries).to.deep.equal([{ token: '[redacted]', count: 1 }]);
    expect(sent.tries[0]?.token).to.equal('s7'); // what was passed is not touched
    expect(JSON.stringify(lines)).to.not.match(/s\d"/);
    expect(lines[0]?.user).to.deep.equal({ apiKey: '[redacted]', name: 'ada' });
  });

  it('writes of an error its message, stack, code and causes, and nothing that hangs on it', () => {
    const { logger, lines } = capture();
    const cause = Object.assign(new RangeError('below'), { code: 'E_BELOW', requestBody: 'private' });
    const error = Object.assign(new TypeError('above', { cause }), { headers: { authorization: 'private' } });
    logger.error({ err: error }, 'failed');
    expect(lines[0]?.err).to.deep.include({ type: 'TypeError', message: 'above', stack: error.stack });
    expect(lines[0]?.err).to.have.nested.include({ 'cause.code': 'E_BELOW', 'cause.message': 'below' });
    expect(JSON.stringify(lines)).to.not.include('private');
  });

  it('ends with a chain of causes that goes round', () => {
    const { logger, lines } = capture();
    const error: Error = new Error('round');
    error.cause = error;
    logger.error({ err: error }, 'failed');
    expect(lines).to.have.length(1);
  });
});
