"""Writes every HTTP exchange as a line of JSON, in the format the contract check reads."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import httpx

RECORD = os.environ.get("GATEWRIGHT_RECORD")
# Larger bodies are attacks on the reader of the body: they would be attacks on the reader of the record too.
LARGEST_BODY = 1 << 17
_lock = threading.Lock()


def record(response: httpx.Response) -> None:
    """An httpx response hook."""
    response.read()
    if not RECORD:
        return
    request = response.request
    exchange = {
        "method": request.method,
        "path": str(request.url),
        "status": response.status_code,
        "request_body": read_body(request.content, request.headers.get("content-type", "")),
        "response_body": read_body(response.content, response.headers.get("content-type", "")),
        "response_headers": dict(response.headers),
        "authorization": request.headers.get("authorization"),
    }
    with _lock, open(RECORD, "a") as file:
        file.write(json.dumps(exchange) + "\n")


def read_body(content: bytes, content_type: str) -> Any:
    if not content or len(content) > LARGEST_BODY:
        return None
    text = content.decode(errors="replace")
    if content_type.startswith("application/x-www-form-urlencoded"):
        return dict(parse_qsl(text, keep_blank_values=True))
    return text


def open_client(**options: Any) -> httpx.Client:
    """An httpx client that records, follows nothing, keeps no cookies and ignores proxy settings."""
    jar = CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
    return httpx.Client(event_hooks={"response": [record]}, cookies=jar, trust_env=False, timeout=30, **options)


@contextmanager
def recording_proxy() -> Iterator[dict[str, str]]:
    """A forward proxy that records; gives the environment that sends an unmodified app's calls through it."""
    client = open_client()

    class Forward(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length") or 0))
            hop = {"host", "connection", "proxy-connection", "content-length", "transfer-encoding", "accept-encoding"}
            headers = [(k, v) for k, v in self.headers.items() if k.lower() not in hop]
            try:
                answer = client.request(self.command, self.path, headers=[*headers, ("accept-encoding", "identity")], content=content)
            except httpx.TransportError as error:
                self.send_error(502, type(error).__name__)
                return
            self.send_response_only(answer.status_code)
            for name, value in answer.headers.multi_items():
                if name.lower() not in hop:
                    self.send_header(name, value)
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = forward

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Forward)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield {"http_proxy": url, "HTTP_PROXY": url, "no_proxy": "", "NO_PROXY": ""}
    finally:
        server.shutdown()
        server.server_close()
        client.close()
