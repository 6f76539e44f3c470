"""The upstream OpenAPI document against ours, and against everything the suites sent and received."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recording import RECORD
from running_server import BINARY, REPOSITORY

# The upstream document and the tool that reads it lie in a folder beside the repository, or where GATEWRIGHT_SHARED says.
TOOL = Path(os.environ.get("GATEWRIGHT_SHARED") or REPOSITORY.parent / "shared") / "tools" / "contract_check.py"
REQUIRED = Path(__file__).parent / "operations.txt"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    document = tmp_path_factory.mktemp("openapi") / "openapi.json"
    printed = subprocess.run([str(BINARY), "openapi"], capture_output=True, text=True, timeout=30, check=False)
    assert printed.returncode == 0, printed.stderr
    document.write_text(printed.stdout)
    return document


def check(*arguments: str) -> str:
    assert TOOL.exists(), f"{TOOL} is missing: put the shared folder beside the repository, or set GATEWRIGHT_SHARED"
    ended = subprocess.run([sys.executable, str(TOOL), *arguments], capture_output=True, text=True, timeout=300, check=False)
    output = ended.stdout + ended.stderr
    assert ended.returncode == 0, output[-6000:]
    return output


def test_every_required_operation_is_served(served: Path) -> None:
    required = [line for line in REQUIRED.read_text().splitlines() if line and not line.startswith("#")]
    assert len(required) == len(set(required)) == 151
    check("coverage", "--served", str(served), "--require", str(REQUIRED))


def test_no_shape_differs_from_upstream(served: Path) -> None:
    check("shapes", "--served", str(served), "--strict")


@pytest.mark.after_all
def test_everything_recorded_is_valid_and_every_operation_was_exercised(served: Path, tmp_path: Path) -> None:
    assert RECORD, "GATEWRIGHT_RECORD names no file; run the suites with tests/run.py"
    check("record-check", "--jsonl", RECORD, "--served", str(served), "--require", str(REQUIRED), "--quiet")


@pytest.mark.after_all
def test_what_the_browser_recorded_is_valid(served: Path) -> None:
    recordings = Path(os.environ.get("GATEWRIGHT_HAR", ""))
    assert recordings.name and list(recordings.glob("*.har")), "the browser suite left no recordings; run the suites with tests/run.py"
    check("record-check", "--har-dir", str(recordings), "--served", str(served), "--quiet")
