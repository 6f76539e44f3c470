"""Many requests with one expired session, against the real server: one refresh, one new cookie, no refusal."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from workos.session import seal_session_from_auth_response, unseal_data

from accounts import create_account, open_api, sign_in_by_api
from guard.expired_sessions import server_after
from guard.faces import COOKIE, Answer, ask_socket, ask_with_cookie, read
from guard.gate import Gate, gate
from guard.guarded import Guarded, guarded_app
from guard.stand_in import StandIn
from recording import open_client
from running_server import Server

CALLERS = 50


@dataclass
class Walk:
    """An app behind a gate, and cookies whose access tokens have expired."""

    app: Guarded
    gate: Gate
    server: Server
    sessions: list[tuple[str, str]]

    def take(self) -> tuple[str, str]:
        """A session nobody used yet: its user and its cookie."""
        return self.sessions.pop()


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Walk]]:
    """By the number of workers."""
    with server_after(sign_in_many, tmp_path_factory.mktemp("server")) as (server, sessions), ExitStack() as stack:
        shares = {1: sessions[1:], 2: sessions[:1]}
        yield {workers: stack.enter_context(walk(server, workers, share)) for workers, share in shares.items()}


def sign_in_many(server: Server) -> list[tuple[str, str]]:
    """Users and their cookies."""
    made = []
    with open_client() as http:
        for _ in range(7):
            account = create_account(server)
            answer: dict[str, Any] = sign_in_by_api(server, http, account)
            tokens = {"access_token": answer["access_token"], "refresh_token": answer["refresh_token"]}
            made.append(
                (account.id, seal_session_from_auth_response(**tokens, user=answer["user"], cookie_password=server.cookie_password))
            )
    return made


@contextmanager
def walk(server: Server, workers: int, sessions: list[tuple[str, str]]) -> Iterator[Walk]:
    issuer = f"{server.url}/user_management/{server.client_id}"
    with gate(server) as counted, guarded_app(server, workers=workers, base_url=counted.url, sessions_issuer=issuer, leeway=0) as app:
        yield Walk(app, counted, server, sessions)


@pytest.fixture
def one_worker(walks: dict[int, Walk]) -> Walk:
    return walks[1]


def storm(app: Guarded, cookie: str, paths: list[str], callers: int = CALLERS) -> list[tuple[str, Answer, str]]:
    """The same cookie from many connections at once; gives path, answer and text."""
    start = threading.Barrier(callers)

    def call(number: int) -> tuple[str, Answer, str]:
        path = paths[number % len(paths)]
        with httpx.Client(trust_env=False, timeout=30) as http:
            http.get(f"{app.url}/open")  # the connection stands before the start
            start.wait(30)
            response = http.get(app.url + path, headers={"cookie": f"{COOKIE}={cookie}"})
        return path, read(response), response.text

    with ThreadPoolExecutor(callers) as pool:
        return list(pool.map(call, range(callers)))


def new_cookies(answers: list[Answer]) -> Counter[str]:
    """The values of the session cookie that were set, and how often."""
    return Counter(cookie.split(";")[0] for answer in answers for cookie in answer.cookies)


def test_fifty_requests_one_refresh_one_new_cookie_fifty_answers(one_worker: Walk) -> None:
    user, cookie = one_worker.take()
    before = len(one_worker.gate.refreshes)
    answers = [answer for _, answer, _ in storm(one_worker.app, cookie, ["/me"])]
    assert Counter(answer.status for answer in answers) == {200: CALLERS}
    assert {answer.who["id"] for answer in answers} == {user}
    assert one_worker.gate.refreshes[before:] == [200], "not one refresh"
    values = new_cookies(answers)
    assert len(values) == 1, "not one new cookie"
    assert sum(values.values()) == CALLERS, "an answer came without the new cookie"
    [new] = values
    assert new != f"{COOKIE}={cookie}"
    # The late ones of the same burst show the old cookie after the refresh is done: still no second refresh.
    for _ in range(5):
        late = ask_with_cookie(one_worker.app, cookie, "/me")
        assert late.status == 200 and new_cookies([late]) == Counter({new: 1})
    assert len(one_worker.gate.refreshes) == before + 1


def test_the_new_cookie_goes_out_with_answers_of_every_make(one_worker: Walk) -> None:
    user, cookie = one_worker.take()
    before = len(one_worker.gate.refreshes)
    expected = {"/me": 200, "/own-response": 200, "/stream": 200, "/refuses": 418, "/optional": 200, "/asgi/who": 200, "/admin": 403}
    answered = storm(one_worker.app, cookie, list(expected), callers=28)
    for path, answer, text in answered:
        assert answer.status == expected[path], (path, answer)
        assert user in text or path == "/admin", (path, text)
        assert len(answer.cookies) == 1, (path, answer)
    assert len(new_cookies([answer for _, answer, _ in answered])) == 1
    assert one_worker.gate.refreshes[before:] == [200]


def test_a_websocket_opens_with_an_expired_session_and_carries_the_new_cookie(one_worker: Walk) -> None:
    user, cookie = one_worker.take()
    for path in ("/live", "/asgi/live"):
        answer = ask_socket(one_worker.app, path, cookie=f"{COOKIE}={cookie}", origin=one_worker.app.url)
        assert answer.who["id"] == user
        assert len(answer.cookies) == 1, path


def test_two_sessions_are_refreshed_apart(one_worker: Walk) -> None:
    one, two = one_worker.take(), one_worker.take()
    with ThreadPoolExecutor(20) as pool:
        jobs = [(owner, pool.submit(ask_with_cookie, one_worker.app, cookie, "/me")) for owner, cookie in (one, two) * 10]
        for owner, job in jobs:
            assert job.result(30).who["id"] == owner, "a session was answered with somebody else's refresh"


def test_a_session_that_ended_at_the_server_is_refused_and_its_cookie_taken_away(one_worker: Walk) -> None:
    user, cookie = one_worker.take()
    with open_api(one_worker.server) as api:
        [session] = api.get(f"/user_management/users/{user}/sessions").json()["data"]
        assert api.post("/user_management/sessions/revoke", json={"session_id": session["id"]}).status_code == 200
    answers = [answer for _, answer, _ in storm(one_worker.app, cookie, ["/me"], callers=10)]
    assert {answer.status for answer in answers} == {401}
    for answer in answers:
        assert any("max-age=0" in cookie.lower() for cookie in answer.cookies), answer


def test_two_workers_end_with_the_same_pair(walks: dict[int, Walk]) -> None:
    two_workers = walks[2]
    user, cookie = two_workers.take()
    answers = [answer for _, answer, _ in storm(two_workers.app, cookie, ["/me"])]
    assert Counter(answer.status for answer in answers) == {200: CALLERS}
    assert {answer.who["id"] for answer in answers} == {user}
    assert set(two_workers.gate.refreshes) == {200} and 1 <= len(two_workers.gate.refreshes) <= 2, "more than one refresh in a process"
    # Each process seals by itself; what is sealed is the one pair that the server gave to both.
    values = [value.split("=", 1)[1] for value in new_cookies(answers)]
    sessions = [unseal_data(value, two_workers.server.cookie_password) for value in values]
    assert len(values) <= 2 and len({(session["access_token"], session["refresh_token"]) for session in sessions}) == 1


@pytest.mark.once
def test_a_browser_that_shows_the_old_cookie_later_still_gets_the_new_one(app: Guarded, issuer: StandIn) -> None:
    """Between two tabs the old cookie can be on its way while the new one arrives; it never costs the session."""
    cookie = issuer.seal(issuer.mint(issuer.expired_claims()))
    before = len(issuer.refreshes)
    first = ask_with_cookie(app, cookie)
    assert first.status == 200 and len(issuer.refreshes) == before + 1
    # The server would now refuse the old refresh token for good.
    issuer.sessions.clear()
    again = ask_with_cookie(app, cookie)
    assert again.status == 200 and again.cookies == first.cookies and len(issuer.refreshes) == before + 1


@pytest.mark.once
def test_a_renewal_that_comes_back_as_another_session_is_refused(app: Guarded, issuer: StandIn) -> None:
    """Whoever has the cookie key but no account could join one person's token to another's refresh token."""
    cookie = issuer.seal(issuer.mint(issuer.expired_claims()), issuer.grant_refresh("session_01OTHER000000000000000000"))
    refused = ask_with_cookie(app, cookie)
    assert refused.status == 401 and not [value for value in new_cookies([refused]) if value != f"{COOKIE}="], refused
