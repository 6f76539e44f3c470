#!/usr/bin/env python3
"""Runs the whole-product suites: real servers, official SDKs unmodified, Chromium, kills and attacks.

    python3 tests/run.py                    every suite, on SQLite and on the PostgreSQL that GATEWRIGHT_TEST_PG names
    python3 tests/run.py --only faults      one suite
    python3 tests/run.py -- -k refresh      what follows -- goes to pytest

Environments are made once under target/test-env, by the content of their requirements. The last line is `N passed, N failed`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

TESTS = Path(__file__).resolve().parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", TESTS.parent / "target")).resolve()
SUITES = ("sdk", "contract", "attacks", "faults", "browser")


class Missing(Exception):
    """Something the suites need is not there; one line that says what to do."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=SUITES, help="run one suite")
    parser.add_argument("--engine", choices=("sqlite", "postgres"), help="run on one engine; both when a PostgreSQL is named")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    arguments = parser.parse_args()
    try:
        environment = provide()
        engines = choose_engines(arguments.engine)
    except Missing as missing:
        print(f"tests/run.py: {missing}")
        print("0 passed, 1 failed")
        return 1
    partial = bool(arguments.only or arguments.pytest)
    passed = failed = 0
    for engine, database in engines:
        print(f"==> {arguments.only or 'all suites'} on {engine}", flush=True)
        good, bad = run_suites(engine, database, environment, arguments.only, partial, arguments.pytest)
        passed, failed = passed + good, failed + bad
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def choose_engines(only: str | None) -> list[tuple[str, str]]:
    url = os.environ.get("GATEWRIGHT_TEST_PG")
    if only == "postgres" and not url:
        raise Missing("GATEWRIGHT_TEST_PG is not set; give postgres://user:password@host:port/database of a role that may create databases")
    engines = [("sqlite", "sqlite")] + ([("postgres", url)] if url else [])
    if not url and only is None:
        print("GATEWRIGHT_TEST_PG is not set: SQLite alone (`cargo xtask test` starts a PostgreSQL)")
    return [engine for engine in engines if only in (None, engine[0])]


def provide() -> dict[str, str]:
    """Makes what is missing and says where it is."""
    if sys.version_info < (3, 10):
        raise Missing(f"Python {sys.version_info.major}.{sys.version_info.minor} is too old; run it with Python 3.10 or newer")
    binary = Path(os.environ.get("GATEWRIGHT_BIN", TARGET / "debug" / "gatewright"))
    if not binary.is_file():
        raise Missing(f"{binary} is not there; build it with `cargo build -p gatewright`, or set GATEWRIGHT_BIN")
    return {
        "GATEWRIGHT_BIN": str(binary),
        "GATEWRIGHT_V5_PYTHON": str(make_venv("workos-5", TESTS / "sdk" / "requirements-v5.txt")),
        "GATEWRIGHT_NODE_DIR": str(make_node_folder()),
        "GATEWRIGHT_TEST_PYTHON": str(make_venv("suites", TESTS / "requirements.txt")),
    }


def make_venv(name: str, requirements: Path) -> Path:
    """The Python of an environment with these requirements."""
    folder = TARGET / "test-env" / f"{name}-{fingerprint(requirements.read_bytes(), sys.version.encode())}"
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    print(f"    installing {requirements.relative_to(TESTS.parent)}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)]
    if run([sys.executable, "-m", "venv", str(folder)], quiet=True):
        done = run([str(python), *install])
    else:
        # Debian and Ubuntu ship venv without pip unless python3-venv is installed: use the pip there is.
        shutil.rmtree(folder, ignore_errors=True)
        if not run([sys.executable, "-m", "venv", "--without-pip", str(folder)]):
            raise Missing("Python has no venv module; install it (Debian, Ubuntu: apt install python3-venv)")
        packages = next((folder / "lib").glob("python3*/site-packages"))
        done = run([sys.executable, *install, "--target", str(packages)])
    if not done:
        raise Missing(f"pip could not install {requirements.relative_to(TESTS.parent)}; see above")
    (folder / "complete").touch()
    return python


def make_node_folder() -> Path:
    """A folder with the Node SDK and the script that calls it."""
    source = TESTS / "sdk" / "node"
    folder = TARGET / "test-env" / f"node-{fingerprint((source / 'package.json').read_bytes())}"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "calls.mjs"):
        shutil.copy(source / name, folder / name)
    if not (folder / "complete").exists():
        if not shutil.which("npm"):
            raise Missing("npm was not found; install Node 20 or newer, or run the suites with `cargo xtask test`")
        print("    installing tests/sdk/node/package.json", flush=True)
        if not run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder)]):
            raise Missing("npm could not install tests/sdk/node/package.json; see above")
        (folder / "complete").touch()
    return folder


def fingerprint(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def run(command: list[str], quiet: bool = False) -> bool:
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, stdout=output, stderr=output, check=False).returncode == 0


def run_suites(
    engine: str, database: str, environment: dict[str, str], only: str | None, partial: bool, extra: list[str]
) -> tuple[int, int]:
    results = TARGET / "test-run" / engine
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    report = results / "junit.xml"
    settings = {
        **os.environ,
        **environment,
        "GATEWRIGHT_TEST_DATABASE": database,
        "GATEWRIGHT_RECORD": str(results / "traffic.jsonl"),
        "GATEWRIGHT_LOGS": str(results / "logs"),
        "GATEWRIGHT_HAR": str(results / "har"),
        "GATEWRIGHT_ARTIFACTS": str(TARGET / "artifacts"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    # Proxies are for the way out; the servers under test are here.
    settings = {k: v for k, v in settings.items() if k.lower() not in {"http_proxy", "https_proxy", "all_proxy"}}
    command = [environment["GATEWRIGHT_TEST_PYTHON"], "-m", "pytest", "-q", "--tb=short", f"--junitxml={report}"]
    # What reads the traces of all the others means nothing after a part of them.
    command += ["-m", "not after_all"] if partial else []
    status = subprocess.run([*command, *([only] if only else []), *extra], cwd=TESTS, env=settings, check=False).returncode
    if not report.exists():
        return 0, 1
    passed, failed = count(report)
    return passed, failed if failed or status == 0 else 1


def count(report: Path) -> tuple[int, int]:
    """Passed and failed tests. A skipped test has shown nothing and counts as failed."""
    total = failed = 0
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        total += int(suite.get("tests", 0))
        failed += sum(int(suite.get(kind, 0)) for kind in ("failures", "errors", "skipped"))
    return max(total - failed, 0), failed if total else 1


if __name__ == "__main__":
    sys.exit(main())
