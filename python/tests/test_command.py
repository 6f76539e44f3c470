"""The command that the package brings."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from importlib.metadata import files, version
from pathlib import Path

import pytest

SCRIPTS = Path(sysconfig.get_path("scripts"))


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}, check=False)


def test_the_command_is_installed_with_the_package_and_of_its_version() -> None:
    for command in ([str(SCRIPTS / "gatewright")], [sys.executable, "-m", "gatewright"]):
        said = run(*command, "--version")
        assert (said.returncode, said.stdout) == (0, f"gatewright {version('gatewright')}\n"), said.stderr
    assert "--ephemeral" in run(str(SCRIPTS / "gatewright"), "dev", "--help").stdout


def test_the_exit_status_is_the_commands() -> None:
    ended = run(sys.executable, "-m", "gatewright", "no-such-command")
    assert ended.returncode == 2 and ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1


@pytest.mark.parametrize("door", ["script", "module"])
def test_the_audit_runs_in_this_python_from_either_door(door: str, tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text("from fastapi import FastAPI\napp = FastAPI()\n\n@app.get('/open')\ndef f(): ...\n")
    command = [str(SCRIPTS / "gatewright")] if door == "script" else [sys.executable, "-m", "gatewright"]
    arguments = ["routes", "audit", "bare:app", "--app-dir", str(tmp_path), "--format", "json"]
    # Neither PATH nor an active environment is needed: the Python beside the command is the app's.
    ended = run(*command, *arguments, PATH="/nowhere", VIRTUAL_ENV="")
    assert ended.returncode == 1 and '"/open"' in ended.stdout, ended.stderr


def test_a_command_far_from_any_python_takes_the_active_one_then_the_path(tmp_path: Path) -> None:
    alone = tmp_path / "gatewright"
    alone.symlink_to(SCRIPTS / "gatewright")
    copy = tmp_path / "copy"
    copy.write_bytes((SCRIPTS / "gatewright").read_bytes())
    copy.chmod(0o755)
    for where in ({"VIRTUAL_ENV": str(SCRIPTS.parent), "PATH": "/nowhere"}, {"VIRTUAL_ENV": "", "PATH": str(SCRIPTS)}):
        assert run(str(copy), "routes", "audit", "--help", **where).returncode == 0
    ended = run(str(copy), "routes", "audit", "app:app", PATH="/nowhere", VIRTUAL_ENV="")
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1 and "pip install gatewright" in ended.stderr
    # A link leads to the environment it points into, as tools that install commands make them.
    assert run(str(alone), "routes", "audit", "--help", PATH="/nowhere", VIRTUAL_ENV="").returncode == 0


def test_the_package_works_without_fastapi_and_says_what_is_missing() -> None:
    hide = "import sys; sys.modules['fastapi'] = None; import gatewright, gatewright._core; print('fine')"
    assert run(sys.executable, "-c", hide).stdout == "fine\n"
    ended = run(sys.executable, "-c", "import sys; sys.modules['fastapi'] = None; import gatewright.fastapi")
    assert ended.returncode == 1 and 'pip install "gatewright[fastapi]"' in ended.stderr.replace("'", '"')


def test_the_wheel_holds_types_licences_and_the_one_extension() -> None:
    names = [str(file) for file in files("gatewright") or []]
    assert "gatewright/py.typed" in names and "gatewright/_core.pyi" in names
    assert any(name.endswith("licenses/LICENSE-MIT") for name in names)
    assert [name for name in names if name.endswith(".so")] == ["gatewright/_core.abi3.so"]
    assert not [name for name in names if name.startswith(("tests/", "gatewright/tests/"))]
