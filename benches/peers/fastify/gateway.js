// What an integrator writes by hand with fastify and undici: accepts a candidate, signs and sends it to StartExam,
// responds with 201. It stores nothing. usage: node gateway.js VENDOR_URL; the first line on stdout is its address.
import { createHmac, randomUUID } from "node:crypto";
import Fastify from "fastify";
import { Pool } from "undici";

const vendor = new Pool(process.argv[2], { connections: 64, pipelining: 1, bodyTimeout: 20_000, headersTimeout: 20_000 });
const [account, secret, profileId, key] =
  [99, "bench-secret-of-the-fake-vendor", "d51b5efd-fb21-4cb8-94e2-145014839465", "egk_bench-only"];

const text = (maxLength) => ({ type: "string", minLength: 1, maxLength });
const candidate = {
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
const answered = {
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

const document = (id, externalId, name, email) => {
  const now = new Date().toISOString();
  return {
    id, connection: "startexam-main", state: "registered", outcome: "applied", externalId, name, email, active: true,
    vendorRef: { id: externalId }, warnings: [], meta: { created: now, lastModified: now, version: "2" },
  };
};

const app = Fastify({ logger: false });
app.addHook("onRequest", async (request, reply) => {
  if (request.url !== "/readyz" && request.headers.authorization !== `Bearer ${key}`) {
    return reply.code(401).send({ status: 401, detail: "unknown key" });
  }
});

app.post("/candidates", { schema: { body: candidate, response: { 201: answered } } }, async (request, reply) => {
  const { externalId, name = {}, email } = request.body;
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
  let answer;
  try {
    answer = await vendor.request({ path, method: "POST", headers, body });
    await answer.body.text();
  } catch {
    return reply.code(504).send({ status: 504, detail: "vendor" });
  }
  if (answer.statusCode >= 300) return reply.code(502).send({ status: 502, detail: "vendor" });
  const id = `cand_${randomUUID().replaceAll("-", "")}`;
  return reply.code(201).send(document(id, externalId, name, email));
});

app.get("/candidates/:id", { schema: { response: { 200: answered } } }, async (request) =>
  document(request.params.id, "bench-0000-1", { givenName: "Ines", familyName: "Costa" }, "bench-0000-1@example.com"));
app.get("/readyz", async () => "ok");

await app.listen({ host: "127.0.0.1", port: 0 });
console.log(`127.0.0.1:${app.server.address().port}`);
