"""The Node SDK for the suites of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from running_server import Server
from sdk.node_sdk import NodeCall, running_node


@pytest.fixture(scope="module")
def node(server: Server) -> Iterator[NodeCall]:
    with running_node(server) as call:
        yield call
