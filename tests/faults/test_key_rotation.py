"""Signing keys rotate under load; a verifier with an old copy of the key set never meets an unknown key."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import jwt

from accounts import authenticate, create_account, sign_in_by_api
from recording import open_client
from running_server import Server, open_database, start_server

ROTATIONS = 12


def fetch_keys(http: httpx.Client, server: Server) -> dict[str, object]:
    keys = http.get(f"{server.url}/sso/jwks/{server.client_id}").json()["keys"]
    return {key["kid"]: jwt.PyJWK(key).key for key in keys}


def test_no_verification_fails_while_keys_rotate_under_load(tmp_path: Path, http: httpx.Client) -> None:
    with open_database() as database:
        server = start_server("--key-publish-seconds", "1", data=tmp_path, database=database)
        try:
            check_rotation(server, tmp_path, http)
        finally:
            server.stop()


def check_rotation(server: Server, data: Path, http: httpx.Client) -> None:
    # The copy a verifier holds, as old as it may be: fetched before a rotation, used until the next.
    cached = [fetch_keys(http, server)]
    seen: dict[str, int] = {}
    failures: list[str] = []
    stop = threading.Event()

    def use(_: int) -> None:
        with open_client() as own:
            token = sign_in_by_api(server, own, create_account(server, "rotation"))
            while not stop.is_set():
                token = authenticate(server, own, "refresh_token", refresh_token=token["refresh_token"]).json()
                kid = jwt.get_unverified_header(token["access_token"])["kid"]
                seen[kid] = seen.get(kid, 0) + 1
                try:
                    jwt.decode(token["access_token"], cached[0][kid], algorithms=["RS256"])  # type: ignore[arg-type]
                except (KeyError, jwt.InvalidTokenError) as error:
                    failures.append(f"{kid}: {error!r}")

    server.wait_for_next_key()
    with ThreadPoolExecutor(4) as pool:
        users = [pool.submit(use, n) for n in range(4)]
        try:
            for _ in range(ROTATIONS):
                time.sleep(1.2)
                cached[0] = fetch_keys(http, server)
                rotated = server.rotate_keys(data)
                assert rotated.returncode == 0, rotated.stderr
        finally:
            stop.set()
        for user in users:
            user.result()
    assert not failures, failures[:5]
    assert len(seen) > ROTATIONS // 2, f"the load met only {len(seen)} keys"
    assert set(seen) <= set(fetch_keys(http, server)), "a key that signed is not published any more"


def test_a_key_that_was_not_published_long_enough_is_not_used(tmp_path: Path) -> None:
    with open_database() as database:
        server = start_server(data=tmp_path, database=database)
        try:
            early = server.rotate_keys(tmp_path)
            assert early.returncode != 0 and len(early.stderr.strip().splitlines()) == 1, early.stderr
        finally:
            server.stop()
