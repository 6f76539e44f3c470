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


def tab_to(page: Page, name: str) -> None:
    """Presses Tab until the element of that name has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement?.textContent.replace(/\\s+/g, ' ').trim()") == name:
            return
    raise AssertionError(f"{name!r} cannot be reached by keyboard")


def tab_to_field(page: Page, name: str) -> None:
    """Presses Tab until the field of that name has the focus."""
    for _ in range(60):
        if page.evaluate("() => document.activeElement?.name") == name:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the field {name} cannot be reached by keyboard")


def type_into(page: Page, name: str, value: str) -> None:
    """By keyboard alone: goes to the field, types, and sends the form."""
    tab_to_field(page, name)
    page.keyboard.type(value)
    page.keyboard.press("Enter")


def is_at(page: Page, app: App) -> None:
    expect(page).to_have_url(re.compile(re.escape(app.url) + "/?$"))
