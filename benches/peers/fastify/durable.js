// The promise over any store: the intent is durable before the vendor is called, the outcome before the caller gets it,
// and what was sent under a key is never sent again, not even after a crash.
//
// A store has `begin(write)`, which commits key and intent and returns undefined, or returns what the key holds;
// `conclude(write, state, status, answer)`, which commits the outcome; and `read(id)`.
import { createHash, randomUUID } from "node:crypto";
import { candidate, document, newId } from "./common.js";

const json = (reply, status, text) => reply.code(status).header("content-type", "application/json; charset=utf-8").send(text);
const problem = (reply, status, outcome, detail) => json(reply, status, JSON.stringify({ status, outcome, detail }));

const repeat = (reply, held, fingerprint) => {
  if (held.fingerprint !== fingerprint) return problem(reply, 422, "not_applied", "the key belongs to another request");
  if (held.state === "done") return json(reply, held.status, held.answer);
  if (held.state === "unknown") return problem(reply, 409, "unknown", "it may have been sent before a crash");
  return problem(reply, 409, "unknown", "in progress");
};

export const keepPromise = (app, send, store) => {
  app.post("/candidates", { schema: { body: candidate } }, async (request, reply) => {
    const body = JSON.stringify(request.body);
    const write = {
      key: request.headers["idempotency-key"] ?? randomUUID(),
      fingerprint: createHash("sha256").update(body).digest("base64"),
      id: newId(), externalId: request.body.externalId, body,
    };
    const held = await store.begin(write);
    if (held) return repeat(reply, held, write.fingerprint);
    const outcome = await send(request.body);
    const applied = outcome === "applied";
    const [state, status] = outcome === "unknown" ? ["unknown", 504] : ["done", applied ? 201 : 502];
    const answer = JSON.stringify(applied ? document(write.id, request.body) : { status, outcome });
    await store.conclude(write, state, status, answer, applied);
    return json(reply, status, answer);
  });

  app.get("/candidates/:id", async (request, reply) => {
    const found = await store.read(request.params.id);
    return found ? json(reply, 200, found) : problem(reply, 404, "not_applied", "no such candidate");
  });
};
