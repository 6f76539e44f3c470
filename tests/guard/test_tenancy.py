"""Tokens say what holds now: what changes at the server is in the next token, and the guard answers by it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from workos.session import seal_session_from_auth_response

from accounts import Account, create_account, open_api, sign_in_by_api
from guard.expired_sessions import server_after
from guard.faces import COOKIE, Answer, ask_with_cookie, ask_with_token, read
from guard.guarded import Guarded, guarded_app
from organizations import add_member, create_organization, post
from recording import open_client
from running_server import Server

WRITE = "expenses:write"  # what /write of the guarded app demands
MEMBERS = 13  # one for each test that asks for one
SESSIONS = 3


@dataclass
class Member:
    """Somebody in an organization of their own, with sessions whose access tokens have expired: each brings one token made now."""

    account: Account
    organization: str
    membership: str
    cookies: list[str]

    def ask(self, app: Guarded, path: str) -> Answer:
        return ask_with_cookie(app, self.cookies.pop(), path)

    def is_refused(self, app: Guarded, path: str, named: str) -> Answer:
        """The session is good and what the route demands is not there."""
        answer = self.ask(app, path)
        assert answer.status == 403 and 'error="insufficient_scope"' in (answer.challenge or "") and named in str(answer.body), answer
        assert answer.cookies, "the session was renewed all the same"
        return answer


@dataclass
class Place:
    server: Server
    app: Guarded
    members: list[Member]
    api: httpx.Client

    def change(self, method: str, path: str, **body: Any) -> httpx.Response:
        answer = self.api.request(method, path, json=body or None)
        assert answer.is_success, f"{method} {path}: {answer.text}"
        return answer

    def give_role(self, member: Member, slug: str) -> None:
        self.change("PUT", f"/user_management/organization_memberships/{member.membership}", role_slug=slug)

    def new_role(self, *permissions: str) -> str:
        slug = f"role-{secrets.token_hex(4)}"
        post(self.server, "/authorization/roles", slug=slug, name=slug)
        self.change("PUT", f"/authorization/roles/{slug}/permissions", permissions=list(permissions))
        return slug

    def sign_in(self, account: Account) -> str:
        with open_client() as http:
            return seal(self.server, sign_in_by_api(self.server, http, account))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with (
        server_after(make_members, tmp_path_factory.mktemp("server")) as (server, members),
        guarded_app(server, leeway=0) as app,
        open_api(server) as api,
    ):
        yield Place(server, app, members, api)


@pytest.fixture
def member(place: Place) -> Member:
    return place.members.pop()


def make_members(server: Server) -> list[Member]:
    post(server, "/authorization/permissions", slug=WRITE, name="Write expenses")
    members = []
    with open_client() as http:
        for number in range(MEMBERS):
            account, organization = create_account(server), create_organization(server, f"Organization {number}")
            membership = add_member(server, account, organization)
            cookies = [seal(server, sign_in_by_api(server, http, account)) for _ in range(SESSIONS)]
            members.append(Member(account, organization, membership, cookies))
    return members


def seal(server: Server, answer: dict[str, Any]) -> str:
    tokens = {"access_token": answer["access_token"], "refresh_token": answer["refresh_token"]}
    return seal_session_from_auth_response(**tokens, user=answer["user"], cookie_password=server.cookie_password)


def new_cookie(answer: Answer) -> str:
    [cookie] = answer.cookies
    return cookie.split(";")[0].removeprefix(f"{COOKIE}=")


def switch(app: Guarded, cookie: str, organization: str, **headers: str) -> Answer:
    told = {"accept": "application/json", "origin": app.url, "cookie": f"{COOKIE}={cookie}", **headers}
    return read(app.http.post(f"{app.url}/auth/organization", data={"organization_id": organization}, headers=told))


class TestPermissions:
    def test_a_permission_is_in_the_token_after_it_is_given_and_not_in_the_one_after_it_is_taken(
        self, place: Place, member: Member
    ) -> None:
        role = place.new_role()
        place.give_role(member, role)
        member.is_refused(place.app, "/write", WRITE)
        place.change("POST", f"/authorization/roles/{role}/permissions", slug=WRITE)
        given = member.ask(place.app, "/write")
        assert (given.who["permissions"], given.who["roles"]) == ([WRITE], [role])
        place.change("PUT", f"/authorization/roles/{role}/permissions", permissions=[])
        member.is_refused(place.app, "/write", WRITE)
        # What was given out before is believed until it expires, and no longer.
        assert ask_with_cookie(place.app, new_cookie(given), "/write").status == 200

    def test_a_deleted_permission_is_gone_and_another_of_its_name_is_not_it(self, place: Place, member: Member) -> None:
        role = place.new_role(WRITE)
        place.give_role(member, role)
        assert member.ask(place.app, "/write").who["permissions"] == [WRITE]
        place.change("DELETE", f"/authorization/permissions/{WRITE}")
        try:
            member.is_refused(place.app, "/write", WRITE)
        finally:
            post(place.server, "/authorization/permissions", slug=WRITE, name="Write expenses")
        member.is_refused(place.app, "/write", WRITE)

    def test_a_permission_of_another_organizations_role_is_not_mine(self, place: Place, member: Member) -> None:
        """Roles of one organization may be called as those of another."""
        other = create_organization(place.server, "Other")
        elsewhere = add_member(place.server, member.account, other)
        for organization, permissions in ((member.organization, []), (other, [WRITE])):
            path = f"/authorization/organizations/{organization}/roles"
            place.change("POST", path, slug="org-writer", name="Writer")
            place.change("PUT", f"{path}/org-writer/permissions", permissions=permissions)
        for membership in (member.membership, elsewhere):
            place.change("PUT", f"/user_management/organization_memberships/{membership}", role_slug="org-writer")
        refused = member.is_refused(place.app, "/write", WRITE)
        there = switch(place.app, new_cookie(refused), other)
        assert (there.body["organization_id"], there.body["roles"], there.body["permissions"]) == (other, ["org-writer"], [WRITE])
        assert ask_with_cookie(place.app, new_cookie(there), "/write").status == 200
        place.change("DELETE", f"/authorization/organizations/{other}/roles/org-writer/permissions/{WRITE}")
        again = switch(place.app, new_cookie(there), other)
        assert again.body["permissions"] == [] and ask_with_cookie(place.app, new_cookie(again), "/write").status == 403

    def test_the_role_of_a_group_counts_for_its_members_as_long_as_they_are_in_it(self, place: Place, member: Member) -> None:
        role = place.new_role(WRITE)
        group = post(place.server, f"/organizations/{member.organization}/groups", name="Writers")["id"]
        members = f"/organizations/{member.organization}/groups/{group}/organization-memberships"
        assigned = post(place.server, f"/authorization/groups/{group}/role_assignments", role_slug=role)["id"]
        member.is_refused(place.app, "/write", WRITE)
        place.change("POST", members, organization_membership_id=member.membership)
        inside = member.ask(place.app, "/write").who
        assert role in inside["roles"] and "member" in inside["roles"] and inside["permissions"] == [WRITE]
        cookie = place.sign_in(member.account)
        place.change("DELETE", f"{members}/{member.membership}")
        out = switch(place.app, cookie, member.organization)
        assert (out.body["roles"], out.body["permissions"]) == (["member"], [])
        place.change("POST", members, organization_membership_id=member.membership)
        place.change("DELETE", f"/authorization/groups/{group}/role_assignments/{assigned}")
        assert member.ask(place.app, "/who").who["roles"] == ["member"]


def test_a_role_is_in_the_next_token(place: Place, member: Member) -> None:
    add_member(place.server, create_account(place.server), member.organization, "admin")
    member.is_refused(place.app, "/admin", "admin")
    place.give_role(member, "admin")
    made = member.ask(place.app, "/admin").who
    assert (made["roles"], made["claims"]["role"], made["organization_id"]) == (["admin"], "admin", member.organization)
    place.give_role(member, "member")
    member.is_refused(place.app, "/admin", "admin")


def test_a_bearer_token_is_refreshed_into_what_holds_now(place: Place, member: Member, http: httpx.Client) -> None:
    signed_in = sign_in_by_api(place.server, http, member.account)
    assert ask_with_token(place.app, signed_in["access_token"], "/write").status == 403
    place.give_role(member, place.new_role(WRITE))
    body = {"grant_type": "refresh_token", "client_id": place.server.client_id, "refresh_token": signed_in["refresh_token"]}
    next_one = http.post(f"{place.server.url}/user_management/authenticate", json={**body, "client_secret": place.server.api_key}).json()
    assert ask_with_token(place.app, next_one["access_token"], "/write").who["permissions"] == [WRITE]


def test_a_feature_flag_is_in_the_next_token_while_it_is_on(place: Place, member: Member) -> None:
    flag = f"beta-{secrets.token_hex(4)}"
    post(place.server, "/feature-flags", slug=flag, name=flag, enabled=True)
    place.change("POST", f"/feature-flags/{flag}/targets/{member.organization}")
    on = member.ask(place.app, "/who")
    assert flag in on.who["feature_flags"]
    place.change("PUT", f"/feature-flags/{flag}/disable")
    assert flag not in member.ask(place.app, "/who").who["feature_flags"]
    place.change("PUT", f"/feature-flags/{flag}/enable")
    assert flag in member.ask(place.app, "/who").who["feature_flags"]


ENDS: dict[str, Callable[[Place, Member], Any]] = {
    "deactivated": lambda place, member: place.change("PUT", f"/user_management/organization_memberships/{member.membership}/deactivate"),
    "membership-deleted": lambda place, member: place.change("DELETE", f"/user_management/organization_memberships/{member.membership}"),
    "organization-deleted": lambda place, member: place.change("DELETE", f"/organizations/{member.organization}"),
}


@pytest.mark.parametrize("end", ENDS)
def test_who_is_no_member_any_more_is_signed_out_with_the_next_refresh(end: str, place: Place, member: Member) -> None:
    other = create_organization(place.server, "Other")
    add_member(place.server, member.account, other)
    elsewhere = switch(place.app, member.cookies.pop(), other)
    cookie = member.cookies[0]
    ENDS[end](place, member)
    for path in ("/me", "/write", "/optional"):
        refused = ask_with_cookie(place.app, cookie, path)
        if path == "/optional":
            assert (refused.status, refused.body) == (200, None)
        else:
            assert refused.status == 401 and 'error="invalid_token"' in (refused.challenge or ""), refused
        assert any(f"{COOKIE}=;" in value and "max-age=0" in value.lower() for value in refused.cookies), refused
    # What is signed in elsewhere goes on, and does not come back here.
    cookie = new_cookie(elsewhere)
    assert ask_with_cookie(place.app, cookie, "/me").who["organization_id"] == other
    refused = switch(place.app, cookie, member.organization)
    assert (refused.status, refused.cookies) == (403, []) and 'error="insufficient_scope"' in (refused.challenge or "")
    assert ask_with_cookie(place.app, cookie, "/me").who["organization_id"] == other
    if end == "deactivated":
        place.change("PUT", f"/user_management/organization_memberships/{member.membership}/reactivate")
        assert member.ask(place.app, "/me").status == 401, "a session that was ended stays so"
        assert switch(place.app, cookie, member.organization).body["organization_id"] == member.organization


class TestSwitching:
    def test_row_18_the_old_access_token_stays_with_its_organization(self, place: Place, member: Member) -> None:
        other = create_organization(place.server, "Other")
        add_member(place.server, member.account, other)
        here = member.ask(place.app, f"/orgs/{member.organization}/report")
        assert here.status == 200
        there = switch(place.app, new_cookie(here), other)
        for cookie, own, foreign in ((new_cookie(here), member.organization, other), (new_cookie(there), other, member.organization)):
            assert ask_with_cookie(place.app, cookie, f"/orgs/{own}/report").who["organization_id"] == own
            assert ask_with_cookie(place.app, cookie, f"/orgs/{foreign}/report").status == 403
        assert ask_with_cookie(place.app, new_cookie(there), "/me").who["session_id"] == here.who["session_id"], "one session"

    def test_nobody_switches_to_an_organization_that_is_not_theirs(self, place: Place, member: Member) -> None:
        stranger = create_organization(place.server, "Strangers")
        cookie = new_cookie(member.ask(place.app, "/me"))
        for wanted in (stranger, "org_01HXYZHXYZHXYZHXYZHXYZHXYZ", "*", "x" * 2000, "org\x00", f"{member.organization} "):
            refused = switch(place.app, cookie, wanted)
            assert (refused.status, refused.cookies) == (403, []), wanted
        assert switch(place.app, cookie, "").status == 422
        assert ask_with_cookie(place.app, cookie, "/me").who["organization_id"] == member.organization

    def test_row_46_another_site_switches_nobody(self, place: Place, member: Member) -> None:
        cookie = new_cookie(member.ask(place.app, "/me"))
        for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site", "origin": "null"}):
            refused = switch(place.app, cookie, member.organization, **headers)
            assert (refused.status, refused.cookies) == (403, []), headers
        token = sign_in_by_api(place.server, place.app.http, member.account)["access_token"]
        told = {"authorization": f"Bearer {token}", "accept": "application/json"}
        answer = place.app.http.post(f"{place.app.url}/auth/organization", data={"organization_id": member.organization}, headers=told)
        assert answer.status_code == 400, "a token has no cookie to switch"
