"""Finds every way into an ASGI app, on every supported version of FastAPI. Judges nothing.

Up to FastAPI 0.136 ``app.routes`` is a list; from 0.137 it is a tree, read with ``fastapi.routing.iter_route_contexts`` (0.137.2). Two things are
not public there and are read defensively: the tree's nodes (for the chain of includes; without them only that chain is lost) and the
low-priority lists of ``app.frontend()``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import fastapi
from fastapi import routing as fastapi_routing
from starlette.endpoints import HTTPEndpoint
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import BaseRoute, Host, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles

from .callables import locate, name_of
from .guards import version_of
from .model import Kind, Location
from .record import Record, Step

OLDEST = (0, 115)


class Unsupported(RuntimeError):
    """A version or an object the audit cannot read; the text says which."""


@dataclass(frozen=True)
class Wrapper:
    """One middleware around a part of the app."""

    target: object
    """The class, or the function of ``@app.middleware("http")``."""
    arguments: tuple[object, ...] = ()
    """What it was made with; or the instance itself, where that is at hand."""
    named: dict[str, object] = field(default_factory=dict)
    websockets: bool = True
    """Whether it also sees WebSockets (a ``BaseHTTPMiddleware`` does not)."""


@dataclass(frozen=True)
class Entrance:
    """One way in, as it is served."""

    methods: tuple[str, ...]
    path: str
    kind: Kind
    endpoint: object | None
    dependant: Any | None
    """The effective dependency tree; ``None`` where dependencies do not apply."""
    wrappers: tuple[Wrapper, ...]
    via: tuple[Step, ...]
    overrides: dict[Any, Any]
    notes: tuple[str, ...]
    route: Any
    """The route object that is matched (for the probe)."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Path parameters with their convertors."""
    location: Location | None = None
    opaque: str | None = None
    """What cannot be looked into."""
    shadow: str | None = None
    """Path of the mount that the dependencies of its parents do not reach into."""
    unapplied: tuple[object, ...] = ()
    """Those dependencies."""


@dataclass(frozen=True)
class _Place:
    """Where in the app the walk is."""

    prefix: str = ""
    wrappers: tuple[Wrapper, ...] = ()
    via: tuple[Step, ...] = ()
    parent_dependencies: tuple[object, ...] = ()
    shadow: str | None = None
    unapplied: tuple[object, ...] = ()
    overrides: dict[Any, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    apps: tuple[int, ...] = ()


def check_version() -> str:
    """The version of FastAPI, if the audit can read it. Raises ``Unsupported``."""
    version = fastapi.__version__
    found = version_of(version)
    if found < OLDEST:
        raise Unsupported(f"FastAPI {version} is older than 0.115, the oldest version the audit reads: upgrade FastAPI")
    if found >= (0, 137) and not hasattr(fastapi_routing, "iter_route_contexts"):
        raise Unsupported(f"FastAPI {version} keeps its routes where no tool can read them: upgrade to 0.137.2 or later")
    return version


def walk(app: object, record: Record | None = None) -> list[Entrance]:
    """Every entrance of the app, in the order of matching. Raises ``Unsupported`` if it is no Starlette or FastAPI app."""
    check_version()
    return list(_Walk(record or Record()).app(app, _Place(), top=True))


class _Fallback:
    """``router.default`` seen as a route, so that the probe can put something in its place."""

    def __init__(self, router: Router) -> None:
        self.router = router

    @property
    def app(self) -> Any:
        return self.router.default

    @app.setter
    def app(self, value: Any) -> None:
        self.router.default = value


class _Walk:
    def __init__(self, record: Record) -> None:
        self.record = record

    def app(self, app: object, place: _Place, top: bool = False) -> Iterator[Entrance]:
        inner, wrappers = unwrap_app(app)
        if inner is None:
            if top:
                raise Unsupported(f"{name_of(app)} is not a FastAPI, Starlette or Router object, and the audit cannot look inside it")
            return
        if id(inner) in place.apps:
            return
        place = replace(place, wrappers=(*place.wrappers, *wrappers, *_middleware_of(inner)), apps=(*place.apps, id(inner)))
        overrides = getattr(inner, "dependency_overrides", None)
        if isinstance(overrides, dict):
            place = replace(place, overrides=overrides)
        router = getattr(inner, "router", inner)
        dependencies = tuple(getattr(router, "dependencies", None) or ())
        place = replace(place, parent_dependencies=(*place.parent_dependencies, *dependencies))
        yield from self.routes(router, place)

    def routes(self, router: Any, place: _Place) -> Iterator[Entrance]:
        for position, route in enumerate(router.routes):
            notes = ("added after its router was included",) if self.record.is_late(router, position) else ()
            yield from self.tree(route, place, notes)
        fallback = getattr(router, "default", None)
        if fallback is not None and getattr(fallback, "__func__", None) is not Router.not_found:
            found = self.opaque(_Fallback(router), place, f"a fallback for what matches no route ({name_of(fallback)})", "")
            yield replace(found, location=locate(fallback), endpoint=fallback)
        for route in getattr(router, "_low_priority_routes", None) or ():
            yield from self.low_priority(route, route, place)
        for route in router.routes:
            read: Callable[[], Iterable[Any]] | None = getattr(route, "effective_low_priority_routes", None)
            if callable(read):
                for context in read():
                    yield from self.low_priority(context, getattr(context, "original_route", context), place)

    def tree(self, route: BaseRoute, place: _Place, notes: tuple[str, ...]) -> Iterator[Entrance]:
        iterate = getattr(fastapi_routing, "iter_route_contexts", None)
        if iterate is None or not hasattr(route, "original_router"):
            yield from self.one(route, route, replace(place, via=(*place.via, *self.record.chain_of(route))), notes)
            return
        chains = list(self._chains(route, ()))
        at = 0
        for context in iterate([route]):
            original = getattr(context, "original_route", None)
            while at < len(chains) and chains[at][0] is not original:
                at += 1
            via, late, outer = (chains[at][1], chains[at][2], chains[at][3]) if at < len(chains) else ((), False, ())
            at += 1
            here = replace(place, via=(*place.via, *via), parent_dependencies=(*place.parent_dependencies, *outer))
            # Routes other than APIRoute are rebuilt with their whole path and kept beside the original.
            effective = getattr(context, "starlette_route", None) or context
            yield from self.one(effective, original, here, ("added after its router was included",) if late else notes)

    def _chains(self, node: Any, outer: tuple[Step, ...]) -> Iterator[tuple[Any, tuple[Step, ...], bool, tuple[object, ...]]]:
        router = node.original_router
        include = getattr(node, "include_context", None)
        words = self.record.chain_of(node)
        if not words:
            prefix = getattr(include, "prefix", "")
            words = (Step(f"included under {prefix}" if prefix else "included"),)
        dependencies = tuple(getattr(include, "dependencies", None) or ())
        for position, route in enumerate(router.routes):
            if hasattr(route, "original_router"):
                yield from ((r, via, late, (*dependencies, *deps)) for r, via, late, deps in self._chains(route, (*outer, *words)))
            else:
                yield route, (*outer, *words), self.record.is_late(router, position), dependencies

    def one(self, route: Any, original: Any, place: _Place, notes: tuple[str, ...]) -> Iterator[Entrance]:
        if isinstance(original, Mount):
            yield from self.mount(route, original, place, notes)
        elif isinstance(original, Host):
            yield from self.host(route, place)
        elif isinstance(original, WebSocketRoute):
            yield self.entrance(route, place, notes, methods=("WS",), kind="websocket")
        elif isinstance(original, Route):
            yield from self.http(route, original, place, notes)
        else:
            path = getattr(route, "path", None)
            yield self.opaque(
                route, place, f"a route of the unknown class {type(original).__name__}", path if isinstance(path, str) else ""
            )

    def http(self, route: Any, original: Any, place: _Place, notes: tuple[str, ...]) -> Iterator[Entrance]:
        endpoint = route.endpoint
        framework = is_framework_endpoint(endpoint)
        if not framework and not hasattr(route, "dependant") and place.parent_dependencies:
            notes = (*notes, "a plain Starlette route: dependencies of the app and of routers do not apply to it")
        yield self.entrance(route, place, notes, methods=_methods_of(route, endpoint), kind="framework" if framework else "http")

    def entrance(self, route: Any, place: _Place, notes: tuple[str, ...], *, methods: tuple[str, ...], kind: Kind) -> Entrance:
        endpoint = getattr(route, "endpoint", None)
        own = tuple(_layers_of_route(route, endpoint))
        convertors = getattr(route, "param_convertors", None) or {}
        return Entrance(
            methods=methods,
            path=_join(place.prefix, route.path),
            kind=kind,
            endpoint=endpoint,
            dependant=getattr(route, "dependant", None),
            wrappers=(*place.wrappers, *own),
            via=place.via,
            overrides=_overrides_of(route, place),
            notes=notes,
            route=route,
            parameters={**place.parameters, **convertors},
            location=locate(endpoint) if endpoint is not None and kind != "framework" else None,
            shadow=place.shadow,
            unapplied=place.unapplied,
        )

    def mount(self, route: Any, original: Any, place: _Place, notes: tuple[str, ...]) -> Iterator[Entrance]:
        path = _join(place.prefix, route.path)
        app, wrappers = unwrap_app(route.app)
        at = next((at for made in (route.app, app) if made is not None and (at := self.record.mounted_at(made, original.path))), None)
        words = f"mounted at {at} under {route.path or '/'}" if at else f"mounted under {route.path or '/'}"
        convertors = {name: value for name, value in (getattr(route, "param_convertors", None) or {}).items() if name != "path"}
        inside = replace(
            place,
            prefix=path,
            via=(*place.via, Step(words, at)),
            parameters={**place.parameters, **convertors},
            **_left_behind(place, path),
            overrides={},
        )
        inner = app if app is not None else innermost_app(route.app)
        if isinstance(inner, StaticFiles):
            endpoint = None if type(inner) is StaticFiles else inner
            yield Entrance(
                methods=("GET",),
                path=f"{path.rstrip('/')}/**",
                kind="static",
                endpoint=endpoint,
                dependant=None,
                wrappers=(*place.wrappers, *wrappers),
                via=inside.via,
                overrides={},
                notes=notes,
                route=route,
                location=at or (locate(inner) if endpoint is not None else None),
                shadow=inside.shadow,
                unapplied=inside.unapplied,
            )
        elif app is not None:
            yield from self.app(route.app, inside)
        else:
            found = self.opaque(route, inside, f"an ASGI app the audit cannot look into ({name_of(inner)})", "")
            yield replace(found, location=at or locate(inner), wrappers=(*place.wrappers, *wrappers), notes=notes)

    def host(self, route: Any, place: _Place) -> Iterator[Entrance]:
        inside = replace(
            place,
            prefix=f"//{route.host}",
            via=(*place.via, Step(f"host {route.host}")),
            **_left_behind(place, f"//{route.host}"),
            overrides={},
        )
        app, wrappers = unwrap_app(route.app)
        if app is not None:
            yield from self.app(route.app, inside)
        else:
            inner = innermost_app(route.app)
            found = self.opaque(route, inside, f"an ASGI app the audit cannot look into ({name_of(inner)})", "")
            yield replace(found, location=locate(inner), wrappers=(*place.wrappers, *wrappers))

    def opaque(self, route: Any, place: _Place, what: str, path: str) -> Entrance:
        return Entrance(
            methods=("*",),
            path=f"{_join(place.prefix, path).rstrip('/')}/**",
            kind="mount",
            endpoint=getattr(route, "endpoint", None),
            dependant=None,
            wrappers=place.wrappers,
            via=place.via,
            overrides={},
            notes=(),
            route=route,
            location=locate(type(route)) if type(route).__module__.split(".")[0] not in ("fastapi", "starlette") else None,
            opaque=what,
            shadow=place.shadow,
            unapplied=place.unapplied,
        )

    def low_priority(self, effective: Any, original: Any, place: _Place) -> Iterator[Entrance]:
        frontends = getattr(original, "routes", None)
        if isinstance(original, Route | WebSocketRoute | Mount | Host):
            yield from self.one(
                getattr(effective, "starlette_route", None) or effective, original, place, ("served only if nothing else matches",)
            )
            return
        if not isinstance(frontends, list):
            yield self.opaque(
                original, place, f"a low-priority route of the unknown class {type(original).__name__}", str(getattr(original, "path", ""))
            )
            return
        prefix = getattr(effective, "frontend_prefix", "")
        dependant = getattr(effective, "dependant", None)
        for frontend in frontends:
            inner = str(getattr(frontend, "path", ""))
            path = _join(place.prefix, prefix + inner if inner != "/" or not prefix else prefix)
            yield Entrance(
                methods=("GET",),
                path=f"{path.rstrip('/')}/**",
                kind="static",
                endpoint=None,
                dependant=dependant,
                wrappers=place.wrappers,
                via=place.via,
                overrides=place.overrides,
                notes=("a frontend: served only if nothing else matches",),
                route=frontend,
                location=self.record.mounted_at(frontend),
                shadow=place.shadow,
                unapplied=place.unapplied,
            )


def is_framework_endpoint(endpoint: object) -> bool:
    """Whether FastAPI itself made it: the API description and its viewers."""
    return getattr(endpoint, "__module__", "") == "fastapi.applications" and getattr(endpoint, "__qualname__", "").startswith(
        "FastAPI.setup."
    )


def unwrap_app(app: object) -> tuple[Any | None, tuple[Wrapper, ...]]:
    """The Starlette-like app or the static files inside wrappers, or ``None``; and the wrappers, outermost first."""
    wrappers: list[Wrapper] = []
    seen: set[int] = set()
    while id(app) not in seen:
        seen.add(id(app))
        if inspect.ismethod(app) and isinstance(app.__self__, Router):
            app = app.__self__  # the end of a router's own middleware
        if isinstance(app, StaticFiles) or (isinstance(getattr(app, "routes", None), list) and _serves_its_routes(app)):
            return app, tuple(wrappers)
        following = _inner_app(app)
        if following is None:
            break
        if not isinstance(app, functools.partial):
            wrappers.append(_wrapper(type(app), app))
        app = following
    return None, tuple(wrappers)


def innermost_app(app: object) -> object:
    """The last thing the walk reaches through wrappers."""
    seen: set[int] = set()
    while id(app) not in seen:
        seen.add(id(app))
        following = _inner_app(app)
        if following is None:
            return app
        app = following
    return app


def _serves_its_routes(app: object) -> bool:
    from starlette.applications import Starlette

    return isinstance(app, Starlette | Router)


def _inner_app(app: object) -> object | None:
    if isinstance(app, functools.partial):
        return app.func
    held = getattr(app, "__dict__", {})
    slots = {slot for cls in type(app).__mro__ for slot in cls.__dict__.get("__slots__", ())}
    for name in ("app", "_app", "asgi_app", "other_asgi_app"):
        inner = held.get(name) if name not in slots else getattr(app, name, None)
        if callable(inner) and inner is not app:
            return inner  # type: ignore[no-any-return]
    return None


def _wrapper(cls: type, instance: object) -> Wrapper:
    if isinstance(instance, BaseHTTPMiddleware):
        dispatch = instance.__dict__.get("dispatch_func")
        target: object = dispatch if cls is BaseHTTPMiddleware else cls
        return Wrapper(target, (instance,), websockets=False)
    return Wrapper(cls, (instance,))


def _middleware_of(app: Any) -> Iterator[Wrapper]:
    for middleware in getattr(app, "user_middleware", None) or ():
        cls = middleware.cls
        named = dict(getattr(middleware, "kwargs", None) or getattr(middleware, "options", None) or {})
        arguments = (*tuple(getattr(middleware, "args", ())), *named.values())
        if inspect.isclass(cls) and issubclass(cls, BaseHTTPMiddleware):
            yield Wrapper(named.get("dispatch", cls) if cls is BaseHTTPMiddleware else cls, arguments, named, websockets=False)
        else:
            yield Wrapper(cls, arguments, named)
    stack = getattr(app, "middleware_stack", None) if isinstance(app, Router) else None
    seen: set[int] = set()
    while stack is not None and id(stack) not in seen and not inspect.ismethod(stack):
        seen.add(id(stack))
        if not inspect.isfunction(stack):
            yield _wrapper(type(stack), stack)
        stack = _inner_app(stack)


def _layers_of_route(route: Any, endpoint: object) -> Iterator[Wrapper]:
    """Middleware of a single route, and the ASGI objects an endpoint is made of (``RequireAuthMiddleware(app)`` and the like)."""
    seen: set[int] = set()
    for start in (getattr(route, "app", None), endpoint):
        layer: object | None = start
        while layer is not None and id(layer) not in seen:
            seen.add(id(layer))
            if not inspect.isroutine(layer) and not inspect.isclass(layer) and not isinstance(layer, functools.partial | Router):
                yield _wrapper(type(layer), layer)
            layer = _inner_app(layer)


def _methods_of(route: Any, endpoint: object) -> tuple[str, ...]:
    methods = set(route.methods or ())
    if not methods and inspect.isclass(endpoint) and issubclass(endpoint, HTTPEndpoint):
        methods = {name.upper() for name in ("get", "head", "post", "put", "patch", "delete", "options") if hasattr(endpoint, name)}
    if "GET" in methods:
        methods.discard("HEAD")  # the same answer without its body
    if len(methods) > 1:
        methods.discard("OPTIONS")  # the same function, the same guard
    return tuple(sorted(methods)) or ("*",)


def _overrides_of(route: Any, place: _Place) -> dict[Any, Any]:
    provider = getattr(route, "dependency_overrides_provider", None)
    overrides = getattr(provider, "dependency_overrides", None)
    return overrides if isinstance(overrides, dict) else place.overrides


def _left_behind(place: _Place, path: str) -> dict[str, Any]:
    """What changes on the way into a mount: the parents' dependencies stay outside."""
    if not place.parent_dependencies:
        return {}
    return {"shadow": path, "unapplied": (*place.unapplied, *place.parent_dependencies), "parent_dependencies": ()}


def _join(prefix: str, path: str) -> str:
    if path.startswith("/") or not path:
        return prefix.rstrip("/") + path or "/"
    return f"{prefix.rstrip('/')}/{path}"
