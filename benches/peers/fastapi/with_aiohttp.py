"""FastAPI and aiohttp, as an integrator writes it by hand. It stores nothing."""

import os
from contextlib import asynccontextmanager

import aiohttp
from fastapi import Depends, FastAPI, HTTPException

from common import PATH, Candidate, NewCandidate, constant, document, known, signed


@asynccontextmanager
async def lifespan(app: FastAPI):
    connector = aiohttp.TCPConnector(limit=64, keepalive_timeout=60)
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(os.environ["VENDOR_URL"], connector=connector, timeout=timeout) as session:
        app.state.session = session
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/candidates", status_code=201, dependencies=[Depends(known)])
async def register(new: NewCandidate) -> Candidate:
    body, headers = signed(new)
    try:
        async with app.state.session.post(PATH, data=body, headers=headers) as answer:
            await answer.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise HTTPException(504, "vendor") from error
    if not answer.ok:
        raise HTTPException(502, "vendor")
    return document(None, new.externalId, new.name, new.email)


@app.get("/candidates/{id_}", dependencies=[Depends(known)])
async def read(id_: str) -> Candidate:
    return constant(id_)


@app.get("/readyz")
async def ready() -> str:
    return "ok"
