"""A real server for the length of a block of tests."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_START_SECONDS = 30
_STOP_SECONDS = 15


@dataclass
class GatewrightServer:
    """A running `gatewright dev` that keeps nothing."""

    facts: dict[str, Any]
    """What it said when it was ready: url, api_key, client_id, cookie_password, inbox_url, users, organizations, environments."""
    process: subprocess.Popen[str]

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

    @property
    def users(self) -> list[dict[str, str]]:
        """The demo users: email, password, first_name, last_name."""
        return list(self.facts["users"])

    def settings(self) -> dict[str, Any]:
        """Arguments for `Gatewright(...)`."""
        return {"base_url": self.url, "api_key": self.api_key, "client_id": self.client_id, "cookie_password": self.cookie_password}

    def environment(self) -> dict[str, str]:
        """What `Gatewright.from_env()` reads: set it for the process of the app under test."""
        return {
            "WORKOS_BASE_URL": self.url,
            "WORKOS_API_KEY": self.api_key,
            "WORKOS_CLIENT_ID": self.client_id,
            "WORKOS_COOKIE_PASSWORD": self.cookie_password,
        }


@contextlib.contextmanager
def running_server(*flags: str, binary: str | os.PathLike[str] | None = None) -> Iterator[GatewrightServer]:
    """Starts `gatewright dev --ephemeral` on a free port and stops it after the block; `flags` are added, such as
    `--access-token-seconds 2`. RuntimeError with the end of its log when it does not become ready.
    """
    command = [find_binary(binary), "dev", "--ephemeral", "--json", "--port", "0", "--no-rate-limits", *flags]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, cwd=tempfile.gettempdir()
        )
        try:
            line = read_line(process)
            if not line:
                process.kill()
                process.wait()
                log.seek(0)
                raise RuntimeError(f"`{' '.join(command)}` did not become ready; its log ends:\n{log.read()[-2000:]}")
            threading.Thread(target=drain, args=(process,), daemon=True).start()
            yield GatewrightServer(json.loads(line), process)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def find_binary(binary: str | os.PathLike[str] | None = None) -> str:
    """The server's binary: the one given, GATEWRIGHT_BIN, the one installed beside this Python, or the one on the PATH."""
    if binary is not None:
        return os.fspath(binary)
    if named := os.environ.get("GATEWRIGHT_BIN"):
        return named
    name = "gatewright.exe" if sys.platform == "win32" else "gatewright"
    for folder in (Path(sysconfig.get_path("scripts")), Path(sys.executable).parent):
        if (folder / name).is_file():
            return str(folder / name)
    if found := shutil.which(name):
        return found
    raise RuntimeError("the gatewright binary was not found beside this Python nor on the PATH: install the wheel, or set GATEWRIGHT_BIN")


def read_line(process: subprocess.Popen[str]) -> str:
    lines: list[str] = []
    assert process.stdout is not None
    out = process.stdout
    reader = threading.Thread(target=lambda: lines.append(out.readline()), daemon=True)
    reader.start()
    reader.join(_START_SECONDS)
    return lines[0] if lines else ""


def drain(process: subprocess.Popen[str]) -> None:
    """Keeps the pipe empty, so that the server never waits for us."""
    assert process.stdout is not None
    with contextlib.suppress(ValueError):
        for _ in process.stdout:
            pass
