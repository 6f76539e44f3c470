"""What the official SDK makes of a session in which support acts as the user."""

from __future__ import annotations

import re

import httpx
import jwt
import workos
from workos.session import seal_session_from_auth_response

from accounts import Account, open_api
from hosted_pages import CALLBACK, Browser
from running_server import Server

SUPPORT = {"email": "sam@support.test", "reason": "Ticket 4711: her report is empty"}


def start(http: httpx.Client, account: Account, **more: object) -> dict[str, str]:
    body = {"impersonator_email": SUPPORT["email"], "reason": SUPPORT["reason"], "redirect_uri": CALLBACK, **more}
    made = http.post(f"/user_management/users/{account.id}/impersonations", json=body)
    assert made.status_code == 201, made.text
    return dict(made.json())


def test_the_sdk_reads_who_acts_in_answers_sessions_cookies_and_tokens(sdk: workos.WorkOSClient, server: Server, account: Account) -> None:
    users = sdk.user_management
    with open_api(server) as http:
        started = start(http, account, duration_seconds=120)
        browser = Browser()
        page = browser.open(started["url"])
        assert account.email in page.text and SUPPORT["reason"] in page.text
        back = browser.submit(page, page.load_form())
        assert back.url.startswith(CALLBACK) and set(back.query) == {"code"}

        answer = users.authenticate_with_code(code=back.query["code"])
        assert answer.authentication_method == "Impersonation" and answer.impersonator is not None
        assert (answer.impersonator.email, answer.impersonator.reason) == (SUPPORT["email"], SUPPORT["reason"])
        assert jwt.decode(answer.access_token, options={"verify_signature": False})["act"] == {"sub": SUPPORT["email"]}
        [session] = users.list_sessions(account.id).data
        assert session.impersonator is not None and session.impersonator.email == SUPPORT["email"]
        assert session.auth_method == "impersonation"
        lasts = (session.expires_at - session.created_at).total_seconds()
        assert lasts <= 120

        sealed = seal_session_from_auth_response(
            access_token=answer.access_token,
            refresh_token=answer.refresh_token,
            user=answer.user.to_dict(),
            impersonator=answer.impersonator.to_dict(),
            cookie_password=server.cookie_password,
        )
        opened = users.load_sealed_session(session_data=sealed, cookie_password=server.cookie_password).authenticate()
        assert opened.authenticated and opened.impersonator == SUPPORT
        renewed = users.authenticate_with_refresh_token(refresh_token=answer.refresh_token)
        assert renewed.impersonator is not None and renewed.impersonator.email == SUPPORT["email"]

        ended = http.post(f"/user_management/impersonations/{started['id']}/end")
        assert ended.json()["state"] == "ended" and users.list_sessions(account.id).data == []
        assert re.search("does not work any more", browser.open(started["url"]).text)
