"""A sign-in that looks like somebody else's: a page that asks for a mailed code, and a refusal that tells nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from accounts import PASSWORD, Account, create_account, open_api
from browser.clicking import give_password, press, tab_to
from browser.looking import look
from hosted_pages import CALLBACK as NOWHERE
from hosted_pages import Browser, authorize_url, sign_in
from running_server import Server, open_database, start_server

OpenPage = Callable[..., Page]
# Any page of the server that answers.
CALLBACK = "/health"
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def watchful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose environment asks for a code on a device that is new to the account."""
    data = tmp_path_factory.mktemp("radar")
    with open_database() as database:
        server = start_server(data=data, database=database)
        try:
            server.set_settings(data, **{"radar.unrecognized_device": "challenge"})
            yield server
        finally:
            assert server.stop() == 0


def create_known_elsewhere(server: Server, label: str) -> Account:
    """An account that signed in before, on a device that is not the test's."""
    account = create_account(server, label)
    assert sign_in(Browser(), server, authorize_url(server), account.email, PASSWORD).url.startswith(NOWHERE)
    return account


def open_sign_in(page: Page, server: Server, email: str, password: str = PASSWORD) -> None:
    page.goto(authorize_url(server, redirect_uri=server.url + CALLBACK))
    give_password(page, email, password)


def is_asked_for_a_code(page: Page) -> None:
    expect(page).to_have_url(re.compile("/confirm-sign-in"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Check your e-mail to go on")


def is_back(page: Page) -> None:
    expect(page).to_have_url(re.compile(re.escape(CALLBACK) + r"\?.*code="))


@pytest.mark.parametrize("options", [{}, PHONE, {"java_script_enabled": False}], ids=["desktop", "phone", "no-script"])
def test_a_new_device_is_let_in_by_a_mailed_code(open_page: OpenPage, watchful: Server, options: dict[str, Any]) -> None:
    account, looks = create_known_elsewhere(watchful, "device"), not options
    page = open_page(**options)
    open_sign_in(page, watchful, account.email)
    is_asked_for_a_code(page)
    expect(page.get_by_text(account.email)).to_be_visible()
    asked, mail = page.url, watchful.take_mail(account.email)
    assert mail.code and "Confirm" in mail.subject and "change your password" in mail.text
    if looks:
        look(page, "confirm-sign-in")
    press(page, "code", "000000" if mail.code != "000000" else "111111")
    expect(page.get_by_role("alert")).to_contain_text("That code is not right")
    expect(page.locator("input[name=code]")).to_have_attribute("aria-invalid", "true")
    assert page.title().startswith("Error: ")
    if looks:
        look(page, "confirm-sign-in-wrong")
    page.get_by_role("button", name="Send a new code").click()
    expect(page.get_by_role("status")).to_contain_text("A new code")
    if looks:
        look(page, "confirm-sign-in-sent-again")
    newest = watchful.take_code(account.email)
    if newest != mail.code:
        press(page, "code", mail.code)
        expect(page.get_by_role("alert")).to_be_visible()
    press(page, "code", f"{newest[:3]} {newest[3:]}")
    is_back(page)
    # The code and the page are over.
    page.goto(asked)
    expect(page.locator("h1")).to_contain_text("expired")

    # From now on the device is the person's own.
    page.context.clear_cookies()
    open_sign_in(page, watchful, account.email)
    is_back(page)


def test_with_the_keyboard_alone(open_page: OpenPage, watchful: Server) -> None:
    account, page = create_known_elsewhere(watchful, "keyboard"), open_page()
    open_sign_in(page, watchful, account.email)
    is_asked_for_a_code(page)
    expect(page.locator("input[name=code]")).to_be_focused()
    watchful.take_code(account.email)
    tab_to(page, "Send a new code")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_be_visible()
    expect(page.locator("input[name=code]")).to_be_focused()
    page.keyboard.type(watchful.take_code(account.email))
    page.keyboard.press("Enter")
    is_back(page)


def test_who_is_somebody_else_begins_again(open_page: OpenPage, watchful: Server) -> None:
    account, own, page = create_known_elsewhere(watchful, "not-me"), create_account(watchful, "me"), open_page(locale="de-DE")
    open_sign_in(page, watchful, account.email)
    expect(page.get_by_role("heading", level=1)).to_have_text("Weiter geht es in Ihrem Postfach")
    look(page, "confirm-sign-in-de")
    page.get_by_role("link", name="Anderes Konto verwenden").click()
    give_password(page, own.email)
    is_back(page)


def test_a_refused_sign_in_looks_as_one_with_a_wrong_password(open_page: OpenPage, watchful: Server) -> None:
    account, page = create_account(watchful, "blocked"), open_page()

    def what_is_seen(password: str) -> tuple[str, ...]:
        page.context.clear_cookies()
        open_sign_in(page, watchful, account.email, password)
        expect(page.get_by_role("alert")).to_be_visible()
        seen = (page.url, page.title(), page.locator("main").inner_text(), page.content())
        return tuple(re.sub(r'request=[\w-]+|(?<=name="request" value=")[^"]*|(?<=name="csrf" value=")[^"]*', "", part) for part in seen)

    wrong = what_is_seen("wrong wrong wrong")
    with open_api(watchful) as api:
        assert api.post("/radar/lists/email/block", json={"entry": account.email}).is_success
    assert what_is_seen(PASSWORD) == wrong
    with open_api(watchful) as api:
        assert api.request("DELETE", "/radar/lists/email/block", json={"entry": account.email}).is_success
    page.context.clear_cookies()
    open_sign_in(page, watchful, account.email)
    is_back(page)
