"""The guard for Starlette and any other ASGI app.

from gatewright.asgi import Gatewright, GuardMiddleware

gw = Gatewright.from_env()
app = GuardMiddleware(app, gw, require=lambda scope: not scope["path"].startswith("/public/"))
"""

from __future__ import annotations

import json
from collections.abc import Callable

from gatewright._cookies_hook import App, Exchange, Receive, Scope, Send
from gatewright._core import ApiKey, Machine, Need, Principal, Refusal, Requirement, Resolved, User, never_stored
from gatewright._engine import SAFE_METHODS, Demand, Engine
from gatewright._settings import Claims, Introspection, Issuer, SettingsError

__all__ = [
    "ApiKey",
    "Claims",
    "Gatewright",
    "GuardMiddleware",
    "Introspection",
    "Issuer",
    "Machine",
    "Principal",
    "Refusal",
    "Requirement",
    "SettingsError",
    "User",
]

Rule = Callable[[Scope], "bool | Requirement | None"]


class Gatewright(Engine):
    __doc__ = Engine.__doc__


class GuardMiddleware:
    """Finds out who makes each request and sets the cookies of renewed sessions.

    `scope["gatewright"]` (and `request.state.gatewright`) is the `Principal`, or None when nobody showed a credential that holds; a
    session cookie that another site sent along with a write or a WebSocket is none.

    `require`: False lets everybody through, for the app to decide; True refuses whoever is nobody; a `Requirement` says what callers must
    be; a callable gets the scope and answers one of these (None is False) for each request. Refusals are JSON, `{"detail": ".."}`, with
    the challenge of RFC 6750; a WebSocket is refused before it is accepted.
    """

    __slots__ = ("_any", "_check", "_demands", "_fixed", "_key", "_rule", "app", "gw")

    def __init__(self, app: App, gw: Engine, *, require: bool | Requirement | Rule = False) -> None:
        self.app = app
        self.gw = gw
        self._any = Demand(Requirement())
        self._demands: dict[Requirement, Demand] = {}
        self._rule: bool | Requirement | Rule = require
        # What is demanded of every request alike; None when each is asked about.
        self._fixed = None if callable(require) else self._demand(require)
        self._check = gw.core.check
        self._key = gw._key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Nearly every request carries a credential that holds, and its answer no cookie: hardly anything is built for it.
        demand = self._fixed
        gw = self.gw
        if demand is not None and scope["type"] == "http" and self._key not in scope and gw._stand_in is None:
            method = scope["method"]
            if not gw._origin_unknown or method in SAFE_METHODS:
                answer = self._check(demand.requirement, method, scope["headers"], False, None)
                if isinstance(answer, Principal):
                    scope["gatewright"] = answer
                    scope.setdefault("state", {})["gatewright"] = answer
                    return await self.app(scope, receive, send if answer.via == "bearer" else never_stored(send))
                return await self._guard(scope, receive, send, answer)
        return await self._guard(scope, receive, send, None)

    async def _guard(self, scope: Scope, receive: Receive, send: Send, answer: Principal | Refusal | Need | Resolved | None) -> None:
        """All the other requests; `answer` is what the first look gave, if there was one."""
        if scope["type"] != "http" and scope["type"] != "websocket":
            return await self.app(scope, receive, send)
        gw = self.gw
        rule = self._rule
        if callable(rule):
            rule = rule(scope) or False
        demand = self._demand(rule)
        exchange: Exchange | None = scope.get(gw._key)
        if exchange is None or not exchange.hooked:
            scope[gw._key] = exchange = Exchange(scope.get("app"), True)
            send = exchange.forwarding(send)
        if answer is None:
            answer = gw._look(exchange, scope, demand, None)
        if not isinstance(answer, Principal):
            answer = await gw._settle(exchange, scope, demand, answer)
        if isinstance(answer, Refusal):
            if rule is not False or answer.status == 503:
                gw._report(scope, answer)
                return await refuse(scope, send, answer)
            principal = None
        else:
            principal = answer
        scope["gatewright"] = principal
        scope.setdefault("state", {})["gatewright"] = principal
        return await self.app(scope, receive, send)

    def _demand(self, rule: bool | Requirement) -> Demand:
        if isinstance(rule, bool):
            # Whoever may be nobody is still checked for cross-site requests: an app that only asks who calls has no other way of knowing.
            return self._any
        requirement = rule
        demand = self._demands.get(requirement)
        if demand is None:
            demand = Demand(requirement)
            # Rules that make a new requirement for each request must not fill the memory.
            if len(self._demands) < 256:
                self._demands[requirement] = demand
        return demand


async def refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    """Answers a refusal; a WebSocket that cannot be given an HTTP answer is closed before it is accepted."""
    body = json.dumps({"detail": refusal.message}, separators=(",", ":")).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refusal.challenge is not None:
        headers.append((b"www-authenticate", refusal.challenge.encode("latin-1")))
    if refusal.retry_after is not None:
        headers.append((b"retry-after", str(refusal.retry_after).encode()))
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    elif "websocket.http.response" in (scope.get("extensions") or {}):
        await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
    else:
        await send({"type": "websocket.close", "code": 1013 if refusal.status == 503 else 1008, "reason": refusal.message})
