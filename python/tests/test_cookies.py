"""A renewed session reaches the browser whatever the endpoint answers, and never more than that."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from asgi_calls import bearer, call, cookie_header, http_scope, open_websocket
from fastapi import Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.testclient import TestClient
from starlette.middleware.base import BaseHTTPMiddleware

from conftest import forgetful
from gatewright._cookies_hook import CookieHook
from gatewright.asgi import GuardMiddleware
from gatewright.fastapi import Gatewright, User
from gatewright.testing import TestIssuer

Anything = Any


def app_of_every_answer(gw: Gatewright, **options: Any) -> FastAPI:
    app = FastAPI(**options)
    guard = [Depends(gw.user)]

    @app.get("/plain", dependencies=guard)
    def plain() -> str:
        return "plain"

    @app.get("/own", dependencies=guard)
    def own() -> JSONResponse:
        return JSONResponse({"own": True}, headers={"cache-control": "public, max-age=3600", "set-cookie": "mine=1"})

    @app.get("/refused", dependencies=guard)
    def refused() -> None:
        raise HTTPException(418, "no tea")

    @app.get("/broken", dependencies=guard)
    def broken() -> None:
        raise ZeroDivisionError

    @app.get("/forbidden", dependencies=[Depends(gw.requires(role="admin"))])
    def forbidden() -> None: ...

    @app.get("/invalid", dependencies=guard)
    def invalid(number: int) -> None: ...

    @app.get("/stream", dependencies=guard)
    def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            for number in range(3):
                yield str(number)

        return StreamingResponse(parts())

    @app.websocket("/live")
    async def live(websocket: WebSocket, user: Annotated[User, Depends(gw.user)]) -> None:
        await websocket.accept(headers=[(b"x-mine", b"1")])
        await websocket.close()

    @app.websocket("/closed")
    async def closed(websocket: WebSocket, user: Annotated[User, Depends(gw.requires(role="admin"))]) -> None:
        await websocket.accept()

    return app


def sessions_in(cookies: list[str]) -> list[str]:
    return [cookie for cookie in cookies if cookie.startswith("wos_session=") and "Max-Age=0" not in cookie]


EVERY = {"/plain": 200, "/own": 200, "/refused": 418, "/broken": 500, "/forbidden": 403, "/invalid": 422, "/stream": 200}


@pytest.mark.parametrize("path", list(EVERY))
def test_whatever_the_endpoint_answers_the_cookie_is_set(path: str, gw: Gatewright, issuer: TestIssuer) -> None:
    with forgetful(app_of_every_answer(gw, lifespan=gw.lifespan), raise_server_exceptions=False) as client:
        answer = client.get(path, headers=cookie_header(issuer.cookies(gw, expires_in=-60)))
        assert answer.status_code == EVERY[path]
        cookies = answer.headers.get_list("set-cookie")
        assert len(sessions_in(cookies)) == 1
        assert answer.headers.get_list("cache-control") == ["no-store"]
        assert ("mine=1" in cookies) == (path == "/own")
        # What was set is the session: it is signed in, and asks nobody.
        value = sessions_in(cookies)[0].split(";")[0]
        again = client.get("/plain", headers={"cookie": value})
        assert (again.status_code, "set-cookie" in again.headers) == (200, False)
    assert issuer.counts["/user_management/authenticate"] == 1


# A 403 needs nothing said: caches keep none unless told to (RFC 9111 §4.2.2).
@pytest.mark.parametrize("path", [path for path, status in EVERY.items() if status != 403])
@pytest.mark.parametrize("lifespan", [True, False])
def test_no_cache_keeps_what_was_answered_to_a_session(path: str, lifespan: bool, gw: Gatewright, issuer: TestIssuer) -> None:
    with forgetful(app_of_every_answer(gw, **({"lifespan": gw.lifespan} if lifespan else {})), raise_server_exceptions=False) as client:
        cookie = cookie_header(issuer.cookies(gw))
        if not lifespan:
            assert client.get("/plain", headers=cookie).headers["cache-control"] == "no-store"
        answer = client.get(path, headers=cookie)
        # Who says how an answer may be cached is believed.
        said = "public, max-age=3600" if path == "/own" else "no-store"
        assert (answer.status_code, answer.headers.get_list("cache-control")) == (EVERY[path], [said])
        # Shared caches leave answers to an `Authorization` header alone by themselves (RFC 9111 §3.5).
        assert "cache-control" not in client.get("/plain", headers=bearer(issuer.user_token())).headers


def test_no_cache_keeps_what_was_answered_to_an_api_key(client: TestClient, issuer: TestIssuer) -> None:
    answer = client.get("/items", headers={"x-api-key": issuer.new_api_key(permissions=["items:read"])})
    assert (answer.status_code, answer.headers.get("cache-control")) == (200, "no-store")


def test_a_websocket_that_is_accepted_takes_the_cookie_along(gw: Gatewright, issuer: TestIssuer) -> None:
    async def run() -> None:
        app = app_of_every_answer(gw)
        async with gw.lifespan(app):
            headers = {**cookie_header(issuer.cookies(gw, expires_in=-60)), "sec-fetch-site": "same-origin"}
            accepted = (await open_websocket(app, "/live", headers=headers))[0]
            assert accepted["type"] == "websocket.accept"
            names = [name for name, _ in accepted["headers"]]
            assert names.count(b"set-cookie") == 1 and b"x-mine" in names

    asyncio.run(run())


def test_without_lifespan_the_first_answers_carry_the_cookie_too(gw: Gatewright, issuer: TestIssuer) -> None:
    for path in ("/plain", "/refused", "/forbidden"):
        client = forgetful(app_of_every_answer(gw), raise_server_exceptions=False)
        answer = client.get(path, headers=cookie_header(issuer.cookies(gw, expires_in=-60)))
        if path != "/refused":
            assert len(sessions_in(answer.headers.get_list("set-cookie"))) == 1, path
        # From the second request on, whatever the endpoint answers.
        answer = client.get("/own", headers=cookie_header(issuer.cookies(gw, expires_in=-60)))
        assert len(sessions_in(answer.headers.get_list("set-cookie"))) == 1


def test_a_first_answer_that_could_not_carry_the_cookie_loses_nothing(gw: Gatewright, issuer: TestIssuer) -> None:
    client = forgetful(app_of_every_answer(gw))
    old = cookie_header(issuer.cookies(gw, expires_in=-60))
    assert client.get("/own", headers=old).status_code == 200
    answer = client.get("/own", headers=old)
    assert len(sessions_in(answer.headers.get_list("set-cookie"))) == 1
    assert issuer.counts["/user_management/authenticate"] == 1


def test_a_session_over_several_cookies_is_refused_and_cleared_without_lifespan(gw: Gatewright, issuer: TestIssuer) -> None:
    cookies = issuer.cookies(
        gw, session_id="session_1", expires_in=-60, permissions=[f"thing-{number}:write-everything" for number in range(150)]
    )
    assert len(cookies) > 1
    issuer.end_session("session_1", publish=False)
    answer = forgetful(app_of_every_answer(gw)).get("/plain", headers=cookie_header(cookies))
    assert answer.status_code == 401
    cleared = {cookie.split("=")[0] for cookie in answer.headers.get_list("set-cookie") if "Max-Age=0" in cookie}
    assert cleared == set(cookies)


def test_a_session_that_ended_is_cleared_and_optional_goes_on(client: TestClient, gw: Gatewright, issuer: TestIssuer) -> None:
    cookies = cookie_header(issuer.cookies(gw, session_id="session_1", expires_in=-60))
    issuer.end_session("session_1", publish=False)
    optional = client.get("/optional", headers=cookies)
    assert (optional.status_code, optional.json()) == (200, None)
    refused = client.get("/user", headers=cookies)
    assert (refused.status_code, refused.json()["detail"]) == (401, "The session has ended. Sign in again.")
    for answer in (optional, refused):
        assert [cookie.split(";")[0] for cookie in answer.headers.get_list("set-cookie")] == ["wos_session="]


def test_fifty_requests_with_one_expired_session_renew_it_once(gw: Gatewright, issuer: TestIssuer) -> None:
    async def run() -> None:
        app = app_of_every_answer(gw)
        async with gw.lifespan(app):
            headers = cookie_header(issuer.cookies(gw, expires_in=-60))
            answers = await asyncio.gather(*(call(app, "/own", headers=headers) for _ in range(50)))
            assert [answer.status for answer in answers] == [200] * 50
            set_cookies = [tuple(sessions_in(answer.cookies())) for answer in answers]
            assert len(set(set_cookies)) == 1 and len(set_cookies[0]) == 1
            # The slow ones of the page that come a little later get the same.
            late = await call(app, "/own", headers=headers)
            assert tuple(sessions_in(late.cookies())) == set_cookies[0]

    asyncio.run(run())
    assert issuer.counts["/user_management/authenticate"] == 1


def test_a_hundred_and_fifty_permissions_are_not_dropped(client: TestClient, gw: Gatewright, issuer: TestIssuer) -> None:
    permissions = ["a:read", "b:read", *(f"thing-{number}:write-everything" for number in range(150))]
    cookies = issuer.cookies(gw, "user_1", expires_in=-60, permissions=permissions)
    assert len(cookies) > 1
    answer = client.get("/permission", headers=cookie_header(cookies))
    assert answer.json() == "user_1"
    renewed = answer.headers.get_list("set-cookie")
    assert len(renewed) == len(cookies) and all(len(cookie) <= 4096 for cookie in renewed)
    again = client.get("/permission", headers={"cookie": "; ".join(cookie.split(";")[0] for cookie in renewed)})
    assert (again.status_code, "set-cookie" in again.headers) == (200, False)


def test_a_mounted_app_is_guarded_and_its_cookies_are_set(gw: Gatewright, issuer: TestIssuer) -> None:
    outer = FastAPI(lifespan=gw.lifespan)
    outer.mount("/inner", app_of_every_answer(gw))
    with forgetful(outer) as client:
        assert client.get("/inner/own").status_code == 401
        answer = client.get("/inner/own", headers=cookie_header(issuer.cookies(gw, expires_in=-60)))
        assert (answer.status_code, len(sessions_in(answer.headers.get_list("set-cookie")))) == (200, 1)


def test_two_gatewrights_in_one_app_keep_to_themselves(issuer: TestIssuer) -> None:
    with TestIssuer(client_id="client_other") as other:
        first = Gatewright(**issuer.settings())
        second = Gatewright(**other.settings(cookie_name="other_session"))
        app = FastAPI(lifespan=first.lifespan)
        app.mount("/other", app_of_every_answer(second))

        @app.get("/own", dependencies=[Depends(first.user)])
        def own() -> PlainTextResponse:
            return PlainTextResponse("own")

        with forgetful(app) as client:
            cookies = cookie_header({**issuer.cookies(first, expires_in=-60), **other.cookies(second, expires_in=-60)})
            assert [cookie.split("=")[0] for cookie in client.get("/own", headers=cookies).headers.get_list("set-cookie")] == [
                "wos_session"
            ]
            client.get("/other/plain", headers=cookies)
            names = [cookie.split("=")[0] for cookie in client.get("/other/own", headers=cookies).headers.get_list("set-cookie")]
            assert sorted(names) == ["mine", "other_session"]
            assert client.get("/own", headers=cookie_header(other.cookies(second))).status_code == 401


def test_lifespans_compose_and_run_twice(gw: Gatewright, issuer: TestIssuer) -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with gw.lifespan(app):
            seen.append("up")
            yield {"answer": 42}
            seen.append("down")

    app = FastAPI(lifespan=lifespan)

    @app.get("/own", dependencies=[Depends(gw.user)])
    def own(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(request.state.answer))

    for _ in range(2):
        with forgetful(app) as client:
            answer = client.get("/own", headers=cookie_header(issuer.cookies(gw, expires_in=-60)))
            assert (answer.text, len(answer.headers.get_list("set-cookie"))) == ("42", 1)
    assert seen == ["up", "down"] * 2


def test_other_peoples_middleware_is_not_in_the_way(gw: Gatewright, issuer: TestIssuer) -> None:
    app = app_of_every_answer(gw, lifespan=gw.lifespan)

    async def dispatch(request: Request, call_next: Anything) -> Anything:
        answer = await call_next(request)
        answer.headers["x-seen"] = "1"
        return answer

    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    with forgetful(app) as client:
        answer = client.get("/own", headers=cookie_header(issuer.cookies(gw, expires_in=-60)))
        assert (answer.headers["x-seen"], len(sessions_in(answer.headers.get_list("set-cookie")))) == ("1", 1)


def test_a_caller_who_leaves_while_the_session_is_renewed_breaks_nothing(gw: Gatewright, issuer: TestIssuer) -> None:
    async def run() -> None:
        app = app_of_every_answer(gw)
        async with gw.lifespan(app):
            headers = cookie_header(issuer.cookies(gw, expires_in=-60))
            issuer.fault = "slow"
            leaving = asyncio.create_task(call(app, "/own", headers=headers))
            staying = asyncio.create_task(call(app, "/own", headers=headers))
            await asyncio.sleep(0.1)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            assert (await staying).status == 200

    asyncio.run(run())
    assert issuer.counts["/user_management/authenticate"] == 1


def test_a_request_is_freed_as_soon_as_it_is_over(gw: Gatewright, issuer: TestIssuer) -> None:
    class Cycle:
        """As in a server: holds the scope, and its bound method is the app's `send`."""

        def __init__(self) -> None:
            self.scope = http_scope("/plain", headers=bearer(issuer.user_token()))

        async def receive(self) -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(self, message: Any) -> None:
            assert message.get("status", 200) == 200

    async def run(app: Any) -> None:
        for _ in range(2):
            cycle = Cycle()
            await app(cycle.scope, cycle.receive, cycle.send)
            freed = weakref.ref(cycle)
            del cycle
        assert freed() is None

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    gc.collect()
    gc.disable()
    try:
        asyncio.run(run(CookieHook(plain, None, gw._key)))
        asyncio.run(run(GuardMiddleware(plain, gw, require=True)))
        asyncio.run(run(GuardMiddleware(plain, gw, require=lambda scope: True)))
    finally:
        gc.enable()
