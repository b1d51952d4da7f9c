// fastify and undici, as an integrator writes it by hand: accepts a candidate, signs and sends it, responds with 201.
// Keeps nothing: a retry is sent again, and after a crash it is not known what was sent.
// usage: node gateway.js VENDOR_URL; the first line on stdout is its address.
import { answered, application, candidate, document, newId, serve, vendorAt } from "./common.js";

const send = vendorAt(process.argv[2]);
const app = application();

app.post("/candidates", { schema: { body: candidate, response: { 201: answered } } }, async (request, reply) => {
  const outcome = await send(request.body);
  if (outcome !== "applied") return reply.code(502).send({ status: 502, outcome });
  return reply.code(201).send(document(newId(), request.body));
});

const constant = { externalId: "bench-0000-1", name: { givenName: "Ines", familyName: "Costa" }, email: "bench-0000-1@example.com" };
app.get("/candidates/:id", { schema: { response: { 200: answered } } }, async (request) =>
  document(request.params.id, constant));

await serve(app);
