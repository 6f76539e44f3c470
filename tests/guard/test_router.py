"""`gw.router()` with the real server: the walk through sign-in and out, and attacks on every step of it (attack list, rows 4, 9, 44 to 47)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest

from accounts import PASSWORD, Account, create_account, open_api, sign_in_by_api
from guard.faces import COOKIE, ask, ask_socket, ask_with_cookie, ask_with_token
from guard.guarded import Guarded, guarded_app
from hosted_pages import Browser, Page, complete, is_on, origin_of, sign_in
from running_server import Server

LIFETIME = 2.2  # seconds; the server's access tokens live two
EVIL = "https://evil.example"


@pytest.fixture(scope="module")
def walked(short_lived: Server) -> Iterator[Guarded]:
    with guarded_app(short_lived, leeway=0) as app:
        yield app


@pytest.fixture(scope="module")
def app(server: Server) -> Iterator[Guarded]:
    with guarded_app(server, trusted_origins=["https://partner.example"]) as app:
        yield app


@pytest.fixture(scope="module")
def person(server: Server) -> Account:
    return create_account(server, first_name="Ada", last_name="Lovelace")


@pytest.fixture(scope="module")
def session(app: Guarded, server: Server, person: Account) -> str:
    """A cookie of somebody signed in."""
    browser = Browser()
    sign_in(browser, server, f"{app.url}/auth/login", person.email, PASSWORD)
    return held_cookie(browser)


@pytest.fixture(scope="module")
def leaving(app: Guarded, server: Server, person: Account) -> str:
    """A cookie of the same person, whose session is ended by the first who signs out with it."""
    browser = Browser()
    sign_in(browser, server, f"{app.url}/auth/login", person.email, PASSWORD)
    return held_cookie(browser)


def held_cookie(browser: Browser) -> str:
    return browser.cookies["localhost", COOKIE, "/"].value


def has_session(browser: Browser) -> bool:
    return ("localhost", COOKIE, "/") in browser.cookies


def list_sessions(server: Server, user: str) -> list[str]:
    with open_api(server) as api:
        return [row["id"] for row in api.get(f"/user_management/users/{user}/sessions").json()["data"]]


def test_sign_in_look_expire_renew_and_sign_out(walked: Guarded, short_lived: Server) -> None:
    account, browser = create_account(short_lived, first_name="Ada", last_name="Lovelace"), Browser()
    assert browser.open(f"{walked.url}/auth/me").status == 401
    assert browser.open(f"{walked.url}/auth/session").response.json()["signed_in"] is False

    page = sign_in(browser, short_lived, f"{walked.url}/auth/login?return_to=/me%3Fa%3Db", account.email, PASSWORD)
    assert (page.url, page.status) == (f"{walked.url}/me?a=b", 200)
    cookie = browser.cookies["localhost", COOKIE, "/"]
    assert "httponly" in cookie.attributes and cookie.attributes["samesite"].lower() == "lax" and "secure" not in cookie.attributes
    assert not [name for _, name, _ in browser.cookies if "login" in name], "the attempt's cookie is gone when it ended"

    me = browser.open(f"{walked.url}/auth/me").response
    assert (me.json()["id"], me.json()["email"], me.json()["name"]) == (account.id, account.email, "Ada Lovelace")
    assert "no-store" in me.headers["cache-control"]
    session = browser.open(f"{walked.url}/auth/session").response.json()
    assert session["signed_in"] is True and session["user"]["id"] == account.id and session["csrf_token"]
    assert len(list_sessions(short_lived, account.id)) == 1

    first = held_cookie(browser)
    time.sleep(LIFETIME)
    assert browser.open(f"{walked.url}/auth/me").status == 200
    second = held_cookie(browser)
    assert second != first, "the expired session was not renewed"
    assert browser.open(f"{walked.url}/auth/session").response.json()["csrf_token"] == session["csrf_token"], "it is still the same session"

    confirm = browser.open(f"{walked.url}/auth/logout")
    assert has_session(browser) and confirm.forms, "a mere GET signs nobody out"
    page = browser.submit(confirm, confirm.forms[0])
    assert origin_of(page.url) == walked.url, page.url
    assert not has_session(browser)
    assert list_sessions(short_lived, account.id) == [], "the session goes on at the server"
    assert browser.open(f"{walked.url}/auth/me").status == 401

    # The cookies of before, kept by somebody, are worth nothing once the access token in them has expired.
    time.sleep(LIFETIME)
    for kept in (first, second):
        assert ask_with_cookie(walked, kept, "/auth/me").status == 401


def test_two_tabs_sign_in_at_once(app: Guarded, server: Server, person: Account) -> None:
    browser = Browser()
    one, two = (browser.open(f"{app.url}/auth/login?return_to={path}") for path in ("/me%3Ftab%3D1", "/me%3Ftab%3D2"))
    assert len([name for _, name, _ in browser.cookies if "login" in name]) == 2, "one cookie for each attempt"
    for page, tab in ((two, 2), (one, 1)):
        ended = complete(browser, server, page, email=person.email, password=PASSWORD)
        assert (ended.url, ended.status) == (f"{app.url}/me?tab={tab}", 200), ended.text[:300]


def test_sign_up_is_one_link_away(app: Guarded, server: Server) -> None:
    page = Browser().open(f"{app.url}/auth/login?screen_hint=sign-up")
    assert is_on(server, page) and "sign-up" in page.url, page.url


# Attacks on the callback


def finished_attempt(app: Guarded, server: Server, person: Account, browser: Browser) -> str:
    """A callback URL with a good code and the state of this browser's attempt, not yet followed."""
    login = browser.client.get(f"{app.url}/auth/login")
    browser._keep(f"{app.url}/auth/login", login)
    other = Browser()  # the sign-in itself happens anywhere
    redirect = login.headers["location"]
    asked = {k: v[0] for k, v in parse_qs(urlsplit(redirect).query).items()}
    stop = httpx.URL(redirect).copy_merge_params({"redirect_uri": "http://localhost:9/callback"})
    page = sign_in(other, server, str(stop), person.email, PASSWORD)
    return f"{asked['redirect_uri']}?{urlsplit(page.url).query}"


def follow(app: Guarded, browser: Browser, url: str) -> Page:
    page = browser.open(url)
    assert page.status != 500
    return page


def test_row_47_a_callback_without_the_cookie_of_its_attempt_signs_nobody_in(app: Guarded, server: Server, person: Account) -> None:
    attacker, victim = Browser(), Browser()
    callback = finished_attempt(app, server, person, attacker)
    assert follow(app, victim, callback).status == 400
    assert not has_session(victim)
    # Not even while the victim has an attempt of its own.
    victim.open(f"{app.url}/auth/login")
    assert follow(app, victim, callback).status == 400
    assert not has_session(victim)


def test_row_9_a_code_put_into_another_browsers_attempt_is_refused(app: Guarded, server: Server, person: Account) -> None:
    attacker, victim = Browser(), Browser()
    stolen = {k: v[0] for k, v in parse_qs(urlsplit(finished_attempt(app, server, person, attacker)).query).items()}
    login = victim.client.get(f"{app.url}/auth/login")
    victim._keep(f"{app.url}/auth/login", login)
    [own_state] = parse_qs(urlsplit(login.headers["location"]).query)["state"]
    page = follow(app, victim, f"{app.url}/auth/callback?code={stolen['code']}&state={own_state}")
    assert page.status >= 400 and not has_session(victim), "the code's verifier is in the attacker's browser"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "code=x",
        "state=x",
        "code=&state=",
        "code=x&state=" + "y" * 9000,
        "error=access_denied&state=x",
        "error=access_denied&error_description=%3Cscript%3Ealert(1)%3C/script%3E",
        "code=a&code=b&state=x&state=y",
        "state=%00%0d%0aset-cookie:%20a=b&code=%ff%fe",
    ],
)
def test_a_callback_that_makes_no_sense_is_answered_with_a_page(query: str, app: Guarded) -> None:
    browser = Browser()
    browser.open(f"{app.url}/auth/login")
    page = follow(app, browser, f"{app.url}/auth/callback?{query}")
    assert 400 <= page.status < 500 and not has_session(browser)
    assert "<script>alert" not in page.response.text and "a=b" not in str(page.response.headers)
    assert page.find_link("/auth/login"), "no way on from here"


def test_a_callback_works_once(app: Guarded, server: Server, person: Account) -> None:
    browser = Browser()
    callback = finished_attempt(app, server, person, browser)
    cookies = dict(browser.cookies)
    assert follow(app, browser, callback).status < 400 and has_session(browser)
    assert not [name for _, name, _ in browser.cookies if "login" in name], "the attempt is over"
    thief = Browser()
    thief.cookies = cookies
    assert follow(app, thief, callback).status >= 400 and not has_session(thief)


@pytest.mark.parametrize("harm", ["cut", "of another attempt", "sealed as a session"])
def test_an_attempts_cookie_that_was_touched_is_refused(harm: str, app: Guarded, server: Server, session: str) -> None:
    browser = Browser()
    page = browser.open(f"{app.url}/auth/login")
    [key] = [key for key in browser.cookies if "login" in key[1]]
    if harm == "cut":
        browser.cookies[key].value = browser.cookies[key].value[:-4]
    elif harm == "of another attempt":
        other = Browser()
        other.open(f"{app.url}/auth/login")
        browser.cookies[key].value = next(c.value for k, c in other.cookies.items() if "login" in k[1])
    else:
        browser.cookies[key].value = session
    [state] = parse_qs(urlsplit(page.url).query).get("state", ["x"])
    assert follow(app, browser, f"{app.url}/auth/callback?code=x&state={quote(state)}").status == 400
    assert not has_session(browser)


def test_an_attempts_cookie_is_no_session(app: Guarded) -> None:
    browser = Browser()
    browser.open(f"{app.url}/auth/login")
    [value] = [cookie.value for (_, name, _), cookie in browser.cookies.items() if "login" in name]
    assert ask_with_cookie(app, value, "/me").status == 401


# return_to


RETURNS = [
    EVIL,
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\/evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "https:evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "http://localhost@evil.example/",
    "/../..//evil.example",
    "/me/..//..//evil.example",
    ".evil.example",
    "@evil.example",
    "/%09/evil.example",
    "/\u2028/evil.example",
    "/\u0000",
    "/a\r\nset-cookie: planted=1",
    "/" + "a" * 5000,
]


@pytest.mark.parametrize("target", RETURNS)
def test_row_4_nobody_is_sent_to_another_site_after_sign_in(target: str, app: Guarded, server: Server, signed_in: Browser) -> None:
    page = signed_in.open(f"{app.url}/auth/login?return_to={quote(target, safe='')}")
    assert origin_of(page.url) == app.url, page.url
    # What Location said is what a browser makes of it, and not what the test's client made of it.
    for location in (str(page.url), page.response.headers.get("location", "")):
        assert "evil.example" not in urlsplit(location).netloc and not location.startswith("//")
    assert "planted" not in {name for _, name, _ in signed_in.cookies}


@pytest.fixture(scope="module")
def signed_in(app: Guarded, server: Server, person: Account) -> Browser:
    """A browser with a session at the server, so that sign-in comes straight back."""
    browser = Browser()
    sign_in(browser, server, f"{app.url}/auth/login", person.email, PASSWORD)
    return browser


def test_row_35_the_address_to_come_back_to_is_the_configured_one(app: Guarded) -> None:
    spoofed = {"host": "evil.example", "x-forwarded-host": "evil.example", "forwarded": "host=evil.example", "x-forwarded-proto": "https"}
    answer = app.http.get(f"{app.url}/auth/login", headers=spoofed)
    [redirect_uri] = parse_qs(urlsplit(answer.headers["location"]).query)["redirect_uri"]
    assert redirect_uri == f"{app.url}/auth/callback"


def test_sign_in_asks_with_state_and_pkce_and_never_the_same_twice(app: Guarded) -> None:
    asked = []
    for _ in range(2):
        answer = app.http.get(f"{app.url}/auth/login")
        query = {k: v[0] for k, v in parse_qs(urlsplit(answer.headers["location"]).query).items()}
        assert query["code_challenge_method"] == "S256" and len(query["code_challenge"]) == 43 and len(query["state"]) >= 16
        assert answer.status_code in {302, 303} and answer.headers["cache-control"] == "no-store"
        [cookie] = answer.headers.get_list("set-cookie")
        attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert attributes == {"path=/", "httponly", "samesite=lax", "max-age=600"}
        asked.append((query["code_challenge"], query["state"], cookie))
    assert all(one != two for one, two in zip(*asked, strict=True))


# Cross-site requests with the session's cookie


def csrf_token(app: Guarded, cookie: str) -> str:
    return str(app.http.get(f"{app.url}/auth/session", headers={"cookie": f"{COOKIE}={cookie}"}).json()["csrf_token"])


OWN = "{own}"
CROSS_SITE = {
    "no header at all": ({}, 403),
    "our own origin": ({"origin": OWN}, 200),
    "a trusted origin": ({"origin": "https://partner.example"}, 200),
    "a trusted origin, as browsers say it": ({"origin": "https://partner.example", "sec_fetch_site": "cross-site"}, 200),
    "same-origin": ({"sec_fetch_site": "same-origin"}, 200),
    "typed by the person": ({"sec_fetch_site": "none"}, 200),
    "another site": ({"origin": EVIL, "sec_fetch_site": "cross-site"}, 403),
    "another site, older browser": ({"origin": EVIL}, 403),
    "another host of the site": ({"origin": "http://other.localhost", "sec_fetch_site": "same-site"}, 403),
    "same-site without an origin": ({"sec_fetch_site": "same-site"}, 403),
    "a sandboxed frame": ({"origin": "null"}, 403),
    "an empty origin": ({"origin": ""}, 403),
    "our origin with more after it": ({"origin": OWN + ".evil.example"}, 403),
    "our origin with a path": ({"origin": OWN + "/"}, 403),
    "our origin over https": ({"origin": OWN.replace("http:", "https:") + "x"}, 403),
    "a trusted origin with another port": ({"origin": "https://partner.example:444"}, 403),
    "a trusted origin in capitals": ({"origin": "HTTPS://PARTNER.EXAMPLE"}, 403),
    "another site with the referer of ours": ({"origin": EVIL, "referer": OWN}, 403),
    "method override": ({"origin": EVIL, "x_http_method_override": "GET"}, 403),
    "a wrong token": ({"x_csrf_token": "A" * 43}, 403),
    "an empty token": ({"x_csrf_token": ""}, 403),
}


@pytest.mark.parametrize("name", CROSS_SITE)
def test_row_46_a_change_by_cookie_comes_from_our_own_pages(name: str, app: Guarded, session: str) -> None:
    headers, status = CROSS_SITE[name]
    sent = {key: value.replace(OWN, app.url) for key, value in headers.items()}
    assert ask_with_cookie(app, session, "/me", "POST", **sent).status == status
    assert ask_with_cookie(app, session, "/me", **sent).status == 200, "reading is nobody's harm"


@pytest.mark.parametrize("name", ["origin", "sec-fetch-site", "x-csrf-token"])
def test_row_46_what_is_said_twice_is_not_believed(name: str, app: Guarded, session: str) -> None:
    good = {"origin": app.url, "sec-fetch-site": "same-origin", "x-csrf-token": csrf_token(app, session)}[name]
    bad = {"origin": EVIL, "sec-fetch-site": "cross-site", "x-csrf-token": "A" * 43}[name]
    for pair in ((good, bad), (bad, good)):
        headers = [("cookie", f"{COOKIE}={session}"), *((name, value) for value in pair)]
        assert app.http.post(f"{app.url}/me", headers=headers).status_code == 403, pair


def test_row_46_the_token_is_the_sessions_own(app: Guarded, server: Server, session: str) -> None:
    browser, other = Browser(), create_account(server)
    sign_in(browser, server, f"{app.url}/auth/login", other.email, PASSWORD)
    own, foreign = csrf_token(app, session), csrf_token(app, held_cookie(browser))
    assert own != foreign
    assert ask_with_cookie(app, session, "/me", "POST", x_csrf_token=own).status == 200
    assert ask_with_cookie(app, session, "/me", "POST", x_csrf_token=foreign).status == 403
    assert ask_with_cookie(app, session, "/me", "POST", x_csrf_token=own, origin=EVIL).status == 403, "what the browser says counts more"


def test_row_46_websockets_by_cookie_open_from_our_own_pages_only(app: Guarded, session: str) -> None:
    cookie = f"{COOKIE}={session}"
    assert ask_socket(app, cookie=cookie, origin=app.url).status == 200
    assert ask_socket(app, cookie=cookie, origin="https://partner.example").status == 200
    for path in ("/live", "/asgi/live"):
        for origin in (EVIL, "null", app.url + ".evil.example", app.url.replace("http:", "https:")):
            assert ask_socket(app, path, cookie=cookie, origin=origin).status == 403, (path, origin)
        assert ask_socket(app, path, cookie=cookie).status == 403, "no origin"


def test_callers_by_token_are_not_asked_where_they_come_from(app: Guarded, server: Server, http: httpx.Client, person: Account) -> None:
    token = sign_in_by_api(server, http, person)["access_token"]
    assert ask(app, "/me", "POST", authorization=f"Bearer {token}", origin=EVIL, sec_fetch_site="cross-site").status == 200
    assert ask_with_token(app, token, "/me", "POST").status == 200


# Sign-out


def test_signing_out_from_another_site_does_not_work(app: Guarded, server: Server) -> None:
    account, browser = create_account(server), Browser()
    sign_in(browser, server, f"{app.url}/auth/login", account.email, PASSWORD)
    cookie = held_cookie(browser)
    for headers in ({"origin": EVIL, "sec_fetch_site": "cross-site"}, {"origin": "null"}, {"sec_fetch_site": "same-site"}, {}):
        refused = ask_with_cookie(app, cookie, "/auth/logout", "POST", **headers)
        assert refused.status == 403 and not refused.cookies, (headers, refused)
    for headers in (
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"},
        {"sec_fetch_site": "same-origin", "sec_fetch_mode": "navigate", "sec_purpose": "prefetch"},
        {},
    ):
        asked = ask_with_cookie(app, cookie, "/auth/logout", **headers)
        assert asked.status == 200 and not asked.cookies, (headers, asked)
    assert len(list_sessions(server, account.id)) == 1
    assert ask_with_cookie(app, cookie, "/auth/me").status == 200


@pytest.mark.parametrize("target", RETURNS)
def test_row_4_nobody_is_sent_to_another_site_after_sign_out(target: str, app: Guarded, leaving: str) -> None:
    headers = {"cookie": f"{COOKIE}={leaving}", "origin": app.url}
    answer = app.http.post(f"{app.url}/auth/logout", params={"return_to": target}, headers=headers)
    assert answer.status_code == 303
    place = urlsplit(answer.headers["location"])
    [back] = parse_qs(place.query).get("return_to", [""])
    assert "evil.example" not in place.netloc and origin_of(back) == app.url, (place, back)
    assert len(answer.headers["location"]) < 8000 and "planted" not in str(answer.headers.get_list("set-cookie"))


def test_row_65_two_session_cookies_are_no_choice_for_whoever_planted_one(
    app: Guarded, server: Server, session: str, person: Account
) -> None:
    """A sibling host can plant a cookie of the same name; a person is never somebody else because of that."""
    other, browser = create_account(server), Browser()
    sign_in(browser, server, f"{app.url}/auth/login", other.email, PASSWORD)
    for pair in ((session, held_cookie(browser)), (held_cookie(browser), session)):
        answer = app.http.get(f"{app.url}/who", headers={"cookie": "; ".join(f"{COOKIE}={value}" for value in pair)})
        assert answer.status_code == 401, "one of two was chosen"


def test_row_71_answers_about_a_person_are_not_for_caches(app: Guarded, session: str) -> None:
    for path in ("/auth/me", "/auth/session", "/auth/login", "/auth/logout", f"/auth/callback?code={secrets.token_hex(4)}"):
        answer = app.http.get(app.url + path, headers={"cookie": f"{COOKIE}={session}"})
        assert "no-store" in answer.headers.get("cache-control", ""), path
