"""WebSockets: refused before they are accepted, closed when the session ends."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Annotated, Any

import pytest
import starlette
from asgi_calls import bearer, cookie_header, http_scope, open_websocket
from fastapi import Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from conftest import build_app
from gatewright._live import wait_for_end
from gatewright.fastapi import ApiKey, Gatewright, Machine, Refusal, User
from gatewright.testing import TestIssuer

SPEAKS_HTTP = tuple(int(part) for part in starlette.__version__.split(".")[:2]) >= (0, 41)


def run_websocket(app: FastAPI, **request: Any) -> list[dict[str, Any]]:
    return asyncio.run(open_websocket(app, "/live", **request))


def is_refused(sent: list[dict[str, Any]], status: int, denial: bool = True) -> bool:
    if SPEAKS_HTTP and denial:
        return sent[0]["type"] == "websocket.http.response.start" and sent[0]["status"] == status
    return sent[0]["type"] == "websocket.close" and sent[0]["code"] == (1013 if status == 503 else 1008)


@pytest.mark.parametrize("denial", [True, False])
def test_strangers_are_refused_before_the_socket_is_accepted(denial: bool, app: FastAPI, issuer: TestIssuer) -> None:
    for headers in ({}, bearer("rubbish"), bearer(issuer.user_token(expires_in=-60))):
        sent = run_websocket(app, headers=headers, denial=denial)
        assert is_refused(sent, 401, denial), sent
        assert not any(message["type"] == "websocket.accept" for message in sent)
    if SPEAKS_HTTP and denial:
        names = dict(run_websocket(app)[0]["headers"])
        assert names[b"www-authenticate"] == b"Bearer"


def test_a_cookie_opens_a_socket_for_our_own_pages_only(app: FastAPI, issuer: TestIssuer, gw: Gatewright) -> None:
    cookies = cookie_header(issuer.cookies(gw, "user_1"))
    for headers in ({}, {"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        assert is_refused(run_websocket(app, headers={**cookies, **headers}), 403)
    for headers in ({"sec-fetch-site": "same-origin"}, {"host": "localhost:8000", "origin": "http://localhost:8000"}):
        sent = run_websocket(app, headers={**cookies, **headers})
        assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
        assert sent[1]["text"] == "user_1"


def test_a_token_comes_as_header_or_as_sub_protocol(app: FastAPI, issuer: TestIssuer) -> None:
    token = issuer.user_token("user_1")
    # Not sent by browsers by themselves, so from anywhere.
    sent = run_websocket(app, headers={**bearer(token), "origin": "https://evil.example"})
    assert (sent[0]["type"], sent[0].get("subprotocol"), sent[1]["text"]) == ("websocket.accept", None, "user_1")
    sent = run_websocket(app, subprotocols=["bearer", token])
    assert (sent[0]["type"], sent[1]["text"]) == ("websocket.accept", "user_1")
    assert is_refused(run_websocket(app, subprotocols=["bearer", "rubbish"]), 401)
    assert is_refused(run_websocket(app, subprotocols=["bearer"]), 400)


def test_the_sub_protocol_is_chosen_for_the_app_but_not_against_it(app: FastAPI, issuer: TestIssuer, gw: Gatewright) -> None:
    @app.websocket("/chosen")
    async def chosen(websocket: WebSocket, user: Annotated[User, Depends(gw.user)]) -> None:
        await websocket.accept(subprotocol="chat")
        await websocket.close()

    token = issuer.user_token()
    with TestClient(app) as client:
        with client.websocket_connect("/live", subprotocols=["bearer", token]) as websocket:
            assert websocket.accepted_subprotocol == "bearer"
        with client.websocket_connect("/chosen", subprotocols=["chat", "bearer", token]) as websocket:
            assert websocket.accepted_subprotocol == "chat"


def test_without_lifespan_the_first_socket_is_accepted_as_well(issuer: TestIssuer, gw: Gatewright) -> None:
    app = build_app(gw)
    assert run_websocket(app, subprotocols=["bearer", issuer.user_token()])[0]["subprotocol"] == "bearer"
    app = build_app(gw)
    headers = {**cookie_header(issuer.cookies(gw, expires_in=-60)), "sec-fetch-site": "same-origin"}
    names = [name for name, _ in run_websocket(app, headers=headers)[0]["headers"]]
    assert names.count(b"set-cookie") == 1


def test_a_server_that_does_not_answer_is_no_refusal_of_the_caller(app: FastAPI, issuer: TestIssuer) -> None:
    issuer.fault = "error"
    assert is_refused(run_websocket(app, headers=bearer(issuer.user_token())), 503)


class Socket:
    """A client that stays connected until the app closes."""

    def __init__(self, app: FastAPI, headers: dict[str, str], path: str = "/watched") -> None:
        self.closed: tuple[int, str] | None = None
        self.texts: list[str] = []
        self.gone = asyncio.Event()
        self._connected = False
        scope = http_scope(path, headers={**headers, "sec-fetch-site": "same-origin"})
        del scope["method"]
        scope |= {"type": "websocket", "scheme": "ws", "subprotocols": [], "extensions": {}}
        self.task = asyncio.create_task(app(scope, self.receive, self.send))

    async def receive(self) -> dict[str, Any]:
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        await self.gone.wait()
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.close":
            self.closed = (message["code"], message.get("reason", ""))
        elif message["type"] == "websocket.send":
            self.texts.append(message["text"])

    async def until(self, condition: Callable[[], bool], seconds: float = 5) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.closed, self.texts)
            await asyncio.sleep(0.01)


def watched_app(gw: Gatewright, ended: list[str], interval: float = 0.05) -> FastAPI:
    app = FastAPI()

    @app.websocket("/watched")
    async def watched(websocket: WebSocket, user: Annotated[User, Depends(gw.user)]) -> None:
        await websocket.accept()
        async with gw.until_revoked(websocket, user, interval=interval):
            try:
                await websocket.send_text("hello")
                while True:
                    await websocket.receive_text()
            except WebSocketDisconnect:
                ended.append("client left")
                return
        ended.append("session ended")

    return app


def test_a_socket_closes_when_the_session_ends_at_the_server(gw: Gatewright, issuer: TestIssuer) -> None:
    async def run() -> None:
        ended: list[str] = []
        socket = Socket(watched_app(gw, ended), cookie_header(issuer.cookies(gw, session_id="session_1")))
        await socket.until(lambda: socket.texts == ["hello"])
        looks = "/user_management/users/user_test/sessions"
        await socket.until(lambda: issuer.counts[looks] >= 2)
        assert socket.closed is None
        issuer.end_session("session_1", publish=False)
        await socket.until(lambda: socket.closed is not None)
        await socket.task
        assert socket.closed is not None and socket.closed[0] == 4401
        assert ended == ["session ended"]

    asyncio.run(run())


def test_a_socket_closes_when_the_session_is_revoked_here(gw: Gatewright, issuer: TestIssuer) -> None:
    async def run() -> None:
        ended: list[str] = []
        socket = Socket(watched_app(gw, ended, interval=60), cookie_header(issuer.cookies(gw, session_id="session_1")))
        await socket.until(lambda: socket.texts == ["hello"])
        gw.revoke(session_id="session_1")
        await socket.until(lambda: socket.closed is not None)
        await socket.task
        assert socket.closed == (4401, "The session has been revoked.")
        assert issuer.counts["/user_management/users/user_test/sessions"] == 0

    asyncio.run(run())


def test_a_socket_outlives_the_access_token_while_the_session_lives_and_never_renews_it(gw: Gatewright, issuer: TestIssuer) -> None:
    async def run() -> None:
        ended: list[str] = []
        looks = "/user_management/users/user_test/sessions"
        socket = Socket(watched_app(gw, ended, interval=60), cookie_header(issuer.cookies(gw, session_id="session_1", expires_in=1)))
        await socket.until(lambda: socket.texts == ["hello"])
        await socket.until(lambda: issuer.counts[looks] == 1)
        await asyncio.sleep(0.1)
        assert socket.closed is None and issuer.counts["/user_management/authenticate"] == 0
        socket.gone.set()
        await socket.task
        assert ended == ["client left"]

    asyncio.run(run())


def test_a_token_opens_a_socket_no_longer_than_it_lives(gw: Gatewright, issuer: TestIssuer) -> None:
    async def run() -> None:
        ended: list[str] = []
        socket = Socket(watched_app(gw, ended, interval=60), bearer(issuer.user_token(expires_in=1)))
        await socket.until(lambda: socket.closed is not None)
        await socket.task
        assert socket.closed == (4401, "The access token has expired.")

    asyncio.run(run())


def test_a_server_that_is_away_closes_no_sockets(gw: Gatewright, issuer: TestIssuer) -> None:
    async def run() -> None:
        ended: list[str] = []
        looks = "/user_management/users/user_test/sessions"
        socket = Socket(watched_app(gw, ended), cookie_header(issuer.cookies(gw, session_id="session_1")))
        await socket.until(lambda: socket.texts == ["hello"])
        issuer.fault = "error"
        before = issuer.counts[looks]
        await socket.until(lambda: issuer.counts[looks] >= before + 2)
        assert socket.closed is None
        issuer.fault = None
        issuer.end_session("session_1", publish=False)
        await socket.until(lambda: socket.closed is not None)
        await socket.task

    asyncio.run(run())


def test_a_session_that_nobody_confirms_any_more_does_not_stay_for_ever(
    gw: Gatewright, issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatewright._live._UNCONFIRMED_SECONDS", 1.0)

    async def run() -> None:
        cookies = cookie_header(issuer.cookies(gw, session_id="session_1", expires_in=2))
        socket = Socket(watched_app(gw, [], interval=0.1), cookies)
        await socket.until(lambda: socket.texts == ["hello"])
        issuer.fault = "error"
        began = time.time()
        await socket.until(lambda: socket.closed is not None, seconds=8)
        # Not before the token, which needs no server, and the time given to a server that is away.
        assert time.time() - began > 1.5
        await socket.task
        assert socket.closed == (4401, "The credential cannot be checked right now. Try again shortly.")

    asyncio.run(run())


def test_an_api_key_is_no_proof_of_its_own(gw: Gatewright, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any) -> Refusal:
        return Refusal(503, "unavailable", "Nobody answers.")

    monkeypatch.setattr("gatewright._live.look", away)
    monkeypatch.setattr("gatewright._live._UNCONFIRMED_SECONDS", 0.2)
    far = datetime(9999, 12, 31, tzinfo=timezone.utc)
    key = ApiKey("api_key_1", expires_at=far)
    assert asyncio.run(asyncio.wait_for(wait_for_end(gw, {}, key, 0.05), 5)) == "Nobody answers."
    # A token is one for as long as it lives.
    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(asyncio.wait_for(wait_for_end(gw, {}, Machine("client_1", expires_at=far), 0.05), 1))


def test_a_socket_opened_with_the_token_of_a_session_closes_with_the_session(gw: Gatewright, issuer: TestIssuer) -> None:
    async def run() -> None:
        # Only sessions that have a refresh token are known to the stand-in, whatever way their token comes.
        issuer.cookies(gw, session_id="session_1")
        ended: list[str] = []
        socket = Socket(watched_app(gw, ended), bearer(issuer.user_token(session_id="session_1")))
        await socket.until(lambda: socket.texts == ["hello"])
        await socket.until(lambda: issuer.counts["/user_management/users/user_test/sessions"] >= 2)
        assert socket.closed is None
        issuer.end_session("session_1", publish=False)
        await socket.until(lambda: socket.closed is not None)
        await socket.task
        assert socket.closed is not None and socket.closed[0] == 4401 and ended == ["session ended"]

    asyncio.run(run())


def test_an_endpoint_that_only_sends_is_ended_too(gw: Gatewright, issuer: TestIssuer) -> None:
    app = FastAPI()
    cleaned: list[str] = []

    @app.websocket("/watched")
    async def ticker(websocket: WebSocket, user: Annotated[User, Depends(gw.user)]) -> None:
        await websocket.accept()
        async with gw.until_revoked(websocket, user, interval=0.05):
            try:
                while True:
                    await websocket.send_text("tick")
                    await asyncio.sleep(0.01)
            finally:
                cleaned.append("yes")
        cleaned.append("after")

    async def run() -> None:
        socket = Socket(app, cookie_header(issuer.cookies(gw, session_id="session_1")))
        await socket.until(lambda: len(socket.texts) > 1)
        issuer.end_session("session_1", publish=False)
        await socket.until(lambda: socket.closed is not None)
        await socket.task

    asyncio.run(run())
    assert cleaned == ["yes", "after"]


def test_a_socket_that_cannot_be_watched_does_not_stay_open(gw: Gatewright, issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("gatewright._live.look", fail)

    async def run() -> None:
        socket = Socket(watched_app(gw, []), cookie_header(issuer.cookies(gw)))
        await socket.until(lambda: socket.closed is not None)
        await socket.task
        assert socket.closed == (1011, "The session cannot be checked.")

    asyncio.run(run())


def test_cancelling_from_outside_is_not_swallowed(gw: Gatewright, issuer: TestIssuer) -> None:
    async def run() -> None:
        socket = Socket(watched_app(gw, [], interval=60), cookie_header(issuer.cookies(gw)))
        await socket.until(lambda: socket.texts == ["hello"])
        socket.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await socket.task
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    asyncio.run(run())
