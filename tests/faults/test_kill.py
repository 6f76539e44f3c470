"""kill -9 and SIGTERM under load: what was answered is kept, what was begun is finished."""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from accounts import PASSWORD, Account, authenticate, create_account, open_api, sign_in_by_api, unique_email
from recording import open_client
from running_server import DATABASE, Server, find_free_port, open_database, start_server

KILLS, LOAD_SECONDS, WRITERS = 50, 0.35, 3


@dataclass
class Journal:
    """What the server answered, as the clients saw it."""

    users: set[str] = field(default_factory=set)
    chains: dict[int, list[str]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    answered: int = 0


def write(server: Server, journal: Journal, number: int, stop: threading.Event) -> None:
    headers = {"authorization": f"Bearer {server.api_key}"}
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=5) as api:
        while not stop.is_set():
            try:
                made = api.post("/user_management/users", json={"email": unique_email("journal")})
                if made.status_code == 201:
                    with journal.lock:
                        journal.users.add(made.json()["id"])
                        journal.answered += 1
                chain = journal.chains[number]
                renewed = authenticate(server, api, "refresh_token", refresh_token=chain[-1])
                if renewed.status_code == 200 and renewed.json()["refresh_token"] not in chain:
                    chain.append(renewed.json()["refresh_token"])
                    journal.answered += 1
            except (httpx.TransportError, ValueError):
                return  # killed under us: not answered


def test_kill_9_under_load_loses_no_answered_write(tmp_path: Path, http: httpx.Client) -> None:
    port = find_free_port()
    with open_database() as database:
        server = start_server(data=tmp_path, database=database, port=port)
        journal = Journal()
        people = [create_account(server, "chain") for _ in range(WRITERS)]
        for number, person in enumerate(people):
            journal.chains[number] = [sign_in_by_api(server, http, person)["refresh_token"]]
        starts: list[float] = []
        try:
            for _ in range(KILLS):
                stop = threading.Event()
                with ThreadPoolExecutor(WRITERS) as pool:
                    loads = [pool.submit(write, server, journal, number, stop) for number in range(WRITERS)]
                    time.sleep(LOAD_SECONDS)
                    server.kill()
                    stop.set()
                    for load in loads:
                        load.result()
                server = start_server(data=tmp_path, database=database, port=port)
                starts.append(server.started_in)
                check_chains(server, http, journal)
            assert journal.answered > KILLS * WRITERS, "there was hardly any load"
            with open_api(server) as api:
                kept, after = set(), None
                while True:
                    body = api.get("/user_management/users", params={"limit": 100, **({"after": after} if after else {})}).json()
                    kept |= {user["id"] for user in body["data"]}
                    if not (after := body["list_metadata"]["after"]):
                        break
            for chain in journal.chains.values():
                dead = authenticate(server, http, "refresh_token", refresh_token=chain[-3])
                assert (dead.status_code, dead.json()["error"]) == (400, "invalid_grant"), "an exchanged token came back to life"
            assert journal.users <= kept, f"{len(journal.users - kept)} of {len(journal.users)} answered users are gone"
        finally:
            server.stop()
        assert max(starts) < 2, f"the slowest start took {max(starts):.2f} s"
        if DATABASE == "sqlite":
            [file] = tmp_path.rglob("*.db")
            with sqlite3.connect(file) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def check_chains(server: Server, http: httpx.Client, journal: Journal) -> None:
    """The newest answered token still works."""
    for chain in journal.chains.values():
        renewed = authenticate(server, http, "refresh_token", refresh_token=chain[-1])
        assert renewed.status_code == 200, f"an answered refresh was lost: {renewed.text}"
        if renewed.json()["refresh_token"] not in chain:
            chain.append(renewed.json()["refresh_token"])


def test_sigterm_finishes_what_it_began() -> None:
    with open_database() as database:
        server = start_server(database=database)
        account = create_account(server)
        barrier = threading.Barrier(9)

        def sign_in(_: int) -> int:
            with open_client() as own:
                own.get(f"{server.url}/health")
                barrier.wait()
                return authenticate(server, own, "password", email=account.email, password=PASSWORD).status_code

        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(sign_in, n) for n in range(8)]
            barrier.wait()
            time.sleep(0.03)
            status = server.stop()
            assert [answer.result() for answer in answers] == [200] * 8
        assert status == 0


def test_data_survives_an_ordinary_restart(tmp_path: Path, http: httpx.Client) -> None:
    with open_database() as database:
        first = start_server(data=tmp_path, database=database)
        account: Account = create_account(first)
        token = sign_in_by_api(first, http, account)["refresh_token"]
        first.wait_for_next_key()
        keys = http.get(f"{first.url}/sso/jwks/{first.client_id}").json()
        first.stop()
        second = start_server(data=tmp_path, database=database)
        try:
            assert (second.api_key, second.client_id, second.cookie_password) == (first.api_key, first.client_id, first.cookie_password)
            assert http.get(f"{second.url}/sso/jwks/{second.client_id}").json() == keys
            assert authenticate(second, http, "refresh_token", refresh_token=token).status_code == 200
        finally:
            second.stop()
