"""Guards, decoys and middleware that are not Gatewright's."""

import functools
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import APIKeyCookie, APIKeyHeader, HTTPBearer, SecurityScopes
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from .gate import gw

GOOD = "Bearer good"
bearer = HTTPBearer()
lenient_bearer = HTTPBearer(auto_error=False)
cookie = APIKeyCookie(name="sid", auto_error=False)


async def house_guard(connection: HTTPConnection) -> str:
    """Declared with --guard: refuses for real."""
    if connection.headers.get("authorization") != GOOD:
        raise HTTPException(401)
    return "somebody"


async def cookie_guard(sid: Annotated[str | None, Security(cookie)]) -> str:
    """Declared with --guard: a session cookie, and nothing against forged requests."""
    if sid != "good":
        raise HTTPException(401)
    return sid


async def scoped_guard(scopes: SecurityScopes, connection: HTTPConnection) -> str:
    """Declared with --guard: reads the scopes of Security(...)."""
    if connection.headers.get("authorization") != GOOD:
        raise HTTPException(401, headers={"WWW-Authenticate": f'Bearer scope="{scopes.scope_str}"'})
    return "somebody"


def house_factory(*, optional: bool = False, role: str | None = None) -> Callable[[Request], str | None]:
    """Declared with --guard: makes guards, some of which let strangers pass."""

    def product(request: Request) -> str | None:
        if request.headers.get("authorization") == GOOD:
            return role or "somebody"
        if optional:
            return None
        raise HTTPException(401)

    return product


class HouseGuard:
    """Declared with --guard: an instance with ``__call__``."""

    def __init__(self, level: int) -> None:
        self.level = level

    async def __call__(self, request: Request) -> int:
        if request.headers.get("authorization") != GOOD:
            raise HTTPException(401)
        return self.level


def house_decorator(endpoint: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Declared with --guard: a decorator around endpoints that take the request."""

    @functools.wraps(endpoint)
    async def inner(*args: Any, **kwargs: Any) -> Any:
        request = kwargs.get("request") or args[0]
        if request.headers.get("authorization") != GOOD:
            raise HTTPException(401)
        return await endpoint(*args, **kwargs)

    return inner


async def require_login() -> None:
    """A decoy: refuses nobody."""


async def undeclared_guard(connection: HTTPConnection) -> str:
    """Refuses for real, but nobody declared it: only a probe can tell it from a decoy."""
    if connection.headers.get("authorization") != GOOD:
        raise HTTPException(401)
    return "somebody"


async def presence_only(token: Annotated[str | None, Depends(APIKeyHeader(name="authorization"))]) -> str | None:
    """A decoy: any header will do."""
    return token


@functools.wraps(house_guard)
async def borrowed_name(connection: HTTPConnection) -> str | None:
    """A decoy: looks like the guard, never calls it."""
    return connection.headers.get("x-anything")


def swallow(guard: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(guard)
    async def inner(*args: Any, **kwargs: Any) -> Any:
        try:
            return await guard(*args, **kwargs)
        except HTTPException:
            return None

    return inner


def measured(guard: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """An honest wrapper: the refusal passes."""

    @functools.wraps(guard)
    async def inner(*args: Any, **kwargs: Any) -> Any:
        return await guard(*args, **kwargs)

    return inner


swallowing_guard = swallow(house_guard)
measured_guard = measured(house_guard)


def must_be_editor(user: Annotated[Any, Depends(gw.user)]) -> Any:
    """The app's own check on top of a known guard."""
    if getattr(user, "name", None) == "reader":
        raise HTTPException(403)
    return user


def owner_of(user_id: str, user: Annotated[Any, Depends(gw.user)]) -> Any:
    """Compares the person of the path with the caller."""
    if user.id != user_id:
        raise HTTPException(404)
    return user


class HeaderGate:
    """Pure ASGI middleware that looks like a guard."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and dict(scope["headers"]).get(b"authorization") != GOOD.encode():
            await PlainTextResponse("no", status_code=401)(scope, receive, send)
            return
        await self.app(scope, receive, send)


class LoginWall(BaseHTTPMiddleware):
    """Never sees WebSockets."""

    async def dispatch(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.headers.get("authorization") != GOOD:
            return PlainTextResponse("no", status_code=401)
        return await call_next(request)
