"""Webhooks under kill -9 and from several nodes: every change that was answered is told, in the order of each object."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from organizations import unique
from running_server import DATABASE, Server, find_free_port, open_database, start_server
from webhook_receiver import Receiver, running_receiver

KILLS, LOAD_SECONDS, WRITERS = 25, 0.3, 3


def write(server: Server, answered: dict[str, list[str]], lock: threading.Lock, stop: threading.Event) -> None:
    headers = {"authorization": f"Bearer {server.api_key}"}
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=5) as api:
        while not stop.is_set():
            try:
                made = api.post("/organizations", json={"name": unique("0")})
                if made.status_code != 201:
                    continue
                id, names = made.json()["id"], [made.json()["name"]]
                with lock:
                    answered[id] = names
                for change in range(1, 3):
                    name = unique(str(change))
                    if api.put(f"/organizations/{id}", json={"name": name}).status_code == 200:
                        names.append(name)
            except (httpx.TransportError, ValueError):
                return  # killed under us: not answered


def histories(receiver: Receiver) -> dict[str, list[str]]:
    """The names of each organization in the order in which they were accepted first."""
    seen: set[str] = set()
    told: dict[str, list[str]] = {}
    for one in list(receiver.received):
        event = one.event
        if one.answered == 200 and event["id"] not in seen:
            seen.add(event["id"])
            told.setdefault(event["data"]["id"], []).append(event["data"]["name"])
    return told


def test_kill_9_while_delivering_loses_no_webhook_and_keeps_each_objects_order(tmp_path: Path) -> None:
    port, answered, lock = find_free_port(), dict[str, list[str]](), threading.Lock()
    with open_database() as database, running_receiver() as receiver:
        server = start_server(data=tmp_path, database=database, port=port)
        try:
            headers = {"authorization": f"Bearer {server.api_key}"}
            body = {"endpoint_url": receiver.url, "events": ["organization.created", "organization.updated"]}
            httpx.post(f"{server.url}/webhook_endpoints", headers=headers, json=body, trust_env=False).raise_for_status()
            for _ in range(KILLS):
                stop = threading.Event()
                with ThreadPoolExecutor(WRITERS) as pool:
                    loads = [pool.submit(write, server, answered, lock, stop) for _ in range(WRITERS)]
                    time.sleep(LOAD_SECONDS)
                    server.kill()
                    stop.set()
                    for load in loads:
                        load.result()
                server = start_server(data=tmp_path, database=database, port=port)
            assert len(answered) > KILLS, "there was hardly any load"
            # What was claimed by the dead is tried again once the claim lapses.
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                told = histories(receiver)
                if all(set(names) <= set(told.get(id, [])) for id, names in answered.items()):
                    break
                time.sleep(0.5)
            told = histories(receiver)
            missing = [id for id, names in answered.items() if not set(names) <= set(told.get(id, []))]
            assert not missing, f"{len(missing)} of {len(answered)} organizations were not told of whole"
            for id, names in answered.items():
                # A change may have been committed and its answer lost: it is told too, in its place.
                assert [name for name in told[id] if name in names] == names, f"{id} was told of out of order"
        finally:
            server.stop()


def test_nodes_that_share_a_database_tell_each_event_once_and_in_order(tmp_path: Path) -> None:
    with open_database() as database, running_receiver() as receiver:
        # A file has one server; PostgreSQL has as many as there are.
        servers = [start_server(data=tmp_path, database=database, port=find_free_port()) for _ in range(1 if DATABASE == "sqlite" else 3)]
        try:
            headers = {"authorization": f"Bearer {servers[0].api_key}"}
            body = {"endpoint_url": receiver.url, "events": ["organization.created", "organization.updated"]}
            httpx.post(f"{servers[0].url}/webhook_endpoints", headers=headers, json=body, trust_env=False).raise_for_status()

            def change(writer: int) -> int:
                with httpx.Client(headers=headers, trust_env=False, timeout=10) as api:
                    for at in range(20):
                        urls = [servers[(writer + at + step) % len(servers)].url for step in range(3)]
                        made = api.post(f"{urls[0]}/organizations", json={"name": f"{writer} {at} 0"}).raise_for_status().json()
                        for step in (1, 2):
                            renamed = {"name": f"{writer} {at} {step}"}
                            api.put(f"{urls[step]}/organizations/{made['id']}", json=renamed).raise_for_status()
                return 60

            with ThreadPoolExecutor(4) as pool:
                caused = sum(pool.map(change, range(4)))
            deadline = time.monotonic() + 60
            while len(receiver.received) < caused and time.monotonic() < deadline:
                time.sleep(0.05)
            # Time for a second node to send what was sent already.
            time.sleep(2)
            counts = Counter(one.event["id"] for one in receiver.received)
            assert len(counts) == caused and set(counts.values()) == {1}
            assert all([name[-1] for name in names] == ["0", "1", "2"] for names in histories(receiver).values())
        finally:
            for server in servers:
                server.stop()
