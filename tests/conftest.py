"""Servers and clients that the suites share."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import workos

from accounts import Account, create_account, open_api, open_sdk
from recording import open_client
from running_server import Server, running_server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("after_all") is not None)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def short_lived() -> Iterator[Server]:
    """A server whose access tokens expire after two seconds."""
    with running_server("--access-token-seconds", "2") as server:
        yield server


@pytest.fixture(scope="session")
def limited() -> Iterator[Server]:
    """A server with its default rate limits."""
    with running_server(limits=True) as server:
        yield server


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    with open_client() as client:
        yield client


@pytest.fixture(scope="session")
def api(server: Server) -> Iterator[httpx.Client]:
    """Calls the server with its API key."""
    with open_api(server) as client:
        yield client


@pytest.fixture(scope="session")
def sdk(server: Server) -> workos.WorkOSClient:
    return open_sdk(server)


@pytest.fixture
def account(server: Server) -> Account:
    return create_account(server)
