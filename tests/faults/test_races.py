"""Things that work once, asked for by 64 callers at the same moment, on the engine under test."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from accounts import PASSWORD, Account, authenticate, create_account, open_api, sign_in_by_api
from hosted_pages import CALLBACK, Browser, authorize_url, sign_in
from running_server import Server, running_server

CALLERS, ROUNDS = 64, 20
AUTHENTICATE = "/user_management/authenticate"


def race(server: Server, path: str, body: dict[str, str]) -> list[tuple[int, dict[str, Any]]]:
    """Sends one request from 64 connections: all but the last byte of each, then the last bytes together."""
    parts = urlsplit(server.url)
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {server.api_key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    message = head.encode() + content
    wires = [socket.create_connection((parts.hostname or "", parts.port or 80), 30) for _ in range(CALLERS)]
    for wire in wires:
        wire.sendall(message[:-1])
    for wire in wires:
        wire.sendall(message[-1:])
    return [read_answer(wire) for wire in wires]


def read_answer(wire: socket.socket) -> tuple[int, dict[str, Any]]:
    with wire:
        wire.settimeout(60)
        answer = b"".join(iter(lambda: wire.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        pieces, rest = b"", body
        while rest and (size := int(rest.split(b"\r\n", 1)[0], 16)):
            rest = rest.split(b"\r\n", 1)[1]
            pieces, rest = pieces + rest[:size], rest[size + 2 :]
        body = pieces
    return int(head.split(b" ", 2)[1]), json.loads(body) if body else {}


def grant(server: Server, grant_type: str, **fields: str) -> dict[str, str]:
    return {"grant_type": grant_type, "client_id": server.client_id, "client_secret": server.api_key, **fields}


def winner(answers: list[tuple[int, dict[str, Any]]], losers: set[int]) -> dict[str, Any]:
    counted = Counter(status for status, _ in answers)
    assert counted[200] == 1 and set(counted) <= {200} | losers, counted
    return next(body for status, body in answers if status == 200)


def test_one_authorization_code_has_one_winner(server: Server, account: Account) -> None:
    browser = Browser()
    sign_in(browser, server, authorize_url(server), account.email, PASSWORD)
    for _ in range(ROUNDS):
        page = browser.open(authorize_url(server))
        assert page.url.startswith(CALLBACK)
        body = winner(race(server, AUTHENTICATE, grant(server, "authorization_code", code=page.query["code"])), {400})
        assert body["user"]["id"] == account.id


@pytest.fixture(scope="module")
def without_window() -> Iterator[Server]:
    with running_server("--refresh-replay-seconds", "0") as server:
        yield server


def test_one_refresh_token_outside_the_window_has_one_winner(without_window: Server, http: httpx.Client) -> None:
    account = create_account(without_window)
    for _ in range(ROUNDS):
        # A session each: reuse outside the window ends the session it is tried on.
        token = sign_in_by_api(without_window, http, account)["refresh_token"]
        answers = race(without_window, AUTHENTICATE, grant(without_window, "refresh_token", refresh_token=token))
        assert {body["error"] for status, body in answers if status == 400} == {"invalid_grant"}
        assert winner(answers, {400})["refresh_token"] != token


def test_one_refresh_token_inside_the_window_has_one_successor(server: Server, http: httpx.Client, account: Account) -> None:
    token = sign_in_by_api(server, http, account)["refresh_token"]
    for _ in range(ROUNDS):
        answers = race(server, AUTHENTICATE, grant(server, "refresh_token", refresh_token=token))
        assert {status for status, _ in answers} == {200}, Counter(status for status, _ in answers)
        pairs = {(body["access_token"], body["refresh_token"]) for _, body in answers}
        assert len(pairs) == 1
        token = pairs.pop()[1]
    assert authenticate(server, http, "refresh_token", refresh_token=token).status_code == 200


def test_one_magic_code_has_one_winner(server: Server, account: Account) -> None:
    with open_api(server) as api:
        for _ in range(ROUNDS):
            code = api.post("/user_management/magic_auth", json={"email": account.email}).json()["code"]
            body = grant(server, "urn:workos:oauth:grant-type:magic-auth:code", code=code, email=account.email)
            assert winner(race(server, AUTHENTICATE, body), {400})["user"]["id"] == account.id
        sessions = api.get(f"/user_management/users/{account.id}/sessions", params={"limit": 100}).json()["data"]
    assert len(sessions) == ROUNDS, "a loser left a session behind"


def test_one_reset_token_has_one_winner(server: Server, http: httpx.Client, account: Account) -> None:
    with open_api(server) as api:
        for number in range(ROUNDS):
            token = api.post("/user_management/password_reset", json={"email": account.email}).json()["password_reset_token"]
            password = f"{PASSWORD} {number}"
            answers = race(server, "/user_management/password_reset/confirm", {"token": token, "new_password": password})
            assert winner(answers, {400, 404, 429})["user"]["id"] == account.id
            assert authenticate(server, http, "password", email=account.email, password=password).status_code == 200


def test_one_address_signs_up_once(server: Server) -> None:
    from accounts import unique_email

    for _ in range(ROUNDS):
        email = unique_email("once")
        answers = race(server, "/user_management/users", {"email": email})
        counted = Counter(status for status, _ in answers)
        assert counted[201] == 1 and set(counted) == {201, 400}, counted
        assert {body["code"] for status, body in answers if status == 400} == {"user_creation_error"}
