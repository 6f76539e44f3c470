"""What only the server can tell: API keys, and whether a session still goes on."""

from __future__ import annotations

import secrets
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from workos.session import seal_session_from_auth_response

from accounts import create_account, open_api, sign_in_by_api
from guard.faces import COOKIE, Answer, ask, ask_socket, ask_with_cookie, ask_with_token
from guard.gate import gate
from guard.guarded import Guarded, guarded_app
from guard.stand_in import StandIn
from running_server import Server

WRITE = "expenses:write"


def sign_in(server: Server, http: httpx.Client) -> tuple[str, str, str]:
    """Somebody's id, access token and cookie."""
    account = create_account(server)
    answer: dict[str, str] = sign_in_by_api(server, http, account)
    cookie = seal_session_from_auth_response(
        access_token=answer["access_token"],
        refresh_token=answer["refresh_token"],
        user={"id": account.id, "email": account.email},
        cookie_password=server.cookie_password,
    )
    return account.id, answer["access_token"], cookie


def end_sessions(server: Server, user: str) -> None:
    with open_api(server) as api:
        for session in api.get(f"/user_management/users/{user}/sessions").json()["data"]:
            assert api.post("/user_management/sessions/revoke", json={"session_id": session["id"]}).status_code == 200


def test_row_23_a_route_that_wants_it_fresh_hears_of_the_end_of_a_session_at_once(
    real: Guarded, server: Server, http: httpx.Client
) -> None:
    user, token, cookie = sign_in(server, http)
    assert ask_with_cookie(real, cookie, "/fresh").who["id"] == user
    assert ask_with_token(real, token, "/fresh").who["id"] == user
    end_sessions(server, user)
    for refused in (ask_with_cookie(real, cookie, "/fresh"), ask_with_token(real, token, "/fresh")):
        assert refused.status == 401 and 'error="invalid_token"' in (refused.challenge or "")
    # The others are told, and need ask nobody: see test_revocations.
    assert ask_with_cookie(real, cookie, "/me").status in (200, 401)


def test_row_66_a_websocket_is_closed_when_its_session_ends(real: Guarded, server: Server, http: httpx.Client) -> None:
    user, _, cookie = sign_in(server, http)
    headers = {"cookie": f"{COOKIE}={cookie}", "origin": real.url}
    with connect(real.url.replace("http://", "ws://") + "/watched", additional_headers=headers, proxy=None, open_timeout=15) as socket:
        assert user in str(socket.recv(10))
        time.sleep(0.7)
        assert socket.ping().wait(5), "closed although the session goes on"
        end_sessions(server, user)
        with pytest.raises(ConnectionClosed):
            socket.recv(10)
        assert socket.close_code == 4401


def ask_every_way(app: Guarded, key: str, path: str = "/key") -> list[Answer]:
    socket = ask_socket(app, authorization=f"Bearer {key}")
    assert socket.status != 200, "a key on a WebSocket for people"
    return [ask_with_token(app, key, path), ask(app, path, x_api_key=key)]


def made(api: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    answer = api.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def wait_until_refused(app: Guarded, key: str, seconds: float = 15) -> None:
    """What the guard was told it believes for ten seconds."""
    began = time.monotonic()
    while (answer := ask(app, "/key", x_api_key=key)).status == 200:
        assert time.monotonic() - began < seconds, "a key that is none any more is still believed"
        time.sleep(0.2)
    assert answer.status == 401 and 'error="invalid_token"' in (answer.challenge or ""), answer


class TestApiKeysOfTheServer:
    """The guard's reader and the server's answer are two ends of one contract."""

    def test_an_organizations_key_says_who_calls_and_what_it_may(self, real: Guarded, api: httpx.Client) -> None:
        organization = made(api, "/organizations", name="Acme")["id"]
        slug = f"items:{secrets.token_hex(4)}"
        made(api, "/authorization/permissions", slug=slug, name="Read items")
        key = made(api, f"/organizations/{organization}/api_keys", name="CI", permissions=[slug], expires_at="2099-01-01T00:00:00.000Z")
        for answer in ask_every_way(real, key["value"]):
            who = answer.who
            assert (who["kind"], who["via"], who["id"], who["organization_id"]) == ("api_key", "api_key", key["id"], organization)
            assert who["permissions"] == [slug]
        for path in ("/me", "/machine", "/admin"):
            assert ask_with_token(real, key["value"], path).status == 403, path

    def test_a_users_key_acts_in_its_organization_as_long_as_the_user_does(self, real: Guarded, server: Server, api: httpx.Client) -> None:
        organization = made(api, "/organizations", name="Acme")["id"]
        user = create_account(server).id
        membership = made(api, "/user_management/organization_memberships", user_id=user, organization_id=organization)["id"]
        key = made(api, f"/user_management/users/{user}/api_keys", name="laptop", organization_id=organization)
        who = ask(real, "/key", x_api_key=key["value"]).who
        assert (who["kind"], who["id"], who["organization_id"]) == ("api_key", key["id"], organization)
        assert [one["id"] for one in api.get(f"/user_management/users/{user}/api_keys").json()["data"]] == [key["id"]]
        assert api.put(f"/user_management/organization_memberships/{membership}/deactivate").status_code == 200
        wait_until_refused(real, key["value"])

    def test_a_deleted_and_an_expired_key_are_refused_and_the_one_in_their_place_works(self, real: Guarded, api: httpx.Client) -> None:
        organization = made(api, "/organizations", name="Acme")["id"]
        deleted, expired, live = (made(api, f"/organizations/{organization}/api_keys", name=f"CI {n}") for n in range(3))
        for key in (deleted, expired, live):
            assert ask(real, "/key", x_api_key=key["value"]).status == 200
        assert api.delete(f"/api_keys/{deleted['id']}").status_code == 204
        assert api.post(f"/api_keys/{expired['id']}/expire").status_code == 200
        wait_until_refused(real, deleted["value"])
        wait_until_refused(real, expired["value"])
        assert ask(real, "/key", x_api_key=live["value"]).status == 200
        listed = api.get(f"/organizations/{organization}/api_keys").json()["data"]
        assert [key["id"] for key in listed] == [live["id"], expired["id"]] and listed[0]["last_used_at"]

    def test_a_key_may_what_it_was_made_for_as_long_as_that_is_there(self, real: Guarded, api: httpx.Client) -> None:
        if api.get(f"/authorization/permissions/{WRITE}").status_code == 404:
            made(api, "/authorization/permissions", slug=WRITE, name="Write expenses")
        organization = made(api, "/organizations", name="Acme")["id"]
        with_it = made(api, f"/organizations/{organization}/api_keys", name="CI", permissions=[WRITE])["value"]
        without = made(api, f"/organizations/{organization}/api_keys", name="other")["value"]
        assert ask(real, "/key/write", x_api_key=with_it).who["permissions"] == [WRITE]
        refused = ask(real, "/key/write", x_api_key=without)
        assert refused.status == 403 and 'error="insufficient_scope"' in (refused.challenge or "") and WRITE in str(refused.body)
        assert api.delete(f"/authorization/permissions/{WRITE}").is_success
        began = time.monotonic()
        while ask(real, "/key/write", x_api_key=with_it).status == 200:
            assert time.monotonic() - began < 15, "a permission that is none any more still opens"
            time.sleep(0.2)
        # Another of the same name is another.
        made(api, "/authorization/permissions", slug=WRITE, name="Write expenses")
        assert ask(real, "/key/write", x_api_key=with_it).status == 403 and ask(real, "/key", x_api_key=with_it).status == 200

    def test_a_key_is_refused_from_its_expiry_on_however_lately_it_was_asked_about(self, real: Guarded, api: httpx.Client) -> None:
        organization = made(api, "/organizations", name="Acme")["id"]
        expires_at = datetime.now(timezone.utc) + timedelta(seconds=3)
        key = made(api, f"/organizations/{organization}/api_keys", name="CI", expires_at=expires_at.isoformat())["value"]
        answers = []
        while datetime.now(timezone.utc) < expires_at + timedelta(seconds=0.3):
            answers.append((datetime.now(timezone.utc), ask(real, "/key", x_api_key=key).status))
            time.sleep(0.1)
        assert answers[0][1] == 200
        assert {status for at, status in answers if at >= expires_at} == {401}

    def test_a_key_that_cannot_be_one_is_refused_without_asking(self, server: Server, api: httpx.Client) -> None:
        organization = made(api, "/organizations", name="Acme")["id"]
        key = made(api, f"/organizations/{organization}/api_keys", name="CI")["value"]
        wrong = key[:-1] + ("x" if key[-1] != "x" else "y")
        with gate(server) as counted, guarded_app(server, base_url=counted.url) as app:
            for answer in ask_every_way(app, wrong):
                assert answer.status == 401 and 'error="invalid_token"' in (answer.challenge or ""), answer
            assert counted.count("/api_keys/validations") == 0
            assert ask(app, "/key", x_api_key=key).status == 200
            assert counted.count("/api_keys/validations") == 1

    def test_row_50_an_environments_own_key_and_anothers_api_key_open_nothing(self, real: Guarded, server: Server) -> None:
        staging = next(e for e in server.facts["environments"] if e["api_key"] != server.api_key)
        with open_api(server, staging["api_key"]) as api:
            organization = made(api, "/organizations", name="Acme")["id"]
            theirs = made(api, f"/organizations/{organization}/api_keys", name="CI")["value"]
        for key in (theirs, server.api_key, staging["api_key"], "sk_api_" + "u" * 46):
            for answer in ask_every_way(real, key):
                assert answer.status == 401 and 'error="invalid_token"' in (answer.challenge or ""), answer


@pytest.mark.once
class TestAskingAboutApiKeys:
    """How often it is asked, and what becomes of answers that make no sense."""

    KEY = "sk_test_" + "k" * 46

    def test_a_key_is_asked_about_once_and_known_for_some_seconds(self, app: Guarded, issuer: StandIn) -> None:
        owner = {"type": "organization", "id": "org_01KEYS000000000000000000"}
        issuer.api_keys[self.KEY] = {"object": "api_key", "id": "api_key_01", "name": "CI", "owner": owner, "permissions": ["items:read"]}
        before = len(issuer.list_requests("/api_keys/validations"))
        for answer in ask_every_way(app, self.KEY):
            who = answer.who
            assert (who["kind"], who["via"], who["id"], who["organization_id"]) == ("api_key", "api_key", "api_key_01", owner["id"])
            assert who["permissions"] == ["items:read"]
        assert len(issuer.list_requests("/api_keys/validations")) - before == 1
        for path in ("/me", "/machine", "/admin"):
            assert ask_with_token(app, self.KEY, path).status == 403, path

    def test_unknown_keys_are_refused_and_asked_about_once(self, app: Guarded, issuer: StandIn) -> None:
        unknown = "sk_test_" + "u" * 46
        before = len(issuer.list_requests("/api_keys/validations"))
        for _ in range(3):
            for answer in ask_every_way(app, unknown):
                assert answer.status == 401 and 'error="invalid_token"' in (answer.challenge or "")
        assert len(issuer.list_requests("/api_keys/validations")) - before == 1

    def test_a_key_is_never_looked_for_in_a_cookie_or_the_query(self, app: Guarded, issuer: StandIn) -> None:
        issuer.api_keys[self.KEY] = {"object": "api_key", "id": "api_key_01", "owner": {"type": "organization", "id": "org_x"}}
        assert ask_with_cookie(app, self.KEY, "/key").status == 401
        assert ask(app, f"/key?api_key={self.KEY}").status == 401
        assert ask(app, "/key", authorization=f"Basic {self.KEY}").status == 401

    @pytest.mark.parametrize("mood", ["garbled", "broken", "busy", "html", "short"])
    def test_an_answer_that_makes_no_sense_is_no_verdict(self, mood: str, issuer: StandIn, app: Guarded) -> None:
        issuer.moods["/api_keys/"] = mood
        waits = ask(app, "/key", x_api_key="sk_test_" + mood * 8)
        issuer.moods.clear()
        assert waits.status == 503 and waits.retry_after, waits
