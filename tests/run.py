#!/usr/bin/env python3
"""Runs the suites of the Python package, then the whole-product suites: real servers, official SDKs unmodified, Chromium, kills and attacks.

    python3 tests/run.py                    every suite, on SQLite and on the PostgreSQL that GATEWRIGHT_TEST_PG names
    python3 tests/run.py --only faults      one suite
    python3 tests/run.py --only package     the Python package alone, with every FastAPI it supports
    python3 tests/run.py -- -k refresh      what follows -- goes to pytest

Environments are made once under target/test-env, by the content of their requirements. The last line is `N passed, N failed`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from environments import TARGET, TESTS, Missing, find_binary, find_wheel, make_node_folder, make_venv, surroundings
from package import run_package
from results import count

SUITES = ("sdk", "guard", "contract", "attacks", "faults", "browser")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=("package", *SUITES), help="run one suite")
    parser.add_argument("--engine", choices=("sqlite", "postgres"), help="run on one engine; both when a PostgreSQL is named")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    arguments = parser.parse_args()
    partial = bool(arguments.only or arguments.pytest)
    passed = failed = 0
    try:
        if sys.version_info < (3, 10):
            raise Missing(f"Python {sys.version_info.major}.{sys.version_info.minor} is too old; run it with Python 3.10 or newer")
        wheel = find_wheel()
        with ThreadPoolExecutor() as pool:
            runs = [] if arguments.only == "package" else start_suites(pool, wheel, arguments)
            if arguments.only == "package" or not partial:
                passed, failed = run_package(wheel, arguments.pytest)
            for run in runs:
                good, bad = run.result()
                passed, failed = passed + good, failed + bad
    except Missing as missing:
        print(f"tests/run.py: {missing}")
        failed += 1
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


def provide(wheel: Path) -> dict[str, str]:
    """Makes what is missing and says where it is."""
    return {
        "GATEWRIGHT_BIN": str(find_binary()),
        "GATEWRIGHT_V5_PYTHON": str(make_venv("workos-5", TESTS / "sdk" / "requirements-v5.txt")),
        "GATEWRIGHT_NODE_DIR": str(make_node_folder(TESTS / "sdk" / "node", "calls.mjs")),
        "GATEWRIGHT_GUARD_NODE_DIR": str(make_node_folder(TESTS / "guard" / "node", "cookies.mjs", "provider.mjs")),
        "GATEWRIGHT_TEST_PYTHON": str(make_venv("suites", TESTS / "requirements.txt", wheel=wheel)),
    }


def start_suites(pool: ThreadPoolExecutor, wheel: Path, arguments: argparse.Namespace) -> list[Future[tuple[int, int]]]:
    """The suites of all engines at once, and beside the package's: most of these tests wait, for a server to start, a page to load, a
    token to expire."""
    environment = provide(wheel)
    partial = bool(arguments.only or arguments.pytest)
    engines = choose_engines(arguments.engine)
    runs = []
    for number, (engine, database) in enumerate(engines):
        # What reads the traces of all the others means nothing after a part of them; what asks no server of ours has no second engine.
        left_out = (["after_all"] if partial else []) + (["once"] if number else [])
        chosen = ["-m", " and ".join(f"not {marker}" for marker in left_out)] if left_out else []
        chosen += [*([arguments.only] if arguments.only else []), *arguments.pytest]
        alone = partial and len(engines) == 1
        runs.append(pool.submit(run_suites, engine, database, environment, chosen, alone))
    return runs


def run_suites(engine: str, database: str, environment: dict[str, str], chosen: list[str], alone: bool) -> tuple[int, int]:
    """Prints what pytest prints: at once when nothing else runs, otherwise when it has ended."""
    results = TARGET / "test-run" / engine
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    report = results / "junit.xml"
    settings = surroundings(
        **environment,
        GATEWRIGHT_TEST_DATABASE=database,
        GATEWRIGHT_RECORD=str(results / "traffic.jsonl"),
        GATEWRIGHT_LOGS=str(results / "logs"),
        GATEWRIGHT_HAR=str(results / "har"),
        GATEWRIGHT_ARTIFACTS=str(TARGET / "artifacts" / engine),
    )
    command = [environment["GATEWRIGHT_TEST_PYTHON"], "-m", "pytest", "-q", "--tb=short", f"--junitxml={report}", *chosen]
    head = f"==> suites on {engine}: {' '.join(chosen) or 'all'}\n"
    if alone:
        print(head, end="", flush=True)
        status = subprocess.run(command, cwd=TESTS, env=settings, check=False).returncode
    else:
        ended = subprocess.run(command, cwd=TESTS, env=settings, stdout=subprocess.PIPE, text=True, errors="replace", check=False)
        status = ended.returncode
        print(head + ended.stdout, end="", flush=True)
    return count(report, status)


if __name__ == "__main__":
    sys.exit(main())
