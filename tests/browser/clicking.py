"""What a person does on the hosted pages."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from accounts import PASSWORD
from apps import App


def press(page: Page, field: str, value: str) -> None:
    """Fills a field and presses the main button of its form."""
    page.locator(f"input[name={field}]").fill(value)
    page.locator(f"form:has(input[name={field}]) button.primary").click()


def give_password(page: Page, email: str, password: str = PASSWORD) -> None:
    press(page, "email", email)
    press(page, "password", password)


def is_at(page: Page, app: App) -> None:
    expect(page).to_have_url(re.compile(re.escape(app.url) + "/?$"))
