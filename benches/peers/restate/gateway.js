// Restate as it comes: a service whose handler makes the call in `ctx.run`, behind fastify for the same API as the
// others; the idempotency key is handed to Restate.
// Keeps every write and its outcome in Restate's log, and answers a repeat from there. Does not keep the promise that
// nothing is sent twice: after a crash `ctx.run` runs again.
// usage: node gateway.js VENDOR_URL INGRESS_URL SERVICE_PORT; the first line on stdout is its address.
import { randomUUID } from "node:crypto";
import http2 from "node:http2";
import { Pool } from "undici";
import { application, candidate, document, newId, serve, vendorAt } from "../fastify/common.js";

// The SDK expects Node.js 22.
Promise.withResolvers ??= function withResolvers() {
  const parts = {};
  parts.promise = new this((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
};
const restate = await import("@restatedev/restate-sdk");

const [vendor, ingress, servicePort] = process.argv.slice(2);
const send = vendorAt(vendor);

const candidates = restate.service({
  name: "candidates",
  handlers: {
    register: async (ctx, person) => {
      const sent = await ctx.run("send", async () => ({ outcome: await send(person), id: newId() }));
      return sent.outcome === "applied" ? document(sent.id, person) : { outcome: sent.outcome };
    },
  },
});
const service = http2.createServer(restate.createEndpointHandler({ services: [candidates] }));
await new Promise((resolve) => service.listen(Number(servicePort), "127.0.0.1", resolve));

const pool = new Pool(ingress, { connections: 64, pipelining: 1 });
const app = application();
app.post("/candidates", { schema: { body: candidate } }, async (request, reply) => {
  const headers = {
    "content-type": "application/json", "idempotency-key": request.headers["idempotency-key"] ?? randomUUID(),
  };
  const answer = await pool.request({
    path: "/candidates/register", method: "POST", headers, body: JSON.stringify(request.body),
  });
  const text = await answer.body.text();
  const applied = answer.statusCode === 200 && JSON.parse(text).outcome === "applied";
  return reply.code(applied ? 201 : 502).header("content-type", "application/json; charset=utf-8").send(text);
});
await serve(app);
