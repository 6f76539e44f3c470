"""Servers and apps of the guard's suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from guard.guarded import Guarded, guarded_app
from guard.node_script import NodeScript, running_node
from guard.stand_in import StandIn, stand_in
from running_server import Server


@pytest.fixture(scope="session")
def issuer() -> Iterator[StandIn]:
    with stand_in() as server:
        yield server


@pytest.fixture(scope="session")
def app(issuer: StandIn) -> Iterator[Guarded]:
    """Guarded by the stand-in."""
    with guarded_app(issuer) as app:
        yield app


@pytest.fixture(scope="session")
def real(server: Server) -> Iterator[Guarded]:
    """Guarded by the real server."""
    with guarded_app(server) as app:
        yield app


@pytest.fixture(scope="session")
def node_cookies(server: Server) -> Iterator[NodeScript]:
    """Node apps' way with session cookies, against the real server."""
    with running_node("cookies.mjs", **server.app_environment()) as script:
        yield script
