"""Attacks on redirects, the authorization endpoint and the pages behind it."""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import jwt
import pytest

from accounts import PASSWORD, Account, authenticate, create_account, open_api, unique_email
from hosted_pages import CALLBACK, Browser, Cookie, Page, authorize_url, complete, is_on, obtain_code, sign_in
from recording import open_client
from running_server import Server

REGISTERED = "https://app.example.com/callback"


@pytest.fixture(scope="module", autouse=True)
def registered(server: Server) -> Iterator[None]:
    with open_api(server) as api:
        assert api.post("/user_management/redirect_uris", json={"uri": REGISTERED}).status_code == 201
    yield


def start(http: httpx.Client, server: Server, **parameters: str) -> httpx.Response:
    return http.get(authorize_url(server, **parameters))


def assert_refused_as_page(answer: httpx.Response) -> None:
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.headers.get("location"))
    assert "location" not in answer.headers and answer.headers["content-type"].startswith("text/html")


def pkce() -> tuple[str, str]:
    verifier = secrets.token_urlsafe(48)
    return verifier, base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


@pytest.mark.parametrize(
    "uri",
    [
        f"{REGISTERED}/",
        "https://app.example.com/Callback",
        "https://app.example.com:8443/callback",
        "https://app.example.com:443/callback",
        f"{REGISTERED}x",
        f"{REGISTERED}/../callback",
        "https://app.example.com/x/../callback",
        "https://app.example.com%2Fcallback",
        "https://app.example.com/%2e/callback",
        "https://user@app.example.com/callback",
        "https://app.example.com@evil.example/callback",
        f"{REGISTERED}#fragment",
        f"{REGISTERED}?extra=1",
        "https://app.example.com.evil.example/callback",
        "http://app.example.com/callback",
        "https://APP.example.com\\@evil.example/callback",
        "//app.example.com/callback",
        "https:app.example.com/callback",
        "/callback",
        "http://localhost.evil.example/callback",
        "http://127.0.0.1.evil.example/",
        "http://localhost@evil.example/",
        "http://evil.example/#localhost",
        f" {REGISTERED}",
        f"{REGISTERED}\n",
        "",
    ],
)
def test_row_01_redirect_uri_that_differs_is_shown_not_followed(http: httpx.Client, server: Server, uri: str) -> None:
    params = {"response_type": "code", "client_id": server.client_id, "provider": "authkit", "redirect_uri": uri}
    assert_refused_as_page(http.get(f"{server.url}/user_management/authorize", params=params))


def test_row_01_the_registered_redirect_uri_is_accepted(http: httpx.Client, server: Server) -> None:
    answer = start(http, server, redirect_uri=REGISTERED)
    assert answer.status_code in {200, 302, 303} and not answer.headers.get("location", "").startswith(REGISTERED)


@pytest.mark.parametrize(
    "uri",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "JaVaScRiPt:alert(1)//https://app.example.com",
        "myapp://callback",
        "file:///etc/passwd",
        "blob:x",
        "vbscript:x",
    ],
)
def test_row_02_schemes_that_run_code_are_refused(http: httpx.Client, server: Server, uri: str) -> None:
    assert_refused_as_page(start(http, server, redirect_uri=uri))
    with open_api(server) as api:
        assert api.post("/user_management/redirect_uris", json={"uri": uri}).status_code in {400, 422}


@pytest.mark.parametrize("name", ["redirect_uri", "client_id", "response_type", "state", "code_challenge"])
def test_row_03_repeated_parameters_are_refused(http: httpx.Client, server: Server, name: str) -> None:
    given = {
        "redirect_uri": "https://evil.example/",
        "client_id": server.client_id,
        "response_type": "code",
        "state": "b",
        "code_challenge": pkce()[1],
    }
    extra = {"state": "a", "code_challenge": pkce()[1], "code_challenge_method": "S256"}
    answer = http.get(f"{authorize_url(server, **extra)}&{httpx.QueryParams({name: given[name]})}")
    if "location" in answer.headers:  # told to the registered app, as OAuth wants it
        assert (
            answer.headers["location"].startswith(CALLBACK)
            and "error=" in answer.headers["location"]
            and "code=" not in answer.headers["location"]
        )
    else:
        assert 400 <= answer.status_code < 500


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "https:\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "javascript:alert(1)",
        "http://localhost@evil.example/",
    ],
)
def test_row_04_sign_out_never_leaves_for_an_unknown_place(http: httpx.Client, server: Server, target: str) -> None:
    account = create_account(server)
    token = authenticate(server, http, "password", email=account.email, password=PASSWORD).json()["access_token"]
    session = jwt.decode(token, options={"verify_signature": False})["sid"]
    answer = http.get(f"{server.url}/user_management/sessions/logout", params={"session_id": session, "return_to": target})
    assert answer.status_code < 500
    if location := answer.headers.get("location"):
        assert urlsplit(location).hostname in {None, "localhost", "127.0.0.1"} and "evil" not in location.split("?")[0], location


def assert_no_code(answer: httpx.Response | Page) -> None:
    location = answer.url if isinstance(answer, Page) else answer.headers.get("location", "")
    status = answer.status if isinstance(answer, Page) else answer.status_code
    assert "code=" not in str(location) and ("error=" in str(location) or 400 <= status < 500), (status, location)


def test_row_05_a_public_client_needs_a_challenge_and_only_s256(http: httpx.Client, server: Server, account: Account) -> None:
    verifier, challenge = pkce()
    for wrong in (
        {"code_challenge": verifier, "code_challenge_method": "plain"},
        {"code_challenge": challenge, "code_challenge_method": "S512"},
        {"code_challenge": "short", "code_challenge_method": "S256"},
    ):
        assert_no_code(start(http, server, **wrong))
    # Without a method a challenge of S256 length would be "plain" (RFC 7636 4.3): refused, or held to S256.
    page = sign_in_or_refused(server, account, code_challenge=challenge)
    if page.query.get("code"):
        plain = {"grant_type": "authorization_code", "client_id": server.client_id, "code": page.query["code"], "code_verifier": challenge}
        assert http.post(f"{server.url}/user_management/authenticate", json=plain).status_code == 400
    # No secret and no challenge: the code alone is worth nothing.
    code = obtain_code(server, account.email, PASSWORD)
    bare = {"grant_type": "authorization_code", "client_id": server.client_id, "code": code}
    assert 400 <= http.post(f"{server.url}/user_management/authenticate", json=bare).status_code < 500


def sign_in_or_refused(server: Server, account: Account, **parameters: str) -> Page:
    browser = Browser()
    page = browser.open(authorize_url(server, **parameters))
    return (
        page if page.status >= 400 or not is_on(server, page) else complete(browser, server, page, email=account.email, password=PASSWORD)
    )


def test_row_06_pkce_cannot_be_taken_away_or_added(http: httpx.Client, server: Server, account: Account) -> None:
    verifier, challenge = pkce()
    asked = {"code_challenge": challenge, "code_challenge_method": "S256"}
    for given in (None, "x" * 43, pkce()[0]):
        code = obtain_code(server, account.email, PASSWORD, **asked)
        answer = authenticate(server, http, "authorization_code", code=code, code_verifier=given)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    code = obtain_code(server, account.email, PASSWORD)
    answer = authenticate(server, http, "authorization_code", code=code, code_verifier=verifier)
    assert answer.status_code == 400
    code = obtain_code(server, account.email, PASSWORD, **asked)
    assert authenticate(server, http, "authorization_code", code=code, code_verifier=verifier).status_code == 200


def test_row_07_a_code_used_twice_ends_what_it_gave(http: httpx.Client, server: Server, account: Account) -> None:
    code = obtain_code(server, account.email, PASSWORD)
    first = authenticate(server, http, "authorization_code", code=code)
    assert first.status_code == 200
    second = authenticate(server, http, "authorization_code", code=code)
    assert (second.status_code, second.json()["error"]) == (400, "invalid_grant")
    dead = authenticate(server, http, "refresh_token", refresh_token=first.json()["refresh_token"])
    assert (dead.status_code, dead.json()["error"]) == (400, "invalid_grant")


def test_row_07_sixteen_at_once_exactly_one(http: httpx.Client, server: Server, account: Account) -> None:
    code = obtain_code(server, account.email, PASSWORD)
    barrier = threading.Barrier(16)

    def redeem(_: int) -> int:
        barrier.wait()
        return authenticate(server, http, "authorization_code", code=code).status_code

    with ThreadPoolExecutor(16) as pool:
        statuses = sorted(pool.map(redeem, range(16)))
    assert statuses == [200] + [400] * 15


def test_row_08_a_code_works_only_for_its_own_environment(http: httpx.Client, server: Server, account: Account) -> None:
    other = next(e for e in server.facts["environments"] if e["client_id"] != server.client_id)
    code = obtain_code(server, account.email, PASSWORD)
    for client_id, secret in (
        (other["client_id"], other["api_key"]),
        (other["client_id"], server.api_key),
        (server.client_id, other["api_key"]),
    ):
        body = {"grant_type": "authorization_code", "client_id": client_id, "client_secret": secret, "code": code}
        answer = http.post(f"{server.url}/user_management/authenticate", json=body)
        assert 400 <= answer.status_code < 500 and "access_token" not in answer.text
    # Those were refused before the code was looked at: its owner still has it, or it died with the attempt. Never both tokens.
    assert authenticate(server, http, "authorization_code", code=code).status_code in {200, 400}


def test_row_09_a_half_done_sign_in_belongs_to_its_browser(server: Server, account: Account) -> None:
    victim, attacker = Browser(), Browser()
    page = victim.open(authorize_url(server))
    form = page.load_form("email")
    # The attacker carries on the victim's request with the victim's hidden fields but an own browser.
    stolen = attacker.submit(page, form, email=account.email)
    if is_on(server, stolen) and (password := stolen.find_form("password")):
        stolen = attacker.submit(stolen, password, password=PASSWORD)
    assert "code" not in stolen.query and stolen.status >= 400


def test_row_11_implicit_and_hybrid_responses_are_unsupported(http: httpx.Client, server: Server) -> None:
    for response_type in ("token", "id_token", "code token", "none", ""):
        params = {
            "response_type": response_type,
            "client_id": server.client_id,
            "provider": "authkit",
            "redirect_uri": CALLBACK,
            "state": "s",
        }
        assert_no_code(http.get(f"{server.url}/user_management/authorize", params=params))


def walk_pages(server: Server, account: Account) -> list[Page]:
    """The pages a sign-in shows, a refusal and the signed-out page."""
    browser = Browser()
    pages = [page := browser.open(authorize_url(server))]
    if not page.find_form("password"):
        pages.append(page := browser.submit(page, page.load_form("email"), email=account.email))
    pages.append(browser.submit(page, page.load_form("password"), password="wrong wrong wrong"))
    pages.append(browser.open(authorize_url(server, redirect_uri="https://evil.example")))
    pages.append(browser.open(f"{server.url}/device"))
    pages.append(browser.open(f"{server.url}/user_management/sessions/logout?session_id=session_01HXYZHXYZHXYZHXYZHXYZHXYZ"))
    return pages


def test_row_14_no_page_can_be_framed(server: Server, account: Account) -> None:
    for page in walk_pages(server, account):
        policy = page.response.headers.get("content-security-policy", "")
        assert "frame-ancestors 'none'" in policy, page.url
        assert "unsafe-inline" not in policy.split("style-src")[0] and "default-src 'none'" in policy, policy


def test_row_14_forms_carry_a_fresh_token_that_is_checked(server: Server, account: Account) -> None:
    browser = Browser()
    page = browser.open(authorize_url(server))
    form = page.load_form("email")
    hidden = [f for f in form.fields if f.type == "hidden"]
    assert hidden, "the form carries nothing that a foreign page could not know"
    for f in hidden:
        f.value = "forged"
    answer = browser.submit(page, form, email=account.email)
    assert 400 <= answer.status < 500


def test_row_15_codes_do_not_leak(server: Server, account: Account) -> None:
    browser = Browser()
    page = sign_in(browser, server, authorize_url(server), account.email, PASSWORD)
    assert page.response.status_code in {302, 303}, "a 307 would post the password to the app"
    for shown in walk_pages(server, account):
        assert shown.response.headers.get("referrer-policy") in {"no-referrer", "same-origin", "strict-origin"}, shown.url
        assert "no-store" in shown.response.headers.get("cache-control", ""), shown.url


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"x-forwarded-host": "evil.example"},
        {"x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.1", "x-forwarded-port": "1"},
        {"forwarded": "for=1.1.1.1;host=evil.example;proto=https"},
        {"origin": "https://evil.example", "referer": "https://evil.example/"},
        {"x-original-url": "https://evil.example/", "x-rewrite-url": "/evil"},
    ],
    ids=lambda h: "+".join(h),
)
def test_row_35_links_come_from_the_configured_origin(server: Server, api: httpx.Client, headers: dict[str, str]) -> None:
    account = create_account(server)
    answer = api.post("/user_management/password_reset", json={"email": account.email}, headers=headers)
    if answer.status_code == 201:
        assert answer.json()["password_reset_url"].startswith(f"{server.url}/")
        for link in server.take_mail(account.email).links:
            assert link.startswith(f"{server.url}/"), link
    else:
        assert 400 <= answer.status_code < 500
    with open_client(headers=headers) as http:
        shown = http.get(authorize_url(server))
        assert "evil.example" not in shown.text and "evil.example" not in shown.headers.get("location", "")


def test_row_35_an_absolute_request_line_changes_no_link(server: Server) -> None:
    import socket

    account = create_account(server)
    parts = urlsplit(server.url)
    body = f'{{"email":"{account.email}"}}'
    with socket.create_connection((parts.hostname or "", parts.port or 80), 10) as wire:
        wire.sendall(
            f"POST http://evil.example/user_management/password_reset HTTP/1.1\r\nHost: evil.example\r\nAuthorization: Bearer {server.api_key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
        )
        answer = b"".join(iter(lambda: wire.recv(65536), b"")).decode()
    assert "evil.example" not in answer and " 500 " not in answer.splitlines()[0]


def signs_in_without(server: Server, cookies: dict[str, Cookie], name: str) -> bool:
    held = "; ".join(f"{n}={c.value}" for n, c in cookies.items() if n != name)
    with open_client(headers={"cookie": held}) as http:
        return "code=" in http.get(authorize_url(server)).headers.get("location", "")


def test_row_45_cookies_are_bound_to_the_host_and_duplicates_sign_out(server: Server, account: Account) -> None:
    browser = Browser()
    sign_in(browser, server, authorize_url(server), account.email, PASSWORD)
    ours = {name: c for (_, name, _), c in browser.cookies.items()}
    assert ours
    for name, cookie in ours.items():
        assert (
            "httponly" in cookie.attributes
            and "domain" not in cookie.attributes
            and cookie.attributes.get("samesite", "").lower() in {"lax", "strict"}
        ), name
        if server.url.startswith("https"):
            assert name.startswith("__Host-")
    # A sibling domain tosses a second cookie of the same name: the browser sends both, nobody is signed in by either.
    sessions = {name: cookie for name, cookie in ours.items() if not signs_in_without(server, ours, name)}
    assert sessions, "the browser stays signed in whichever cookie is taken away"
    for name, cookie in sessions.items():
        for pair in (f"{name}={cookie.value}; {name}=planted", f"{name}=planted; {name}={cookie.value}"):
            others = "".join(f"; {n}={c.value}" for n, c in ours.items() if n != name)
            with open_client(headers={"cookie": pair + others}) as http:
                answer = http.get(authorize_url(server))
                assert "code=" not in answer.headers.get("location", ""), name


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null", "sec-fetch-site": "cross-site"},
        {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
    ],
)
def test_row_46_cross_site_form_posts_are_refused(server: Server, account: Account, headers: dict[str, str]) -> None:
    browser = Browser()
    page = browser.open(authorize_url(server))
    form = page.load_form("email")
    pairs = {f.name: f.value for f in form.fields} | {form.find("email").name: account.email}  # type: ignore[union-attr]
    target = str(httpx.URL(page.url).join(form.action or page.url))
    # Even with the person's cookies and a token read from somewhere.
    cookies = "; ".join(f"{name}={c.value}" for (_, name, _), c in browser.cookies.items())
    with open_client(headers={"cookie": cookies, **headers}) as http:
        answer = http.post(target, data=pairs)
        assert 400 <= answer.status_code < 500, (answer.status_code, answer.headers.get("location"))


def test_row_46_json_routes_do_not_read_text_plain(api: httpx.Client) -> None:
    email = unique_email("csrf")
    body = f'{{"email":"{email}"}}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = api.post("/user_management/users", content=body, headers={"content-type": kind})
        assert 400 <= answer.status_code < 500, kind
    assert api.get("/user_management/users", params={"email": email}).json()["data"] == []


def test_row_47_the_link_from_a_mail_signs_nobody_in(server: Server, account: Account) -> None:
    """A scanner, or a person who is sent the link, opens it: nothing is consumed and nobody is signed in."""
    with open_api(server) as api:
        api.post("/user_management/password_reset", json={"email": account.email})
        mail = server.take_mail(account.email)
        assert mail.links
        stranger = Browser()
        for link in mail.links:
            stranger.open(link)
        page = stranger.open(authorize_url(server))
        assert is_on(server, page), "opening a mailed link signed this browser in"


def test_row_71_authenticated_answers_are_not_cached_and_cors_never_reflects(
    server: Server, api: httpx.Client, http: httpx.Client, account: Account
) -> None:
    for answer in (
        api.get(f"/user_management/users/{account.id}"),
        api.get("/user_management/users"),
        authenticate(server, http, "password", email=account.email, password=PASSWORD),
        http.get(authorize_url(server)),
    ):
        assert "no-store" in answer.headers.get("cache-control", ""), answer.url
    browser = Browser()
    page = sign_in(browser, server, authorize_url(server), account.email, PASSWORD)
    assert "cookie" in browser.open(authorize_url(server, max_age="0")).response.headers.get("vary", "").lower(), page.url
    for origin in ("https://evil.example", "null", "https://localhost.evil.example"):
        for answer in (
            api.get("/user_management/users", headers={"origin": origin}),
            http.options(f"{server.url}/user_management/authenticate", headers={"origin": origin, "access-control-request-method": "POST"}),
            http.get(f"{server.url}/nowhere", headers={"origin": origin}),
        ):
            allowed = answer.headers.get("access-control-allow-origin")
            assert allowed != origin and not (allowed == "*" and answer.headers.get("access-control-allow-credentials"))


def test_the_server_session_signs_a_second_app_in_without_asking_but_max_age_asks(server: Server, account: Account) -> None:
    browser = Browser()
    sign_in(browser, server, authorize_url(server), account.email, PASSWORD)
    again = browser.open(authorize_url(server, redirect_uri="http://localhost:9/second"))
    assert again.url.startswith("http://localhost:9/second") and again.query["code"]
    assert is_on(server, browser.open(authorize_url(server, max_age="0")))
