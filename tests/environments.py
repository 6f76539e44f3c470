"""What the suites run in: Python environments and Node folders, made once under target/test-env by the content of what they hold."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()


class Missing(Exception):
    """Something the suites need is not there; one line that says what to do."""


def find_binary() -> Path:
    binary = Path(os.environ.get("GATEWRIGHT_BIN", TARGET / "debug" / "gatewright"))
    if not binary.is_file():
        raise Missing(f"{binary} is not there; build it with `cargo build -p gatewright`, or set GATEWRIGHT_BIN")
    return binary


def find_wheel() -> Path:
    named = os.environ.get("GATEWRIGHT_WHEEL")
    wheels = [Path(named)] if named else sorted((TARGET / "wheels").glob("*.whl"))
    if len(wheels) != 1 or not wheels[0].is_file():
        raise Missing(f"{named or TARGET / 'wheels'} holds no wheel; build it with `cargo xtask wheel --debug`, or set GATEWRIGHT_WHEEL")
    return wheels[0]


def make_venv(name: str, requirements: Path, *more: str, wheel: Path | None = None) -> Path:
    """The Python of an environment with these requirements, and with the wheel as it is now."""
    folder = TARGET / "test-env" / f"{name}-{fingerprint(requirements.read_bytes(), sys.version.encode(), *map(str.encode, more))}"
    if not (folder / "complete").exists():
        print(f"    installing {requirements.relative_to(ROOT)} {' '.join(more)}".rstrip(), flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        if not run([sys.executable, "-m", "venv", str(folder)], quiet=True):
            # Debian and Ubuntu ship venv without pip unless python3-venv is installed: use the pip there is.
            shutil.rmtree(folder, ignore_errors=True)
            if not run([sys.executable, "-m", "venv", "--without-pip", str(folder)]):
                raise Missing("Python has no venv module; install it (Debian, Ubuntu: apt install python3-venv)")
        if not pip_install(folder, "-r", str(requirements), *more):
            raise Missing(f"pip could not install {requirements.relative_to(ROOT)}; see above")
        (folder / "complete").touch()
    if wheel:
        put_wheel(folder, wheel)
    return folder / "bin" / "python"


def put_wheel(folder: Path, wheel: Path) -> None:
    holds, wanted = folder / "wheel", fingerprint(wheel.read_bytes())
    if holds.exists() and holds.read_text() == wanted:
        return
    holds.unlink(missing_ok=True)
    if not pip_install(folder, "--force-reinstall", "--no-deps", str(wheel)):
        raise Missing(f"pip could not install {wheel.name}; see above")
    holds.write_text(wanted)


def pip_install(folder: Path, *what: str) -> bool:
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what]
    packages = next((folder / "lib").glob("python3*/site-packages"))
    if (packages / "pip").exists():
        return run([str(folder / "bin" / "python"), *install])
    return run([sys.executable, *install, "--upgrade", "--target", str(packages)])


def make_node_folder(source: Path, *scripts: str) -> Path:
    """A folder with the packages of `source/package.json`, and with these scripts of `source` beside them."""
    folder = TARGET / "test-env" / f"node-{fingerprint((source / 'package.json').read_bytes())}"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", *scripts):
        shutil.copy(source / name, folder / name)
    if not (folder / "complete").exists():
        manifest = (source / "package.json").relative_to(ROOT)
        if not shutil.which("npm"):
            raise Missing("npm was not found; install Node 20 or newer, or run the suites with `cargo xtask test`")
        print(f"    installing {manifest}", flush=True)
        if not run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder)]):
            raise Missing(f"npm could not install {manifest}; see above")
        (folder / "complete").touch()
    return folder


def surroundings(**more: str) -> dict[str, str]:
    """The variables of a run of tests."""
    # Proxies are for the way out; the servers under test are here.
    inherited = {name: value for name, value in os.environ.items() if name.lower() not in {"http_proxy", "https_proxy", "all_proxy"}}
    return {**inherited, "PYTHONDONTWRITEBYTECODE": "1", **more}


def fingerprint(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def run(command: list[str], quiet: bool = False) -> bool:
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, stdout=output, stderr=output, check=False).returncode == 0
