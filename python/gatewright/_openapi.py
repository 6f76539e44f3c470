"""Makes the OpenAPI document tell all the ways in: FastAPI knows of one security scheme for each dependency."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gatewright._guards import SCHEME, Guard, rendering
from gatewright._settings import Settings

_COOKIE, _BEARER, _API_KEY = f"{SCHEME}Session", f"{SCHEME}Bearer", f"{SCHEME}ApiKey"
_OPERATIONS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_DONE = "_gatewright_documented"


def install(app: Any) -> None:
    """Wraps `app.openapi`, once, and that of the FastAPI apps mounted in it."""
    render: Callable[[], dict[str, Any]] | None = getattr(app, "openapi", None)
    if render is not None and not getattr(render, _DONE, False):
        app.openapi_schema = None
        app.openapi = documented(app, render)
    for route in getattr(app, "routes", ()):
        inner = getattr(route, "app", None)
        if callable(getattr(inner, "openapi", None)):
            install(inner)


def documented(app: Any, render: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    def openapi() -> dict[str, Any]:
        kept: dict[str, Any] | None = getattr(app, "openapi_schema", None)
        if kept is not None:
            return kept
        guards: dict[str, Guard[Any]] = {}
        token = rendering.set(guards)
        try:
            document = render()
        finally:
            rendering.reset(token)
        amend(document, guards)
        app.openapi_schema = document
        return document

    setattr(openapi, _DONE, True)
    return openapi


def amend(document: dict[str, Any], guards: dict[str, Guard[Any]]) -> None:
    """Replaces the stand-in of each guard by the alternatives it accepts."""
    schemes: dict[str, Any] = document.get("components", {}).get("securitySchemes", {})
    if not any(name in schemes for name in guards):
        return
    flow: dict[str, Any] = next(schemes[name] for name in guards if name in schemes)
    for name in guards:
        schemes.pop(name, None)
    used: set[str] = set()
    scopes: dict[str, str] = {}
    for item in document.get("paths", {}).values():
        for method in _OPERATIONS:
            operation = item.get(method)
            if operation is None or not any(name in guards for way in operation.get("security", ()) for name in way):
                continue
            of_route = [guards[name] for way in operation["security"] for name in way if name in guards]
            others = [way for way in operation["security"] if not any(name in guards for name in way)]
            of_security = [scope for way in operation["security"] for name in way if name in guards for scope in way[name]]
            ways = alternatives(of_route, of_security)
            used.update(name for way in ways for name in way)
            scopes.update((scope, "") for way in ways for scope in way.get(SCHEME, ()))
            operation["security"] = others + ways
            describe_refusals(operation, of_route)
    settings = next(iter(guards.values())).engine.settings
    flow["flows"]["authorizationCode"]["scopes"] = scopes
    every = {SCHEME: flow, **other_schemes(settings)}
    schemes.update((name, every[name]) for name in every if name in used)
    # Callbacks and webhooks may name stand-ins that no path does.
    if not schemes:
        document["components"].pop("securitySchemes", None)


def alternatives(guards: list[Guard[Any]], more_scopes: list[str]) -> list[dict[str, list[str]]]:
    """The ways into a route that carries these guards: who passes must pass all of them. `more_scopes` are those of `Security(..)`."""
    kinds = set.intersection(*(set(guard.demand.requirement.kinds) for guard in guards))
    scopes = list(dict.fromkeys([*(scope for guard in guards for scope in guard.facts.scopes), *more_scopes]))
    ways: list[dict[str, list[str]]] = []
    if "user" in kinds:
        ways.append({SCHEME: scopes})
        if guards[0].engine.settings.cookie_password and not scopes:
            ways.append({_COOKIE: []})
    if "machine" in kinds:
        ways.append({_BEARER: scopes})
    if "api_key" in kinds and guards[0].engine.settings.api_key:
        ways.append({_API_KEY: []})
    if all(guard.facts.optional for guard in guards):
        ways.append({})
    return ways


def other_schemes(settings: Settings) -> dict[str, Any]:
    return {
        _COOKIE: {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.cookie_name,
            "description": "The session cookie that the sign-in sets. Browsers send it by themselves.",
        },
        _BEARER: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An access token of a machine or an agent."},
        _API_KEY: {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
    }


def describe_refusals(operation: dict[str, Any], guards: list[Guard[Any]]) -> None:
    responses = operation.setdefault("responses", {})
    content = {"application/json": {"schema": {"type": "object", "properties": {"detail": {"type": "string"}}, "required": ["detail"]}}}
    if not all(guard.facts.optional for guard in guards):
        responses.setdefault("401", {"description": "Nobody is signed in, or the credential is not valid", "content": content})
    needs = ", ".join(dict.fromkeys(guard.facts.describe() for guard in guards if guard.facts.authorizes()))
    description = f"The caller may not: needs {needs}" if needs else "The caller may not, or the request came from another site"
    responses.setdefault("403", {"description": description, "content": content})
