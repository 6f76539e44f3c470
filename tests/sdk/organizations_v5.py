"""Every call of `workos` 5.46.0 about organizations and what belongs to them; run by the Python that has that version."""

import os
import sys

from offered import Noted
from workos import WorkOSClient
from workos.exceptions import AuthenticationException, AuthorizationException, BadRequestException, ConflictException, NotFoundException

client = WorkOSClient(
    api_key=os.environ["WORKOS_API_KEY"], client_id=os.environ["WORKOS_CLIENT_ID"], base_url=os.environ["WORKOS_BASE_URL"]
)
sdk = Noted(client)
prefix, flag, folder, document = sys.argv[1:]
password = "correct horse battery staple 7"


def refusal(kind, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except kind as refused:
        return refused
    raise AssertionError(f"no {kind.__name__}")


# Organizations and their domains
domain = f"{prefix}.com"
made = sdk.organizations.create_organization(
    name="Acme", external_id=prefix, metadata={"tier": "gold"}, domain_data=[{"domain": domain, "state": "verified"}]
)
acme = made.id
assert made.domains[0].domain == domain and made.domains[0].state == "verified"
assert sdk.organizations.get_organization(acme).metadata == {"tier": "gold"}
assert sdk.organizations.get_organization_by_external_id(prefix).id == acme
assert [o.id for o in sdk.organizations.list_organizations(domains=[domain])] == [acme]
assert sdk.organizations.update_organization(organization_id=acme, name="Acme Ltd").name == "Acme Ltd"
globex = sdk.organizations.create_organization(name="Globex").id
spare = sdk.organizations.create_organization(name="Spare").id
sdk.organizations.delete_organization(spare)
missing = refusal(NotFoundException, sdk.organizations.get_organization, spare)
assert missing.message == f"Organization not found: '{spare}'.", missing
other = sdk.organization_domains.create_organization_domain(organization_id=acme, domain=f"www-{domain}")
assert sdk.organization_domains.get_organization_domain(other.id).state == "pending"
assert sdk.organization_domains.verify_organization_domain(other.id).state == "pending"
sdk.organization_domains.delete_organization_domain(other.id)

# Permissions and roles
auth = sdk.authorization
read, write = f"{prefix}:read", f"{prefix}:write"
for slug in (read, write):
    assert auth.create_permission(slug=slug, name=slug).slug == slug
assert auth.get_permission(read).slug == read and auth.update_permission(read, name="Read").name == "Read"
assert {read, write} <= {permission.slug for permission in auth.list_permissions(limit=3)}
role = f"{prefix}-role"
assert auth.create_environment_role(slug=role, name="Role").type == "EnvironmentRole"
assert auth.add_environment_role_permission(role, permission_slug=read).permissions == [read]
assert auth.set_environment_role_permissions(role, permissions=[read, write]).permissions == [read, write]
assert auth.update_environment_role(role, name="The role").name == auth.get_environment_role(role).name == "The role"
assert role in {row.slug for row in auth.list_environment_roles().data}
refusal(ConflictException, auth.create_environment_role, slug=role, name="x")
own = f"org-{prefix}"
assert auth.create_organization_role(acme, slug=own, name="Own").type == "OrganizationRole"
assert auth.add_organization_role_permission(acme, own, permission_slug=read).permissions == [read]
assert auth.set_organization_role_permissions(acme, own, permissions=[read, write]).permissions == [read, write]
auth.remove_organization_role_permission(acme, own, permission_slug=write)
assert auth.get_organization_role(acme, own).permissions == [read]
assert auth.update_organization_role(acme, own, name="Ours").name == "Ours"
assert own in {row.slug for row in auth.list_organization_roles(acme).data}
assert own in {row.slug for row in sdk.organizations.list_organization_roles(acme).data}

# Memberships
users = sdk.user_management
ada = users.create_user(email=f"ada@{domain}", password=password, email_verified=True)
member = users.create_organization_membership(user_id=ada.id, organization_id=acme, role_slug=own)
assert member.role["slug"] == own and users.get_organization_membership(member.id).user_id == ada.id
elsewhere = users.create_organization_membership(user_id=ada.id, organization_id=globex)
refusal(ConflictException, users.create_organization_membership, user_id=ada.id, organization_id=acme)
assert [m.id for m in users.list_organization_memberships(user_id=ada.id)] == [elsewhere.id, member.id]
assert users.update_organization_membership(organization_membership_id=elsewhere.id, role_slug=role).role["slug"] == role
assert users.deactivate_organization_membership(elsewhere.id).status == "inactive"
assert [m.id for m in users.list_organization_memberships(user_id=ada.id, statuses=["inactive"])] == [elsewhere.id]
assert users.reactivate_organization_membership(elsewhere.id).status == "active"

# Signing in to one of several organizations, and changing to another
step = refusal(AuthorizationException, users.authenticate_with_password, email=ada.email, password=password)
assert step.code == "organization_selection_required", step
pending = step.response_json["pending_authentication_token"]
signed_in = users.authenticate_with_organization_selection(organization_id=acme, pending_authentication_token=pending)
assert signed_in.organization_id == acme
sealing = {"seal_session": True, "cookie_password": os.environ["WORKOS_COOKIE_PASSWORD"]}
switched = users.authenticate_with_refresh_token(refresh_token=signed_in.refresh_token, organization_id=globex, session=sealing)
assert switched.organization_id == globex
session = users.load_sealed_session(sealed_session=switched.sealed_session, cookie_password=os.environ["WORKOS_COOKIE_PASSWORD"])
found = session.authenticate()
assert (found.organization_id, found.role, found.roles, found.permissions) == (globex, role, [role], [read, write]), found
back = session.refresh(organization_id=acme)
assert back.authenticated and back.organization_id == acme and back.permissions == [read], back
stranger = sdk.organizations.create_organization(name="Initech").id
refused = refusal(
    BadRequestException, users.authenticate_with_refresh_token, refresh_token=switched.refresh_token, organization_id=stranger
)
assert refused.error == "organization_membership_not_found", refused

# Invitations
invited = users.send_invitation(email=f"bob@{domain}", organization_id=acme, role_slug="admin", expires_in_days=2, inviter_user_id=ada.id)
assert users.get_invitation(invited.id).state == "pending" and users.find_invitation_by_token(invited.token).id == invited.id
assert [i.id for i in users.list_invitations(organization_id=acme)] == [invited.id]
assert users.resend_invitation(invited.id).token != invited.token
bob = users.create_user(email=f"bob@{domain}", email_verified=True)
assert users.accept_invitation(invited.id).state == "accepted"
refusal(BadRequestException, users.accept_invitation, invited.id)
assert users.revoke_invitation(users.send_invitation(email=f"eve@{prefix}.org").id).state == "revoked"

# Resources and checks
edit = f"{prefix}-edit"
auth.create_permission(slug=edit, name=edit, resource_type_slug=document)
keeper = f"{prefix}-keeper"
auth.create_environment_role(slug=keeper, name=keeper, resource_type_slug=folder)
auth.set_environment_role_permissions(keeper, permissions=[edit])
above = auth.create_resource(external_id="f1", name="Folder", resource_type_slug=folder, organization_id=acme)
inside = {"parent_resource_id": above.id}
below = auth.create_resource(external_id="d1", name="Doc", resource_type_slug=document, organization_id=acme, parent=inside)
assert auth.get_resource(below.id).id == auth.get_resource_by_external_id(acme, document, "d1").id == below.id
assert auth.update_resource(below.id, name="Document").name == "Document"
assert auth.update_resource_by_external_id(acme, document, "d1", description="A document").description == "A document"
assert [r.id for r in auth.list_resources(organization_id=acme, resource_type_slug=document)] == [below.id]
asked = {"permission_slug": edit, "resource": {"resource_id": below.id}}
assert not auth.check(member.id, **asked).authorized
assigned = auth.assign_role(member.id, role_slug=keeper, resource_identifier={"resource_id": above.id})
assert auth.check(member.id, **asked).authorized
assert [r.id for r in auth.list_resources_for_membership(member.id, permission_slug=edit, parent_resource=inside)] == [below.id]
assert [m.id for m in auth.list_memberships_for_resource(below.id, permission_slug=edit)] == [member.id]
assert [m.id for m in auth.list_memberships_for_resource_by_external_id(acme, document, "d1", permission_slug=edit)] == [member.id]
assert assigned.id in [a.id for a in auth.list_role_assignments(organization_membership_id=member.id)]
auth.remove_role_assignment(member.id, assigned.id)
by_name = {"resource_external_id": "f1", "resource_type_slug": folder}
auth.assign_role(member.id, role_slug=keeper, resource_identifier=by_name)
auth.remove_role(member.id, role_slug=keeper, resource_identifier=by_name)
assert not auth.check(member.id, **asked).authorized
refusal(ConflictException, auth.delete_resource, above.id)
auth.delete_resource_by_external_id(acme, document, "d1")
auth.delete_resource(above.id)
auth.delete_permission(edit)
refusal(NotFoundException, auth.get_permission, edit)

# API keys and feature flags
key = sdk.organizations.create_api_key(organization_id=acme, name="Job", permissions=[read])
assert sdk.api_keys.validate_api_key(value=key.value).owner.id == acme
assert [k.id for k in sdk.organizations.list_api_keys(organization_id=acme)] == [key.id]
sdk.api_keys.delete_api_key(key.id)
assert sdk.api_keys.validate_api_key(value=key.value) is None
assert flag in [f.slug for f in sdk.organizations.list_feature_flags(organization_id=acme)]
assert flag in [f.slug for f in users.list_feature_flags(user_id=ada.id)]

users.delete_organization_membership(elsewhere.id)
refusal(NotFoundException, users.get_organization_membership, elsewhere.id)
nobody = WorkOSClient(api_key="sk_wrong", client_id="client_x", base_url=os.environ["WORKOS_BASE_URL"])
refusal(AuthenticationException, nobody.organizations.get_organization, acme)

unanswered = sdk.list_unanswered()
assert not unanswered, unanswered
print("done")
