"""Against the real server: a person signs in through its pages, works, is renewed and signs out."""

import base64
import hashlib
import re
import secrets
from collections.abc import Iterator
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from asgi_calls import bearer
from fastapi import FastAPI

from conftest import build_app
from gatewright.fastapi import Gatewright
from gatewright.testing import GatewrightServer, running_server

httpx = pytest.importorskip("httpx")

APP = "http://localhost:8000"


@pytest.fixture(scope="module")
def server() -> Iterator[GatewrightServer]:
    with running_server("--access-token-seconds", "2") as server:
        yield server


@pytest.fixture
def app(server: GatewrightServer) -> FastAPI:
    return build_app(Gatewright(**server.settings(), leeway=0))


class Browser:
    """Follows redirects between the app in this process and the server, with one jar of cookies."""

    def __init__(self, app: FastAPI) -> None:
        from fastapi.testclient import TestClient

        self.app = TestClient(app, base_url=APP, follow_redirects=False)
        self.web = httpx.Client(follow_redirects=False, trust_env=False, timeout=20)

    def request(self, method: str, url: str, **more: Any) -> Any:
        for _ in range(20):
            client = self.app if url.startswith((APP, "/")) else self.web
            answer = client.request(method, url, **more)
            if answer.status_code not in (301, 302, 303, 307):
                return answer
            url, method, more = urljoin(url if "://" in url else APP + url, answer.headers["location"]), "GET", {}
        raise AssertionError("redirected in circles")

    def submit(self, page: Any, **fields: str) -> Any:
        """Sends the first form of a page that has all these fields."""
        for attributes, body in re.findall(r"<form([^>]*)>(.*?)</form>", page.text, re.S):
            inputs = dict(re.findall(r'<input[^>]*?name="([^"]+)"(?:[^>]*?value="([^"]*)")?', body))
            if all(name in inputs for name in fields):
                hidden = {name: unescape(value) for name, value in inputs.items()}
                action = re.search(r'action="([^"]*)"', attributes)
                url = urljoin(str(page.url), unescape(action.group(1)) if action else "")
                return self.request(
                    "POST", url, data={**hidden, **fields}, headers={"origin": "{0.scheme}://{0.netloc}".format(urlsplit(str(page.url)))}
                )
        raise AssertionError(f"no form with {sorted(fields)} at {page.url}:\n{page.text[:3000]}")

    def sign_in(self, user: dict[str, str], url: str = "/auth/login?return_to=/user") -> Any:
        page = self.request("GET", url)
        if 'name="password"' not in page.text:
            page = self.submit(page, email=user["email"])
        return self.submit(page, password=user["password"])


def test_a_person_signs_in_works_is_renewed_and_signs_out(app: FastAPI, server: GatewrightServer) -> None:
    import time

    browser = Browser(app)
    answer = browser.sign_in(server.users[1])
    assert answer.status_code == 200 and answer.json().startswith("user_")
    assert browser.app.get("/auth/me").json()["email"] == server.users[1]["email"]
    before = browser.app.cookies["wos_session"]
    # Past the access token, the next request renews the session.
    deadline = time.monotonic() + 10
    while browser.app.cookies["wos_session"] == before:
        assert time.monotonic() < deadline, "the session was never renewed"
        assert browser.app.get("/user").status_code == 200
        time.sleep(0.2)
    assert browser.app.get("/fresh").status_code == 200
    session = browser.app.cookies["wos_session"]
    out = browser.app.post("/auth/logout", headers={"sec-fetch-site": "same-origin"})
    assert out.status_code == 303
    ended = browser.web.get(out.headers["location"])
    assert (ended.status_code, ended.headers["location"].rstrip("/")) == (302, APP)
    # A cookie that somebody kept is good for nothing as soon as the server is asked.
    assert browser.app.get("/fresh", headers={"cookie": f"wos_session={session}"}).status_code == 401


def test_the_authorize_button_of_the_docs_signs_in(app: FastAPI, server: GatewrightServer) -> None:
    """What Swagger UI does: PKCE without a secret, a form post to the token endpoint from the origin of the docs."""
    browser = Browser(app)
    document = browser.app.get("/openapi.json").json()
    flow = document["components"]["securitySchemes"]["Gatewright"]["flows"]["authorizationCode"]
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    redirect_uri, state = f"{APP}/docs/oauth2-redirect", base64.b64encode(secrets.token_bytes(9)).decode()
    query = {
        "response_type": "code",
        "client_id": server.client_id,
        "redirect_uri": redirect_uri,
        "scope": "",
        "state": state,
        "provider": "authkit",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    url = f"{flow['authorizationUrl']}?{httpx.QueryParams(query)}"
    arrived = browser.sign_in(server.users[1], url)
    sent = parse_qs(urlsplit(str(arrived.url)).query)
    assert sent["state"] == [state]

    headers = {"origin": APP, "x-requested-with": "XMLHttpRequest", "accept": "application/json, text/plain, */*"}
    preflight = browser.web.options(
        flow["tokenUrl"],
        headers={"origin": APP, "access-control-request-method": "POST", "access-control-request-headers": "x-requested-with"},
    )
    assert preflight.status_code in (200, 204) and preflight.headers["access-control-allow-origin"] == APP
    assert "x-requested-with" in preflight.headers["access-control-allow-headers"].lower()
    form = {
        "grant_type": "authorization_code",
        "code": sent["code"][0],
        "client_id": server.client_id,
        "redirect_uri": redirect_uri,
        "code_verifier": verifier,
    }
    answer = browser.web.post(flow["tokenUrl"], data=form, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["access-control-allow-origin"] == APP
    assert answer.json()["token_type"].lower() == "bearer"
    assert browser.app.get("/user", headers=bearer(answer.json()["access_token"])).json() == answer.json()["user"]["id"]
