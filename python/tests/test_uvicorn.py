"""Under a real server, with a real client: cookies, streams and WebSockets as they go over the wire."""

import asyncio
import contextlib
import http.client
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from asgi_calls import cookie_header

from conftest import build_app
from gatewright.fastapi import Gatewright
from gatewright.testing import TestIssuer


@pytest.fixture
def address(gw: Gatewright) -> Iterator[tuple[str, int]]:
    server = uvicorn.Server(uvicorn.Config(build_app(gw), host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline and thread.is_alive()
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    thread.join(10)


def request(address: tuple[str, int], path: str, headers: dict[str, str] | None = None) -> tuple[int, list[tuple[str, str]], bytes]:
    connection = http.client.HTTPConnection(*address, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()


def test_a_renewed_cookie_goes_over_the_wire_once(address: tuple[str, int], issuer: TestIssuer, gw: Gatewright) -> None:
    assert request(address, "/user")[0] == 401
    cookies = cookie_header(issuer.cookies(gw, "user_1", expires_in=-60))
    status, headers, body = request(address, "/user", cookies)
    renewed = [value for name, value in headers if name.lower() == "set-cookie"]
    assert (status, body, len(renewed)) == (200, b'"user_1"', 1)
    status, headers, _ = request(address, "/user", {"cookie": renewed[0].split(";")[0]})
    assert status == 200 and not any(name.lower() == "set-cookie" for name, _ in headers)


def test_websockets_are_refused_and_accepted(address: tuple[str, int], issuer: TestIssuer, gw: Gatewright) -> None:
    websockets = pytest.importorskip("websockets")
    url = f"ws://127.0.0.1:{address[1]}/live"

    async def run() -> None:
        with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
            await websockets.connect(url)
        assert caught.value.response.status_code in (401, 403)
        async with websockets.connect(url, subprotocols=["bearer", issuer.user_token("user_1")]) as websocket:
            assert websocket.subprotocol == "bearer" and await websocket.recv() == "user_1"
        cookies = cookie_header(issuer.cookies(gw, "user_2", expires_in=-60))
        async with websockets.connect(url, additional_headers=cookies, origin=f"http://127.0.0.1:{address[1]}") as websocket:
            assert await websocket.recv() == "user_2"
            assert "wos_session=" in websocket.response.headers["set-cookie"]
        with pytest.raises(websockets.exceptions.InvalidStatus):
            await websockets.connect(url, additional_headers=cookies, origin="https://evil.example")

    asyncio.run(run())
