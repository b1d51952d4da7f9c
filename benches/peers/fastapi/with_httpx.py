"""FastAPI and httpx, as an integrator writes it by hand. It stores nothing."""

import os
from contextlib import asynccontextmanager

import httpx
from fastapi import Depends, FastAPI, HTTPException

from common import PATH, Candidate, NewCandidate, constant, document, known, signed


@asynccontextmanager
async def lifespan(app: FastAPI):
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=os.environ["VENDOR_URL"], limits=limits, timeout=20) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/candidates", status_code=201, dependencies=[Depends(known)])
async def register(new: NewCandidate) -> Candidate:
    body, headers = signed(new)
    try:
        answer = await app.state.client.post(PATH, content=body, headers=headers)
    except httpx.HTTPError as error:
        raise HTTPException(504, "vendor") from error
    if not answer.is_success:
        raise HTTPException(502, "vendor")
    return document(None, new.externalId, new.name, new.email)


@app.get("/candidates/{id_}", dependencies=[Depends(known)])
async def read(id_: str) -> Candidate:
    return constant(id_)


@app.get("/readyz")
async def ready() -> str:
    return "ok"
