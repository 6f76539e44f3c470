"""What the example app promises about its rows, whoever signs in, guarded by `gatewright.fastapi` and by the SDK."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from workos.session import seal_session_from_auth_response

from accounts import PASSWORD, Account, authenticate, create_account, unique_email
from apps import EXPENSE_TRACKER, App, expense_tracker, sdk_expense_tracker
from hosted_pages import Browser, sign_up
from organizations import add_member, create_organization, post
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


# --- two organizations ------------------------------------------------------------------------------------------------


@dataclass
class Caller:
    """Somebody in an organization, by session or access token; or a key of it."""

    organization: str
    headers: dict[str, str]

    @property
    def cookie(self) -> str:
        return self.headers["cookie"].removeprefix("wos_session=")


@dataclass
class Tenant:
    """An organization with rows: its admin, who is the other's admin too, a member, and a key."""

    organization: str
    admin: Caller
    admins_token: Caller
    member: Caller
    key: Caller
    marks: list[str]
    rows: list[int]


@dataclass
class Tenants:
    one: Tenant
    two: Tenant
    admin: Account


@pytest.fixture(scope="module")
def tenants(app: App, http: httpx.Client) -> Tenants:
    """The roles and permissions are those that `gatewright dev` begins with."""
    admin, organizations = create_account(app.server), [create_organization(app.server, name) for name in ("First Tenant", "Second Tenant")]
    for organization in organizations:
        add_member(app.server, admin, organization, "admin")
    made = []
    for organization in organizations:
        member = create_account(app.server)
        add_member(app.server, member, organization)
        key = post(app.server, f"/organizations/{organization}/api_keys", name="CI", permissions=["expenses:export"])["value"]
        session, token = sign_in_to(app, http, admin, organization)
        callers = session, sign_in_to(app, http, member, organization)[0]
        marks, rows = [], []
        for number, caller in enumerate(callers):
            marks.append(f"mark-{organization}-{number}")
            answer = http.post(f"{app.url}/expenses", json={"description": marks[-1], "amount": "7.77"}, headers=caller.headers)
            assert answer.status_code == 201, answer.text
            rows.append(answer.json()["id"])
        made.append(Tenant(organization, session, token, callers[1], Caller(organization, {"authorization": f"Bearer {key}"}), marks, rows))
    return Tenants(*made, admin)


def sign_in_to(app: App, http: httpx.Client, account: Account, organization: str | None) -> tuple[Caller, Caller]:
    """The cookie as the apps seal it, and the access token in it."""
    answer = authenticate(app.server, http, "password", email=account.email, password=account.password)
    if answer.status_code == 403:
        choice = {"pending_authentication_token": answer.json()["pending_authentication_token"], "organization_id": organization}
        answer = authenticate(app.server, http, "urn:workos:oauth:grant-type:organization-selection", **choice)
    body = answer.json()
    assert body.get("organization_id") == organization, answer.text
    tokens = {"access_token": body["access_token"], "refresh_token": body["refresh_token"]}
    sealed = seal_session_from_auth_response(**tokens, user=body["user"], cookie_password=app.server.cookie_password)
    session = {"cookie": f"wos_session={sealed}", "origin": app.url}
    return Caller(organization or "", session), Caller(organization or "", {"authorization": f"Bearer {body['access_token']}"})


def list_marks(app: App, http: httpx.Client, caller: Caller) -> str:
    """Everything that an app shows a caller of its rows."""
    return "".join(http.get(app.url + path, headers=caller.headers).text for path in ("/expenses", "/", "/export"))


def list_routes(app: App) -> list[tuple[str, str]]:
    """Every route of the app with its method, as the route audit reads them."""
    settings = {**app.server.app_environment(), "EXPENSES_DB": ":memory:"}
    audit = [sys.executable, "-m", "gatewright", "routes", "audit", app.module, "--format", "json"]
    told = subprocess.run(
        audit, cwd=EXPENSE_TRACKER, env={**os.environ, **settings}, capture_output=True, text=True, timeout=60, check=False
    )
    return [(method, route["path"]) for route in json.loads(told.stdout)["routes"] for method in route["methods"]]


def read_rows(app: App, organization: str) -> list[Any]:
    with closing(sqlite3.connect(app.database)) as database:
        return database.execute("SELECT * FROM tenant_expenses WHERE tenant = ? ORDER BY id", [organization]).fetchall()


def wish_for(tenant: Tenant) -> dict[str, str]:
    """Every name under which somebody might hope to be asked for a tenant or a row."""
    names = ("org_id", "organization_id", "organization", "tenant", "org")
    return {**dict.fromkeys(names, tenant.organization), "expense_id": str(tenant.rows[0]), "id": str(tenant.rows[0]), "user_id": "user_x"}


def test_row_49_no_request_of_one_organization_sees_or_changes_a_row_of_the_other(app: App, http: httpx.Client, tenants: Tenants) -> None:
    routes = list_routes(app)
    assert {
        ("GET", "/expenses"),
        ("POST", "/expenses/{expense_id}/approval"),
        ("GET", "/export"),
        ("POST", "/approve"),
        ("GET", "/"),
    } <= set(routes)
    # Signing out takes no ids, and ends the sessions that all the other requests are made with.
    paths = {path for _, path in routes if not path.endswith("/logout")}
    assert len(paths) == len({path for _, path in routes}) - 1
    verbs = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    own_seen = asked = 0
    for mine, theirs in ((tenants.one, tenants.two), (tenants.two, tenants.one)):
        before, wish = read_rows(app, theirs.organization), wish_for(theirs)
        headers = {f"x-{name.replace('_', '-')}": value for name, value in wish.items()}
        expense = {"description": "forged", "amount": "1.00", **wish}
        for caller in (mine.admin, mine.admins_token, mine.member, mine.key):
            for path in sorted(paths):
                for row in theirs.rows if "{" in path else theirs.rows[:1]:
                    for verb in verbs:
                        for body in ({}, {"json": expense}, {"data": expense}):
                            if body and verb in {"GET", "HEAD", "OPTIONS"}:
                                continue
                            url = app.url + path.replace("{expense_id}", str(row))
                            answer = http.request(verb, url, params=wish, headers={**headers, **caller.headers}, **body)
                            asked += 1
                            told = answer.text + str(answer.headers)
                            assert answer.status_code < 500, (verb, url, answer.text)
                            assert not [mark for mark in theirs.marks if mark in told], (verb, url, body)
                            own_seen += any(mark in told for mark in mine.marks)
        assert read_rows(app, theirs.organization) == before
    assert own_seen > 12 and asked > 400, "the calls were good ones"
    assert [row for row in read_rows(app, tenants.one.organization) if "forged" in row], "and could write where they may"


def test_row_18_after_switching_one_sees_the_other_organizations_rows_alone_and_the_old_token_the_olds(
    app: App, http: httpx.Client, tenants: Tenants
) -> None:
    one, two = tenants.one, tenants.two
    session, token = sign_in_to(app, http, tenants.admin, one.organization)
    switched = switch(app, http, session, two.organization)
    assert switched.status_code == 303 and switched.headers["location"] == "/"
    cookie = next(value for value in switched.headers.get_list("set-cookie") if value.startswith("wos_session=")).split(";")[0]
    there = Caller(two.organization, {"cookie": cookie, "origin": app.url})
    olds = (session, token) if app.auth else (session,)  # the app on the SDK takes no bearer tokens
    for caller, mine, theirs in [(there, two, one), *((old, one, two) for old in olds)]:
        seen = list_marks(app, http, caller)
        assert mine.marks[0] in seen, "one's own"
        assert not [mark for mark in theirs.marks if mark in seen]
        added = http.post(f"{app.url}/expenses", json={"description": "after the switch", "amount": "1"}, headers=caller.headers)
        assert added.json()["id"] in [row[0] for row in read_rows(app, mine.organization)]


def switch(app: App, http: httpx.Client, caller: Caller, organization: str) -> httpx.Response:
    return http.post(f"{app.url}{app.auth}/organization", data={"organization_id": organization}, headers=caller.headers)


def test_nobody_switches_to_an_organization_that_is_not_theirs(app: App, http: httpx.Client, tenants: Tenants) -> None:
    member = tenants.one.member
    for wanted in (tenants.two.organization, "org_01HXYZHXYZHXYZHXYZHXYZHXYZ", "x"):
        refused = switch(app, http, member, wanted)
        assert refused.status_code in {400, 403} and "not a member" in refused.text
        assert not [value for value in refused.headers.get_list("set-cookie") if value.startswith("wos_session=")]
    evil = {**member.headers, "origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    if app.auth:  # the app on the SDK relies on the browser, which sends its cookie to no other site's form
        assert switch(app, http, Caller("", evil), tenants.one.organization).status_code == 403
    seen = list_marks(app, http, member)
    assert tenants.one.marks[1] in seen and tenants.two.marks[0] not in seen


def test_who_may_approve_sees_everybodys_and_approves_within_the_organization(app: App, http: httpx.Client, tenants: Tenants) -> None:
    one, two = tenants.one, tenants.two

    def approve(caller: Caller, row: int) -> httpx.Response:
        return http.post(f"{app.url}/expenses/{row}/approval", headers=caller.headers)

    assert approve(one.member, one.rows[1]).status_code == 403, "a member may not, not even one's own"
    assert approve(two.admin, one.rows[1]).status_code == approve(one.admin, 10**9).status_code == 404
    assert one.marks[1] in http.get(app.url, headers=one.admin.headers).text
    answer = approve(one.admin, one.rows[1])
    assert (answer.status_code, answer.json()["approved"]) == (200, True)
    assert "Approved" in http.get(app.url, headers=one.member.headers).text
    from_page = http.post(f"{app.url}/approve", data={"expense_id": one.rows[0]}, headers=one.admin.headers)
    assert (from_page.status_code, from_page.headers["location"]) == (303, "/")
    listed = http.get(f"{app.url}/export", headers=one.key.headers).json()
    assert {row["id"] for row in listed if row["approved"]} >= set(one.rows)


def test_the_export_is_for_keys_that_may(app: App, http: httpx.Client, tenants: Tenants) -> None:
    one = tenants.one
    listed = http.get(f"{app.url}/export", headers=one.key.headers)
    assert listed.status_code == 200 and {row["id"] for row in listed.json()} == {row[0] for row in read_rows(app, one.organization)}
    without = post(app.server, f"/organizations/{one.organization}/api_keys", name="other")["value"]
    for headers, status in (
        ({"authorization": f"Bearer {without}"}, 403),
        ({"authorization": f"Bearer {app.server.api_key}"}, 401),
        ({"authorization": "Bearer sk_api_" + "u" * 46}, 401),
        ({}, 401),
    ):
        assert http.get(f"{app.url}/export", headers=headers).status_code == status, headers
    for caller in (one.admin, one.admins_token):
        assert http.get(f"{app.url}/export", headers=caller.headers).status_code in {401, 403}, "people do not export"
    assert http.get(f"{app.url}/expenses", headers=one.key.headers).status_code in {401, 403}, "nor are keys people"


def test_who_is_in_no_organization_has_rows_of_their_own(app: App, http: httpx.Client, tenants: Tenants) -> None:
    callers = [sign_in_to(app, http, create_account(app.server), None)[0] for _ in range(2)]
    for number, caller in enumerate(callers):
        added = http.post(f"{app.url}/expenses", json={"description": f"alone {number}", "amount": "1"}, headers=caller.headers)
        assert added.status_code == 201
        assert http.post(f"{app.url}/expenses/{added.json()['id']}/approval", headers=caller.headers).status_code == 403
    for number, caller in enumerate(callers):
        page = http.get(app.url, headers=caller.headers).text
        assert "Personal" in page and f"alone {number}" in page and f"alone {1 - number}" not in page and "mark-org" not in page


def test_the_page_says_where_one_is_and_switches(app: App, tenants: Tenants) -> None:
    browser = Browser()
    page = browser.open(app.login)
    page = sign_in_with_choice(browser, app, page, tenants, "First Tenant")
    assert page.url.startswith(app.url) and "First Tenant" in page.text and tenants.one.marks[0] in page.text
    form = next(form for form in page.forms if form.action.endswith("/organization"))
    assert "Second Tenant" in form.text and "First Tenant" not in form.text
    page = browser._send("POST", f"{app.url}{form.action}", {"organization_id": tenants.two.organization}, page.url)
    assert tenants.two.marks[0] in page.text and tenants.one.marks[0] not in page.text


def sign_in_with_choice(browser: Browser, app: App, page: Any, tenants: Tenants, name: str) -> Any:
    """Through the hosted pages, which ask in which organization."""
    for _ in range(6):
        choice = next((form for form in page.forms if form.action.endswith("/choose-organization")), None)
        if choice is not None:
            wanted = {"First Tenant": tenants.one, "Second Tenant": tenants.two}[name].organization
            return browser.submit(page, choice, next(button for button in choice.buttons if button.value == wanted))
        form = next(form for form in page.forms if form.visible & {"email", "password"})
        answers = {"email": tenants.admin.email, "password": PASSWORD}
        page = browser.submit(page, form, **{meaning: answers[meaning] for meaning in form.visible if meaning in answers})
    raise AssertionError(f"no choice was offered at {page.url}: {page.text[:300]}")


def test_every_route_of_the_example_is_guarded_or_open_on_purpose() -> None:
    settings = {"WORKOS_BASE_URL": "http://localhost:1", "WORKOS_API_KEY": "sk", "WORKOS_CLIENT_ID": "client", "EXPENSES_DB": ":memory:"}
    environment = {**os.environ, **settings, "WORKOS_COOKIE_PASSWORD": Fernet.generate_key().decode()}
    audit = [sys.executable, "-m", "gatewright", "routes", "audit", "main:app"]
    told = subprocess.run(audit, cwd=EXPENSE_TRACKER, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0 and "Every route is covered." in told.stdout, told.stdout
