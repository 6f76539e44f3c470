"""Every call of the Python SDK that this release serves, with the newest SDK line."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import bcrypt
import jwt
import pytest
import workos
from workos.user_management._resource import PasswordHashed, PasswordPlaintext

from accounts import PASSWORD, Account, create_account, open_sdk, unique_email
from hosted_pages import CALLBACK, Browser, approve_device, authorize_url, complete, obtain_code
from running_server import Server

ULID = "[0-9A-HJKMNP-TV-Z]{26}"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture
def users(sdk: workos.WorkOSClient) -> Any:
    return sdk.user_management


def refusal(call: Any, *args: Any, **kwargs: Any) -> Any:
    """The error the call ends with, as the SDK raises it."""
    with pytest.raises(workos.WorkOSError) as raised:
        call(*args, **kwargs)
    return raised.value


def test_users_are_created_read_changed_and_deleted(users: Any) -> None:
    email = unique_email("crud")
    made = users.create_user(
        email=f" {email.upper()} ", first_name="Ada", last_name="Lovelace", metadata={"team": "blue"}, external_id=f"x-{email}"
    )
    assert re.fullmatch(f"user_{ULID}", made.id)
    assert (made.email.lower(), made.first_name, made.email_verified, made.metadata) == (email, "Ada", False, {"team": "blue"})
    assert abs(made.created_at - datetime.now(timezone.utc)) < timedelta(seconds=30)

    assert users.get_user(made.id).id == made.id
    assert users.get_user_by_external_id(f"x-{email}").id == made.id
    assert [u.id for u in users.list_users(email=email).data] == [made.id]

    changed = users.update_user(made.id, last_name="King", email_verified=True, metadata={"floor": "3"}, locale="de-DE")
    assert (changed.first_name, changed.last_name, changed.email_verified, changed.locale) == ("Ada", "King", True, "de-DE")
    assert changed.metadata == {"team": "blue", "floor": "3"}, "metadata merges"
    assert changed.updated_at >= made.updated_at
    assert users.update_user(made.id, external_id=None).external_id is None
    assert users.get_user_identities(made.id) == []

    users.delete_user(made.id)
    gone = refusal(users.get_user, made.id)
    assert isinstance(gone, workos.NotFoundError) and gone.message == f"User not found: '{made.id}'." and gone.code == "entity_not_found"
    assert gone.request_id


def test_a_second_user_with_the_same_address_is_refused(users: Any, account: Account) -> None:
    refused = refusal(users.create_user, email=account.email.upper())
    assert isinstance(refused, workos.BadRequestError) and refused.code == "user_creation_error"
    assert refused.errors[0]["code"]
    assert len(users.list_users(email=account.email).data) == 1


def test_auto_paging_visits_every_user_once_and_ends(users: Any, server: Server) -> None:
    mine = {create_account(server, "page").id for _ in range(23)}
    listed = [u.id for u in users.list_users(limit=5).auto_paging_iter()]
    assert len(listed) == len(set(listed)) and mine <= set(listed)
    assert listed == sorted(listed, reverse=True), "newest first, and ids follow time"
    oldest_first = [u.id for u in users.list_users(limit=100, order="asc").auto_paging_iter()]
    assert oldest_first == listed[::-1]


def hash_as(kind: str, password: bytes) -> str:
    salt = b"0123456789abcdef"
    match kind:
        case "bcrypt":
            return bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()
        case "ssha":
            return "{SSHA}" + base64.b64encode(hashlib.sha1(password + salt).digest() + salt).decode()
        case "pbkdf2":
            return f"$pbkdf2-sha256$i=1000,l=32${unpadded(salt)}${unpadded(hashlib.pbkdf2_hmac('sha256', password, salt, 1000))}"
        case "scrypt":
            return f"$scrypt$ln=10,r=8,p=1${unpadded(salt)}${unpadded(hashlib.scrypt(password, salt=salt, n=1 << 10, r=8, p=1, dklen=32))}"
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["bcrypt", "ssha", "pbkdf2", "scrypt"])
def test_imported_password_hashes_sign_in(users: Any, kind: str) -> None:
    email, digest = unique_email(kind), hash_as(kind, PASSWORD.encode())
    users.create_user(email=email, email_verified=True, password=PasswordHashed(password_hash=digest, password_hash_type=kind))
    for _ in range(2):  # the second time against our own hash
        assert users.authenticate_with_password(email=email, password=PASSWORD).user.email == email
    assert refusal(users.authenticate_with_password, email=email, password=PASSWORD + "x").code == "invalid_credentials"


def unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def test_password_sign_in_and_the_session_it_makes(users: Any, account: Account) -> None:
    answer = users.authenticate_with_password(email=account.email, password=PASSWORD, ip_address="192.0.2.9", user_agent="agent 9")
    assert answer.user.id == account.id and str(getattr(answer.authentication_method, "value", answer.authentication_method)) == "Password"
    claims = jwt.decode(answer.access_token, options={"verify_signature": False})
    [session] = users.list_sessions(account.id).data
    assert session.id == claims["sid"] and re.fullmatch(f"session_{ULID}", session.id)
    assert (session.ip_address, session.user_agent, session.ended_at) == ("192.0.2.9", "agent 9", None)
    assert users.get_user(account.id).last_sign_in_at is not None


def test_unverified_addresses_are_verified_on_the_way_in(users: Any, server: Server) -> None:
    email = unique_email("unverified")
    user = users.create_user(email=email, password=PasswordPlaintext(password=PASSWORD))
    step = refusal(users.authenticate_with_password, email=email, password=PASSWORD)
    assert type(step).__name__ == "EmailVerificationRequiredError" and step.status_code == 403
    assert step.email.lower() == email and step.pending_authentication_token and step.email_verification_id
    code = server.take_code(email)
    stored = users.get_email_verification(step.email_verification_id)
    assert (stored.code, stored.user_id) == (code, user.id)
    answer = users.authenticate_with_email_verification(code=code, pending_authentication_token=step.pending_authentication_token)
    assert answer.user.email_verified
    again = refusal(users.authenticate_with_email_verification, code=code, pending_authentication_token=step.pending_authentication_token)
    assert again.status_code == 400


def test_magic_auth(users: Any, server: Server, account: Account) -> None:
    made = users.create_magic_auth(email=account.email)
    assert re.fullmatch(r"\d{6}", made.code) and users.get_magic_auth(made.id).code == made.code == server.take_code(account.email)
    wrong = refusal(users.authenticate_with_magic_auth, code="000000" if made.code != "000000" else "000001", email=account.email)
    assert wrong.code == "invalid_one_time_code"
    answer = users.authenticate_with_magic_auth(code=made.code, email=account.email)
    assert answer.user.id == account.id
    used = refusal(users.authenticate_with_magic_auth, code=made.code, email=account.email)
    assert used.code == "one_time_code_previously_used"


def test_magic_auth_for_an_unknown_address_makes_the_user(users: Any) -> None:
    email = unique_email("stranger")
    made = users.create_magic_auth(email=email)
    answer = users.authenticate_with_magic_auth(code=made.code, email=email)
    assert answer.user.email == email and answer.user.email_verified


def test_password_reset(users: Any, account: Account) -> None:
    session = users.authenticate_with_password(email=account.email, password=PASSWORD)
    made = users.reset_password(email=account.email)
    assert users.get_password_reset(made.id).password_reset_token == made.password_reset_token
    assert made.password_reset_token in made.password_reset_url
    weak = refusal(users.confirm_password_reset, token=made.password_reset_token, new_password="short")
    assert weak.status_code in {400, 422}
    changed = users.confirm_password_reset(token=made.password_reset_token, new_password=PASSWORD + " new")
    assert changed.user.id == account.id
    assert refusal(users.authenticate_with_password, email=account.email, password=PASSWORD).code == "invalid_credentials"
    assert users.authenticate_with_password(email=account.email, password=PASSWORD + " new").user.id == account.id
    assert refusal(users.authenticate_with_refresh_token, refresh_token=session.refresh_token).error == "invalid_grant"
    assert refusal(users.confirm_password_reset, token=made.password_reset_token, new_password=PASSWORD + " 3").status_code in {400, 404}
    assert isinstance(refusal(users.reset_password, email=unique_email("nobody")), workos.NotFoundError)


def test_email_verification_on_request(users: Any, server: Server) -> None:
    email = unique_email("verify")
    user = users.create_user(email=email)
    assert users.send_verification_email(user.id).user.id == user.id
    code = server.take_code(email)
    assert refusal(users.verify_email, user.id, code="000000" if code != "000000" else "000001").code == "email_verification_code_incorrect"
    assert users.verify_email(user.id, code=code).user.email_verified
    assert refusal(users.verify_email, user.id, code=code).code in {"email_previously_verified", "email_verification_code_previously_used"}
    assert refusal(users.send_verification_email, user.id).code == "email_already_verified"


def test_email_change(users: Any, server: Server, account: Account) -> None:
    new = unique_email("new")
    change = users.send_email_change(account.id, new_email=new)
    assert change.new_email == new and change.user.email == account.email
    assert users.get_user(account.id).email == account.email, "the old address holds until the new one is proved"
    code = server.take_code(new)
    wrong = refusal(users.confirm_email_change, account.id, code="000000" if code != "000000" else "000001")
    assert wrong.code == "email_change_code_incorrect"
    assert users.confirm_email_change(account.id, code=code).user.email == new
    assert isinstance(refusal(users.confirm_email_change, account.id, code=code), workos.ConflictError)
    other = create_account(server)
    assert refusal(users.send_email_change, account.id, new_email=other.email).code == "email_not_available"
    assert refusal(users.send_email_change, account.id, new_email=new).code == "email_change_not_needed"


def test_redirect_uris(users: Any) -> None:
    base = f"https://{unique_email().split('@')[0]}.example.com"
    users.create_redirect_uri(uri=f"{base}/first")  # it may become the default, which stays
    uri = f"{base}/callback"
    made = users.create_redirect_uri(uri=uri)
    assert made.uri == uri and re.fullmatch(f"redir_{ULID}", made.id)
    assert made.id in [r.id for r in users.list_redirect_uris(limit=2).auto_paging_iter()]
    users.delete_redirect_uris(made.id)
    assert made.id not in [r.id for r in users.list_redirect_uris().auto_paging_iter()]
    assert isinstance(refusal(users.delete_redirect_uris, made.id), workos.NotFoundError)
    assert refusal(users.create_redirect_uri, uri="javascript:alert(1)").status_code in {400, 422}


def test_cors_origins(users: Any) -> None:
    origin = f"https://{unique_email().split('@')[0]}.example.com"
    made = users.create_cors_origin(origin=origin)
    assert made.origin == origin and re.fullmatch(f"cors_origin_{ULID}", made.id)
    assert made.id in [c.id for c in users.list_cors_origins(limit=2).auto_paging_iter()]
    assert isinstance(refusal(users.create_cors_origin, origin=origin), workos.ConflictError)
    assert isinstance(refusal(users.create_cors_origin, origin=f"{origin}/path"), workos.UnprocessableEntityError)


def test_jwt_template(users: Any, account: Account) -> None:
    try:
        changed = users.update_jwt_template(content='{"mail": "{{ user.email }}", "team": "{{ user.metadata.team || \'none\' }}"}')
        assert users.list_jwt_template().content == changed.content
        token = users.authenticate_with_password(email=account.email, password=PASSWORD).access_token
        claims = jwt.decode(token, options={"verify_signature": False})
        assert (claims["mail"], claims["team"]) == (account.email, "none")
        assert refusal(users.update_jwt_template, content='{"sub": "x"}').status_code in {400, 422}
        assert refusal(users.update_jwt_template, content="not json").status_code in {400, 422}
    finally:
        users.update_jwt_template(content="{}")


def test_refresh_and_revoke(users: Any, account: Account) -> None:
    first = users.authenticate_with_password(email=account.email, password=PASSWORD)
    second = users.authenticate_with_refresh_token(refresh_token=first.refresh_token)
    assert second.refresh_token != first.refresh_token
    sessions = {jwt.decode(t.access_token, options={"verify_signature": False})["sid"] for t in (first, second)}
    assert len(sessions) == 1
    assert users.authenticate_with_refresh_token(refresh_token=first.refresh_token).refresh_token == second.refresh_token, "replay window"
    users.revoke_session(session_id=sessions.pop())
    assert users.list_sessions(account.id).data == []
    for dead in (first, second):
        ended = refusal(users.authenticate_with_refresh_token, refresh_token=dead.refresh_token)
        assert isinstance(ended, workos.BadRequestError) and ended.error == "invalid_grant"


def test_code_sealed_session_and_sign_out(sdk: workos.WorkOSClient, server: Server, account: Account) -> None:
    users = sdk.user_management
    browser = Browser()
    answer = users.authenticate_with_code(code=obtain_code(server, account.email, PASSWORD, browser))
    from workos.session import seal_session_from_auth_response

    sealed = seal_session_from_auth_response(
        access_token=answer.access_token,
        refresh_token=answer.refresh_token,
        user=answer.user.to_dict(),
        cookie_password=server.cookie_password,
    )
    assert len(sealed) < 4096, "a cookie holds 4 KB"
    session = users.load_sealed_session(session_data=sealed, cookie_password=server.cookie_password)
    found: Any = session.authenticate()
    assert found.authenticated and found.user["id"] == account.id
    renewed: Any = session.refresh()
    assert renewed.authenticated and renewed.session_id == found.session_id
    page = browser.open(session.get_logout_url(return_to=CALLBACK))
    assert page.url == CALLBACK
    ended: Any = session.refresh()
    assert not ended.authenticated


def test_the_issuer_can_be_checked(server: Server, account: Account) -> None:
    issuer = f"{server.url}/user_management/{server.client_id}"
    token = open_sdk(server).user_management.authenticate_with_password(email=account.email, password=PASSWORD)
    for expected, authenticated in ((issuer, True), (server.url, False)):
        sdk = workos.WorkOSClient(base_url=server.url, api_key=server.api_key, client_id=server.client_id, jwt_issuer=expected)
        from workos.session import seal_session_from_auth_response

        sealed = seal_session_from_auth_response(
            access_token=token.access_token, refresh_token=token.refresh_token, user={"id": "x"}, cookie_password=server.cookie_password
        )
        session = sdk.user_management.load_sealed_session(session_data=sealed, cookie_password=server.cookie_password)
        assert session.authenticate().authenticated is authenticated


def test_pkce_for_confidential_and_public_clients(users: Any, server: Server, account: Account) -> None:
    for client in (users, workos.create_public_client(client_id=server.client_id, base_url=server.url).user_management):
        asked = client.get_authorization_url_with_pkce(redirect_uri=CALLBACK, provider="authkit")
        browser = Browser()
        page = complete(browser, server, browser.open(asked["url"]), email=account.email, password=PASSWORD)
        assert page.query["state"] == asked["state"]
        answer = client.authenticate_with_code_pkce(code=page.query["code"], code_verifier=asked["code_verifier"])
        assert answer.user.id == account.id


def test_jwks_are_typed_and_their_thumbprint_is_true(users: Any, server: Server) -> None:
    [key, *_] = users.get_jwks(server.client_id).keys
    assert (key.alg, key.kty, key.use) == ("RS256", "RSA", "sig")
    certificate = base64.b64decode(key.x_5_c[0])
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(certificate).digest()).decode().rstrip("=")
    assert key.x_5_t_s_256.rstrip("=") == thumbprint
    from cryptography import x509

    numbers = x509.load_der_x509_certificate(certificate).public_key().public_numbers()  # type: ignore[union-attr]
    assert int.from_bytes(base64.urlsafe_b64decode(key.n + "=="), "big") == numbers.n  # type: ignore[union-attr]
    assert isinstance(refusal(users.get_jwks, "client_01HXYZHXYZHXYZHXYZHXYZHXYZ"), workos.NotFoundError)


def test_device_flow(server: Server, account: Account) -> None:
    # A device holds no secret.
    device: Any = workos.create_public_client(client_id=server.client_id, base_url=server.url, request_timeout=10).user_management
    asked = device.create_device(client_id=server.client_id)
    assert asked.verification_uri == f"{server.url}/device" and asked.user_code in asked.verification_uri_complete
    assert re.fullmatch(r"[A-Z]{4}-[A-Z]{4}", asked.user_code) and asked.expires_in == 300 and asked.interval == 5
    waiting = refusal(device.authenticate_with_device_code, device_code=asked.device_code)
    assert waiting.error == "authorization_pending"
    approve_device(server, asked.verification_uri, asked.user_code, account.email, account.password)
    time.sleep(asked.interval)
    answer = device.authenticate_with_device_code(device_code=asked.device_code)
    assert answer.user.id == account.id
    assert refusal(device.authenticate_with_device_code, device_code=asked.device_code).error in {
        "invalid_grant",
        "expired_token",
        "slow_down",
    }


def test_a_device_that_asks_too_often_is_slowed_down(server: Server) -> None:
    device: Any = workos.create_public_client(client_id=server.client_id, base_url=server.url).user_management
    asked = device.create_device(client_id=server.client_id)
    errors = [refusal(device.authenticate_with_device_code, device_code=asked.device_code).error for _ in range(3)]
    assert errors == ["authorization_pending", "slow_down", "slow_down"]


def test_authorize_errors_come_back_to_the_app(server: Server) -> None:
    page = Browser().open(authorize_url(server, response_type="token", state="s"))
    assert page.url.startswith(CALLBACK) and page.query["error"] and page.query["state"] == "s" and "code" not in page.query


def test_a_wrong_key_is_an_authentication_error(server: Server) -> None:
    sdk = workos.WorkOSClient(base_url=server.url, api_key="sk_wrong", client_id=server.client_id, max_retries=0)
    with pytest.raises(workos.AuthenticationError) as raised:
        sdk.user_management.list_users()
    assert raised.value.message == "Unauthorized"


def test_the_async_client_serves_too(server: Server, account: Account) -> None:
    import asyncio

    async def walk() -> str:
        async with workos.AsyncWorkOSClient(base_url=server.url, api_key=server.api_key, client_id=server.client_id) as sdk:
            answer = await sdk.user_management.authenticate_with_password(email=account.email, password=PASSWORD)
            again = await sdk.user_management.authenticate_with_refresh_token(refresh_token=answer.refresh_token)
            page = await sdk.user_management.list_users(limit=1)
            return again.user.id if page.data else ""

    assert asyncio.run(walk()) == account.id
