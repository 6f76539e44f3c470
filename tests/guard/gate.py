"""In front of the real server, to see what a guard asks it, and to keep the feed of revocations from it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import httpx

from recording import open_client
from running_server import Server


@dataclass
class Gate:
    """Passes everything on and counts."""

    url: str
    calls: list[tuple[str, dict[str, Any], int]] = field(default_factory=list)
    # Whether the feed of revocations is cut: the rest of the server can be asked.
    is_feed_cut: bool = False

    @property
    def refreshes(self) -> list[int]:
        """The status of each refresh."""
        return [status for path, body, status in self.calls if body.get("grant_type") == "refresh_token"]

    def count(self, path: str) -> int:
        return sum(own == path for own, _, _ in self.calls)


@contextmanager
def gate(server: Server) -> Iterator[Gate]:
    client = open_client()
    # Not recorded: such an answer has no end.
    feeds = httpx.Client(trust_env=False, timeout=30)
    counted: Gate

    class Pass(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length") or 0))
            if urlsplit(self.path).path == "/revocations":
                return self.forward_feed()
            headers = {
                k: v for k, v in self.headers.items() if k.lower() not in {"host", "connection", "content-length", "accept-encoding"}
            }
            answer = client.request(
                self.command, server.url + self.path, headers={**headers, "accept-encoding": "identity"}, content=content
            )
            body = json.loads(content) if content.startswith(b"{") else {}
            counted.calls.append((self.path, body, answer.status_code))
            self.send_response_only(answer.status_code)
            for name, value in answer.headers.multi_items():
                if name.lower() not in {"connection", "content-length", "transfer-encoding"}:
                    self.send_header(name, value)
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def forward_feed(self) -> None:
            self.close_connection = True
            if counted.is_feed_cut:
                return self.send_error(502)
            headers = {name: self.headers[name] for name in ("authorization", "accept") if self.headers[name]}
            with suppress(httpx.HTTPError, OSError), feeds.stream("GET", server.url + self.path, headers=headers) as answer:
                self.send_response_only(answer.status_code)
                self.send_header("content-type", answer.headers["content-type"])
                self.end_headers()
                for part in answer.iter_raw():
                    if counted.is_feed_cut:
                        break
                    self.wfile.write(part)
            return None

        do_GET = do_POST = forward

        def log_message(self, *_: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Pass)
    listening.daemon_threads = True
    counted = Gate(f"http://127.0.0.1:{listening.server_port}")
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    try:
        yield counted
    finally:
        listening.shutdown()
        listening.server_close()
        client.close()
        feeds.close()
