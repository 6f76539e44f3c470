"""Every call of the Node SDK about organizations and what belongs to them, and its runtime client of feature flags."""

from __future__ import annotations

import time
from typing import Any

import pytest

from accounts import PASSWORD, Account, unique_email
from hosted_pages import CALLBACK, Browser, sign_in
from organizations import create_flag, create_resource_types, unique
from running_server import Server
from sdk.node_sdk import NodeCall, thrown
from sdk.offered import find_operation

NOBODY = "org_01HXYZHXYZHXYZHXYZHXYZHXYZ"


class Node:
    """The SDK, with a list of the methods that were answered."""

    def __init__(self, call: NodeCall) -> None:
        self.call, self.answered = call, set[str]()

    def __call__(self, name: str, *arguments: Any) -> Any:
        answer = self.call(name, *arguments)
        self.answered.add(name)
        return answer

    def refuses(self, error: str, name: str, *arguments: Any) -> dict[str, Any]:
        refused = thrown(self.call, name, *arguments)
        assert refused["error"] == error, refused
        return refused

    def list_unanswered(self) -> dict[str, str]:
        offered = {name: find_operation(verb, path) for name, verb, path in self.call("listRequests")}
        assert len([operation for operation in offered.values() if operation]) > 50, "the SDK was not looked through"
        return {name: operation for name, operation in offered.items() if operation and name not in self.answered}


@pytest.fixture(scope="module")
def sdk(node: NodeCall) -> Node:
    return Node(node)


@pytest.fixture
def organization(sdk: Node) -> str:
    return str(sdk("organizations.createOrganization", {"name": unique("Acme")})["id"])


@pytest.fixture
def membership(sdk: Node, account: Account, organization: str) -> str:
    made = sdk("userManagement.createOrganizationMembership", {"userId": account.id, "organizationId": organization})
    return str(made["id"])


def ids(rows: Any) -> list[str]:
    return [row["id"] for row in (rows["data"] if isinstance(rows, dict) else rows)]


def test_organizations_and_domains(sdk: Node) -> None:
    external_id, domain = unique("tenant"), f"{unique('acme')}.com"
    body = {
        "name": "Acme",
        "externalId": external_id,
        "metadata": {"tier": "gold"},
        "domainData": [{"domain": domain, "state": "verified"}],
    }
    made = sdk("organizations.createOrganization", body, {"idempotencyKey": external_id})
    again = sdk("organizations.createOrganization", body, {"idempotencyKey": external_id})
    assert again["id"] == made["id"] and made["domains"][0]["state"] == "verified"
    assert sdk("organizations.getOrganization", made["id"])["metadata"] == {"tier": "gold"}
    assert sdk("organizations.getOrganizationByExternalId", external_id)["id"] == made["id"]
    assert ids(sdk("organizations.listOrganizations", {"domains": [domain]})) == [made["id"]]
    assert sdk("organizations.updateOrganization", {"organization": made["id"], "name": "Acme Ltd"})["name"] == "Acme Ltd"
    pending = sdk("organizationDomains.create", {"organizationId": made["id"], "domain": f"www-{domain}"})
    assert sdk("organizationDomains.get", pending["id"])["state"] == "pending"
    assert sdk("organizationDomains.verify", pending["id"])["state"] == "pending"
    sdk("organizationDomains.delete", pending["id"])
    sdk("organizations.deleteOrganization", made["id"])
    sdk.refuses("NotFoundException", "organizations.getOrganization", made["id"])
    sdk.refuses("UnprocessableEntityException", "organizations.createOrganization", {"name": ""})
    sdk.refuses("UnauthorizedException", "getOrganizationWithWrongKey", made["id"])


def test_roles_and_permissions(sdk: Node, organization: str) -> None:
    read, write, role, own = (unique(label) for label in ("read", "write", "auditor", "org-auditor"))
    for slug in (read, write):
        assert sdk("authorization.createPermission", {"slug": slug, "name": slug})["slug"] == slug
    sdk.refuses("ConflictException", "authorization.createPermission", {"slug": read, "name": read})
    assert sdk("authorization.updatePermission", read, {"name": "Read"})["name"] == "Read"
    assert sdk("authorization.getPermission", read)["slug"] == read
    assert sdk("authorization.listPermissions", {"limit": 100})["data"]

    assert sdk("authorization.createEnvironmentRole", {"slug": role, "name": "Auditor"})["type"] == "EnvironmentRole"
    assert sdk("authorization.addEnvironmentRolePermission", role, {"permissionSlug": read})["permissions"] == [read]
    assert len(sdk("authorization.setEnvironmentRolePermissions", role, {"permissions": [read, write]})["permissions"]) == 2
    assert sdk("authorization.updateEnvironmentRole", role, {"name": "Auditors"})["name"] == "Auditors"
    assert sdk("authorization.getEnvironmentRole", role)["name"] == "Auditors"
    assert role in [row["slug"] for row in sdk("authorization.listEnvironmentRoles")["data"]]

    assert sdk("authorization.createOrganizationRole", organization, {"slug": own, "name": "Auditor"})["type"] == "OrganizationRole"
    assert sdk("authorization.addOrganizationRolePermission", organization, own, {"permissionSlug": read})["permissions"] == [read]
    assert len(sdk("authorization.setOrganizationRolePermissions", organization, own, {"permissions": [read, write]})["permissions"]) == 2
    sdk("authorization.removeOrganizationRolePermission", organization, own, {"permissionSlug": write})
    assert sdk("authorization.getOrganizationRole", organization, own)["permissions"] == [read]
    assert sdk("authorization.updateOrganizationRole", organization, own, {"name": "Ours"})["name"] == "Ours"
    listed = [row["slug"] for row in sdk("authorization.listOrganizationRoles", organization)["data"]]
    assert own in listed and role in listed
    assert [row["slug"] for row in sdk("organizations.listOrganizationRoles", {"organizationId": organization})["data"]] == listed
    sdk("authorization.deleteOrganizationRole", organization, own)
    sdk("authorization.deletePermission", write)
    assert sdk("authorization.getEnvironmentRole", role)["permissions"] == [read]


def test_memberships(sdk: Node, organization: str) -> None:
    user = sdk("createUser", {"email": unique_email("node"), "password": PASSWORD, "emailVerified": True})
    wanted = {"userId": user["id"], "organizationId": organization}
    made = sdk("userManagement.createOrganizationMembership", {**wanted, "roleSlug": "admin"})
    sdk.refuses("ConflictException", "userManagement.createOrganizationMembership", wanted)
    assert sdk("userManagement.getOrganizationMembership", made["id"])["role"]["slug"] == "admin"
    last = sdk.refuses("ConflictException", "userManagement.updateOrganizationMembership", made["id"], {"roleSlug": "member"})
    assert "last active admin" in last["message"], "the SDK keeps no code of a conflict"
    assert (
        sdk("userManagement.updateOrganizationMembership", made["id"], {"roleSlugs": ["admin", "member"]})["roles"][1]["slug"] == "member"
    )
    second = sdk("createUser", {"email": unique_email("node")})
    other = sdk("userManagement.createOrganizationMembership", {"userId": second["id"], "organizationId": organization})
    assert ids(sdk("userManagement.listOrganizationMemberships", {"organizationId": organization})) == [other["id"], made["id"]]
    assert sdk("userManagement.deactivateOrganizationMembership", other["id"])["status"] == "inactive"
    listed = sdk("userManagement.listOrganizationMemberships", {"organizationId": organization, "statuses": ["inactive"]})
    assert ids(listed) == [other["id"]]
    assert sdk("userManagement.reactivateOrganizationMembership", other["id"])["status"] == "active"
    sdk("userManagement.deleteOrganizationMembership", other["id"])
    sdk.refuses("NotFoundException", "userManagement.getOrganizationMembership", other["id"])


def test_invitations(sdk: Node, server: Server, organization: str) -> None:
    email = unique_email("invited")
    made = sdk("userManagement.sendInvitation", {"email": email, "organizationId": organization, "roleSlug": "admin", "expiresInDays": 2})
    assert made["acceptInvitationUrl"] in server.take_mail(email).links
    assert ids(sdk("userManagement.listInvitations", {"email": email})) == [made["id"]]
    again = sdk("userManagement.resendInvitation", made["id"])
    assert again["token"] != made["token"] and sdk("userManagement.findInvitationByToken", again["token"])["id"] == made["id"]
    user = sdk("createUser", {"email": email, "emailVerified": True})
    assert sdk("userManagement.acceptInvitation", made["id"])["acceptedUserId"] == user["id"]
    assert sdk("userManagement.getInvitation", made["id"])["state"] == "accepted"
    # Of a 400 without a list of errors the SDK makes this class, with the code.
    assert sdk.refuses("GenericServerException", "userManagement.acceptInvitation", made["id"])["code"] == "invite_not_pending"
    other = sdk("userManagement.sendInvitation", {"email": unique_email("other")})
    assert sdk("userManagement.revokeInvitation", other["id"])["state"] == "revoked"


def test_resources_and_checks(sdk: Node, server: Server, organization: str, membership: str) -> None:
    (folder, document), role, permission = create_resource_types(server), unique("keeper"), unique("edit")
    sdk("authorization.createPermission", {"slug": permission, "name": permission, "resourceTypeSlug": document})
    sdk("authorization.createEnvironmentRole", {"slug": role, "name": role, "resourceTypeSlug": folder})
    sdk("authorization.setEnvironmentRolePermissions", role, {"permissions": [permission]})
    wanted = {"organizationId": organization, "resourceTypeSlug": folder, "externalId": "f1", "name": "Folder"}
    above = sdk("authorization.createResource", wanted)["id"]
    inside = {"parentResourceExternalId": "f1", "parentResourceTypeSlug": folder}
    below = sdk("authorization.createResource", {**wanted, "resourceTypeSlug": document, "externalId": "d1", **inside})["id"]
    named = {"organizationId": organization, "resourceTypeSlug": document, "externalId": "d1"}
    assert sdk("authorization.getResource", below)["parentResourceId"] == above
    assert sdk("authorization.getResourceByExternalId", named)["id"] == below
    assert sdk("authorization.updateResource", {"resourceId": below, "name": "Lease"})["name"] == "Lease"
    assert sdk("authorization.updateResourceByExternalId", {**named, "description": "x"})["description"] == "x"
    assert ids(sdk("authorization.listResources", {"organizationId": organization, "parentResourceId": above})) == [below]

    asked = {"organizationMembershipId": membership, "permissionSlug": permission, "resourceId": below}
    assert not sdk("authorization.check", asked)["authorized"]
    assigned = sdk("authorization.assignRole", {"organizationMembershipId": membership, "roleSlug": role, "resourceId": above})
    assert sdk("authorization.check", asked)["authorized"]
    of_member = {"organizationMembershipId": membership, "permissionSlug": permission, "parentResourceId": above}
    assert ids(sdk("authorization.listResourcesForMembership", of_member)) == [below]
    assert ids(sdk("authorization.listMembershipsForResource", {"resourceId": below, "permissionSlug": permission})) == [membership]
    assert ids(sdk("authorization.listMembershipsForResourceByExternalId", {**named, "permissionSlug": permission})) == [membership]
    assert assigned["id"] in ids(sdk("authorization.listRoleAssignments", {"organizationMembershipId": membership}))
    sdk("authorization.removeRoleAssignment", {"organizationMembershipId": membership, "roleAssignmentId": assigned["id"]})
    by_name = {"organizationMembershipId": membership, "roleSlug": role, "resourceExternalId": "f1", "resourceTypeSlug": folder}
    sdk("authorization.assignRole", by_name)
    sdk("authorization.removeRole", by_name)
    assert not sdk("authorization.check", asked)["authorized"]
    sdk.refuses("ConflictException", "authorization.deleteResource", {"resourceId": above})
    sdk("authorization.deleteResourceByExternalId", named)
    sdk("authorization.deleteResource", {"resourceId": above, "cascadeDelete": True})
    sdk.refuses("NotFoundException", "authorization.getResource", above)


def test_api_keys(sdk: Node, organization: str) -> None:
    made = sdk("organizations.createOrganizationApiKey", {"organizationId": organization, "name": "Job"})
    assert sdk("apiKeys.validateApiKey", {"value": made["value"]})["apiKey"]["owner"]["id"] == organization
    assert sdk("apiKeys.validateApiKey", {"value": made["value"] + "x"})["apiKey"] is None
    assert ids(sdk("organizations.listOrganizationApiKeys", {"organizationId": organization})) == [made["id"]]
    sdk("apiKeys.deleteApiKey", made["id"])
    assert sdk("apiKeys.validateApiKey", {"value": made["value"]})["apiKey"] is None
    sdk.refuses("NotFoundException", "organizations.createOrganizationApiKey", {"organizationId": NOBODY, "name": "x"})


def test_feature_flags(sdk: Node, server: Server, account: Account, membership: str, organization: str) -> None:
    slug = create_flag(server)
    assert sdk("featureFlags.getFeatureFlag", slug)["slug"] == slug
    assert slug in [flag["slug"] for flag in sdk("featureFlags.listFeatureFlags")]
    sdk("featureFlags.addFlagTarget", {"slug": slug, "targetId": organization})
    assert [f["slug"] for f in sdk("organizations.listOrganizationFeatureFlags", {"organizationId": organization})] == [slug]
    assert slug in [f["slug"] for f in sdk("userManagement.listUserFeatureFlags", {"userId": account.id})]
    assert not sdk("featureFlags.disableFeatureFlag", slug)["enabled"] and sdk("featureFlags.enableFeatureFlag", slug)["enabled"]
    sdk("featureFlags.removeFlagTarget", {"slug": slug, "targetId": organization})
    assert sdk("organizations.listOrganizationFeatureFlags", {"organizationId": organization}) == []


def test_the_runtime_client_of_feature_flags_sees_changes_by_itself(sdk: Node, server: Server, account: Account, organization: str) -> None:
    slug, for_all = create_flag(server, organization), create_flag(server, default_value=True)
    member, stranger = {"organizationId": organization}, {"organizationId": NOBODY}
    sdk("startRuntimeClient")
    try:
        assert sdk("isEnabled", slug, member) and not sdk("isEnabled", slug, stranger) and not sdk("isEnabled", slug, {})
        assert sdk("isEnabled", for_all, stranger)
        assert sdk("listEnabled", member)[slug] is True
        sdk("featureFlags.addFlagTarget", {"slug": slug, "targetId": account.id})
        deadline = time.monotonic() + 20
        while not sdk("isEnabled", slug, {"userId": account.id}):
            assert time.monotonic() < deadline, "the change was not seen"
            time.sleep(0.2)
    finally:
        sdk("stopRuntimeClient")


def test_node_chooses_and_switches_organization(sdk: Node, server: Server, account: Account) -> None:
    acme, globex, initech = (sdk("organizations.createOrganization", {"name": name})["id"] for name in ("Acme", "Globex", "Initech"))
    for organization in (acme, globex):
        sdk("userManagement.createOrganizationMembership", {"userId": account.id, "organizationId": organization})
    step = thrown(sdk.call, "authenticateWithPassword", {"email": account.email, "password": PASSWORD})
    assert (step["status"], step["code"]) == (403, "organization_selection_required")
    assert sorted(o["id"] for o in step["rawData"]["organizations"]) == sorted([acme, globex])
    chosen = sdk(
        "userManagement.authenticateWithOrganizationSelection",
        {
            "clientId": server.client_id,
            "organizationId": acme,
            "pendingAuthenticationToken": step["rawData"]["pending_authentication_token"],
        },
    )
    assert chosen["organizationId"] == acme

    # As an app does: it asks for the organization when it sends the browser away.
    url = sdk("authorizationUrl", {"redirectUri": CALLBACK, "organizationId": acme})
    page = sign_in(Browser(), server, url, account.email, PASSWORD)
    answer = sdk("authenticateWithCode", page.query["code"])
    assert answer["organizationId"] == acme
    switched = sdk("refreshSession", answer["sealedSession"], {"organizationId": globex})
    assert switched["authenticated"] and switched["organizationId"] == globex and switched["role"] == "member"
    refused = thrown(sdk.call, "refreshSession", switched["sealedSession"], {"organizationId": initech})
    assert (refused["status"], refused["error"]) == (400, "OauthException")
    assert sdk("refreshSession", switched["sealedSession"])["organizationId"] == globex


def test_every_operation_that_the_node_sdk_offers_was_answered(sdk: Node) -> None:
    """Last, and about all the tests above: run the file as a whole."""
    assert sdk.list_unanswered() == {}
