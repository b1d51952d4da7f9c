// DBOS as it comes: a workflow with one step, the idempotency key as the workflow's id.
// Keeps every write and its outcome in PostgreSQL, and answers a repeat from there. Does not keep the promise that
// nothing is sent twice: after a crash the step runs again, since steps are executed at least once.
// usage: node gateway.js VENDOR_URL DATABASE_URL; the first line on stdout is its address.
import { randomUUID } from "node:crypto";
import { DBOS } from "@dbos-inc/dbos-sdk";
import { application, candidate, document, newId, serve, vendorAt } from "../fastify/common.js";

const [vendor, systemDatabaseUrl] = process.argv.slice(2);
const send = vendorAt(vendor);

const register = DBOS.registerWorkflow(
  async (person) => {
    const sent = await DBOS.runStep(async () => ({ outcome: await send(person), id: newId() }), { name: "send" });
    return sent.outcome === "applied" ? document(sent.id, person) : { outcome: sent.outcome };
  },
  { name: "register" },
);
DBOS.setConfig({ name: "bench", systemDatabaseUrl, logLevel: "error" });
await DBOS.launch();

const app = application();
app.post("/candidates", { schema: { body: candidate } }, async (request, reply) => {
  const workflowID = request.headers["idempotency-key"] ?? randomUUID();
  const handle = await DBOS.startWorkflow(register, { workflowID })(request.body);
  const result = await handle.getResult();
  return reply.code(result.outcome === "applied" ? 201 : 502).send(result);
});
await serve(app);
