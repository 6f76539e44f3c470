"""Calls an ASGI app without any HTTP client, so that many requests can run at once on one loop."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def cookies(self) -> list[str]:
        return [value for key, value in self.headers if key == "set-cookie"]

    def json(self) -> Any:
        return json.loads(self.body)


def http_scope(path: str, *, method: str = "GET", headers: dict[str, str] | None = None, query: str = "", **more: Any) -> dict[str, Any]:
    sent = {"host": "testserver", **(headers or {})}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in sent.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
        "state": {},
        **more,
    }


async def call(app: Any, path: str, **request: Any) -> Answer:
    answer = Answer()
    ended = asyncio.Event()
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = [(name.decode().lower(), value.decode("latin-1")) for name, value in message["headers"]]
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")
            if not message.get("more_body"):
                ended.set()

    await app(http_scope(path, **request), receive, send)
    return answer


async def open_websocket(
    app: Any, path: str, *, headers: dict[str, str] | None = None, subprotocols: list[str] | None = None, denial: bool = True
) -> list[dict[str, Any]]:
    """Everything the app sends to a client that connects and says nothing more."""
    sent: list[dict[str, Any]] = []
    scope = http_scope(path, headers=headers)
    if subprotocols:
        scope["headers"].append((b"sec-websocket-protocol", ", ".join(subprotocols).encode()))
    scope |= {
        "type": "websocket",
        "scheme": "ws",
        "subprotocols": subprotocols or [],
        "extensions": {"websocket.http.response": {}} if denial else {},
    }
    del scope["method"]
    messages = [{"type": "websocket.connect"}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    await app(scope, receive, send)
    return sent


def cookie_header(cookies: dict[str, str]) -> dict[str, str]:
    return {"cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}
