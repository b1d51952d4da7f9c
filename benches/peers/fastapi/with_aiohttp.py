"""FastAPI and aiohttp, as an integrator writes it by hand. Keeps nothing: a retry is sent again."""

from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, HTTPException

from common import Candidate, NewCandidate, constant, document, known, send, session


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with session() as client:
        app.state.session = client
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/candidates", status_code=201, dependencies=[Depends(known)])
async def register(new: NewCandidate) -> Candidate:
    outcome = await send(app.state.session, new)
    if outcome != "applied":
        raise HTTPException(502, outcome)
    return document(None, new.externalId, new.name, new.email)


@app.get("/candidates/{id_}", dependencies=[Depends(known)])
async def read(id_: str) -> Candidate:
    return constant(id_)


@app.get("/readyz")
async def ready() -> str:
    return "ok"
