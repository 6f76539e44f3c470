"""Row 23: what ended is known to every node, and to whoever listens there, within a second."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from accounts import PASSWORD, Account, authenticate, create_account, open_api, sign_in_by_api, unique_email
from organizations import add_member, create_organization, unique
from running_server import Server, open_database, start_server

# What is stated for the time until a guard knows, and what one slow moment of a busy machine may cost a test.
BOUND, PATIENCE = 1.0, 10.0


@dataclass
class Feed:
    """Listens to `GET /revocations` of one node on a thread of its own."""

    server: Server
    last_event_id: str | None = None
    events: list[tuple[float, str, str | None, dict[str, Any]]] = field(default_factory=list)
    ended: bool = False

    def __post_init__(self) -> None:
        self.news = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()
        self.wait(lambda: any(name == "ready" for _, name, _, _ in self.events), "the feed did not become ready")

    def _listen(self) -> None:
        headers = {"authorization": f"Bearer {self.server.api_key}", "accept": "text/event-stream"}
        headers |= {"last-event-id": self.last_event_id} if self.last_event_id else {}
        block: dict[str, str] = {}
        try:
            with httpx.stream("GET", f"{self.server.url}/revocations", headers=headers, trust_env=False, timeout=PATIENCE) as answer:
                assert answer.status_code == 200, answer.read()
                for line in answer.iter_lines():
                    if line:
                        name, _, value = line.partition(": ")
                        block[name] = value
                    else:
                        self._add(block)
                        block = {}
        except httpx.TransportError:
            pass
        finally:
            with self.news:
                self.ended = True
                self.news.notify_all()

    def _add(self, block: dict[str, str]) -> None:
        with self.news:
            self.events.append((time.monotonic(), block["event"], block.get("id"), json.loads(block["data"])))
            self.news.notify_all()

    def wait(self, condition: Any, said: str) -> None:
        with self.news:
            assert self.news.wait_for(condition, PATIENCE), f"{said}; it heard {self.events[-3:]}"

    def told(self) -> list[dict[str, Any]]:
        return [data for _, name, _, data in self.events if name == "revocation"]

    def heard_at(self, kind: str, subject: str) -> float:
        """When it was told of it first."""

        def found() -> list[float]:
            return [at for at, name, _, data in self.events if name == "revocation" and (data["kind"], data["subject"]) == (kind, subject)]

        self.wait(lambda: bool(found()), f"nothing was heard of {kind} {subject}")
        return found()[0]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Two nodes over one PostgreSQL; one over SQLite."""
    data: Path = tmp_path_factory.mktemp("nodes")
    with open_database() as database:
        servers = [start_server(data=data, database=database)]
        try:
            if database:
                servers.append(start_server(data=data, database=database))
            yield servers
        finally:
            statuses = [server.stop() for server in servers]
    assert statuses == [0] * len(servers)


def test_row_23_every_end_of_access_is_known_on_every_node_within_a_second(nodes: list[Server], http: httpx.Client) -> None:
    first, feeds = nodes[0], [Feed(node) for node in nodes]
    delays: list[float] = []
    with open_api(first) as api:

        def ends(kind: str, subject: str, method: str, path: str, body: dict[str, Any] | None = None) -> None:
            began = time.monotonic()
            answer = api.request(method, path, json=body)
            assert answer.status_code < 400, f"{path}: {answer.status_code} {answer.text}"
            delays.extend(feed.heard_at(kind, subject) - began for feed in feeds)

        def signed_in() -> tuple[Account, str]:
            account = create_account(first, "ended")
            sign_in_by_api(first, http, account)
            [session] = api.get(f"/user_management/users/{account.id}/sessions").json()["data"]
            return account, session["id"]

        for _ in range(3):
            _, session = signed_in()
            ends("session", session, "GET", f"/user_management/sessions/logout?session_id={session}")
            _, session = signed_in()
            ends("session", session, "POST", "/user_management/sessions/revoke", {"session_id": session})
            user, session = signed_in()
            ends("session", session, "PUT", f"/user_management/users/{user.id}", {"password": f"{PASSWORD} anew"})
            user, session = signed_in()
            ends("session", session, "PUT", f"/user_management/users/{user.id}", {"email": unique_email("moved")})
            user, session = signed_in()
            ends("user", user.id, "DELETE", f"/user_management/users/{user.id}")
            for feed in feeds:
                feed.heard_at("session", session)
            user, _ = signed_in()
            organization = create_organization(first, unique("Ended"))
            membership = add_member(first, user, organization)
            ends("organization_membership", membership, "PUT", f"/user_management/organization_memberships/{membership}/deactivate")
            key = api.post(f"/organizations/{organization}/api_keys", json={"name": "ended"}).json()["id"]
            ends("api_key", key, "DELETE", f"/api_keys/{key}")
    assert len(delays) == 21 * len(nodes)
    assert statistics.median(delays) < BOUND, sorted(delays)


def test_row_23_a_stolen_refresh_token_is_news_on_every_node(nodes: list[Server], http: httpx.Client) -> None:
    first, feeds = nodes[0], [Feed(node) for node in nodes]
    account = create_account(first, "stolen")
    pair = sign_in_by_api(first, http, account)
    with open_api(first) as api:
        [session] = api.get(f"/user_management/users/{account.id}/sessions").json()["data"]
    # Two generations on, the first token is nobody's retry any more, however little time has passed.
    second = authenticate(first, http, "refresh_token", refresh_token=pair["refresh_token"]).json()
    authenticate(first, http, "refresh_token", refresh_token=second["refresh_token"])
    assert authenticate(first, http, "refresh_token", refresh_token=pair["refresh_token"]).status_code == 400
    for feed in feeds:
        feed.heard_at("session", session["id"])


def test_a_listener_that_comes_back_to_another_node_misses_nothing_and_hears_nothing_twice(nodes: list[Server], http: httpx.Client) -> None:
    first, last = nodes[0], nodes[-1]

    def end_session() -> str:
        account = create_account(first, "gap")
        sign_in_by_api(first, http, account)
        with open_api(first) as api:
            [session] = api.get(f"/user_management/users/{account.id}/sessions").json()["data"]
            assert api.post("/user_management/sessions/revoke", json={"session_id": session["id"]}).status_code == 200
        return str(session["id"])

    before = Feed(first)
    heard = end_session()
    before.heard_at("session", heard)
    cursor = next(id for _, name, id, data in before.events if name == "revocation" and data["subject"] == heard)
    missed = [end_session() for _ in range(3)]
    after = Feed(last, last_event_id=cursor)
    assert [data["subject"] for data in after.told()] == missed
    polled = httpx.get(
        f"{last.url}/revocations", params={"after": cursor}, headers={"authorization": f"Bearer {last.api_key}"}, trust_env=False
    )
    assert [data["subject"] for data in polled.json()["data"]] == missed


def test_a_poll_waits_for_news_of_another_node(nodes: list[Server], http: httpx.Client) -> None:
    first, last = nodes[0], nodes[-1]
    account = create_account(first, "waiting")
    sign_in_by_api(first, http, account)
    headers = {"authorization": f"Bearer {last.api_key}"}
    cursor = httpx.get(f"{last.url}/revocations", headers=headers, trust_env=False).json()["list_metadata"]["after"]
    answers: list[httpx.Response] = []

    def ask() -> None:
        params = {"after": cursor, "wait": "25"}
        answers.append(httpx.get(f"{last.url}/revocations", params=params, headers=headers, trust_env=False, timeout=30))

    asking = threading.Thread(target=ask)
    asking.start()
    with open_api(first) as api:
        assert api.delete(f"/user_management/users/{account.id}").status_code == 200
    asking.join(PATIENCE)
    assert not asking.is_alive(), "the poll did not end with the news"
    assert account.id in {data["subject"] for data in answers[0].json()["data"]}


def test_a_server_that_is_told_to_stop_ends_its_feeds_at_once(tmp_path: Path) -> None:
    with open_database() as database:
        server = start_server(data=tmp_path, database=database)
        feeds = [Feed(server) for _ in range(8)]
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < PATIENCE
        for feed in feeds:
            feed.wait(lambda feed=feed: feed.ended, "the feed went on")
