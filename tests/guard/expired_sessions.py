"""A real server whose old sessions have expired access tokens while new ones live long: nothing expires in the middle of a test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from running_server import Server, open_database, start_server

LIFETIME = 1  # seconds

T = TypeVar("T")


@contextmanager
def server_after(prepare: Callable[[Server], T], data: Path) -> Iterator[tuple[Server, T]]:
    """What `prepare` signed in is expired when the block begins; what is renewed in it lives for five minutes."""
    with open_database() as database:
        server = start_server("--access-token-seconds", str(LIFETIME), data=data, database=database)
        try:
            prepared = prepare(server)
            signed_in = time.monotonic()
        finally:
            server.stop()
        server = start_server(data=data, database=database, port=urlsplit(server.url).port or 0)
        try:
            time.sleep(max(0.0, signed_in + LIFETIME + 0.2 - time.monotonic()))
            yield server, prepared
            assert server.process.poll() is None, f"the server ended by itself; its log ends:\n{server.log.read_text()[-2000:]}"
        finally:
            status = server.stop()
        assert status == 0, f"the server ended with status {status} on SIGTERM"
