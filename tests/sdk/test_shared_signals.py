"""A receiver of Shared Signals that knows nothing of ours: discovery, streams, and tokens verified by PyJWT."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import jwt
import pytest

from accounts import create_account, sign_in_by_api
from running_server import Server

CAEP = "https://schemas.openid.net/secevent/caep/event-type"
VERIFICATION = "https://schemas.openid.net/secevent/ssf/event-type/verification"
PUSH, POLL = "urn:ietf:rfc:8935", "urn:ietf:rfc:8936"
SECONDS = 15.0


@pytest.fixture(scope="module")
def metadata(server: Server) -> dict[str, Any]:
    """Found from the issuer as SSF 1.0 section 7.2 says."""
    issuer = httpx.URL(f"{server.url}/user_management/{server.client_id}")
    found = httpx.get(issuer.copy_with(path=f"/.well-known/ssf-configuration{issuer.path}"), trust_env=False).raise_for_status().json()
    assert found["issuer"] == str(issuer)
    assert set(found["delivery_methods_supported"]) == {PUSH, POLL}
    return dict(found)


def verify(metadata: dict[str, Any], stream: dict[str, Any], token: str) -> dict[str, Any]:
    header = jwt.get_unverified_header(token)
    assert header["typ"] == "secevent+jwt"
    key = jwt.PyJWKClient(metadata["jwks_uri"]).get_signing_key_from_jwt(token)
    claims: dict[str, Any] = jwt.decode(
        token,
        key,
        algorithms=["RS256"],
        audience=stream["aud"],
        issuer=metadata["issuer"],
        options={"require": ["iss", "aud", "iat", "jti", "sub_id", "events"]},
    )
    assert not {"sub", "exp"} & claims.keys()
    return claims


def make_stream(api: httpx.Client, metadata: dict[str, Any], **fields: Any) -> dict[str, Any]:
    made = api.post(metadata["configuration_endpoint"], json=fields)
    assert made.status_code == 201, made.text
    return dict(made.json())


def delete_stream(api: httpx.Client, metadata: dict[str, Any], stream: dict[str, Any]) -> None:
    gone = api.delete(metadata["configuration_endpoint"], params={"stream_id": stream["stream_id"]})
    assert (gone.status_code, gone.content) == (204, b"")


def end_a_session(server: Server, api: httpx.Client, http: httpx.Client) -> tuple[str, str]:
    account = create_account(server, "signal")
    sign_in_by_api(server, http, account)
    [session] = api.get(f"/user_management/users/{account.id}/sessions").json()["data"]
    assert api.post("/user_management/sessions/revoke", json={"session_id": session["id"]}).status_code == 200
    return account.id, str(session["id"])


def test_a_polled_stream_is_verified_told_of_and_acknowledged(
    server: Server, api: httpx.Client, http: httpx.Client, metadata: dict[str, Any]
) -> None:
    stream = make_stream(api, metadata, events_requested=[f"{CAEP}/session-revoked"])
    assert stream["delivery"]["method"] == POLL
    asked = api.post(metadata["verification_endpoint"], json={"stream_id": stream["stream_id"], "state": "bm9uY2U"})
    assert asked.status_code == 204, asked.text
    user, session = end_a_session(server, api, http)

    def poll(**body: Any) -> dict[str, str]:
        answer = api.post(stream["delivery"]["endpoint_url"], json={"returnImmediately": True, **body})
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["sets"])

    sets = poll()
    claims = {jti: verify(metadata, stream, token) for jti, token in sets.items()}
    assert all(jti == found["jti"] for jti, found in claims.items())
    by_type = {next(iter(found["events"])): found for found in claims.values()}
    assert by_type[VERIFICATION]["events"][VERIFICATION] == {"state": "bm9uY2U"}
    assert by_type[VERIFICATION]["sub_id"] == {"format": "opaque", "id": stream["stream_id"]}
    revoked = by_type[f"{CAEP}/session-revoked"]
    assert revoked["sub_id"] == {
        "format": "complex",
        "user": {"format": "iss_sub", "iss": metadata["issuer"], "sub": user},
        "session": {"format": "opaque", "id": session},
    }
    assert poll(maxEvents=1).keys() <= sets.keys(), "what is not acknowledged comes again"
    assert poll(ack=list(sets)) == {}
    delete_stream(api, metadata, stream)
    assert api.post(stream["delivery"]["endpoint_url"], json={"returnImmediately": True}).status_code == 404


class Receiver(BaseHTTPRequestHandler):
    """Answers 503 to the first push of each token."""

    seen: list[tuple[dict[str, str], str]]
    refused: set[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.server.seen.append(({k.lower(): v for k, v in self.headers.items()}, body))  # type: ignore[attr-defined]
        first = body not in self.server.refused  # type: ignore[attr-defined]
        self.server.refused.add(body)  # type: ignore[attr-defined]
        self.send_response(503 if first else 202)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.seen, server.refused = [], set()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def test_a_push_that_fails_is_repeated_and_verifies(
    server: Server, api: httpx.Client, http: httpx.Client, metadata: dict[str, Any], receiver: ThreadingHTTPServer
) -> None:
    url = f"http://127.0.0.1:{receiver.server_address[1]}/events"
    delivery = {"method": PUSH, "endpoint_url": url, "authorization_header": "Bearer of-the-receiver"}
    stream = make_stream(api, metadata, delivery=delivery, events_requested=[f"{CAEP}/session-revoked"])
    assert "of-the-receiver" not in json.dumps(stream)
    user, session = end_a_session(server, api, http)
    deadline = time.monotonic() + SECONDS
    seen: list[tuple[dict[str, str], str]] = receiver.seen  # type: ignore[attr-defined]
    while len(seen) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    (headers, first), (_, second) = seen
    assert first == second, "the same token is sent again"
    assert (headers["content-type"], headers["authorization"]) == ("application/secevent+jwt", "Bearer of-the-receiver")
    claims = verify(metadata, stream, first)
    assert claims["sub_id"]["user"]["sub"] == user and claims["sub_id"]["session"]["id"] == session
    delete_stream(api, metadata, stream)


def test_a_security_event_token_is_no_access_token(server: Server, api: httpx.Client, http: httpx.Client, metadata: dict[str, Any]) -> None:
    """It is signed by the same key: what tells them apart has to be in it."""
    stream = make_stream(api, metadata)
    end_a_session(server, api, http)
    sets = api.post(stream["delivery"]["endpoint_url"], json={"returnImmediately": True}).json()["sets"]
    token = next(iter(sets.values()))
    key = jwt.PyJWKClient(metadata["jwks_uri"]).get_signing_key_from_jwt(token)
    with pytest.raises(jwt.MissingRequiredClaimError):
        jwt.decode(token, key, algorithms=["RS256"], options={"require": ["exp", "sub"], "verify_aud": False})
    for path in ("/revocations", "/user_management/users", f"{metadata['configuration_endpoint']}"):
        assert http.get(httpx.URL(server.url).join(path), headers={"authorization": f"Bearer {token}"}).status_code == 401
    delete_stream(api, metadata, stream)
