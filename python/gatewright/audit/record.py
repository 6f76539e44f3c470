"""Notes, while an app is being imported, where its routers are included and its sub-apps mounted.

Frameworks keep no such record, so the command line listens to the public methods during the import and takes its hands off again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .callables import relative
from .model import Location


class Step(NamedTuple):
    """One include or mount on the way to a route."""

    words: str
    at: Location | None = None


@dataclass
class Record:
    """Chains of includes by the object that came of them, outermost first."""

    _chains: dict[int, tuple[object, tuple[Step, ...]]] = field(default_factory=dict)
    _included: dict[int, tuple[object, int]] = field(default_factory=dict)
    _mounts: dict[tuple[int, str], tuple[object, Location]] = field(default_factory=dict)

    def chain_of(self, made: object) -> tuple[Step, ...]:
        found = self._chains.get(id(made))
        return found[1] if found is not None and found[0] is made else ()

    def mounted_at(self, app: object, path: str = "") -> Location | None:
        """Where an app was mounted (or a frontend declared); the path tells two mounts of one app apart."""
        found = self._mounts.get((id(app), path.rstrip("/")))
        return found[1] if found is not None and found[0] is app else None

    def is_late(self, router: object, position: int) -> bool:
        """Whether the route at this place came after the router had been included."""
        found = self._included.get(id(router))
        return found is not None and found[0] is router and position >= found[1]

    @contextmanager
    def listening(self) -> Iterator[Record]:
        """Listens to ``include_router`` and ``mount`` until the block ends."""
        from fastapi import APIRouter
        from starlette.applications import Starlette
        from starlette.routing import Router

        include, mounts = APIRouter.include_router, [(owner, owner.mount) for owner in (Starlette, Router)]

        def include_router(parent: Any, router: Any, *args: Any, **kwargs: Any) -> Any:
            before = len(parent.routes)
            sources = [route for route in router.routes if hasattr(route, "path") or hasattr(route, "original_router")]
            out = include(parent, router, *args, **kwargs)
            made = list(parent.routes[before:])
            self._included.setdefault(id(router), (router, len(router.routes)))
            self._note_include(made, sources, _caller(), kwargs.get("prefix", ""), bool(kwargs.get("dependencies")))
            return out

        def listen_to(original: Callable[..., Any]) -> Callable[..., Any]:
            def mount(owner: Any, path: str, app: Any = None, *args: Any, **kwargs: Any) -> Any:
                place = _caller()
                if app is not None and place is not None:
                    self._mounts.setdefault((id(app), path.rstrip("/")), (app, place))
                return original(owner, path, app, *args, **kwargs) if app is not None else original(owner, path, *args, **kwargs)

            return mount

        frontend = getattr(APIRouter, "frontend", None)  # since 0.138

        def declare_frontend(router: Any, *args: Any, **kwargs: Any) -> Any:
            place = _caller()
            out = frontend(router, *args, **kwargs) if frontend is not None else None
            made = getattr(getattr(router, "_frontend_routes", None), "routes", None)
            if made and place is not None:
                self._mounts.setdefault((id(made[-1]), ""), (made[-1], place))
            return out

        setattr(APIRouter, "include_router", include_router)  # noqa: B010 (a plain assignment to a method does not type-check)
        for owner, original in mounts:
            setattr(owner, "mount", listen_to(original))  # noqa: B010
        if frontend is not None:
            setattr(APIRouter, "frontend", declare_frontend)  # noqa: B010
        try:
            yield self
        finally:
            setattr(APIRouter, "include_router", include)  # noqa: B010
            for owner, original in mounts:
                setattr(owner, "mount", original)  # noqa: B010
            if frontend is not None:
                setattr(APIRouter, "frontend", frontend)  # noqa: B010

    def _note_include(self, made: list[Any], sources: list[Any], place: Location | None, prefix: str, has_dependencies: bool) -> None:
        words = f"included at {place}" if place else "included"
        words += f" under {prefix}" if prefix else ""
        step = Step(f"{words} {'with' if has_dependencies else 'without'} dependencies", place)
        if len(made) == 1 and hasattr(made[0], "original_router"):
            self._chains[id(made[0])] = (made[0], (step,))
            return
        # Before 0.137 every route is copied, in order; what cannot be copied (a mount, for one) is left out.
        position = 0
        for route in made:
            while position < len(sources) and getattr(sources[position], "endpoint", None) is not getattr(route, "endpoint", None):
                position += 1
            earlier = self.chain_of(sources[position]) if position < len(sources) else ()
            position += 1
            self._chains[id(route)] = (route, (step, *earlier))


def _caller() -> Location | None:
    """The nearest line of the app's own code: neither this package's nor the frameworks'."""
    ours = os.path.dirname(os.path.abspath(__file__))
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        module = str(frame.f_globals.get("__name__", ""))
        if not file.startswith(ours) and module.split(".", 1)[0] not in ("fastapi", "starlette", "contextlib"):
            return Location(relative(file), frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return None
