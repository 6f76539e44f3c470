"""Signing in and out."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from asgi_calls import bearer, cookie_header
from fastapi import APIRouter, Depends, FastAPI
from fastapi.testclient import TestClient

from conftest import build_app, forgetful
from gatewright.fastapi import Gatewright, SettingsError
from gatewright.testing import TestIssuer


def browser(app: Any, base_url: str = "http://localhost:8000") -> TestClient:
    return TestClient(app, base_url=base_url, follow_redirects=False)


def begin(client: TestClient, path: str = "/auth/login", **query: str) -> dict[str, str]:
    answer = client.get(path, params=query)
    assert answer.status_code == 303 and answer.headers["cache-control"] == "no-store"
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}


def test_a_person_signs_in_and_out(app: FastAPI, issuer: TestIssuer) -> None:
    with browser(app) as client:
        sent = begin(client, return_to="/expenses?month=5")
        assert sent["redirect_uri"] == "http://localhost:8000/auth/callback"
        assert (sent["client_id"], sent["response_type"], sent["code_challenge_method"], sent["provider"]) == (
            issuer.client_id,
            "code",
            "S256",
            "authkit",
        )
        answer = client.get(
            "/auth/callback", params={"code": issuer.code("user_1", email="a@example.com", role="admin"), "state": sent["state"]}
        )
        assert (answer.status_code, answer.headers["location"]) == (303, "/expenses?month=5")
        assert answer.headers["cache-control"] == "no-store"
        session = next(cookie for cookie in answer.headers.get_list("set-cookie") if cookie.startswith("wos_session="))
        assert "HttpOnly" in session and "SameSite=Lax" in session and "Path=/" in session and "Secure" not in session

        me = client.get("/auth/me")
        assert me.headers["cache-control"] == "no-store"
        assert me.json() == {
            "id": "user_1",
            "email": "a@example.com",
            "first_name": "Test",
            "last_name": "Person",
            "name": "Test Person",
            "organization_id": None,
            "roles": ["admin"],
            "permissions": [],
            "impersonator": None,
        }
        facts = client.get("/auth/session").json()
        assert facts["signed_in"] is True and facts["user"] == me.json() and facts["csrf_token"] and facts["expires_at"].endswith("Z")

        out = client.post("/auth/logout", headers={"origin": "http://localhost:8000"})
        assert out.status_code == 303
        place = urlsplit(out.headers["location"])
        assert f"{place.scheme}://{place.netloc}{place.path}" == f"{issuer.url}/user_management/sessions/logout"
        query = parse_qs(place.query)
        assert query["session_id"][0].startswith("session_") and query["return_to"] == ["http://localhost:8000/"]
        assert client.get("/auth/me").status_code == 401
        assert client.get("/auth/session").json() == {"signed_in": False, "user": None, "csrf_token": None, "expires_at": None}


def test_what_is_asked_of_the_sign_in_page_is_passed_on(app: FastAPI) -> None:
    with browser(app) as client:
        sent = begin(client, screen_hint="sign-up", organization_id="org_1", login_hint="a@example.com")
        assert (sent["screen_hint"], sent["organization_id"], sent["login_hint"]) == ("sign-up", "org_1", "a@example.com")
        assert "screen_hint" not in begin(client, screen_hint="<script>")


@pytest.mark.parametrize(
    "return_to",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "evil.example",
        "/\t/evil.example",
        "/%0d%0aSet-Cookie:x=1\r\n",
    ],
)
def test_after_sign_in_nobody_is_sent_elsewhere(return_to: str, app: FastAPI, issuer: TestIssuer) -> None:
    with browser(app) as client:
        sent = begin(client, return_to=return_to)
        answer = client.get("/auth/callback", params={"code": issuer.code(), "state": sent["state"]})
        place = answer.headers["location"]
        assert (
            answer.status_code == 303
            and place.startswith("/")
            and "evil" not in place.split("?")[0].removeprefix("/%0d")
            and not place.startswith(("//", "/\\"))
        )


def test_a_callback_that_this_browser_did_not_start_signs_nobody_in(app: FastAPI, issuer: TestIssuer) -> None:
    with browser(app) as attacker, browser(app) as victim:
        state = begin(attacker)["state"]
        code = issuer.code("user_attacker")
        answer = victim.get("/auth/callback", params={"code": code, "state": state})
        assert answer.status_code == 400
        assert "wos_session" not in victim.cookies
        assert "You are not signed in" in answer.text and 'href="/auth/login"' in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        # And the code was not spent on it.
        assert issuer.counts["/user_management/authenticate"] == 0


def test_who_signs_in_anew_is_not_given_the_old_session_again(issuer: TestIssuer) -> None:
    gw = Gatewright(**issuer.settings())
    # A guard for the whole app renews the old session on the way to the callback.
    app = FastAPI(lifespan=gw.lifespan, dependencies=[Depends(gw.user)])
    app.include_router(gw.router(), prefix="/auth")
    with forgetful(app) as client:
        begun = client.get("/auth/login", headers={"host": "localhost:8000"})
        state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
        old = cookie_header(issuer.cookies(gw, "user_old", expires_in=-60))
        sent = {"cookie": f"{old['cookie']}; {begun.headers['set-cookie'].split(';')[0]}"}
        answer = client.get("/auth/callback", params={"code": issuer.code("user_new"), "state": state}, headers=sent)
        [session] = [cookie for cookie in answer.headers.get_list("set-cookie") if cookie.startswith("wos_session=")]
        assert client.get("/auth/me", headers={"cookie": session.split(";")[0]}).json()["id"] == "user_new"
        assert issuer.counts["/user_management/authenticate"] == 2


def test_two_attempts_in_two_tabs_both_end_well(app: FastAPI, issuer: TestIssuer) -> None:
    with browser(app) as client:
        first, second = begin(client, return_to="/first"), begin(client, return_to="/second")
        for sent, place in ((first, "/first"), (second, "/second")):
            answer = client.get("/auth/callback", params={"code": issuer.code(), "state": sent["state"]})
            assert (answer.status_code, answer.headers["location"]) == (303, place)


def test_a_sign_in_counts_once(app: FastAPI, issuer: TestIssuer) -> None:
    with browser(app) as client:
        state = begin(client)["state"]
        query = {"code": issuer.code(), "state": state}
        assert client.get("/auth/callback", params=query).status_code == 303
        assert client.get("/auth/callback", params=query).status_code == 400


def test_the_problem_of_the_server_is_shown_and_escaped(app: FastAPI) -> None:
    with browser(app) as client:
        state = begin(client)["state"]
        answer = client.get(
            "/auth/callback", params={"error": "access_denied", "error_description": "<script>alert(1)</script>", "state": state}
        )
        assert answer.status_code == 400
        assert "<script>" not in answer.text
        for page in (answer, client.get("/auth/logout")):
            policy = page.headers["content-security-policy"]
            assert all(part in policy for part in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"))
            assert (page.headers["referrer-policy"], page.headers["x-content-type-options"]) == ("no-referrer", "nosniff")


def test_a_server_that_is_away_says_come_back(app: FastAPI, issuer: TestIssuer) -> None:
    with browser(app) as client:
        state = begin(client)["state"]
        issuer.fault = "error"
        answer = client.get("/auth/callback", params={"code": "code", "state": state})
        assert answer.status_code == 503 and "text/html" in answer.headers["content-type"]


def test_callbacks_of_every_kind_of_nonsense_are_pages(app: FastAPI) -> None:
    with browser(app) as client:
        for query in ("", "code=x", "state=x", "code=%FF&state=%FF", "code=a&code=b&state=c&state=d", "error=x"):
            answer = client.get(f"/auth/callback?{query}")
            assert (answer.status_code, "You are not signed in" in answer.text) == (400, True), query


def test_other_sites_cannot_sign_people_out(app: FastAPI, issuer: TestIssuer, gw: Gatewright) -> None:
    with forgetful(app) as client:
        cookies = cookie_header(issuer.cookies(gw))
        for headers in ({}, {"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}):
            answer = client.post("/auth/logout", headers={**cookies, **headers})
            assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
        elsewhere = [
            {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
            {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"},
            {"sec-fetch-site": "same-origin", "sec-fetch-mode": "no-cors"},
            {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate", "sec-purpose": "prefetch"},
            {},
        ]
        for headers in elsewhere:
            answer = client.get("/auth/logout", headers={**cookies, **headers})
            assert (answer.status_code, "set-cookie" in answer.headers) == (200, False)
            assert '<form method="post" action="/auth/logout">' in answer.text
        answer = client.get("/auth/logout", headers={**cookies, "sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"})
        assert answer.status_code == 303 and "wos_session=;" in answer.headers["set-cookie"]


def test_a_lenient_guard_for_the_whole_app_does_not_let_other_sites_sign_people_out(issuer: TestIssuer, gw: Gatewright) -> None:
    app = FastAPI(lifespan=gw.lifespan, dependencies=[Depends(gw.requires(csrf=False))])
    app.include_router(gw.router(), prefix="/auth")
    with forgetful(app) as client:
        cookies = cookie_header(issuer.cookies(gw, expires_in=-60))
        issuer.fault = "error"
        answer = client.post("/auth/logout", headers={**cookies, "origin": "https://evil.example"})
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
        assert client.post("/auth/logout", headers={**cookies, "sec-fetch-site": "same-origin"}).status_code == 303


def test_who_signs_out_with_an_expired_token_is_not_signed_in_again(app: FastAPI, issuer: TestIssuer, gw: Gatewright) -> None:
    with forgetful(app) as client:
        cookies = issuer.cookies(
            gw, expires_in=-60, session_id="session_1", permissions=[f"thing-{number}:write-everything" for number in range(150)]
        )
        answer = client.post("/auth/logout", headers={**cookie_header(cookies), "sec-fetch-site": "same-origin"})
        set_cookies = answer.headers.get_list("set-cookie")
        assert {cookie.split("=")[0] for cookie in set_cookies} == set(cookies)
        assert all("Max-Age=0" in cookie for cookie in set_cookies)
        assert "session_id=session_1" in answer.headers["location"]


def test_who_is_away_from_the_server_can_still_sign_out_here(app: FastAPI, issuer: TestIssuer, gw: Gatewright) -> None:
    with forgetful(app) as client:
        cookies = cookie_header(issuer.cookies(gw, expires_in=-60))
        issuer.fault = "error"
        answer = client.post("/auth/logout", headers={**cookies, "sec-fetch-site": "same-origin"})
        assert answer.status_code == 303 and "wos_session=;" in answer.headers["set-cookie"]


def test_a_script_that_signs_out_is_told_where_to_go(app: FastAPI, issuer: TestIssuer, gw: Gatewright) -> None:
    with forgetful(app) as client:
        headers = {**cookie_header(issuer.cookies(gw)), "sec-fetch-site": "same-origin", "accept": "application/json"}
        answer = client.post("/auth/logout", headers=headers)
        assert answer.status_code == 200 and answer.json()["logout_url"].startswith(issuer.url)
        assert "wos_session=;" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("return_to", "ends"), [("/bye", "/bye"), ("//evil.example", "/"), ("https://evil.example", "/"), ("/\\evil.example", "/")]
)
def test_after_sign_out_nobody_is_sent_elsewhere(return_to: str, ends: str, app: FastAPI, issuer: TestIssuer, gw: Gatewright) -> None:
    with forgetful(app, base_url="http://localhost:8000") as client:
        headers = {
            **cookie_header(issuer.cookies(gw)),
            "sec-fetch-site": "same-origin",
            "content-type": "application/x-www-form-urlencoded",
        }
        answer = client.post("/auth/logout", headers=headers, content=f"return_to={return_to}")
        assert parse_qs(urlsplit(answer.headers["location"]).query)["return_to"] == [f"http://localhost:8000{ends}"]


def test_of_a_form_that_is_too_long_nothing_is_read(app: FastAPI, issuer: TestIssuer, gw: Gatewright) -> None:
    with forgetful(app) as client:
        for padding, ends in ((3000, "/page"), (5000, "/")):
            own = {**cookie_header(issuer.cookies(gw)), "sec-fetch-site": "same-origin", "host": "localhost:8000"}
            answer = client.post("/auth/logout", headers=own, data={"return_to": "/page", "padding": "x" * padding})
            assert parse_qs(urlsplit(answer.headers["location"]).query)["return_to"] == [f"http://localhost:8000{ends}"]


def test_nobody_signs_out_to_the_front_page(app: FastAPI) -> None:
    with forgetful(app, base_url="http://localhost:8000") as client:
        answer = client.post("/auth/logout")
        assert (answer.status_code, answer.headers["location"]) == (303, "http://localhost:8000/")


def test_a_token_is_somebody_too(app: FastAPI, issuer: TestIssuer) -> None:
    with forgetful(app) as client:
        token = bearer(issuer.user_token("user_1"))
        assert client.get("/auth/me", headers=token).json()["id"] == "user_1"
        assert client.get("/auth/session", headers=token).json()["signed_in"] is True
        assert client.get("/auth/session", headers=bearer("rubbish")).json()["signed_in"] is False


def test_the_redirect_uri_follows_the_prefix_the_root_path_and_the_app_url(issuer: TestIssuer) -> None:
    gw = Gatewright(**issuer.settings(app_url="https://app.example.com/"))
    inner = APIRouter(prefix="/v1")
    inner.include_router(gw.router(), prefix="/sign")
    app = FastAPI()
    app.include_router(inner)
    with TestClient(app, "http://10.0.0.7:8000", root_path="/api", follow_redirects=False) as client:
        answer = client.get("/v1/sign/login")
        assert parse_qs(urlsplit(answer.headers["location"]).query)["redirect_uri"] == ["https://app.example.com/api/v1/sign/callback"]
        assert "; Secure" in answer.headers["set-cookie"]

    outer = FastAPI()
    outer.mount("/inner", build_app(Gatewright(**issuer.settings())))
    with browser(outer) as client:
        sent = begin(client, "/inner/auth/login")
        assert sent["redirect_uri"] == "http://localhost:8000/inner/auth/callback"
        answer = client.get("/inner/auth/callback", params={"code": issuer.code(), "state": sent["state"]})
        assert answer.status_code == 303


def test_in_development_an_unknown_host_does_not_choose_our_address(app: FastAPI) -> None:
    with browser(app, "http://evil.example:8000") as client:
        answer = client.get("/auth/login")
        assert answer.status_code == 400 and "evil" not in answer.text and "APP_URL" in answer.text
        # Whatever looks like this machine to one reader and like another to the next.
        for host in (
            "evil.example\\@localhost",
            "evil.example@localhost",
            "evil.example#@localhost",
            "localhost/evil.example",
            "localhost?evil",
        ):
            answer = client.get("/auth/login", headers={"host": host})
            assert answer.status_code == 400 and "evil" not in answer.text, host


def test_a_guard_for_the_whole_app_does_not_lock_the_sign_in(issuer: TestIssuer) -> None:
    gw = Gatewright(**issuer.settings(redirect_to_login=True))
    app = FastAPI(lifespan=gw.lifespan, dependencies=[Depends(gw.user), Depends(gw.requires(role="admin"))])
    app.include_router(gw.router(), prefix="/auth")
    app.add_api_route("/page", lambda: "in")
    with browser(app) as client:
        assert client.get("/page").status_code == 401
        assert client.get("/auth/me").status_code == 401
        assert client.get("/auth/session").json()["signed_in"] is False
        assert client.get("/page", headers=NAVIGATION).headers["location"] == "/auth/login?return_to=/page"
        sent = begin(client, return_to="/page")
        assert client.get("/auth/callback", params={"code": issuer.code(role="admin"), "state": sent["state"]}).status_code == 303
        assert client.get("/page").json() == "in"
        assert client.post("/auth/logout").status_code == 403
        assert client.post("/auth/logout", headers={"sec-fetch-site": "same-origin"}).status_code == 303
        assert client.get("/page").status_code == 401


# --- another organization -----------------------------------------------------------------------------------------------

OWN_PAGE = {"sec-fetch-site": "same-origin"}


def keep(client: TestClient, cookies: dict[str, str]) -> None:
    """As if the app itself had set them: what it sets next takes their place."""
    for name, value in cookies.items():
        client.cookies.set(name, value, domain="localhost.local", path="/")


def test_a_session_is_switched_to_another_organization_of_the_person(app: FastAPI, issuer: TestIssuer, gw: Gatewright) -> None:
    issuer.organizations["user_1"] = {"org_a", "org_b"}
    with browser(app) as client:
        keep(client, issuer.cookies(gw, "user_1", org="org_a", session_id="session_1"))
        answer = client.post("/auth/organization", data={"organization_id": "org_b", "return_to": "/page?a=b"}, headers=OWN_PAGE)
        assert (answer.status_code, answer.headers["location"], answer.headers["cache-control"]) == (303, "/page?a=b", "no-store")
        assert client.get("/auth/me").json()["organization_id"] == "org_b"
        assert client.get("/orgs/org_b/report").status_code == 200 and client.get("/orgs/org_a/report").status_code == 403
        told = client.post("/auth/organization?organization_id=org_a", headers={**OWN_PAGE, "accept": "application/json"})
        assert (told.status_code, told.json()["organization_id"]) == (200, "org_a")


def test_a_refused_switch_leaves_the_session_as_it_was(app: FastAPI, issuer: TestIssuer, gw: Gatewright) -> None:
    with forgetful(app) as client:
        headers = {**cookie_header(issuer.cookies(gw, "user_1", org="org_a")), **OWN_PAGE}
        refused = client.post("/auth/organization", data={"organization_id": "org_<b>"}, headers={**headers, "accept": "text/html"})
        assert refused.status_code == 403 and "You are not a member" in refused.text and "set-cookie" not in refused.headers
        assert "default-src 'none'" in refused.headers["content-security-policy"]
        for changed, status in (
            ({"sec-fetch-site": "cross-site"}, 403),
            ({"cookie": ""}, 401),
            ({"cookie": "", **bearer(issuer.user_token())}, 400),
        ):
            answer = client.post(
                "/auth/organization", data={"organization_id": "org_b"}, headers={**headers, "accept": "application/json", **changed}
            )
            assert (answer.status_code, "set-cookie" in answer.headers) == (status, False), changed
        assert client.post("/auth/organization", headers=headers).status_code == 422
        issuer.fault = "error"
        away = client.post("/auth/organization", data={"organization_id": "org_b"}, headers=headers)
        assert away.status_code == 503 and away.headers["retry-after"] and "set-cookie" not in away.headers
        issuer.fault = None
        assert client.get("/auth/me", headers=headers).json()["organization_id"] == "org_a"


def test_a_refused_switch_keeps_the_session_that_was_renewed_on_the_way(app: FastAPI, issuer: TestIssuer, gw: Gatewright) -> None:
    with browser(app) as client:
        keep(client, issuer.cookies(gw, "user_1", org="org_a", expires_in=-60, session_id="session_1"))
        refused = client.post("/auth/organization", data={"organization_id": "org_b"}, headers=OWN_PAGE)
        assert refused.status_code == 403 and len(refused.headers.get_list("set-cookie")) == 1
        assert client.get("/auth/me").json()["organization_id"] == "org_a" and issuer.counts["/user_management/authenticate"] == 2


def test_an_ended_session_is_not_switched_and_its_cookie_goes(app: FastAPI, issuer: TestIssuer, gw: Gatewright) -> None:
    issuer.organizations["user_1"] = {"org_b"}
    with forgetful(app) as client:
        headers = {**cookie_header(issuer.cookies(gw, "user_1", session_id="session_1")), **OWN_PAGE}
        issuer.end_session("session_1", publish=False)
        answer = client.post("/auth/organization", data={"organization_id": "org_b"}, headers=headers)
        assert answer.status_code == 401 and "wos_session=;" in answer.headers["set-cookie"]


@pytest.mark.parametrize("return_to", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "", "x"])
def test_open_redirect_a_switch_goes_to_a_path_of_this_app_alone(return_to: str, app: FastAPI, issuer: TestIssuer, gw: Gatewright) -> None:
    issuer.organizations["user_1"] = {"org_b"}
    with forgetful(app) as client:
        headers = {**cookie_header(issuer.cookies(gw, "user_1")), **OWN_PAGE}
        answer = client.post("/auth/organization", data={"organization_id": "org_b", "return_to": return_to}, headers=headers)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_an_organization_that_wants_its_own_sign_in_is_led_to_it(app: FastAPI, issuer: TestIssuer, gw: Gatewright) -> None:
    issuer.strict_organizations = {"org_sso"}
    with forgetful(app) as client:
        headers = {**cookie_header(issuer.cookies(gw, "user_1")), **OWN_PAGE}
        answer = client.post("/auth/organization", data={"organization_id": "org_sso", "return_to": "/x"}, headers=headers)
        assert (answer.status_code, answer.headers["location"]) == (303, "/auth/login?organization_id=org_sso&return_to=%2Fx")
        login = client.get(answer.headers["location"])
        assert parse_qs(urlsplit(login.headers["location"]).query)["organization_id"] == ["org_sso"]
        told = client.post("/auth/organization", data={"organization_id": "org_sso"}, headers={**headers, "accept": "application/json"})
        assert told.status_code == 401 and "insufficient_user_authentication" in told.headers["www-authenticate"]


def test_a_guard_for_the_whole_app_locks_nobody_into_an_organization(issuer: TestIssuer, gw: Gatewright) -> None:
    app = FastAPI(lifespan=gw.lifespan, dependencies=[Depends(gw.requires(org="*"))])
    app.include_router(gw.router(), prefix="/auth")
    app.add_api_route("/page", lambda: "in")
    issuer.organizations["user_1"] = {"org_a"}
    with browser(app) as client:
        keep(client, issuer.cookies(gw, "user_1", expires_in=-60))
        assert client.get("/page").status_code == 403
        assert client.post("/auth/organization", data={"organization_id": "org_a"}, headers=OWN_PAGE).status_code == 303
        assert client.get("/page").status_code == 200


def test_signing_in_needs_a_cookie_password_and_an_api_key(issuer: TestIssuer) -> None:
    with pytest.raises(SettingsError, match="WORKOS_COOKIE_PASSWORD"):
        Gatewright(**issuer.settings(cookie_password=None)).router()
    with pytest.raises(SettingsError, match="WORKOS_API_KEY"):
        Gatewright(**issuer.settings(api_key=None)).router()


# --- people who open a guarded page -------------------------------------------------------------------------------------

NAVIGATION = {"sec-fetch-mode": "navigate", "sec-fetch-site": "none", "accept": "text/html,*/*"}


@pytest.fixture
def redirecting(issuer: TestIssuer) -> TestClient:
    return forgetful(build_app(Gatewright(**issuer.settings(redirect_to_login=True))))


def test_a_person_is_sent_to_the_sign_in_and_back(redirecting: TestClient) -> None:
    for headers in (NAVIGATION, {"accept": "text/html"}):
        answer = redirecting.get("/user?a=1&b=%C3%A4", headers=headers)
        assert answer.status_code == 303 and answer.headers["cache-control"] == "no-store"
        place = urlsplit(answer.headers["location"])
        assert (place.netloc, place.path, parse_qs(place.query)["return_to"]) == ("", "/auth/login", ["/user?a=1&b=%C3%A4"])


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"accept": "application/json"},
        {"accept": "*/*"},
        {"sec-fetch-mode": "cors", "accept": "text/html"},
        {"sec-fetch-mode": "no-cors", "accept": "text/html"},
        {"x-requested-with": "XMLHttpRequest", "accept": "text/html"},
        {"authorization": "Bearer rubbish", "accept": "text/html"},
    ],
)
def test_a_script_is_not(headers: dict[str, str], redirecting: TestClient) -> None:
    assert redirecting.get("/user", headers=headers).status_code == 401


def test_a_person_who_has_to_prove_more_is_sent_to_do_so(redirecting: TestClient, issuer: TestIssuer, gw: Gatewright) -> None:
    too_little: list[dict[str, Any]] = [{}, {"mfa": True, "signed_in_ago": 301}]
    for weak in too_little:
        answer = redirecting.get("/mfa?a=1", headers={**NAVIGATION, **cookie_header(issuer.cookies(gw, **weak))})
        assert (answer.status_code, answer.headers["cache-control"]) == (303, "no-store")
        assert 'error="insufficient_user_authentication"' in answer.headers["www-authenticate"]
        place = urlsplit(answer.headers["location"])
        wanted = {"return_to": ["/mfa?a=1"], "acr_values": ["aal2"], "max_age": ["150"]}
        assert (place.netloc, place.path, parse_qs(place.query)) == ("", "/auth/login", wanted)
        sent = parse_qs(urlsplit(redirecting.get(answer.headers["location"]).headers["location"]).query)
        assert (sent["acr_values"], sent["max_age"]) == (["aal2"], ["150"])
    strong = cookie_header(issuer.cookies(gw, mfa=True, signed_in_ago=200))
    assert redirecting.get("/mfa", headers={**NAVIGATION, **strong}).status_code == 200
    # Scripts, tokens and changes are told what is missing, and sent nowhere.
    script = redirecting.get("/mfa", headers={"sec-fetch-mode": "cors", **cookie_header(issuer.cookies(gw))})
    assert script.status_code == 401 and 'acr_values="aal2"' in script.headers["www-authenticate"]
    assert redirecting.get("/mfa", headers={**NAVIGATION, "authorization": f"Bearer {issuer.user_token()}"}).status_code == 401


@pytest.mark.parametrize(
    "query",
    [
        {"acr_values": "aal1"},
        {"acr_values": "aal2 urn:x"},
        {"acr_values": "aal2&prompt=none"},
        {"acr_values": "AAL2"},
        {"max_age": "-1"},
        {"max_age": "1.5"},
        {"max_age": "\u0663"},
        {"max_age": "9" * 40},
        {"max_age": "0&redirect_uri=https://evil.example"},
        {"max_age": ""},
    ],
)
def test_a_link_to_the_sign_in_asks_for_nothing_that_guards_do_not(query: dict[str, str], client: TestClient) -> None:
    sent = begin(client, **query)
    assert not {"acr_values", "max_age", "prompt"} & set(sent) and "evil" not in sent["redirect_uri"]


def test_only_missing_sign_in_is_mended_by_signing_in(
    redirecting: TestClient, client: TestClient, issuer: TestIssuer, gw: Gatewright
) -> None:
    assert redirecting.post("/write", headers=NAVIGATION).status_code == 401
    assert redirecting.get("/items", headers=NAVIGATION).status_code == 401
    assert redirecting.get("/role", headers={**NAVIGATION, **cookie_header(issuer.cookies(gw))}).status_code == 403
    # And only where the app asked for it.
    assert client.get("/user", headers=NAVIGATION).status_code == 401


def test_a_mounted_app_sends_people_to_the_sign_in_of_the_outer_one(issuer: TestIssuer) -> None:
    gw = Gatewright(**issuer.settings(redirect_to_login=True))
    inner = FastAPI()

    @inner.get("/page", dependencies=[Depends(gw.user)])
    def page() -> None: ...

    outer = FastAPI(lifespan=gw.lifespan)
    outer.include_router(gw.router(), prefix="/auth")
    outer.mount("/inner", inner)
    with forgetful(outer) as client:
        assert client.get("/inner/page", headers=NAVIGATION).headers["location"] == "/auth/login?return_to=/inner/page"


def test_without_a_login_route_there_is_nowhere_to_send_anybody(issuer: TestIssuer) -> None:
    gw = Gatewright(**issuer.settings(redirect_to_login=True))
    app = FastAPI()

    @app.get("/page", dependencies=[Depends(gw.user)])
    def page() -> None: ...

    assert forgetful(app).get("/page", headers=NAVIGATION).status_code == 401
