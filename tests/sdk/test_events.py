"""A day of changes through the official SDK, and the events that tell of it: names, order and payloads as the contract has them."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import workos
import yaml
from workos.organizations.models import OrganizationDomainData

from accounts import PASSWORD, authenticate, create_account, open_api, open_sdk, unique_email
from organizations import create_flag, unique
from passkeys import make_passkey
from running_server import BINARY, DATABASE, REPOSITORY, Server, open_database, start_server
from second_factors import Authenticator as AuthenticatorApp

UPSTREAM = Path(os.environ.get("GATEWRIGHT_SHARED") or REPOSITORY.parent / "shared") / "reference" / "open-api-spec.yaml"
NAMES = REPOSITORY / "crates" / "server" / "src" / "platform" / "journal" / "names.rs"
URN = "urn:workos:oauth:grant-type:"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("events")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """Its own: the whole day is compared."""
    with open_database() as database:
        server = start_server(data=folder, database=database)
        server.set_settings(folder, **{"radar.unrecognized_device": "challenge"})
        try:
            yield server
        finally:
            assert server.stop() == 0


@pytest.fixture(scope="module")
def sdk(server: Server) -> workos.WorkOSClient:
    return open_sdk(server)


def listed_names() -> tuple[list[str], set[str]]:
    """The contract's names as the server knows them, and those among them that nothing records yet."""
    text = NAMES.read_text()

    def of(constant: str) -> list[str]:
        return re.findall(r'"([^"]+)"', text.split(f"pub const {constant}:")[1].split("= ", 1)[1].split("];")[0])

    return of("LISTED"), set(of("NOT_YET"))


@pytest.fixture(scope="module")
def schemas() -> dict[str, jsonschema.Draft202012Validator]:
    """What the upstream document says of each event, by its name."""
    document = yaml.safe_load(UPSTREAM.read_text())
    kinds = document["components"]["schemas"]["EventSchema"]["allOf"][1]["oneOf"]
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    return {
        kind["properties"]["event"]["const"]: jsonschema.Draft202012Validator(
            {**kind, "components": document["components"]}, format_checker=checker
        )
        for kind in kinds
    }


def test_the_names_are_upstreams(schemas: dict[str, Any]) -> None:
    listed, _ = listed_names()
    assert listed == sorted(schemas)


def list_all(sdk: workos.WorkOSClient, names: list[str], **filters: Any) -> list[Any]:
    return list(sdk.events.list_events(events=names, limit=100, **filters).auto_paging_iter())


def pass_a_day(server: Server, sdk: workos.WorkOSClient, http: httpx.Client) -> list[str]:
    """Does something of everything; gives the names that must have come of it, in order."""
    names: list[str] = []

    def then(*expected: str) -> None:
        names.extend(expected)

    domain = f"{unique('acme')}.com"
    proved = OrganizationDomainData(domain=domain, state="verified")
    organization = sdk.organizations.create_organization(name="Acme", domain_data=[proved]).id
    then("organization.created", "organization_domain.created", "organization_domain.verified")
    sdk.organizations.update_organization(organization, name="Acme Rockets")
    then("organization.updated")

    with open_api(server) as api:

        def post(path: str, body: Any = None) -> Any:
            answer = api.post(path, json=body or {})
            assert answer.status_code < 300, f"{path}: {answer.text}"
            return answer.json() if answer.content else None

        pending = post("/organization_domains", {"organization_id": organization, "domain": f"{unique('pending')}.com"})
        then("organization_domain.created")
        assert api.delete(f"/organization_domains/{pending['id']}").is_success
        then("organization_domain.deleted")

        permission = unique("perm")
        post("/authorization/permissions", {"slug": permission, "name": "Approve"})
        api.patch(f"/authorization/permissions/{permission}", json={"name": "Approve expenses"}).raise_for_status()
        then("permission.created", "permission.updated")
        role, own_role = unique("role"), f"org-{unique('role')}"
        post("/authorization/roles", {"slug": role, "name": "Approver"})
        api.patch(f"/authorization/roles/{role}", json={"name": "Approvers"}).raise_for_status()
        then("role.created", "role.updated")
        roles = f"/authorization/organizations/{organization}/roles"
        post(roles, {"slug": own_role, "name": "Auditor"})
        api.patch(f"{roles}/{own_role}", json={"name": "Auditors"}).raise_for_status()
        api.delete(f"{roles}/{own_role}").raise_for_status()
        then("organization_role.created", "organization_role.updated", "organization_role.deleted")

        ada = create_account(server, "ada")
        then("user.created")
        sdk.user_management.update_user(ada.id, first_name="Ada")
        then("user.updated")
        body = {"user_id": ada.id, "organization_id": organization}
        membership = post("/user_management/organization_memberships", body)["id"]
        then("organization_membership.created")
        api.put(f"/user_management/organization_memberships/{membership}", json={"role_slug": "admin"}).raise_for_status()
        then("organization_membership.updated")

        group = post(f"/organizations/{organization}/groups", {"name": "Finance"})["id"]
        place = f"/organizations/{organization}/groups/{group}"
        api.patch(place, json={"name": "Finance and tax"}).raise_for_status()
        post(f"{place}/organization-memberships", {"organization_membership_id": membership})
        api.delete(f"{place}/organization-memberships/{membership}").raise_for_status()
        api.delete(place).raise_for_status()
        then("group.created", "group.updated", "group.member_added", "group.member_removed", "group.deleted")

        assert authenticate(server, http, "password", email=ada.email, password="wrong").status_code >= 400
        then("authentication.password_failed")
        assert authenticate(server, http, "password", email=ada.email, password=PASSWORD).status_code == 200
        then("authentication.password_succeeded", "session.created")
        magic = post("/user_management/magic_auth", {"email": ada.email})
        then("magic_auth.created")
        wrong = "111111" if magic["code"] != "111111" else "222222"
        for code, outcome in ((wrong, "failed"), (magic["code"], "succeeded")):
            authenticate(server, http, f"{URN}magic-auth:code", email=ada.email, code=code)
            then(f"authentication.magic_auth_{outcome}")
        then("session.created")
        sessions = api.get(f"/user_management/users/{ada.id}/sessions").json()["data"]
        post("/user_management/sessions/revoke", {"session_id": sessions[0]["id"]})
        then("session.revoked")
        reset = post("/user_management/password_reset", {"email": ada.email})
        then("password_reset.created")
        post("/user_management/password_reset/confirm", {"token": reset["password_reset_token"], "new_password": f"{PASSWORD} new"})
        then("session.revoked", "password_reset.succeeded")

        bob = unique_email("bob")
        post("/user_management/users", {"email": bob, "password": PASSWORD})
        then("user.created")
        waiting = authenticate(server, http, "password", email=bob, password=PASSWORD).json()
        then("email_verification.created")
        code = server.take_code(bob)
        for given in ("111111" if code != "111111" else "222222", code):
            authenticate(
                server,
                http,
                f"{URN}email-verification:code",
                code=given,
                pending_authentication_token=waiting["pending_authentication_token"],
            )
        then("authentication.email_verification_failed", "user.updated", "authentication.email_verification_succeeded")
        then("authentication.password_succeeded", "session.created")

        carol = create_account(server, "carol")
        then("user.created")
        passkey, _ = make_passkey(server, server.client_id, carol.email, PASSWORD)
        then("authentication.password_succeeded")
        grant = "urn:gatewright:oauth:grant-type:passkey"
        for challenge, outcome in (("another", "failed"), (None, "succeeded")):
            asked = post("/passkeys/authentication_options", {"client_id": server.client_id})["publicKey"]
            credential = passkey.sign_in({**asked, "challenge": challenge or asked["challenge"]})
            authenticate(server, http, grant, credential=json.dumps(credential))
            then(f"authentication.passkey_{outcome}")
        then("session.created")
        made = post(f"/user_management/users/{carol.id}/auth_factors", {"type": "totp"})
        factor, app = made["authentication_factor"], AuthenticatorApp(made["authentication_factor"]["totp"]["secret"])
        post(f"/auth/challenges/{made['authentication_challenge']['id']}/verify", {"code": app.code()})
        for outcome in ("failed", "succeeded"):
            waiting = authenticate(server, http, "password", email=carol.email, password=PASSWORD).json()
            authenticate(
                server,
                http,
                f"{URN}mfa-totp",
                code=app.wrong_code() if outcome == "failed" else app.code(),
                pending_authentication_token=waiting["pending_authentication_token"],
                authentication_challenge_id=post(f"/auth/factors/{factor['id']}/challenge")["id"],
            )
            then(f"authentication.mfa_{outcome}")
        then("session.created")

        dave = create_account(server, "dave")
        then("user.created")
        for address in ("192.0.2.1", "198.51.100.1"):
            authenticate(server, http, "password", email=dave.email, password=PASSWORD, ip_address=address, user_agent="Mozilla/5.0")
        then("authentication.password_succeeded", "session.created", "radar.challenge_created", "authentication.radar_risk_detected")

        invitation = post("/user_management/invitations", {"email": unique_email("guest"), "organization_id": organization})
        post(f"/user_management/invitations/{invitation['id']}/resend")
        post(f"/user_management/invitations/{invitation['id']}/revoke")
        then("invitation.created", "invitation.resent", "invitation.revoked")
        invitation = post("/user_management/invitations", {"email": bob, "organization_id": organization})
        post(f"/user_management/invitations/{invitation['id']}/accept")
        then("invitation.created", "invitation.accepted", "organization_membership.created")

        key = post(f"/organizations/{organization}/api_keys", {"name": "CI"})
        post(f"/api_keys/{key['id']}/expire", {"expires_at": "2099-01-01T00:00:00.000Z"})
        api.delete(f"/api_keys/{key['id']}").raise_for_status()
        then("api_key.created", "api_key.updated", "api_key.revoked")

        flag = create_flag(server)
        then("flag.created")
        post(f"/feature-flags/{flag}/targets/{organization}")
        post(f"/feature-flags/{flag}/targets/{ada.id}")
        api.delete(f"/feature-flags/{flag}/targets/{ada.id}").raise_for_status()
        then("flag.rule_updated", "flag.rule_updated", "flag.rule_updated")
        api.put(f"/feature-flags/{flag}/disable").raise_for_status()
        api.delete(f"/feature-flags/{flag}").raise_for_status()
        then("flag.updated", "flag.deleted")

        # Somebody has to stay an admin.
        query = {"organization_id": organization}
        members = api.get("/user_management/organization_memberships", params=query).json()["data"]
        other = next(member["id"] for member in members if member["id"] != membership)
        api.put(f"/user_management/organization_memberships/{other}", json={"role_slug": "admin"}).raise_for_status()
        api.delete(f"/user_management/organization_memberships/{membership}").raise_for_status()
        then("organization_membership.updated", "organization_membership.deleted")
        api.delete(f"/authorization/permissions/{permission}").raise_for_status()
        then("permission.deleted")
        api.delete(f"/user_management/users/{ada.id}").raise_for_status()
        then("user.deleted")
        api.delete(f"/organizations/{organization}").raise_for_status()
        then("organization.deleted")
    return names


@pytest.fixture(scope="module")
def day(server: Server, sdk: workos.WorkOSClient, http: httpx.Client) -> tuple[list[str], list[Any], list[dict[str, Any]]]:
    """What was expected, what the SDK reads, and what went over the wire."""
    listed, _ = listed_names()
    before = list_all(sdk, listed)[-1].id
    expected = pass_a_day(server, sdk, http)
    events = list_all(sdk, listed, after=before)
    raw: list[dict[str, Any]] = []
    with open_api(server) as api:
        after = before
        while True:
            page = api.get("/events", params={"after": after, "limit": 100}).json()
            raw += page["data"]
            if not (following := page["list_metadata"]["after"]):
                return expected, events, raw
            after = following


def test_a_day_of_changes_is_told_by_its_names_in_order(day: tuple[list[str], list[Any], list[dict[str, Any]]]) -> None:
    expected, events, raw = day
    told = [event["event"] for event in raw]
    assert [event.event for event in events] == told and [event.id for event in events] == [event["id"] for event in raw]
    # What one change brings along (a second membership ended, say) may stand between; nothing that was done may be missing or out of order.
    rest = iter(told)
    missing = [name for name in expected if name not in rest]
    assert not missing, f"not told, or out of order: {missing}\n{told}"


def test_every_payload_is_as_upstream_describes_it(
    day: tuple[list[str], list[Any], list[dict[str, Any]]], schemas: dict[str, jsonschema.Draft202012Validator]
) -> None:
    wrong = {}
    for event in day[2]:
        if errors := [f"{error.json_path}: {error.message[:200]}" for error in schemas[event["event"]].iter_errors(event)]:
            wrong[event["event"]] = errors
    assert not wrong, wrong


def test_the_day_shows_every_name_that_exists(day: tuple[list[str], list[Any], list[dict[str, Any]]]) -> None:
    """So that no payload is left unchecked. What cannot be brought about over HTTP in a moment is named here."""
    listed, not_yet = listed_names()
    elsewhere = {"organization_domain.verification_failed", "organization_domain.updated", "role.deleted"}
    assert set(listed) - not_yet - elsewhere - {event["event"] for event in day[2]} == set()


def test_context_says_who_did_it(server: Server, day: tuple[list[str], list[Any], list[dict[str, Any]]]) -> None:
    by_name = {event["event"]: event for event in day[2]}
    actor = by_name["organization.created"]["context"]["actor"]
    assert (actor["source"], actor["name"]) == ("api", None) and actor["id"]
    updated = by_name["flag.updated"]["context"]
    assert updated["client_id"] == server.client_id and updated["previous_attributes"] == {"data": {"enabled": True}}
    rule = by_name["flag.rule_updated"]["context"]
    assert rule["access_type"] == "some" and [target["name"] for target in rule["configured_targets"]["organizations"]] == ["Acme Rockets"]
    assert len(rule["previous_attributes"]["context"]["configured_targets"]["users"]) == 1
    assert by_name["api_key.updated"]["data"]["previous_attributes"] == {"expires_at": None}


def test_no_secret_is_in_any_event(server: Server, day: tuple[list[str], list[Any], list[dict[str, Any]]]) -> None:
    """Row 72, for events: neither what was typed nor what was mailed."""
    text = repr(day[2])
    secrets = [PASSWORD, server.api_key, server.cookie_password]
    secrets += [code for mail in server.list_mails() if (code := mail.code)]
    secrets += [link.split("token=")[1] for mail in server.list_mails() for link in mail.links if "token=" in link]
    assert not re.search(r"sk_[a-z]+_[\w-]{20,}", text), "a whole API key"
    assert not [secret for secret in secrets if re.search(rf"(?<![\w.]){re.escape(secret)}", text)]


def audit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(BINARY), "audit", *arguments, "--data", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_audit_verifies_beside_the_running_server_and_names_what_was_changed(
    server: Server, folder: Path, day: tuple[list[str], list[Any], list[dict[str, Any]]]
) -> None:
    sound = audit(folder, "verify")
    assert (sound.returncode, sound.stderr) == (0, ""), sound.stdout + sound.stderr
    assert len(sound.stdout.splitlines()) == 2 and sound.stdout.count("all as the server wrote them") == 2
    lines = audit(folder, "list", "--limit", "1000").stdout.splitlines()
    assert len(lines) >= len(day[2]) and any("environment.created" in line for line in lines)
    if DATABASE != "sqlite":
        return
    victim = next(event["id"] for event in day[2][len(day[2]) // 2 :] if "object" in event["data"])
    [file] = folder.rglob("*.db")
    with sqlite3.connect(file, timeout=30) as connection:
        [[data]] = connection.execute("SELECT data FROM events WHERE id = ?", [victim]).fetchall()
        connection.execute("UPDATE events SET data = replace(data, '\"object\"', '\"Object\"') WHERE id = ?", [victim])
    try:
        changed = audit(folder, "verify")
        assert changed.returncode == 1 and f"changed: {victim} " in changed.stdout, changed.stdout + changed.stderr
        assert all("\x1b" not in line for line in changed.stdout.splitlines())
    finally:
        with sqlite3.connect(file, timeout=30) as connection:
            connection.execute("UPDATE events SET data = ? WHERE id = ?", [data, victim])
    assert audit(folder, "verify").returncode == 0
