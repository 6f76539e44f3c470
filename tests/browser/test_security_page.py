"""A person's own account, by clicking and by keyboard alone, with and without JavaScript."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from accounts import PASSWORD, create_account
from browser.clicking import give_password, press, tab_to, type_into
from browser.looking import look
from running_server import Server
from second_factors import Authenticator

OpenPage = Callable[..., Page]

CHROME_ON_A_MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36"
JAVASCRIPT = pytest.mark.parametrize("javascript", [True, False], ids=["with-javascript", "without-javascript"])
SAFARI_ON_A_PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
)


def account(server: Server) -> str:
    return f"{server.url}/account?client_id={server.client_id}"


def is_on_the_account(page: Page) -> None:
    expect(page).to_have_url(re.compile(r"/account\?client_id="))


@JAVASCRIPT
def test_see_sessions_and_sign_out_the_others(open_page: OpenPage, server: Server, javascript: bool) -> None:
    person = create_account(server, "devices")
    phone = open_page(user_agent=SAFARI_ON_A_PHONE, viewport={"width": 390, "height": 844})
    phone.goto(account(server))
    give_password(phone, person.email)
    is_on_the_account(phone)

    page = open_page(java_script_enabled=javascript, user_agent=CHROME_ON_A_MAC)
    page.goto(account(server))
    give_password(page, person.email)
    is_on_the_account(page)
    expect(page.get_by_text("This browser")).to_have_count(1)
    expect(page.get_by_text("Safari on iPhone")).to_have_count(2)  # the row, and the hidden end of its button's name
    if javascript:
        look(page, "account")
    page.get_by_role("link", name="Sign out others").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign out 1 other place?")
    if javascript:
        look(page, "account-sign-out-others")
    page.get_by_role("button", name="Sign out others").click()
    is_on_the_account(page)
    expect(page.get_by_role("status")).to_contain_text("signed out everywhere else")
    expect(page.get_by_text("Safari on iPhone")).to_have_count(0)
    phone.goto(account(server))
    expect(phone.locator("input[name=email]")).to_be_visible()


def test_change_the_password_by_keyboard_alone(open_page: OpenPage, server: Server) -> None:
    page, person, new = open_page(), create_account(server, "keyboard"), PASSWORD + " again"
    page.goto(account(server))
    give_password(page, person.email)
    is_on_the_account(page)
    tab_to(page, "Change Password")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Change your password")
    expect(page.get_by_label("Current password")).to_be_focused()
    look(page, "account-password")
    page.keyboard.type("not my password")
    page.keyboard.press("Tab")
    page.keyboard.type(new)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_focused()
    expect(page.get_by_label("Current password")).to_have_attribute("aria-invalid", "true")
    look(page, "account-password-wrong")
    page.get_by_label("Current password").focus()
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Tab")
    page.keyboard.type(new)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("password is changed")
    assert "password" in server.take_mail(person.email).subject


@JAVASCRIPT
def test_change_the_address(open_page: OpenPage, server: Server, javascript: bool) -> None:
    page, person = open_page(java_script_enabled=javascript), create_account(server, "moving")
    page.goto(account(server))
    give_password(page, person.email)
    tab_to(page, "Change E-mail address")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Change your e-mail address")
    if javascript:
        look(page, "account-email")
    new = "new-" + person.email
    type_into(page, "email", new)
    expect(page.get_by_role("heading", level=1)).to_have_text("Check your new mailbox")
    if javascript:
        look(page, "account-email-code")
    page.get_by_role("link", name="Security").first.click()
    expect(page.get_by_role("heading", name=new)).to_be_visible()
    if javascript:
        look(page, "account-email-waiting")
    tab_to(page, "Enter code")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Check your new mailbox")
    type_into(page, "code", server.take_code(new))
    expect(page.get_by_role("heading", level=1)).to_have_text("Your e-mail address is changed")
    if javascript:
        look(page, "account-email-changed")
    page.get_by_role("link", name="Sign in").click()
    give_password(page, new)
    is_on_the_account(page)
    expect(page.get_by_role("heading", name=new)).to_be_visible()


@JAVASCRIPT
def test_add_and_remove_an_authenticator_app_by_keyboard_alone(open_page: OpenPage, server: Server, javascript: bool) -> None:
    page, person = open_page(java_script_enabled=javascript), create_account(server, "totp")

    def choose(name: str, next_heading: str) -> None:
        tab_to(page, name)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text(next_heading)

    page.goto(account(server))
    give_password(page, person.email)
    is_on_the_account(page)
    choose("Add an authenticator app", "Add an authenticator app")
    if javascript:
        look(page, "account-authenticator")
    choose("Continue", "Scan this with your authenticator app")
    expect(page.get_by_role("img", name=re.compile("QR code"))).to_be_visible()
    if javascript:
        look(page, "account-authenticator-setup")
    app = Authenticator((page.locator("#key").text_content() or "").replace(" ", ""))
    type_into(page, "code", app.wrong_code())
    expect(page.locator("input[name=code]")).to_have_attribute("aria-invalid", "true")
    type_into(page, "code", app.code())
    expect(page.get_by_role("heading", level=1)).to_have_text("Save your recovery codes")
    if javascript:
        look(page, "account-recovery-codes")
    choose("I have saved them", "Security")
    expect(page.get_by_text("10 left")).to_be_visible()
    if javascript:
        look(page, "account-two-step")
    choose("Make new codes", "Recovery codes")
    if javascript:
        look(page, "account-recovery-codes-renew")
    choose("Make new codes", "Save your recovery codes")
    choose("I have saved them", "Security")
    choose("Manage Authenticator app", "Authenticator app")
    if javascript:
        look(page, "account-factor")
    choose("Remove", "Security")
    expect(page.get_by_role("status")).to_contain_text("Removed")


@JAVASCRIPT
def test_add_a_phone_number_by_keyboard_alone(open_page: OpenPage, server: Server, javascript: bool) -> None:
    page, person, number = open_page(java_script_enabled=javascript), create_account(server, "phone"), f"+49151{time.time_ns() % 10**8:08}"
    page.goto(account(server))
    give_password(page, person.email)
    is_on_the_account(page)
    tab_to(page, "Add a phone number")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Add a phone number")
    if javascript:
        look(page, "account-phone")
    type_into(page, "phone_number", "12")
    expect(page.locator("input[name=phone_number]")).to_have_attribute("aria-invalid", "true")
    page.locator("input[name=phone_number]").fill("")
    type_into(page, "phone_number", number)
    expect(page.get_by_role("heading", level=1)).to_have_text("Code from the message")
    if javascript:
        look(page, "account-phone-code")
    code = server.take_code(number)
    type_into(page, "code", "000000" if code != "000000" else "111111")
    expect(page.locator("input[name=code]")).to_have_attribute("aria-invalid", "true")
    if javascript:
        look(page, "account-phone-code-wrong")
    type_into(page, "code", code)
    expect(page.get_by_role("heading", level=1)).to_have_text("Save your recovery codes")
    page.get_by_role("link", name="I have saved them").click()
    expect(page.get_by_text("10 left")).to_be_visible()
    expect(page.get_by_role("status")).to_have_count(0)
    if javascript:
        look(page, "account-two-step-phone")


def test_add_rename_and_remove_a_passkey(open_page: OpenPage, server: Server) -> None:
    page, person = open_page(), create_account(server, "passkey")
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True, "isUserVerified": True}
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": {**options, "automaticPresenceSimulation": True}})
    page.goto(account(server))
    give_password(page, person.email)
    tab_to(page, "Add a passkey")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Add a passkey")).to_be_visible()
    look(page, "account-new-passkey")
    type_into(page, "name", "MacBook")
    expect(page.get_by_role("status")).to_contain_text("Your passkey is ready")
    expect(page.get_by_role("heading", name="MacBook")).to_be_visible()
    look(page, "account-passkeys")
    page.get_by_role("link", name="Manage MacBook").click()
    look(page, "account-passkey")
    press(page, "name", "Key ring")
    page.get_by_role("link", name="Manage Key ring").click()
    page.get_by_role("button", name="Remove this passkey").click()
    expect(page.get_by_role("status")).to_contain_text("The passkey is removed")
    expect(page.get_by_role("heading", name="Key ring")).to_have_count(0)


def test_where_there_is_no_javascript_there_is_no_passkey_to_add(open_page: OpenPage, server: Server) -> None:
    page, person = open_page(java_script_enabled=False), create_account(server, "no-script")
    page.goto(account(server))
    give_password(page, person.email)
    page.get_by_role("link", name="Add a passkey").click()
    expect(page.get_by_text(re.compile("This browser cannot"))).to_be_visible()
    expect(page.get_by_role("button", name="Add a passkey")).to_be_hidden()
    look(page, "account-new-passkey-no-script")
    page.get_by_role("link", name="Security").first.click()
    is_on_the_account(page)
