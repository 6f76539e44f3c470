"""Runs the guarded app: real uvicorn, real processes, a free port."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any

import httpx

from guard.stand_in import StandIn
from running_server import LOGS, Server, find_free_port, wait_until_answering

HERE = Path(__file__).parent
SECRETS = re.compile(r"eyJ[\w-]{8,}|gAAAA[\w-]{8,}|Fe26\.2\*|sk_(?:test|api)_\w{8,}|_login_\w+=|Bearer [\w.-]{20,}")


@dataclass
class Guarded:
    url: str
    http: httpx.Client
    log: Path

    def list_crashes(self) -> list[str]:
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if "Traceback" in line or "panicked" in line or "Exception in" in line]

    def list_secrets(self) -> list[str]:
        """Lines with tokens, sealed cookies, attempts of sign-in or keys in them."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if SECRETS.search(line)]


@contextmanager
def guarded_app(server: Server | StandIn, *, workers: int = 1, **settings: Any) -> Iterator[Guarded]:
    """The app, guarded by `server`; `settings` are those of `Gatewright`.

    At the end its log must not tell of a crash, because whatever was sent, refusals are answers; nor hold a secret.
    """
    with guarded_apps({"": (server, settings)}, workers) as apps:
        yield apps[""]


@contextmanager
def guarded_apps(guards: Mapping[str, tuple[Server | StandIn, dict[str, Any]]], workers: int = 1) -> Iterator[dict[str, Guarded]]:
    """Apps in one process, each with a guard of its own, by the beginning of their paths; one of them is at ""."""
    port = find_free_port()
    url = f"http://localhost:{port}"
    told = {prefix: describe(server, url, settings) for prefix, (server, settings) in guards.items()}
    # A session spread over cookies makes one long header line; uvicorn's WebSockets never answer to one of more than 8192 octets.
    environment = {"GUARDED": json.dumps(told), "WEBSOCKETS_MAX_LINE_LENGTH": "65536"}
    command = [sys.executable, "-m", "uvicorn", "guarded_app:application", "--interface", "asgi3", "--host", "localhost"]
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"guarded-{secrets.token_hex(4)}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--no-access-log", "--workers", str(workers)],
            cwd=HERE,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_answering(f"{url}/health", process)
        # Parallel calls are counted one by one, so none waits for another's connection.
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
        # Nor is any cookie kept: a request carries what its test says.
        jar = CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
        with httpx.Client(trust_env=False, timeout=30, limits=limits, cookies=jar) as http:
            apps = {prefix: Guarded(url + prefix, http, log) for prefix in guards}
            yield apps
            assert process.poll() is None, f"the app ended by itself; its log ends:\n{log.read_text()[-2000:]}"
            [first, *_] = apps.values()
            assert not first.list_crashes(), f"{log}:\n{log.read_text()[-3000:]}"
            assert not first.list_secrets(), first.list_secrets()[:3]
    finally:
        process.terminate()
        process.wait(15)


def describe(server: Server | StandIn, url: str, settings: dict[str, Any]) -> dict[str, Any]:
    told = {"base_url": server.url, "client_id": server.client_id, "api_key": server.api_key, "cookie_password": server.cookie_password}
    return {**told, "app_url": url, **settings}
