"""The web apps under test, each its own process; what they call goes through the recording proxy."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from recording import recording_proxy
from running_server import REPOSITORY, Server, find_free_port, running_app

EXPENSE_TRACKER = REPOSITORY / "examples" / "expense-tracker"


@dataclass
class App:
    url: str
    server: Server
    module: str
    database: Path
    auth: str = ""  # what comes before /login, /callback and /logout

    @property
    def login(self) -> str:
        return f"{self.url}{self.auth}/login"

    @property
    def logout(self) -> str:
        return f"{self.url}{self.auth}/logout"


@contextmanager
def running_fastapi(server: Server, python: str, module: str, folder: Path, database: Path, auth: str = "") -> Iterator[App]:
    port = find_free_port()
    url = f"http://localhost:{port}"
    with recording_proxy() as proxy:
        environment = {**server.app_environment(), **proxy, "APP_URL": url, "EXPENSES_DB": str(database)}
        command = [python, "-m", "uvicorn", module, "--host", "localhost", "--port", str(port), "--no-access-log"]
        with running_app(command, port, environment, folder):
            yield App(url, server, module, database, auth)


@contextmanager
def expense_tracker(server: Server, database: Path) -> Iterator[App]:
    """The example app, with `gatewright.fastapi`."""
    with running_fastapi(server, sys.executable, "main:app", EXPENSE_TRACKER, database, "/auth") as app:
        yield app


@contextmanager
def sdk_expense_tracker(server: Server, database: Path) -> Iterator[App]:
    """The same app with `workos` 10."""
    with running_fastapi(server, sys.executable, "with_workos_sdk:app", EXPENSE_TRACKER, database) as app:
        yield app


@contextmanager
def legacy_app(server: Server, database: Path) -> Iterator[App]:
    """An app with the same routes, written with `workos` 5.46.0 and run by the Python that has it."""
    python = os.environ.get("GATEWRIGHT_V5_PYTHON")
    assert python, "GATEWRIGHT_V5_PYTHON names no Python with workos 5.46.0; run the suites with tests/run.py"
    with running_fastapi(server, python, "app_v5:app", REPOSITORY / "tests" / "sdk", database) as app:
        yield app
