"""Users made through the API, and calls to authenticate as a confidential client."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import httpx
import workos

from recording import open_client
from running_server import Server

PASSWORD = "correct horse battery staple 7"


@dataclass
class Account:
    id: str
    email: str
    password: str = PASSWORD


def unique_email(label: str = "user") -> str:
    return f"{label}-{secrets.token_hex(5)}@example.test"


def open_api(server: Server, api_key: str | None = None) -> httpx.Client:
    """A recording client with the server's API key."""
    return open_client(base_url=server.url, headers={"authorization": f"Bearer {api_key or server.api_key}"})


def open_sdk(server: Server) -> workos.WorkOSClient:
    """The official Python SDK, unmodified, given only the base URL and keys."""
    return workos.WorkOSClient(
        base_url=server.url, api_key=server.api_key, client_id=server.client_id, http_client=open_client(), max_retries=0
    )


def create_account(server: Server, label: str = "user", **fields: object) -> Account:
    """A user with a verified address and a password."""
    email = unique_email(label)
    with open_api(server) as api:
        answer = api.post("/user_management/users", json={"email": email, "password": PASSWORD, "email_verified": True, **fields})
    assert answer.status_code == 201, answer.text
    return Account(answer.json()["id"], email)


def authenticate(server: Server, http: httpx.Client, grant_type: str, **fields: str | None) -> httpx.Response:
    """POST /user_management/authenticate as a confidential client; a field that is None is left out."""
    body = {"grant_type": grant_type, "client_id": server.client_id, "client_secret": server.api_key, **fields}
    return http.post(f"{server.url}/user_management/authenticate", json={k: v for k, v in body.items() if v is not None})


def sign_in_by_api(server: Server, http: httpx.Client, account: Account) -> dict[str, str]:
    answer = authenticate(server, http, "password", email=account.email, password=account.password)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())
