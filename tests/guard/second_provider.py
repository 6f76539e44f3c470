"""npm `oidc-provider`: an OpenID provider that is not ours, and the ways its tokens are obtained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import httpx

from guard.node_script import NodeScript, running_node
from hosted_pages import CALLBACK, Browser, Page

API = "https://api.example.test/"
OTHER_API = "https://other.example.test/"
OPAQUE_API = "https://opaque.example.test/"
OPAQUE_OTHER_API = "https://opaque-other.example.test/"


@dataclass
class SecondProvider:
    issuer: str
    kid: str
    script: NodeScript
    http: httpx.Client

    def set_claims(self, subject: str, **claims: Any) -> None:
        """What the provider adds to the access tokens of this account or client."""
        self.script("setClaims", subject, claims)

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """A token with any content, signed with the provider's published key."""
        return str(self.script("sign", claims, header))

    def obtain_machine_token(self, resource: str = API, scope: str = "expenses:read") -> str:
        body = {"grant_type": "client_credentials", "resource": resource, "scope": scope}
        answer = self.http.post(f"{self.issuer}/token", data=body, auth=("machine", "machine-secret"))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def sign_in(self, login: str, resource: str = API, scope: str = "openid expenses:read") -> dict[str, str]:
        """The token answer of an authorization code, obtained through the provider's pages."""
        browser = Browser()
        asked = {"client_id": "app", "response_type": "code", "redirect_uri": CALLBACK, "scope": scope, "state": "s", "nonce": "n"}
        page = browser.open(str(httpx.URL(f"{self.issuer}/auth", params={**asked, "resource": resource})))
        for _ in range(4):
            if page.url.startswith(CALLBACK):
                break
            page = press_on(browser, page, login)
        body = {"grant_type": "authorization_code", "code": page.query["code"], "redirect_uri": CALLBACK, "resource": resource}
        answer = self.http.post(f"{self.issuer}/token", data=body, auth=("app", "app-secret"))
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def revoke(self, token: str, client: str = "machine") -> None:
        answer = self.http.post(f"{self.issuer}/token/revocation", data={"token": token}, auth=(client, f"{client}-secret"))
        assert answer.status_code == 200, answer.text

    def list_requests(self, path: str) -> list[dict[str, Any]]:
        return [exchange for exchange in self.script("requests") if exchange["path"].split("?")[0] == path]

    def list_introspected(self) -> list[str]:
        """Every token somebody asked this provider about."""
        return [parse_qs(exchange["body"])["token"][0] for exchange in self.list_requests("/token/introspection")]

    def list_given_away(self, token: str) -> list[dict[str, Any]]:
        """Requests to this provider, on any path, that carried the token."""
        return [exchange for exchange in self.script("requests") if token in json.dumps(exchange)]


def press_on(browser: Browser, page: Page, login: str) -> Page:
    form = next((form for form in page.forms if form.method == "post"), None)
    assert form, f"no form at {page.url} (status {page.status}): {page.text[:300]}"
    filled = {meaning: login for meaning in ("login", "password") if meaning in form.visible}
    return browser.submit(page, form, **filled)


@contextmanager
def second_provider(kid: str) -> Iterator[SecondProvider]:
    """Runs the provider; its only signing key is called `kid`."""
    # Its traffic says nothing about our contract, so it is not recorded.
    with (
        running_node("provider.mjs", PROVIDER=json.dumps({"kid": kid, "callback": CALLBACK})) as script,
        httpx.Client(trust_env=False, timeout=15) as http,
    ):
        yield SecondProvider(**script.read(), script=script, http=http)
