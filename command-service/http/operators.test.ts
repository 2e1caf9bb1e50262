import { expect } from 'chai';
import { type ChatApp, serveChat } from '../../test/chat-app.ts';

describe("the operators' commands", () => {
  let app: ChatApp;
  before(async () => {
    app = await serveChat();
  });
  after(async () => {
    await app.close();
    expect(app.logged, 'what was logged').to.deep.equal([]);
  });

  it('rebuild a projection, on record, while it goes on answering', async () => {
    const { id } = (await app.call('ada', 'POST', '/api/chat/sessions')).body;
    const { status, body } = await app.call('root', 'POST', '/api/projections/conversations/rebuild');
    expect(status).to.equal(202);
    expect(body).to.deep.equal({ projection: 'conversations', status: 'rebuilding' });
    expect((await app.call('ada', 'GET', `/api/chat/sessions/${id}`)).status).to.equal(200);
    const { events } = (await app.call('root', 'GET', '/api/log/streams/projection-conversations')).body;
    expect(events).to.have.length(1);
    expect(events[0]).to.deep.include({
      type: 'ProjectionRebuildRequested',
      owner: 'system',
      actor: { kind: 'user', id: 'root' },
      surface: 'odeon',
      data: { projection: 'conversations' },
    });
  });

  it('retry what was set aside, on record', async () => {
    const { status, body } = await app.call('root', 'POST', '/api/projections/usage/failures/retry');
    expect(status).to.equal(200);
    expect(body).to.deep.equal({ applied: 0, failed: 0, waiting: 0 });
    const { events } = (await app.call('root', 'GET', '/api/log/streams/projection-usage')).body;
    expect(events[0].type).to.equal('ProjectionRetryRequested');
  });

  it('answer 404 for a projection that there is not, and record nothing', async () => {
    for (const path of ['/api/projections/nothing/rebuild', '/api/projections/nothing/failures/retry']) {
      expect((await app.call('root', 'POST', path)).status).to.equal(404);
    }
    expect((await app.call('root', 'GET', '/api/log/streams/projection-nothing')).status).to.equal(404);
  });

  it('are for admins', async () => {
    for (const name of ['ada', 'audra'] as const) {
      const { status } = await app.call(name, 'POST', '/api/projections/usage/rebuild');
      expect(status, name).to.equal(403);
    }
  });
});
