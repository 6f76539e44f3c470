"""Tokens of another provider, beside our own, with what its claims mean here."""

import time
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from asgi_calls import bearer
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from conftest import forgetful
from gatewright.fastapi import Claims, Gatewright, Issuer, Principal, User
from gatewright.testing import TestIssuer


@pytest.fixture
def other() -> Iterator[TestIssuer]:
    with TestIssuer(client_id="other") as other:
        yield other


@pytest.fixture
def client(issuer: TestIssuer, other: TestIssuer) -> Iterator[TestClient]:
    mapping = Claims(roles="realm_access.roles", rename={"role:Admins": "admin"}, grants={"role:admin": ["expenses:write"]})
    theirs = Issuer(other.url, audiences=["expenses"], jwks_uri=f"{other.url}/oauth2/jwks", claims=mapping)
    gw = Gatewright(**issuer.settings(issuers=[theirs]))
    app = FastAPI(lifespan=gw.lifespan)

    @app.get("/who")
    def who(who: Annotated[Principal, Depends(gw.principal)]) -> dict[str, Any]:
        return {"id": who.id, "kind": who.kind, "issuer": who.issuer, "permissions": who.permissions}

    @app.get("/write")
    def write(user: Annotated[User, Depends(gw.requires(role="admin", permission="expenses:write"))]) -> str:
        return user.id

    with forgetful(app) as client:
        yield client


def their_token(other: TestIssuer, **claims: Any) -> str:
    now = int(time.time())
    usual = {
        "iss": other.url,
        "sub": "person",
        "aud": "expenses",
        "azp": "browser",
        "iat": now,
        "exp": now + 60,
        "realm_access": {"roles": ["Admins"]},
    }
    return other.sign({**usual, **claims})


def test_a_role_there_is_a_role_and_a_permission_here(client: TestClient, other: TestIssuer) -> None:
    token = bearer(their_token(other))
    assert client.get("/write", headers=token).json() == "person"
    assert client.get("/who", headers=token).json() == {
        "id": "person",
        "kind": "user",
        "issuer": other.url,
        "permissions": ["expenses:write"],
    }
    assert client.get("/write", headers=bearer(their_token(other, realm_access={"roles": ["Guests"]}))).status_code == 403


def test_their_tokens_are_never_ours_nor_ours_theirs(client: TestClient, issuer: TestIssuer, other: TestIssuer) -> None:
    refused = {
        "for somebody else": their_token(other, aud="somebody"),
        "no audience": their_token(other, aud=None),
        "an id token": their_token(other, nonce="n"),
        "our issuer, their key": their_token(other, iss=issuer.issuer, sid="session_1"),
        "their issuer, our key": issuer.sign(
            {"iss": other.url, "sub": "person", "aud": "expenses", "iat": int(time.time()), "exp": int(time.time()) + 60}
        ),
        "their issuer, our key under their name": other.sign(
            {"iss": other.url, "sub": "person", "aud": "expenses", "iat": int(time.time()), "exp": int(time.time()) + 60}, key=issuer.key
        ),
    }
    for case, token in refused.items():
        assert client.get("/who", headers=bearer(token)).status_code == 401, case
