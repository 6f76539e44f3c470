"""The whole walk by clicking, in Chromium, through the real expense tracker."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from accounts import PASSWORD, Account, authenticate, create_account, open_api, unique_email
from apps import App
from browser.clicking import give_password, is_at, press, tab_to
from browser.looking import look
from hosted_pages import CALLBACK, authorize_url
from organizations import add_member, create_organization
from running_server import Server

OpenPage = Callable[..., Page]


@pytest.mark.parametrize("javascript", [True, False], ids=["with-javascript", "without-javascript"])
def test_sign_up_add_an_expense_sign_out_and_in_again(open_page: OpenPage, app: App, javascript: bool) -> None:
    page, email, server = open_page(java_script_enabled=javascript), unique_email("click"), app.server
    page.goto(app.url)
    page.get_by_role("link", name="Create an account").click()
    page.locator("input[name=first_name]").fill("Ada")
    page.locator("input[name=last_name]").fill("Lovelace")
    page.locator("input[name=email]").fill(email)
    press(page, "password", PASSWORD)
    press(page, "code", server.take_code(email))
    is_at(page, app)
    expect(page.get_by_text(email)).to_be_visible()

    page.get_by_label("What for").fill("Train to Basel")
    page.get_by_label("Amount").fill("12.50")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("cell", name="Train to Basel")).to_be_visible()
    expect(page.get_by_role("cell", name="12.50")).to_have_count(2)

    page.get_by_role("button", name="Sign out").click()
    is_at(page, app)
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()
    assert page.request.get(f"{app.url}/expenses").status == 401

    page.get_by_role("link", name="Sign in").click()
    give_password(page, email)
    is_at(page, app)
    expect(page.get_by_role("cell", name="Train to Basel")).to_be_visible()


def test_choose_an_organization_approve_and_switch(open_page: OpenPage, app: App) -> None:
    server, admin, member = app.server, create_account(app.server, "admin"), create_account(app.server, "member")
    acme, globex = create_organization(server, "Acme Rockets"), create_organization(server, "Globex")
    for account, organization, role in ((admin, acme, "admin"), (admin, globex, "admin"), (member, acme, "member")):
        add_member(server, account, organization, role)
    theirs = open_page()
    theirs.goto(app.login)
    give_password(theirs, member.email)
    is_at(theirs, app)
    expect(theirs.get_by_text("Acme Rockets")).to_be_visible()
    expect(theirs.get_by_role("button", name="Switch")).to_have_count(0)
    theirs.get_by_label("What for").fill("Train to Basel")
    theirs.get_by_label("Amount").fill("42.50")
    theirs.get_by_role("button", name="Add").click()
    expect(theirs.get_by_role("cell", name="Train to Basel")).to_be_visible()

    page = open_page()
    page.goto(app.login)
    give_password(page, admin.email)
    page.get_by_role("button", name="Acme Rockets").click()
    is_at(page, app)
    look(page, "app-everybody")
    page.get_by_role("button", name="Approve Train to Basel").click()
    expect(page.get_by_text("Approved")).to_be_visible()
    page.get_by_label("Another organization of yours").select_option(label="Globex")
    page.get_by_role("button", name="Switch").click()
    is_at(page, app)
    expect(page.locator("main b").first).to_have_text("Globex")
    expect(page.get_by_text("Train to Basel")).to_have_count(0)
    look(page, "app-switched")
    theirs.reload()
    expect(theirs.get_by_text("Approved")).to_be_visible()


@pytest.mark.parametrize("javascript", [True, False], ids=["with-javascript", "without-javascript"])
def test_support_acts_as_a_person_sees_who_it_is_and_stops(open_page: OpenPage, app: App, javascript: bool) -> None:
    account = create_account(app.server, "alice")
    body = {"impersonator_email": "sam@support.test", "reason": "Ticket 4711: her report is empty"}
    body["redirect_uri"] = f"{app.url}{app.auth}/callback"
    with open_api(app.server) as http:
        started = http.post(f"/user_management/users/{account.id}/impersonations", json=body).json()
    page = open_page(java_script_enabled=javascript)
    page.goto(started["url"])
    for said in (account.email, "sam@support.test", "Ticket 4711: her report is empty"):
        expect(page.get_by_text(said).first).to_be_visible()
    look(page, "impersonate")
    tab_to(page, "Act as this person")
    page.keyboard.press("Enter")
    is_at(page, app)
    banner = page.get_by_role("complementary", name="Impersonation")
    expect(banner).to_contain_text(f"You are viewing as {account.email}. Recorded as sam@support.test.")
    look(page, "app-impersonated")
    # Only in this app: at the server's own pages, nobody is signed in here.
    tab_to(page, "Stop now")
    page.keyboard.press("Enter")
    is_at(page, app)
    expect(banner).to_have_count(0)
    page.goto(app.login)
    expect(page.locator("input[name=email]")).to_be_visible()
    with open_api(app.server) as http:
        assert http.get(f"/user_management/impersonations/{started['id']}").json()["state"] == "ended"
    page.goto(started["url"])
    look(page, "impersonate-used")


def test_sign_in_with_a_mailed_code(open_page: OpenPage, app: App) -> None:
    page, account = open_page(), create_account(app.server, "code")
    page.goto(app.login)
    press(page, "email", account.email)
    page.locator("form[action='/sign-in/code/send'] button").click()
    page.locator("input[name=code]").wait_for()
    look(page, "code")
    press(page, "code", "000000")
    expect(page.locator("input[name=code]")).to_have_attribute("aria-invalid", "true")
    look(page, "code-wrong")
    code = app.server.take_code(account.email)
    press(page, "code", f"{code[:3]} {code[3:]}")
    is_at(page, app)
    expect(page.get_by_text(account.email)).to_be_visible()


def test_forgotten_password(open_page: OpenPage, app: App) -> None:
    page, account, new = open_page(), create_account(app.server, "forgot"), PASSWORD + " again"
    page.goto(app.login)
    press(page, "email", account.email)
    page.locator("a[href*='/forgot-password']").first.click()
    look(page, "forgot-password")
    press(page, "email", account.email)
    look(page, "forgot-password-sent")
    [link] = {link for link in app.server.take_mail(account.email).links if "reset" in link}
    page.goto(link)
    look(page, "reset-password")
    press(page, "password", "short")
    look(page, "reset-password-too-short")
    press(page, "password", new)
    look(page, "password-changed")

    page.goto(app.login)
    if page.locator("input[name=email]").count():
        press(page, "email", account.email)
        press(page, "password", PASSWORD)
        expect(page.locator("input[name=password]")).to_have_attribute("aria-invalid", "true")
        press(page, "password", new)
    is_at(page, app)
    page.goto(link)
    assert page.locator("input[name=password]").count() == 0, "the link works twice"
    look(page, "reset-link-used")


def test_device_page(open_page: OpenPage, server: Server, http: httpx.Client) -> None:
    page, account = open_page(), create_account(server, "device")
    asked = http.post(f"{server.url}/user_management/authorize/device", json={"client_id": server.client_id}).json()
    page.goto(asked["verification_uri"])
    look(page, "device")
    press(page, "user_code", "AAAA-AAAA")
    look(page, "device-wrong")
    press(page, "user_code", asked["user_code"].lower().replace("-", ""))
    give_password(page, account.email)
    expect(page.get_by_text(asked["user_code"])).to_be_visible()
    look(page, "device-confirm")
    page.locator("button[name=decision][value=allow]").click()
    expect(page.locator("button[name=decision]")).to_have_count(0)
    look(page, "device-done")
    answer = authenticate(
        server, http, "urn:ietf:params:oauth:grant-type:device_code", device_code=asked["device_code"], client_secret=None
    )
    assert answer.status_code == 200 and answer.json()["user"]["id"] == account.id


def test_a_device_that_is_denied_gets_nothing(open_page: OpenPage, server: Server, http: httpx.Client) -> None:
    page, account = open_page(), create_account(server, "deny")
    asked = http.post(f"{server.url}/user_management/authorize/device", json={"client_id": server.client_id}).json()
    page.goto(asked["verification_uri_complete"])
    page.locator("form:has(input[name=user_code]) button.primary").click()
    give_password(page, account.email)
    page.locator("button[name=decision][value=deny]").click()
    look(page, "device-denied")
    answer = authenticate(
        server, http, "urn:ietf:params:oauth:grant-type:device_code", device_code=asked["device_code"], client_secret=None
    )
    assert (answer.status_code, answer.json()["error"]) == (400, "access_denied")


def test_a_second_app_signs_in_without_asking(open_page: OpenPage, app: App, second_app: App) -> None:
    page, account = open_page(), create_account(app.server, "second")
    page.goto(app.login)
    give_password(page, account.email)
    is_at(page, app)
    page.goto(second_app.login)
    is_at(page, second_app)
    expect(page.get_by_text(account.email)).to_be_visible()


def test_pages_speak_german_to_german_browsers(open_page: OpenPage, app: App) -> None:
    page, account = open_page(locale="de-DE"), create_account(app.server, "deutsch")
    page.goto(app.login)
    assert page.locator("html").get_attribute("lang") == "de"
    english = {"Sign in", "Continue", "Create an account", "Password", "E-mail me a code instead"}
    seen = page.locator("body").inner_text()
    look(page, "sign-in-german")
    press(page, "email", account.email)
    seen += page.locator("body").inner_text()
    look(page, "password-german")
    assert not {words for words in english if words in seen}, "English words on German pages"
    press(page, "password", PASSWORD)
    is_at(page, app)


def test_every_other_page_is_looked_at(open_page: OpenPage, app: App) -> None:
    page, server, email = open_page(), app.server, unique_email("look")
    page.goto(app.url)
    look(page, "app-welcome")
    page.get_by_role("link", name="Sign in").click()
    expect(page.locator("input[name=email]"), "typing can begin at once").to_be_focused()  # the browser gives focus after it painted
    look(page, "sign-in")
    press(page, "email", "no address")
    expect(page.locator("input[name=email]")).to_have_attribute("aria-invalid", "true")
    look(page, "sign-in-wrong")
    press(page, "email", email)
    look(page, "password")
    press(page, "password", "wrong wrong wrong")
    look(page, "password-wrong")

    page.goto(f"{app.login}?screen_hint=sign-up")
    look(page, "sign-up")
    page.locator("input[name=email]").fill(email)
    press(page, "password", "short")
    look(page, "sign-up-wrong")
    page.locator("input[name=email]").fill(email)
    press(page, "password", PASSWORD)
    page.locator("input[name=code]").wait_for()
    look(page, "verify-email")
    press(page, "code", server.take_code(email))
    is_at(page, app)
    look(page, "app-empty")
    for description, amount in (
        ("Train to Basel", "48.60"),
        ("Lunch with the auditors, and a description that is long enough to need two lines", "1203.95"),
    ):
        page.get_by_label("What for").fill(description)
        page.get_by_label("Amount").fill(amount)
        page.get_by_role("button", name="Add").click()
    page.get_by_label("What for").fill("Coffee")
    page.get_by_label("Amount").fill("3.999")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("alert")).to_be_visible()
    look(page, "app-expenses")

    page.goto(f"{server.url}/dev/inbox")
    look(page, "dev-inbox")
    expect(page.get_by_text(email).first).to_be_visible()
    page.goto(authorize_url(server, redirect_uri="https://evil.example/"))
    look(page, "error")
    page.goto(f"{app.url}{app.auth}/callback?code=x&state=y")
    look(page, "app-refused")
    page.goto(f"{server.url}/user_management/sessions/logout?session_id=session_01HXYZHXYZHXYZHXYZHXYZHXYZ")
    if page.url.startswith(server.url):
        look(page, "signed-out")


def test_the_inbox_shows_the_code_to_click_through(open_page: OpenPage, app: App) -> None:
    page, account = open_page(), create_account(app.server, "inbox")
    page.goto(app.login)
    press(page, "email", account.email)
    page.locator("form[action='/sign-in/code/send'] button").click()
    code = app.server.take_code(account.email)
    inbox = page.context.new_page()
    inbox.goto(f"{app.server.url}/dev/inbox")
    expect(inbox.get_by_text(account.email).first).to_be_visible()
    inbox.get_by_text(account.email).first.click()
    expect(inbox.locator("body")).to_contain_text(re.compile(f"{code[:3]}.?{code[3:]}"))


def test_the_password_can_be_shown_and_is_not_sent_twice(open_page: OpenPage, server: Server, account: Account) -> None:
    page = open_page()
    page.goto(authorize_url(server, redirect_uri=CALLBACK))
    press(page, "email", account.email)
    field = page.locator("input[name=password]")
    field.fill(PASSWORD)
    page.locator("button[aria-controls=password]").click()
    expect(field).to_have_attribute("type", "text")
    page.locator("button[aria-controls=password]").click()
    expect(field).to_have_attribute("type", "password")
    assert field.get_attribute("autocomplete") == "current-password"
