"""What the guard adds to whatever answer an app gives, its own Response, an exception, a stream or a WebSocket: the cookies of a renewed
session, and that caches keep their hands off what was made for one person.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatewright._core import Principal, Refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
_NO_STORE = (b"cache-control", b"no-store")


class Exchange:
    """One request and its answer, as the guards of one `Gatewright` see it."""

    __slots__ = ("app", "armed", "cookies", "cross_site_checked", "fresh", "hooked", "personal", "principal", "refusal", "subprotocol")

    def __init__(self, app: Any, hooked: bool) -> None:
        self.app = app
        # Whether the answer comes past `forwarding`.
        self.hooked = hooked
        # Whether something is to be added to the answer, so that forwarding costs one test where nothing is.
        self.armed = False
        # Whether the answer may be made for whoever is behind a session cookie or an API key.
        self.personal = False
        self.cookies: list[str] = []
        self.subprotocol: str | None = None
        # What the first guard of the request found, so that the others need not look again.
        self.principal: Principal | None = None
        self.cross_site_checked = False
        self.fresh = False
        self.refusal: Refusal | None = None

    def set_cookies(self, cookies: list[str]) -> None:
        """Whole `Set-Cookie` values for the answer; each is sent once."""
        for cookie in cookies:
            if cookie not in self.cookies:
                self.cookies.append(cookie)
                self.armed = True

    def replace_cookies(self, cookies: list[str]) -> None:
        """Sends these and nothing that was set before: who signs out wants no renewed session."""
        self.cookies = list(cookies)
        self.armed = bool(cookies) or self.personal

    def forbid_caching(self) -> None:
        """Unlike a bearer token (RFC 9111 §3.5), a cookie or an `X-API-Key` keeps no shared cache from storing the answer and giving it to
        the next who asks. An app that says itself how its answer may be cached is believed.
        """
        self.personal = self.armed = True

    def choose_subprotocol(self, name: str) -> None:
        """Browsers close a WebSocket whose server picks none of the sub-protocols they offered."""
        self.subprotocol = name
        self.armed = True

    def forwarding(self, send: Send) -> Send:
        """The `send` of the app inside. The exchange does not keep it: the scope holds the exchange and the server's `send` the scope,
        and with that circle closed nothing of a request would be freed before the garbage collector comes by.
        """

        def forward(message: Message) -> Awaitable[None]:
            if self.armed and message["type"] in _STARTS:
                self.armed = False
                message = self._amended(message)
            return send(message)

        return forward

    def _amended(self, message: Message) -> Message:
        if not self.cookies and message["type"] != "websocket.accept":
            return uncached(message) if self.personal else message
        amended = dict(message)
        if self.cookies:
            headers = [(name, value) for name, value in message.get("headers") or () if name.lower() != b"cache-control"]
            headers += [(b"set-cookie", cookie.encode("latin-1")) for cookie in self.cookies]
            # A shared cache that kept this answer would hand one person's session to the next, whatever the app says.
            headers.append(_NO_STORE)
            amended["headers"] = headers
        if self.subprotocol is not None and message["type"] == "websocket.accept" and not message.get("subprotocol"):
            amended["subprotocol"] = self.subprotocol
        return amended


def uncached(message: Message) -> Message:
    """The start of an answer, with `no-store` unless it speaks of caches."""
    headers = message.get("headers") or ()
    for name, _ in headers:
        # Told by its length nearly always: this runs for every answer.
        if len(name) == 13 and name.lower() == b"cache-control":
            return message
    return {**message, "headers": [*headers, _NO_STORE]}


class CookieHook:
    """The outermost layer of an app: gives every request an `Exchange` under `key` in its scope."""

    __slots__ = ("app", "key", "owner")

    def __init__(self, app: App, owner: Any, key: str) -> None:
        self.app = app
        self.owner = owner
        self.key = key

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "lifespan" or self.key in scope:
            return self.app(scope, receive, send)
        exchange = Exchange(self.owner, True)
        scope[self.key] = exchange
        return self.app(scope, receive, exchange.forwarding(send))


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
