"""The app. Every route that is a hole, or only looks like one, says so in its name."""

from __future__ import annotations

import functools
import os
import tempfile
from typing import Annotated, Any

import fastapi
from fastapi import APIRouter, Depends, FastAPI, Request, Security, WebSocket
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles

from gatewright import Requirement
from gatewright.asgi import GuardMiddleware

from . import foreign
from .gate import gw

VERSION = tuple(int(part) for part in fastapi.__version__.split(".")[:2])
FILES = tempfile.mkdtemp(prefix="gatewright-planted-")
with open(os.path.join(FILES, "index.html"), "w", encoding="utf-8") as page:
    page.write("<!doctype html><title>planted</title>")

ran: list[str] = []
"""Names of endpoints whose body ran. A probe must leave it empty."""

CurrentUser = Annotated[Any, Depends(gw.user)]
MaybeUser = Annotated[Any, Depends(gw.user.optional)]

app = FastAPI(title="planted")
app.add_middleware(GZipMiddleware)


def body(name: str) -> dict[str, str]:
    ran.append(name)
    return {"name": name}


# --- plain routes ---------------------------------------------------------------------------------------------------


@app.get("/health", dependencies=[Depends(gw.public)])
async def health() -> dict[str, str]:
    return body("health")


@app.get("/ping")
async def ping() -> dict[str, str]:
    """Public by pattern."""
    return body("ping")


@app.get("/expenses")
async def expenses(user: CurrentUser) -> dict[str, str]:
    return body("expenses")


@app.post("/expenses", dependencies=[Depends(gw.requires(permission="expenses:write"))])
async def add_expense(user: CurrentUser) -> dict[str, str]:
    return body("add_expense")


@app.get("/raw/export")
def hole_forgotten() -> dict[str, str]:
    return body("hole_forgotten")


@app.get("/hidden", include_in_schema=False)
async def hole_hidden() -> dict[str, str]:
    return body("hole_hidden")


@app.api_route("/both", methods=["GET", "POST", "HEAD", "OPTIONS"])
async def hole_two_methods() -> dict[str, str]:
    return body("hole_two_methods")


@app.get("/split")
async def split_read(user: CurrentUser) -> dict[str, str]:
    return body("split_read")


@app.put("/split")
async def hole_split_write() -> dict[str, str]:
    return body("hole_split_write")


@app.get("/greeting")
async def hole_optional(user: MaybeUser) -> dict[str, str]:
    return body("hole_optional")


@app.get("/front", dependencies=[Depends(gw.public)])
async def optional_on_purpose(user: MaybeUser) -> dict[str, str]:
    return body("optional_on_purpose")


@app.get("/both-optional-and-strict", dependencies=[Depends(gw.user)])
async def optional_beside_strict(user: MaybeUser) -> dict[str, str]:
    return body("optional_beside_strict")


@app.get("/machine", dependencies=[Depends(gw.machine(scopes=["ingest:write"]))])
async def machine() -> dict[str, str]:
    return body("machine")


@app.get("/key", dependencies=[Depends(gw.api_key(permission="items:read"))])
async def key() -> dict[str, str]:
    return body("key")


# --- somebody else's guards, declared -------------------------------------------------------------------------------


@app.get("/house", dependencies=[Depends(foreign.house_guard)])
async def house() -> dict[str, str]:
    return body("house")


@app.get("/partial", dependencies=[Depends(functools.partial(foreign.house_guard))])
async def partial_guard() -> dict[str, str]:
    return body("partial_guard")


@app.get("/measured", dependencies=[Depends(foreign.measured_guard)])
async def wrapped_guard() -> dict[str, str]:
    return body("wrapped_guard")


@app.get("/product", dependencies=[Depends(foreign.house_factory(role="admin"))])
async def factory_product() -> dict[str, str]:
    return body("factory_product")


@app.get("/product-optional", dependencies=[Depends(foreign.house_factory(optional=True))])
async def hole_optional_product() -> dict[str, str]:
    return body("hole_optional_product")


@app.get("/instance", dependencies=[Depends(foreign.HouseGuard(3))])
async def instance_guard() -> dict[str, str]:
    return body("instance_guard")


@app.get("/decorated")
@foreign.house_decorator
async def decorated(request: Request) -> dict[str, str]:
    return body("decorated")


@foreign.house_decorator
@app.get("/decorated-too-late")
async def hole_decorated_too_late(request: Request) -> dict[str, str]:
    """The decorators stand in the wrong order: the route has the bare function."""
    return body("hole_decorated_too_late")


@app.get("/scoped")
async def scoped(who: Annotated[str, Security(foreign.scoped_guard, scopes=["items:read"])]) -> dict[str, str]:
    return body("scoped")


@app.get("/scopes-unread")
async def weak_scopes_unread(who: Annotated[str, Security(foreign.house_guard, scopes=["items:read"])]) -> dict[str, str]:
    return body("weak_scopes_unread")


@app.post("/cookie-form")
async def weak_cookie_form(who: Annotated[str, Depends(foreign.cookie_guard)]) -> dict[str, str]:
    return body("weak_cookie_form")


# --- decoys ---------------------------------------------------------------------------------------------------------


@app.get("/decoy/name", dependencies=[Depends(foreign.require_login)])
async def hole_decoy_name() -> dict[str, str]:
    return body("hole_decoy_name")


@app.get("/decoy/presence", dependencies=[Depends(foreign.presence_only)])
async def hole_decoy_presence() -> dict[str, str]:
    return body("hole_decoy_presence")


@app.get("/decoy/scheme")
async def hole_decoy_scheme(token: Annotated[Any, Depends(foreign.bearer)]) -> dict[str, str]:
    return body("hole_decoy_scheme")


@app.get("/decoy/lenient")
async def hole_decoy_lenient(token: Annotated[Any, Depends(foreign.lenient_bearer)]) -> dict[str, str]:
    return body("hole_decoy_lenient")


@app.get("/decoy/borrowed", dependencies=[Depends(foreign.borrowed_name)])
async def hole_decoy_borrowed() -> dict[str, str]:
    return body("hole_decoy_borrowed")


@app.get("/decoy/swallowed", dependencies=[Depends(foreign.swallowing_guard)])
async def hole_decoy_swallowed() -> dict[str, str]:
    return body("hole_decoy_swallowed")


@app.get("/undeclared", dependencies=[Depends(foreign.undeclared_guard)])
async def undeclared() -> dict[str, str]:
    return body("undeclared")


# --- weak guards ----------------------------------------------------------------------------------------------------


@app.post("/transfer", dependencies=[Depends(gw.requires(csrf=False))])
async def weak_forgeable() -> dict[str, str]:
    return body("weak_forgeable")


@app.get("/transfer", dependencies=[Depends(gw.requires(csrf=False))])
async def safe_method_without_csrf() -> dict[str, str]:
    return body("safe_method_without_csrf")


@app.get("/admin/users")
async def weak_admin(user: CurrentUser) -> dict[str, str]:
    return body("weak_admin")


@app.get("/admin/audit", dependencies=[Depends(gw.requires(role="admin"))])
async def admin_with_role() -> dict[str, str]:
    return body("admin_with_role")


@app.get("/admin/texts", dependencies=[Depends(foreign.must_be_editor)])
async def admin_with_own_check() -> dict[str, str]:
    return body("admin_with_own_check")


@app.get("/orgs/{org_id}/report")
async def weak_tenant(org_id: str, user: CurrentUser) -> dict[str, str]:
    return body("weak_tenant")


@app.get("/orgs/{org_id}/bills", dependencies=[Depends(gw.requires(org="{org_id}"))])
async def tenant_bound(org_id: str) -> dict[str, str]:
    return body("tenant_bound")


@app.get("/people/{user_id}")
async def weak_person(user_id: str, user: CurrentUser) -> dict[str, str]:
    return body("weak_person")


@app.get("/people/{user_id}/card", dependencies=[Depends(foreign.owner_of)])
async def person_checked(user_id: str) -> dict[str, str]:
    return body("person_checked")


# --- WebSockets -----------------------------------------------------------------------------------------------------


@app.websocket("/live")
async def live(websocket: WebSocket, user: CurrentUser) -> None:
    body("live")


@app.websocket("/live/open")
async def hole_live(websocket: WebSocket) -> None:
    body("hole_live")


async def hole_raw_socket(websocket: WebSocket) -> None:
    body("hole_raw_socket")


app.router.routes.append(WebSocketRoute("/live/raw", hole_raw_socket))


# --- routers --------------------------------------------------------------------------------------------------------

twice = APIRouter()


@twice.get("/twice")
async def twice_included() -> dict[str, str]:
    return body("twice_included")


app.include_router(twice, prefix="/guarded", dependencies=[Depends(gw.user)])
app.include_router(twice, prefix="/forgotten")

inner = APIRouter(prefix="/inner")


@inner.get("/leaf")
async def leaf() -> dict[str, str]:
    return body("leaf")


outer = APIRouter(prefix="/outer", dependencies=[Depends(gw.requires(role="admin"))])
outer.include_router(inner)


async def hole_plain_in_router(request: Request) -> PlainTextResponse:
    """Dependencies of the router do not reach a plain Starlette route."""
    body("hole_plain_in_router")
    return PlainTextResponse("plain")


outer.add_route("/plain", hole_plain_in_router)
app.include_router(outer)

late = APIRouter(prefix="/late")


@late.get("/early", dependencies=[Depends(gw.user)])
async def early() -> dict[str, str]:
    return body("early")


app.include_router(late)


@late.get("/late")
async def hole_late() -> dict[str, str]:
    """Served from 0.137 on."""
    return body("hole_late")


# --- mounts ---------------------------------------------------------------------------------------------------------

guarded_parent = FastAPI(dependencies=[Depends(gw.user)], openapi_url=None)


@guarded_parent.get("/own")
async def own() -> dict[str, str]:
    return body("own")


sub = FastAPI(title="sub")


@sub.get("/leak")
async def hole_in_mount() -> dict[str, str]:
    return body("hole_in_mount")


@sub.get("/kept")
async def kept(user: CurrentUser) -> dict[str, str]:
    return body("kept")


guarded_parent.mount("/sub", sub)
app.mount("/parent", guarded_parent)


class Resource(HTTPEndpoint):
    async def get(self, request: Request) -> PlainTextResponse:
        body("Resource.get")
        return PlainTextResponse("resource")

    async def delete(self, request: Request) -> PlainTextResponse:
        body("Resource.delete")
        return PlainTextResponse("resource")


@foreign.house_decorator
async def starlette_guarded(request: Request) -> PlainTextResponse:
    body("starlette_guarded")
    return PlainTextResponse("guarded")


app.mount("/starlette", Starlette(routes=[Route("/resource", Resource), Route("/guarded", starlette_guarded)]))


async def walled(request: Request) -> PlainTextResponse:
    body("walled")
    return PlainTextResponse("walled")


async def hole_behind_wall(websocket: WebSocket) -> None:
    body("hole_behind_wall")


app.mount(
    "/wall",
    Starlette(routes=[Route("/page", walled), WebSocketRoute("/socket", hole_behind_wall)], middleware=[Middleware(foreign.LoginWall)]),
)
app.mount("/gate", foreign.HeaderGate(Starlette(routes=[Route("/page", walled)])))


def only_private(scope: Any) -> bool:
    return str(scope["path"]).startswith("/private/")


app.mount(
    "/asgi", GuardMiddleware(Starlette(routes=[Route("/page", walled), WebSocketRoute("/socket", hole_behind_wall)]), gw, require=True)
)
app.mount(
    "/asgi-role",
    Starlette(routes=[Route("/page", walled)], middleware=[Middleware(GuardMiddleware, gw=gw, require=Requirement(roles=["admin"]))]),
)
app.mount("/asgi-rule", Starlette(routes=[Route("/page", walled)], middleware=[Middleware(GuardMiddleware, gw=gw, require=only_private)]))
app.mount("/asgi-none", Starlette(routes=[Route("/page", walled)], middleware=[Middleware(GuardMiddleware, gw=gw)]))


async def opaque(scope: Any, receive: Any, send: Any) -> None:
    body("opaque")
    await PlainTextResponse("opaque")(scope, receive, send)


app.mount("/legacy", opaque)
app.mount("/assets", StaticFiles(directory=FILES))
app.mount("/leaflets", StaticFiles(directory=FILES))
app.router.routes.append(Host("internal.example.org", Router([Route("/status", walled)])))
app.router.routes.append(Mount("/group", routes=[Route("/one", walled, methods=["POST"])]))

with_mount = APIRouter()
with_mount.mount("/in-router", Starlette(routes=[Route("/page", walled)]))
app.include_router(with_mount, prefix="/holds", dependencies=[Depends(gw.user)])

if VERSION >= (0, 139):
    guarded_site = APIRouter(dependencies=[Depends(gw.user)])
    guarded_site.frontend("/site", directory=FILES)
    app.include_router(guarded_site)
    app.frontend("/web", directory=FILES)

# --- overrides ------------------------------------------------------------------------------------------------------


@app.get("/overridden", dependencies=[Depends(gw.requires(role="ghost"))])
async def hole_overridden() -> dict[str, str]:
    return body("hole_overridden")


async def _nobody() -> None:
    return None


app.dependency_overrides[gw.requires(role="ghost")] = _nobody


def make_app() -> FastAPI:
    return app
