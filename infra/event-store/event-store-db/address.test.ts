import { expect } from 'chai';
import { parseServerAddress } from './address.ts';

describe('a connection string of EventStoreDB', () => {
  const host = (address: string, port = 2113) => ({ address, port });

  for (const scheme of ['esdb', 'kurrentdb', 'kurrent', 'kdb']) {
    it(`may begin with ${scheme}:// or ${scheme}+discover://`, () => {
      expect(parseServerAddress(`${scheme}://one`)).to.include({ discover: false, tls: true });
      expect(parseServerAddress(`${scheme}+discover://cluster.example:4000`)).to.deep.include({
        discover: true,
        hosts: [host('cluster.example', 4000)],
      });
    });
  }

  it('names one host or several, each with a port or 2113', () => {
    expect(parseServerAddress('esdb://a,b:1,[::1]:7').hosts).to.deep.equal([
      host('a'),
      host('b', 1),
      host('[::1]', 7),
    ]);
  });

  it('takes credentials, percent-encoded, with any character in the password', () => {
    expect(parseServerAddress('esdb://admin:a:b%40c%2F%C3%BC@host').credentials).to.deep.equal({
      username: 'admin',
      password: 'a:b@c/ü',
    });
    expect(parseServerAddress('esdb://host').credentials).to.equal(undefined);
  });

  it('is shown without user and password', () => {
    expect(parseServerAddress('kurrentdb://admin:secret@a:1,b?tls=false').shown).to.equal(
      'kurrentdb://a:1,b:2113',
    );
  });

  it('takes the options of the documentation, in any case', () => {
    const url =
      'esdb://a/?tls=true&tlsCAFile=%2Fca.pem&UserCertFile=c&userKeyFile=k&connectionName=one&defaultDeadline=500' +
      '&keepAliveInterval=-1&keepalivetimeout=20000&discoveryInterval=50&gossipTimeout=3&maxDiscoverAttempts=4' +
      '&nodePreference=leader&throwOnAppendFailure=true&tlsVerifyCert=true';
    expect(parseServerAddress(url)).to.deep.include({
      tls: true,
      tlsCAFile: '/ca.pem',
      userCertFile: 'c',
      userKeyFile: 'k',
      connectionName: 'one',
      defaultDeadline: 500,
      keepAliveInterval: -1,
      keepAliveTimeout: 20_000,
      discoveryInterval: 50,
      gossipTimeout: 3,
      maxDiscoverAttempts: 4,
    });
    expect(parseServerAddress('esdb://a?tls=false').tls).to.equal(false);
  });

  const refused: [string, RegExp][] = [
    ['', /must look like/],
    ['http://host', /must look like/],
    ['esdb:host', /must look like/],
    ['esdb://', /not a host/],
    ['esdb://a,,b', /not a host/],
    ['esdb://a:0', /not a host/],
    ['esdb://a:99999', /not a host/],
    ['esdb://a:x', /not a host/],
    ['esdb+discover://a,b', /one host/],
    ['esdb://user@a', /needs a password/],
    ['esdb://:secret@a', /needs a password/],
    ['esdb://user:%zz@a', /password is not percent-encoded/],
    ['esdb://a?tls=yes', /tls must be true or false/],
    ['esdb://a?tlsVerifyCert=false', /tlsCAFile/],
    ['esdb://a?nodePreference=follower', /must be leader/],
    ['esdb://a?defaultDeadline=0', /whole number above 0/],
    ['esdb://a?keepAliveInterval=-2', /whole number above 0/],
    ['esdb://a?tlsCAFile=', /must be a text/],
    ['esdb://a?userCertFile=c', /need each other/],
    ['esdb://a?tls=false&tlsCAFile=c', /no use/],
    ['esdb://a?something=1', /unknown option something/],
  ];
  for (const [url, message] of refused) {
    it(`is refused: ${url || 'nothing'}`, () => {
      expect(() => parseServerAddress(url)).to.throw(Error, message);
    });
  }

  it('is refused without showing its password', () => {
    for (const url of [
      'esdb://user:secret@a?x=1',
      'esdb://user:secret@',
      'foo://user:secret@a',
      'esdb://user:secret@a:b',
      'esdb://user:secret?more@a',
      'esdb://user:2113?secret@a?tls=false',
    ]) {
      expect(() => parseServerAddress(url))
        .to.throw(Error)
        .with.property('message')
        .that.does.not.include('secret');
    }
  });
});
