"""Starts and stops a real `gatewright dev` on a free port, on SQLite or PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from told import read_told

REPOSITORY = Path(__file__).resolve().parent.parent
BINARY = Path(os.environ.get("GATEWRIGHT_BIN", REPOSITORY / "target" / "debug" / "gatewright"))
DATABASE = os.environ.get("GATEWRIGHT_TEST_DATABASE", "sqlite")
LOGS = Path(os.environ.get("GATEWRIGHT_LOGS") or tempfile.mkdtemp(prefix="gatewright-logs-"))
START_SECONDS = 30


@dataclass
class Mail:
    id: str
    to: str
    subject: str
    text: str
    html: str
    code: str | None
    links: list[str]


@dataclass
class Server:
    facts: dict[str, Any]
    process: subprocess.Popen[str]
    log: Path
    started_in: float
    seen_mails: set[str] = field(default_factory=set)
    # Keeps what the server told so far for the search after all tests.
    copy_told: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        return str(self.facts["url"]).rstrip("/")

    @property
    def api_key(self) -> str:
        return str(self.facts["api_key"])

    @property
    def client_id(self) -> str:
        return str(self.facts["client_id"])

    @property
    def cookie_password(self) -> str:
        return str(self.facts["cookie_password"])

    def app_environment(self) -> dict[str, str]:
        return {
            "WORKOS_BASE_URL": self.url,
            "WORKOS_API_KEY": self.api_key,
            "WORKOS_CLIENT_ID": self.client_id,
            "WORKOS_COOKIE_PASSWORD": self.cookie_password,
        }

    def list_mails(self, to: str | None = None) -> list[Mail]:
        """Mails in the inbox, newest first."""
        rows = httpx.get(f"{self.url}/dev/inbox.json", trust_env=False).raise_for_status().json()["data"]
        mails = [Mail(m["id"], m["to"], m["subject"], m["text"], m["html"], m["code"], m["links"]) for m in rows]
        return [m for m in mails if to is None or m.to.lower() == to.strip().lower()]

    def take_mail(self, to: str, seconds: float = 10) -> Mail:
        """The newest mail to this address that was not taken yet; waits for it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if fresh := [m for m in self.list_mails(to) if m.id not in self.seen_mails]:
                self.seen_mails.update(m.id for m in fresh)
                return fresh[0]
            time.sleep(0.05)
        raise AssertionError(f"no new mail to {to} within {seconds:.0f} s")

    def take_code(self, to: str) -> str:
        mail = self.take_mail(to)
        assert mail.code, f"the mail {mail.subject!r} carries no code"
        return mail.code

    def wait_for_next_key(self, seconds: float = 20) -> None:
        """The key that will sign next is made in the background after a start."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            keys = httpx.get(f"{self.url}/sso/jwks/{self.client_id}", trust_env=False).raise_for_status().json()["keys"]
            if len(keys) > 1:
                return
            time.sleep(0.05)
        raise AssertionError(f"no second signing key within {seconds:.0f} s")

    def rotate_keys(self, data: Path) -> subprocess.CompletedProcess[str]:
        """Lets the waiting signing key sign."""
        self.wait_for_next_key()
        return self.operate(data, "keys", "rotate")

    def set_settings(self, data: Path, **settings: str) -> None:
        """Changes settings of the environment."""
        ended = self.operate(data, "environments", "set", *(f"{name}={value}" for name, value in settings.items()))
        assert ended.returncode == 0, ended.stderr

    def operate(self, data: Path, *command: str) -> subprocess.CompletedProcess[str]:
        """A command that an operator uses beside the running server."""
        environment = next(e["name"] for e in self.facts["environments"] if e["api_key"] == self.api_key)
        line = [str(BINARY), *command, "--data", str(data), "--environment", environment]
        return subprocess.run(line, capture_output=True, text=True, timeout=30, check=False)

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> int:
        """Asks the server to stop and returns its exit status."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("the server did not stop within 15 s of SIGTERM") from None


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(
    *flags: str,
    data: Path | None = None,
    database: str | None = None,
    port: int = 0,
    limits: bool = False,
    configuration: dict[str, str] | None = None,
) -> Server:
    """Starts a server and waits until it says that it is ready. Every test comes from one address, so limits are off unless wanted."""
    where = ["--data", str(data)] if data else ["--ephemeral"]
    where += [] if limits else ["--no-rate-limits"]
    if database:
        where += ["--database-url", database]
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"server-{secrets.token_hex(4)}.log"
    began = time.monotonic()
    process = subprocess.Popen(
        [str(BINARY), "dev", "--json", "--port", str(port), *where, *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log.open("w"),
        text=True,
        cwd=tempfile.gettempdir(),
        env=os.environ | {f"GATEWRIGHT_{key.replace('.', '_').upper()}": value for key, value in (configuration or {}).items()},
    )
    line = read_line(process, START_SECONDS)
    started_in = time.monotonic() - began
    if not line:
        process.kill()
        process.wait(10)
        raise AssertionError(f"the server did not become ready; its log ends:\n{log.read_text()[-2000:]}")
    threading.Thread(target=drain, args=(process, log), daemon=True).start()
    return Server(json.loads(line), process, log, started_in)


def read_line(process: subprocess.Popen[str], seconds: float) -> str:
    lines: list[str] = []
    assert process.stdout
    reader = threading.Thread(target=lambda: lines.append(process.stdout.readline()), daemon=True)  # type: ignore[union-attr]
    reader.start()
    reader.join(seconds)
    return lines[0] if lines else ""


def drain(process: subprocess.Popen[str], log: Path) -> None:
    assert process.stdout
    with log.with_suffix(".out.log").open("w") as copy, contextlib.suppress(ValueError):
        for line in process.stdout:
            copy.write(line)


@contextlib.contextmanager
def open_database() -> Iterator[str | None]:
    """A database of its own on the engine under test: None for SQLite, the URL of an empty one for PostgreSQL."""
    if DATABASE == "sqlite":
        yield None
        return
    import psycopg

    name = f"gw_{secrets.token_hex(6)}"
    with psycopg.connect(DATABASE, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
        try:
            yield urlsplit(DATABASE)._replace(path=f"/{name}").geturl()
        finally:
            admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextlib.contextmanager
def running_server(*flags: str, limits: bool = False, configuration: dict[str, str] | None = None) -> Iterator[Server]:
    """A fresh server for the length of the block. A crash or a hang at the end is a failure."""
    with open_database() as database, tempfile.TemporaryDirectory() as folder:
        server = start_server(*flags, data=Path(folder), database=database, limits=limits, configuration=configuration)
        server.copy_told = lambda: copy_told(server, Path(folder), database)
        try:
            yield server
            server.copy_told()
            assert server.process.poll() is None, f"the server ended by itself; its log ends:\n{server.log.read_text()[-2000:]}"
        finally:
            status = server.stop()
        assert status == 0, f"the server ended with status {status} on SIGTERM"


def copy_told(server: Server, folder: Path, database: str | None) -> None:
    with server.log.with_name(f"{server.log.stem}.told.log").open("w") as copy:
        copy.writelines(line + "\n" for line in read_told(folder, database))


def wait_until_answering(url: str, process: subprocess.Popen[Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, "the app ended before it answered"
        with contextlib.suppress(httpx.TransportError):
            httpx.get(url, trust_env=False)
            return
        time.sleep(0.05)
    raise AssertionError(f"{url} did not answer within {seconds:.0f} s")


@contextlib.contextmanager
def running_app(command: Sequence[str], port: int, environment: dict[str, str], cwd: Path) -> Iterator[str]:
    """Runs a web app on `port` for the length of the block; gives its origin."""
    log = (LOGS / f"app-{secrets.token_hex(4)}.log").open("w")
    process = subprocess.Popen(
        command, cwd=cwd, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
    )
    try:
        wait_until_answering(f"http://localhost:{port}/health", process)
        yield f"http://localhost:{port}"
    finally:
        process.terminate()
        process.wait(15)
        log.close()
