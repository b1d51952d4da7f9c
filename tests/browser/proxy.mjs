// A reverse proxy that strips a path prefix and tells nobody about it.

import { once } from 'node:events';
import http from 'node:http';

/** Serves `<prefix>/…` from `target`'s `/…`, and nothing beside it. `seen` gets every request's method and path. */
export async function startProxy(prefix) {
  const seen = [];
  let target;
  const server = http.createServer((request, response) => {
    seen.push(`${request.method} ${request.url}`);
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
  return { address: `http://127.0.0.1:${server.address().port}`, seen, forwardTo, stop };
}
