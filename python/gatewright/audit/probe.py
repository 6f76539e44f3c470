"""The probe: calls guarded and unverified routes in this process with credentials that must be refused.

Endpoints are replaced by sentinels, so only guards, other dependencies and middleware run. Nothing is sent over a network by the probe itself.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from .._facts import GuardFacts
from .model import AuditedRoute, Finding, GuardUse
from .sentinel import REACHED, sentinels, stands_for
from .verdict import Judged

SECONDS_PER_CALL = 10.0
REFUSED = (401, 403)
SAMPLES = {"IntegerConvertor": "1", "FloatConvertor": "1.5", "UUIDConvertor": "00000000-0000-4000-8000-000000000000"}


@dataclass(frozen=True)
class Answer:
    """What came back: a status, or how a WebSocket ended, or why nothing came."""

    status: int | None = None
    closed: int | None = None
    location: str | None = None
    error: str | None = None
    accepted: bool = True
    """``False``: a WebSocket that was left without a word, which a server ends itself."""

    def words(self) -> str:
        if self.error is not None:
            return self.error
        if not self.accepted:
            return "never accepted"
        if self.closed is not None:
            return f"closed with {self.closed}"
        return str(self.status) if self.status is not None else "no answer"

    @property
    def refuses(self) -> bool:
        if self.closed is not None or not self.accepted:
            return True
        if self.status in (302, 303, 307):
            return self.location is not None and any(
                word in self.location.lower() for word in ("login", "signin", "sign-in", "sign_in", "auth")
            )
        return self.status in REFUSED


def bad_credentials(now: int) -> list[tuple[str, str | None]]:
    """Name and ``Authorization`` value of every case."""
    header = {"alg": "RS256", "typ": "JWT", "kid": "gatewright-probe"}
    claims = {
        "iss": "https://probe.invalid",
        "sub": "user_probe",
        "sid": "session_probe",
        "aud": "probe",
        "iat": now - 60,
        "exp": now + 600,
    }
    return [
        ("no credential", None),
        ("a malformed one", "Bearer not-a-token"),
        ("an expired one", f"Bearer {_token(header, {**claims, 'iat': now - 7200, 'exp': now - 3600})}"),
        ("one for another audience", f"Bearer {_token(header, {**claims, 'aud': 'https://elsewhere.invalid'})}"),
        ("an unsigned one", f"Bearer {_token({'alg': 'none', 'typ': 'JWT'}, claims, signed=False)}"),
    ]


def probe_routes(app: Any, judged: list[Judged]) -> list[str]:
    """Settles what can be settled, in place; returns remarks. Runs its own event loop on a thread of its own."""
    out: list[str] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            out.extend(asyncio.run(_probe(app, judged)))
        except BaseException as error:
            failure.append(error)

    # A caller may itself be inside an event loop (a start-up hook, an async test).
    thread = threading.Thread(target=run, name="gatewright-probe", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return out


async def _probe(app: Any, judged: list[Judged]) -> list[str]:
    reached: list[object] = []
    cases = bad_credentials(int(time.time()))
    inconclusive: list[str] = []
    had_stack = {id(owner): getattr(owner, "middleware_stack", None) for owner in _apps(app)}
    with sentinels([item.entrance for item in judged], reached) as left:
        for position, item in enumerate(judged):
            if item.route.verdict not in ("guarded", "unverified") or item.route.kind not in ("http", "websocket"):
                continue
            if position in left:
                inconclusive.append(f"{item.route.key} (its endpoint cannot be replaced)")
                continue
            why = await _settle(app, item, cases, reached)
            if why is not None:
                inconclusive.append(f"{item.route.key} ({why})")
    for owner in _apps(app):
        if had_stack[id(owner)] is None and hasattr(owner, "user_middleware"):
            owner.middleware_stack = None  # so that middleware can still be added
    return [f"the probe could not settle {text}" for text in inconclusive]


async def _settle(app: Any, item: Judged, cases: list[tuple[str, str | None]], reached: list[object]) -> str | None:
    """Asks one route with all its methods; returns why nothing can be said, if so."""
    route = item.route
    answers: list[Answer] = []
    for method in route.methods:
        for name, authorization in cases:
            reached.clear()
            answer = await _call(app, item, "GET" if method == "*" else method, authorization)
            if any(stands_for(item.entrance, function) for function in reached):
                _let_through(item, f"{method} {route.path} lets {name} through: the guard must raise for this request")
                return None
            if reached or answer.status == REACHED:
                return "another route answers for this path"
            answers.append(answer)
    if any(guard.facts is not None and guard.authorizes for guard in route.guards):
        caller = await _call_without_rights(app, item, reached)
        if any(stands_for(item.entrance, function) for function in reached):
            _let_through(item, f"{route.key} lets a caller through who lacks what its guard demands")
            return None
        answers += [caller] if caller is not None else []
    if all(answer.refuses for answer in answers):
        if route.verdict == "unverified":
            use = GuardUse("probe", f"probe: {_words(answers)}")
            item.route = replace(route, verdict="guarded", guards=(*route.guards, use)).because(
                f"the probe was refused in all {len(cases)} cases"
            )
            item.findings = [replace(finding, route=item.route) for finding in item.findings if finding.rule not in ("GW008", "GW004")]
        else:
            _replace(item, route.because(f"probe: {_words(answers)}"))
        return None
    if all(answer.refuses or answer.status == 503 for answer in answers):
        # A guard that has no keys (nothing is fetched here) fails closed, which lets nobody in either.
        _replace(item, route.because(f"probe: {_words(answers)} (a guard without keys fails closed)"))
        return None
    odd = next(answer for answer in answers if not answer.refuses and answer.status != 503)
    return f"answered {odd.words()} instead of 401 or 403"


async def _call_without_rights(app: Any, item: Judged, reached: list[object]) -> Answer | None:
    """Asks as somebody who is signed in and may nothing: Gatewright's guards take their caller from one override."""
    guard = _find_gatewright_guard(item.entrance.dependant)
    if guard is None:
        return None
    from gatewright import ApiKey, Machine, User

    kinds = {"machine": Machine, "api_key": ApiKey}
    caller = kinds.get(guard.facts.kind, User)(id="gatewright_probe")
    funnel, overrides = guard.engine._funnel, item.entrance.overrides
    before = overrides.get(funnel)
    reached.clear()
    overrides[funnel] = lambda: caller
    try:
        return await _call(app, item, "GET" if item.route.methods == ("*",) else item.route.methods[0], None)
    finally:
        if before is None:
            del overrides[funnel]
        else:
            overrides[funnel] = before


def _find_gatewright_guard(dependant: Any) -> Any | None:
    if dependant is None:
        return None
    for child in dependant.dependencies:
        facts = getattr(child.call, "facts", None)
        if isinstance(facts, GuardFacts) and facts.authorizes() and hasattr(getattr(child.call, "engine", None), "_funnel"):
            return child.call
        below = _find_gatewright_guard(child)
        if below is not None:
            return below
    return None


def _let_through(item: Judged, message: str) -> None:
    guards = () if item.route.verdict == "unverified" else item.route.guards
    item.route = replace(item.route, verdict="open", guards=guards).because("the probe reached the endpoint")
    item.findings = [
        replace(finding, route=item.route) for finding in item.findings if finding.rule not in ("GW008", "GW005", "GW006", "GW009")
    ]
    item.findings.append(Finding("GW013", message, item.route))


def _replace(item: Judged, route: AuditedRoute) -> None:
    item.route = route
    item.findings = [replace(finding, route=route) for finding in item.findings]


def _words(answers: Iterable[Answer]) -> str:
    return ", ".join(dict.fromkeys(answer.words() for answer in answers))


async def _call(app: Any, item: Judged, method: str, authorization: str | None) -> Answer:
    host, path = _address(item)
    headers = [(b"host", host.encode()), (b"accept", b"application/json"), (b"user-agent", b"gatewright-routes-audit")]
    if authorization is not None:
        headers.append((b"authorization", authorization.encode()))
    websocket = item.route.kind == "websocket"
    if not websocket and method not in ("GET", "HEAD", "OPTIONS"):
        # Malformed JSON answers 422 before any guard runs; an empty object reaches them.
        headers += [(b"content-type", b"application/json"), (b"content-length", b"2")]
    scope: dict[str, Any] = {
        "type": "websocket" if websocket else "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws" if websocket else "http",
        "server": (host, 80),
        "client": ("127.0.0.1", 50000),
        "root_path": "",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": b"",
        "headers": headers,
        "state": {},
        "extensions": {"websocket.http.response": {}} if websocket else {},
    }
    if websocket:
        scope["subprotocols"] = []
    else:
        scope["method"] = method
    return await _run(app, scope, websocket, body=b"{}" if method not in ("GET", "HEAD", "OPTIONS") else b"")


async def _run(app: Any, scope: dict[str, Any], websocket: bool, body: bytes) -> Answer:
    answer = Answer()
    accepted = False
    requests = [{"type": "websocket.connect"}] if websocket else [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if requests:
            return requests.pop(0)
        return {"type": "websocket.disconnect", "code": 1000} if websocket else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal answer, accepted
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            location = next((value.decode("latin-1") for key, value in message.get("headers", ()) if key.lower() == b"location"), None)
            answer = Answer(status=message["status"], location=location)
        elif message["type"] == "websocket.accept":
            accepted = True
        elif message["type"] == "websocket.close" and answer == Answer():
            # FastAPI closes with the same code when a parameter is invalid; the reason is then a list of faults.
            invalid = not isinstance(message.get("reason") or "", str)
            answer = Answer(error="invalid parameters") if invalid else Answer(closed=message.get("code", 1000))

    try:
        await asyncio.wait_for(app(scope, receive, send), SECONDS_PER_CALL)
    except asyncio.TimeoutError:
        return Answer(error=f"nothing within {SECONDS_PER_CALL:.0f} s")
    except Exception as error:
        if answer == Answer():
            return Answer(error=f"{type(error).__name__}: {error}"[:160])
    if websocket and answer == Answer():
        return Answer(error="an accepted connection") if accepted else Answer(accepted=False)
    return answer


def _address(item: Judged) -> tuple[str, str]:
    """A host and a path that lead to the route, parameters filled in."""
    path, host = item.route.path, "testserver"
    for name, convertor in item.entrance.parameters.items():
        sample = SAMPLES.get(type(convertor).__name__, "1")
        path = path.replace(f"{{{name}}}", sample)
        path = path.replace(f"{{{name}:{_tag(path, name)}}}", sample)
    if path.startswith("//"):
        host, _, rest = path[2:].partition("/")
        path = f"/{rest}"
        while "{" in host and "}" in host:  # parameters of the host itself
            start, end = host.index("{"), host.index("}")
            host = f"{host[:start]}probe{host[end + 1 :]}"
    return host, path


def _tag(path: str, name: str) -> str:
    start = path.find(f"{{{name}:")
    return "" if start < 0 else path[start + len(name) + 2 : path.index("}", start)]


def _token(header: dict[str, Any], claims: dict[str, Any], signed: bool = True) -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    signature = base64.urlsafe_b64encode(os.urandom(256)).rstrip(b"=").decode() if signed else ""
    return f"{part(header)}.{part(claims)}.{signature}"


def _apps(app: Any) -> list[Any]:
    """The app and everything with a middleware stack below it that a call may build."""
    found: list[Any] = []
    queue = [app]
    while queue:
        owner = queue.pop()
        if any(owner is known for known in found):
            continue
        found.append(owner)
        inner = getattr(owner, "app", None)
        queue += [inner] if callable(inner) and inner is not None and not hasattr(owner, "routes") else []
        for route in getattr(owner, "routes", None) or ():
            mounted = getattr(route, "app", None)
            if mounted is not None and hasattr(mounted, "routes"):
                queue.append(mounted)
    return found
