"""What an app's operator has set up before an app calls: organizations with members, roles, feature flags, resource types."""

from __future__ import annotations

import secrets
from typing import Any

import httpx
import jwt

from accounts import Account, open_api
from running_server import Server


def unique(label: str) -> str:
    return f"{label}-{secrets.token_hex(4)}"


def post(server: Server, path: str, **body: Any) -> dict[str, Any]:
    with open_api(server) as api:
        answer = api.post(path, json=body)
    assert answer.status_code in {200, 201}, f"{path}: {answer.text}"
    return dict(answer.json())


def create_organization(server: Server, name: str) -> str:
    return str(post(server, "/organizations", name=name)["id"])


def add_member(server: Server, account: Account, organization: str, role: str = "member") -> str:
    body = {"user_id": account.id, "organization_id": organization, "role_slug": role}
    return str(post(server, "/user_management/organization_memberships", **body)["id"])


def create_role(server: Server, *permissions: str) -> str:
    """A role of the environment that holds these permissions, which are made with it; gives its slug."""
    slug = unique("role")
    post(server, "/authorization/roles", slug=slug, name=slug)
    for permission in permissions:
        post(server, "/authorization/permissions", slug=permission, name=permission)
    with open_api(server) as api:
        assert api.put(f"/authorization/roles/{slug}/permissions", json={"permissions": list(permissions)}).status_code == 200
    return slug


def create_flag(server: Server, *targets: str, **fields: Any) -> str:
    """A feature flag that is on for these targets; gives its slug."""
    slug = unique("flag")
    post(server, "/feature-flags", slug=slug, name=slug, enabled=True, **fields)
    with open_api(server) as api:
        for target in targets:
            assert api.post(f"/feature-flags/{slug}/targets/{target}").is_success
    return slug


def create_resource_types(server: Server) -> tuple[str, str]:
    """A type that stands below organizations and one below it."""
    folder, document = unique("folder"), unique("document")
    post(server, "/authorization/resource_types", slug=folder)
    post(server, "/authorization/resource_types", slug=document, parent_type_slugs=[folder])
    return folder, document


def read_claims(answer: httpx.Response | str) -> dict[str, Any]:
    """What an access token says, or that of an answer to authenticate; its signature is another test's."""
    token = answer if isinstance(answer, str) else answer.json()["access_token"]
    return dict(jwt.decode(token, options={"verify_signature": False}))
