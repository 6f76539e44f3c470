"""The official Node SDK in a process of its own, called from here."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from running_server import Server

NodeCall = Callable[..., Any]


@contextmanager
def running_node(server: Server) -> Iterator[NodeCall]:
    """Calls the Node SDK; gives its result, or raises what it threw."""
    modules = os.environ.get("GATEWRIGHT_NODE_DIR")
    assert modules, "GATEWRIGHT_NODE_DIR names no folder with @workos-inc/node; run the suites with tests/run.py"
    environment = {**os.environ, **server.app_environment(), "NODE_COOKIE_PASSWORD": "a cookie password of 32 characters or more"}
    process = subprocess.Popen(
        ["node", str(Path(modules) / "calls.mjs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdin and process.stdout

    def call(name: str, *arguments: Any) -> Any:
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps([name, *arguments]) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        if "ok" not in answer:
            raise NodeError(answer)
        return answer["ok"]

    try:
        yield call
    finally:
        process.stdin.close()
        process.wait(15)


class NodeError(Exception):
    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer)
        self.answer = answer


def thrown(call: NodeCall, *arguments: Any) -> dict[str, Any]:
    with pytest.raises(NodeError) as raised:
        call(*arguments)
    return raised.value.answer
