"""The wire rules that clients rely on and the OpenAPI document does not say, one test a rule."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import pytest

from accounts import PASSWORD, Account, authenticate, create_account, open_api, sign_in_by_api, unique_email
from hosted_pages import CALLBACK, Browser, authorize_url, complete, obtain_code
from recording import open_client
from running_server import Server, open_database, running_server, start_server

ULID = "[0-9A-HJKMNP-TV-Z]{26}"
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
USERS = "/user_management/users"
AUTHENTICATE = "/user_management/authenticate"
UNKNOWN_USER = "user_01HXYZHXYZHXYZHXYZHXYZHXYZ"


def claims_of(answer: dict[str, Any]) -> dict[str, Any]:
    return dict(jwt.decode(answer["access_token"], options={"verify_signature": False}))


def assert_json_error(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code >= 400 and answer.headers["content-type"].split(";")[0] == "application/json", (
        answer.status_code,
        answer.text,
    )
    body = answer.json()
    assert isinstance(body, dict) and (isinstance(body.get("message"), str) or isinstance(body.get("error"), str)), body
    return dict(body)


def test_wire_w01_bare_origin(api: httpx.Client, server: Server, account: Account) -> None:
    reset = api.post("/user_management/password_reset", json={"email": account.email}).json()
    device = api.post("/user_management/authorize/device", json={"client_id": server.client_id}).json()
    for url in (reset["password_reset_url"], device["verification_uri"], device["verification_uri_complete"]):
        assert url.startswith(f"{server.url}/") and not url.startswith(f"{server.url}//")
    for link in server.take_mail(account.email).links:
        assert link.startswith(f"{server.url}/"), link
    assert api.get("/api/user_management/users").status_code == 404


def test_wire_w02_errors_are_json(api: httpx.Client, server: Server) -> None:
    as_json = {"content-type": "application/json"}
    assert assert_json_error(api.get("/no/such/route")) and api.get("/no/such/route").status_code == 404
    assert assert_json_error(api.delete(USERS)) and api.delete(USERS).status_code == 405
    for broken in ("{", '{"email":', "[1,2", "\x00", '"text"', "[]", "12"):
        answer = api.post(USERS, content=broken, headers=as_json)
        assert_json_error(answer)
        assert answer.status_code in {400, 422}, (broken, answer.status_code)
    big = api.post(USERS, content=json.dumps({"email": "a" * (2 << 20)}), headers=as_json)
    assert_json_error(big)
    assert big.status_code == 413
    with open_client(base_url=server.url) as nobody:
        answer = nobody.get(USERS)
        assert answer.status_code == 401 and assert_json_error(answer) == {"message": "Unauthorized"}
    assert_json_error(api.post(USERS, json={"email": 7}))
    assert api.post(USERS, json={"email": 7}).status_code == 422
    assert_json_error(api.post(USERS, content="email=x", headers={"content-type": "text/plain"}))


def test_an_early_refusal_leaves_the_connection_in_order(server: Server) -> None:
    """A body that comes after the refusal is read, or the connection is announced to close: pooled clients send the next call on it."""
    parts = urlsplit(server.url)
    head = f"POST {USERS} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n".encode()
    for _ in range(20):
        with socket.create_connection((parts.hostname or "", parts.port or 80), 10) as wire:
            wire.sendall(head)
            time.sleep(0.02)
            wire.sendall(b"{}")
            refused = wire.recv(65536)
            assert b" 401 " in refused
            if b"connection: close" not in refused.lower():
                wire.sendall(head + b"{}")
                assert b" 401 " in wire.recv(65536), "the connection was closed without a word"


def test_wire_w03_required_keys_are_present_with_null(api: httpx.Client) -> None:
    user = api.post(USERS, json={"email": unique_email("keys")}).json()
    for key in ("first_name", "last_name", "profile_picture_url", "external_id", "last_sign_in_at"):
        assert key in user and user[key] is None
    for key in ("object", "id", "email", "email_verified", "created_at", "updated_at"):
        assert user[key] is not None


def test_wire_w04_empty_success_has_no_json_type(api: httpx.Client, server: Server, http: httpx.Client, account: Account) -> None:
    session = claims_of(sign_in_by_api(server, http, account))["sid"]
    uris = [
        f"https://{account.id.lower().replace('_', '-')}.example.com/{n}" for n in range(2)
    ]  # the first may be the default, which stays
    uri = [api.post("/user_management/redirect_uris", json={"uri": uri}).json() for uri in uris][1]
    answers = [
        api.post("/user_management/sessions/revoke", json={"session_id": session}),
        api.delete(f"/user_management/redirect_uris/{uri['id']}"),
        api.delete(f"{USERS}/{account.id}"),
    ]
    assert [a.status_code for a in answers] == [200, 204, 200]
    for answer in answers:
        assert answer.content == b"" and "json" not in answer.headers.get("content-type", "")


def test_wire_w05_access_token(server: Server, http: httpx.Client, account: Account) -> None:
    began = time.time()
    token = sign_in_by_api(server, http, account)["access_token"]
    header, claims = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})
    assert header["alg"] == "RS256" and header["typ"] == "JWT" and header["kid"]
    assert claims["iss"] == f"{server.url}/user_management/{server.client_id}" and "aud" not in claims
    assert claims["exp"] - claims["iat"] == 300 and isinstance(claims["iat"], int)
    assert claims["iat"] <= time.time() and claims["iat"] >= int(began) - 1
    assert claims["sub"] == account.id and re.fullmatch(f"session_{ULID}", claims["sid"]) and re.fullmatch(ULID, claims["jti"])
    jwks = jwt.PyJWKClient(f"{server.url}/sso/jwks/{server.client_id}")
    assert jwt.decode(token, jwks.get_signing_key_from_jwt(token).key, algorithms=["RS256"])["sub"] == account.id


def test_wire_w06_jwks(server: Server, http: httpx.Client) -> None:
    url = f"{server.url}/sso/jwks/{server.client_id}"
    for bearer in (None, "Bearer", "Bearer sk_wrong"):
        answer = http.get(url, headers={"authorization": bearer} if bearer else {})
        assert answer.status_code == 200
    assert http.get(url, headers={"user-agent": "curl/1"}).headers["cache-control"] == "public, max-age=300"
    for key in answer.json()["keys"]:
        assert (key["alg"], key["kty"], key["use"]) == ("RS256", "RSA", "sig") and key["kid"] and key["n"] and key["e"]
        thumbprint = base64.urlsafe_b64encode(hashlib.sha256(base64.b64decode(key["x5c"][0])).digest()).decode().rstrip("=")
        assert key["x5t#S256"] == thumbprint
    assert http.get(f"{server.url}/sso/jwks/client_unknown").status_code == 404


def test_wire_w06_a_retired_key_stays_published(tmp_path: Any, http: httpx.Client) -> None:
    import workos
    from workos.session import seal_session_from_auth_response

    with open_database() as database:
        server = start_server("--access-token-seconds", "1", "--key-publish-seconds", "0", data=tmp_path, database=database)
        try:
            sdk = workos.WorkOSClient(base_url=server.url, api_key=server.api_key, client_id=server.client_id)
            account = create_account(server)
            answer = sdk.user_management.authenticate_with_password(email=account.email, password=PASSWORD)
            kid = jwt.get_unverified_header(answer.access_token)["kid"]
            for _ in range(2):
                rotated = server.rotate_keys(tmp_path)
                assert rotated.returncode == 0, rotated.stderr
            time.sleep(1.2)
            published = [key["kid"] for key in http.get(f"{server.url}/sso/jwks/{server.client_id}").json()["keys"]]
            assert kid in published and len(published) == 4
            sealed = seal_session_from_auth_response(
                access_token=answer.access_token,
                refresh_token=answer.refresh_token,
                user={"id": "u"},
                cookie_password=server.cookie_password,
            )
            session = sdk.user_management.load_sealed_session(session_data=sealed, cookie_password=server.cookie_password)
            found: Any = session.authenticate()
            assert not found.authenticated and found.reason.value == "invalid_jwt"
            assert session.refresh().authenticated
        finally:
            server.stop()


def test_wire_w07_refresh_replay(server: Server, http: httpx.Client, account: Account) -> None:
    first = sign_in_by_api(server, http, account)
    with ThreadPoolExecutor(2) as pool:
        pair = list(pool.map(lambda _: authenticate(server, http, "refresh_token", refresh_token=first["refresh_token"]), range(2)))
    assert [a.status_code for a in pair] == [200, 200]
    assert pair[0].json()["refresh_token"] == pair[1].json()["refresh_token"]
    assert pair[0].json()["access_token"] == pair[1].json()["access_token"]
    second = pair[0].json()["refresh_token"]
    assert authenticate(server, http, "refresh_token", refresh_token=second).status_code == 200
    # The token before the predecessor fails at once.
    dead = authenticate(server, http, "refresh_token", refresh_token=first["refresh_token"])
    assert dead.status_code == 400 and dead.json()["error"] == "invalid_grant"


def test_wire_w07_after_the_window_a_replay_fails(http: httpx.Client) -> None:
    with running_server("--refresh-replay-seconds", "1") as server:
        first = sign_in_by_api(server, http, create_account(server))
        second = authenticate(server, http, "refresh_token", refresh_token=first["refresh_token"])
        time.sleep(1.3)
        late = authenticate(server, http, "refresh_token", refresh_token=first["refresh_token"])
        assert (late.status_code, late.json()["error"]) == (400, "invalid_grant")
        assert second.status_code == 200


def test_wire_w08_preflight_only_for_known_origins(server: Server, api: httpx.Client, http: httpx.Client) -> None:
    api.post("/user_management/cors_origins", json={"origin": "https://spa.example.com"})
    for origin, allowed in (("https://spa.example.com", True), ("https://spa.example.com.evil.example", False), ("null", False)):
        answer = http.options(f"{server.url}{AUTHENTICATE}", headers={"origin": origin, "access-control-request-method": "POST"})
        assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)


@pytest.mark.parametrize("path", ["/passwordless/sessions", "/user_management/authkit_oauth_resources", "/user_management/waitlists"])
def test_wire_w09_calls_not_built_yet_are_json_404(api: httpx.Client, path: str) -> None:
    answer = api.post(path, json={}) if "sessions" in path else api.get(path)
    assert answer.status_code == 404
    assert_json_error(answer)


def test_wire_w10_ids(api: httpx.Client, server: Server) -> None:
    ids = [create_account(server).id for _ in range(3)]
    assert all(re.fullmatch(f"user_{ULID}", i) for i in ids) and ids == sorted(ids)
    for malformed in ("x", "user_", "user_" + "!" * 26, "a" * 500, "user_01%0A", "%F0%9F%94%92"):
        answer = api.get(f"{USERS}/{malformed}")
        assert answer.status_code == 404, (malformed, answer.status_code)
        assert_json_error(answer)


def test_wire_w11_timestamps(api: httpx.Client, account: Account) -> None:
    user = api.get(f"{USERS}/{account.id}").json()
    assert STAMP.fullmatch(user["created_at"]) and STAMP.fullmatch(user["updated_at"])
    reset = api.post("/user_management/password_reset", json={"email": account.email}).json()
    assert STAMP.fullmatch(reset["expires_at"]) and STAMP.fullmatch(reset["created_at"])


def test_wire_w12_scalars(api: httpx.Client, server: Server, http: httpx.Client) -> None:
    def create(**fields: Any) -> httpx.Response:
        return api.post(USERS, json={"email": unique_email("scalar"), **fields})

    assert create(metadata={f"k{i}": "v" for i in range(50)}).status_code == 201
    assert create(metadata={f"k{i}": "v" for i in range(51)}).status_code in {400, 422}
    assert create(metadata={"k" * 40: "v"}).status_code == 201
    assert create(metadata={"k" * 41: "v"}).status_code in {400, 422}
    assert create(metadata={"k": "v" * 600}).status_code == 201
    assert create(metadata={"k": "v" * 601}).status_code in {400, 422}
    assert create(metadata={"k": 7}).status_code in {400, 422}
    unique = unique_email("x").ljust(128, "x")
    assert create(external_id=unique).status_code == 201
    assert create(external_id=unique).status_code == 400, "unique in the environment"
    assert create(external_id="x" * 129).status_code in {400, 422}
    assert create(external_id="ü").status_code in {400, 422}

    user = create(metadata={"a": "1", "b": "2"}).json()
    merged = api.put(f"{USERS}/{user['id']}", json={"metadata": {"b": None, "c": "3"}}).json()
    assert merged["metadata"] == {"a": "1", "c": "3"}
    account = create_account(server)
    assert authenticate(server, http, "password", email=f"  {account.email.upper()} ", password=PASSWORD).status_code == 200
    assert api.get(USERS, params={"email": f" {account.email.upper()} "}).json()["data"][0]["id"] == account.id


def test_wire_w13_list_envelope(api: httpx.Client, account: Account) -> None:
    for path in (USERS, "/user_management/redirect_uris", "/user_management/cors_origins", f"{USERS}/{account.id}/sessions"):
        body = api.get(path).json()
        assert body["object"] == "list" and isinstance(body["data"], list) and set(body["list_metadata"]) == {"before", "after"}
    assert api.get(f"{USERS}/{account.id}/identities").json() == []


def test_wire_w14_limit_and_order(api: httpx.Client, server: Server) -> None:
    ids = [create_account(server).id for _ in range(5)]
    for wrong in ("0", "101", "x", "-1", "1e3"):
        answer = api.get(USERS, params={"limit": wrong})
        assert answer.status_code == 422, wrong
        assert_json_error(answer)
    assert api.get(USERS, params={"order": "sideways"}).status_code == 422
    newest = [u["id"] for u in api.get(USERS, params={"limit": 5}).json()["data"]]
    assert newest == ids[::-1]
    assert [u["id"] for u in api.get(USERS, params={"limit": 5, "order": "normal"}).json()["data"]] == newest
    oldest = [u["id"] for u in api.get(USERS, params={"limit": 5, "order": "asc"}).json()["data"]]
    assert oldest == sorted(oldest) and oldest[0] <= ids[0]
    # In "normal" order cursors are reversed: after gives newer rows.
    newer = [u["id"] for u in api.get(USERS, params={"order": "normal", "after": ids[2], "limit": 10}).json()["data"]]
    assert newer == ids[3:][::-1]
    assert len(api.get(USERS, params={"limit": 100}).json()["data"]) <= 100


def test_wire_w15_cursors(http: httpx.Client) -> None:
    with running_server() as server, open_api(server) as api:
        already = len(api.get(USERS, params={"limit": 100}).json()["data"])
        for _ in range(25 - already):
            create_account(server)
        everyone = [u["id"] for u in api.get(USERS, params={"limit": 100}).json()["data"]]
        assert len(everyone) == 25
        for limit in (10, 5):  # with 5 the last page is exactly full
            walked, after, pages = [], None, 0
            while True:
                body = api.get(USERS, params={"limit": limit, **({"after": after} if after else {})}).json()
                assert (body["list_metadata"]["before"] is None) == (pages == 0)
                walked += [u["id"] for u in body["data"]]
                after, pages = body["list_metadata"]["after"], pages + 1
                if after is None:
                    break
                assert after == walked[-1]
            assert walked == everyone and pages == -(-25 // limit)
            back = api.get(USERS, params={"limit": limit, "before": everyone[12]}).json()
            assert [u["id"] for u in back["data"]] == everyone[12 - limit : 12]
        assert api.get(USERS, params={"after": everyone[-1]}).json()["data"] == []


def test_wire_w16_query_encodings(api: httpx.Client, account: Account) -> None:
    plus = api.post(USERS, json={"email": f"plus+{account.id.lower()}@example.test"}).json()
    found = api.get(f"{USERS}?email={plus['email'].replace('+', '%2B')}").json()["data"]
    assert [u["id"] for u in found] == [plus["id"]]
    assert api.get(f"{USERS}?email={account.email}&unknown[k]=v&also={{x").json()["data"][0]["id"] == account.id
    assert api.get(f"{USERS}?email=+{account.email}+").json()["data"][0]["id"] == account.id, "a plus is a space"


def test_wire_w17_body_encodings(http: httpx.Client, server: Server, account: Account) -> None:
    grant = {
        "grant_type": "password",
        "client_id": server.client_id,
        "client_secret": server.api_key,
        "email": account.email,
        "password": PASSWORD,
    }
    for body in ({"json": grant}, {"data": grant}):
        assert http.post(f"{server.url}{AUTHENTICATE}", **body).status_code == 200  # type: ignore[arg-type]
    device = {"client_id": server.client_id}
    for body in ({"json": device}, {"data": device}):
        assert http.post(f"{server.url}/user_management/authorize/device", **body).status_code == 200  # type: ignore[arg-type]


def test_wire_w18_tolerant_requests(api: httpx.Client, account: Account) -> None:
    as_json = {"content-type": "application/json"}
    unverified = api.post(USERS, json={"email": unique_email("tolerant"), "unknown": {"x": [1]}}).json()
    for content in ("", "null", "{}"):
        answer = api.post(f"{USERS}/{unverified['id']}/email_verification/send", content=content, headers=as_json)
        assert answer.status_code == 200, (content, answer.text)
    assert api.get(f"{USERS}/{account.id}?unknown=1", headers=as_json).status_code == 200
    odd = "a:b/c d%41"
    user = api.post(USERS, json={"email": unique_email("odd"), "external_id": f"{odd}{account.id}"}).json()
    encoded = f"a%3Ab%2Fc%20d%2541{account.id}"
    assert api.get(f"{USERS}/external_id/{encoded}").json()["id"] == user["id"]
    assert api.request("DELETE", f"{USERS}/{user['id']}", json={"reason": "x"}).status_code == 200


def list_keyed_operations() -> list[tuple[str, str]]:
    public = {"/sso/jwks/{clientId}", "/user_management/authenticate", "/user_management/authorize", "/user_management/sessions/logout"}
    lines = (Path(__file__).parent / "operations.txt").read_text().splitlines()
    pairs = [tuple(line.split(" ", 1)) for line in lines if line and not line.startswith("#")]
    return [(m, p) for m, p in pairs if p not in public and p != "/user_management/authorize/device"]


@pytest.mark.parametrize(("method", "path"), list_keyed_operations())
def test_wire_w19_every_keyed_operation_needs_a_key(http: httpx.Client, server: Server, account: Account, method: str, path: str) -> None:
    url = server.url + re.sub(r"\{[^}]+\}", account.id, path)
    for headers in ({}, {"authorization": "Bearer"}, {"authorization": "Bearer sk_wrong"}, {"authorization": f"Basic {server.api_key}"}):
        answer = http.request(method, url, headers=headers, json={} if method != "GET" else None)
        assert answer.status_code == 401 and answer.json() == {"message": "Unauthorized"}, (headers, answer.text)


def test_wire_w19_a_key_sees_only_its_environment(server: Server, api: httpx.Client, account: Account) -> None:
    other = next(e for e in server.facts["environments"] if e["api_key"] != server.api_key)
    with open_api(server, other["api_key"]) as foreign:
        assert foreign.get(f"{USERS}/{account.id}").status_code == 404
        assert foreign.put(f"{USERS}/{account.id}", json={"first_name": "Eve"}).status_code == 404
        assert foreign.delete(f"{USERS}/{account.id}").status_code == 404
        assert foreign.get(USERS, params={"email": account.email}).json()["data"] == []
    assert api.get(f"{USERS}/{account.id}").json()["first_name"] is None


def test_wire_w20_client_secret_is_the_api_key(http: httpx.Client, server: Server, account: Account) -> None:
    other = next(e for e in server.facts["environments"] if e["api_key"] != server.api_key)
    grant = {"grant_type": "password", "client_id": server.client_id, "email": account.email, "password": PASSWORD}

    def attempt(secret: str | None, bearer: str | None) -> int:
        body = grant | ({"client_secret": secret} if secret is not None else {})
        headers = {"authorization": f"Bearer {bearer}".strip()} if bearer is not None else {}
        return http.post(f"{server.url}{AUTHENTICATE}", json=body, headers=headers).status_code

    key = server.api_key
    assert attempt(key, None) == 200 and attempt(None, key) == 200 and attempt(key, key) == 200 and attempt(key, "") == 200
    for secret, bearer in (
        (None, None),
        ("sk_wrong", None),
        (None, "sk_wrong"),
        (key, "sk_wrong"),
        ("sk_wrong", key),
        (other["api_key"], None),
    ):
        assert 400 <= attempt(secret, bearer) < 500, (secret, bearer)


def test_wire_w21_error_shape_by_place(http: httpx.Client, api: httpx.Client, server: Server, account: Account) -> None:
    def fail(grant: str, status: int, **fields: str | None) -> dict[str, Any]:
        answer = authenticate(server, http, grant, **fields)
        assert answer.status_code == status, answer.text
        return assert_json_error(answer)

    assert fail("authorization_code", 400, code="nope")["error"] == "invalid_grant"
    assert fail("refresh_token", 400, refresh_token="nope")["error"] == "invalid_grant"
    assert fail("urn:ietf:params:oauth:grant-type:device_code", 400, device_code="nope")["error"] in {"invalid_grant", "expired_token"}
    assert fail("telepathy", 400)["error"] == "invalid_request"
    assert fail("password", 400, email=account.email, password="wrong wrong wrong")["code"] == "invalid_credentials"
    assert fail("urn:workos:oauth:grant-type:magic-auth:code", 400, email=account.email, code="000000")["code"] == "invalid_one_time_code"
    pending = "urn:workos:oauth:grant-type:email-verification:code"
    assert fail(pending, 400, code="000000", pending_authentication_token="x")["code"] == "invalid_pending_authentication_token"
    step = authenticate(server, http, "password", email=unverified_email(api), password=PASSWORD)
    assert step.status_code == 403 and step.json()["code"] == "email_verification_required"
    assert {"pending_authentication_token", "email", "email_verification_id"} <= set(step.json())


def unverified_email(api: httpx.Client) -> str:
    email = unique_email("step")
    assert api.post(USERS, json={"email": email, "password": PASSWORD}).status_code == 201
    return email


def test_wire_w22_statuses(api: httpx.Client, account: Account) -> None:
    missing = api.get(f"{USERS}/{UNKNOWN_USER}")
    assert missing.status_code == 404
    assert missing.json()["message"] == f"User not found: '{UNKNOWN_USER}'." and missing.json()["code"] == "entity_not_found"
    for _ in range(2):
        conflict = api.post(f"{USERS}/{account.id}/email_change/confirm", json={"code": "123456"})
        assert conflict.status_code == 409 and conflict.json()["code"] == "no_pending_email_change"
    invalid = api.post(USERS, json={})
    assert invalid.status_code == 422
    body = invalid.json()
    assert body["code"] == "invalid_request_parameters" or body["errors"][0].keys() >= {"field", "code"}


def test_wire_w23_limits_say_when_to_come_back(limited: Server, http: httpx.Client) -> None:
    account = create_account(limited)
    answers = [authenticate(limited, http, "password", email=account.email, password="wrong wrong wrong") for _ in range(11)]
    assert [a.status_code for a in answers[:10]] == [400] * 10
    assert answers[10].status_code == 429 and assert_json_error(answers[10])
    wait = int(answers[10].headers["retry-after"])
    assert 1 <= wait <= 60
    # Another account is not held back.
    other = create_account(limited)
    assert authenticate(limited, http, "password", email=other.email, password=PASSWORD).status_code == 200


def test_wire_w24_idempotency_keys_do_not_swallow_mails(api: httpx.Client, server: Server, account: Account) -> None:
    key = {"idempotency-key": "retry-" + "a" * 64}
    first = api.post("/user_management/magic_auth", json={"email": account.email}, headers=key)
    second = api.post("/user_management/magic_auth", json={"email": account.email}, headers=key)
    assert first.json()["id"] != second.json()["id"]
    time.sleep(1)
    assert len(server.list_mails(account.email)) == 2


def test_wire_w25_request_ids_and_request_data(api: httpx.Client, http: httpx.Client, server: Server, account: Account) -> None:
    for answer in (api.get(USERS), api.get("/nowhere"), http.get(authorize_url(server)), http.get(f"{server.url}/sso/jwks/x")):
        assert answer.headers.get("x-request-id"), answer.url
    assert api.get(USERS, headers={"x-request-id": "mine-1234"}).headers["x-request-id"] == "mine-1234"
    for insane in ("x" * 300, "a\tb"):
        assert api.get(USERS, headers={"x-request-id": insane}).headers["x-request-id"] != insane
    assert len({api.get(USERS).headers["x-request-id"] for _ in range(3)}) == 3

    authenticate(
        server, http, "password", email=account.email, password=PASSWORD, ip_address="203.0.113.5", user_agent="the person's browser"
    )
    [session] = api.get(f"{USERS}/{account.id}/sessions").json()["data"]
    assert (session["ip_address"], session["user_agent"]) == ("203.0.113.5", "the person's browser")


def test_authorize_passes_state_and_keeps_the_query_of_the_redirect_uri(server: Server, account: Account) -> None:
    browser = Browser()
    state = "".join(chr(c) for c in range(0x20, 0x7F)) + "ü" * 100 + "x" * 3000
    page = complete(
        browser,
        server,
        browser.open(authorize_url(server, state=state, redirect_uri=f"{CALLBACK}?tenant=7")),
        email=account.email,
        password=PASSWORD,
    )
    assert page.query["state"] == state and page.query["tenant"] == "7" and page.query["code"]


def test_a_code_is_for_one_use(server: Server, http: httpx.Client, account: Account) -> None:
    code = obtain_code(server, account.email, PASSWORD)
    assert authenticate(server, http, "authorization_code", code=code).status_code == 200
    again = authenticate(server, http, "authorization_code", code=code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
