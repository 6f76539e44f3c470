"""Fixtures for pytest: `gatewright_server` is a real server, `test_issuer` one that mints whatever a test needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

# Loaded by every pytest of an environment that has the package: nothing else is imported before a fixture is asked for.
if TYPE_CHECKING:
    from gatewright.testing import GatewrightServer, TestIssuer


@pytest.fixture(scope="session")
def gatewright_server() -> Iterator[GatewrightServer]:
    """A real server on a free port, shared by the tests of the run."""
    from gatewright.testing import running_server

    with running_server() as server:
        yield server


@pytest.fixture
def test_issuer() -> Iterator[TestIssuer]:
    """A stand-in for the server with keys of its own."""
    from gatewright.testing import TestIssuer

    with TestIssuer() as issuer:
        yield issuer
