"""`gatewright drill`: it passes where everything ends in time, fails where something does not, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from accounts import open_api
from apps import expense_tracker
from running_server import BINARY, REPOSITORY, Server, find_free_port, open_database, running_app, running_server, start_server

# Short enough to wait for, long enough to tell an end from an expiry.
TOKEN_SECONDS = 10
ALL = {
    "sign_out",
    "session_revocation",
    "user_deletion",
    "membership_deactivation",
    "api_key_revocation",
    "refresh_token_reuse",
    "token_expiry",
    "cookie_deletion",
    "signing_key_rotation",
}


@dataclass
class Drilled:
    status: int
    out: str
    err: str
    report: dict[str, Any]
    markdown: str

    def verdict(self, name: str) -> str:
        return str(self.check(name)["verdict"])

    def check(self, name: str) -> dict[str, Any]:
        [found] = [check for check in self.report["checks"] if check["name"] == name]
        return dict(found)


def settings(server: Server, url: str | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WORKOS_", "GATEWRIGHT_"))}
    return {**kept, **server.app_environment(), **({"WORKOS_BASE_URL": url} if url else {})}


def drill(server: Server, folder: Path, *arguments: str, url: str | None = None, seconds: float = 150) -> Drilled:
    reports = [folder / "drill.json", folder / "drill.md"]
    command = [str(BINARY), "drill", "--json", str(reports[0]), "--markdown", str(reports[1]), *arguments]
    ended = subprocess.run(command, env=settings(server, url), capture_output=True, text=True, timeout=seconds, check=False)
    assert all(path.exists() for path in reports), ended.stderr
    report = json.loads(reports[0].read_text())
    return Drilled(ended.returncode, ended.stdout, ended.stderr, report, reports[1].read_text())


def list_everything(server: Server) -> dict[str, set[str]]:
    """Ids of users and organizations, and what there is of the drill's own."""
    found: dict[str, set[str]] = {}
    with open_api(server) as api:
        for path in ("/user_management/users", "/organizations"):
            rows = api.get(path, params={"limit": 100}).raise_for_status().json()["data"]
            found[path] = {row["id"] for row in rows}
    return found


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server with short-lived tokens whose key can be turned at once, and its data folder."""
    data = tmp_path_factory.mktemp("drilled")
    with open_database() as database:
        flags = ["--access-token-seconds", str(TOKEN_SECONDS), "--key-publish-seconds", "0"]
        server = start_server(*flags, data=data, database=database)
        try:
            server.wait_for_next_key()
            yield server, data
        finally:
            server.stop()


def test_everything_ends_in_time_at_the_expense_tracker(short: tuple[Server, Path], tmp_path: Path) -> None:
    server, data = short
    before = list_everything(server)
    with expense_tracker(server, tmp_path / "expenses.db") as app:
        found = drill(server, tmp_path, "--app", app.url, "--data", str(data), "--require-all", "--bound", "2")
    assert found.status == 0, found.out
    assert {check["name"] for check in found.report["checks"]} == ALL
    assert {check["verdict"] for check in found.report["checks"]} == {"passed"}, found.out
    for name in ("sign_out", "session_revocation", "user_deletion", "membership_deactivation", "refresh_token_reuse"):
        check = found.check(name)
        assert {at["credential"] for at in check["app"]} == {"bearer token", "session cookie"}, check
        for at in [check["server"], *check["app"]]:
            assert at["outcome"] == "denied" and at["after_ms"] <= 2_000 and not at["by_expiry"], (name, at)
    [key] = found.check("api_key_revocation")["app"]
    assert key["outcome"] == "denied" and key["after_ms"] <= 2_000
    assert found.check("signing_key_rotation")["server"]["outcome"] == "held"
    report = found.report
    assert report["schema_version"] == 1 and report["verdict"] == "passed" and report["left_behind"] == []
    assert report["app"]["route"] == "/auth/me" and report["app"]["api_key_route"] == "/export"
    assert "| session revocation |" in found.markdown and "9 passed, 0 failed, 0 not run" in found.markdown
    assert list_everything(server) == before
    for secret in (server.api_key, server.cookie_password):
        assert secret not in found.out + found.err + found.markdown + json.dumps(report)


@contextmanager
def deaf_app(server: Server) -> Iterator[str]:
    port = find_free_port()
    command = [sys.executable, "-m", "uvicorn", "deaf_app:app", "--host", "localhost", "--port", str(port), "--no-access-log"]
    with running_app(command, port, server.app_environment(), REPOSITORY / "tests" / "guard") as url:
        yield url


def test_an_app_that_ignores_revocations_fails_and_is_seen_to_wait_for_the_expiry(short: tuple[Server, Path], tmp_path: Path) -> None:
    server, _ = short
    before = list_everything(server)
    with deaf_app(server) as url:
        found = drill(server, tmp_path, "--app", url, "--route", "/me", "--bound", "2")
    assert found.status == 1, found.out
    for name in ("session_revocation", "user_deletion", "membership_deactivation", "sign_out", "refresh_token_reuse"):
        check = found.check(name)
        assert check["verdict"] == "failed" and check["server"]["outcome"] == "denied", check
        bearer = next(at for at in check["app"] if at["credential"] == "bearer token")
        assert bearer["outcome"] == "denied" and bearer["by_expiry"] and bearer["after_ms"] > 2_000, check
    # What it does keep to is said as well, and what it never takes is not measured.
    assert found.verdict("cookie_deletion") == "not_run"
    assert found.verdict("token_expiry") == "passed"
    assert found.verdict("signing_key_rotation") == "not_run" and "operator" in found.check("signing_key_rotation")["reason"]
    assert "FAILED" in found.out
    assert list_everything(server) == before


@contextmanager
def forgetful_server(server: Server) -> Iterator[str]:
    """The server behind a proxy that answers a refresh token which was exchanged before as if it were fresh."""
    client = httpx.Client(trust_env=False, timeout=30)
    good: list[dict[str, Any]] = []

    class Forward(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length") or 0))
            kept = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection", "content-length")}
            answer = client.request(self.command, server.url + self.path, headers={**kept, "accept-encoding": "identity"}, content=content)
            status, body = answer.status_code, answer.content
            if self.path == "/user_management/authenticate":
                if status == 200:
                    good.append(answer.json())
                elif json.loads(content).get("grant_type") == "refresh_token":
                    status, body = 200, json.dumps({**good[-1], "refresh_token": secrets.token_urlsafe(32)}).encode()
            self.send_response_only(status)
            for name in ("content-type", "location"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = forward

        def log_message(self, *_: Any) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Forward)
    proxy.daemon_threads = True
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}"
    finally:
        proxy.shutdown()
        proxy.server_close()
        client.close()


def test_a_server_that_accepts_a_reused_refresh_token_fails(short: tuple[Server, Path], tmp_path: Path) -> None:
    server, _ = short
    before = list_everything(server)
    honest = drill(server, tmp_path, "--only", "refresh_token_reuse")
    assert (honest.status, honest.verdict("refresh_token_reuse")) == (0, "passed"), honest.out
    with forgetful_server(server) as url:
        found = drill(server, tmp_path, "--only", "refresh_token_reuse", url=url)
    assert found.status == 1, found.out
    check = found.check("refresh_token_reuse")
    assert check["verdict"] == "failed" and check["server"]["outcome"] == "accepted", check
    assert "accepted a refresh token" in check["reason"]
    assert list_everything(server) == before


def test_a_session_that_outlives_the_theft_fails(tmp_path: Path) -> None:
    """An environment whose policy lets the session go on is told that this is not enough."""
    with open_database() as database:
        server = start_server(data=tmp_path / "data", database=database)
        try:
            server.set_settings(tmp_path / "data", refresh_reuse_ends_session="false")
            found = drill(server, tmp_path, "--only", "refresh_token_reuse")
        finally:
            server.stop()
    assert found.status == 1
    assert found.check("refresh_token_reuse")["server"]["outcome"] == "still_let_in", found.out


def test_without_an_app_the_server_alone_is_drilled(server: Server, tmp_path: Path) -> None:
    found = drill(server, tmp_path)
    assert found.status == 0, found.out
    for name in ALL - {"token_expiry", "cookie_deletion", "signing_key_rotation"}:
        assert found.verdict(name) == "passed" and found.check(name)["app"] == [], name
    assert {found.verdict(name) for name in ("token_expiry", "cookie_deletion")} == {"not_run"}
    required = drill(server, tmp_path, "--require-all", "--only", "cookie_deletion")
    assert required.status == 2, "a drill that ran nothing cannot pass"
    required = drill(server, tmp_path, "--require-all", "--only", "cookie_deletion", "--only", "session_revocation")
    assert required.status == 1


def test_a_tokens_expiry_beyond_the_longest_wait_is_not_run(server: Server, tmp_path: Path) -> None:
    with deaf_app(server) as url:
        began = time.monotonic()
        found = drill(server, tmp_path, "--app", url, "--route", "/me", "--max-wait", "5", "--only", "token_expiry", "--only", "sign_out")
        assert time.monotonic() - began < 30
    check = found.check("token_expiry")
    assert check["verdict"] == "not_run" and "--max-wait" in check["reason"]
    bearer = next(at for at in found.check("sign_out")["app"] if at["credential"] == "bearer token")
    assert bearer["outcome"] == "still_let_in" and bearer["after_ms"] < 10_000, bearer


def test_an_interrupted_drill_leaves_nothing(server: Server, tmp_path: Path) -> None:
    before = list_everything(server)
    with deaf_app(server) as url:
        command = [str(BINARY), "drill", "--app", url, "--route", "/me", "--json", str(tmp_path / "drill.json")]
        process = subprocess.Popen(command, env=settings(server), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 30
        while list_everything(server) == before and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(1)
        assert list_everything(server) != before, "the drill made nothing"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert list_everything(server) == before


@pytest.mark.parametrize(
    ("arguments", "change", "said"),
    [
        ([], {"WORKOS_API_KEY": ""}, "WORKOS_API_KEY is not set"),
        ([], {"WORKOS_CLIENT_ID": ""}, "WORKOS_CLIENT_ID is not set"),
        ([], {"WORKOS_API_KEY": "sk_test_wrong"}, "WORKOS_API_KEY is refused"),
        (["--url", "http://localhost:1"], {}, "does not answer"),
        (["--app", "http://localhost:1"], {}, "--app: http://localhost:1 does not answer"),
        (["--json", "/nowhere/drill.json"], {}, "--json: "),
        (["--only", "everything"], {}, "--only"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_status_2(server: Server, arguments: list[str], change: dict[str, str], said: str) -> None:
    command = [str(BINARY), "drill", *arguments]
    ended = subprocess.run(command, env={**settings(server), **change}, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2, ended
    [line] = [line for line in ended.stderr.splitlines() if not line.startswith("drill: ")]
    assert line.startswith("error: ") and said in line and "; " in line and server.api_key not in line


def test_an_open_route_is_refused_because_it_would_tell_nothing(server: Server) -> None:
    with deaf_app(server) as url:
        command = [str(BINARY), "drill", "--app", url, "--route", "/health"]
        ended = subprocess.run(command, env=settings(server), capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2 and "answers 200 to a stranger" in ended.stderr


def test_limits_do_not_stand_in_the_way(tmp_path: Path) -> None:
    """The server's own rate limits are on in production."""
    with running_server(limits=True) as server:
        found = drill(server, tmp_path)
    assert found.status == 0, found.out
