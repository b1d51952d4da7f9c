// The common parts of the gateways in JavaScript: the HTTP side with its schemas, and the signed call to StartExam.
import { createHmac, randomUUID } from "node:crypto";
import Fastify from "fastify";
import { Pool } from "undici";

const [account, secret, profileId, apiKey] =
  [99, "bench-secret-of-the-fake-vendor", "d51b5efd-fb21-4cb8-94e2-145014839465", "egk_bench-only"];

const text = (maxLength) => ({ type: "string", minLength: 1, maxLength });
/** The schema of a request's body. */
export const candidate = {
  type: "object",
  additionalProperties: false,
  required: ["externalId"],
  properties: {
    connection: text(200),
    externalId: text(250),
    name: {
      type: "object",
      additionalProperties: false,
      properties: { givenName: text(200), familyName: text(200) },
    },
    email: { type: "string", format: "email" },
  },
};
/** The schema of a response: fastify compiles its serializer from it. */
export const answered = {
  type: "object",
  properties: {
    id: { type: "string" }, connection: { type: "string" }, state: { type: "string" }, outcome: { type: "string" },
    externalId: { type: "string" },
    name: { type: "object", properties: { givenName: { type: "string" }, familyName: { type: "string" } } },
    email: { type: "string" }, active: { type: "boolean" },
    vendorRef: { type: "object", properties: { id: { type: "string" } } },
    warnings: { type: "array", items: { type: "string" } },
    meta: {
      type: "object",
      properties: { created: { type: "string" }, lastModified: { type: "string" }, version: { type: "string" } },
    },
  },
};

export const newId = () => `cand_${randomUUID().replaceAll("-", "")}`;

export const document = (id, { externalId, name = {}, email }) => {
  const now = new Date().toISOString();
  return {
    id, connection: "startexam-main", state: "registered", outcome: "applied", externalId, name, email, active: true,
    vendorRef: { id: externalId }, warnings: [], meta: { created: now, lastModified: now, version: "2" },
  };
};

/** Returns a function that registers a candidate at the vendor and returns the outcome. */
export const vendorAt = (url) => {
  const pool = new Pool(url, { connections: 64, pipelining: 1, bodyTimeout: 20_000, headersTimeout: 20_000 });
  return async ({ externalId, name = {}, email }) => {
    const data = [["First Name", name.givenName], ["Last Name", name.familyName], ["Email", email]]
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => ({ name, value }));
    const body = Buffer.from(JSON.stringify({ profileId, employees: [{ id: externalId, status: "active", data }] }));
    const path = "/v1/employees";
    const date = new Date().toUTCString();
    const sum = createHmac("sha256", secret).update(`POST ${path} ${date} ${body.length}`).digest("base64");
    const headers = {
      authorization: `SharedKey ${account}:${sum}`, date, "content-type": "application/json; charset=utf-8",
    };
    try {
      const answer = await pool.request({ path, method: "POST", headers, body });
      await answer.body.text();
      if (answer.statusCode < 300) return "applied";
      return answer.statusCode < 500 ? "not_applied" : "unknown";
    } catch {
      return "unknown";
    }
  };
};

/** Returns a fastify application that checks the caller's key. */
export const application = () => {
  const app = Fastify({ logger: false });
  app.addHook("onRequest", async (request, reply) => {
    if (!request.url.startsWith("/readyz") && request.headers.authorization !== `Bearer ${apiKey}`) {
      return reply.code(401).send({ status: 401, detail: "unknown key" });
    }
  });
  app.get("/readyz", async () => "ok");
  return app;
};

/** Listens on a free port and prints the address. */
export const serve = async (app) => {
  await app.listen({ host: "127.0.0.1", port: 0 });
  console.log(`127.0.0.1:${app.server.address().port}`);
};
