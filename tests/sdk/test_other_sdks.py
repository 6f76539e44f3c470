"""The older Python line and the Node SDK, unmodified, and a browser client as authkit-js behaves."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import subprocess
from http.cookies import SimpleCookie
from pathlib import Path

import httpx
import pytest

from accounts import PASSWORD, Account, unique_email
from hosted_pages import CALLBACK, Browser, authorize_url, complete, origin_of, sign_in
from organizations import create_flag, create_resource_types
from recording import recording_proxy
from running_server import Server
from sdk.node_sdk import NodeCall, thrown

HERE = Path(__file__).parent


def run_v5(server: Server, script: str, *arguments: str) -> None:
    python = os.environ.get("GATEWRIGHT_V5_PYTHON")
    assert python, "GATEWRIGHT_V5_PYTHON names no Python with workos 5.46.0; run the suites with tests/run.py"
    with recording_proxy() as proxy:
        environment = {**os.environ, **server.app_environment(), **proxy}
        command = [python, str(HERE / script), f"five-{secrets.token_hex(4)}", *arguments]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0 and ended.stdout.strip() == "done", ended.stderr[-2000:]


def test_every_call_of_the_python_sdk_5_46(server: Server) -> None:
    run_v5(server, "calls_v5.py")


def test_every_call_of_the_python_sdk_5_46_about_organizations(server: Server) -> None:
    run_v5(server, "organizations_v5.py", create_flag(server, default_value=True), *create_resource_types(server))


def test_node_signs_in_authenticates_refreshes_and_signs_out(node: NodeCall, server: Server, account: Account) -> None:
    browser = Browser()
    page = sign_in(browser, server, node("authorizationUrl", {"redirectUri": CALLBACK, "state": "s" * 1500}), account.email, PASSWORD)
    assert page.query["state"] == "s" * 1500, "state comes back as it went"
    answer = node("authenticateWithCode", page.query["code"])
    assert answer["user"]["id"] == account.id and answer["sealedSession"].startswith("Fe26.2*")

    found = node("authenticateSession", answer["sealedSession"])
    assert found["authenticated"] and found["sessionId"].startswith("session_") and found["user"]["email"] == account.email
    renewed = node("refreshSession", answer["sealedSession"])
    assert renewed["authenticated"] and renewed["sealedSession"] != answer["sealedSession"]

    logout = node("logoutUrl", renewed["sealedSession"])
    assert origin_of(logout) == server.url
    assert browser.open(logout).url == "http://localhost:9/"
    ended = node("refreshSession", renewed["sealedSession"])
    assert not ended["authenticated"] and ended["reason"] == "invalid_grant"


def test_node_public_client_with_pkce(node: NodeCall, server: Server, account: Account) -> None:
    asked = node("authorizationUrlWithPKCE", {"redirectUri": CALLBACK})
    page = sign_in(Browser(), server, asked["url"], account.email, PASSWORD)
    assert page.query["state"] == asked["state"]
    assert node("authenticatePublic", page.query["code"], asked["codeVerifier"])["user"]["id"] == account.id


def test_node_throws_the_right_classes(node: NodeCall, account: Account) -> None:
    assert thrown(node, "wrongKey")["error"] == "UnauthorizedException"
    assert thrown(node, "getUser", "user_01HXYZHXYZHXYZHXYZHXYZHXYZ")["error"] == "NotFoundException"
    assert thrown(node, "createUser", {"email": "no address"})["error"] == "UnprocessableEntityException"
    refused = thrown(node, "authenticateWithPassword", {"email": account.email, "password": "wrong wrong wrong"})
    assert (refused["status"], refused["code"]) == (400, "invalid_credentials")


def test_node_posts_without_a_body_and_pages_to_the_end(node: NodeCall) -> None:
    made = node("createUser", {"email": unique_email("node")})
    assert node("sendVerificationEmail", made["id"])["user"]["id"] == made["id"]
    assert made["id"] in node("listAllUsers", {"limit": 100})
    node("deleteUser", made["id"])
    assert thrown(node, "getUser", made["id"])["status"] == 404


class Spa:
    """What authkit-js does in a page of `origin`: fetch with credentials, one cookie store, PKCE."""

    def __init__(self, server: Server, origin: str, http: httpx.Client) -> None:
        self.server, self.origin, self.http = server, origin, http
        self.verifier = secrets.token_urlsafe(48)
        self.cookies: dict[str, str] = {}
        self.set_cookies: dict[str, dict[str, str]] = {}

    @property
    def challenge(self) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).decode().rstrip("=")

    def preflight(self) -> httpx.Response:
        asked = {"origin": self.origin, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
        return self.http.request("OPTIONS", f"{self.server.url}/user_management/authenticate", headers=asked)

    def authenticate(self, **body: str) -> httpx.Response:
        headers = {"origin": self.origin}
        if self.cookies:
            headers["cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        answer = self.http.post(
            f"{self.server.url}/user_management/authenticate", json={"client_id": self.server.client_id, **body}, headers=headers
        )
        self.keep(answer)
        return answer

    def keep(self, answer: httpx.Response) -> None:
        for line in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(line).items():
                self.set_cookies[name] = {k: str(v) for k, v in morsel.items()}
                if morsel["max-age"] == "0" or "1970" in morsel["expires"]:
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value


@pytest.fixture
def spa(server: Server, api: httpx.Client, http: httpx.Client) -> Spa:
    origin = f"http://localhost:{20000 + secrets.randbelow(20000)}"
    api.post("/user_management/cors_origins", json={"origin": origin})
    return Spa(server, origin, http)


def test_authkit_js_signs_in_and_refreshes_by_cookie(spa: Spa, account: Account) -> None:
    allowed = spa.preflight()
    assert allowed.status_code in {200, 204}
    assert allowed.headers["access-control-allow-origin"] == spa.origin
    assert allowed.headers["access-control-allow-credentials"] == "true"
    assert "content-type" in allowed.headers["access-control-allow-headers"].lower()

    browser = Browser()
    url = authorize_url(spa.server, code_challenge=spa.challenge, code_challenge_method="S256")
    page = complete(browser, spa.server, browser.open(url), email=account.email, password=PASSWORD)
    answer = spa.authenticate(grant_type="authorization_code", code=page.query["code"], code_verifier=spa.verifier)
    assert answer.status_code == 200 and answer.json()["refresh_token"]
    assert answer.headers["access-control-allow-origin"] == spa.origin and "origin" in answer.headers["vary"].lower()
    [kept] = [name for name in spa.set_cookies if name != "workos-has-session"]
    assert spa.set_cookies[kept]["httponly"], "the refresh token is out of reach of scripts"
    assert not spa.set_cookies["workos-has-session"]["httponly"] and spa.cookies["workos-has-session"]

    for _ in range(2):
        renewed = spa.authenticate(grant_type="refresh_token")
        assert renewed.status_code == 200, renewed.text
        assert renewed.json()["user"]["id"] == account.id


def test_a_foreign_origin_gets_no_cors_headers_and_no_session(spa: Spa, account: Account) -> None:
    browser = Browser()
    url = authorize_url(spa.server, code_challenge=spa.challenge, code_challenge_method="S256")
    page = complete(browser, spa.server, browser.open(url), email=account.email, password=PASSWORD)
    assert spa.authenticate(grant_type="authorization_code", code=page.query["code"], code_verifier=spa.verifier).status_code == 200
    spa.origin = "https://evil.example"
    assert "access-control-allow-origin" not in spa.preflight().headers
    refused = spa.authenticate(grant_type="refresh_token")
    assert 400 <= refused.status_code < 500 and "access-control-allow-origin" not in refused.headers
    assert "error" in refused.json() or "message" in refused.json()


def test_the_cookie_is_refused_from_a_form_post(spa: Spa, account: Account) -> None:
    browser = Browser()
    url = authorize_url(spa.server, code_challenge=spa.challenge, code_challenge_method="S256")
    page = complete(browser, spa.server, browser.open(url), email=account.email, password=PASSWORD)
    spa.authenticate(grant_type="authorization_code", code=page.query["code"], code_verifier=spa.verifier)
    cookies = "; ".join(f"{k}={v}" for k, v in spa.cookies.items())
    body = {"grant_type": "refresh_token", "client_id": spa.server.client_id}
    forged = spa.http.post(f"{spa.server.url}/user_management/authenticate", data=body, headers={"origin": spa.origin, "cookie": cookies})
    assert 400 <= forged.status_code < 500


def test_sign_out_clears_the_browser_clients_cookies(spa: Spa, account: Account) -> None:
    import jwt

    browser = Browser()
    url = authorize_url(spa.server, code_challenge=spa.challenge, code_challenge_method="S256")
    page = complete(browser, spa.server, browser.open(url), email=account.email, password=PASSWORD)
    answer = spa.authenticate(grant_type="authorization_code", code=page.query["code"], code_verifier=spa.verifier)
    session = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})["sid"]
    cookies = "; ".join(f"{k}={v}" for k, v in spa.cookies.items())
    gone = spa.http.get(f"{spa.server.url}/user_management/sessions/logout?session_id={session}", headers={"cookie": cookies})
    assert gone.status_code in {200, 302, 303}
    spa.keep(gone)
    assert "workos-has-session" not in spa.cookies
    assert spa.authenticate(grant_type="refresh_token").status_code == 400
