"""Corners of reading apps: wrappers, patterns, names, many routes."""

# No `from __future__ import annotations` here: FastAPI reads the annotations of functions defined inside others.

import base64
import functools
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Security, WebSocket
from fastapi.security import HTTPBearer, OAuth2PasswordBearer
from planted import foreign
from planted.gate import gw
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, Router
from starlette.staticfiles import StaticFiles

from gatewright.audit import audit
from gatewright.audit.callables import innermost, name_sounds_secure
from gatewright.audit.patterns import Patterns
from gatewright.fastapi import Gatewright


def verdicts(app: Any, **more: Any) -> dict[str, str]:
    return {route.path: route.verdict for route in audit(app, **more).routes if route.kind != "framework"}


@pytest.mark.parametrize(
    "name",
    [
        "get_current_user",
        "require_login",
        "HTTPBearer",
        "verify_token",
        "checkAdmin",
        "JWTAuth",
        "api_key",
        "is_superuser",
        "oauth2_scheme",
        "current_active_user",
        "must_be_authenticated",
    ],
)
def test_names_that_sound_like_guards(name: str) -> None:
    assert name_sounds_secure(name)


@pytest.mark.parametrize(
    "name",
    [
        "get_db",
        "get_session",
        "pagination",
        "common_parameters",
        "get_settings",
        "author",
        "get_user_agent",
        "enrolled",
        "keyboard",
        "rapid_api",
        "get_jwt_strategy",
        "get_auth_service",
        "add_security_headers",
        "SecurityHeadersMiddleware",
    ],
)
def test_names_that_do_not(name: str) -> None:
    assert not name_sounds_secure(name)


@pytest.mark.parametrize(
    ("pattern", "methods", "path", "matches"),
    [
        ("/health", ("GET",), "/health", True),
        ("/health", ("GET",), "/health/deep", False),
        ("/items/*", ("GET",), "/items/{id}", True),
        ("/items/*", ("GET",), "/items/{id}/x", False),
        ("/static/**", ("GET",), "/static/**", True),
        ("/a/**", ("GET",), "/a/b/c", True),
        ("GET /x", ("GET",), "/x", True),
        ("GET /x", ("GET", "POST"), "/x", False),
        ("WS /x", ("WS",), "/x", True),
        ("/x.y", ("GET",), "/xzy", False),
    ],
)
def test_patterns(pattern: str, methods: tuple[str, ...], path: str, matches: bool) -> None:
    assert (Patterns.of([pattern]).find(methods, path) is not None) is matches


def test_a_pattern_for_a_frontend_at_the_root_opens_nothing_else(tmp_path: Path) -> None:
    app = FastAPI(openapi_url=None)
    app.get("/x")(lambda: None)
    app.mount("/", StaticFiles(directory=tmp_path))
    assert verdicts(app, public=["/**"]) == {"/x": "open", "/**": "public"}


def test_an_app_inside_asgi_wrappers_is_found() -> None:
    app = FastAPI(openapi_url=None)
    app.get("/x")(lambda: None)
    assert verdicts(CORSMiddleware(app)) == {"/x": "open"}
    assert verdicts(foreign.HeaderGate(app)) == {"/x": "unverified"}
    assert verdicts(foreign.HeaderGate(app), guards=[foreign.HeaderGate]) == {"/x": "guarded"}


def test_plain_starlette_and_routers_are_read() -> None:
    async def page(request: Any) -> PlainTextResponse:
        return PlainTextResponse("x")

    assert verdicts(Starlette(routes=[Route("/x", page)])) == {"/x": "open"}
    assert verdicts(Router([Route("/x", page)])) == {"/x": "open"}


def test_a_middleware_of_a_router_is_seen() -> None:
    async def page(request: Any) -> PlainTextResponse:
        return PlainTextResponse("x")

    from starlette.middleware import Middleware

    app = FastAPI(openapi_url=None)
    app.mount("/r", Router([Route("/x", page)], middleware=[Middleware(foreign.HeaderGate)]))
    app.router.routes.append(Route("/y", page, middleware=[Middleware(foreign.HeaderGate)]))
    assert verdicts(app) == {"/r/x": "unverified", "/y": "unverified"}
    assert verdicts(app, guards=[foreign.HeaderGate]) == {"/r/x": "guarded", "/y": "guarded"}


def test_an_app_mounted_in_itself_ends() -> None:
    app = FastAPI(openapi_url=None)
    app.get("/x")(lambda: None)
    app.mount("/again", app)
    assert verdicts(app) == {"/x": "open"}


def test_a_padlock_is_no_proof() -> None:
    scheme, lenient = OAuth2PasswordBearer("token"), HTTPBearer(auto_error=False)
    app = FastAPI(openapi_url=None)

    @app.get("/strict")
    def strict(token: Annotated[str, Depends(scheme)]) -> None: ...

    @app.get("/lenient")
    def optional(token: Annotated[Any, Security(lenient)]) -> None: ...

    assert verdicts(app) == {"/strict": "unverified", "/lenient": "optional"}
    assert verdicts(app, guards=[scheme, lenient, HTTPBearer]) == {"/strict": "unverified", "/lenient": "optional"}, "nor is declaring it"


def test_a_dependency_that_stands_on_another_is_covered_by_it() -> None:
    def settings(user: Annotated[Any, Depends(gw.user)]) -> Any:
        return user

    def deeper(settings: Annotated[Any, Depends(settings)]) -> Any:
        return settings

    app = FastAPI(openapi_url=None)
    app.get("/x", dependencies=[Depends(deeper)])(lambda: None)
    app.get("/admin/x", dependencies=[Depends(deeper)])(lambda: None)
    report = audit(app)
    assert {route.verdict for route in report.routes} == {"guarded"}
    assert [finding.rule for finding in report.findings] == ["GW009"], "reading settings authorizes nothing"


def test_a_guard_overridden_through_the_funnel_is_told() -> None:
    app = FastAPI(openapi_url=None)
    app.get("/x", dependencies=[Depends(gw.requires(role="admin"))])(lambda: None)
    app.dependency_overrides[gw.principal] = lambda: None
    assert [finding.rule for finding in audit(app).findings] == ["GW014"]
    assert verdicts(app) == {"/x": "open"}


def test_an_override_by_another_guard_is_one() -> None:
    app = FastAPI(openapi_url=None)
    app.get("/x", dependencies=[Depends(foreign.house_guard)])(lambda: None)
    app.dependency_overrides[foreign.house_guard] = foreign.scoped_guard
    assert verdicts(app, guards=[foreign.house_guard, foreign.scoped_guard]) == {"/x": "guarded"}


def test_public_beside_a_guard_stays_guarded() -> None:
    app = FastAPI(openapi_url=None, dependencies=[Depends(gw.user)])
    app.get("/x", dependencies=[Depends(gw.public)])(lambda: None)
    report = audit(app, public=["/x"])
    assert [(route.verdict, route.reasons) for route in report.routes] == [("guarded", ("declared public, but a guard still applies",))]


def test_scopes_reach_a_guard_that_reads_them() -> None:
    app = FastAPI(openapi_url=None)
    router = APIRouter(dependencies=[Security(foreign.scoped_guard, scopes=["a"])])
    router.get("/x", dependencies=[Security(foreign.scoped_guard, scopes=["b"])])(lambda: None)
    app.include_router(router)
    report = audit(app, guards=[foreign.scoped_guard])
    assert {scope for guard in report.routes[0].guards for scope in guard.scopes} == {"a", "b"}
    assert report.findings == []


def test_a_product_of_a_factory_says_what_it_demands_and_no_secret() -> None:
    def factory(secret: str, role: str, verified: bool = True) -> Any:
        def product() -> None:
            raise HTTPException(401 if secret and role and verified else 403)

        return product

    app = FastAPI(openapi_url=None)
    app.get("/x", dependencies=[Depends(factory("hunter2", "admin"))])(lambda: None)
    assert [guard.name for guard in audit(app, guards=[factory]).routes[0].guards] == ["factory(verified, role=admin)"]


def test_what_is_installed_is_shown_where_the_project_brought_it_in() -> None:
    from gatewright.audit import AuditedRoute, Location

    installed, own = Location("/venv/lib/python3/site-packages/pkg/r.py", 9), Location("app/main.py", 3)
    assert not installed.is_own and not Location(".venv/lib/site-packages/pkg/r.py", 9).is_own and own.is_own
    assert installed.short == "pkg/r.py:9" and own.short == "app/main.py:3"
    route = AuditedRoute(methods=("GET",), path="/x", kind="http", verdict="open", location=installed, included_at=own)
    assert route.place == own and route.to_json()["location"]["line"] == 9


def test_a_partial_can_make_a_guard_optional() -> None:
    def guard(optional: bool = False) -> None:
        if not optional:
            raise HTTPException(401)

    app = FastAPI(openapi_url=None)
    app.get("/x", dependencies=[Depends(functools.partial(guard, optional=True))])(lambda: None)
    assert verdicts(app, guards=[guard]) == {"/x": "optional"}


def test_a_fallback_that_serves_everything_else_is_seen() -> None:
    async def fallback(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("a probe runs no body of an endpoint")

    app = FastAPI(openapi_url=None, dependencies=[Depends(gw.user)])
    app.get("/x")(lambda: None)
    app.router.default = fallback
    assert verdicts(app) == {"/x": "guarded", "/**": "opaque"}
    assert verdicts(app, probe=True) == {"/x": "guarded", "/**": "opaque"}
    assert app.router.default is fallback


def test_an_optional_guard_can_be_declared() -> None:
    app = FastAPI(openapi_url=None)
    app.get("/x", dependencies=[Depends(foreign.house_guard)])(lambda: None)
    assert verdicts(app, optional_guards=[foreign.house_guard]) == {"/x": "optional"}


def test_wrapped_endpoints_are_unwrapped() -> None:
    def endpoint() -> None: ...

    @functools.wraps(endpoint)
    def wrapper() -> None:
        endpoint()

    assert innermost(functools.partial(wrapper)) is endpoint


def test_a_probe_tells_what_it_could_not_settle() -> None:
    def guard() -> None:
        raise HTTPException(418)

    app = FastAPI(openapi_url=None)
    app.get("/x", dependencies=[Depends(guard)])(lambda: None)
    report = audit(app, guards=[guard], probe=True)
    assert report.notes == ["the probe could not settle GET /x (answered 418 instead of 401 or 403)"]
    assert report.routes[0].verdict == "guarded"


def test_a_probe_does_not_take_invalid_parameters_of_a_websocket_for_a_refusal() -> None:
    app = FastAPI(openapi_url=None)

    @app.websocket("/ws", dependencies=[Depends(foreign.require_login)])
    async def socket(websocket: WebSocket, needed: int) -> None: ...

    report = audit(app, probe=True)
    assert report.routes[0].verdict == "unverified"
    assert report.notes == ["the probe could not settle WS /ws (answered invalid parameters instead of 401 or 403)"]


def test_a_probe_finds_a_declared_guard_that_refuses_nobody() -> None:
    app = FastAPI(openapi_url=None)
    app.get("/x", dependencies=[Depends(foreign.require_login)])(lambda: None)
    app.websocket("/ws", dependencies=[Depends(foreign.require_login)])(foreign_socket)
    report = audit(app, guards=[foreign.require_login], probe=True)
    assert {(route.path, route.verdict) for route in report.routes} == {("/x", "open"), ("/ws", "open")}
    assert {finding.rule for finding in report.findings} == {"GW013"}


async def foreign_socket(websocket: WebSocket) -> None:
    raise AssertionError("a probe runs no body of an endpoint")


def test_routes_of_signing_in_are_open_under_a_guard_for_the_whole_app() -> None:
    settings = {"base_url": "http://127.0.0.1:9", "client_id": "client_app", "api_key": "sk_app"}
    gw = Gatewright(**settings, cookie_password=base64.b64encode(bytes(32)).decode())
    app = FastAPI(openapi_url=None, dependencies=[Depends(gw.user)])
    app.include_router(gw.router(), prefix="/auth")
    app.get("/health", dependencies=[Depends(gw.public)])(lambda: None)
    found = verdicts(app)
    assert (found["/auth/login"], found["/auth/callback"], found["/auth/session"]) == ("public", "public", "public")
    assert (found["/auth/me"], found["/health"]) == ("guarded", "guarded")
    # Somebody else's guard knows nothing of them and locks them up.
    strict = FastAPI(openapi_url=None, dependencies=[Depends(foreign.house_guard)])
    strict.include_router(gw.router(), prefix="/auth")
    assert verdicts(strict, guards=[foreign.house_guard])["/auth/login"] == "guarded"


def test_a_thousand_routes_are_all_read() -> None:
    app = FastAPI(openapi_url=None)
    for number in range(10):
        router = APIRouter(prefix=f"/r{number}", dependencies=[Depends(gw.user)])
        for item in range(100):
            router.get(f"/{item}/{{thing}}")(lambda thing: None)
        app.include_router(router)
    report = audit(app)
    assert len(report.routes) == 1000 and report.findings == []


class RawApp:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("a probe runs no body of an endpoint")


class LaxGate(foreign.HeaderGate):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def test_a_probe_of_an_endpoint_in_wrappers_runs_the_wrappers() -> None:
    app = Starlette(
        routes=[
            Route("/gated", foreign.HeaderGate(RawApp())),
            Route("/lax", LaxGate(RawApp())),
            Route("/cors", foreign.HeaderGate(CORSMiddleware(RawApp()))),
        ]
    )
    assert verdicts(app) == {"/gated": "unverified", "/lax": "open", "/cors": "unverified"}
    assert verdicts(app, guards=[foreign.HeaderGate, LaxGate]) == {"/gated": "guarded", "/lax": "guarded", "/cors": "guarded"}
    assert verdicts(app, probe=True) == {"/gated": "guarded", "/lax": "open", "/cors": "guarded"}
    assert verdicts(app, guards=[foreign.HeaderGate, LaxGate], probe=True) == {"/gated": "guarded", "/lax": "open", "/cors": "guarded"}


def test_a_probe_asks_as_somebody_without_rights_too() -> None:
    app = FastAPI(openapi_url=None)
    app.get("/x", dependencies=[Depends(gw.requires(permission="x:read"))])(lambda: None)
    app.get("/m", dependencies=[Depends(gw.machine(scopes=["x"]))])(lambda: None)
    app.get("/u", dependencies=[Depends(gw.user)])(lambda: None)
    report = audit(app, probe=True)
    reasons = {route.path: route.reasons[-1] for route in report.routes}
    assert "403" in reasons["/x"] and "403" in reasons["/m"] and "403" not in reasons["/u"]
    assert app.dependency_overrides == {} and report.findings == [] and report.notes == []
