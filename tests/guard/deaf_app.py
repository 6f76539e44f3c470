"""An app that believes every token whose signature and times are right, and hears of nothing that was revoked."""

from __future__ import annotations

import os

import jwt
from fastapi import FastAPI, HTTPException, Request

SERVER = f"{os.environ['WORKOS_BASE_URL']}/sso/jwks/{os.environ['WORKOS_CLIENT_ID']}"
keys = jwt.PyJWKClient(SERVER)
app = FastAPI()


@app.get("/health")
def check_health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/me")
def me(request: Request) -> dict[str, str]:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        if scheme != "Bearer":
            raise jwt.InvalidTokenError
        claims = jwt.decode(token, keys.get_signing_key_from_jwt(token).key, algorithms=["RS256"], options={"verify_aud": False})
    except jwt.PyJWTError:
        raise HTTPException(401) from None
    return {"id": claims["sub"]}
