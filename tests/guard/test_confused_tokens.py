"""Tokens of the real server that are good for something else, or somewhere else (attack list, rows 17 and 18)."""

from __future__ import annotations

from typing import Any

import httpx
from workos.session import seal_session_from_auth_response

from accounts import Account, create_account, open_api, sign_in_by_api
from guard.faces import BEARERS, COOKIES, ask, ask_with_token
from guard.guarded import Guarded, guarded_app
from hosted_pages import Browser, authorize_url, sign_in
from running_server import Server


def test_row_17_refresh_tokens_and_codes_open_nothing(real: Guarded, server: Server, http: httpx.Client, account: Account) -> None:
    answer = sign_in_by_api(server, http, account)
    browser = Browser()
    code = sign_in(browser, server, authorize_url(server), account.email, account.password).query["code"]
    assert ask_with_token(real, answer["access_token"]).who["id"] == account.id
    for secret in (answer["refresh_token"], code, server.cookie_password, server.client_id):
        for face, ask_face in BEARERS.items():
            if face != "sub-protocol-websocket" or "=" not in secret:
                assert ask_face(real, secret).status == 401, face
    # The server does not serve API keys of organizations yet; an environment's own key is none of them.
    for answer_of_key in (ask_with_token(real, server.api_key), ask(real, x_api_key=server.api_key)):
        assert answer_of_key.status in {401, 503}


def test_row_18_tokens_of_another_environment_are_refused(real: Guarded, server: Server, http: httpx.Client) -> None:
    [other] = [e for e in server.facts["environments"] if e["client_id"] != server.client_id]
    staging = Server({**server.facts, **other}, server.process, server.log, 0)
    account = create_account(staging)
    answer: dict[str, Any] = sign_in_by_api(staging, http, account)
    with open_api(staging) as api:
        user = api.get(f"/user_management/users/{account.id}").json()
    with guarded_app(staging) as app:
        assert ask_with_token(app, answer["access_token"]).who["id"] == account.id
    for face, ask_face in BEARERS.items():
        assert ask_face(real, answer["access_token"]).status == 401, face
    cookie = seal_session_from_auth_response(
        access_token=answer["access_token"], refresh_token=answer["refresh_token"], user=user, cookie_password=server.cookie_password
    )
    for face, ask_face in COOKIES.items():
        refused = ask_face(real, cookie)
        assert refused.status == 401, face
