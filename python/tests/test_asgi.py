"""The same guard around Starlette and plain ASGI apps, without FastAPI."""

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from asgi_calls import bearer, call, cookie_header, open_websocket
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gatewright.asgi import Gatewright, GuardMiddleware, Requirement
from gatewright.testing import TestIssuer


@pytest.fixture
def gw(issuer: TestIssuer) -> Gatewright:
    return Gatewright(**issuer.settings())


async def plain(scope: Any, receive: Any, send: Any) -> None:
    """Says who calls, without any framework."""
    principal = scope["gatewright"]
    name = principal.id if principal else "nobody"
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": name})
        return await send({"type": "websocket.close", "code": 1000})
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": name.encode()})


def test_the_app_is_told_who_calls(gw: Gatewright, issuer: TestIssuer) -> None:
    async def run() -> None:
        app = GuardMiddleware(plain, gw)
        assert (await call(app, "/")).body == b"nobody"
        assert (await call(app, "/", headers=bearer(issuer.user_token("u")))).body == b"u"
        assert (await call(app, "/", headers=cookie_header(issuer.cookies(gw, "c")))).body == b"c"
        assert (await call(app, "/", headers={"x-api-key": issuer.new_api_key()})).body.startswith(b"api_key_")
        # Nobody was asked for: the app decides about strangers.
        assert (await call(app, "/", headers=bearer("rubbish"))).body == b"nobody"

    asyncio.run(run())


def test_a_renewed_session_is_set(gw: Gatewright, issuer: TestIssuer) -> None:
    async def run() -> None:
        answer = await call(GuardMiddleware(plain, gw), "/", headers=cookie_header(issuer.cookies(gw, "u", expires_in=-60)))
        assert answer.body == b"u" and len(answer.cookies()) == 1 and answer.header("cache-control") == "no-store"

    asyncio.run(run())


@pytest.mark.parametrize("rule", [True, lambda scope: True], ids=["fixed", "asked"])
def test_no_cache_keeps_what_was_answered_to_a_session(rule: Any, gw: Gatewright, issuer: TestIssuer) -> None:
    async def says_itself(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Cache-Control", b"max-age=5")]})
        await send({"type": "http.response.body", "body": b""})

    async def run() -> None:
        cookie = cookie_header(issuer.cookies(gw))
        assert (await call(GuardMiddleware(plain, gw, require=rule), "/", headers=cookie)).header("cache-control") == "no-store"
        assert (await call(GuardMiddleware(says_itself, gw, require=rule), "/", headers=cookie)).header("cache-control") == "max-age=5"
        key = {"x-api-key": issuer.new_api_key()}
        assert (await call(GuardMiddleware(plain, gw, require=rule), "/", headers=key)).header("cache-control") == "no-store"
        token = bearer(issuer.user_token())
        assert (await call(GuardMiddleware(plain, gw, require=rule), "/", headers=token)).header("cache-control") is None

    asyncio.run(run())


@pytest.mark.parametrize("rule", [False, lambda scope: None], ids=["fixed", "asked"])
def test_another_site_cannot_act_as_the_person_whose_cookie_it_sends(rule: Any, gw: Gatewright, issuer: TestIssuer) -> None:
    """An app that only asks who calls has no other way of knowing."""

    async def run() -> None:
        app = GuardMiddleware(plain, gw, require=rule)
        cookies = cookie_header(issuer.cookies(gw, "u"))
        for headers in ({}, {"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}):
            assert (await call(app, "/", method="POST", headers={**cookies, **headers})).body == b"nobody"
            assert (await open_websocket(app, "/", headers={**cookies, **headers}))[1]["text"] == "nobody"
            assert (await call(app, "/", headers={**cookies, **headers})).body == b"u"
        own = {**cookies, "sec-fetch-site": "same-origin"}
        assert (await call(app, "/", method="POST", headers=own)).body == b"u"
        assert (await open_websocket(app, "/", headers=own))[1]["text"] == "u"
        token = {**bearer(issuer.user_token("t")), "sec-fetch-site": "cross-site"}
        assert (await call(app, "/", method="POST", headers=token)).body == b"t"

    asyncio.run(run())


def test_who_must_be_somebody(gw: Gatewright, issuer: TestIssuer) -> None:
    async def run() -> None:
        app = GuardMiddleware(plain, gw, require=True)
        answer = await call(app, "/")
        assert (answer.status, answer.header("www-authenticate"), answer.json()) == (
            401,
            "Bearer",
            {"detail": "Sign in, or send an access token."},
        )
        assert (await call(app, "/", headers=bearer("rubbish"))).status == 401
        assert (await call(app, "/", headers=bearer(issuer.user_token()))).status == 200
        cookies = cookie_header(issuer.cookies(gw))
        assert (await call(app, "/", method="POST", headers=cookies)).status == 403
        assert (await call(app, "/", method="POST", headers={**cookies, "sec-fetch-site": "same-origin"})).status == 200
        own = {"host": "localhost:8000", "origin": "http://localhost:8000"}
        assert (await call(app, "/", method="POST", headers={**cookies, **own})).status == 200
        assert (await call(app, "/", method="POST", headers={**cookies, **own, "origin": "http://localhost:9000"})).status == 403
        # Which of two counts, nobody can say.
        for twice in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"sec-fetch-site": "cross-site"}):
            assert (await call(app, "/", method="POST", headers={**cookies, **own, **twice})).status == 403
        sent = await open_websocket(app, "/")
        assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 401)
        assert (await open_websocket(app, "/", denial=False))[0] == {
            "type": "websocket.close",
            "code": 1008,
            "reason": "Sign in, or send an access token.",
        }
        sent = await open_websocket(app, "/", subprotocols=["bearer", issuer.user_token("u")])
        assert (sent[0]["subprotocol"], sent[1]["text"]) == ("bearer", "u")
        issuer.fault = "error"
        # Not even where strangers are welcome: this may be somebody.
        for guarded in (app, GuardMiddleware(plain, gw)):
            answer = await call(guarded, "/", headers={"x-api-key": "sk_new"})
            assert answer.status == 503 and int(answer.header("retry-after") or 0) >= 1

    asyncio.run(run())


def test_rules_are_chosen_by_request(gw: Gatewright, issuer: TestIssuer) -> None:
    admin = Requirement(kinds=["user"], roles=["admin"])

    def rule(scope: Any) -> Any:
        if scope["path"].startswith("/admin"):
            return admin
        return None if scope["path"] == "/open" else True

    async def run() -> None:
        app = GuardMiddleware(plain, gw, require=rule)
        person, boss = bearer(issuer.user_token()), bearer(issuer.user_token(role="admin"))
        statuses = {
            (path, who): (await call(app, path, headers=headers)).status
            for path in ("/open", "/", "/admin/x")
            for who, headers in (("nobody", {}), ("person", person), ("boss", boss))
        }
        assert statuses == {
            ("/open", "nobody"): 200,
            ("/open", "person"): 200,
            ("/open", "boss"): 200,
            ("/", "nobody"): 401,
            ("/", "person"): 200,
            ("/", "boss"): 200,
            ("/admin/x", "nobody"): 401,
            ("/admin/x", "person"): 403,
            ("/admin/x", "boss"): 200,
        }

    asyncio.run(run())


def test_in_starlette_the_caller_is_in_the_state(gw: Gatewright, issuer: TestIssuer) -> None:
    async def who(request: Request) -> JSONResponse:
        return JSONResponse({"id": request.state.gatewright.id})

    app = Starlette(routes=[Route("/who", who)], middleware=[Middleware(GuardMiddleware, gw=gw, require=True)])

    async def run() -> None:
        assert (await call(app, "/who")).status == 401
        assert (await call(app, "/who", headers=bearer(issuer.user_token("u")))).json() == {"id": "u"}

    asyncio.run(run())


def test_the_lifespan_of_the_app_is_left_alone(gw: Gatewright) -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(GuardMiddleware(app, gw)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]


def test_no_framework_is_needed(issuer: TestIssuer) -> None:
    program = f"""
import sys, json
class Hidden:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("fastapi", "starlette", "pydantic"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
from gatewright.asgi import Gatewright, GuardMiddleware
GuardMiddleware(print, Gatewright(**json.loads({json.dumps(json.dumps(issuer.settings()))})))
try:
    import gatewright.fastapi
except ModuleNotFoundError as error:
    assert "pip install" in str(error), error
else:
    raise SystemExit("imported")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
