"""In front of the real server, to see what a guard asks it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from recording import open_client
from running_server import Server


@dataclass
class Gate:
    """Passes everything on and counts."""

    url: str
    calls: list[tuple[str, dict[str, Any], int]] = field(default_factory=list)

    @property
    def refreshes(self) -> list[int]:
        """The status of each refresh."""
        return [status for path, body, status in self.calls if body.get("grant_type") == "refresh_token"]

    def count(self, path: str) -> int:
        return sum(own == path for own, _, _ in self.calls)


@contextmanager
def gate(server: Server) -> Iterator[Gate]:
    client = open_client()
    counted: Gate

    class Pass(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length") or 0))
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
