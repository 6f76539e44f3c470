"""``python -m gatewright``: the ``gatewright`` command of this environment."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path


def main() -> int:
    arguments = sys.argv[1:]
    if arguments[:2] == ["routes", "audit"]:
        from gatewright.audit import main as audit

        # Importing an app of many routes makes objects that live as long as this process, which is short: the collector would look at
        # all of them again and again, and a last time at the end.
        gc.disable()
        code = audit(arguments[2:])
        gc.freeze()
        return code
    server = find_server()
    if server is None:
        print(
            "error: the server is not in this environment: it was installed without its scripts; "
            "install it again with: pip install --force-reinstall gatewright",
            file=sys.stderr,
        )
        return 1
    command = [str(server), *arguments]
    if os.name == "posix":
        sys.stdout.flush()
        os.execv(command[0], command)
    return subprocess.run(command, check=False).returncode


def find_server() -> Path | None:
    """The server that came with this package, wherever pip put it; never another one of that name on PATH."""
    return next((path for path in places() if path.is_file()), None)


def places() -> Iterator[Path]:
    name = "gatewright" + (sysconfig.get_config_var("EXE") or "")
    yield Path(sysconfig.get_path("scripts")) / name
    user_scheme = sysconfig.get_preferred_scheme("user")
    yield Path(sysconfig.get_path("scripts", scheme=user_scheme)) / name
    # pip install --target
    yield Path(__file__).resolve().parent.parent / "bin" / name


if __name__ == "__main__":
    sys.exit(main())
