"""A headless Chromium that records what it does and complains about every console error."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from apps import App, expense_tracker
from running_server import REPOSITORY, Server

ARTIFACTS = Path(os.environ.get("GATEWRIGHT_ARTIFACTS", REPOSITORY / "target" / "artifacts"))
HAR = Path(os.environ["GATEWRIGHT_HAR"]) if os.environ.get("GATEWRIGHT_HAR") else None


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    found = os.environ.get("GATEWRIGHT_CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    assert found, "no Chromium was found; install it (Debian, Ubuntu: apt install chromium) or set GATEWRIGHT_CHROMIUM to its path"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Callable[..., Page]]:
    """Opens a page in a browser of its own; at the end of the test nothing may have gone wrong in any of them."""
    contexts: list[Any] = []
    problems: list[str] = []

    def open_page(**options: Any) -> Page:
        options.setdefault("viewport", {"width": 1280, "height": 800})
        options.setdefault("locale", "en-US")
        if HAR:
            HAR.mkdir(parents=True, exist_ok=True)
            options |= {
                "record_har_path": HAR / f"{request.node.name}-{len(contexts)}.har".replace("/", "_"),
                "record_har_content": "embed",
            }
        context = chromium.new_context(**options)
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: note(message, page, problems))
        page.on("pageerror", lambda error: problems.append(f"script error at {page.url}: {error}"))
        page.on("requestfailed", lambda r: problems.append(f"{r.url} failed: {r.failure}") if r.failure != "net::ERR_ABORTED" else None)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems, problems


def note(message: ConsoleMessage, page: Page, problems: list[str]) -> None:
    if message.type not in {"error", "warning"}:
        return
    # Pages that refuse something have a 4xx status of their own; Chromium reports that as an error too.
    if "Failed to load resource" in message.text and message.location.get("url") == page.url:
        return
    problems.append(f"{page.url}: {message.text}")


@pytest.fixture(scope="module")
def app(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with expense_tracker(server, tmp_path_factory.mktemp("browser") / "expenses.db") as app:
        yield app


@pytest.fixture(scope="module")
def second_app(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with expense_tracker(server, tmp_path_factory.mktemp("browser") / "second.db") as app:
        yield app
