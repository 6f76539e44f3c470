"""The ways a credential reaches a guarded app, each asked the same question: who is this?"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.sync.client import connect

from guard.guarded import Guarded

COOKIE = "wos_session"


@dataclass
class Answer:
    status: int
    challenge: str | None
    body: Any
    cookies: list[str]
    retry_after: str | None = None

    @property
    def who(self) -> dict[str, Any]:
        assert self.status == 200, self
        return dict(self.body)


def ask(app: Guarded, path: str = "/who", method: str = "GET", **headers: str) -> Answer:
    return read(app.http.request(method, app.url + path, headers={k.replace("_", "-"): v for k, v in headers.items()}))


def ask_with_token(app: Guarded, token: str, path: str = "/who", method: str = "GET") -> Answer:
    return ask(app, path, method, authorization=f"Bearer {token}")


def ask_with_cookie(app: Guarded, cookie: str, path: str = "/who", method: str = "GET", **headers: str) -> Answer:
    return ask(app, path, method, cookie=f"{COOKIE}={cookie}", **headers)


def read(response: httpx.Response) -> Answer:
    try:
        body = response.json()
    except ValueError:
        body = response.text
    headers = response.headers
    return Answer(response.status_code, headers.get("www-authenticate"), body, headers.get_list("set-cookie"), headers.get("retry-after"))


def ask_socket(app: Guarded, path: str = "/live", protocols: list[str] | None = None, **headers: str) -> Answer:
    """200 stands for an accepted WebSocket whose first message says who it is."""
    try:
        with connect(
            app.url.replace("http://", "ws://") + path,
            additional_headers={k.replace("_", "-"): v for k, v in headers.items()},
            subprotocols=protocols,  # type: ignore[arg-type]
            proxy=None,
            open_timeout=15,
            close_timeout=1,
        ) as socket:
            cookies = socket.response.headers.get_all("set-cookie") if socket.response else []
            return Answer(200, None, json.loads(socket.recv(10)), cookies)
    except InvalidStatus as refused:
        response = refused.response
        body = (response.body or b"").decode(errors="replace")
        answered = response.headers
        return Answer(
            response.status_code, answered.get("www-authenticate"), body, answered.get_all("set-cookie"), answered.get("retry-after")
        )
    except InvalidHandshake:
        return Answer(400, None, "no handshake", [])


# Each takes (app, credential); the credential of a cookie face is the whole sealed cookie.
BEARERS: dict[str, Callable[[Guarded, str], Answer]] = {
    "bearer": ask_with_token,
    "bearer-optional": lambda app, token: ask_with_token(app, token, "/optional"),
    "bearer-websocket": lambda app, token: ask_socket(app, authorization=f"Bearer {token}"),
    "sub-protocol-websocket": lambda app, token: ask_socket(app, protocols=["bearer", token]),
    "bearer-asgi": lambda app, token: ask_with_token(app, token, "/asgi/who"),
    "bearer-asgi-websocket": lambda app, token: ask_socket(app, "/asgi/live", authorization=f"Bearer {token}"),
}
COOKIES: dict[str, Callable[[Guarded, str], Answer]] = {
    "cookie": ask_with_cookie,
    "cookie-websocket": lambda app, cookie: ask_socket(app, cookie=f"{COOKIE}={cookie}", origin=app.url),
    "cookie-asgi": lambda app, cookie: ask_with_cookie(app, cookie, "/asgi/who"),
}
