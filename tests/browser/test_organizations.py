"""From an invitation to another organization, by clicking: an app on the official SDK, the mails, and the hosted pages."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from playwright.sync_api import Page, expect

from accounts import PASSWORD, Account, authenticate, create_account, open_sdk, unique_email
from apps import App, running_fastapi
from browser.clicking import give_password, is_at, press
from browser.looking import look
from organizations import add_member, create_flag, create_organization, create_role, read_claims, unique
from running_server import Mail, Server, open_database, start_server

OpenPage = Callable[..., Page]
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@dataclass
class Team:
    """The app, its server, and where its server keeps its rows."""

    app: App
    database: str

    @property
    def server(self) -> Server:
        return self.app.server

    def invite(self, organization: str | None, email: str, **fields: Any) -> Any:
        """As the app's back end does it; gives the invitation."""
        return open_sdk(self.server).user_management.send_invitation(email=email, organization_id=organization, **fields)

    def let_expire(self, invitation: str) -> None:
        """No invitation lives less than a day, and no test that long."""
        with psycopg.connect(self.database) if "://" in self.database else sqlite3.connect(self.database, timeout=30) as rows:
            rows.execute(f"UPDATE invitations SET expires_at = 1 WHERE id = '{invitation}'")


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    data = tmp_path_factory.mktemp("teams")
    with open_database() as database:
        server = start_server(data=data, database=database)
        try:
            here = Path(__file__).parent
            with running_fastapi(server, sys.executable, "team_app:app", here, data / "none.db") as app:
                server.set_settings(data, sign_in_endpoint=app.login, homepage_url=app.url)
                yield Team(app, database or str(next(data.glob("*.db"))))
        finally:
            assert server.stop() == 0


def find_link(mail: Mail) -> str:
    [link] = {link for link in mail.links if "invitation_token" in link}
    return link


def read_me(page: Page, team: Team) -> dict[str, Any]:
    """What the person's access token says."""
    answer = page.request.get(f"{team.app.url}/me")
    assert answer.status == 200, answer.text()
    return dict(answer.json())


def claims(page: Page, team: Team) -> tuple[Any, ...]:
    me = read_me(page, team)
    return me["organization_id"], me["role"], me["roles"], me["permissions"], me["feature_flags"]


def sign_in(page: Page, team: Team, account: Account) -> None:
    page.goto(team.app.login)
    give_password(page, account.email)


def test_from_an_invitation_to_another_organization(open_page: OpenPage, team: Team) -> None:
    server, permission = team.server, unique("rockets:launch")
    pilot = create_role(server, permission)

    # Ada makes an organization in the app and becomes its admin.
    ada = create_account(server, "ada", first_name="Ada", last_name="Lovelace")
    hers = open_page()
    sign_in(hers, team, ada)
    is_at(hers, team.app)
    assert claims(hers, team) == (None, None, None, None, None)
    hers.get_by_label("New organization").fill("Rocket Works")
    hers.get_by_role("button", name="Create").click()
    is_at(hers, team.app)
    rockets = read_me(hers, team)["organization_id"]
    assert claims(hers, team)[1:3] == ("admin", ["admin"])
    flag = create_flag(server, rockets)

    # A new person is invited, creates an account on the way, and is in.
    email = unique_email("new")
    hers.get_by_label("Invite").fill(email)
    hers.get_by_label("Role").fill(pilot)
    hers.get_by_role("button", name="Invite").click()
    is_at(hers, team.app)
    mail = server.take_mail(email)
    new = open_page()
    new.goto(find_link(mail))
    expect(new.get_by_role("heading", name="Join Rocket Works")).to_be_visible()
    expect(new.locator("main")).to_contain_text("Ada Lovelace")
    look(new, "invite-new-user")
    new.locator("button.primary").click()
    expect(new.locator("input[name=email]")).to_have_value(email)
    look(new, "invite-sign-up")
    new.locator("input[name=first_name]").fill("Grace")
    new.locator("input[name=last_name]").fill("Hopper")
    press(new, "password", PASSWORD)
    press(new, "code", server.take_code(email))
    expect(new.get_by_role("heading", name="You have joined")).to_be_visible()
    look(new, "invite-accepted")
    new.get_by_role("link", name="Continue").click()
    is_at(new, team.app)
    assert claims(new, team) == (rockets, pilot, [pilot], [permission], [flag])

    # Somebody with an account and an organization of their own is invited: signs in, and has two to choose from.
    bob = create_account(server, "bob", first_name="Bob")
    bakery = create_organization(server, "Bob's Bakery")
    add_member(server, bob, bakery, "admin")
    team.invite(rockets, bob.email, role_slug=pilot, inviter_user_id=ada.id)
    his = open_page()
    his.goto(find_link(server.take_mail(bob.email)))
    his.locator("button.primary").click()
    expect(his.locator("input[name=email]")).to_have_value(bob.email)
    look(his, "invite-sign-in")
    give_password(his, bob.email)
    expect(his.get_by_role("heading", name="You have joined")).to_be_visible()
    his.get_by_role("link", name="Continue").click()
    expect(his.get_by_role("heading", name="Choose an organization")).to_be_visible()
    look(his, "choose-organization")
    his.get_by_role("button", name="Rocket Works").click()
    is_at(his, team.app)
    before = read_me(his, team)
    assert claims(his, team) == (rockets, pilot, [pilot], [permission], [flag])

    # He goes over to his own, in the same session; the claims follow.
    his.get_by_role("button", name="Bob's Bakery").click()
    is_at(his, team.app)
    after = read_me(his, team)
    assert claims(his, team)[:3] == (bakery, "admin", ["admin"]) and after["session_id"] == before["session_id"]
    assert permission not in after["permissions"] and not after["feature_flags"]

    # One that he does not belong to is refused, and he stays where he is.
    strangers = create_organization(server, "Strangers")
    refused = his.request.post(f"{team.app.url}/switch", form={"organization_id": strangers}, max_redirects=0)
    assert refused.status == 403 and "organization_membership_not_found" in refused.text()
    assert read_me(his, team) == after

    # Nor can a sign-in ask for it: the app is told, once he has proved again who he is, since another account might belong to it.
    his.goto(f"{team.app.login}?organization_id={strangers}")
    give_password(his, bob.email)
    expect(his.locator("body")).to_contain_text("access_denied")


def test_an_app_sends_the_invitation_along(open_page: OpenPage, team: Team) -> None:
    acme, email = create_organization(team.server, "Acme"), unique_email("along")
    invitation = team.invite(acme, email)
    assert find_link(team.server.take_mail(email)) == invitation.accept_invitation_url
    page = open_page(java_script_enabled=False)
    page.goto(f"{team.app.login}?invitation_token={invitation.token}")
    page.locator("button.primary").click()
    expect(page.locator("input[name=email]")).to_have_value(email)
    page.locator("input[name=first_name]").fill("Linus")
    press(page, "password", PASSWORD)
    press(page, "code", team.server.take_code(email))
    is_at(page, team.app)
    assert claims(page, team)[:3] == (acme, "member", ["member"])


@pytest.mark.parametrize("german", [False, True], ids=["english", "german-phone"])
def test_somebody_signed_in_accepts_with_one_press(open_page: OpenPage, team: Team, german: bool) -> None:
    page, server = open_page(**(PHONE | {"locale": "de-DE"} if german else {})), team.server
    account, acme = create_account(server, "press"), create_organization(server, "Acme & Söhne")
    sign_in(page, team, account)
    is_at(page, team.app)
    invitation = team.invite(acme, account.email, locale="de" if german else "en")
    page.goto(find_link(server.take_mail(account.email)))
    expect(page.get_by_role("heading", name="Acme & Söhne beitreten" if german else "Join Acme & Söhne")).to_be_visible()
    expect(page.locator(".who")).to_contain_text(account.email)
    look(page, "invite-signed-in-german" if german else "invite-signed-in")
    page.get_by_role("button", name="Einladung annehmen" if german else "Accept the invitation").click()
    expect(page.get_by_role("heading", name="Sie sind dabei" if german else "You have joined")).to_be_visible()
    look(page, "invite-accepted-german" if german else "invite-accepted-signed-in")
    page.get_by_role("link", name="Weiter" if german else "Continue").click()
    is_at(page, team.app)
    assert claims(page, team)[0] == acme
    assert open_sdk(server).user_management.get_invitation(invitation.id).accepted_user_id == account.id


@pytest.mark.parametrize("german", [False, True], ids=["english", "german-phone"])
def test_invitations_that_are_over_say_so(open_page: OpenPage, team: Team, german: bool) -> None:
    page, server = open_page(**(PHONE | {"locale": "de-DE"} if german else {})), team.server
    acme, users = create_organization(server, "Acme"), open_sdk(server).user_management
    account = create_account(server, "over")
    used, revoked, expired, replaced = (
        team.invite(acme if address == account.email else None, address)
        for address in (account.email, unique_email("revoked"), unique_email("expired"), unique_email("replaced"))
    )
    users.accept_invitation(used.id)
    users.revoke_invitation(revoked.id)
    team.let_expire(expired.id)
    users.resend_invitation(replaced.id)
    title = "Diese Einladung gilt nicht mehr" if german else "This invitation does not work any more"
    for state, invitation in (("used", used), ("revoked", revoked), ("expired", expired), ("replaced", replaced)):
        answer = page.goto(invitation.accept_invitation_url)
        assert answer and answer.status == 400, state
        expect(page.get_by_role("heading", name=title)).to_be_visible()
        assert page.locator("form").count() == 0
        expect(page.get_by_role("link", name="Zurück zur Anmeldung" if german else "Back to sign-in")).to_be_visible()
    look(page, "invite-over-german" if german else "invite-over")
    # Nor does the app get anybody signed in by one.
    page.goto(f"{team.app.login}?invitation_token={revoked.token}")
    expect(page.get_by_role("heading", name=title)).to_be_visible()


def test_an_invitation_taken_back_while_the_person_signs_up_says_so(open_page: OpenPage, team: Team) -> None:
    page, email = open_page(), unique_email("late")
    invitation = team.invite(create_organization(team.server, "Acme"), email)
    page.goto(invitation.accept_invitation_url)
    page.locator("button.primary").click()
    page.locator("input[name=password]").fill(PASSWORD)
    open_sdk(team.server).user_management.revoke_invitation(invitation.id)
    page.locator("form:has(input[name=password]) button.primary").click()
    expect(page.get_by_role("heading", name="This invitation does not work any more")).to_be_visible()
    assert open_sdk(team.server).user_management.list_users(email=email).data == []


@pytest.mark.parametrize("german", [False, True], ids=["english", "german-phone"])
def test_an_invitation_for_somebody_else_says_so(open_page: OpenPage, team: Team, german: bool) -> None:
    page, server = open_page(**(PHONE | {"locale": "de-DE"} if german else {})), team.server
    carol, acme = create_account(server, "carol"), create_organization(server, "Acme")
    sign_in(page, team, carol)
    is_at(page, team.app)
    invited = f"{unique('dave')}@elsewhere.test"
    page.goto(team.invite(acme, invited).accept_invitation_url)
    expect(page.locator(".alert.warn")).to_contain_text(carol.email)
    expect(page.locator("main")).to_contain_text(invited)
    assert page.locator("button[value=current]").count() == 0
    look(page, "invite-other-account-german" if german else "invite-other-account")
    page.locator("button.primary").click()
    expect(page.locator("input[name=email]")).to_have_value(invited)
    # She tries with her own address nevertheless.
    page.locator("input[name=email]").fill(carol.email)
    press(page, "password", PASSWORD)
    expect(page.locator("input[name=email]")).to_have_attribute("aria-invalid", "true")
    wrong = "Verwenden Sie die Adresse, an die die Einladung ging" if german else "Use the address the invitation was sent to"
    expect(page.locator("#email-error")).to_have_text(wrong)
    look(page, "invite-not-invited-german" if german else "invite-not-invited")
    assert open_sdk(server).organization_membership.list_organization_memberships(organization_id=acme).data == []


@pytest.mark.parametrize("german", [False, True], ids=["english", "german-phone"])
def test_an_organization_is_chosen_at_sign_in(open_page: OpenPage, team: Team, german: bool) -> None:
    page, server = open_page(**(PHONE | {"locale": "de-DE"} if german else {"java_script_enabled": False})), team.server
    account = create_account(server, "several")
    names = [
        "Acme",
        "Zwölf Äpfel GmbH & Co. KG",
        "<b>Bold</b>",
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    ]
    made = {name: create_organization(server, name) for name in names}
    for organization in made.values():
        add_member(server, account, organization)
    sign_in(page, team, account)
    expect(page.get_by_role("heading", name="Organisation wählen" if german else "Choose an organization")).to_be_visible()
    expect(page.locator("button[name=organization_id]")).to_have_count(len(names))
    for name in names:
        expect(page.get_by_role("button", name=name, exact=True)).to_be_visible()
    if not german:
        page.get_by_role("button", name="<b>Bold</b>").click()
    else:
        look(page, "choose-organization-german")
        page.get_by_role("button", name="<b>Bold</b>").focus()
        page.keyboard.press("Enter")
    is_at(page, team.app)
    assert claims(page, team)[0] == made["<b>Bold</b>"]


def test_a_device_is_connected_to_one_of_several_organizations(open_page: OpenPage, team: Team, http: httpx.Client) -> None:
    page, server = open_page(), team.server
    account = create_account(server, "tv")
    acme, globex = (create_organization(server, name) for name in ("Acme", "Globex"))
    for organization in (acme, globex):
        add_member(server, account, organization)
    asked = http.post(f"{server.url}/user_management/authorize/device", json={"client_id": server.client_id}).json()
    page.goto(asked["verification_uri_complete"])
    page.locator("form:has(input[name=user_code]) button.primary").click()
    give_password(page, account.email)
    allow = page.locator("button[name=decision][value=allow]")
    allow.click()
    expect(page.locator("select[name=organization_id]")).to_have_attribute("aria-invalid", "true")
    look(page, "device-organization")
    page.locator("select[name=organization_id]").select_option(label="Globex")
    allow.click()
    expect(page.locator("button[name=decision]")).to_have_count(0)
    answer = authenticate(
        server, http, "urn:ietf:params:oauth:grant-type:device_code", device_code=asked["device_code"], client_secret=None
    )
    assert answer.status_code == 200 and answer.json()["organization_id"] == read_claims(answer)["org_id"] == globex


@pytest.mark.parametrize("language", ["en", "de"])
def test_the_mail_of_an_invitation_is_looked_at(open_page: OpenPage, team: Team, language: str) -> None:
    page, server, email = open_page(), team.server, unique_email("mail")
    inviter = create_account(server, "ada", first_name="Ada", last_name="Lovelace")
    team.invite(create_organization(server, "Rocket Works"), email, inviter_user_id=inviter.id, locale=language)
    mail = server.take_mail(email)
    assert "Rocket Works" in mail.text and "Ada Lovelace" in mail.text and find_link(mail) in mail.text
    page.goto(f"{server.url}/dev/inbox")
    page.get_by_text(email).first.click()
    expect(page.frame_locator("iframe").locator("body")).to_contain_text("Rocket Works")
    look(page, f"inbox-invitation-{language}")
    page.goto("about:blank")
    page.set_content(mail.html)
    look(page, f"mail-invitation-{language}")
