"""Passkeys in Chromium, with a virtual authenticator behind the DevTools protocol."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from accounts import Account, create_account, open_api
from apps import App
from browser.clicking import give_password, is_at, press, tab_to
from browser.looking import look
from running_server import Server

OpenPage = Callable[..., Page]
BUTTON = "form[action='/sign-in/passkey'] button"


class Device:
    """What stands in for a phone or a fingerprint reader, and for whoever holds it."""

    def __init__(self, page: Page, **more: Any) -> None:
        self.devtools = page.context.new_cdp_session(page)
        self.devtools.send("WebAuthn.enable", {"enableUI": False})
        options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True}
        options |= {"isUserVerified": True, "automaticPresenceSimulation": True, **more}
        self.id = self.devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]

    def credentials(self) -> list[dict[str, Any]]:
        return list(self.devtools.send("WebAuthn.getCredentials", {"authenticatorId": self.id})["credentials"])

    def respond(self, willing: bool) -> None:
        """Whether the person touches it when it asks."""
        self.devtools.send("WebAuthn.setAutomaticPresenceSimulation", {"authenticatorId": self.id, "enabled": willing})

    def recognise(self, verified: bool) -> None:
        """Whether it knows the finger."""
        self.devtools.send("WebAuthn.setUserVerified", {"authenticatorId": self.id, "isUserVerified": verified})


def make_passkey(page: Page, server: Server, account: Account) -> None:
    """On the page that asks who it is first."""
    page.goto(f"{server.url}/passkeys/new?client_id={server.client_id}")
    give_password(page, account.email)
    page.get_by_role("button", name="Create a passkey").click()
    expect(page.get_by_text("The passkey is saved")).to_be_visible()


def sign_out(page: Page, app: App) -> None:
    page.goto(app.url)
    page.get_by_role("button", name="Sign out").click()
    is_at(page, app)
    # The browser's own session at the server, too: or it would answer instead of the passkey.
    page.context.clear_cookies()


def passkeys_of(server: Server, account: Account) -> list[dict[str, Any]]:
    with open_api(server) as api:
        return list(api.get(f"/user_management/users/{account.id}/passkeys").json()["data"])


def authentication_events(server: Server) -> list[str]:
    with open_api(server) as api:
        names = ["authentication.passkey_succeeded", "authentication.passkey_failed"]
        return [event["event"] for event in api.get("/events", params={"events": ",".join(names), "limit": 100}).json()["data"]]


def test_make_a_passkey_sign_in_with_it_lose_it_and_recover(open_page: OpenPage, app: App) -> None:
    server, account, page = app.server, create_account(app.server, "passkey"), open_page()
    # By the button alone: what the browser offers by itself, this device would answer before anybody presses.
    page.add_init_script("PublicKeyCredential.isConditionalMediationAvailable = async () => false")
    device = Device(page)
    device.respond(False)
    page.goto(f"{server.url}/passkeys/new?client_id={server.client_id}")
    give_password(page, account.email)
    expect(page.get_by_role("button", name="Create a passkey")).to_be_visible()
    look(page, "new-passkey")
    device.respond(True)
    tab_to(page, "Create a passkey")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The passkey is saved")).to_be_visible()
    look(page, "new-passkey-made")
    [credential], [passkey] = device.credentials(), passkeys_of(server, account)
    assert credential["isResidentCredential"] and credential["rpId"] == "localhost"
    assert passkey["name"].startswith("Passkey of ") and passkey["last_used_at"] is None

    # By the button, with the keyboard.
    device.respond(False)
    page.context.clear_cookies()
    page.goto(app.login)
    expect(page.locator(BUTTON)).to_be_visible()
    look(page, "sign-in-passkey")
    page.goto(app.login)
    device.respond(True)
    tab_to(page, "Use a passkey")
    page.keyboard.press("Enter")
    is_at(page, app)
    expect(page.get_by_text(account.email)).to_be_visible()
    assert passkeys_of(server, account)[0]["last_used_at"]
    assert "authentication.passkey_succeeded" in authentication_events(server)

    # Lost: taken away by whoever looks after the accounts. The device does not know, and is refused.
    sign_out(page, app)
    with open_api(server) as api:
        assert api.delete(f"/user_management/users/{account.id}/passkeys/{passkey['id']}").status_code == 204
    device.respond(False)
    page.goto(app.login)
    expect(page.locator(BUTTON)).to_be_visible()
    device.respond(True)
    page.locator(BUTTON).click()
    expect(page.get_by_text("This passkey does not work here")).to_be_visible()
    device.respond(False)
    look(page, "sign-in-passkey-refused")

    # Recovered by a mailed code, and a new passkey made.
    press(page, "email", account.email)
    page.locator("form[action='/sign-in/code/send'] button").click()
    page.locator("input[name=code]").wait_for()
    press(page, "code", server.take_code(account.email))
    is_at(page, app)
    device.devtools.send("WebAuthn.clearCredentials", {"authenticatorId": device.id})
    device.respond(True)
    page.goto(f"{server.url}/passkeys/new?client_id={server.client_id}")
    page.get_by_role("button", name="Create a passkey").click()
    expect(page.get_by_text("The passkey is saved")).to_be_visible()
    assert len(passkeys_of(server, account)) == 1 == len(device.credentials())


def test_the_browser_offers_the_passkey_at_the_field_of_the_address(open_page: OpenPage, app: App) -> None:
    """Conditional UI: nobody presses anything. The virtual device stands for the choice in the browser's list."""
    account, page = create_account(app.server, "conditional"), open_page()
    device = Device(page)
    make_passkey(page, app.server, account)
    page.context.clear_cookies()
    assert page.evaluate("PublicKeyCredential.isConditionalMediationAvailable()")
    with page.expect_request("**/sign-in/passkey/options"):
        page.goto(app.login)
    is_at(page, app)
    expect(page.get_by_text(account.email)).to_be_visible()
    assert len(device.credentials()) == 1


def test_who_does_not_touch_the_device_is_told_nothing_and_goes_on(open_page: OpenPage, app: App) -> None:
    account, page = create_account(app.server, "unwilling"), open_page()
    device = Device(page)
    make_passkey(page, app.server, account)
    page.context.clear_cookies()
    device.respond(False)
    page.goto(app.login)
    # A device that does not know the finger refuses, as one does that is put away.
    device.recognise(False)
    page.locator(BUTTON).click()
    expect(page.locator("[data-failed]")).to_be_hidden()
    give_password(page, account.email)
    is_at(page, app)


@pytest.mark.parametrize("javascript", [True, False], ids=["without-passkeys", "without-javascript"])
def test_the_button_is_not_there_where_it_would_do_nothing(open_page: OpenPage, app: App, javascript: bool) -> None:
    page = open_page(java_script_enabled=javascript)
    if javascript:
        page.add_init_script("delete window.PublicKeyCredential")
    page.goto(app.login)
    expect(page.get_by_role("button", name="Continue")).to_be_visible()
    expect(page.locator(BUTTON)).to_be_hidden()
    give_password(page, create_account(app.server, "plain").email)
    is_at(page, app)
    page.goto(f"{app.server.url}/passkeys/new?client_id={app.server.client_id}")
    expect(page.get_by_text(re.compile("This browser cannot make passkeys"))).to_be_visible()
    expect(page.get_by_role("button", name="Create a passkey")).to_be_hidden()
    look(page, "new-passkey-none")
