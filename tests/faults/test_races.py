"""Things that work once, asked for by 64 callers at the same moment, on the engine under test."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from accounts import PASSWORD, Account, authenticate, create_account, open_api, sign_in_by_api, unique_email
from hosted_pages import CALLBACK, Browser, Page, authorize_url, sign_in
from organizations import add_member, create_organization, create_resource_types, unique
from running_server import Server, running_server

CALLERS, ROUNDS = 64, 20
AUTHENTICATE = "/user_management/authenticate"
MEMBERSHIPS = "/user_management/organization_memberships"
# Of what is made anew each time.
TIMES = 8


def race(server: Server, path: str, *bodies: dict[str, str]) -> list[tuple[int, dict[str, Any]]]:
    """Sends a request from 64 connections at the same moment: the same one, or a body of its own from each."""
    each = list(bodies) if len(bodies) > 1 else list(bodies) * CALLERS
    messages = [post(server, path, "application/json", json.dumps(body), Authorization=f"Bearer {server.api_key}") for body in each]
    return [read_json(answer) for answer in send_together(server, messages)]


def race_form(browser: Browser, server: Server, page: Page, **pressed: str) -> list[tuple[int, str]]:
    """Presses one button of a page 64 times at the same moment: each answer's status, and where it leads."""
    form = page.forms[0]
    content = urlencode({field.name: field.value for field in form.fields} | pressed)
    cookie = "; ".join(f"{name}={value}" for name, value in browser._cookies_for(page.url).items())
    message = post(server, form.action, "application/x-www-form-urlencoded", content, Cookie=cookie, Origin=server.url)
    return [read_redirect(answer) for answer in send_together(server, [message] * CALLERS)]


def post(server: Server, path: str, media_type: str, content: str, method: str = "POST", **headers: str) -> bytes:
    lines = {"Host": urlsplit(server.url).netloc, "Content-Type": media_type, "Content-Length": str(len(content.encode())), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n{content}".encode()


def send_together(server: Server, messages: list[bytes]) -> list[bytes]:
    """All but the last byte of each, then the last bytes together."""
    parts = urlsplit(server.url)
    wires = [socket.create_connection((parts.hostname or "", parts.port or 80), 30) for _ in messages]
    for wire, message in zip(wires, messages, strict=True):
        wire.sendall(message[:-1])
    for wire, message in zip(wires, messages, strict=True):
        wire.sendall(message[-1:])
    return [read_answer(wire) for wire in wires]


def read_answer(wire: socket.socket) -> bytes:
    with wire:
        wire.settimeout(60)
        return b"".join(iter(lambda: wire.recv(65536), b""))


def read_redirect(answer: bytes) -> tuple[int, str]:
    head = answer.partition(b"\r\n\r\n")[0].decode()
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n")[1:])}
    return int(head.split(" ", 2)[1]), headers.get("location", "")


def read_json(answer: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        pieces, rest = b"", body
        while rest and (size := int(rest.split(b"\r\n", 1)[0], 16)):
            rest = rest.split(b"\r\n", 1)[1]
            pieces, rest = pieces + rest[:size], rest[size + 2 :]
        body = pieces
    return int(head.split(b" ", 2)[1]), json.loads(body) if body else {}


def grant(server: Server, grant_type: str, **fields: str) -> dict[str, str]:
    return {"grant_type": grant_type, "client_id": server.client_id, "client_secret": server.api_key, **fields}


def winner(answers: list[tuple[int, dict[str, Any]]], losers: set[int]) -> dict[str, Any]:
    counted = Counter(status for status, _ in answers)
    assert counted[200] == 1 and set(counted) <= {200} | losers, counted
    return next(body for status, body in answers if status == 200)


def test_one_authorization_code_has_one_winner(server: Server, account: Account) -> None:
    browser = Browser()
    sign_in(browser, server, authorize_url(server), account.email, PASSWORD)
    for _ in range(ROUNDS):
        page = browser.open(authorize_url(server))
        assert page.url.startswith(CALLBACK)
        body = winner(race(server, AUTHENTICATE, grant(server, "authorization_code", code=page.query["code"])), {400})
        assert body["user"]["id"] == account.id


@pytest.fixture(scope="module")
def without_window() -> Iterator[Server]:
    with running_server("--refresh-replay-seconds", "0") as server:
        yield server


def test_one_refresh_token_outside_the_window_has_one_winner(without_window: Server, http: httpx.Client) -> None:
    account = create_account(without_window)
    for _ in range(ROUNDS):
        # A session each: reuse outside the window ends the session it is tried on.
        token = sign_in_by_api(without_window, http, account)["refresh_token"]
        answers = race(without_window, AUTHENTICATE, grant(without_window, "refresh_token", refresh_token=token))
        assert {body["error"] for status, body in answers if status == 400} == {"invalid_grant"}
        assert winner(answers, {400})["refresh_token"] != token


def test_one_refresh_token_inside_the_window_has_one_successor(server: Server, http: httpx.Client, account: Account) -> None:
    token = sign_in_by_api(server, http, account)["refresh_token"]
    for _ in range(ROUNDS):
        answers = race(server, AUTHENTICATE, grant(server, "refresh_token", refresh_token=token))
        assert {status for status, _ in answers} == {200}, Counter(status for status, _ in answers)
        pairs = {(body["access_token"], body["refresh_token"]) for _, body in answers}
        assert len(pairs) == 1
        token = pairs.pop()[1]
    assert authenticate(server, http, "refresh_token", refresh_token=token).status_code == 200


def test_one_magic_code_has_one_winner(server: Server, account: Account) -> None:
    with open_api(server) as api:
        for _ in range(ROUNDS):
            code = api.post("/user_management/magic_auth", json={"email": account.email}).json()["code"]
            body = grant(server, "urn:workos:oauth:grant-type:magic-auth:code", code=code, email=account.email)
            assert winner(race(server, AUTHENTICATE, body), {400})["user"]["id"] == account.id
        sessions = api.get(f"/user_management/users/{account.id}/sessions", params={"limit": 100}).json()["data"]
    assert len(sessions) == ROUNDS, "a loser left a session behind"


def test_one_reset_token_has_one_winner(server: Server, http: httpx.Client, account: Account) -> None:
    with open_api(server) as api:
        for number in range(ROUNDS):
            token = api.post("/user_management/password_reset", json={"email": account.email}).json()["password_reset_token"]
            password = f"{PASSWORD} {number}"
            answers = race(server, "/user_management/password_reset/confirm", {"token": token, "new_password": password})
            assert winner(answers, {400, 404, 429})["user"]["id"] == account.id
            assert authenticate(server, http, "password", email=account.email, password=password).status_code == 200


def test_one_address_signs_up_once(server: Server) -> None:
    for _ in range(ROUNDS):
        email = unique_email("once")
        answers = race(server, "/user_management/users", {"email": email})
        counted = Counter(status for status, _ in answers)
        assert counted[201] == 1 and set(counted) == {201, 400}, counted
        assert {body["code"] for status, body in answers if status == 400} == {"user_creation_error"}


@dataclass
class Invited:
    """An organization and an invitation to it that nobody has accepted."""

    api: httpx.Client
    organization: str
    invitation: dict[str, Any]

    @classmethod
    def to_one(cls, api: httpx.Client, email: str) -> Invited:
        organization = api.post("/organizations", json={"name": unique_email("Acme")}).raise_for_status().json()["id"]
        body = {"email": email, "organization_id": organization, "role_slug": "admin"}
        return cls(api, organization, api.post("/user_management/invitations", json=body).raise_for_status().json())

    def assert_accepted_once(self, account: Account) -> None:
        listed = self.api.get("/user_management/organization_memberships", params={"organization_id": self.organization}).json()["data"]
        assert [(row["user_id"], row["status"], row["role"]["slug"]) for row in listed] == [(account.id, "active", "admin")]
        found = self.api.get(f"/user_management/invitations/{self.invitation['id']}").json()
        assert (found["state"], found["accepted_user_id"]) == ("accepted", account.id)

    def sessions_of(self, account: Account) -> int:
        rows = self.api.get(f"/user_management/users/{account.id}/sessions", params={"limit": 100}).json()["data"]
        return sum(row["organization_id"] == self.organization for row in rows)


def test_one_invitation_is_accepted_once_over_the_api(server: Server, api: httpx.Client, account: Account) -> None:
    for _ in range(ROUNDS):
        invited = Invited.to_one(api, account.email)
        answers = race(server, f"/user_management/invitations/{invited.invitation['id']}/accept", {})
        assert winner(answers, {400})["accepted_user_id"] == account.id
        assert {body["code"] for status, body in answers if status == 400} == {"invite_not_pending"}
        invited.assert_accepted_once(account)
        assert invited.sessions_of(account) == 0


def test_one_invitation_is_accepted_by_one_of_64_code_exchanges(server: Server, api: httpx.Client, account: Account) -> None:
    browser = Browser()
    sign_in(browser, server, authorize_url(server), account.email, PASSWORD)
    # Codes that name no organization: made before the account has any.
    codes = [[browser.open(authorize_url(server)).query["code"] for _ in range(CALLERS)] for _ in range(3)]
    for some in codes:
        invited = Invited.to_one(api, account.email)
        token = invited.invitation["token"]
        answers = race(server, AUTHENTICATE, *(grant(server, "authorization_code", code=code, invitation_token=token) for code in some))
        assert winner(answers, {400})["organization_id"] == invited.organization
        assert {body["error"] for status, body in answers if status == 400} == {"invitation_invalid"}
        invited.assert_accepted_once(account)
        assert invited.sessions_of(account) == 1, "a loser left a session behind"


def test_one_invitation_is_accepted_by_one_of_64_passwords(server: Server, api: httpx.Client, account: Account) -> None:
    invited = Invited.to_one(api, account.email)
    body = grant(server, "password", email=account.email, password=PASSWORD, invitation_token=invited.invitation["token"])
    # 429 and 503: more passwords at once than are hashed at once.
    answers = race(server, AUTHENTICATE, body)
    assert winner(answers, {400, 429, 503})["organization_id"] == invited.organization
    assert {body["error"] for status, body in answers if status == 400} == {"invitation_invalid"}
    invited.assert_accepted_once(account)
    assert invited.sessions_of(account) == 1


def test_one_invitation_is_accepted_once_on_the_page(server: Server, api: httpx.Client, account: Account) -> None:
    browser = Browser()
    sign_in(browser, server, authorize_url(server), account.email, PASSWORD)
    for _ in range(5):
        invited = Invited.to_one(api, account.email)
        page = browser.open(invited.invitation["accept_invitation_url"])
        answers = race_form(browser, server, page, account="current")
        ends = Counter((status, location.split("?")[0]) for status, location in answers)
        assert ends == {(303, "/invite/accepted"): 1, (400, ""): CALLERS - 1}, ends
        invited.assert_accepted_once(account)


def test_one_invitation_in_one_sign_in_ends_in_one_code(server: Server, api: httpx.Client, http: httpx.Client, account: Account) -> None:
    browser = Browser()
    sign_in(browser, server, authorize_url(server), account.email, PASSWORD)
    for _ in range(5):
        invited = Invited.to_one(api, account.email)
        page = browser.open(authorize_url(server, invitation_token=invited.invitation["token"]))
        answers = race_form(browser, server, page, account="current")
        won = [location for status, location in answers if status == 303]
        assert len(won) == 1 and {status for status, _ in answers} == {303, 400}, Counter(answers)
        code = parse_qs(urlsplit(won[0]).query)["code"][0]
        assert authenticate(server, http, "authorization_code", code=code).json()["organization_id"] == invited.organization
        invited.assert_accepted_once(account)
        assert invited.sessions_of(account) == 1


# What tenants are made of.


def call(server: Server, method: str, path: str, **body: Any) -> bytes:
    return post(server, path, "application/json", json.dumps(body), method, Authorization=f"Bearer {server.api_key}")


def race_calls(server: Server, calls: list[bytes]) -> list[tuple[int, dict[str, Any]]]:
    """Each call from a connection of its own, at the same moment; nothing breaks."""
    answers = [read_json(answer) for answer in send_together(server, calls)]
    assert all(status < 500 for status, _ in answers), Counter((status, body.get("message")) for status, body in answers)
    return answers


def take_one(server: Server, path: str, body: dict[str, Any], status: int, code: str) -> dict[str, Any]:
    """Of 64 who make one thing one does; the others are told so in one and the same way."""
    answers = race_calls(server, [call(server, "POST", path, **body)] * CALLERS)
    counted = Counter((answer, given.get("code")) for answer, given in answers)
    assert counted == {(201, None): 1, (status, code): CALLERS - 1}, counted
    assert len({given["message"] for answer, given in answers if answer != 201}) == 1
    return next(given for answer, given in answers if answer == 201)


def listed(api: httpx.Client, path: str, **query: Any) -> list[dict[str, Any]]:
    answer = api.get(path, params={"limit": 100, **query})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


def members(api: httpx.Client, organization: str) -> list[dict[str, Any]]:
    return listed(api, MEMBERSHIPS, organization_id=organization, statuses="active,inactive,pending")


def test_one_membership_is_made_once(server: Server, api: httpx.Client, account: Account) -> None:
    for number in range(TIMES):
        organization = create_organization(server, unique("acme"))
        body = {"user_id": account.id, "organization_id": organization}
        made = take_one(server, MEMBERSHIPS, body, 409, "organization_membership_already_exists")
        assert members(api, organization) == [made]
        # Who was shut out comes back once.
        assert api.put(f"{MEMBERSHIPS}/{made['id']}/deactivate").status_code == 200
        back = take_one(server, MEMBERSHIPS, {**body, "role_slug": "admin"}, 409, "organization_membership_already_exists")
        assert (back["id"], back["status"], back["role"]["slug"]) == (made["id"], "active", "admin"), number


def test_one_slug_is_taken_once(server: Server, api: httpx.Client) -> None:
    organization = create_organization(server, unique("acme"))
    of_organization = f"/authorization/organizations/{organization}/roles"
    for _ in range(TIMES):
        for path, code, prefix in [
            ("/authorization/roles", "role_slug_conflict", "r"),
            (of_organization, "organization_role_slug_conflict", "org-r"),
            ("/authorization/permissions", "permission_slug_conflict", "p"),
            ("/feature-flags", "feature_flag_slug_conflict", "f"),
        ]:
            slug = unique(prefix)
            made = take_one(server, path, {"slug": slug, "name": "Once"}, 409, code)
            assert [row["id"] for row in listed(api, path) if row["slug"] == slug] == [made["id"]], path


def test_one_external_id_is_taken_once(server: Server, api: httpx.Client) -> None:
    folder, _ = create_resource_types(server)
    for _ in range(TIMES):
        external_id, name = unique("crm"), unique("acme")
        made = take_one(server, "/organizations", {"name": name, "external_id": external_id}, 400, "external_id_already_used")
        assert [row["id"] for row in listed(api, "/organizations", search=name)] == [made["id"]], "a loser left an organization"
        body = {"external_id": external_id, "name": "Plans", "resource_type_slug": folder, "organization_id": made["id"]}
        resource = take_one(server, "/authorization/resources", body, 409, "authorization_resource_external_id_conflict")
        found = listed(api, "/authorization/resources", organization_id=made["id"])
        assert [row["id"] for row in found] == [resource["id"]]


def test_one_domain_is_given_once(server: Server, api: httpx.Client) -> None:
    for _ in range(TIMES):
        organization, domain = create_organization(server, unique("acme")), f"{unique('acme')}.com"
        body = {"organization_id": organization, "domain": domain}
        made = take_one(server, "/organization_domains", body, 409, "domain_already_exists")
        assert api.get(f"/organizations/{organization}").json()["domains"] == [made]


def test_one_domain_is_owned_by_one_of_64_organizations(server: Server, api: httpx.Client) -> None:
    for _ in range(TIMES):
        name = unique("acme")
        domains = [{"domain": f"{name}-{number}.com", "state": "verified"} for number in range(4)]
        calls = [call(server, "POST", "/organizations", name=name, domain_data=domains[:: (-1) ** n]) for n in range(CALLERS)]
        answers = race_calls(server, calls)
        assert Counter((status, body.get("code")) for status, body in answers) == {(201, None): 1, (409, "domain_already_exists"): 63}
        left = listed(api, "/organizations", search=name)
        assert len(left) == 1 and {row["state"] for row in left[0]["domains"]} == {"verified"}, "a loser left an organization"


def ways_to_go(server: Server, account: Account, membership: str) -> list[bytes]:
    return [
        call(server, "PUT", f"{MEMBERSHIPS}/{membership}", role_slug="member"),
        call(server, "PUT", f"{MEMBERSHIPS}/{membership}/deactivate"),
        call(server, "DELETE", f"{MEMBERSHIPS}/{membership}"),
        call(server, "DELETE", f"/user_management/users/{account.id}"),
    ]


def test_two_last_admins_who_are_taken_away_at_once_leave_one(server: Server, api: httpx.Client) -> None:
    for _ in range(TIMES):
        organization = create_organization(server, unique("acme"))
        add_member(server, create_account(server, "bob"), organization)
        both = []
        for label in ("ada", "eve"):
            account = create_account(server, label)
            both.append(ways_to_go(server, account, add_member(server, account, organization, "admin")))
        answers = race_calls(server, [both[n % 2][n // 2 % 4] for n in range(CALLERS)])
        assert {status for status, _ in answers} <= {200, 404, 409}
        refused = Counter(body["code"] for status, body in answers if status == 409)
        assert set(refused) <= {"last_organization_admin", "user_deletion_not_allowed"}, refused
        admins = [row for row in members(api, organization) if row["status"] == "active" and row["role"]["slug"] == "admin"]
        assert len(admins) == 1, Counter(status for status, _ in answers)


def test_an_organization_that_goes_leaves_no_member_role_or_group(server: Server, api: httpx.Client, account: Account) -> None:
    for _ in range(TIMES):
        organization = create_organization(server, unique("acme"))
        gone = call(server, "DELETE", f"/organizations/{organization}")
        joins = [call(server, "POST", MEMBERSHIPS, user_id=account.id, organization_id=organization)]
        roles = [call(server, "POST", f"/authorization/organizations/{organization}/roles", name=f"R{n}") for n in range(8)]
        groups = [call(server, "POST", f"/organizations/{organization}/groups", name=f"G{n}") for n in range(8)]
        domains = [
            call(server, "POST", "/organization_domains", organization_id=organization, domain=f"{unique('a')}.com") for _ in range(8)
        ]
        before = joins * 20 + roles + groups
        answers = race_calls(server, [*before[::2], gone, *before[1::2], *domains])
        assert {status for status, _ in answers} <= {201, 202, 404, 409}
        assert listed(api, MEMBERSHIPS, user_id=account.id, statuses="active,inactive,pending") == []
        for path in (f"/organizations/{organization}", f"/organizations/{organization}/groups"):
            assert api.get(path).status_code == 404
        for body in (body for status, body in answers if status == 201 and body.get("object") == "organization_domain"):
            assert api.get(f"/organization_domains/{body['id']}").status_code == 404


def test_a_member_shut_out_amid_64_refreshes_is_out(server: Server, api: httpx.Client, http: httpx.Client) -> None:
    for _ in range(TIMES):
        account, organization = create_account(server), create_organization(server, unique("acme"))
        membership = add_member(server, account, organization)
        token = sign_in_by_api(server, http, account)["refresh_token"]
        refresh = call(server, "POST", AUTHENTICATE, **grant(server, "refresh_token", refresh_token=token))
        shut = call(server, "PUT", f"{MEMBERSHIPS}/{membership}/deactivate")
        answers = race_calls(server, [refresh] * 31 + [shut] + [refresh] * 32)
        assert answers[31][0] == 200
        tokens = {body["refresh_token"] for status, body in answers if "refresh_token" in body} | {token}
        for late in tokens:
            refused = authenticate(server, http, "refresh_token", refresh_token=late)
            assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
        assert listed(api, f"/user_management/users/{account.id}/sessions") == []
