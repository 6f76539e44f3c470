"""What is revoked at the server is refused here within a moment, and what is refused here the server hears of."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import pytest
from asgi_calls import bearer, call, cookie_header
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from test_websockets import Socket, watched_app

from conftest import forgetful
from gatewright._engine import path_without_ids
from gatewright.asgi import Gatewright as AsgiGatewright
from gatewright.asgi import GuardMiddleware
from gatewright.fastapi import Gatewright, SettingsError, User
from gatewright.testing import TestIssuer, acting_as

BOUND = 1.0
Ask = Callable[[dict[str, str]], int]


def wait_until(what: str, is_so: Callable[[], Any], seconds: float = 10) -> float:
    """The seconds it took."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < seconds, what
        time.sleep(0.005)
    return time.monotonic() - began


def wait_until_live(gw: Any) -> None:
    wait_until("live", lambda: gw.health()["revocations"] == "live")


@pytest.fixture(params=["fastapi", "asgi"])
def face(request: pytest.FixtureRequest, issuer: TestIssuer) -> Iterator[tuple[Any, Ask]]:
    """A guard that listens, and how to ask its app: the status of a request with these headers."""
    if request.param == "asgi":
        asgi = AsgiGatewright(**issuer.settings())

        async def inner(scope: Any, receive: Any, send: Any) -> None:
            await PlainTextResponse(scope["gatewright"].id)(scope, receive, send)

        asgi.core.warm()
        wait_until_live(asgi)
        guarded = GuardMiddleware(inner, asgi, require=True)
        yield asgi, lambda headers: asyncio.run(call(guarded, "/", headers=headers)).status
        return
    gw = Gatewright(**issuer.settings())
    app = FastAPI(lifespan=gw.lifespan)

    @app.get("/")
    async def whoever(caller: Annotated[Any, Depends(gw.principal)]) -> str:
        return str(caller.id)

    with forgetful(app) as client:
        wait_until_live(gw)
        yield gw, lambda headers: client.get("/", headers=headers).status_code


REVOCATIONS: dict[str, dict[str, str]] = {
    "session": {"session_id": "session_1"},
    "user": {"user_id": "user_1"},
    "membership": {"user_id": "user_1", "organization_id": "org_1"},
    "client": {"client_id": "client_test"},
}


@pytest.mark.parametrize("what", REVOCATIONS)
@pytest.mark.parametrize("way", ["bearer", "cookie"])
def test_row_23_what_was_let_in_is_refused_within_a_second(way: str, what: str, face: tuple[Any, Ask], issuer: TestIssuer) -> None:
    gw, ask = face
    token: dict[str, Any] = {"session_id": "session_1", "org": "org_1"}
    cookies = issuer.cookies(gw, "user_1", **token)
    headers = cookie_header(cookies) if way == "cookie" else bearer(issuer.user_token("user_1", **token))
    assert ask(headers) == 200 and ask(headers) == 200
    # The server ends the session along with whatever it was: a cookie is not renewed.
    issuer.end_session("session_1", publish=False)
    issuer.revoke(**REVOCATIONS[what])
    assert wait_until("it is refused", lambda: ask(headers) == 401, 3) < BOUND
    # Nobody else is.
    others = bearer(issuer.user_token("user_2", session_id="session_2", org="org_2", client_id="client_other"))
    assert ask(others) == 200


def test_a_revoked_api_key_is_refused_though_it_was_confirmed_a_moment_ago(face: tuple[Any, Ask], issuer: TestIssuer) -> None:
    _, ask = face
    headers = {"x-api-key": issuer.new_api_key()}
    assert ask(headers) == 200
    [key] = issuer._api_keys.values()
    issuer.revoke(key_id=key["id"])
    assert wait_until("it is refused", lambda: ask(headers) == 401, 3) < BOUND


def test_a_socket_closes_within_a_second_of_the_revocation(gw: Gatewright, issuer: TestIssuer) -> None:
    async def run(headers: dict[str, str]) -> None:
        ended: list[str] = []
        socket = Socket(watched_app(gw, ended, interval=3600), headers)
        await socket.until(lambda: socket.texts == ["hello"] and gw.health()["revocations"] == "live")
        began = time.monotonic()
        issuer.revoke(session_id="session_1")
        await socket.until(lambda: socket.closed is not None)
        assert time.monotonic() - began < BOUND
        await socket.task
        assert socket.closed == (4401, "The session has been revoked.") and ended == ["session ended"]

    asyncio.run(run(cookie_header(issuer.cookies(gw, session_id="session_1"))))
    issuer._revocations.clear()
    again = Gatewright(**issuer.settings())
    gw.core.close()
    gw = again
    asyncio.run(run(bearer(issuer.user_token(session_id="session_1"))))


def test_a_stream_ends_within_a_second_of_the_revocation(gw: Gatewright, issuer: TestIssuer) -> None:
    app = FastAPI()
    cleaned: list[str] = []

    @app.get("/ticks")
    async def ticks(user: Annotated[User, Depends(gw.user)]) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            try:
                yield "tick"
                await asyncio.sleep(3600)
            finally:
                cleaned.append("yes")

        return StreamingResponse(gw.stream_until_revoked(parts(), user, interval=3600))

    async def run() -> None:
        headers = cookie_header(issuer.cookies(gw, session_id="session_1"))
        asked = asyncio.create_task(call(app, "/ticks", headers=headers))
        while gw.health()["revocations"] != "live":
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert not asked.done()
        began = time.monotonic()
        issuer.revoke(session_id="session_1")
        answer = await asyncio.wait_for(asked, 5)
        assert (answer.status, answer.body) == (200, b"tick") and time.monotonic() - began < BOUND

    asyncio.run(run())
    assert cleaned == ["yes"]


def test_a_stream_ends_when_it_ends_and_fails_as_it_fails(gw: Gatewright, issuer: TestIssuer) -> None:
    user = User("user_1", session_id="session_1")

    async def numbers(fail: bool) -> AsyncIterator[int]:
        yield 1
        if fail:
            raise ZeroDivisionError
        yield 2

    async def read(fail: bool) -> list[int]:
        return [number async for number in gw.stream_until_revoked(numbers(fail), user)]

    assert asyncio.run(read(False)) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        asyncio.run(read(True))
    with pytest.raises(ValueError, match="interval"):
        gw.stream_until_revoked(numbers(False), user, interval=0)

    async def leave() -> None:
        stream = gw.stream_until_revoked(numbers(False), user)
        assert await stream.__anext__() == 1
        await stream.aclose()  # type: ignore[attr-defined]
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    asyncio.run(leave())


def test_signing_out_ends_the_session_here_at_once(issuer: TestIssuer) -> None:
    # Nobody tells us: the server has not heard of it yet.
    gw = Gatewright(**issuer.settings())
    app = FastAPI(lifespan=gw.lifespan)
    app.include_router(gw.router(), prefix="/auth")
    with forgetful(app) as client:
        kept = cookie_header(issuer.cookies(gw, session_id="session_1"))
        token = bearer(issuer.user_token(session_id="session_1"))
        other = cookie_header(issuer.cookies(gw, session_id="session_2"))
        assert [client.get("/auth/me", headers=headers).status_code for headers in (kept, token, other)] == [200, 200, 200]
        answer = client.post("/auth/logout", headers={**kept, "sec-fetch-site": "same-origin"})
        assert answer.status_code == 303
        assert [client.get("/auth/me", headers=headers).status_code for headers in (kept, token, other)] == [401, 401, 200]


def test_what_another_site_asks_for_signs_nobody_out(client: TestClient, gw: Gatewright, issuer: TestIssuer) -> None:
    kept = cookie_header(issuer.cookies(gw, session_id="session_1"))
    assert client.post("/auth/logout", headers={**kept, "sec-fetch-site": "cross-site"}).status_code == 403
    assert client.get("/user", headers=kept).status_code == 200


def test_health_says_whether_word_comes_in(issuer: TestIssuer) -> None:
    gw = Gatewright(**issuer.settings(feed_stale_after=5))
    began = gw.health()
    assert began["revocations"] in ("stale", "live")
    wait_until_live(gw)
    health = gw.health()
    assert health["age_seconds"] is not None and health["age_seconds"] < 5 and health["reason"] is None
    stats = gw.stats()
    assert (stats["feed_live"], stats["feed_connections"], stats["revocations"]) == (1, 1, 0)
    issuer.fault = "error"
    took = wait_until("it is stale", lambda: gw.health()["revocations"] == "stale", 12)
    assert took > 2 and gw.stats()["feed_live"] == 0 and "500" in str(gw.health()["reason"])
    issuer.fault = None
    wait_until_live(gw)

    without = Gatewright(**issuer.settings(api_key=None, cookie_password=None))
    assert without.health() == {"revocations": "off", "age_seconds": None, "reason": "no API key is configured"}


def test_while_stale_fresh_routes_ask_and_all_do_where_it_is_configured(issuer: TestIssuer) -> None:
    for when_stale, status in (("allow", 200), ("check", 401)):
        gw = Gatewright(**issuer.settings(when_stale=when_stale, feed_stale_after=5))
        app = FastAPI()

        @app.get("/")
        async def whoever(user: Annotated[User, Depends(gw.user)]) -> str:
            return user.id

        @app.get("/fresh")
        async def fresh(user: Annotated[User, Depends(gw.requires(fresh=True))]) -> str:
            return user.id

        with forgetful(app) as client:
            headers = cookie_header(issuer.cookies(gw, session_id="session_1"))
            assert client.get("/", headers=headers).status_code == 200
            wait_until_live(gw)
            # No word comes any more; the server can be asked all the same.
            issuer.publishes = False
            wait_until("it is stale", lambda gw=gw: gw.health()["revocations"] == "stale", 15)  # type: ignore[misc]
            issuer.end_session("session_1", publish=False)
            assert client.get("/", headers=headers).status_code == status
            assert client.get("/fresh", headers=headers).status_code == 401
            issuer.publishes = True
            issuer._ended.clear()


def test_settings_of_the_feed_are_checked(issuer: TestIssuer) -> None:
    with pytest.raises(SettingsError, match="feed_stale_after: 5 to 300 seconds"):
        Gatewright(**issuer.settings(feed_stale_after=1))
    with pytest.raises(SettingsError, match="when_stale: `check` asks the server"):
        Gatewright(**issuer.settings(when_stale="check", api_key=None, cookie_password=None))


# --- refused requests -----------------------------------------------------------------------------------------------------


def told(issuer: TestIssuer, gw: Any, count: int) -> dict[tuple[str, str], dict[str, Any]]:
    wait_until("reports", lambda: gw.stats()["denials_reported"] >= count)
    assert gw.stats()["denials_dropped"] == 0
    return {(one["path"], one["reason"]): one for one in issuer.denied_requests}


@pytest.mark.parametrize(
    ("path", "parameters", "told"),
    [
        ("/notes", {}, "/notes"),
        ("/orgs/org_1/notes/7", {"org_id": "org_1", "note_id": 7}, "/orgs/{org_id}/notes/{note_id}"),
        ("/files/alice/tax/2026.pdf", {"rest": "alice/tax/2026.pdf"}, "/files/{rest}"),
        ("/orgs/org_1/files/a/b", {"org_id": "org_1", "rest": "a/b"}, "/orgs/{org_id}/files/{rest}"),
        ("/files/", {"rest": ""}, "/files/"),
        ("/files//", {"rest": "/"}, "/files//"),
    ],
)
def test_a_path_is_told_with_names_in_place_of_what_they_hold(path: str, parameters: dict[str, Any], told: str) -> None:
    assert path_without_ids({"type": "http", "path": path, "root_path": "", "path_params": parameters}) == told


def test_what_a_guard_refuses_the_server_hears_of(gw: Gatewright, issuer: TestIssuer) -> None:
    app = FastAPI(lifespan=gw.lifespan)
    app.include_router(gw.router(), prefix="/auth")

    @app.get("/orgs/{org_id}/notes/{note_id}", dependencies=[Depends(gw.requires(permission="notes:read"))])
    async def notes(org_id: str, note_id: int) -> None: ...

    @app.get("/optional")
    async def optional(user: Annotated[Any, Depends(gw.user.optional)]) -> None: ...

    token = issuer.user_token("user_1", session_id="session_1", org="org_1")
    cookies = cookie_header(issuer.cookies(gw, "user_2", session_id="session_2"))
    with forgetful(app) as client:
        for note in range(5):
            answer = client.get(f"/orgs/org_1/notes/{note}?token=secret", headers={**bearer(token), "user-agent": "curl/8"})
            assert answer.status_code == 403
        assert client.get("/orgs/org_1/notes/1", headers={"user-agent": "curl/8"}).status_code == 401
        assert client.get("/orgs/org_1/notes/1", headers=bearer("not.a.token")).status_code == 401
        assert client.post("/auth/logout", headers={**cookies, "sec-fetch-site": "cross-site"}).status_code == 403
        # None of these is a refusal.
        assert client.get("/optional").status_code == 200
        assert client.get("/optional", headers={"cookie": "wos_session=rubbish"}).status_code == 200
        assert client.get("/auth/session").json()["signed_in"] is False
        reports = told(issuer, gw, 8)
    assert len(reports) == 4, reports
    template = "/orgs/{org_id}/notes/{note_id}"
    missing = reports[template, "missing_permission"]
    assert {name: missing[name] for name in ("method", "status", "count", "user_agent", "user_id", "organization_id", "session_id")} == {
        "method": "GET",
        "status": 403,
        "count": 5,
        "user_agent": "curl/8",
        "user_id": "user_1",
        "organization_id": "org_1",
        "session_id": "session_1",
    }
    assert reports[template, "no_credential"]["count"] == 1 and "user_id" not in reports[template, "no_credential"]
    assert "user_id" not in reports[template, "invalid_token"]
    assert reports["/auth/logout", "cross_site"]["user_id"] == "user_2"
    text = str(issuer.denied_requests)
    assert "secret" not in text and token not in text and cookies["cookie"] not in text


def test_refusals_of_the_middleware_and_of_sockets_are_told_too(issuer: TestIssuer) -> None:
    gw = AsgiGatewright(**issuer.settings())

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("in")(scope, receive, send)

    guarded = GuardMiddleware(inner, gw, require=True)

    async def run() -> None:
        assert (await call(guarded, "/things/eyJhbGciOiJub25lIn0.e30.")).status == 401
        assert (await call(GuardMiddleware(inner, gw), "/open")).status == 200
        socket = Socket(guarded, {}, "/live")  # type: ignore[arg-type]
        await socket.task
        assert socket.closed is not None and socket.closed[0] == 1008

    asyncio.run(run())
    reports = told(issuer, gw, 2)
    assert set(reports) == {("/things/...", "no_credential"), ("/live", "no_credential")}
    assert reports["/live", "no_credential"]["method"] == "WEBSOCKET"


def test_nothing_is_told_where_it_is_off_nor_of_tests_nor_of_people_sent_to_sign_in(issuer: TestIssuer) -> None:
    off = Gatewright(**issuer.settings(report_denied_requests=False))
    gw = Gatewright(**issuer.settings(redirect_to_login=True))
    for guard in (off, gw):
        app = FastAPI(lifespan=guard.lifespan)
        app.include_router(guard.router(), prefix="/auth")

        @app.get("/")
        async def admins(user: Annotated[User, Depends(guard.requires(role="admin"))], request: Request) -> None: ...

        with forgetful(app) as client:
            if guard is off:
                assert client.get("/").status_code == 401
            else:
                page = {"accept": "text/html", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
                assert client.get("/", headers=page).status_code == 303
            with acting_as(app, guard):
                assert client.get("/").status_code == 403
    time.sleep(2.5)
    assert issuer.denied_requests == [] and gw.stats()["denials_reported"] == 0


def test_a_server_that_is_away_holds_no_refusal_up(gw: Gatewright, issuer: TestIssuer) -> None:
    app = FastAPI()

    @app.get("/")
    async def nobody(user: Annotated[User, Depends(gw.user)]) -> None: ...

    issuer.fault = "hang"
    with forgetful(app) as client:
        began = time.monotonic()
        for _ in range(200):
            assert client.get("/").status_code == 401
        assert time.monotonic() - began < 5
        issuer.fault = None
