"""Revoked at the real server, refused by its guards within a second; and what the guards refuse, the server writes down."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from workos.session import seal_session_from_auth_response

from accounts import create_account, open_api, sign_in_by_api
from guard.faces import BEARERS, COOKIE, COOKIES, ask, ask_with_cookie, ask_with_token
from guard.gate import Gate, gate
from guard.guarded import Guarded, guarded_app
from organizations import add_member, create_organization
from running_server import Server

# From the server's answer to the change until the guard refuses.
BOUND = 1.0


class Person:
    """Somebody who is signed in, acting for an organization of their own."""

    def __init__(self, server: Server, http: httpx.Client) -> None:
        account = create_account(server)
        self.user = account.id
        self.organization = create_organization(server, f"Acme {secrets.token_hex(3)}")
        self.membership = add_member(server, account, self.organization)
        # Somebody else, so that no organization loses its last member.
        add_member(server, create_account(server), self.organization, "admin")
        answer: dict[str, Any] = sign_in_by_api(server, http, account)
        self.token = str(answer["access_token"])
        self.cookie = seal_session_from_auth_response(
            access_token=self.token,
            refresh_token=answer["refresh_token"],
            user={"id": account.id, "email": account.email},
            cookie_password=server.cookie_password,
        )


End = Callable[[httpx.Client, Person], httpx.Response]


def revoke_session(api: httpx.Client, person: Person) -> httpx.Response:
    [session] = api.get(f"/user_management/users/{person.user}/sessions").json()["data"]
    return api.post("/user_management/sessions/revoke", json={"session_id": session["id"]})


ENDS: dict[str, End] = {
    "session revoked": revoke_session,
    "user deleted": lambda api, person: api.delete(f"/user_management/users/{person.user}"),
    "membership deactivated": lambda api, person: api.put(f"/user_management/organization_memberships/{person.membership}/deactivate"),
    "membership deleted": lambda api, person: api.delete(f"/user_management/organization_memberships/{person.membership}"),
}


def wait_until(what: str, is_so: Callable[[], Any], seconds: float = 10) -> float:
    """The seconds it took."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < seconds, what
        time.sleep(0.01)
    return time.monotonic() - began


def tell_of_guard(app: Guarded) -> dict[str, Any]:
    return dict(ask(app, "/guard").body)


def wait_until_live(app: Guarded) -> None:
    wait_until("the feed is live", lambda: tell_of_guard(app)["health"]["revocations"] == "live")


@pytest.fixture(scope="module")
def listening(server: Server) -> Iterator[Guarded]:
    """A guard that hears of revocations, and asks nobody by itself."""
    with guarded_app(server) as app:
        wait_until_live(app)
        yield app


@pytest.mark.parametrize("how", ENDS)
def test_row_23_on_every_face_what_was_let_in_is_refused_within_a_second(
    how: str, listening: Guarded, server: Server, http: httpx.Client, api: httpx.Client
) -> None:
    person, other = Person(server, http), Person(server, http)
    ways = {
        **{name: (face, person.token) for name, face in BEARERS.items()},
        **{name: (face, person.cookie) for name, face in COOKIES.items()},
    }
    for name, (face, credential) in ways.items():
        assert face(listening, credential).status == 200, name
    assert ENDS[how](api, person).is_success
    took = {name: wait_until(name, lambda f=face, c=credential: f(listening, c).status != 200) for name, (face, credential) in ways.items()}  # type: ignore[misc]
    assert max(took.values()) < BOUND, took
    assert ask_with_token(listening, other.token).status == 200, "nobody else loses access"


def test_an_api_key_is_refused_within_a_second_though_it_was_confirmed_a_moment_ago(
    listening: Guarded, server: Server, http: httpx.Client, api: httpx.Client
) -> None:
    person = Person(server, http)
    key = api.post(f"/organizations/{person.organization}/api_keys", json={"name": "CI"}).json()
    assert ask(listening, "/key", x_api_key=key["value"]).status == 200
    assert api.delete(f"/api_keys/{key['id']}").is_success
    assert wait_until("it is refused", lambda: ask(listening, "/key", x_api_key=key["value"]).status == 401) < BOUND


def test_who_signs_out_is_refused_at_once_here_and_within_a_second_elsewhere(server: Server, http: httpx.Client) -> None:
    person = Person(server, http)
    with guarded_app(server) as here, guarded_app(server) as elsewhere:
        for app in (here, elsewhere):
            assert ask_with_cookie(app, person.cookie).status == 200 and ask_with_token(app, person.token).status == 200
            wait_until_live(app)
        answer = ask(here, "/auth/logout", "POST", cookie=f"{COOKIE}={person.cookie}", origin=here.url, accept="application/json")
        assert answer.status == 200
        # This guard waits for nobody.
        assert ask_with_cookie(here, person.cookie).status == 401 and ask_with_token(here, person.token).status == 401
        # The browser is sent to the server, which ends the session for all.
        http.get(answer.body["logout_url"], follow_redirects=False)
        for ask_by in (ask_with_cookie, ask_with_token):
            credential = person.cookie if ask_by is ask_with_cookie else person.token
            assert wait_until("elsewhere", lambda a=ask_by, c=credential: a(elsewhere, c).status == 401) < BOUND  # type: ignore[misc]


def test_row_66_sockets_and_streams_end_within_a_second_and_nobody_else_s(
    listening: Guarded, server: Server, http: httpx.Client, api: httpx.Client
) -> None:
    person, other = Person(server, http), Person(server, http)
    address = listening.url.replace("http://", "ws://") + "/told"
    headers = [
        {"cookie": f"{COOKIE}={person.cookie}", "origin": listening.url},
        {"authorization": f"Bearer {person.token}"},
        {"authorization": f"Bearer {other.token}"},
    ]

    def read_to_its_end() -> float:
        headers = {"authorization": f"Bearer {person.token}"}
        with httpx.stream("GET", listening.url + "/ticks", headers=headers, trust_env=False, timeout=30) as answer:
            assert answer.status_code == 200
            ticks = sum(1 for _ in answer.iter_lines())
        assert ticks > 5
        return time.monotonic()

    opened = [connect(address, additional_headers=one, proxy=None, open_timeout=15, close_timeout=1) for one in headers]
    with ExitStack() as stack:
        sockets = [stack.enter_context(one) for one in opened]
        assert all(socket.recv(10) for socket in sockets)
        with ThreadPoolExecutor() as pool:
            stream = pool.submit(read_to_its_end)
            time.sleep(0.7)
            assert not stream.done()
            assert revoke_session(api, person).is_success
            began = time.monotonic()
            for socket in sockets[:2]:
                with pytest.raises(ConnectionClosed):
                    socket.recv(5)
                assert socket.close_code == 4401
            assert time.monotonic() - began < BOUND
            assert stream.result(5) - began < BOUND
        assert sockets[2].ping().wait(5), "closed although the session goes on"


def test_every_worker_refuses_within_a_second(server: Server, http: httpx.Client, api: httpx.Client) -> None:
    with guarded_app(server, workers=2) as app:
        pids: dict[int, str] = {}

        def look() -> bool:
            # A connection each, so that both are asked.
            with httpx.Client(trust_env=False) as client:
                told = client.get(f"{app.url}/guard").json()
            pids[told["pid"]] = told["health"]["revocations"]
            return len(pids) == 2 and set(pids.values()) == {"live"}

        wait_until("both listen", look, 20)
        person = Person(server, http)

        def statuses() -> set[int]:
            found = set()
            for _ in range(8):
                with httpx.Client(trust_env=False) as client:
                    found.add(client.get(f"{app.url}/who", headers={"authorization": f"Bearer {person.token}"}).status_code)
            return found

        assert statuses() == {200}
        assert revoke_session(api, person).is_success
        assert wait_until("both refuse", lambda: statuses() == {401}) < BOUND + 0.5
        assert all(statuses() == {401} for _ in range(3))


@contextmanager
def cut_off(server: Server, person: Person, **settings: Any) -> Iterator[tuple[Guarded, Gate]]:
    """A guard that listened, and hears of nothing any more."""
    issuer = f"{server.url}/user_management/{server.client_id}"
    with gate(server) as between, guarded_app(server, base_url=between.url, sessions_issuer=issuer, feed_stale_after=5, **settings) as app:
        assert ask_with_token(app, person.token).status == 200
        wait_until_live(app)
        between.is_feed_cut = True
        yield app, between


def test_with_the_feed_cut_the_guard_says_so_and_fresh_routes_ask(server: Server, http: httpx.Client, api: httpx.Client) -> None:
    person = Person(server, http)
    with cut_off(server, person) as (app, between):
        took = wait_until("it says so", lambda: tell_of_guard(app)["health"]["revocations"] == "stale", 15)
        assert took > 2, "before the bound"
        told = tell_of_guard(app)
        assert told["health"]["age_seconds"] > 5 and told["health"]["reason"] and told["stats"]["feed_live"] == 0
        wait_until("the log says so", lambda: "no word of revocations for" in app.log.read_text())
        assert revoke_session(api, person).is_success
        # As the guide says: until the token expires, but not where it is to be fresh.
        assert ask_with_token(app, person.token, "/me").status == 200
        assert ask_with_token(app, person.token, "/fresh").status == 401
        between.is_feed_cut = False
        assert wait_until("it is caught up with", lambda: ask_with_token(app, person.token, "/me").status == 401, 10) < 10
        wait_until_live(app)
        assert app.log.read_text().count("no word of revocations for") == 1


def test_with_the_feed_cut_a_guard_may_ask_about_everybody(server: Server, http: httpx.Client, api: httpx.Client) -> None:
    person = Person(server, http)
    with cut_off(server, person, when_stale="check") as (app, _):
        wait_until("it says so", lambda: tell_of_guard(app)["health"]["revocations"] == "stale", 15)
        assert ask_with_token(app, person.token).status == 200 and ask_with_cookie(app, person.cookie).status == 200
        assert revoke_session(api, person).is_success
        assert ask_with_token(app, person.token).status == 401 and ask_with_cookie(app, person.cookie).status == 401


def test_what_guards_refuse_is_in_the_servers_audit_log(server: Server, http: httpx.Client, api: httpx.Client) -> None:
    person = Person(server, http)
    agent = f"probe/{secrets.token_hex(4)}"
    with guarded_app(server) as app:
        for _ in range(3):
            refused = ask(app, "/admin?token=secret", authorization=f"Bearer {person.token}", user_agent=agent)
            assert refused.status == 403
        assert ask(app, "/me", user_agent=agent).status == 401
        assert ask(app, "/me", "POST", cookie=f"{COOKIE}={person.cookie}", origin="https://evil.example", user_agent=agent).status == 403
        wait_until("they are told", lambda: tell_of_guard(app)["stats"]["denials_reported"] >= 5)
    with open_api(server) as api:
        entries: list[dict[str, Any]] = []

        def find() -> bool:
            listed = api.get("/audit_trail", params={"events": "request.denied", "limit": 100})
            assert listed.status_code == 200, listed.text
            entries[:] = [e["data"] for e in listed.json()["data"] if e["data"].get("user_agent") == agent]
            return len(entries) == 3

        wait_until("they are listed", find)
    found = {(e["path"], e["reason"]): e for e in entries}
    assert set(found) == {("/admin", "missing_role"), ("/me", "no_credential"), ("/me", "cross_site")}
    admin = found["/admin", "missing_role"]
    assert (admin["count"], admin["status"], admin["user_id"]) == (3, 403, person.user)
    text = str(entries)
    assert "secret" not in text and person.token not in text and person.cookie not in text
