"""Other sites cannot act with a person's cookie."""

import pytest
from asgi_calls import bearer, cookie_header
from fastapi.testclient import TestClient

from conftest import build_app, forgetful
from gatewright.fastapi import Gatewright
from gatewright.testing import TestIssuer

# What a browser says of the request -> whether a cookie caller may write.
CASES = [
    ({}, 403),
    ({"sec-fetch-site": "same-origin"}, 200),
    ({"sec-fetch-site": "none"}, 200),
    ({"sec-fetch-site": "same-site"}, 403),
    ({"sec-fetch-site": "cross-site"}, 403),
    ({"sec-fetch-site": "cross-site", "origin": "https://evil.example"}, 403),
    ({"origin": "https://evil.example"}, 403),
    ({"origin": "null"}, 403),
    ({"origin": "https://app.example.com"}, 200),
    ({"origin": "https://app.example.com", "sec-fetch-site": "same-origin"}, 200),
    ({"origin": "https://app.example.com.evil.example"}, 403),
    ({"origin": "http://app.example.com"}, 403),
    ({"origin": "https://app.example.com:8443"}, 403),
    ({"origin": "https://front.example.com", "sec-fetch-site": "same-site"}, 200),
    ({"origin": "https://APP.example.com"}, 403),
]


@pytest.fixture
def gw(issuer: TestIssuer) -> Gatewright:
    return Gatewright(**issuer.settings(app_url="https://app.example.com", trusted_origins=["https://front.example.com"]))


@pytest.mark.parametrize(("headers", "status"), CASES)
def test_who_may_write_with_a_cookie(headers: dict[str, str], status: int, client: TestClient, issuer: TestIssuer, gw: Gatewright) -> None:
    cookies = cookie_header(issuer.cookies(gw))
    answer = client.post("/write", headers={**cookies, **headers})
    assert answer.status_code == status
    if status == 403:
        assert answer.json() == {"detail": "The request came from another site."}
        assert "www-authenticate" not in answer.headers
    # Reading is not writing, tokens are not sent by browsers, and a route may ask for less.
    assert client.get("/user", headers={**cookies, **headers}).status_code == 200
    assert client.post("/write", headers={**bearer(issuer.user_token()), **headers}).status_code == 200
    assert client.post("/write-from-anywhere", headers={**cookies, **headers}).status_code == 200


def test_the_token_of_the_session_counts_where_the_browser_says_nothing(client: TestClient, issuer: TestIssuer, gw: Gatewright) -> None:
    mine = cookie_header(issuer.cookies(gw, session_id="session_1"))
    theirs = cookie_header(issuer.cookies(gw, session_id="session_2"))
    token = client.get("/auth/session", headers=mine).json()["csrf_token"]
    assert client.post("/write", headers={**mine, "x-csrf-token": token}).status_code == 200
    assert client.post("/write", headers={**theirs, "x-csrf-token": token}).status_code == 403
    assert client.post("/write", headers={**mine, "x-csrf-token": token[:-1]}).status_code == 403
    assert client.post("/write", headers={**mine, "x-csrf-token": token, "origin": "https://evil.example"}).status_code == 403


def test_every_unsafe_method_is_checked(issuer: TestIssuer, gw: Gatewright) -> None:
    app = build_app(gw)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        app.add_api_route("/any", lambda: "in", methods=[method], dependencies=[_depends(gw)], name=method)
    with forgetful(app) as client:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            cookies = cookie_header(issuer.cookies(gw))
            assert client.request(method, "/any", headers=cookies).status_code == 403
            assert client.request(method, "/any", headers={**cookies, "sec-fetch-site": "same-origin"}).status_code == 200


def _depends(gw: Gatewright) -> object:
    from fastapi import Depends

    return Depends(gw.user)


def test_in_development_the_loopback_address_of_the_page_is_ours(issuer: TestIssuer) -> None:
    gw = Gatewright(**issuer.settings())
    with forgetful(build_app(gw)) as client:
        cookies = cookie_header(issuer.cookies(gw))

        def write(host: str, origin: str) -> int:
            return client.post("/write", headers={**cookies, "host": host, "origin": origin}).status_code

        assert write("localhost:8000", "http://localhost:8000") == 200
        assert write("127.0.0.1:8000", "http://127.0.0.1:8000") == 200
        assert write("localhost:8000", "http://localhost:9000") == 403
        # A name of the attacker's that points to this machine.
        assert write("evil.example:8000", "http://evil.example:8000") == 403
        assert write("localhost.evil.example", "http://localhost.evil.example") == 403
        assert write("127.evil.example:8000", "http://127.evil.example:8000") == 403
        assert write("127.0.0.1.evil.example", "http://127.0.0.1.evil.example") == 403
