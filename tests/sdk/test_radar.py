"""Radar with the newest line of the official Python SDK: lists, verdicts, and the typed errors of a challenged sign-in."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import workos
from workos.user_management._resource import PasswordPlaintext

from accounts import PASSWORD, create_account, open_sdk, unique_email
from running_server import Server, open_database, start_server

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36"


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    """A server whose environment challenges new devices and repeated sign-ups."""
    with tempfile.TemporaryDirectory() as folder, open_database() as database:
        server = start_server(data=Path(folder), database=database)
        reactions = {"radar.unrecognized_device": "challenge", "radar.repeat_sign_up": "challenge", "radar.mailbox_sign_ups": "1"}
        server.set_settings(Path(folder), **reactions)
        yield server
        assert server.stop() == 0


@pytest.fixture
def sdk(strict: Server) -> workos.WorkOSClient:
    return open_sdk(strict)


def sign_in(sdk: workos.WorkOSClient, email: str, ip_address: str) -> Any:
    return sdk.user_management.authenticate_with_password(email=email, password=PASSWORD, ip_address=ip_address, user_agent=CHROME)


def test_lists_take_entries_and_give_them_back(sdk: workos.WorkOSClient) -> None:
    assert sdk.radar.add_list_entry("ip_address", "block", entry="2001:DB8::1") is None
    assert sdk.radar.add_list_entry("ip_address", "block", entry="2001:db8::2").message
    assess = {"user_agent": CHROME, "email": unique_email(), "auth_method": "SSO", "action": "sign-in"}
    verdict = sdk.radar.create_attempt(ip_address="2001:db8::9", **assess)
    assert (str(verdict.verdict.value), str(verdict.control.value), str(verdict.blocklist_type.value)) == ("block", "restriction", "ip_address")
    sdk.radar.remove_list_entry("ip_address", "block", entry="2001:db8::")
    allowed = sdk.radar.create_attempt(ip_address="2001:db8::9", **assess)
    assert str(allowed.verdict.value) == "allow" and allowed.control is None and allowed.attempt_id.startswith("radar_att_")
    sdk.radar.update_attempt(allowed.attempt_id, challenge_status="success", attempt_status="success")
    for entry in ("2001:db8::1", "nonsense"):
        with pytest.raises((workos.NotFoundError, workos.BadRequestError)):
            sdk.radar.remove_list_entry("ip_address", "block", entry=entry)


def test_a_new_device_is_a_typed_error_and_a_mailed_code_goes_on(sdk: workos.WorkOSClient, strict: Server) -> None:
    account = create_account(strict, "radar")
    assert sign_in(sdk, account.email, "192.0.2.1").user.id == account.id
    with pytest.raises(workos.WorkOSError) as raised:
        sign_in(sdk, account.email, "198.51.100.1")
    step: Any = raised.value
    assert type(step).__name__ == "RadarChallengeError" and step.code == "radar_challenge" and step.status_code == 403
    challenge = sdk.user_management.get_radar_challenge(step.response_json["radar_challenge_id"])
    assert (challenge.code, challenge.user_id, challenge.email) == (strict.take_code(account.email), account.id, account.email)
    proof = {"radar_challenge_id": challenge.id, "pending_authentication_token": step.pending_authentication_token}
    where = {"ip_address": "198.51.100.1", "user_agent": CHROME}
    answer = sdk.user_management.authenticate_with_radar_email_challenge(code=challenge.code, **proof, **where)
    assert answer.user.id == account.id
    with pytest.raises(workos.BadRequestError):
        sdk.user_management.authenticate_with_radar_email_challenge(code=challenge.code, **proof, **where)
    assert sign_in(sdk, account.email, "198.51.100.1").user.id == account.id


def test_a_second_sign_up_of_one_mailbox_needs_a_phone(sdk: workos.WorkOSClient, strict: Server) -> None:
    first = create_account(strict, "twice")
    sign_in(sdk, first.email, "192.0.2.2")
    local, domain = first.email.split("@")
    second = sdk.user_management.create_user(
        email=f"{local}+2@{domain}", email_verified=True, password=PasswordPlaintext(password=PASSWORD)
    )
    with pytest.raises(workos.WorkOSError) as raised:
        sign_in(sdk, second.email, "192.0.2.2")
    step: Any = raised.value
    assert type(step).__name__ == "RadarSignUpChallengeError" and step.status_code == 403
    number = "+4915112345678"
    waiting = {"pending_authentication_token": step.pending_authentication_token}
    sent = sdk.user_management.create_radar_challenge(user_id=second.id, phone_number=number, **waiting)
    answer = sdk.user_management.authenticate_with_radar_sms_challenge(
        code=strict.take_code(number), verification_id=sent.verification_id, phone_number=sent.phone_number, **waiting
    )
    assert answer.user.id == second.id
