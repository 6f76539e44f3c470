"""The documentation page that FastAPI makes: its Authorize button signs people in, and the calls they try are theirs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, Route, expect

from accounts import create_account
from apps import App
from browser.clicking import give_password


def serve_swagger_ui(route: Route) -> None:
    """FastAPI's page takes Swagger UI from a CDN; the same files come from its package."""
    modules = os.environ.get("GATEWRIGHT_NODE_DIR")
    assert modules, "GATEWRIGHT_NODE_DIR names no folder with swagger-ui-dist; run the suites with tests/run.py"
    file = Path(modules) / "node_modules/swagger-ui-dist" / Path(route.request.url).name
    route.fulfill(path=file) if file.suffix in (".js", ".css") else route.fulfill(body="", content_type="image/png")


def test_the_authorize_button_signs_in(open_page: Callable[..., Page], app: App) -> None:
    page, account = open_page(), create_account(app.server, "docs")
    page.context.route(lambda url: not url.startswith((app.url, app.server.url)), serve_swagger_ui)
    page.goto(f"{app.url}/docs")
    page.get_by_role("button", name="Authorize").click()
    with page.expect_popup() as opened:
        page.locator(".modal-ux .auth-container").filter(has_text="authorizationCode").get_by_role(
            "button", name="Apply given OAuth2 credentials"
        ).click()
    give_password(opened.value, account.email)
    # Swagger UI has the token now, and offers to forget it.
    expect(page.locator(".modal-ux").get_by_role("button", name="Remove authorization")).to_be_visible()
    page.locator(".modal-ux .btn-done").first.click()

    page.locator("#operations-default-list_expenses_expenses_get").get_by_role("button").first.click()
    page.get_by_role("button", name="Try it out").click()
    with page.expect_response(f"{app.url}/expenses") as answered:
        page.get_by_role("button", name="Execute").click()
    answer = answered.value
    assert answer.status == 200 and answer.json() == []
    assert answer.request.headers["authorization"].startswith("Bearer ey")
