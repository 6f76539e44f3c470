"""kill -9 between a change and the telling of it: no event is lost, none is without its change, none tells of what was rolled back."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from accounts import open_api, unique_email
from running_server import BINARY, DATABASE, Server, find_free_port, open_database, start_server
from told import open_rows

# What a kill can leave half done is the server's, not the engine's: most of them on the engine that starts sooner.
KILLS, WRITERS = (200 if DATABASE == "sqlite" else 60), 3


def write(server: Server, answered: set[str], refused: set[str], stop: threading.Event) -> None:
    headers = {"authorization": f"Bearer {server.api_key}"}
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=5) as api:
        while not stop.is_set():
            try:
                email = unique_email("told")
                made = api.post("/user_management/users", json={"email": email})
                if made.status_code == 201:
                    answered.add(made.json()["id"])
                # Rolled back: the address is taken.
                again = api.post("/user_management/users", json={"email": email, "first_name": "Rolled Back"})
                if again.status_code == 400:
                    refused.add(email)
            except (httpx.TransportError, ValueError):
                return  # killed under us: not answered


class Reader:
    """Reads events by cursor, as a customer's job does, and keeps its cursor over kills."""

    def __init__(self) -> None:
        self.after = ""
        self.seen: list[dict[str, Any]] = []
        self.ids: list[str] = []

    def catch_up(self, server: Server) -> None:
        with open_api(server) as api:
            while True:
                page = api.get("/events", params={"limit": 100, **({"after": self.after} if self.after else {})})
                assert page.status_code == 200, page.text
                for event in page.json()["data"]:
                    self.ids.append(event["id"])
                    self.seen.append(event)
                    self.after = event["id"]
                if not page.json()["list_metadata"]["after"]:
                    return


def test_kills_lose_no_event_and_invent_none(tmp_path: Path) -> None:
    port = find_free_port()
    with open_database() as database:
        server = start_server(data=tmp_path, database=database, port=port)
        answered: set[str] = set()
        refused: set[str] = set()
        reader = Reader()
        try:
            for number in range(KILLS):
                stop = threading.Event()
                with ThreadPoolExecutor(WRITERS) as pool:
                    loads = [pool.submit(write, server, answered, refused, stop) for _ in range(WRITERS)]
                    before, deadline = len(answered), time.monotonic() + 10
                    while len(answered) < before + 2 and time.monotonic() < deadline:
                        time.sleep(0.002)
                    # Anywhere between a commit and the places of many: they come about 20 ms after it.
                    time.sleep(random.uniform(0, 0.06))
                    if number % 10 == 0:
                        reader.catch_up(server)
                    server.kill()
                    stop.set()
                    for load in loads:
                        load.result()
                server = start_server(data=tmp_path, database=database, port=port)
            reader.catch_up(server)
            assert len(answered) > KILLS and refused, "there was hardly any load"
            with open_rows(tmp_path, database) as rows:
                users = {id for (id,) in rows.execute("SELECT id FROM users").fetchall()}
                wanted = (
                    "SELECT id, seq, event, data FROM events WHERE environment_id = (SELECT environment_id FROM users LIMIT 1) ORDER BY seq"
                )
                kept = rows.execute(wanted).fetchall()
            told = {event["data"]["id"] for event in reader.seen if event["event"] == "user.created"}
            assert answered <= told, f"{len(answered - told)} answered changes were never told"
            assert told == users, f"{len(told - users)} events without their user, {len(users - told)} users without their event"
            assert len(reader.ids) == len(set(reader.ids)), "a reader with a cursor meets no event twice"
            assert not any(event["data"].get("first_name") == "Rolled Back" for event in reader.seen)
            created = [row for row in kept if row[2] == "user.created"]
            assert len(created) == len(users), "each change is told once"
            assert [row[1] for row in kept] == list(range(1, len(kept) + 1)), "places have no gaps"
            shown = {json.loads(row[3]).get("id") for row in created}
            assert shown == users
        finally:
            server.stop()
        verified = subprocess.run(
            [str(BINARY), "audit", "verify", "--data", str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
        )
        assert verified.returncode == 0, verified.stdout + verified.stderr
