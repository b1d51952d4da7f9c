"""FastAPI, asyncpg and aiohttp: the intent is durable before the vendor is called, the outcome before the caller gets
it, and what was sent under a key is never sent again, not even after a crash; all for one process.

Keeps no secrets, no identities, no audit record; leaves what was in flight at a crash unknown for ever.
"""

import hashlib
import os
import uuid
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import Depends, FastAPI, Header, Response

from common import Candidate, NewCandidate, document, known, send, session

TABLES = """
CREATE TABLE IF NOT EXISTS keys (key text PRIMARY KEY, fingerprint bytea NOT NULL, state text NOT NULL, status int, answer text);
CREATE TABLE IF NOT EXISTS intents (id text PRIMARY KEY, key text NOT NULL, body text NOT NULL);
CREATE TABLE IF NOT EXISTS candidates (id text PRIMARY KEY, external_id text NOT NULL, document text NOT NULL);
UPDATE keys SET state = 'unknown' WHERE key IN (SELECT key FROM intents);
"""
BEGIN = """
WITH added AS (
  INSERT INTO keys (key, fingerprint, state) VALUES ($1, $2, 'sending') ON CONFLICT DO NOTHING RETURNING key)
INSERT INTO intents (id, key, body) SELECT $3, key, $4 FROM added RETURNING 1
"""
CONCLUDE = """
WITH ended AS (DELETE FROM intents WHERE id = $1 AND $2 = 'done'),
  answered AS (UPDATE keys SET state = $2, status = $3, answer = $4 WHERE key = $5)
INSERT INTO candidates (id, external_id, document) SELECT $1, $6, $4 WHERE $7
"""
HELD = "SELECT fingerprint, state, status, answer FROM keys WHERE key = $1"


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with session() as client, asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=10, max_size=10) as pool:
        await pool.execute(TABLES)
        app.state.session, app.state.pool = client, pool
        yield


app = FastAPI(lifespan=lifespan)


def answer(status: int, text: str) -> Response:
    return Response(text, status, media_type="application/json")


def repeated(held: asyncpg.Record, fingerprint: bytes) -> Response:
    if held["fingerprint"] != fingerprint:
        return answer(422, '{"status":422,"outcome":"not_applied","detail":"the key belongs to another request"}')
    if held["state"] == "done":
        return answer(held["status"], held["answer"])
    return answer(409, '{"status":409,"outcome":"unknown"}')


@app.post("/candidates", status_code=201, dependencies=[Depends(known)])
async def register(new: NewCandidate, idempotency_key: Annotated[str | None, Header()] = None) -> Candidate:
    pool, key, id_, body = app.state.pool, idempotency_key or uuid.uuid4().hex, f"cand_{uuid.uuid4().hex}", new.model_dump_json()
    fingerprint = hashlib.sha256(body.encode()).digest()
    if await pool.fetchval(BEGIN, key, fingerprint, id_, body) is None:
        return repeated(await pool.fetchrow(HELD, key), fingerprint)
    outcome = await send(app.state.session, new)
    state = "unknown" if outcome == "unknown" else "done"
    status = {"applied": 201, "not_applied": 502, "unknown": 504}[outcome]
    if outcome == "applied":
        text = document(id_, new.externalId, new.name, new.email).model_dump_json()
    else:
        text = f'{{"status":{status},"outcome":"{outcome}"}}'
    await pool.execute(CONCLUDE, id_, state, status, text, key, new.externalId, outcome == "applied")
    return answer(status, text)


@app.get("/candidates/{id_}", dependencies=[Depends(known)])
async def read(id_: str) -> Candidate:
    found = await app.state.pool.fetchval("SELECT document FROM candidates WHERE id = $1", id_)
    return answer(200, found) if found else answer(404, '{"status":404}')


@app.get("/readyz")
async def ready() -> str:
    return "ok"
