"""Two apps, written with two lines of the official Python SDK, are walked through as a person would."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from accounts import PASSWORD, unique_email
from apps import App, legacy_app, sdk_expense_tracker
from hosted_pages import Browser, sign_in, sign_up
from recording import open_client
from running_server import Server

LIFETIME = 2.3  # seconds; the server's access tokens live two


@pytest.fixture(scope="module", params=[sdk_expense_tracker, legacy_app], ids=["workos-10", "workos-5.46.0"])
def app(request: pytest.FixtureRequest, short_lived: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    run: Callable[[Server, Path], AbstractContextManager[App]] = request.param
    with run(short_lived, tmp_path_factory.mktemp("app") / "expenses.db") as app:
        yield app


def expenses(app: App, browser: Browser) -> tuple[int, object]:
    page = browser.open(f"{app.url}/expenses")
    return page.status, page.response.json()


def add(app: App, browser: Browser, description: str, amount: str) -> int:
    cookie = browser.cookies["localhost", "wos_session", "/"].value
    with open_client(headers={"cookie": f"wos_session={cookie}"}) as client:
        return client.post(f"{app.url}/expenses", json={"description": description, "amount": amount}).status_code


def session_cookie(browser: Browser) -> str:
    return browser.cookies["localhost", "wos_session", "/"].value


def test_sign_up_verify_call_refresh_sign_out_refused(app: App) -> None:
    browser, email = Browser(), unique_email("walk")
    assert browser.open(f"{app.url}/health").status == 200
    assert expenses(app, browser)[0] == 401

    page = sign_up(browser, app.server, f"{app.login}?screen_hint=sign-up", email, PASSWORD)
    assert page.status == 200 and page.url == f"{app.url}/"
    assert expenses(app, browser) == (200, [])
    assert add(app, browser, "Train to Basel", "12.50") == 201
    [row] = expenses(app, browser)[1]  # type: ignore[misc]
    assert (row["description"], row["amount"]) == ("Train to Basel", "12.50")

    first = session_cookie(browser)
    time.sleep(LIFETIME)
    assert expenses(app, browser)[0] == 200
    second = session_cookie(browser)
    assert second != first, "the expired session was not refreshed"

    page = browser.open(app.logout)
    assert page.url.rstrip("/") == app.url and page.status == 200, page.url
    assert expenses(app, browser)[0] == 401

    # The cookies of before, kept by someone, are worth nothing once the access token in them has expired.
    time.sleep(LIFETIME)
    for kept in (first, second):
        with open_client(headers={"cookie": f"wos_session={kept}"}) as thief:
            assert thief.get(f"{app.url}/expenses").status_code == 401

    page = sign_in(browser, app.server, app.login, email, PASSWORD)
    assert page.url == f"{app.url}/"
    assert [row["amount"] for row in expenses(app, browser)[1]] == ["12.50"]  # type: ignore[attr-defined]


def test_two_people_see_only_their_own_rows(app: App) -> None:
    people = [Browser(), Browser()]
    for number, browser in enumerate(people):
        sign_up(browser, app.server, f"{app.login}?screen_hint=sign-up", unique_email("own"), PASSWORD)
        assert add(app, browser, f"row {number}", "1.00") == 201
    for number, browser in enumerate(people):
        assert [row["description"] for row in expenses(app, browser)[1]] == [f"row {number}"]  # type: ignore[attr-defined]


def test_parallel_calls_with_one_expired_session_all_succeed(app: App) -> None:
    from concurrent.futures import ThreadPoolExecutor

    browser = Browser()
    sign_up(browser, app.server, f"{app.login}?screen_hint=sign-up", unique_email("parallel"), PASSWORD)
    cookie = session_cookie(browser)
    time.sleep(LIFETIME)

    def call(_: int) -> int:
        with open_client(headers={"cookie": f"wos_session={cookie}"}) as client:
            return client.get(f"{app.url}/expenses").status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(call, range(16))) == {200}


def test_a_callback_that_another_browser_started_is_refused(app: App) -> None:
    attacker, victim = Browser(), Browser()
    page = attacker.open(app.login)
    # The victim follows the attacker's finished link: without the state cookie nobody is signed in.
    callback = f"{app.url}/callback?code=01JTESTTESTTESTTESTTESTTES&state={page.query.get('state', 'x')}"
    assert victim.open(callback).status == 400
    assert ("localhost", "wos_session", "/") not in victim.cookies
