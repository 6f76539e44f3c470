"""Step-up end to end: a guard refuses, the browser goes to the sign-in with what is missing, and comes back with it (RFC 9470)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from accounts import PASSWORD, create_account, sign_in_by_api
from guard.faces import COOKIE, ask_with_cookie, ask_with_token
from guard.guarded import Guarded, guarded_app
from hosted_pages import Browser, Page, authorize_url, is_on, sign_in
from organizations import read_claims
from running_server import Server
from second_factors import enroll


@pytest.fixture(scope="module")
def app(server: Server) -> Iterator[Guarded]:
    with guarded_app(server, redirect_to_login=True) as app:
        yield app


def held_cookie(browser: Browser) -> str:
    return browser.cookies["localhost", COOKIE, "/"].value


def claims_of(page: Page) -> dict[str, Any]:
    assert page.status == 200, (page.url, page.text[:300])
    return dict(page.response.json()["claims"])


def test_a_page_that_wants_a_second_factor_leads_to_it_and_back(app: Guarded, server: Server) -> None:
    account, browser = create_account(server), Browser()
    here = sign_in(browser, server, f"{app.url}/auth/login?return_to=/me", account.email, PASSWORD)
    weak = claims_of(here)
    assert (weak["acr"], weak["amr"]) == ("aal1", ["pwd"])
    kept = held_cookie(browser)

    # Told to a script, which is sent nowhere.
    told = app.http.get(f"{app.url}/second-factor", headers={"cookie": f"{COOKIE}={kept}", "sec-fetch-mode": "cors"})
    challenge = told.headers["www-authenticate"]
    assert told.status_code == 401
    assert 'error="insufficient_user_authentication"' in challenge and 'acr_values="aal2"' in challenge and 'max_age="3600"' in challenge

    # Done by a person, who has none yet and is asked nothing twice.
    asked = browser.open(f"{app.url}/second-factor?x=1")
    assert is_on(server, asked) and "/mfa/enroll" in asked.url, asked.url
    back, authenticator, _ = enroll(browser, asked)
    assert back.url == f"{app.url}/second-factor?x=1"
    strong = claims_of(back)
    assert strong["acr"] == "aal2" and set(strong["amr"]) == {"pwd", "otp", "mfa"}
    assert strong["auth_time"] >= weak["auth_time"]
    assert strong["sid"] != weak["sid"]

    # The session of before goes on with what it is: nothing more, and not less.
    assert ask_with_cookie(app, kept, "/me").status == 200
    assert app.http.get(f"{app.url}/second-factor", headers={"cookie": f"{COOKIE}={kept}", "sec-fetch-mode": "cors"}).status_code == 401

    # Another browser proves both, and is not asked again.
    other = Browser()
    page = sign_in_to_challenge(other, server, f"{app.url}/auth/login?return_to=/second-factor", account.email)
    back = other.submit(page, page.load_form("code"), code=authenticator.code())
    assert back.url == f"{app.url}/second-factor" and claims_of(back)["acr"] == "aal2"


def sign_in_to_challenge(browser: Browser, server: Server, start: str, email: str) -> Page:
    page = browser.open(start)
    page = browser.submit(page, page.load_form("email"), email=email)
    page = browser.submit(page, page.load_form("password"), password=PASSWORD)
    assert is_on(server, page) and urlsplit(page.url).path == "/mfa", (page.url, page.text[:300])
    return page


def test_a_page_that_wants_a_young_sign_in_asks_for_the_password_and_leads_back(app: Guarded, server: Server) -> None:
    account, browser = create_account(server), Browser()
    sign_in(browser, server, f"{app.url}/auth/login", account.email, PASSWORD)
    assert browser.open(f"{app.url}/young").status == 200
    time.sleep(3.5)
    asked = browser.open(f"{app.url}/young")
    assert is_on(server, asked) and asked.find_form("email"), (asked.url, asked.text[:300])
    page = browser.submit(asked, asked.load_form("email"), email=account.email)
    back = browser.submit(page, page.load_form("password"), password=PASSWORD)
    assert (back.url, back.status) == (f"{app.url}/young", 200)


def test_row_12_max_age_zero_and_prompt_login_ask_again_and_prompt_none_shows_no_page(server: Server) -> None:
    account, browser = create_account(server), Browser()
    assert sign_in(browser, server, authorize_url(server), account.email, PASSWORD).query["code"]
    assert browser.open(authorize_url(server)).query["code"], "signed in already"
    for again in ({"max_age": "0"}, {"prompt": "login"}):
        asked = browser.open(authorize_url(server, **again))
        assert is_on(server, asked) and asked.find_form("email"), again
    assert browser.open(authorize_url(server, prompt="none", max_age="0")).query["error"] == "login_required"
    assert browser.open(authorize_url(server, prompt="none", acr_values="aal2")).query["error"] == "interaction_required"
    assert browser.open(authorize_url(server, prompt="none", acr_values="urn:example:loa3")).query["code"], "unknown values are voluntary"


def test_a_bearer_token_of_one_factor_is_refused_whatever_it_asks_for(app: Guarded, server: Server) -> None:
    account = create_account(server)
    token = sign_in_by_api(server, app.http, account)["access_token"]
    assert read_claims(token)["acr"] == "aal1"
    assert ask_with_token(app, token, "/second-factor").status == 401
    assert ask_with_token(app, token, "/me").status == 200


@pytest.mark.parametrize("query", ["acr_values=aal1", "acr_values=aal2%20x", "max_age=-1", "max_age=x", "prompt=none&acr_values=x"])
def test_a_link_to_the_sign_in_asks_for_nothing_else(app: Guarded, query: str) -> None:
    answer = app.http.get(f"{app.url}/auth/login?{query}")
    sent = parse_qs(urlsplit(answer.headers["location"]).query)
    assert not {"acr_values", "max_age", "prompt"} & set(sent), sent
