"""More permissions than a browser's cookie holds: they arrive, or somebody hears of it; never a cookie that is silently dropped."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest
from playwright.sync_api import sync_playwright

from guard.faces import COOKIE, ask_socket
from guard.guarded import Guarded, guarded_app
from guard.stand_in import StandIn, stand_in

pytestmark = pytest.mark.once

# RFC 6265 §6.1 promises no more for a whole cookie with its attributes, and Chromium drops one that is longer.
LARGEST_COOKIE = 4096


def permissions(count: int) -> list[str]:
    return [f"department-{number:04}:expenses:write" for number in range(count)]


@pytest.fixture(scope="module")
def issuer() -> Iterator[StandIn]:
    with stand_in() as server:
        yield server


@pytest.fixture(scope="module", params=["workos-python", "workos-node"])
def app(request: pytest.FixtureRequest, issuer: StandIn) -> Iterator[Guarded]:
    with guarded_app(issuer, cookie_format=request.param) as app:
        yield app


@pytest.fixture
def client(app: Guarded) -> Iterator[httpx.Client]:
    """Keeps cookies as an HTTP library does."""
    with httpx.Client(trust_env=False, timeout=30, follow_redirects=True, base_url=app.url) as client:
        yield client


def sign_in(client: httpx.Client) -> httpx.Response:
    return client.get("/auth/login", params={"return_to": "/me"})


def set_cookies(response: httpx.Response) -> dict[str, str]:
    """Session cookies set on the way, by name; those taken away have an empty value."""
    found: dict[str, str] = {}
    for hop in [*response.history, response]:
        for header in hop.headers.get_list("set-cookie"):
            assert len(header.encode()) <= LARGEST_COOKIE, f"{len(header)} octets: a browser drops it without a word"
            [(name, morsel)] = SimpleCookie(header).items()
            if name.startswith(COOKIE) and "_login" not in name:
                found[name] = "" if morsel["max-age"] == "0" else morsel.value
    return found


@pytest.mark.parametrize("count", [0, 25, 80, 120, 300])
def test_all_permissions_arrive(count: int, client: httpx.Client, issuer: StandIn) -> None:
    issuer.extra_claims = {"permissions": permissions(count)}
    response = sign_in(client)
    assert response.status_code == 200, response.text
    assert response.json()["permissions"] == permissions(count)
    cookies = set_cookies(response)
    if count <= 25:
        assert list(cookies) == [COOKIE], "one cookie is enough"
    if count >= 120:
        assert len([value for value in cookies.values() if value]) > 1, "the test is about more than one cookie"
    assert client.get("/me").json()["permissions"] == permissions(count), "and again with what the client kept"


def test_a_session_that_shrinks_and_grows_is_never_pieced_together_from_two(client: httpx.Client, issuer: StandIn, app: Guarded) -> None:
    for number, count in enumerate((200, 0, 120, 300, 80)):
        issuer.extra_claims = {"permissions": permissions(count), "marker": number}
        assert sign_in(client).json()["permissions"] == permissions(count)
        assert client.get("/me").json()["permissions"] == permissions(count)
        held = [name for name in client.cookies if name.startswith(COOKIE)]
        assert len(held) == 1 or count > 25, held
    # Chunks that somebody else's older session left: the first cookie alone says what belongs together.
    issuer.extra_claims = {"permissions": permissions(3)}
    sign_in(client)
    cookies = {cookie.name: cookie.value for cookie in client.cookies.jar} | {f"{COOKIE}.1": "AAAA", f"{COOKIE}.2": "BBBB"}
    answer = app.http.get(f"{app.url}/me", headers={"cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())})
    assert answer.status_code == 200 and answer.json()["permissions"] == permissions(3)


@pytest.mark.parametrize("harm", ["the last is missing", "the first is missing", "two are swapped", "one is of another session"])
def test_chunks_that_do_not_belong_together_are_refused(harm: str, client: httpx.Client, issuer: StandIn, app: Guarded) -> None:
    issuer.extra_claims = {"permissions": permissions(250)}

    def chunks() -> dict[str, str]:
        client.cookies.clear()
        return {name: value for name, value in set_cookies(sign_in(client)).items() if value}

    held, other = chunks(), chunks()
    assert len(held) >= 3 and held.keys() == other.keys(), held.keys()
    last = max(held, key=lambda name: int(name.rpartition(".")[2]) if "." in name else 0)
    if harm == "the last is missing":
        del held[last]
    elif harm == "the first is missing":
        del held[COOKIE]
    elif harm == "two are swapped":
        held[f"{COOKIE}.1"], held[f"{COOKIE}.2"] = held[f"{COOKIE}.2"], held[f"{COOKIE}.1"]
    else:
        held[last] = other[last]
    answer = app.http.get(f"{app.url}/me", headers={"cookie": "; ".join(f"{name}={value}" for name, value in held.items())})
    assert answer.status_code == 401, answer.text


def test_a_renewal_that_brings_many_permissions_spreads_over_cookies(client: httpx.Client, issuer: StandIn, app: Guarded) -> None:
    issuer.extra_claims = {"permissions": permissions(150)}
    old = issuer.seal(issuer.mint(issuer.expired_claims(permissions=[])))
    response = httpx.get(f"{app.url}/me", headers={"cookie": f"{COOKIE}={old}"}, trust_env=False)
    assert response.status_code == 200 and response.json()["permissions"] == permissions(150)
    fresh = set_cookies(response)
    assert len(fresh) > 1
    held = "; ".join(f"{name}={value}" for name, value in fresh.items())
    assert httpx.get(f"{app.url}/me", headers={"cookie": held}, trust_env=False).json()["permissions"] == permissions(150)
    assert ask_socket(app, cookie=held, origin=app.url).who["permissions"] == permissions(150)


def test_sign_out_takes_every_chunk_away(client: httpx.Client, issuer: StandIn, app: Guarded) -> None:
    issuer.extra_claims = {"permissions": permissions(250)}
    sign_in(client)
    assert len([name for name in client.cookies if name.startswith(COOKIE)]) >= 3
    left = client.post("/auth/logout", headers={"origin": app.url}, follow_redirects=False)
    assert left.status_code in {200, 204, 302, 303}, left.text
    assert [name for name in client.cookies if name.startswith(COOKIE)] == []


SAID = re.compile(r"too (large|long)|longer than|cannot be kept in cookies")
# A token no guard reads, and a session of a good token with a user too many cookies large.
TOO_MUCH: dict[str, dict[str, Any]] = {
    "token": {"extra_claims": {"permissions": permissions(2000)}, "extra_user": {}},
    "user": {"extra_claims": {"permissions": permissions(300)}, "extra_user": {"metadata": {"notes": "x" * 20_000}}},
}


def wait_for_line(app: Guarded, logged: int) -> bool:
    """Whether the log says it, beyond what was there: it is written by a thread of its own."""
    deadline = time.monotonic() + 5
    while not (said := SAID.search(app.log.read_text()[logged:])) and time.monotonic() < deadline:
        time.sleep(0.02)
    return said is not None


@pytest.fixture
def overflowing(request: pytest.FixtureRequest, issuer: StandIn) -> Iterator[StandIn]:
    issuer.extra_claims, issuer.extra_user = TOO_MUCH[request.param]["extra_claims"], TOO_MUCH[request.param]["extra_user"]
    yield issuer
    issuer.extra_claims, issuer.extra_user = {}, {}


@pytest.mark.parametrize("overflowing", TOO_MUCH, indirect=True)
def test_more_than_any_browser_holds_is_said_aloud(client: httpx.Client, overflowing: StandIn, app: Guarded) -> None:
    """A page that names the reason and a line in the log; not a cookie that vanishes and a sign-in that goes in circles."""
    logged = len(app.log.read_text())
    response = sign_in(client)
    assert response.status_code >= 400 and response.status_code != 500, response.text[:300]
    assert [name for name in client.cookies if name.startswith(COOKIE) and "_login" not in name] == []
    assert SAID.search(response.text), response.text[-600:]
    assert wait_for_line(app, logged), app.log.read_text()[logged:]


@pytest.mark.parametrize("overflowing", TOO_MUCH, indirect=True)
def test_a_renewal_that_no_browser_can_hold_is_said_aloud(client: httpx.Client, overflowing: StandIn, app: Guarded) -> None:
    logged = len(app.log.read_text())
    claims = overflowing.expired_claims(permissions=[])
    response = client.get("/me", headers={"cookie": f"{COOKIE}={overflowing.seal(overflowing.mint(claims))}"})
    assert response.status_code != 500 and not [value for value in set_cookies(response).values() if value]
    assert wait_for_line(app, logged), (response.status_code, response.text, app.log.read_text()[logged:])


def test_chromium_keeps_every_chunk(app: Guarded, issuer: StandIn) -> None:
    issuer.extra_claims = {"permissions": permissions(200)}
    found = os.environ.get("GATEWRIGHT_CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    assert found, "no Chromium was found; install it (Debian, Ubuntu: apt install chromium) or set GATEWRIGHT_CHROMIUM to its path"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        page = chromium.new_page()
        page.goto(f"{app.url}/auth/login?return_to=/me")
        assert page.url == f"{app.url}/me"
        shown: dict[str, Any] = page.evaluate("() => fetch('/me').then((answer) => answer.json())")
        assert shown["permissions"] == permissions(200)
        held = [cookie["name"] for cookie in page.context.cookies() if cookie["name"].startswith(COOKIE)]
        assert len(held) > 1
        changed = page.evaluate("() => fetch('/me', { method: 'POST' }).then((answer) => answer.status)")
        assert changed == 200, "a page of our own may post with the cookie"
        chromium.close()
