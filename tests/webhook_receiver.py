"""A webhook receiver on this machine that remembers what came."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Received:
    headers: dict[str, str]
    body: bytes
    answered: int

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass
class Receiver:
    url: str
    received: list[Received] = field(default_factory=list)
    status: int = 200

    def accepted_events(self) -> list[str]:
        """Ids in the order of their acceptance; a webhook may come twice."""
        return [one.event["id"] for one in list(self.received) if one.answered == 200]

    def wait_for(self, what: str, seconds: float = 20) -> Received:
        """The first webhook whose body holds this text."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for one in list(self.received):
                if what.encode() in one.body:
                    return one
            time.sleep(0.02)
        raise AssertionError(f"no webhook with {what!r} within {seconds:.0f} s")


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = receiver.status
            # Before the answer: after it the next one about the object may come, and be noted down first.
            receiver.received.append(Received({name.lower(): value for name, value in self.headers.items()}, body, status))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    receiver = Receiver(f"http://127.0.0.1:{listener.server_address[1]}/webhooks")
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    try:
        yield receiver
    finally:
        listener.shutdown()
        listener.server_close()
