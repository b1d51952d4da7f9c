// fastify and pg. Keeps the promise of durable.js for one process: a statement, and so a round trip and a commit, for
// each intent and each outcome. Keeps no secrets, no identities, no audit record; leaves what was in flight at a crash
// unknown for ever.
// usage: node with_postgres.js VENDOR_URL DATABASE_URL; the first line on stdout is its address.
import pg from "pg";
import { application, serve, vendorAt } from "./common.js";
import { keepPromise } from "./durable.js";

const [vendor, connectionString] = process.argv.slice(2);
const pool = new pg.Pool({ connectionString, max: 10 });
await pool.query(`
  CREATE TABLE IF NOT EXISTS keys (key text PRIMARY KEY, fingerprint text NOT NULL, state text NOT NULL, status int, answer text);
  CREATE TABLE IF NOT EXISTS intents (id text PRIMARY KEY, key text NOT NULL, body text NOT NULL);
  CREATE TABLE IF NOT EXISTS candidates (id text PRIMARY KEY, external_id text NOT NULL, document text NOT NULL);
  UPDATE keys SET state = 'unknown' WHERE key IN (SELECT key FROM intents);
`);

const begin = async ({ key, fingerprint, id, body }) => {
  const added = await pool.query({
    name: "begin",
    text: `WITH added AS (
             INSERT INTO keys (key, fingerprint, state) VALUES ($1, $2, 'sending') ON CONFLICT DO NOTHING RETURNING key)
           INSERT INTO intents (id, key, body) SELECT $3, key, $4 FROM added`,
    values: [key, fingerprint, id, body],
  });
  if (added.rowCount === 1) return;
  const held = await pool.query("SELECT fingerprint, state, status, answer FROM keys WHERE key = $1", [key]);
  return held.rows[0];
};

const conclude = ({ key, id, externalId }, state, status, answer, applied) =>
  pool.query({
    name: "conclude",
    text: `WITH ended AS (DELETE FROM intents WHERE id = $1 AND $2 = 'done'),
                answered AS (UPDATE keys SET state = $2, status = $3, answer = $4 WHERE key = $5)
           INSERT INTO candidates (id, external_id, document) SELECT $1, $6, $4 WHERE $7`,
    values: [id, state, status, answer, key, externalId, applied],
  });

const read = async (id) => {
  const found = await pool.query({ name: "read", text: "SELECT document FROM candidates WHERE id = $1", values: [id] });
  return found.rows[0]?.document;
};

const app = application();
keepPromise(app, vendorAt(vendor), { begin, conclude, read });
await serve(app);
