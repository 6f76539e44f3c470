"""What the example app promises about its rows, whoever signs in, guarded by `gatewright.fastapi` and by the SDK."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet

from accounts import PASSWORD, unique_email
from apps import EXPENSE_TRACKER, App, expense_tracker, sdk_expense_tracker
from hosted_pages import Browser, sign_up
from recording import open_client
from running_server import Server


@pytest.fixture(scope="module", params=[expense_tracker, sdk_expense_tracker], ids=["gatewright", "workos"])
def app(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    run: Callable[[Server, Path], AbstractContextManager[App]] = request.param
    with run(server, tmp_path_factory.mktemp("app") / "expenses.db") as app:
        yield app


@pytest.fixture(scope="module")
def signed_in(app: App) -> Iterator[httpx.Client]:
    browser = Browser()
    sign_up(browser, app.server, f"{app.login}?screen_hint=sign-up", unique_email("rows"), PASSWORD)
    cookie = browser.cookies["localhost", "wos_session", "/"]
    assert "httponly" in cookie.attributes and cookie.attributes["samesite"].lower() == "lax"
    # `Origin` is what a browser says of a page of the app itself.
    with open_client(base_url=app.url, headers={"cookie": f"wos_session={cookie.value}", "origin": app.url}) as client:
        yield client


def test_amounts_are_exact_decimals(signed_in: httpx.Client) -> None:
    for amount in ("0.10", "0.20", "999999999.99"):
        answer = signed_in.post("/expenses", json={"description": "exact", "amount": amount})
        assert answer.status_code == 201 and answer.json()["amount"] == amount
    listed = [row["amount"] for row in signed_in.get("/expenses").json() if row["description"] == "exact"]
    assert listed == ["999999999.99", "0.20", "0.10"]


@pytest.mark.parametrize("amount", ["0", "-1", "0.001", "1000000000", "NaN", "Infinity", "1e400", "twelve", "", None, [], {}])
def test_amounts_that_are_no_money_are_refused(signed_in: httpx.Client, amount: object) -> None:
    before = signed_in.get("/expenses").json()
    assert signed_in.post("/expenses", json={"description": "bad", "amount": amount}).status_code == 422
    assert (
        signed_in.post("/", data={"description": "bad", "amount": amount if isinstance(amount, str) else json.dumps(amount)}).status_code
        == 422
    )
    assert signed_in.get("/expenses").json() == before


@pytest.mark.parametrize("description", ["", "   ", "x" * 201, None])
def test_a_description_is_required_and_bounded(signed_in: httpx.Client, description: object) -> None:
    assert signed_in.post("/expenses", json={"description": description, "amount": "1"}).status_code == 422


def test_markup_in_a_description_is_shown_not_run(signed_in: httpx.Client) -> None:
    answer = signed_in.post("/", data={"description": "<script>alert(1)</script>", "amount": "3,20"})
    assert answer.status_code == 303
    page = signed_in.get("/").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "<script>" not in page and "3.20" in page


def test_answers_for_a_person_are_not_stored_by_caches(signed_in: httpx.Client) -> None:
    for path in ("/", "/expenses"):
        assert signed_in.get(path).headers["cache-control"] == "no-store"


def test_documentation_lists_the_calls_and_their_cookie(app: App, http: httpx.Client) -> None:
    document = http.get(f"{app.url}/openapi.json").json()
    assert {"/health", "/expenses"} <= set(document["paths"])
    schemes = document["components"]["securitySchemes"].values()
    assert [scheme["name"] for scheme in schemes if scheme["type"] == "apiKey" and scheme["in"] == "cookie"] == ["wos_session"]
    assert "security" in document["paths"]["/expenses"]["get"] and "security" not in document["paths"]["/health"]["get"]
    assert http.get(f"{app.url}/docs").status_code == 200


@pytest.mark.parametrize("cookie", ["", "x", "gAAAAA", "A" * 4000])
def test_a_wrong_cookie_is_no_session_and_no_error(app: App, http: httpx.Client, cookie: str) -> None:
    headers = {"cookie": f"wos_session={cookie}"}
    assert http.get(f"{app.url}/expenses", headers=headers).status_code == 401
    assert http.get(f"{app.url}/", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"WORKOS_API_KEY": ""}, "WORKOS_API_KEY is not set"),
        ({"WORKOS_CLIENT_ID": ""}, "WORKOS_CLIENT_ID is not set"),
        ({"WORKOS_COOKIE_PASSWORD": "short"}, "WORKOS_COOKIE_PASSWORD is not a Fernet key"),
        ({"WORKOS_BASE_URL": "localhost:4700"}, "WORKOS_BASE_URL is 'localhost:4700'"),
        ({"APP_URL": "ftp://x"}, "APP_URL is 'ftp://x'"),
    ],
)
def test_wrong_settings_are_told_in_one_line(change: dict[str, str], said: str) -> None:
    good = {
        "WORKOS_BASE_URL": "http://localhost:1",
        "WORKOS_API_KEY": "sk",
        "WORKOS_CLIENT_ID": "client",
        "WORKOS_COOKIE_PASSWORD": Fernet.generate_key().decode(),
        "EXPENSES_DB": ":memory:",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "uvicorn", "with_workos_sdk:app", "--port", "0"],
        cwd=EXPENSE_TRACKER,
        env={**os.environ, **good, **change},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    [line] = ended.stderr.strip().splitlines()
    assert line.startswith("expense-tracker: ") and said in line
