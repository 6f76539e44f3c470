"""Every call of the Python SDK about organizations and what belongs to them: members, invitations, roles, checks, groups, keys, flags."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import workos
from workos._errors import OrganizationSelectionRequiredError
from workos.authorization import (
    ParentById,
    ParentResourceByExternalId,
    ParentResourceById,
    ResourceTargetByExternalId,
    ResourceTargetById,
)
from workos.authorization.models import ReplaceGroupRoleAssignmentEntry
from workos.organization_membership import RoleMultiple, RoleSingle
from workos.organizations.models import OrganizationDomainData

from accounts import PASSWORD, Account, create_account, open_sdk, unique_email
from organizations import create_flag, create_resource_types, create_role, read_claims, unique
from running_server import Server
from sdk.offered import Noted, list_offered, list_operations

ULID = "[0-9A-HJKMNP-TV-Z]{26}"


@pytest.fixture(scope="module")
def sdk(server: Server) -> Any:
    return Noted(open_sdk(server))


@pytest.fixture
def organization(sdk: Any) -> str:
    return str(sdk.organizations.create_organization(name=unique("Acme")).id)


@pytest.fixture
def membership(sdk: Any, account: Account, organization: str) -> str:
    made = sdk.organization_membership.create_organization_membership(user_id=account.id, organization_id=organization)
    return str(made.id)


def refusal(kind: type[workos.WorkOSError], call: Any, *args: Any, **kwargs: Any) -> Any:
    """The error the call ends with, which is of this class and no other."""
    with pytest.raises(workos.WorkOSError) as raised:
        call(*args, **kwargs)
    assert type(raised.value) is kind, f"{raised.value!r} is no {kind.__name__}"
    return raised.value


def ids(page: Any) -> list[str]:
    return [row.id for row in page.auto_paging_iter()]


def test_organizations(sdk: Any) -> None:
    calls, external_id, domain = sdk.organizations, unique("tenant"), f"{unique('acme')}.com"
    proved = OrganizationDomainData(domain=domain, state="verified")
    made = calls.create_organization(name="Acme Rockets", external_id=external_id, metadata={"tier": "gold"}, domain_data=[proved])
    assert re.fullmatch(f"org_{ULID}", made.id) and (made.name, made.external_id, made.metadata) == (
        "Acme Rockets",
        external_id,
        {"tier": "gold"},
    )
    assert [(d.domain, str(getattr(d.state, "value", d.state))) for d in made.domains] == [(domain, "verified")]
    assert calls.get_organization(made.id).id == calls.get_organization_by_external_id(external_id).id == made.id
    assert ids(calls.list_organizations(domains=[domain])) == [made.id]
    assert made.id in ids(calls.list_organizations(search="rocket", limit=1))

    changed = calls.update_organization(made.id, name="Acme", metadata={"seats": "9"}, external_id=None, stripe_customer_id="cus_1")
    assert (changed.name, changed.metadata, changed.external_id) == ("Acme", {"tier": "gold", "seats": "9"}, None)
    assert changed.stripe_customer_id == "cus_1"

    calls.delete_organization(made.id)
    gone = refusal(workos.NotFoundError, calls.get_organization, made.id)
    assert gone.message == f"Organization not found: '{made.id}'." and gone.code == "entity_not_found" and gone.request_id


def test_auto_paging_visits_every_organization_once(sdk: Any) -> None:
    mine = {sdk.organizations.create_organization(name="One of many").id for _ in range(7)}
    listed = ids(sdk.organizations.list_organizations(limit=3))
    assert len(listed) == len(set(listed)) and mine <= set(listed) and listed == sorted(listed, reverse=True)


def test_refusals_of_organizations_are_typed(sdk: Any, organization: str) -> None:
    calls, external_id = sdk.organizations, unique("tenant")
    assert refusal(workos.UnprocessableEntityError, calls.create_organization, name="").code
    calls.create_organization(name="Acme", external_id=external_id)
    taken = refusal(workos.BadRequestError, calls.create_organization, name="Acme", external_id=external_id)
    assert taken.code == "external_id_already_used"
    refusal(workos.NotFoundError, calls.update_organization, "org_01HXYZHXYZHXYZHXYZHXYZHXYZ", name="x")
    stranger = workos.WorkOSClient(base_url=sdk.client.base_url, api_key="sk_wrong", client_id="client_x", max_retries=0)
    refusal(workos.AuthenticationError, stranger.organizations.get_organization, organization)


def test_organization_domains(sdk: Any, organization: str) -> None:
    calls, domain = sdk.organization_domains, f"{unique('acme')}.test-domain.com"
    made = calls.create_organization_domain(domain=domain, organization_id=organization)
    assert re.fullmatch(f"org_domain_{ULID}", made.id) and made.domain == domain and made.verification_token and made.verification_prefix
    assert str(getattr(made.state, "value", made.state)) == "pending"
    assert calls.get_organization_domain(made.id).verification_token == made.verification_token
    # Nobody has put the record into DNS.
    assert str(getattr(calls.verify_organization_domain(made.id).state, "value", "")) == "pending"
    refusal(workos.ConflictError, calls.create_organization_domain, domain=domain.upper(), organization_id=organization)
    refusal(workos.UnprocessableEntityError, calls.create_organization_domain, domain="co.uk", organization_id=organization)
    calls.delete_organization_domain(made.id)
    refusal(workos.NotFoundError, calls.get_organization_domain, made.id)


def test_memberships(sdk: Any, server: Server, organization: str) -> None:
    calls, first, second = sdk.organization_membership, create_account(server), create_account(server)
    made = calls.create_organization_membership(user_id=first.id, organization_id=organization, role=RoleSingle(role_slug="admin"))
    assert re.fullmatch(f"om_{ULID}", made.id) and made.role.slug == "admin" and made.organization_id == organization
    other = calls.create_organization_membership(user_id=second.id, organization_id=organization)
    assert other.role.slug == "member", "the default role"
    assert calls.get_organization_membership(made.id).user_id == first.id
    assert ids(calls.list_organization_memberships(organization_id=organization, limit=1)) == [other.id, made.id]
    assert ids(calls.list_organization_memberships(user_id=second.id, organization_id=organization)) == [other.id]

    refusal(workos.ConflictError, calls.create_organization_membership, user_id=first.id, organization_id=organization)
    last = refusal(workos.ConflictError, calls.update_organization_membership, made.id, role=RoleSingle(role_slug="member"))
    assert last.code == "last_organization_admin"
    assert refusal(workos.ConflictError, calls.deactivate_organization_membership, made.id).code == "last_organization_admin"
    both = calls.update_organization_membership(other.id, role=RoleMultiple(role_slugs=["member", "admin"]))
    assert [role.slug for role in both.roles] == ["admin", "member"] and both.role.slug == "admin", "by priority"
    unknown = RoleSingle(role_slug=unique("none"))
    assert refusal(workos.UnprocessableEntityError, calls.update_organization_membership, other.id, role=unknown).code == "invalid_role"

    assert str(calls.deactivate_organization_membership(made.id).status.value) == "inactive"
    assert ids(calls.list_organization_memberships(organization_id=organization, statuses=["inactive"])) == [made.id]
    assert str(calls.reactivate_organization_membership(made.id).status.value) == "active"
    calls.delete_organization_membership(made.id)
    refusal(workos.NotFoundError, calls.get_organization_membership, made.id)


def test_a_deactivated_member_is_refused_at_the_next_refresh(sdk: Any, account: Account, membership: str, organization: str) -> None:
    users, calls = sdk.user_management, sdk.organization_membership
    signed_in = users.authenticate_with_password(email=account.email, password=PASSWORD)
    assert signed_in.organization_id == organization, "the only organization is chosen without asking"
    calls.deactivate_organization_membership(membership)
    ended = refusal(workos.BadRequestError, users.authenticate_with_refresh_token, refresh_token=signed_in.refresh_token)
    assert ended.error == "invalid_grant"
    without = users.authenticate_with_password(email=account.email, password=PASSWORD)
    assert without.organization_id is None and "org_id" not in read_claims(without.access_token)
    calls.reactivate_organization_membership(membership)
    assert users.authenticate_with_password(email=account.email, password=PASSWORD).organization_id == organization


def test_several_organizations_are_chosen_from_and_switched_between(sdk: Any, server: Server, account: Account) -> None:
    users, memberships = sdk.user_management, sdk.organization_membership
    permission = unique("expenses:approve")
    approver = create_role(server, permission)
    acme, globex, initech = (sdk.organizations.create_organization(name=name).id for name in ("Acme", "Globex", "Initech"))
    beta = create_flag(server, acme)
    memberships.create_organization_membership(user_id=account.id, organization_id=acme, role=RoleSingle(role_slug=approver))
    memberships.create_organization_membership(user_id=account.id, organization_id=globex)

    step = refusal(OrganizationSelectionRequiredError, users.authenticate_with_password, email=account.email, password=PASSWORD)
    assert step.status_code == 403 and step.code == "organization_selection_required"
    assert {o["id"]: o["name"] for o in step.organizations} == {acme: "Acme", globex: "Globex"} and step.user["id"] == account.id
    pending = {"pending_authentication_token": step.pending_authentication_token}
    refusal(workos.BadRequestError, users.authenticate_with_organization_selection, organization_id=initech, **pending)
    chosen = users.authenticate_with_organization_selection(organization_id=acme, **pending)
    claims = read_claims(chosen.access_token)
    assert chosen.organization_id == claims["org_id"] == acme
    assert (claims["role"], claims["roles"], claims["permissions"]) == (approver, [approver], [permission])
    assert beta in claims["feature_flags"]
    refusal(workos.BadRequestError, users.authenticate_with_organization_selection, organization_id=globex, **pending)

    switched = users.authenticate_with_refresh_token(refresh_token=chosen.refresh_token, organization_id=globex)
    now = read_claims(switched.access_token)
    assert switched.organization_id == now["org_id"] == globex and now["sid"] == claims["sid"]
    assert (now["role"], now["roles"], now["permissions"]) == ("member", ["member"], []) and beta not in now.get("feature_flags", [])
    refused = refusal(
        workos.BadRequestError, users.authenticate_with_refresh_token, refresh_token=switched.refresh_token, organization_id=initech
    )
    assert refused.error == "organization_membership_not_found"
    stayed = users.authenticate_with_refresh_token(refresh_token=switched.refresh_token)
    assert stayed.organization_id == globex, "a refused switch ends nothing"


def test_invitations(sdk: Any, server: Server, organization: str) -> None:
    calls, inviter, email = sdk.user_management, create_account(server), unique_email("invited")
    made = calls.send_invitation(
        email=email, organization_id=organization, role_slug="admin", expires_in_days=3, inviter_user_id=inviter.id, locale="de"
    )
    assert re.fullmatch(f"invitation_{ULID}", made.id) and (made.email, made.organization_id, made.role_slug) == (
        email,
        organization,
        "admin",
    )
    assert abs(made.expires_at - datetime.now(timezone.utc) - timedelta(days=3)) < timedelta(minutes=1)
    mail = server.take_mail(email)
    assert mail.subject.startswith("Sie sind") and made.accept_invitation_url in mail.links and made.token in made.accept_invitation_url
    assert calls.get_invitation(made.id).id == calls.find_invitation_by_token(made.token).id == made.id
    assert ids(calls.list_invitations(email=email)) == ids(calls.list_invitations(organization_id=organization)) == [made.id]

    again = calls.resend_invitation(made.id)
    assert again.id == made.id and again.token != made.token
    assert again.accept_invitation_url in server.take_mail(email).links
    refusal(workos.NotFoundError, calls.find_invitation_by_token, made.token)

    nobody = refusal(workos.BadRequestError, calls.accept_invitation, made.id)
    assert nobody.code == "invalid_invite", "nobody has the address yet"
    user = calls.create_user(email=email, email_verified=True)
    assert str(calls.accept_invitation(made.id).state.value) == "accepted"
    [joined] = sdk.organization_membership.list_organization_memberships(user_id=user.id).data
    assert (joined.organization_id, joined.role.slug) == (organization, "admin")
    assert refusal(workos.BadRequestError, calls.accept_invitation, made.id).code == "invite_not_pending"

    taken_back = calls.send_invitation(email=unique_email("other"))
    assert str(calls.revoke_invitation(taken_back.id).state.value) == "revoked"
    for call in (calls.revoke_invitation, calls.resend_invitation, calls.accept_invitation):
        refusal(workos.BadRequestError, call, taken_back.id)
    assert refusal(workos.BadRequestError, calls.send_invitation, email=email, expires_in_days=31).code == "expires_in_days_too_long"
    refusal(workos.UnprocessableEntityError, calls.send_invitation, email="no address")
    refusal(workos.NotFoundError, calls.send_invitation, email=unique_email(), organization_id="org_01HXYZHXYZHXYZHXYZHXYZHXYZ")


def test_an_invitation_is_accepted_by_signing_in(sdk: Any, server: Server, organization: str) -> None:
    users = sdk.user_management
    by_password, by_code = create_account(server, "invited"), create_account(server, "invited")
    tokens = [users.send_invitation(email=a.email, organization_id=organization).token for a in (by_password, by_code)]
    stranger = create_account(server, "stranger")
    elsewhere = users.send_invitation(email=f"{unique('boss')}@elsewhere.test", organization_id=organization).token
    signing_in = {"email": stranger.email, "password": PASSWORD}
    wrong = refusal(workos.BadRequestError, users.authenticate_with_password, invitation_token=elsewhere, **signing_in)
    assert wrong.error == "invitation_cannot_be_used_for_email"
    unknown = refusal(workos.BadRequestError, users.authenticate_with_password, invitation_token="none", **signing_in)
    assert unknown.error == "invitation_invalid"

    answer = users.authenticate_with_password(email=by_password.email, password=PASSWORD, invitation_token=tokens[0])
    assert answer.organization_id == organization
    magic = users.create_magic_auth(email=by_code.email, invitation_token=tokens[1])
    answer = users.authenticate_with_magic_auth(code=magic.code, email=by_code.email, invitation_token=tokens[1])
    assert answer.organization_id == organization
    again = refusal(
        workos.BadRequestError, users.authenticate_with_password, email=by_password.email, password=PASSWORD, invitation_token=tokens[0]
    )
    assert again.error == "invitation_invalid", "each works once"
    members = sdk.organization_membership.list_organization_memberships(organization_id=organization).data
    assert sorted(m.user_id for m in members) == sorted([by_password.id, by_code.id])


def test_permissions(sdk: Any) -> None:
    calls, slug = sdk.authorization, unique("reports:read")
    made = calls.create_permission(slug=slug, name="Read reports", description="All of them")
    assert (made.slug, made.name, made.description, made.system) == (slug, "Read reports", "All of them", False)
    assert calls.update_permission(slug, name="Read the reports", description=None).description is None
    assert calls.get_permission(slug).name == "Read the reports"
    assert made.id in ids(calls.list_permissions(limit=2))
    refusal(workos.ConflictError, calls.create_permission, slug=slug, name="x")
    calls.delete_permission(slug)
    refusal(workos.NotFoundError, calls.get_permission, slug)


def test_roles_of_the_environment(sdk: Any) -> None:
    calls, slug, read, write = sdk.authorization, unique("auditor"), unique("books:read"), unique("books:write")
    for permission in (read, write):
        calls.create_permission(slug=permission, name=permission)
    made = calls.create_environment_role(slug=slug, name="Auditor")
    assert (made.slug, str(made.type.value), made.permissions) == (slug, "EnvironmentRole", [])
    assert calls.add_environment_role_permission(slug, body_slug=read).permissions == [read]
    assert sorted(calls.set_environment_role_permissions(slug, permissions=[write, read]).permissions) == sorted([read, write])
    assert calls.update_environment_role(slug, name="Auditors", description="They look").description == "They look"
    assert calls.get_environment_role(slug).name == "Auditors"
    assert {"admin", "member", slug} <= {role.slug for role in calls.list_environment_roles().data}
    refusal(workos.ConflictError, calls.create_environment_role, slug=slug, name="x")
    refusal(workos.NotFoundError, calls.add_environment_role_permission, slug, body_slug=unique("none"))


def test_roles_of_an_organization(sdk: Any, organization: str) -> None:
    calls, slug, read, write = sdk.authorization, unique("org-auditor"), unique("pages:read"), unique("pages:write")
    for permission in (read, write):
        calls.create_permission(slug=permission, name=permission)
    made = calls.create_organization_role(organization, slug=slug, name="Auditor")
    assert (made.slug, str(made.type.value)) == (slug, "OrganizationRole")
    assert calls.add_organization_role_permission(organization, slug, body_slug=read).permissions == [read]
    assert sorted(calls.set_organization_role_permissions(organization, slug, permissions=[read, write]).permissions) == sorted(
        [read, write]
    )
    calls.remove_organization_role_permission(organization, slug, write)
    assert calls.get_organization_role(organization, slug).permissions == [read]
    assert calls.update_organization_role(organization, slug, name="Auditors").name == "Auditors"
    assert slug in {role.slug for role in calls.list_organization_roles(organization).data}
    stranger = sdk.organizations.create_organization(name="Globex").id
    refusal(workos.NotFoundError, calls.get_organization_role, stranger, slug)
    calls.delete_organization_role(organization, slug)
    refusal(workos.NotFoundError, calls.get_organization_role, organization, slug)


@pytest.fixture(scope="module")
def types(server: Server) -> tuple[str, str]:
    return create_resource_types(server)


@pytest.fixture
def tree(sdk: Any, organization: str, types: tuple[str, str]) -> Iterator[tuple[Any, Any]]:
    """A folder and a document in it."""
    calls, (folder, document) = sdk.authorization, types
    above = calls.create_resource(external_id="f1", name="Contracts", resource_type_slug=folder, organization_id=organization)
    below = calls.create_resource(
        external_id="d1",
        name="Lease",
        description="Of the office",
        resource_type_slug=document,
        organization_id=organization,
        parent_resource=ParentResourceByExternalId(parent_resource_type_slug=folder, parent_resource_external_id="f1"),
    )
    yield above, below


def test_resources(sdk: Any, organization: str, types: tuple[str, str], tree: tuple[Any, Any]) -> None:
    calls, (folder, document), (above, below) = sdk.authorization, types, tree
    assert re.fullmatch(f"authz_resource_{ULID}", below.id) and below.parent_resource_id == above.id
    assert calls.get_resource(below.id).id == calls.get_resource_by_external_id(organization, document, "d1").id == below.id
    assert ids(calls.list_resources(organization_id=organization, resource_type_slug=document)) == [below.id]
    assert ids(calls.list_resources(parent=ParentById(parent_resource_id=above.id))) == [below.id]

    second = calls.create_resource(external_id="f2", name="Old", resource_type_slug=folder, organization_id=organization)
    moved = calls.update_resource(below.id, name="The lease", parent_resource=ParentResourceById(parent_resource_id=second.id))
    assert (moved.name, moved.parent_resource_id, moved.description) == ("The lease", second.id, "Of the office")
    assert calls.update_resource_by_external_id(organization, document, "d1", description=None).description is None
    refusal(
        workos.ConflictError, calls.create_resource, external_id="f1", name="x", resource_type_slug=folder, organization_id=organization
    )
    assert refusal(workos.ConflictError, calls.delete_resource, second.id).code == "resource_has_dependents"
    calls.delete_resource(second.id, cascade_delete=True)
    refusal(workos.NotFoundError, calls.get_resource, below.id)
    calls.delete_resource_by_external_id(organization, folder, "f1")
    refusal(workos.NotFoundError, calls.get_resource, above.id)


@pytest.fixture(scope="module")
def keeper(sdk: Any, types: tuple[str, str]) -> tuple[str, str]:
    """A role on folders and the permission on documents that it holds."""
    calls, (folder, document), role, permission = sdk.authorization, types, unique("keeper"), unique("document:edit")
    calls.create_permission(slug=permission, name=permission, resource_type_slug=document)
    calls.create_environment_role(slug=role, name=role, resource_type_slug=folder)
    calls.set_environment_role_permissions(role, permissions=[permission])
    return role, permission


def test_checks_and_listings(
    sdk: Any, organization: str, membership: str, types: tuple[str, str], tree: tuple[Any, Any], keeper: tuple[str, str]
) -> None:
    calls, (folder, document), (above, below), (role, permission) = sdk.authorization, types, tree, keeper
    by_id, by_name = ResourceTargetById(below.id), ResourceTargetByExternalId("d1", document)

    def may(target: Any) -> bool:
        return bool(calls.check(membership, permission_slug=permission, resource_target=target).authorized)

    assert not may(by_id) and not may(by_name)
    assigned = calls.assign_role(membership, role_slug=role, resource_target=ResourceTargetById(above.id))
    assert re.fullmatch(f"role_assignment_{ULID}", assigned.id) and assigned.role.slug == role and assigned.resource.id == above.id
    assert may(by_id) and may(by_name), "a role on the folder counts for what is in it"

    assert [p.slug for p in calls.list_effective_permissions(membership, below.id).data] == [permission]
    assert [p.slug for p in calls.list_effective_permissions_by_external_id(membership, document, "d1").data] == [permission]
    inside = ParentResourceById(parent_resource_id=above.id)
    assert ids(calls.list_resources_for_membership(membership, permission_slug=permission, parent_resource=inside)) == [below.id]
    assert ids(calls.list_memberships_for_resource(below.id, permission_slug=permission)) == [membership]
    assert ids(calls.list_memberships_for_resource(below.id, permission_slug=permission, assignment="direct")) == []
    named = (organization, document, "d1")
    assert ids(calls.list_memberships_for_resource_by_external_id(*named, permission_slug=permission)) == [membership]
    assert assigned.id in ids(calls.list_role_assignments(membership))
    assert ids(calls.list_role_assignments_for_resource(above.id)) == [assigned.id]
    assert ids(calls.list_role_assignments_for_resource_by_external_id(organization, folder, "f1")) == [assigned.id]

    calls.remove_role_assignment(membership, assigned.id)
    assert not may(by_id)
    calls.assign_role(membership, role_slug=role, resource_target=ResourceTargetByExternalId("f1", folder))
    assert may(by_id)
    calls.remove_role(membership, role_slug=role, resource_target=ResourceTargetById(above.id))
    assert not may(by_id)
    refusal(workos.NotFoundError, calls.check, membership, permission_slug=unique("none"), resource_target=by_id)
    refusal(workos.NotFoundError, calls.remove_role_assignment, membership, assigned.id)


def test_groups_and_their_role_assignments(
    sdk: Any, organization: str, membership: str, types: tuple[str, str], tree: tuple[Any, Any], keeper: tuple[str, str]
) -> None:
    calls, authorization, (folder, _), (above, below), (role, permission) = sdk.groups, sdk.authorization, types, tree, keeper
    group = calls.create_organization_group(organization, name="Keepers", description="They keep")
    assert re.fullmatch(f"group_{ULID}", group.id) and (group.name, group.organization_id) == ("Keepers", organization)
    assert calls.update_organization_group(organization, group.id, name="All keepers").name == "All keepers"
    assert calls.get_organization_group(organization, group.id).description == "They keep"
    assert ids(calls.list_organization_groups(organization)) == [group.id]
    calls.create_group_organization_membership(organization, group.id, organization_membership_id=membership)
    assert ids(calls.list_group_organization_memberships(organization, group.id)) == [membership]
    assert ids(sdk.organization_membership.list_organization_membership_groups(membership)) == [group.id]

    def may() -> bool:
        target = ResourceTargetById(below.id)
        return bool(authorization.check(membership, permission_slug=permission, resource_target=target).authorized)

    assert not may()
    assigned = authorization.create_group_role_assignment(group.id, role_slug=role, resource_id=above.id)
    assert assigned.group_id == group.id and may()
    assert authorization.get_group_role_assignment(group.id, assigned.id).role.slug == role
    assert ids(authorization.list_group_role_assignments(group.id)) == [assigned.id]
    authorization.delete_group_role_assignment(group.id, assigned.id)
    assert not may()
    entry = ReplaceGroupRoleAssignmentEntry(role_slug=role, resource_external_id="f1", resource_type_slug=folder)
    assert [a.resource.id for a in authorization.update_group_role_assignments(group.id, role_assignments=[entry]).data] == [above.id]
    assert may()
    authorization.delete_group_role_assignments(group.id, role_slug=role, resource_id=above.id)
    assert not may() and ids(authorization.list_group_role_assignments(group.id)) == []

    calls.delete_group_organization_membership(organization, group.id, membership)
    assert ids(calls.list_group_organization_memberships(organization, group.id)) == []
    stranger = sdk.organizations.create_organization(name="Globex").id
    refusal(workos.NotFoundError, calls.get_organization_group, stranger, group.id)
    calls.delete_organization_group(organization, group.id)
    refusal(workos.NotFoundError, calls.get_organization_group, organization, group.id)


def test_api_keys_of_an_organization(sdk: Any, organization: str) -> None:
    calls, permission = sdk.api_keys, unique("keys:use")
    sdk.authorization.create_permission(slug=permission, name=permission)
    made = calls.create_organization_api_key(organization, name="Nightly job", permissions=[permission])
    assert re.fullmatch(f"api_key_{ULID}", made.id) and made.value.startswith("sk_") and made.value not in made.obfuscated_value
    found = calls.create_validation(value=made.value).api_key
    assert (found.id, found.name, found.permissions, found.owner.id) == (made.id, "Nightly job", [permission], organization)
    wrong = made.value[:-1] + ("a" if made.value[-1] != "a" else "b")
    assert calls.create_validation(value=wrong).api_key is None

    second = calls.create_organization_api_key(organization, name="Its successor")
    assert ids(calls.list_organization_api_keys(organization)) == [second.id, made.id]
    assert calls.create_validation(value=second.value).api_key.id == second.id, "two live keys, so that one can replace the other"
    ended = calls.create_api_key_expire(made.id)
    assert ended.expires_at is not None and calls.create_validation(value=made.value).api_key is None
    assert refusal(workos.ConflictError, calls.create_api_key_expire, made.id).code == "api_key_already_expired"
    calls.delete_api_key(second.id)
    assert calls.create_validation(value=second.value).api_key is None
    refusal(workos.NotFoundError, calls.delete_api_key, second.id)
    refusal(workos.NotFoundError, calls.create_organization_api_key, "org_01HXYZHXYZHXYZHXYZHXYZHXYZ", name="x")


def test_api_keys_of_a_user(sdk: Any, account: Account, membership: str, organization: str) -> None:
    calls, later = sdk.user_management, datetime.now(timezone.utc) + timedelta(days=1)
    made = calls.create_user_api_key(account.id, name="Laptop", organization_id=organization, expires_at=later.isoformat())
    assert made.value.startswith("sk_") and abs(made.expires_at - later) < timedelta(seconds=1)
    assert (made.owner.id, made.owner.organization_id) == (account.id, organization)
    assert ids(calls.list_user_api_keys(account.id)) == ids(calls.list_user_api_keys(account.id, organization_id=organization)) == [made.id]
    found = sdk.api_keys.create_validation(value=made.value).api_key
    assert (found.id, found.owner.id, found.owner.organization_id) == (made.id, account.id, organization)
    sdk.organization_membership.deactivate_organization_membership(membership)
    assert sdk.api_keys.create_validation(value=made.value).api_key is None, "a key is worth what its owner is"


def test_feature_flags(sdk: Any, server: Server, account: Account, membership: str, organization: str) -> None:
    calls, slug = sdk.feature_flags, create_flag(server, description="New reports")
    flag = calls.get_feature_flag(slug)
    assert (flag.slug, flag.description, flag.enabled, flag.default_value) == (slug, "New reports", True, False)
    assert flag.id in ids(calls.list_feature_flags(limit=2))

    def on() -> tuple[bool, bool, bool]:
        token = sdk.user_management.authenticate_with_password(email=account.email, password=PASSWORD).access_token
        of_user = {f.slug for f in calls.list_user_feature_flags(account.id).auto_paging_iter()}
        of_organization = {f.slug for f in calls.list_organization_feature_flags(organization).auto_paging_iter()}
        return slug in of_user, slug in of_organization, slug in read_claims(token).get("feature_flags", [])

    assert on() == (False, False, False)
    calls.add_flag_target(organization, slug)
    assert on() == (True, True, True), "the user is in the organization"
    calls.remove_flag_target(organization, slug)
    calls.add_flag_target(account.id, slug)
    assert on() == (True, False, True)
    assert not calls.disable_feature_flag(slug).enabled and on() == (False, False, False)
    assert calls.enable_feature_flag(slug).enabled and on() == (True, False, True)
    refusal(workos.NotFoundError, calls.get_feature_flag, unique("none"))
    assert refusal(workos.BadRequestError, calls.add_flag_target, "no-id", slug).code == "invalid_resource_id_format"
    refusal(workos.NotFoundError, calls.add_flag_target, "user_01HXYZHXYZHXYZHXYZHXYZHXYZ", slug)


def test_a_sealed_session_switches_organization_by_refresh(sdk: Any, server: Server, account: Account) -> None:
    from workos.session import seal_session_from_auth_response

    users = sdk.client.user_management
    acme, globex = (sdk.organizations.create_organization(name=name).id for name in ("Acme", "Globex"))
    for organization in (acme, globex):
        sdk.organization_membership.create_organization_membership(user_id=account.id, organization_id=organization)
    step = refusal(OrganizationSelectionRequiredError, users.authenticate_with_password, email=account.email, password=PASSWORD)
    signed_in = users.authenticate_with_organization_selection(
        organization_id=acme, pending_authentication_token=step.pending_authentication_token
    )
    sealed = seal_session_from_auth_response(
        access_token=signed_in.access_token,
        refresh_token=signed_in.refresh_token,
        user=signed_in.user.to_dict(),
        cookie_password=server.cookie_password,
    )
    session = users.load_sealed_session(session_data=sealed, cookie_password=server.cookie_password)
    found: Any = session.authenticate()
    assert (found.authenticated, found.organization_id, found.role, found.roles, found.permissions) == (
        True,
        acme,
        "member",
        ["member"],
        [],
    )
    switched: Any = session.refresh(organization_id=globex)
    assert switched.authenticated and switched.organization_id == globex and switched.session_id == found.session_id
    kept = users.load_sealed_session(session_data=switched.sealed_session, cookie_password=server.cookie_password)
    assert kept.authenticate().organization_id == globex
    stranger = sdk.organizations.create_organization(name="Initech").id
    assert not kept.refresh(organization_id=stranger).authenticated
    renewed: Any = kept.refresh()
    assert renewed.authenticated and renewed.organization_id == globex, "a refused switch ends nothing"


def test_every_operation_is_offered_by_the_sdk_and_was_answered(sdk: Any) -> None:
    """Last, and about all the tests above: run the file as a whole."""
    assert set(list_offered(sdk.client).values()) == set(list_operations())
    assert sdk.list_unanswered() == {}
