"""The audit finds exactly the planted holes, on every version of FastAPI."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import fastapi
import pytest
from planted import app as planted
from planted import foreign

from gatewright.audit import NotCovered, assert_covered, audit

VERSION = tuple(int(part) for part in fastapi.__version__.split("."))
GUARDS = [
    f"planted.foreign:{name}" for name in ("house_guard", "cookie_guard", "scoped_guard", "house_factory", "HouseGuard", "house_decorator")
]
PUBLIC = ["/ping", "/assets/**"]

# What is wrong with the app: (verdict, rules). Every route that is not named here must be covered and without a warning.
HOLES: dict[str, tuple[str, set[str]]] = {
    "GET /raw/export": ("open", {"GW001"}),
    "GET /hidden": ("open", {"GW001"}),
    "GET,POST /both": ("open", {"GW001"}),
    "PUT /split": ("open", {"GW001"}),
    "GET /greeting": ("optional", {"GW002"}),
    "GET /product-optional": ("optional", {"GW002"}),
    "GET /decorated-too-late": ("open", {"GW001"}),
    "GET /scopes-unread": ("guarded", {"GW010"}),
    "POST /cookie-form": ("guarded", {"GW005"}),
    "GET /decoy/name": ("unverified", {"GW008"}),
    "GET /decoy/presence": ("unverified", {"GW008"}),
    "GET /decoy/scheme": ("unverified", {"GW008"}),
    "GET /decoy/lenient": ("optional", {"GW002"}),
    "GET /decoy/borrowed": ("unverified", {"GW008"}),
    "GET /decoy/swallowed": ("unverified", {"GW008"}),
    "GET /undeclared": ("unverified", {"GW008"}),
    "POST /transfer": ("guarded", {"GW005"}),
    "GET /admin/users": ("guarded", {"GW009"}),
    "GET /orgs/{org_id}/report": ("guarded", {"GW006"}),
    "GET /people/{user_id}": ("guarded", {"GW006"}),
    "WS /live/open": ("open", {"GW001"}),
    "WS /live/raw": ("open", {"GW001"}),
    "GET /forgotten/twice": ("open", {"GW001"}),
    "GET /plain": ("open", {"GW001"}),
    "GET /parent/sub/leak": ("open", {"GW001", "GW004"}),
    "DELETE,GET /starlette/resource": ("open", {"GW001"}),
    "GET /wall/page": ("unverified", {"GW008"}),
    "WS /wall/socket": ("open", {"GW001"}),
    "GET /gate/page": ("unverified", {"GW008"}),
    "GET /asgi-rule/page": ("unverified", {"GW008"}),
    "GET /asgi-none/page": ("open", {"GW001"}),
    "* /legacy/**": ("opaque", {"GW003"}),
    "GET /leaflets/**": ("open", {"GW001"}),
    "GET //internal.example.org/status": ("open", {"GW001"}),
    "POST /group/one": ("open", {"GW001"}),
    "GET /overridden": ("open", {"GW014"}),
}
if VERSION < (0, 123, 5):
    HOLES["GET /partial"] = ("open", {"GW001"})  # FastAPI never awaited a partial of a coroutine function
if VERSION >= (0, 137):
    HOLES["GET /late/late"] = ("open", {"GW001"})
    HOLES["GET /holds/in-router/page"] = ("open", {"GW001", "GW004"})
if VERSION >= (0, 139):
    HOLES["GET /web/**"] = ("open", {"GW001"})

# What a probe makes of them.
SETTLED: dict[str, tuple[str, set[str]]] = {
    "GET /decoy/name": ("open", {"GW013"}),
    "GET /decoy/presence": ("open", {"GW013"}),
    "GET /decoy/scheme": ("open", {"GW013"}),
    "GET /decoy/borrowed": ("open", {"GW013"}),
    "GET /decoy/swallowed": ("open", {"GW013"}),
    "GET /undeclared": ("guarded", set()),
    "GET /wall/page": ("guarded", set()),
    "GET /gate/page": ("guarded", set()),
    "GET /asgi-rule/page": ("open", {"GW013"}),
}

PUBLIC_ROUTES = {"GET /health", "GET /ping", "GET /front", "GET /assets/**"}
GUARDED_ROUTES = {
    "GET /expenses": "user",
    "POST /expenses": "permission=expenses:write + user",
    "GET /both-optional-and-strict": "user + user · optional",
    "GET /machine": "machine · scope=ingest:write",
    "GET /key": "api key · permission=items:read",
    "GET /house": "house_guard",
    "GET /measured": "house_guard",
    "GET /product": "house_factory(role=admin)",
    "GET /instance": "HouseGuard",
    "GET /decorated": "house_decorator",
    "GET /scoped": "scoped_guard",
    "GET /admin/audit": "role=admin",
    "GET /admin/texts": "user",
    "GET /orgs/{org_id}/bills": "org={org_id}",
    "GET /people/{user_id}/card": "user",
    "WS /live": "user",
    "GET /guarded/twice": "user",
    "GET /outer/inner/leaf": "role=admin",
    "GET /late/early": "user",
    "GET /parent/own": "user",
    "GET /parent/sub/kept": "user",
    "GET /asgi/page": "principal",
    "WS /asgi/socket": "principal",
    "GET /asgi-role/page": "principal · role=admin",
    "GET /starlette/guarded": "house_decorator",
}


def run(**more: Any) -> Any:
    return audit(planted.app, guards=GUARDS, public=PUBLIC, **more)


def holes_of(report: Any) -> dict[str, tuple[str, set[str]]]:
    rules: dict[str, set[str]] = {}
    for finding in report.findings:
        rules.setdefault(finding.route.key, set()).add(finding.rule)
    uncovered = {route.key for route in report.routes if route.verdict not in ("guarded", "public", "framework")}
    verdicts = {route.key: route.verdict for route in report.routes}
    return {key: (verdicts[key], rules.get(key, set())) for key in uncovered | set(rules)}


def test_exactly_the_planted_holes_are_found() -> None:
    report = run()
    assert holes_of(report) == HOLES
    assert report.notes == []
    assert len(report.routes) >= 70


def test_every_covered_route_names_its_guard() -> None:
    from gatewright.audit.formats.text import guard_words

    routes = {route.key: route for route in run().routes}
    assert {key for key, route in routes.items() if route.verdict == "public"} == PUBLIC_ROUTES
    assert {key: guard_words(routes[key]) for key in GUARDED_ROUTES} == GUARDED_ROUTES
    assert all(routes[key].verdict == "guarded" for key in GUARDED_ROUTES)
    framework = {key for key, route in routes.items() if route.verdict == "framework"}
    assert framework == {
        f"GET {prefix}{path}" for prefix in ("", "/parent/sub") for path in ("/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc")
    }
    if VERSION >= (0, 123, 5):
        assert guard_words(routes["GET /partial"]) == "house_guard"
    if VERSION >= (0, 139):
        assert guard_words(routes["GET /site/**"]) == "user"


def test_a_probe_settles_what_the_reading_could_not() -> None:
    planted.ran.clear()
    report = run(probe=True)
    assert holes_of(report) == {key: value for key, value in {**HOLES, **SETTLED}.items() if value != ("guarded", set())}
    assert report.notes == []
    assert planted.ran == [], "a probe runs no body of an endpoint"


def test_a_probe_leaves_the_app_as_it_was() -> None:
    before = planted.hole_forgotten.__code__
    run(probe=True)
    assert planted.hole_forgotten.__code__ is before
    assert planted.hole_forgotten() == {"name": "hole_forgotten"}
    planted.app.add_middleware(foreign.HeaderGate)  # would raise if the app counted as started
    planted.app.user_middleware.pop(0)


def test_a_probe_works_inside_a_running_event_loop() -> None:
    async def inside() -> Any:
        return run(probe=True)

    assert asyncio.run(inside()).counts()["unverified"] == 0


def test_the_api_description_counts_as_open_when_it_must_be_guarded() -> None:
    found = {finding.route.key for finding in run(docs="guarded").findings if finding.rule == "GW007"}
    assert found == {
        f"GET {prefix}{path}" for prefix in ("", "/parent/sub") for path in ("/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc")
    }


def test_the_json_has_the_promised_shape() -> None:
    data = json.loads(json.dumps(run().to_json()))
    assert set(data) == {"schema_version", "summary", "routes"}
    assert data["schema_version"] == 1
    assert data["summary"]["routes"] == len(data["routes"])
    assert data["summary"]["open"] == sum(route["verdict"] == "open" for route in data["routes"])
    for route in data["routes"]:
        assert set(route) == {"methods", "path", "kind", "verdict", "guards", "location", "via", "reasons"}
        assert set(route["location"]) == {"file", "line"}
        assert route["kind"] in ("http", "websocket", "mount", "static", "framework")
        assert all({"type", "scopes", "roles", "permissions", "mfa"} <= set(guard) for guard in route["guards"])
    machine = next(route for route in data["routes"] if route["path"] == "/machine")
    assert machine["guards"][0]["type"] == "machine" and machine["guards"][0]["scopes"] == ["ingest:write"]


def test_locations_are_those_of_the_innermost_function() -> None:
    routes = {route.key: route for route in run().routes}
    decorated, forgotten = routes["GET /decorated"].location, routes["GET /raw/export"].location
    assert decorated is not None and decorated.file.endswith("planted/app.py")
    with open(decorated.file, encoding="utf-8") as file:
        lines = file.read().splitlines()
    assert lines[decorated.line - 1] == '@app.get("/decorated")'
    assert forgotten is not None and lines[forgotten.line - 1] == '@app.get("/raw/export")'


def test_assert_covered_names_the_routes_that_are_not() -> None:
    with pytest.raises(NotCovered, match=r"GW001 GET /raw/export has no guard.*planted/app\.py:") as caught:
        assert_covered(planted.app, guards=GUARDS, public=PUBLIC)
    assert len(caught.value.report.failing()) == len([f for f in caught.value.report.findings if f.level != "weak"])


def test_assert_covered_accepts_an_app_without_holes() -> None:
    app = fastapi.FastAPI(dependencies=[fastapi.Depends(foreign.house_guard)])

    @app.get("/x")
    def x() -> None: ...

    report = assert_covered(app, guards=[foreign.house_guard], fail_on="weak")
    assert [route.verdict for route in report.routes if route.kind == "http"] == ["guarded"]


def test_undeclared_guards_of_others_are_never_taken_for_guards() -> None:
    report = audit(planted.app)
    routes = {route.key: route for route in report.routes}
    assert routes["GET /house"].verdict == "unverified"
    assert routes["GET /decorated"].verdict == "unverified"
    assert routes["GET /product"].verdict == "unverified"
    assert routes["GET /instance"].verdict == "unverified"
