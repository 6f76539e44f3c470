"""Code that uses the package, for type checkers: `mypy --strict` and `pyright` must find nothing to say. Never run."""

from collections.abc import AsyncIterator
from typing import Annotated, Literal, assert_type

from fastapi import Depends, FastAPI, WebSocket

from gatewright.asgi import GuardMiddleware, Requirement
from gatewright.fastapi import ApiKey, Gatewright, Machine, Principal, User
from gatewright.testing import TestIssuer, acting_as

gw = Gatewright.from_env()
app = FastAPI(lifespan=gw.lifespan, **gw.docs())
app.include_router(gw.router(), prefix="/auth")
CurrentUser = Annotated[User, Depends(gw.user)]
MaybeUser = Annotated[User | None, Depends(gw.user.optional)]


@app.get("/a", dependencies=[Depends(gw.public), Depends(gw.requires(role="x"))])
def a(user: CurrentUser, maybe: MaybeUser) -> str:
    return user.id + (maybe.email or "" if maybe else "")


async def check(ws: WebSocket, user: User) -> None:
    assert_type(await gw.user(ws), User)
    assert_type(await gw.user.optional(ws), User | None)
    assert_type(await gw.principal(ws), Principal)
    assert_type(await gw.principal.optional(ws), Principal | None)
    assert_type(await gw.requires(role="a")(ws), User)
    assert_type(await gw.requires(kind="user", mfa=True)(ws), User)
    assert_type(await gw.requires(kind="principal")(ws), Principal)
    assert_type(await gw.requires(kind="machine")(ws), Machine)
    assert_type(await gw.requires(kind="api_key")(ws), ApiKey)
    assert_type(await gw.machine(scopes=["x"])(ws), Machine)
    assert_type(await gw.api_key(permission="x")(ws), ApiKey)
    async with gw.until_revoked(ws, user, interval=3):
        pass
    assert_type(gw.stream_until_revoked(parts(), user), AsyncIterator[bytes])
    assert_type(gw.health()["revocations"], Literal["live", "stale", "off"])
    assert_type(gw.health()["age_seconds"], float | None)
    gw.assert_covered(app)


async def parts() -> AsyncIterator[bytes]:
    yield b""


def use_elsewhere() -> None:
    GuardMiddleware(app, gw, require=Requirement(roles=["admin"]))
    GuardMiddleware(app, gw, require=lambda scope: scope["path"] != "/open")
    with acting_as(app, gw, role="admin", plan="gold") as somebody:
        assert_type(somebody, Principal)
    with TestIssuer() as issuer:
        assert_type(issuer.user_token(), str)
