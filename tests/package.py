"""The suite of the Python package: its tests with every FastAPI it supports, and what type checkers say to it and to code that uses it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from environments import ROOT, TARGET, Missing, make_node_folder, make_venv, run, surroundings
from results import count

PACKAGE = ROOT / "python"
EXAMPLES = ROOT / "examples"
FASTAPI = {"0.115": "fastapi~=0.115.0", "0.128": "fastapi~=0.128.0", "0.137": "fastapi==0.137.2", "latest": "fastapi"}
SARIF_CRATE = "serde-sarif@0.8.0"


def run_package(wheel: Path, extra: list[str]) -> tuple[int, int]:
    passed = failed = 0
    settings = surroundings(SARIF_SCHEMA=find_sarif_schema())
    for version, pin in FASTAPI.items():
        python = make_venv(f"fastapi-{version}", PACKAGE / "tests" / "requirements.txt", pin, wheel=wheel)
        print(f"==> package with FastAPI {installed_version(python)}", flush=True)
        good, bad = run_tests(python, version, settings, extra)
        passed, failed = passed + good, failed + bad
    if not extra:
        good, bad = check_types(wheel)
        passed, failed = passed + good, failed + bad
    return passed, failed


def run_tests(python: Path, version: str, settings: dict[str, str], extra: list[str]) -> tuple[int, int]:
    report = TARGET / "test-run" / f"package-{version}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    command = [str(python), "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", f"--junitxml={report}", *extra]
    # In the tests' own folder: from `python`, the sources without the extension would be found before the wheel.
    status = subprocess.run(command, cwd=PACKAGE / "tests", env=settings, check=False).returncode
    return count(report, status)


def find_sarif_schema() -> str:
    """The official schema of the audit's reports. It is not ours to copy; a crate carries it."""
    registry = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo")) / "registry" / "src"
    pattern = f"*/{SARIF_CRATE.replace('@', '-')}/src/schema.json"
    if named := os.environ.get("SARIF_SCHEMA"):
        return named
    if not any(registry.glob(pattern)):
        print(f"    fetching {SARIF_CRATE}", flush=True)
        run([os.environ.get("CARGO", "cargo"), "info", "--quiet", SARIF_CRATE], quiet=True)
    for schema in registry.glob(pattern):
        return str(schema)
    raise Missing(f"the SARIF schema is not there; make `cargo info {SARIF_CRATE}` work, or set SARIF_SCHEMA")


def check_types(wheel: Path) -> tuple[int, int]:
    python = make_venv("types", PACKAGE / "tests" / "types" / "requirements.txt", wheel=wheel)
    pyright = make_node_folder(PACKAGE / "tests" / "types") / "node_modules" / ".bin" / "pyright"
    mypy = [str(python), "-m", "mypy", "--strict", "--no-error-summary", f"--cache-dir={TARGET / 'mypy'}"]
    types = PACKAGE / "tests" / "types"
    checks = [("stubtest", types, [str(python), "-m", "mypy.stubtest", "--allowlist", "stubtest-allowlist.txt", "gatewright._core"])]
    # The package is checked from its sources, what uses it against the wheel as its users have it.
    users = [(types, "usage.py"), *((folder, ".") for folder in sorted(EXAMPLES.iterdir()) if any(folder.glob("*.py")))]
    for folder, what in [(PACKAGE, "gatewright"), *users]:
        checks += [("mypy", folder, [*mypy, what]), ("pyright", folder, [str(pyright), "--pythonpath", str(python), what])]
    failed = 0
    for name, folder, command in checks:
        print(f"==> {name} in {folder.relative_to(ROOT)}", flush=True)
        failed += subprocess.run(command, cwd=folder, check=False).returncode != 0
    return len(checks) - failed, failed


def installed_version(python: Path) -> str:
    ask = "from importlib.metadata import version; print(version('fastapi'))"
    return subprocess.run([str(python), "-c", ask], stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
