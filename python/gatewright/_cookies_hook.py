"""What the guard adds to whatever answer an app gives: an `Exchange` for every request, made by a `CookieHook` around the app."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from gatewright._core import CookieHook, Exchange

__all__ = ["App", "CookieHook", "Exchange", "Message", "Receive", "Scope", "Send", "install", "is_installed"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def install(app: Any, key: str) -> bool:
    """Wraps the middleware stack of a Starlette app once; False for apps that have none. For the requests that come after."""
    stack = getattr(app, "middleware_stack", None)
    if stack is None:
        return False
    if not is_installed(app, key):
        app.middleware_stack = CookieHook(stack, app, key)
    return True


def is_installed(app: Any, key: str) -> bool:
    layer = getattr(app, "middleware_stack", None)
    while isinstance(layer, CookieHook):
        if layer.key == key:
            return True
        layer = layer.app
    return False
