// A reverse proxy that strips a path prefix and says so in no header.

import { once } from 'node:events';
import http from 'node:http';

/** Serves `<prefix>/…` from `/…` of what it forwards to, and nothing beside it. */
export async function startProxy(prefix) {
  let target;
  const server = http.createServer((request, response) => {
    if (!request.url.startsWith(`${prefix}/`)) return response.writeHead(404).end('outside the prefix');
    const { method, headers } = request;
    const path = request.url.slice(prefix.length);
    const onward = http.request(target, { method, path, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.writeHead(502).end());
    request.pipe(onward);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const stop = async () => {
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  };
  const forwardTo = (address) => (target = address);
  return { address: `http://127.0.0.1:${server.address().port}`, forwardTo, stop };
}
