"""Session cookies pass between the guard and the SDKs: each reads, and renews, what another sealed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import workos
from workos.session import (
    AuthenticateWithSessionCookieSuccessResponse,
    RefreshWithSessionCookieSuccessResponse,
    seal_session_from_auth_response,
)

from accounts import PASSWORD, Account, create_account, open_sdk, sign_in_by_api
from guard.expired_sessions import server_after
from guard.faces import COOKIE, COOKIES, ask_with_cookie
from guard.guarded import Guarded, guarded_app
from guard.node_script import NodeScript, running_node
from guard.stand_in import USER, stand_in
from hosted_pages import Browser, obtain_code, sign_in
from recording import open_client
from running_server import Server

# An Iron password need not be a Fernet key; the SDK for Node asks for 32 characters.
NODE_PASSWORD = "a cookie password of 32 characters or more"


@pytest.fixture(scope="module")
def node_app(server: Server) -> Iterator[Guarded]:
    with guarded_app(server, cookie_format="workos-node", cookie_password=NODE_PASSWORD) as app:
        yield app


@pytest.fixture(scope="module")
def person(server: Server) -> Account:
    return create_account(server, first_name="Zoë", last_name="O'Brien 🦊")


def call_v5(server: Server, *arguments: str) -> Any:
    python = os.environ.get("GATEWRIGHT_V5_PYTHON")
    assert python, "GATEWRIGHT_V5_PYTHON names no Python with workos 5.46.0; run the suites with tests/run.py"
    command = [python, str(Path(__file__).parent / "cookies_v5.py"), *arguments]
    ended = subprocess.run(command, env={**os.environ, **server.app_environment()}, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout.splitlines()[-1])


def seal_v10(server: Server, account: Account) -> str:
    answer = open_sdk(server).user_management.authenticate_with_password(email=account.email, password=PASSWORD)
    return seal_session_from_auth_response(
        access_token=answer.access_token,
        refresh_token=answer.refresh_token,
        user=answer.user.to_dict(),
        cookie_password=server.cookie_password,
    )


def seal_v5(server: Server, account: Account) -> str:
    return str(call_v5(server, "sign_in", obtain_code(server, account.email, PASSWORD)))


# Sealed elsewhere, read by the guard


@pytest.mark.parametrize("seal", [seal_v10, seal_v5], ids=["workos-10", "workos-5.46.0"])
def test_a_cookie_of_the_python_sdk_is_read(seal: Callable[..., str], real: Guarded, server: Server, person: Account) -> None:
    cookie = seal(server, person)
    for face, ask_face in COOKIES.items():
        who = ask_face(real, cookie).who
        assert (who["id"], who["via"], who["email"]) == (person.id, "session", person.email), face
        assert (who["user"]["first_name"], who["user"]["last_name"]) == ("Zoë", "O'Brien 🦊"), face


def test_a_cookie_of_the_node_sdk_is_read(node_app: Guarded, node_cookies: NodeScript, person: Account) -> None:
    cookie = node_cookies("signIn", person.email, PASSWORD, NODE_PASSWORD)
    assert cookie.startswith("Fe26.2*")
    for face, ask_face in COOKIES.items():
        who = ask_face(node_app, cookie).who
        assert (who["id"], who["via"], who["email"]) == (person.id, "session", person.email), face


def test_a_cookie_of_iron_session_is_read(node_app: Guarded, node_cookies: NodeScript, server: Server, person: Account) -> None:
    """As authkit-nextjs writes it."""
    with open_client() as http:
        answer: dict[str, Any] = sign_in_by_api(server, http, person)
    user = {"id": person.id, "email": person.email, "firstName": "Zoë", "lastName": "O'Brien 🦊"}
    session = {"accessToken": answer["access_token"], "refreshToken": answer["refresh_token"], "user": user}
    cookie = node_cookies("seal", session, NODE_PASSWORD)
    assert ask_with_cookie(node_app, cookie).who["id"] == person.id
    assert ask_with_cookie(node_app, node_cookies("seal", session, NODE_PASSWORD + "x")).status == 401


def test_either_form_is_read_whichever_is_written(real: Guarded, node_cookies: NodeScript, server: Server, person: Account) -> None:
    """An app that moves from Node to Python signs nobody out."""
    cookie = node_cookies("signIn", person.email, PASSWORD, server.cookie_password)
    assert ask_with_cookie(real, cookie).who["id"] == person.id


# Written by the guard at sign-in, read and renewed elsewhere


def sign_in_through_pages(app: Guarded, server: Server, account: Account) -> str:
    browser = Browser()
    page = sign_in(browser, server, f"{app.url}/auth/login?return_to=/me", account.email, PASSWORD)
    assert (page.url, page.status) == (f"{app.url}/me", 200), page.text[:300]
    assert page.response.json()["id"] == account.id
    return browser.cookies["localhost", COOKIE, "/"].value


def read_and_renew_v10(sdk: workos.WorkOSClient, server: Server, cookie: str, account: Account) -> str:
    session = sdk.user_management.load_sealed_session(session_data=cookie, cookie_password=server.cookie_password)
    found = session.authenticate()
    assert isinstance(found, AuthenticateWithSessionCookieSuccessResponse), found
    assert found.user and found.user["email"] == account.email and found.session_id.startswith("session_")
    renewed = session.refresh()
    assert isinstance(renewed, RefreshWithSessionCookieSuccessResponse), renewed
    return renewed.sealed_session


def test_the_python_sdk_reads_and_renews_what_the_guard_wrote(real: Guarded, server: Server, sdk: workos.WorkOSClient) -> None:
    account = create_account(server, first_name="Zoë")
    cookie = sign_in_through_pages(real, server, account)
    renewed = read_and_renew_v10(sdk, server, cookie, account)
    assert ask_with_cookie(real, renewed).who["id"] == account.id, "and back again"


def test_the_python_sdk_5_reads_and_renews_what_the_guard_wrote(real: Guarded, server: Server) -> None:
    account = create_account(server, first_name="Zoë")
    cookie = sign_in_through_pages(real, server, account)
    found = call_v5(server, "authenticate", cookie)
    assert found["authenticated"] and found["user"]["email"] == account.email, found
    renewed = call_v5(server, "refresh", cookie)
    assert renewed["authenticated"], renewed
    assert ask_with_cookie(real, renewed["sealed"]).who["id"] == account.id


def test_the_node_sdk_reads_and_renews_what_the_guard_wrote(node_app: Guarded, server: Server, node_cookies: NodeScript) -> None:
    account = create_account(server, first_name="Zoë")
    cookie = sign_in_through_pages(node_app, server, account)
    assert cookie.startswith("Fe26.2*") and cookie.endswith("~2")
    found = node_cookies("authenticate", cookie, NODE_PASSWORD)
    assert found["authenticated"], found
    assert (found["user"]["email"], found["user"]["firstName"]) == (account.email, "Zoë"), "names as Node apps know them"
    session = node_cookies("unseal", cookie, NODE_PASSWORD)
    assert set(session) >= {"accessToken", "refreshToken", "user"} and not [name for name in session["user"] if "_" in name], session.keys()
    renewed = node_cookies("refresh", cookie, NODE_PASSWORD)
    assert renewed["authenticated"], renewed
    assert ask_with_cookie(node_app, renewed["sealedSession"]).who["id"] == account.id


# Renewed by the guard, read and renewed elsewhere


def renew(app: Guarded, cookie: str) -> str:
    """What the guard sets for an expired session."""
    answer = ask_with_cookie(app, cookie, "/me")
    assert answer.status == 200 and len(answer.cookies) == 1, answer
    name, _, value = answer.cookies[0].split(";")[0].partition("=")
    assert name == COOKIE and value != cookie
    return value


def test_what_the_guard_renewed_is_read_and_renewed_by_the_sdk_it_was_written_for(tmp_path: Path) -> None:
    def sign_in_twice(server: Server) -> tuple[Account, str, str]:
        account = create_account(server, first_name="Zoë")
        with running_node("cookies.mjs", **server.app_environment()) as node:
            return account, seal_v10(server, account), str(node("signIn", account.email, PASSWORD, NODE_PASSWORD))

    with (
        server_after(sign_in_twice, tmp_path) as (server, (account, by_python, by_node)),
        running_node("cookies.mjs", **server.app_environment()) as node,
        guarded_app(server, leeway=0) as python_app,
        guarded_app(server, leeway=0, cookie_format="workos-node", cookie_password=NODE_PASSWORD) as node_app,
    ):
        assert not node("authenticate", by_node, NODE_PASSWORD)["authenticated"], "not expired"
        read_and_renew_v10(open_sdk(server), server, renew(python_app, by_python), account)

        renewed = renew(node_app, by_node)
        found = node("authenticate", renewed, NODE_PASSWORD)
        assert found["authenticated"] and (found["user"]["email"], found["user"]["firstName"]) == (account.email, "Zoë"), found
        assert node("refresh", renewed, NODE_PASSWORD)["authenticated"]


def test_what_else_an_sdk_sealed_is_kept_on_renewal(node_cookies: NodeScript) -> None:
    with stand_in() as issuer, guarded_app(issuer, cookie_format="workos-node", cookie_password=NODE_PASSWORD) as app:
        claims = issuer.expired_claims()
        session = {
            "accessToken": issuer.mint(claims),
            "refreshToken": issuer.grant_refresh(claims["sid"]),
            "user": {"id": USER["id"], "email": USER["email"], "firstName": "Ann"},
            "impersonator": {"email": "support@example.test", "reason": "ticket 7"},
            "ourOwnField": {"cart": [1, 2, 3]},
        }
        kept = node_cookies("unseal", renew(app, node_cookies("seal", session, NODE_PASSWORD)), NODE_PASSWORD)
        assert kept["ourOwnField"] == {"cart": [1, 2, 3]}
        assert kept["accessToken"] != session["accessToken"] and kept["refreshToken"] != session["refreshToken"]
        assert kept["user"]["email"] == USER["email"]
