"""Node scripts that answer one JSON line for each JSON line they are given."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class NodeScript:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lock = threading.Lock()

    def __call__(self, name: str, *arguments: Any) -> Any:
        assert self._process.stdin
        with self._lock:
            self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
            self._process.stdin.flush()
            return self.read()

    def read(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the Node script ended"
        answer = json.loads(line)
        if "ok" not in answer:
            raise NodeError(answer)
        return answer["ok"]

    def stop(self) -> None:
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.wait(15)


class NodeError(Exception):
    pass


@contextmanager
def running_node(script: str, **environment: str) -> Iterator[NodeScript]:
    modules = os.environ.get("GATEWRIGHT_GUARD_NODE_DIR")
    assert modules, "GATEWRIGHT_GUARD_NODE_DIR names no folder with oidc-provider; run the suites with tests/run.py"
    process = subprocess.Popen(
        ["node", "--no-warnings", str(Path(modules) / script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **environment},
    )
    running = NodeScript(process)
    try:
        yield running
    finally:
        running.stop()
