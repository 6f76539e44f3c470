"""Attacks on accounts, input and availability."""

from __future__ import annotations

import json
import os
import re
import socket
import statistics
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from accounts import PASSWORD, Account, authenticate, create_account, open_api, unique_email
from hosted_pages import Browser, Page, authorize_url
from recording import RECORD, open_client
from running_server import LOGS, Server

USERS = "/user_management/users"
MAGIC = "urn:workos:oauth:grant-type:magic-auth:code"


def shown(page: Page, *hide: str) -> tuple[int, str, str]:
    """Status, path and words of a page, with what the person typed taken out."""
    text = page.text
    for word in hide:
        text = text.replace(word, "…")
    return page.status, re.sub(r"[0-9A-Za-z_-]{20,}", "…", urlsplit(page.url).path), text


def fail_sign_in(server: Server, email: str) -> list[tuple[int, str, str]]:
    browser = Browser()
    page = browser.open(authorize_url(server))
    seen = [shown(page, email)]
    if not page.find_form("password"):
        page = browser.submit(page, page.load_form("email"), email=email)
        seen.append(shown(page, email))
    form = page.load_form("password")
    given = {"password": "wrong wrong wrong"} | ({"email": email} if "email" in form.visible else {})
    seen.append(shown(browser.submit(page, form, **given), email))
    return seen


def ask_for_reset(server: Server, email: str) -> tuple[int, str, str]:
    browser = Browser()
    page = browser.open(authorize_url(server))
    if not page.find_link("forgot|reset"):
        page = browser.submit(page, page.load_form("email"), email=email)
    page = browser.click(page, "forgot|reset")
    form = page.load_form("email") if page.find_form("email") else page.forms[0]
    return shown(browser.submit(page, form, **({"email": email} if "email" in form.visible else {})), email)


def test_row_37_pages_say_the_same_for_known_and_unknown(server: Server) -> None:
    known, unknown = create_account(server, "known").email, unique_email("known")
    assert fail_sign_in(server, known) == fail_sign_in(server, unknown)
    assert ask_for_reset(server, known) == ask_for_reset(server, unknown)


def test_row_37_the_api_says_the_same_for_known_and_unknown(server: Server, http: httpx.Client) -> None:
    known, unknown = create_account(server, "known").email, unique_email("known")
    answers = [authenticate(server, http, "password", email=email, password="wrong wrong wrong") for email in (known, unknown)]
    bodies = [a.text.replace(email, "…") for a, email in zip(answers, (known, unknown), strict=True)]
    assert answers[0].status_code == answers[1].status_code == 400 and bodies[0] == bodies[1]
    codes = [authenticate(server, http, MAGIC, email=email, code="000000") for email in (known, unknown)]
    assert codes[0].status_code == codes[1].status_code and codes[0].json().keys() == codes[1].json().keys()
    assert codes[0].json()["code"] == codes[1].json()["code"]


def test_row_42_guesses_are_limited_per_account_and_not_by_spelling(limited: Server, http: httpx.Client) -> None:
    account = create_account(limited, "brute")
    spellings = [account.email, account.email.upper(), f" {account.email} ", account.email.title()]
    statuses = [authenticate(limited, http, "password", email=spellings[i % 4], password=f"wrong wrong {i}").status_code for i in range(14)]
    assert statuses[:10] == [400] * 10 and set(statuses[10:]) == {429}


def test_row_42_another_place_cannot_lock_the_owner_out_of_a_known_browser(limited: Server, http: httpx.Client) -> None:
    account = create_account(limited, "owner")
    owner = Browser()
    page = owner.open(authorize_url(limited))
    form = page.load_form("email")
    page = owner.submit(
        page, form, **({"email": account.email, "password": PASSWORD} if "password" in form.visible else {"email": account.email})
    )
    if password := page.find_form("password"):
        page = owner.submit(page, password, password=PASSWORD)
    assert "code" in page.query
    for i in range(15):
        authenticate(limited, http, "password", email=account.email, password=f"wrong wrong {i}")
    again = owner.open(authorize_url(limited, max_age="0"))
    form = again.load_form("password") if again.find_form("password") else again.load_form("email")
    given = {"email": account.email, "password": PASSWORD}
    again = owner.submit(again, form, **{m: v for m, v in given.items() if m in form.visible})
    if password := again.find_form("password"):
        again = owner.submit(again, password, password=PASSWORD)
    assert "code" in again.query, f"{again.status}: {again.text[:200]}"


def test_row_42_codes_allow_five_tries(limited: Server, http: httpx.Client) -> None:
    account = create_account(limited, "tries")
    with open_api(limited) as api:
        code = api.post("/user_management/magic_auth", json={"email": account.email}).json()["code"]
    wrong = [c for c in ("111111", "222222", "333333", "444444", "555555", "666666") if c != code][:5]
    for guess in wrong:
        assert authenticate(limited, http, MAGIC, email=account.email, code=guess).status_code == 400
    late = authenticate(limited, http, MAGIC, email=account.email, code=code)
    assert late.status_code in {400, 429} and "access_token" not in late.text


@pytest.mark.parametrize(
    "query",
    [
        {"after": "user_01HXYZHXYZHXYZHXYZHXYZHXYZ' OR 1=1 --"},
        {"after": "../../etc"},
        {"after": "\u0000"},
        {"before": "x" * 10000},
        {"limit": "-1"},
        {"limit": "1000000000"},
        {"limit": "1;DROP TABLE users"},
        {"limit": "9223372036854775808"},
        {"order": "desc; DROP TABLE users"},
        {"order": "id"},
    ],
    ids=lambda q: next(iter(q)) + "=" + next(iter(q.values()))[:24].encode("ascii", "replace").decode().replace("\0", "NUL"),
)
def test_row_52_forged_cursors_and_limits(api: httpx.Client, query: dict[str, str]) -> None:
    answer = api.get(USERS, params=query)
    assert answer.status_code < 500
    if answer.status_code == 200:  # an opaque cursor that names nothing: nobody, or only our own rows
        assert "after" in query or "before" in query
    else:
        assert 400 <= answer.status_code < 500 and "message" in answer.json()
    assert api.get(USERS, params={"limit": 1}).status_code == 200


def test_row_52_a_cursor_of_another_environment_shows_nothing_of_it(server: Server, account: Account) -> None:
    other = next(e for e in server.facts["environments"] if e["api_key"] != server.api_key)
    with open_api(server, other["api_key"]) as foreign:
        foreign.post(USERS, json={"email": unique_email("other")})
        for order in ("asc", "desc"):
            for cursor in ("after", "before"):
                for user in foreign.get(USERS, params={cursor: account.id, "order": order, "limit": 100}).json().get("data", []):
                    assert foreign.get(f"{USERS}/{user['id']}").status_code == 200, "a row of another environment"


def nested(depth: int) -> str:
    return '{"email":"a@example.test","metadata":' + "[" * depth + "]" * depth + "}"


@pytest.mark.parametrize(
    ("label", "body"),
    [
        ("deep arrays", nested(100_000)),
        ("deep objects", '{"a":' * 100_000 + "1" + "}" * 100_000),
        ("number out of range", '{"email":"a@example.test","email_verified":1e999}'),
        ("huge integer", '{"email":' + "9" * 400 + "}"),
        ("ten thousand elements", json.dumps({"email": ["a@example.test"] * 10_000})),
        ("duplicate keys", '{"email":"first@example.test","email":"second@example.test"}'),
        ("lone surrogate", '{"email":"a@example.test","first_name":"\\ud800"}'),
        ("NUL in the address", '{"email":"a\\u0000@example.test"}'),
        ("no UTF-8", b'{"email":"\xff\xfe@example.test"}'),
        ("prototype key", '{"email":"nope","__proto__":{"admin":true}}'),
        ("line break in the address", '{"email":"a@example.test\\r\\nBcc: b@example.test"}'),
    ],
    ids=lambda v: v.replace(" ", "-") if isinstance(v, str) and len(v) < 40 and "{" not in v else "",
)
def test_row_53_hostile_json_is_refused(api: httpx.Client, label: str, body: str | bytes) -> None:
    before = newest(api)
    began = time.monotonic()
    answer = api.post(USERS, content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500, f"{label}: {answer.status_code} {answer.text[:200]}"
    assert "message" in answer.json() and time.monotonic() - began < 2
    assert newest(api) == before, "something was written"


def newest(api: httpx.Client) -> str:
    return str(api.get(USERS, params={"limit": 1}).json()["data"][0]["id"])


def test_row_53_names_that_forge_log_lines_or_mail_headers_stay_data(api: httpx.Client, server: Server) -> None:
    email = unique_email("crlf")
    forged = "Eve\r\nBcc: victim@example.test\r\n\x1b[31m"
    answer = api.post(USERS, json={"email": email, "first_name": forged})
    if answer.status_code == 201:
        assert answer.json()["first_name"] == forged
        api.post("/user_management/magic_auth", json={"email": email})
        assert "\n" not in server.take_mail(email).subject
    assert not server.list_mails("victim@example.test")
    assert "\nBcc: victim" not in server.log.read_text() and "\x1b[31m" not in server.log.read_text()


def test_row_43_passwords_that_must_not_pass_are_refused_in_bounded_time(api: httpx.Client) -> None:
    email = unique_email("weak")
    for password in ("short", "password1234", email, "correct\u0000horse battery", "a" * 900_000):
        began = time.monotonic()
        answer = api.post(USERS, json={"email": email, "password": password})
        assert answer.status_code in {400, 413, 422}, password[:20]
        assert time.monotonic() - began < 2
    assert api.get(USERS, params={"email": email}).json()["data"] == []


def test_row_51_fields_that_are_not_the_callers_to_set_are_ignored(api: httpx.Client, server: Server, account: Account) -> None:
    forged = {
        "id": account.id,
        "object": "admin",
        "environment_id": "x",
        "created_at": "2001-01-01T00:00:00.000Z",
        "role": "admin",
        "last_sign_in_at": "2001-01-01T00:00:00.000Z",
    }
    user = api.post(USERS, json={"email": unique_email("mass"), **forged}).json()
    assert (
        user["id"] != account.id
        and user["object"] == "user"
        and not user["created_at"].startswith("2001")
        and user["last_sign_in_at"] is None
    )
    changed = api.put(f"{USERS}/{user['id']}", json=forged).json()
    assert changed["id"] == user["id"] and changed["created_at"] == user["created_at"]


def test_row_50_keys_of_another_environment_open_nothing(server: Server, http: httpx.Client, account: Account) -> None:
    other = next(e for e in server.facts["environments"] if e["api_key"] != server.api_key)
    body = {
        "grant_type": "password",
        "client_id": server.client_id,
        "client_secret": other["api_key"],
        "email": account.email,
        "password": PASSWORD,
    }
    answer = http.post(f"{server.url}/user_management/authenticate", json=body)
    assert 400 <= answer.status_code < 500 and "access_token" not in answer.text
    client_id_as_key = http.get(f"{server.url}{USERS}", headers={"authorization": f"Bearer {server.client_id}"})
    assert client_id_as_key.status_code == 401


# --- availability -------------------------------------------------------------------------------------------------------


def health(http: httpx.Client, server: Server) -> float:
    began = time.monotonic()
    assert http.get(f"{server.url}/health").status_code == 200
    return time.monotonic() - began


def test_row_73_slow_senders_do_not_hold_the_server(server: Server, http: httpx.Client) -> None:
    parts = urlsplit(server.url)
    held = []
    try:
        for _ in range(300):
            wire = socket.create_connection((parts.hostname or "", parts.port or 80), 10)
            wire.sendall(b"POST /user_management/authenticate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Slow: ")
            held.append(wire)
        assert statistics.median(health(http, server) for _ in range(10)) < 0.5
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline and not is_closed(held[0]):
            held[1].sendall(b"a")
            time.sleep(1)
        assert is_closed(held[0]), "a connection that never finishes its headers stays open"
    finally:
        for wire in held:
            wire.close()


def is_closed(wire: socket.socket) -> bool:
    wire.settimeout(0.05)
    try:
        answer = wire.recv(1)
        return answer == b"" or b"H" in answer  # closed, or told 408
    except TimeoutError:
        return False
    except OSError:
        return True


def test_row_73_a_body_that_never_ends_is_cut_off(server: Server) -> None:
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname or "", parts.port or 80), 10) as wire:
        head = f"POST {USERS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.api_key}\r\nContent-Type: application/json\r\n"
        wire.sendall((head + "Transfer-Encoding: chunked\r\n\r\n").encode())
        sent = 0
        try:
            while sent < 64 << 20:
                wire.sendall(b"10000\r\n" + b"a" * 65536 + b"\r\n")
                sent += 65536
        except OSError:
            pass
        assert sent < 32 << 20, "64 MB were read"


@pytest.mark.parametrize("size", [1_000_000, 10_000_000])
def test_row_73_huge_headers_are_refused(server: Server, http: httpx.Client, size: int) -> None:
    try:
        answer = http.get(f"{server.url}/health", headers={"x-big": "a" * size})
        assert answer.status_code in {400, 413, 431}
    except httpx.TransportError:
        pass  # closed on us: as good
    health(http, server)


def test_row_73_a_gzip_bomb_is_not_unpacked(server: Server, api: httpx.Client) -> None:
    import gzip

    bomb = gzip.compress(b" " * (200 << 20), 9)
    assert len(bomb) < 1 << 20
    before = resident_mib(server)
    answer = api.post(USERS, content=bomb, headers={"content-type": "application/json", "content-encoding": "gzip"})
    assert 400 <= answer.status_code < 500
    assert resident_mib(server) - before < 50


def resident_mib(server: Server) -> float:
    with open(f"/proc/{server.process.pid}/status") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def test_row_73_a_flood_of_passwords_is_bounded_and_others_go_on(server: Server, http: httpx.Client) -> None:
    account = create_account(server, "flood")
    stop = threading.Event()
    seen: Counter[int] = Counter()
    lock = threading.Lock()

    def flood(number: int) -> None:
        with open_client() as own:
            while not stop.is_set():
                answer = authenticate(server, own, "password", email=f"flood{number}@example.test", password="wrong wrong wrong")
                with lock:
                    seen[answer.status_code] += 1
                if answer.status_code in {429, 503}:
                    assert int(answer.headers["retry-after"]) >= 1
                    time.sleep(0.05)

    before = resident_mib(server)
    with ThreadPoolExecutor(96) as pool:
        futures = [pool.submit(flood, n) for n in range(96)]
        time.sleep(1)
        checks = sorted(health(http, server) for _ in range(20))
        peak = resident_mib(server)
        stop.set()
        for future in futures:
            future.result()
    assert set(seen) <= {400, 429, 503} and seen[429] + seen[503] > 0, seen
    assert checks[-2] < 2, f"health took {checks[-2]:.2f} s during the flood"
    assert peak - before < 250, f"memory rose by {peak - before:.0f} MiB"
    assert authenticate(server, http, "password", email=account.email, password=PASSWORD).status_code == 200


def test_row_73_idle_connections_cost_little(server: Server, http: httpx.Client) -> None:
    parts = urlsplit(server.url)
    before = resident_mib(server)
    idle = [socket.create_connection((parts.hostname or "", parts.port or 80), 10) for _ in range(800)]
    try:
        assert health(http, server) < 1
        assert resident_mib(server) - before < 40
    finally:
        for wire in idle:
            wire.close()


# --- after everything ---------------------------------------------------------------------------------------------------

SECRET_KEYS = {
    "password",
    "new_password",
    "access_token",
    "refresh_token",
    "client_secret",
    "pending_authentication_token",
    "password_reset_token",
    "token",
    "device_code",
    "password_hash",
    "code_verifier",
    "secret",
    "sealed_session",
}


def collect_secrets(value: Any, key: str = "") -> set[str]:
    if isinstance(value, dict):
        return set().union(*(collect_secrets(v, k) for k, v in value.items())) if value else set()
    if isinstance(value, list):
        return set().union(*(collect_secrets(v, key) for v in value)) if value else set()
    if not isinstance(value, str) or len(value) < 16:
        return set()
    # An API key is called a value, as other things are.
    return {value} if key in SECRET_KEYS or value.startswith("sk_") else set()


@pytest.mark.after_all
def test_row_72_no_secret_is_in_any_log_or_error(server: Server) -> None:
    """Nor in what was told: events, webhooks, audit logs, exports, streams, revocations."""
    server.copy_told()
    assert RECORD, "GATEWRIGHT_RECORD names no file; run the suites with tests/run.py"
    assert os.environ.get("GATEWRIGHT_LOGS"), "GATEWRIGHT_LOGS names no folder; run the suites with tests/run.py"
    secrets: set[str] = set()
    errors: list[str] = []
    with open(RECORD) as lines:
        for line in lines:
            exchange = json.loads(line)
            for body in (exchange["request_body"], exchange["response_body"]):
                try:
                    secrets |= collect_secrets(json.loads(body) if isinstance(body, str) else body)
                except (ValueError, TypeError):
                    continue
            if exchange.get("authorization"):
                secrets.add(exchange["authorization"].removeprefix("Bearer ").strip())
            if exchange["status"] >= 400 and exchange["response_body"]:
                # A step-up hands its token out in a 403: the one secret that belongs into an error.
                errors.append(re.sub(r'"pending_authentication_token":"[^"]*"', "", str(exchange["response_body"])))
            for found in re.findall(r"[?&]code=([0-9A-Za-z_-]{16,})", str((exchange.get("response_headers") or {}).get("location", ""))):
                secrets.add(found)
    secrets = {s for s in secrets if len(s) >= 16 and "wrong" not in s and not s.startswith("client_") and len(set(s)) > 8}
    assert len(secrets) > 100, "the suites recorded too little for this search to mean anything"
    logs = list(LOGS.glob("server-*.log"))
    assert logs
    texts = {log.name: log.read_text(errors="replace") for log in logs} | {"error bodies": "\n".join(errors)}
    assert sum(len(t) for t in texts.values()) > 1000, "the logs are empty"
    assert sum(t.count("\nevents ") for t in texts.values()) > 1000, "hardly anything was told"
    for name, text in texts.items():
        hits = sorted(s[:6] + "…" for s in secrets if s in text)
        assert not hits, f"{name}: {len(hits)} secrets, beginning {hits[:5]}"


@pytest.mark.after_all
def test_nothing_ended_in_a_server_error() -> None:
    assert RECORD, "GATEWRIGHT_RECORD names no file; run the suites with tests/run.py"
    with open(RECORD) as lines:
        bad = [(e["method"], e["path"], e["status"]) for e in map(json.loads, lines) if e["status"] >= 500 and e["status"] != 503]
    assert not bad, bad[:10]
