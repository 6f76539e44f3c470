"""What only the server can tell: API keys, and whether a session still goes on."""

from __future__ import annotations

import time

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from workos.session import seal_session_from_auth_response

from accounts import create_account, open_api, sign_in_by_api
from guard.faces import COOKIE, Answer, ask, ask_socket, ask_with_cookie, ask_with_token
from guard.guarded import Guarded
from guard.stand_in import StandIn
from running_server import Server


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
    assert ask_with_cookie(real, cookie, "/me").status == 200, "others wait until the access token expires"


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


@pytest.mark.once
class TestApiKeys:
    KEY = "sk_test_" + "k" * 46

    def ask_every_way(self, app: Guarded, key: str, path: str = "/key") -> list[Answer]:
        socket = ask_socket(app, authorization=f"Bearer {key}")
        assert socket.status != 200, "a key on a WebSocket for people"
        return [ask_with_token(app, key, path), ask(app, path, x_api_key=key)]

    def test_a_key_is_asked_about_once_and_known_for_some_seconds(self, app: Guarded, issuer: StandIn) -> None:
        owner = {"type": "organization", "id": "org_01KEYS000000000000000000"}
        issuer.api_keys[self.KEY] = {"object": "api_key", "id": "api_key_01", "name": "CI", "owner": owner, "permissions": ["items:read"]}
        before = len(issuer.list_requests("/api_keys/validations"))
        for answer in self.ask_every_way(app, self.KEY):
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
            for answer in self.ask_every_way(app, unknown):
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
