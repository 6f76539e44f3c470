"""Second factors by clicking: enrolled because the policy wants one, asked for, refused when used twice, lost with the phone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from accounts import create_account
from browser.clicking import give_password, press, tab_to, type_into
from browser.looking import look
from hosted_pages import authorize_url
from running_server import Server, open_database, start_server
from second_factors import Authenticator, read_recovery_codes, read_secret

OpenPage = Callable[..., Page]
# Any page of the server that answers.
CALLBACK = "/health"
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose environment lets nobody in without a second factor."""
    data = tmp_path_factory.mktemp("second-factors")
    with open_database() as database:
        server = start_server(data=data, database=database)
        try:
            server.set_settings(data, mfa="required")
            yield server
        finally:
            assert server.stop() == 0


def open_sign_in(page: Page, server: Server, email: str, **parameters: str) -> None:
    """To the page after the password. No app is there: what matters is the address that the browser is sent to."""
    page.goto(authorize_url(server, redirect_uri=server.url + CALLBACK, **parameters))
    give_password(page, email)


def is_back(page: Page) -> dict[str, str]:
    expect(page).to_have_url(re.compile(re.escape(CALLBACK)))
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def enroll(page: Page) -> tuple[Authenticator, list[str]]:
    expect(page.get_by_role("heading", name="Add a second factor")).to_be_visible()
    authenticator = Authenticator(read_secret(page.content()))
    press(page, "code", authenticator.code())
    expect(page.get_by_role("heading", name="Save your recovery codes")).to_be_visible()
    codes = read_recovery_codes(page.content())
    assert len(codes) == 10
    return authenticator, codes


@pytest.mark.parametrize("options", [{}, PHONE, {"java_script_enabled": False}], ids=["desktop", "phone", "no-script"])
def test_from_the_enrolment_to_a_lost_phone(open_page: OpenPage, strict: Server, options: dict[str, Any]) -> None:
    account, looks = create_account(strict), not options
    page = open_page(**options)
    open_sign_in(page, strict, account.email)
    if looks:
        expect(page.get_by_role("img", name="QR code")).to_be_visible()
        page.get_by_text("Can’t scan it?").click()
        look(page, "mfa-enroll")
    press(page, "code", "000000")
    expect(page.get_by_role("alert")).to_contain_text("That code is not right")
    assert page.title().startswith("Error: ")
    if looks:
        look(page, "mfa-enroll-wrong")
    authenticator, codes = enroll(page)
    if looks:
        look(page, "recovery-codes")
        with page.expect_download() as downloading:
            page.get_by_role("link", name="Download").click()
        assert all(code in downloading.value.path().read_text() for code in codes)
    page.get_by_role("button", name="I have saved them").click()
    assert is_back(page)["code"]

    # Another browser: a used code, the next one, and the way back to a page that is over.
    page = open_page(**options)
    open_sign_in(page, strict, account.email)
    expect(page.get_by_role("heading", name="Confirm it’s you")).to_be_visible()
    asked = page.url
    if looks:
        look(page, "mfa")
    press(page, "code", authenticator.last_code())
    expect(page.get_by_role("alert")).to_contain_text("This code was already used")
    if looks:
        look(page, "mfa-used")
    press(page, "code", authenticator.code())
    assert is_back(page)["code"]
    page.goto(asked)
    expect(page.locator("h1")).to_contain_text("expired")

    # Without the phone.
    page = open_page(**options)
    open_sign_in(page, strict, account.email)
    page.get_by_role("link", name="Use a recovery code").click()
    if looks:
        look(page, "mfa-recovery-code")
    press(page, "code", codes[3].upper().replace("-", " "))
    assert is_back(page)["code"]
    page = open_page(**options)
    open_sign_in(page, strict, account.email)
    page.get_by_role("link", name="Use a recovery code").click()
    press(page, "code", codes[3])
    expect(page.get_by_role("alert")).to_contain_text("It may have been used before")


def test_with_the_keyboard_alone(open_page: OpenPage, strict: Server) -> None:
    account, page = create_account(strict), open_page()
    open_sign_in(page, strict, account.email)
    expect(page.get_by_role("heading", name="Add a second factor")).to_be_visible()
    authenticator = Authenticator(read_secret(page.content()))
    type_into(page, "code", authenticator.code())
    expect(page.get_by_role("heading", name="Save your recovery codes")).to_be_visible()
    codes = read_recovery_codes(page.content())
    tab_to(page, "I have saved them")
    page.keyboard.press("Enter")
    assert is_back(page)["code"]

    page = open_page()
    open_sign_in(page, strict, account.email)
    expect(page.locator("input[name=code]")).to_be_focused()
    page.keyboard.type(authenticator.code())
    page.keyboard.press("Enter")
    assert is_back(page)["code"]

    page = open_page()
    open_sign_in(page, strict, account.email)
    tab_to(page, "Use a recovery code")
    page.keyboard.press("Enter")
    expect(page.locator("input[name=code]")).to_be_focused()
    page.keyboard.type(codes[0])
    page.keyboard.press("Enter")
    assert is_back(page)["code"]


@pytest.mark.parametrize("options", [{}, {"java_script_enabled": False}], ids=["with-javascript", "without-javascript"])
def test_by_text_message_and_by_keyboard(open_page: OpenPage, strict: Server, options: dict[str, Any]) -> None:
    account, looks, number = create_account(strict), not options, f"+49151{time.time_ns() % 10**8:08}"
    page = open_page(**options)
    open_sign_in(page, strict, account.email)
    tab_to(page, "Use text messages instead")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Add your mobile number")
    if looks:
        look(page, "mfa-enroll-sms")
    type_into(page, "phone_number", "12")
    expect(page.locator("input[name=phone_number]")).to_have_attribute("aria-invalid", "true")
    if looks:
        look(page, "mfa-enroll-sms-wrong")
    page.locator("input[name=phone_number]").fill("")
    type_into(page, "phone_number", f"{number[:3]} {number[3:6]} {number[6:]}")
    expect(page.get_by_text("We sent a text message")).to_be_visible()
    if looks:
        look(page, "mfa-enroll-sms-code")
    code = strict.take_code(number)
    type_into(page, "code", "000000" if code != "000000" else "111111")
    expect(page.get_by_role("alert")).to_contain_text("That code is not right")
    if looks:
        look(page, "mfa-enroll-sms-code-wrong")
    type_into(page, "code", code)
    expect(page.get_by_role("heading", name="Save your recovery codes")).to_be_visible()
    tab_to(page, "I have saved them")
    page.keyboard.press("Enter")
    assert is_back(page)["code"]

    page = open_page(**options)
    open_sign_in(page, strict, account.email)
    expect(page.get_by_role("heading", name="Confirm it’s you")).to_be_visible()
    assert number not in page.content(), "the whole number"
    if looks:
        look(page, "mfa-sms")
    tab_to(page, "Send the code")
    page.keyboard.press("Enter")
    expect(page.locator("input[name=code]")).to_be_visible()
    strict.take_code(number)
    tab_to(page, "Send a new code")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("A new code")
    if looks:
        look(page, "mfa-sms-sent-again")
    type_into(page, "code", strict.take_code(number))
    assert is_back(page)["code"]


def test_who_cancels_is_back_at_the_app(open_page: OpenPage, strict: Server) -> None:
    account, page = create_account(strict), open_page()
    open_sign_in(page, strict, account.email, state="kept")
    page.get_by_role("button", name=re.compile("Cancel")).click()
    answer = is_back(page)
    assert (answer["error"], answer["state"]) == ("access_denied", "kept")


def test_in_german(open_page: OpenPage, strict: Server) -> None:
    account, page = create_account(strict), open_page(locale="de-DE")
    open_sign_in(page, strict, account.email)
    expect(page.get_by_role("heading", name="Zweiten Faktor einrichten")).to_be_visible()
    look(page, "mfa-enroll-de")
