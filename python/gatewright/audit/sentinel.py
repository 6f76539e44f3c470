"""Takes the bodies out of endpoints for a while, so that a probe can call every route without running them.

The code object of the innermost function is exchanged: whatever captured the function (a router, a decorator, an older or a newer FastAPI) then runs
the sentinel, and signatures stay as they were analysed.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any

from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.responses import Response

from .callables import innermost
from .walk import Entrance, innermost_app

REACHED = 299
"""The status a sentinel answers with; no guard uses it."""


@contextmanager
def sentinels(entrances: Iterable[Entrance], reached: list[object]) -> Iterator[set[int]]:
    """Replaces endpoints and opaque apps until the block ends; yields the positions of entrances that could not be replaced.

    Each call of a sentinel appends the function it stands for to ``reached``.
    """
    undo: list[Callable[[], None]] = []
    done: set[int] = set()
    left: set[int] = set()
    try:
        for position, entrance in enumerate(entrances):
            if entrance.endpoint is None or entrance.kind in ("mount", "static"):
                _replace_app(entrance.route, reached, undo, done)
                left.add(position)
                continue
            functions = list(_functions_of(entrance.endpoint))
            if not functions:
                left.add(position)
            for function in functions:
                if id(function) not in done:
                    done.add(id(function))
                    undo.append(_replace_code(function, reached))
        yield left
    finally:
        for step in reversed(undo):
            step()


def stands_for(entrance: Entrance, function: object) -> bool:
    """Whether the function a sentinel recorded is this entrance's endpoint."""
    return any(function is own for own in _functions_of(entrance.endpoint)) if entrance.endpoint is not None else False


def _functions_of(endpoint: object) -> Iterator[FunctionType]:
    last = innermost(endpoint)
    if isinstance(last, FunctionType):
        yield last
    elif inspect.isclass(last) and issubclass(last, HTTPEndpoint | WebSocketEndpoint):
        names = ("get", "head", "post", "put", "patch", "delete", "options", "on_connect", "on_receive", "on_disconnect")
        yield from (
            found
            for name in names
            if isinstance(found := getattr(last, name, None), FunctionType) and found.__module__.split(".")[0] != "starlette"
        )
    elif not inspect.isclass(last):
        # An endpoint may be an ASGI app in wrappers, and those are what a probe is about: only the innermost one is replaced.
        inner = innermost(innermost_app(last))
        call = inner if isinstance(inner, FunctionType) else innermost(getattr(type(inner), "__call__", None))  # noqa: B004
        if isinstance(call, FunctionType) and (call is inner or call.__module__.split(".")[0] not in ("starlette", "fastapi")):
            yield call


def _replace_code(function: FunctionType, reached: list[object]) -> Callable[[], None]:
    before = function.__code__

    def note() -> Response:
        reached.append(function)
        return Response(status_code=REACHED)

    function.__code__ = _sentinel_code(before, note)

    def restore() -> None:
        function.__code__ = before

    return restore


def _sentinel_code(original: CodeType, note: Callable[[], Response]) -> CodeType:
    """Code of the same kind (plain, coroutine, generator) and with the same free variables that calls ``note``."""
    flags = original.co_flags
    generator = bool(flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR))
    asynchronous = bool(flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR))
    names = original.co_freevars
    body = "('gatewright sentinel')()\n  if False: yield" if generator else "return ('gatewright sentinel')()"
    outer = "".join(f" {name} = None\n" for name in names)
    keep = f"  if False: ({', '.join(names)},)\n" if names else ""
    source = f"def outer():\n{outer} {'async ' if asynchronous else ''}def sentinel(*_arguments, **_keywords):\n{keep}  {body}\n"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # a string is not callable; the constant is exchanged below
        module = compile(source, original.co_filename, "exec")
    made = next(constant for constant in _codes(module) if constant.co_name == "sentinel")
    constants = tuple(note if constant == "gatewright sentinel" else constant for constant in made.co_consts)
    return made.replace(co_consts=constants, co_name=original.co_name, co_firstlineno=original.co_firstlineno)


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _replace_app(route: Any, reached: list[object], undo: list[Callable[[], None]], done: set[int]) -> None:
    """Mounted apps that cannot be looked into are not called either."""
    if not hasattr(route, "app") or id(route) in done:
        return
    done.add(id(route))
    before = route.app

    async def stand_in(scope: Any, receive: Any, send: Any) -> None:
        reached.append(route)
        if scope["type"] == "http":
            await Response(status_code=REACHED)(scope, receive, send)

    route.app = stand_in

    def restore() -> None:
        route.app = before

    undo.append(restore)
