"""Second factors by the official SDKs: enrol, challenge, verify, list, delete, and the typed errors of a sign-in that waits for one."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import workos
from workos._errors import MfaChallengeError, MfaEnrollmentError

from accounts import PASSWORD, Account, create_account, open_sdk
from organizations import read_claims
from running_server import Server, open_database, start_server
from sdk.node_sdk import NodeCall, thrown
from sdk.offered import Noted
from second_factors import Authenticator

ULID = "[0-9A-HJKMNP-TV-Z]{26}"
FACTORS = re.compile(r"\w+ (/auth/|/user_management/users/[^/]+/auth_factors)")


@pytest.fixture(scope="module")
def sdk(server: Server) -> Any:
    return Noted(open_sdk(server))


def refusal(kind: type[workos.WorkOSError], call: Any, *args: Any, **kwargs: Any) -> Any:
    """The error the call ends with, which is of this class and no other."""
    with pytest.raises(workos.WorkOSError) as raised:
        call(*args, **kwargs)
    assert type(raised.value) is kind, f"{raised.value!r} is no {kind.__name__}"
    return raised.value


def enrolled(sdk: Any, account: Account) -> tuple[str, Authenticator]:
    """A factor that counts: its id, and what shows its codes."""
    made = sdk.multi_factor_auth.create_user_auth_factor(account.id, type="totp")
    factor, app = made.authentication_factor, Authenticator(made.authentication_factor.totp.secret)
    assert sdk.multi_factor_auth.verify_challenge(made.authentication_challenge.id, code=app.code()).valid
    return factor.id, app


def test_stand_alone_factors(sdk: Any, server: Server) -> None:
    calls = sdk.multi_factor_auth
    factor = calls.enroll_factor(type="totp", totp_issuer="Bank", totp_user="ada@example.test")
    assert re.fullmatch(f"auth_factor_{ULID}", factor.id) and factor.totp.qr_code.startswith("data:image/png;base64,")
    assert factor.totp.uri == f"otpauth://totp/Bank:ada@example.test?secret={factor.totp.secret}&issuer=Bank"
    found = calls.get_factor(factor.id)
    assert (found.id, found.totp.issuer, found.totp.user) == (factor.id, "Bank", "ada@example.test")
    challenge, app = calls.challenge_factor(factor.id), Authenticator(factor.totp.secret)
    assert re.fullmatch(f"auth_challenge_{ULID}", challenge.id) and challenge.authentication_factor_id == factor.id
    assert not calls.verify_challenge(challenge.id, code=app.wrong_code()).valid
    assert calls.verify_challenge(challenge.id, code=app.code()).valid
    assert refusal(workos.UnprocessableEntityError, calls.verify_challenge, challenge.id, code="000000").code == (
        "authentication_challenge_previously_verified"
    )

    number = f"+49151{time.time_ns() % 10**8:08}"
    phone = calls.enroll_factor(type="sms", phone_number=number)
    assert phone.sms.phone_number == number
    asked = calls.challenge_factor(phone.id, sms_template="{{code}} opens the vault.")
    assert server.list_mails(number)[0].text.endswith(" opens the vault.")
    for _ in range(5):
        assert not calls.verify_challenge(asked.id, code="not it").valid
    assert refusal(workos.BadRequestError, calls.verify_challenge, asked.id, code="000000").code == "one_time_code_too_many_attempts"

    calls.delete_factor(factor.id)
    assert refusal(workos.NotFoundError, calls.get_factor, factor.id).code == "entity_not_found"
    for wanting in ({"type": "sms"}, {"type": "totp"}, {"type": "sms", "phone_number": "12"}):
        refusal(workos.UnprocessableEntityError, calls.enroll_factor, **wanting)


def test_a_sign_in_with_a_second_factor(sdk: Any, account: Account) -> None:
    users = sdk.user_management
    factor, app = enrolled(sdk, account)
    listed = sdk.multi_factor_auth.list_user_auth_factors(account.id)
    assert [row.id for row in listed.auto_paging_iter()] == [factor]
    step = refusal(MfaChallengeError, users.authenticate_with_password, email=account.email, password=PASSWORD)
    assert (step.status_code, step.code, step.user["id"]) == (403, "mfa_challenge", account.id)
    assert step.authentication_factors == [{"id": factor, "type": "totp"}]
    challenge = sdk.multi_factor_auth.challenge_factor(factor)
    pending = {"pending_authentication_token": step.pending_authentication_token, "authentication_challenge_id": challenge.id}
    refused = refusal(workos.BadRequestError, users.authenticate_with_totp, code=app.wrong_code(), **pending)
    assert refused.code == "invalid_one_time_code"
    code = app.code()
    signed_in = users.authenticate_with_totp(code=code, **pending)
    assert signed_in.user.id == account.id and read_claims(signed_in.access_token)["amr"] == ["pwd", "otp", "mfa"]
    renewed = users.authenticate_with_refresh_token(refresh_token=signed_in.refresh_token)
    assert read_claims(renewed.access_token)["amr"] == ["pwd", "otp", "mfa"]
    assert refusal(workos.BadRequestError, users.authenticate_with_totp, code=code, **pending).code == "invalid_pending_authentication_token"

    again = refusal(MfaChallengeError, users.authenticate_with_password, email=account.email, password=PASSWORD)
    challenge = sdk.multi_factor_auth.challenge_factor(factor)
    twice = refusal(
        workos.BadRequestError,
        users.authenticate_with_totp,
        code=code,
        pending_authentication_token=again.pending_authentication_token,
        authentication_challenge_id=challenge.id,
    )
    assert twice.code == "one_time_code_previously_used", "the same code twice"


def test_where_a_second_factor_is_required(tmp_path: Path) -> None:
    with open_database() as database:
        server = start_server(data=tmp_path / "data", database=database)
        try:
            requires_a_factor(server, tmp_path / "data")
        finally:
            server.stop()


def requires_a_factor(server: Server, data: Path) -> None:
    sdk, account = open_sdk(server), create_account(server)
    users = sdk.user_management
    early = users.authenticate_with_password(email=account.email, password=PASSWORD)
    server.set_settings(data, mfa="required")
    step = refusal(MfaEnrollmentError, users.authenticate_with_password, email=account.email, password=PASSWORD)
    assert (step.status_code, step.code, step.user["id"]) == (403, "mfa_enrollment", account.id)
    made = sdk.multi_factor_auth.create_user_auth_factor(account.id, type="totp", totp_issuer="Bank")
    assert made.authentication_factor.totp.issuer == "Bank"
    signed_in = users.authenticate_with_totp(
        code=Authenticator(made.authentication_factor.totp.secret).code(),
        pending_authentication_token=step.pending_authentication_token,
        authentication_challenge_id=made.authentication_challenge.id,
    )
    assert read_claims(signed_in.access_token)["amr"] == ["pwd", "otp", "mfa"]
    ended = refusal(workos.BadRequestError, users.authenticate_with_refresh_token, refresh_token=early.refresh_token)
    assert ended.error == "mfa_enrollment"


def test_the_node_sdk(node: NodeCall, account: Account) -> None:
    factor = node("mfa.enrollFactor", {"type": "totp", "issuer": "Bank", "user": "ada@example.test"})
    assert factor["totp"]["qrCode"].startswith("data:image/png;base64,")
    challenge = node("mfa.challengeFactor", {"authenticationFactorId": factor["id"]})
    code = Authenticator(factor["totp"]["secret"]).code()
    assert node("mfa.verifyChallenge", {"authenticationChallengeId": challenge["id"], "code": code})["valid"]
    assert node("mfa.getFactor", factor["id"])["type"] == "totp"
    node("mfa.deleteFactor", factor["id"])
    assert thrown(node, "mfa.getFactor", factor["id"])["status"] == 404

    enrolled = node("userManagement.enrollAuthFactor", {"userId": account.id, "type": "totp"})
    app = Authenticator(enrolled["authenticationFactor"]["totp"]["secret"])
    first = {"authenticationChallengeId": enrolled["authenticationChallenge"]["id"], "code": app.code()}
    assert node("mfa.verifyChallenge", first)["valid"]
    listed = node("userManagement.listAuthFactors", {"userId": account.id})
    assert [row["id"] for row in listed] == [enrolled["authenticationFactor"]["id"]]
    step = thrown(node, "authenticateWithPassword", {"email": account.email, "password": PASSWORD})
    assert (step["status"], step["code"]) == (403, "mfa_challenge")
    challenge = node("mfa.challengeFactor", {"authenticationFactorId": enrolled["authenticationFactor"]["id"]})
    answer = {
        "pendingAuthenticationToken": step["rawData"]["pending_authentication_token"],
        "authenticationChallengeId": challenge["id"],
        "code": app.code(),
    }
    signed_in = node("userManagement.authenticateWithTotp", answer)
    assert signed_in["user"]["id"] == account.id and read_claims(signed_in["accessToken"])["amr"] == ["pwd", "otp", "mfa"]


def test_every_method_about_factors_was_called(sdk: Any) -> None:
    # `mfa` is another name of the same resource.
    assert not [method for method in sdk.list_unanswered(FACTORS) if not method.startswith("mfa.")]
