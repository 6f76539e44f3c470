"""The app under test: every kind of guarded route, told what to believe by the variable GUARDED."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket as StarletteWebSocket

from gatewright.asgi import GuardMiddleware
from gatewright.fastapi import ApiKey, Gatewright, Machine, Principal, User

App = Callable[[Any, Any, Any], Awaitable[None]]


def show(principal: Principal | None) -> dict[str, Any] | None:
    if principal is None:
        return None
    known = ("kind", "via", "id", "issuer", "session_id", "client_id", "organization_id", "roles", "permissions", "scopes", "email", "user")
    return {name: getattr(principal, name) for name in (*known, "feature_flags", "claims")}


def build(settings: dict[str, Any]) -> App:
    """An app with a guard of its own."""
    gw = Gatewright(**settings)
    app = FastAPI(lifespan=gw.lifespan, **gw.docs())
    app.include_router(gw.router(), prefix="/auth")

    CurrentUser = Annotated[User, Depends(gw.user)]
    Caller = Annotated[Principal, Depends(gw.principal)]

    @app.get("/health", dependencies=[Depends(gw.public)])
    def check_health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/", dependencies=[Depends(gw.public)])
    def home() -> dict[str, str]:
        return {"home": "yes"}

    @app.get("/guard", dependencies=[Depends(gw.public)])
    async def tell_of_guard() -> Any:
        return {"pid": os.getpid(), "health": gw.health(), "stats": gw.stats()}

    @app.get("/ticks")
    async def ticks(user: CurrentUser) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            while True:
                yield "tick\n"
                await asyncio.sleep(0.05)

        return StreamingResponse(gw.stream_until_revoked(parts(), user, interval=3600))

    @app.websocket("/told")
    async def told(socket: WebSocket, user: CurrentUser) -> None:
        """Watched, and nobody asks the server meanwhile."""
        await socket.accept()
        await socket.send_json(show(user))
        async with gw.until_revoked(socket, user, interval=3600):
            await socket.receive()

    @app.get("/open")
    async def read_open() -> dict[str, int]:
        return {"pid": os.getpid()}

    @app.get("/who")
    async def who(caller: Caller) -> Any:
        return show(caller)

    @app.get("/me")
    def me(user: CurrentUser) -> Any:
        return show(user)

    @app.post("/me")
    def change_me(user: CurrentUser) -> Any:
        return show(user)

    @app.get("/optional")
    async def maybe(user: Annotated[User | None, Depends(gw.user.optional)]) -> Any:
        return show(user)

    @app.get("/write", dependencies=[Depends(gw.requires(permission="expenses:write"))])
    async def write(user: CurrentUser) -> Any:
        return show(user)

    @app.get("/admin")
    async def admin(user: Annotated[User, Depends(gw.requires(role="admin"))]) -> Any:
        return show(user)

    @app.get("/orgs/{org_id}/report")
    async def report(org_id: str, user: Annotated[User, Depends(gw.requires(org="{org_id}"))]) -> Any:
        return show(user)

    @app.get("/second-factor")
    async def second_factor(user: Annotated[User, Depends(gw.requires(mfa=True, max_age=3600))]) -> Any:
        return show(user)

    @app.get("/young")
    async def young(user: Annotated[User, Depends(gw.requires(max_age=3))]) -> Any:
        return show(user)

    @app.get("/fresh")
    async def fresh(user: Annotated[User, Depends(gw.requires(fresh=True))]) -> Any:
        return show(user)

    @app.get("/machine")
    async def machine(caller: Annotated[Machine, Depends(gw.machine())]) -> Any:
        return show(caller)

    @app.get("/machine/write")
    async def machine_write(caller: Annotated[Machine, Depends(gw.machine(scopes=["expenses:write"]))]) -> Any:
        return show(caller)

    @app.get("/key")
    async def key(caller: Annotated[ApiKey, Depends(gw.api_key())]) -> Any:
        return show(caller)

    @app.get("/key/write")
    async def key_write(caller: Annotated[ApiKey, Depends(gw.api_key(permission="expenses:write"))]) -> Any:
        return show(caller)

    # Answers of every make, for the cookie that must go out with them.

    @app.get("/own-response")
    async def own_response(user: CurrentUser) -> PlainTextResponse:
        return PlainTextResponse(user.id)

    @app.get("/stream")
    async def stream(user: CurrentUser) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            yield user.id[:4]
            yield user.id[4:]

        return StreamingResponse(parts())

    @app.get("/refuses")
    async def refuses(user: CurrentUser) -> None:
        raise HTTPException(418, user.id)

    @app.websocket("/live")
    async def live(socket: WebSocket, user: CurrentUser) -> None:
        await socket.accept("bearer" if "bearer" in socket.scope.get("subprotocols", []) else None)
        await socket.send_json(show(user))
        await socket.receive()

    @app.websocket("/watched")
    async def watched(socket: WebSocket, user: CurrentUser) -> None:
        await socket.accept()
        await socket.send_json(show(user))
        async with gw.until_revoked(socket, user, interval=0.3):
            await socket.receive()

    # The same guard around an app that knows nothing of FastAPI, beside the other and not inside it.

    async def asgi_who(request: Request) -> JSONResponse:
        return JSONResponse(show(request.scope["gatewright"]))

    async def asgi_live(socket: StarletteWebSocket) -> None:
        await socket.accept("bearer" if "bearer" in socket.scope["subprotocols"] else None)
        await socket.send_json(show(socket.state.gatewright))
        await socket.receive()

    inner = Starlette(routes=[Route("/asgi/who", asgi_who, methods=["GET", "POST"]), WebSocketRoute("/asgi/live", asgi_live)])
    guarded = GuardMiddleware(inner, gw, require=True)

    def both(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        return (guarded if scope.get("path", "").startswith("/asgi/") else app)(scope, receive, send)

    return both


# By the beginning of the path. Only the first is told of start and end, as only the outermost app ever is.
APPS = {prefix: build(settings) for prefix, settings in json.loads(os.environ["GUARDED"]).items()}


def application(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
    if scope["type"] == "lifespan":
        return next(iter(APPS.values()))(scope, receive, send)
    prefix = next((prefix for prefix in APPS if prefix and scope["path"].startswith(f"{prefix}/")), "")
    path = scope["path"][len(prefix) :]
    return APPS[prefix]({**scope, "path": path, "raw_path": path.encode()}, receive, send)
