/** The floor of a message command: a server whose one route parses the same JSON and answers the same, no more. */
import type { AddressInfo } from 'node:net';
import express from 'express';

if (import.meta.main) {
  const app = express();
  app.post('/api/v1/chat/:id/message', express.json(), (request, response) => {
    const { content } = request.body as { content: string };
    if (content === '') throw new Error('The message is empty.');
    response.status(202).json({
      ok: true,
      data: {
        message_id: 'msg_00e9de1ac39b956ba874f613',
        session_id: request.params.id,
        turn_id: 'turn_f57dcaa445af608f03d8cec9',
        status: 'accepted',
      },
    });
  });
  const server = app.listen(0, '127.0.0.1', () => {
    console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  });
}
