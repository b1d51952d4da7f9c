"""The common parts of both FastAPI gateways: models, documents and the signed call to StartExam."""

import base64
import email.utils
import hashlib
import hmac
import json
import os
import uuid
from datetime import datetime, timezone
from typing import Annotated

import aiohttp
from fastapi import Header, HTTPException
from pydantic import BaseModel, ConfigDict, Field

ACCOUNT, SECRET, KEY = 99, b"bench-secret-of-the-fake-vendor", "egk_bench-only"
PROFILE = "d51b5efd-fb21-4cb8-94e2-145014839465"
PATH = "/v1/employees"


class Name(BaseModel):
    model_config = ConfigDict(extra="forbid")
    givenName: str | None = None
    familyName: str | None = None


class NewCandidate(BaseModel):
    model_config = ConfigDict(extra="forbid")
    connection: str | None = None
    externalId: str = Field(min_length=1, max_length=250)
    name: Name = Name()
    email: str | None = Field(default=None, pattern="@")


class VendorRef(BaseModel):
    id: str


class Meta(BaseModel):
    created: str
    lastModified: str
    version: str


class Candidate(BaseModel):
    id: str
    connection: str
    state: str
    outcome: str
    externalId: str
    name: Name
    email: str | None
    active: bool
    vendorRef: VendorRef
    warnings: list[str]
    meta: Meta


async def known(authorization: Annotated[str, Header()] = "") -> None:
    if authorization != f"Bearer {KEY}":
        raise HTTPException(401, "unknown key")


def signed(new: NewCandidate) -> tuple[bytes, dict[str, str]]:
    fields = (("First Name", new.name.givenName), ("Last Name", new.name.familyName), ("Email", new.email))
    data = [{"name": name, "value": value} for name, value in fields if value is not None]
    employees = [{"id": new.externalId, "status": "active", "data": data}]
    body = json.dumps({"profileId": PROFILE, "employees": employees}).encode()
    date = email.utils.formatdate(usegmt=True)
    message = f"POST {PATH} {date} {len(body)}".encode()
    sum_ = base64.b64encode(hmac.digest(SECRET, message, hashlib.sha256)).decode()
    authorization = f"SharedKey {ACCOUNT}:{sum_}"
    return body, {"authorization": authorization, "date": date, "content-type": "application/json; charset=utf-8"}


def session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=64, keepalive_timeout=60)
    return aiohttp.ClientSession(os.environ["VENDOR_URL"], connector=connector, timeout=aiohttp.ClientTimeout(total=20))


async def send(client: aiohttp.ClientSession, new: NewCandidate) -> str:
    """Registers a candidate at the vendor and returns the outcome."""
    body, headers = signed(new)
    try:
        async with client.post(PATH, data=body, headers=headers) as answer:
            await answer.read()
    except (aiohttp.ClientError, TimeoutError):
        return "unknown"
    if answer.ok:
        return "applied"
    return "not_applied" if answer.status < 500 else "unknown"


def document(id_: str | None, external_id: str, name: Name, email_: str | None) -> Candidate:
    now = datetime.now(timezone.utc).isoformat()
    return Candidate(
        id=id_ or f"cand_{uuid.uuid4().hex}", connection="startexam-main", state="registered", outcome="applied",
        externalId=external_id, name=name, email=email_, active=True, vendorRef=VendorRef(id=external_id), warnings=[],
        meta=Meta(created=now, lastModified=now, version="2"))


def constant(id_: str) -> Candidate:
    return document(id_, "bench-0000-1", Name(givenName="Ines", familyName="Costa"), "bench-0000-1@example.com")
