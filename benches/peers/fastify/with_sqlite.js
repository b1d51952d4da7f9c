// fastify and better-sqlite3 (WAL, synchronous=FULL). Keeps the promise of durable.js for one process.
// Keeps no secrets, no identities, no audit record; leaves what was in flight at a crash unknown for ever.
// usage: node with_sqlite.js VENDOR_URL FILE each|group; the first line on stdout is its address.
//
// each: a commit for each intent and each outcome, as most would write it. group: those that come in one turn of the
// event loop share a commit.
import Database from "better-sqlite3";
import { application, serve, vendorAt } from "./common.js";
import { keepPromise } from "./durable.js";

const [vendor, file, commits] = process.argv.slice(2);
const db = new Database(file);
db.pragma("journal_mode = WAL");
db.pragma("synchronous = FULL");
db.exec(`
  CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, state TEXT NOT NULL, status INTEGER, answer TEXT);
  CREATE TABLE IF NOT EXISTS intents (id TEXT PRIMARY KEY, key TEXT NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS candidates (id TEXT PRIMARY KEY, external_id TEXT NOT NULL, document TEXT NOT NULL);
  -- Whatever is in flight at a start was in flight at the end of the process before.
  UPDATE keys SET state = 'unknown' WHERE key IN (SELECT key FROM intents);
`);

const held = db.prepare("SELECT fingerprint, state, status, answer FROM keys WHERE key = ?");
const addKey = db.prepare("INSERT INTO keys (key, fingerprint, state) VALUES (?, ?, 'sending') ON CONFLICT DO NOTHING");
const addIntent = db.prepare("INSERT INTO intents (id, key, body) VALUES (?, ?, ?)");
const endIntent = db.prepare("DELETE FROM intents WHERE id = ?");
const endKey = db.prepare("UPDATE keys SET state = ?, status = ?, answer = ? WHERE key = ?");
const addCandidate = db.prepare("INSERT INTO candidates (id, external_id, document) VALUES (?, ?, ?)");
const document = db.prepare("SELECT document FROM candidates WHERE id = ?").pluck();

const begin = ({ key, fingerprint, id, body }) => {
  if (addKey.run(key, fingerprint).changes === 0) return held.get(key);
  addIntent.run(id, key, body);
};
const conclude = ({ key, id, externalId }, state, status, answer, applied) => {
  if (applied) addCandidate.run(id, externalId, answer);
  if (state === "done") endIntent.run(id);
  endKey.run(state, status, answer, key);
};

/** Runs each job in a transaction of its own. */
const eachAlone = (job) => {
  const transaction = db.transaction(job);
  return async (...values) => transaction.immediate(...values);
};

const waiting = [];
const commitTogether = db.transaction((jobs) => jobs.map(({ job, values }) => job(...values)));
const flush = () => {
  const jobs = waiting.splice(0);
  try {
    const results = commitTogether.immediate(jobs);
    jobs.forEach(({ resolve }, at) => resolve(results[at]));
  } catch (error) {
    jobs.forEach(({ reject }) => reject(error));
  }
};
/** Runs the jobs of one turn of the event loop in one transaction; each is answered after the commit. */
const together = (job) => (...values) =>
  new Promise((resolve, reject) => {
    if (waiting.push({ job, values, resolve, reject }) === 1) setImmediate(flush);
  });

const durable = commits === "group" ? together : eachAlone;
const app = application();
keepPromise(app, vendorAt(vendor), { begin: durable(begin), conclude: durable(conclude), read: (id) => document.get(id) });
const pragmas = ["journal_mode", "synchronous"].map((name) => [name, db.pragma(name, { simple: true })]);
app.get("/readyz/durability", async () => Object.fromEntries(pragmas));
await serve(app);
