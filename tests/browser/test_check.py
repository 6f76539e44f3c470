"""The check of a browser where more come than the limits allow: a calculation in Chromium, and a wait without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, Request, expect

from accounts import PASSWORD, create_account, unique_email
from browser.clicking import give_password, press, tab_to
from browser.looking import look
from hosted_pages import Browser, authorize_url, sign_up
from running_server import Server, running_server

OpenPage = Callable[..., Page]
# Any page of the server that answers.
CALLBACK = "/health"
SIGN_UP = {"screen_hint": "sign-up"}
# Stands for a browser whose workers cannot run what we have.
NO_WORKERS = "window.Worker = class extends EventTarget { postMessage() { setTimeout(() => this.dispatchEvent(new Event('error'))) } }"


@pytest.fixture(scope="module")
def flooded() -> Iterator[Server]:
    """A server where one account an hour may begin without a check, and has."""
    with running_server(limits=True, configuration={"limits.sign_ups_per_hour": "1", "limits.hosted_per_ip": "1000"}) as server:
        sign_up(Browser(), server, authorize_url(server, **SIGN_UP), unique_email("first"), PASSWORD)
        yield server


def open_pages(page: Page, server: Server, **parameters: str) -> None:
    page.goto(authorize_url(server, redirect_uri=server.url + CALLBACK, **parameters))


def is_back(page: Page) -> None:
    expect(page).to_have_url(re.compile(re.escape(CALLBACK) + r"\?.*code="))


def is_told_to_wait(page: Page, minutes: str) -> None:
    """Once, in `noscript` or by the script."""
    expect(page.locator(".alert.warn:visible")).to_have_text(
        re.compile(rf"The check cannot run here\s+It needs JavaScript\. Wait {minutes}, then"), use_inner_text=True
    )


def hold_the_search(page: Page) -> None:
    """The check goes on and on, until the page is looked at."""
    page.route("**/proof_worker.*", lambda route: None)


def test_the_browser_calculates_and_the_person_signs_up(open_page: OpenPage, flooded: Server) -> None:
    page, email = open_page(), unique_email("checked")
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request))
    open_pages(page, flooded, **SIGN_UP)
    # Nobody presses anything.
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^Create your"))
    [answer] = [request for request in asked if request.method == "POST"]
    assert urlsplit(answer.url).path == "/check" and {urlsplit(request.url).netloc for request in asked} == {urlsplit(flooded.url).netloc}

    # It counts once, in this very browser too.
    sent = {name: values[0] for name, values in parse_qs(answer.post_data or "").items()}
    assert sent["solution"].isdigit()
    again = page.request.post(answer.url, form=sent, headers={"origin": flooded.url, "sec-fetch-site": "same-origin"}, max_redirects=0)
    assert again.status == 422 and "That check did not work" in again.text()

    page.locator("input[name=email]").fill(email)
    press(page, "password", PASSWORD)
    press(page, "code", flooded.take_code(email))
    is_back(page)


def test_the_page_while_it_calculates_and_with_an_answer_that_was_wrong(open_page: OpenPage, flooded: Server) -> None:
    for locale, name in (("en-US", "check"), ("de-DE", "check-de")):
        page = open_page(locale=locale)
        hold_the_search(page)
        open_pages(page, flooded, **SIGN_UP)
        expect(page.get_by_role("status")).to_be_visible()
        look(page, name)
    page = open_page()
    hold_the_search(page)
    open_pages(page, flooded, **SIGN_UP)
    page.locator("form").evaluate("form => form.submit()")
    expect(page.get_by_role("alert")).to_contain_text("That check did not work")
    assert page.title().startswith("Error: ")
    look(page, "check-wrong")


@pytest.mark.parametrize("javascript", [True, False], ids=["without-workers", "without-javascript"])
def test_a_browser_that_cannot_calculate_is_told_how_long_to_wait(open_page: OpenPage, flooded: Server, javascript: bool) -> None:
    account, page = create_account(flooded, "waiting"), open_page(java_script_enabled=javascript)
    if javascript:
        page.add_init_script(NO_WORKERS)
    open_pages(page, flooded, **SIGN_UP)
    is_told_to_wait(page, "(5[0-9]|60) minutes")
    expect(page.get_by_role("status")).to_be_hidden()
    look(page, "check-no-workers" if javascript else "check-no-script")
    # Too early: the same page, which says so again.
    page.get_by_role("link", name="go on without it").click()
    is_told_to_wait(page, r"\d+ minutes")
    # Who has an account has nothing to wait for.
    page.get_by_role("link", name="Sign in").click()
    give_password(page, account.email)
    is_back(page)


def test_over_the_limit_of_tries_a_person_signs_in_by_keyboard_alone(open_page: OpenPage) -> None:
    with running_server(limits=True, configuration={"limits.hosted_per_ip": "2"}) as server:
        account, somebody = create_account(server, "late"), open_page()
        open_pages(somebody, server)
        give_password(somebody, create_account(server, "first").email)
        is_back(somebody)

        page = open_page(java_script_enabled=False)
        open_pages(page, server)
        press(page, "email", account.email)
        is_told_to_wait(page, "1 minute")
        page.get_by_role("link", name="Back, without the check").click()
        expect(page.locator("input[name=email]")).to_have_value(account.email)

        page = open_page()
        open_pages(page, server)
        expect(page.locator("input[name=email]")).to_be_focused()
        page.keyboard.type(account.email)
        with page.expect_request(re.compile("/check$")):
            page.keyboard.press("Enter")
        # What was typed is still there.
        expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^Sign in"))
        expect(page.locator("input[name=email]")).to_have_value(account.email)
        tab_to(page, "Continue")
        page.keyboard.press("Enter")
        expect(page.locator("input[name=password]")).to_be_focused()
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        is_back(page)
