"""What the tests of the package share: a stand-in for the server, a Gatewright, and an app with every kind of guard."""

# No `from __future__ import annotations` here: FastAPI reads the annotations of the endpoints.

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient

from gatewright._core import TestKey as Key
from gatewright.fastapi import ApiKey, Gatewright, Machine, Principal, User
from gatewright.testing import TestIssuer


@pytest.fixture(scope="session")
def signing_key() -> Key:
    return Key()


@pytest.fixture
def issuer(signing_key: Key) -> Iterator[TestIssuer]:
    with TestIssuer(key=signing_key) as issuer:
        yield issuer


@pytest.fixture
def gw(issuer: TestIssuer) -> Gatewright:
    return Gatewright(**issuer.settings())


@pytest.fixture
def app(gw: Gatewright) -> FastAPI:
    return build_app(gw)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """Keeps no cookies: every request says itself who makes it."""
    with forgetful(app) as client:
        yield client


def forgetful(app: Any, **options: Any) -> TestClient:
    client = TestClient(app, follow_redirects=False, **options)
    client.cookies.jar.set_policy(NoCookies())
    return client


class NoCookies:
    """A cookie policy that neither takes nor gives."""

    rfc2965 = netscape = hide_cookie2 = False

    def set_ok(self, cookie: Any, request: Any) -> bool:
        return False

    return_ok = set_ok

    def domain_return_ok(self, domain: str, request: Any) -> bool:
        return False

    path_return_ok = domain_return_ok


def build_app(gw: Gatewright) -> FastAPI:
    app = FastAPI(lifespan=gw.lifespan, **gw.docs())
    app.include_router(gw.router(), prefix="/auth")

    @app.get("/health", dependencies=[Depends(gw.public)])
    def health() -> str:
        return "fine"

    @app.get("/user")
    def user(user: Annotated[User, Depends(gw.user)]) -> str:
        return user.id

    @app.get("/async-user")
    async def async_user(user: Annotated[User, Depends(gw.user)]) -> str:
        return user.id

    @app.get("/optional", dependencies=[Depends(gw.public)])
    def optional(user: Annotated[User | None, Depends(gw.user.optional)]) -> str | None:
        return user.id if user else None

    @app.get("/principal")
    def principal(who: Annotated[Principal, Depends(gw.principal)]) -> str:
        return f"{who.kind} {who.id}"

    @app.post("/write")
    def write(user: Annotated[User, Depends(gw.user)]) -> str:
        return user.id

    @app.post("/write-from-anywhere")
    def write_from_anywhere(user: Annotated[User, Depends(gw.requires(csrf=False))]) -> str:
        return user.id

    @app.get("/role", dependencies=[Depends(gw.requires(roles=["admin", "owner"]))])
    def role() -> str:
        return "in"

    @app.get("/permission")
    def permission(user: Annotated[User, Depends(gw.requires(permissions=["a:read", "b:read"]))]) -> str:
        return user.id

    @app.get("/mfa", dependencies=[Depends(gw.requires(mfa=True, max_age=300))])
    def mfa() -> str:
        return "in"

    @app.get("/own", dependencies=[Depends(gw.requires(impersonation=False))])
    def own() -> str:
        return "in"

    @app.get("/fresh", dependencies=[Depends(gw.requires(fresh=True))])
    def fresh() -> str:
        return "in"

    @app.get("/orgs/{org_id}/report")
    def report(org_id: str, user: Annotated[User, Depends(gw.requires(org="{org_id}"))]) -> str:
        return org_id

    @app.get("/some-org", dependencies=[Depends(gw.requires(org="*"))])
    def some_org() -> str:
        return "in"

    @app.post("/ingest")
    def ingest(machine: Annotated[Machine, Depends(gw.machine(scopes=["ingest:write"]))]) -> str:
        return machine.id

    @app.get("/items")
    def items(key: Annotated[ApiKey, Depends(gw.api_key(permission="items:read"))]) -> str:
        return key.organization_id or ""

    @app.websocket("/live")
    async def live(websocket: WebSocket, user: Annotated[User, Depends(gw.user)]) -> None:
        await websocket.accept()
        await websocket.send_text(user.id)
        await websocket.close()

    return app
