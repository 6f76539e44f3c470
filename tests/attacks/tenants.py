"""Organizations with one of everything, and what each place of a request means in terms of them."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import jwt

from accounts import PASSWORD
from attacks.operations import Operation, Request, Slot, place
from hosted_pages import approve_device, obtain_code
from passkeys import make_passkey
from recording import open_client
from running_server import Server

URN = "urn:workos:oauth:grant-type:"
# What the token endpoint takes besides the client, by grant.
GRANTS = {
    "password": {"email", "password"},
    "refresh_token": {"refresh_token", "organization_id"},
    "authorization_code": {"code"},
    "urn:ietf:params:oauth:grant-type:device_code": {"device_code"},
    f"{URN}magic-auth:code": {"email", "code"},
    f"{URN}email-verification:code": {"code", "pending_authentication_token"},
    f"{URN}mfa-totp": {"code", "pending_authentication_token", "authentication_challenge_id"},
    f"{URN}radar-email-challenge:code": {"code", "pending_authentication_token", "radar_challenge_id"},
    f"{URN}radar-sms-challenge:code": {"code", "pending_authentication_token", "verification_id", "phone_number"},
    f"{URN}organization-selection": {"pending_authentication_token", "organization_id"},
}
# What two tenants may both have, in one environment or in two: whoever forgets to ask whose it is finds the wrong one.
SHARED = {
    "environment_role_slug": "shared-role",
    "permission_slug": "shared:permission",
    "flag_slug": "shared-flag",
    "unused_resource_type_slug": "shared-type",
    "organization_external_id": "shared-organization",
    "user_external_id": "shared-user",
    "organization_role_slug": "org-shared",
    "resource_external_id": "shared-document",
}
# These belong to the environment: any organization of it may name them.
OF_ENVIRONMENT = {
    "environment_role_slug",
    "permission_slug",
    "permission_slugs",
    "other_permission_slug",
    "document_permission_slug",
    "flag_slug",
    "resource_type_slug",
    "unused_resource_type_slug",
    "redirect_uri_id",
    "client_id",
    "audit_log_action",
    "ssf_stream_id",
    "radar_attempt_id",
    "radar_list_entry",
    "webhook_endpoint_id",
    "webhook_delivery_id",
}
# The same new things for all tenants.
FRESH: dict[str, Any] = {
    "name": "Quarterly",
    "description": "Seen by few.",
    "slug": "fresh",
    "organization_role_new_slug": "org-fresh",
    "external_id": "fresh-1",
    "metadata": {"team": "blue"},
    "stripe_customer_id": "cus_fresh",
    "domain": "fresh.example.com",
    "state": "pending",
    "domains": ["fresh.example.com"],
    "allow_profiles_outside_organization": False,
    "join_by_verified_domain": False,
    "new_email": "fresh@example.test",
    "email_verified": True,
    "first_name": "Fresh",
    "last_name": "Person",
    "locale": "de",
    "password": "a new horse battery 8",
    "new_password": "another new horse 9",
    "origin": "https://fresh.example.com",
    "uri": "https://fresh.example.com/callback",
    "content": '{"team": "{{ user.first_name }}"}',
    "expires_in_days": 3,
    "expires_at": "2099-01-01T00:00:00.000Z",
    "supporter_email": "support@example.test",
    "impersonation_reason": "Sees an empty page.",
    "impersonation_seconds": 600,
    "loopback_uri": "http://localhost:9/callback",
    "statuses": ["active"],
    "assignment": "direct",
    "parent_type_slugs": ["organization"],
    "enabled": True,
    "default_value": False,
    "tags": ["beta"],
    "cascade_delete": "true",
    "group_search": "Group",  # all organizations have such a group, and have invited this guest
    "guest_email": "guest@example.test",
    "idle_days": 30,
    "old_days": 30,
    # Nobody listens there, and an inactive stream is not delivered: no row changes while others are compared.
    "event_names": ["organization.created", "user.created"],
    "log_stream_type": "GenericHttps",
    "log_stream_url": "http://127.0.0.1:9/fresh",
    "log_stream_format": "json_array",
    "log_stream_header_name": "X-Fresh",
    "log_stream_secret": "fresh",
    "log_stream_state": "inactive",
    "log_stream_sources": ["audit_log_events"],  # which stand still, so that what is shown of their number does
    "log_stream_start": "beginning",  # where "now" is differs from one request to the next
    # Nobody listens there, and nothing of the kind happens.
    "webhook_url": "http://127.0.0.1:9/fresh",
    "webhook_events": ["waitlist_user.created"],
    "webhook_status": "enabled",
    "webhook_delivery_status": "pending",
    "previous_secret_seconds": 60,
    "return_immediately": True,
    "radar_list_type": "device",
    "radar_list_action": "block",
    "radar_new_entry": "a fresh device",
    "radar_auth_method": "SSO",
    "radar_action": "sign-in",
    "radar_status": "success",
    "ip_address": "198.51.100.99",
    "user_agent": "Mozilla/5.0",
    "stream_status": "enabled",
    "guard_word": "word",
    "said": "user_01HXYZHXYZHXYZHXYZHXYZHXYZ",
    "http_method": "GET",
    "url_path": "/expenses",
    "http_status": 401,
    "few": 1,
    "past_time": "2026-01-01T00:00:00Z",
    "factor_type": "totp",
    "phone_number": "+4915112345678",
    "totp_issuer": "Bank",
    "totp_user": "fresh@example.test",
    "totp_secret": "JBSWY3DPEHPK3PXP",
    "sms_template": "Your code is {{code}}.",
    "audit_log_word": "word",
    "audit_log_words": ["word"],
    "audit_log_type": "invoice",
    "audit_log_new_action": "thing.fresh",
    "audit_log_version": 1,
    "json_schema": {"type": "object"},
    "range_start": (datetime.now(timezone.utc) - timedelta(days=30)).isoformat(),
    "range_end": (datetime.now(timezone.utc) + timedelta(days=1)).isoformat(),
    "retention_days": 30,
    "retention_words": "1_MONTH",
    # Not stricter than the environment, so that everybody signs in as before.
    "allowed_method": True,
    "second_factor_wish": "optional",
    "session_length": 86_400,
}
# The meaning of a place, by the first pattern that fits `METHOD path where name`; a place without one means its own name.
MEANINGS = [
    (re.compile(pattern), meaning)
    for pattern, meaning in (
        (r" /auth/factors/{id}\S* path", "factor_id"),
        (r" /auth/challenges/{id}\S* path", "auth_challenge_id"),
        (r" /auth/challenges/{id}\S* body code", "auth_challenge_code"),
        (r"(/auth/factors/enroll|auth_factors) body type", "factor_type"),
        (r"/passkeys/{passkey_id} path passkey_id", "passkey_id"),
        (r"users/{id}/email_verification\S+ path", "unverified_user_id"),
        (r"users/{id}/email_change\S+ path", "changing_user_id"),
        (r"users/{id}\S* path", "user_id"),
        (r"POST \S+/users body external_id", "external_id"),
        (r"/users/external_id\S+ path", "user_external_id"),
        (r"/organizations/external_id\S+ path", "organization_external_id"),
        (r" /organizations/{id}\S* path", "organization_id"),
        (r"/resources/\S+ path external_id", "resource_external_id"),
        (r"GET /(events|audit_trail) query events", "event_names"),
        (r"POST /audit_logs/actions/{actionName}\S* path", "audit_log_new_action"),
        (r" /audit_logs/actions/{actionName}\S* path", "audit_log_action"),
        (r"POST /audit_logs/(events|exports) body organization_id", "organization_id"),
        (r"POST /audit_logs/events body event\.action", "audit_log_action"),
        (r"POST /audit_logs/events body event\.version", "audit_log_version"),
        (r"POST /audit_logs/events body event\.occurred_at", "past_time"),
        # Whom and what an event tells of is the app's own business: data, and nobody's id here.
        (r"POST /audit_logs/events body \S*(actor|targets\[\])\.(id|name)$", "audit_log_word"),
        (r"POST /audit_logs/(events|actions)\S* body \S*type$", "audit_log_type"),
        (r"POST /audit_logs/events body \S*(location|user_agent)$", "audit_log_word"),
        (r"POST /audit_logs/events body \S*metadata$", "metadata"),
        (r"POST /audit_logs/actions\S* body \S*metadata$", "json_schema"),
        (r"POST /audit_logs/exports body range_start", "range_start"),
        (r"POST /audit_logs/exports body range_end", "range_end"),
        (r"POST /audit_logs/exports body ", "audit_log_words"),
        (r"audit_logs_retention body retention_period_in_days", "retention_days"),
        (r"audit_logs_retention body retention_period$", "retention_words"),
        (r"sign_in_policy body (password|magic_auth|passkeys)$", "allowed_method"),
        (r"sign_in_policy body mfa$", "second_factor_wish"),
        (r"sign_in_policy body (session|inactivity)_seconds$", "session_length"),
        (r"/authorization/groups/\S+ path role_assignment_id", "group_role_assignment_id"),
        (r"groups/\S+/organization-memberships/{omId} path omId|memberships/{omId}/groups path", "grouped_membership_id"),
        (r" path omId|memberships/{id}\S* path", "organization_membership_id"),
        (r"memberships body add", "added_membership_ids"),
        (r"memberships body remove", "removed_membership_ids"),
        (r"/organizations/{organization_id}/roles/\S+ path slug", "organization_role_slug"),
        (r"/roles/\S+/permissions\S* path permission_slug", "permission_slug"),
        (r"/roles/\S+ path slug", "environment_role_slug"),
        (r"/permissions/{slug} path", "permission_slug"),
        (r"/resource_types/{slug} path", "unused_resource_type_slug"),
        (r"/feature-flags/\S+ path slug", "flag_slug"),
        (r" path resourceId", "flag_target"),
        (r" path clientId", "client_id"),
        (r" /api_keys/{id}\S* path", "api_key_id"),
        (r" /webhook_endpoints/\S+ path delivery_id", "webhook_delivery_id"),
        (r" /webhook_endpoints/\S+ path id", "webhook_endpoint_id"),
        (r" /webhook_endpoints\S* body endpoint_url", "webhook_url"),
        (r" /webhook_endpoints\S* body events", "webhook_events"),
        (r" /webhook_endpoints\S* body status", "webhook_status"),
        (r" /webhook_endpoints\S* query status", "webhook_delivery_status"),
        (r" /log_streams/{id}\S* path", "log_stream_id"),
        (r"/log_streams\S* body destination\.header_name", "log_stream_header_name"),
        (r"/log_streams\S* body destination\.type", "log_stream_type"),
        (r"/log_streams\S* body destination\.url", "log_stream_url"),
        (r"/log_streams\S* body destination\.format", "log_stream_format"),
        (r"/log_streams\S* body destination\.secret", "log_stream_secret"),
        (r"/log_streams\S* body state", "log_stream_state"),
        (r"/log_streams\S* body sources", "log_stream_sources"),
        (r"/log_streams\S* body start", "log_stream_start"),
        (r" /radar/attempts/{id} path", "radar_attempt_id"),
        (r" /radar/attempts/{id} body ", "radar_status"),
        (r" /radar/attempts body email", "new_email"),
        (r" /radar/attempts body auth_method", "radar_auth_method"),
        (r" /radar/attempts body action", "radar_action"),
        (r" /radar/lists/\S+ path type", "radar_list_type"),
        (r" /radar/lists/\S+ path action", "radar_list_action"),
        (r"POST /radar/lists/\S+ body entry", "radar_new_entry"),
        (r"DELETE /radar/lists/\S+ body entry", "radar_list_entry"),
        (r"/radar_challenges/{id} path", "radar_challenge_id"),
        (r"/radar_challenges body user_id", "signing_up_user_id"),
        (r"/radar_challenges body pending_authentication_token", "signing_up_token"),
        (r"/radar_challenges body phone_number", "signing_up_number"),
        (r"/(organization_domain)s/{id}\S* path", "organization_domain_id"),
        (r"/invitations/by_token/ ?\S* path", "invitation_token"),
        (r"/invitations/{id}\S* path", "invitation_id"),
        (r"/magic_auth/{id} path", "magic_auth_id"),
        (r"/email_verification/{id} path", "email_verification_id"),
        (r"/password_reset/{id} path", "password_reset_id"),
        (r"/impersonations/{id}\S* path", "impersonation_id"),
        (r"/impersonations body impersonator_email", "supporter_email"),
        (r"/impersonations body reason", "impersonation_reason"),
        (r"/impersonations body duration_seconds", "impersonation_seconds"),
        (r"/impersonations body redirect_uri", "loopback_uri"),
        (r"/redirect_uris/{id} path", "redirect_uri_id"),
        (r"role_assignments query role_slug|(DELETE|PUT) \S+role_assignments body \S*role_slug", "held_role_slug"),
        (r"role_assignments body role_slug", "document_role_slug"),
        (r" body role_slug$", "organization_role_slug"),
        (r" body role_slugs", "organization_role_slugs"),
        (r"POST \S+/roles/{slug}/permissions body slug", "other_permission_slug"),
        (r"PUT \S+/roles/{slug}/permissions body permissions| body permissions", "permission_slugs"),
        (r"POST \S+/organizations/{organization_id}/roles body slug", "organization_role_new_slug"),
        (r"(query|body) permission_slug", "document_permission_slug"),
        (r"POST /authorization/resources body external_id", "external_id"),
        (r"query parent_external_id|parent_resource_external_id", "parent_resource_external_id"),
        (r"parent_resource_type_slug", "resource_type_slug"),
        (r"/groups/\S+ body organization_membership_id", "organization_membership_id"),
        (r"organization_memberships body user_id", "newcomer_user_id"),
        (r"inviter_user_id", "user_id"),
        (r"/users query email|password_reset body email$", "email"),
        (r"/invitations query email", "guest_email"),
        (r" body owner.email", "new_email"),
        (r"(POST|PUT) \S+(users|users/{id}|invitations|magic_auth) body email$", "new_email"),
        (r"/users query organization$", "organization_id"),
        (r"/organizations query domains", "verified_domains"),
        (r"/organizations query search", "organization_name"),
        (r"/groups query search", "group_search"),
        (r"password_reset/confirm body token", "password_reset_token"),
        (r"email_change/confirm body code", "email_change_code"),
        (r"email_verification/confirm body code", "email_verification_code"),
        (r"validations body value", "api_key_value"),
        (r"/shared_signals/\S+ (path streamId|(query|body) stream_id)", "ssf_stream_id"),
        (r"/shared_signals/\S+/status body status", "stream_status"),
        (r"denied_requests body \S*\.(name|version|instance|reason)$", "guard_word"),
        (r"denied_requests body \S*\.method$", "http_method"),
        (r"denied_requests body \S*\.path$", "url_path"),
        (r"denied_requests body \S*\.status$", "http_status"),
        (r"denied_requests body \S*\.count$", "few"),
        (r"denied_requests body \S*\.occurred_at$", "past_time"),
        # What a guard says of whom it refused is written down as said, and opens nothing.
        (r"denied_requests body \S*_id$", "said"),
    )
]
# Two ways to say the same: a request takes one of them.
EITHER = [
    ({"role_slug"}, {"role_slugs"}),
    ({"resource_id"}, {"resource_external_id", "resource_type_slug"}),
    ({"parent_resource_id"}, {"parent_resource_external_id", "parent_resource_type_slug", "parent_external_id"}),
    ({"domains"}, {"domain_data"}),
    ({"organization_id"}, {"organization"}),
    ({"retention_period_in_days"}, {"retention_period"}),
]


# A filter that says something only together with these.
ALONG = {
    "resource_external_id": {"organization_id", "resource_type_slug"},
    "parent_external_id": {"organization_id", "parent_resource_type_slug"},
    "parent_resource_external_id": {"parent_resource_type_slug", "permission_slug"},
    "parent_resource_type_slug": {"organization_id", "parent_external_id", "parent_resource_external_id", "permission_slug"},
    "parent_resource_id": {"permission_slug"},
    "permission_slug": {"parent_resource_id"},
    "assignment": {"permission_slug"},
    "statuses": {"organization_id"},
}
# These answer nothing without any (contract 1.6, 6.8).
NEVER_WITHOUT_FILTER = {
    "GET /user_management/organization_memberships",
    "GET /authorization/organization_memberships/{organization_membership_id}/resources",
}


def meaning(operation: Operation, slot: Slot) -> str:
    if slot.grant and slot.name not in ("client_id", "client_secret", "grant_type", "organization_id"):
        return f"{slot.grant} {slot.name}"
    told = f"{operation} {slot.where} {slot.name}"
    return next((means for pattern, means in MEANINGS if pattern.search(told)), re.sub("([A-Z])", r"_\1", slot.last).lower())


@dataclass
class Tenant:
    """An organization with its people and things. `marker` is part of every name, slug and address it was given."""

    server: Server
    api_key: str
    client_id: str
    environment: str
    marker: str = field(default_factory=lambda: f"mk{secrets.token_hex(4)}")
    environment_marker: str = field(default_factory=lambda: f"me{secrets.token_hex(4)}")  # of what is no organization's
    refs: dict[str, Any] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)  # what opens nothing by itself
    shared: set[str] = field(default_factory=set)  # what of SHARED it has
    access_token: str = ""

    @property
    def password(self) -> str:
        return f"{PASSWORD} {self.marker}"

    def texts(self, of_organization: bool = False) -> set[str]:
        """What tells of this tenant and of nobody else; or of its organization alone, and not of the environment."""
        refs = {name: ref for name, ref in self.refs.items() if not (of_organization and name in OF_ENVIRONMENT)}
        ids = {v for ref in refs.values() for v in (ref if isinstance(ref, list) else [ref]) if re.search("_[0-9A-Z]{26}$", v)}
        return {self.marker} | (set() if of_organization else {self.environment_marker}) | ids - {self.client_id}

    def value(self, operation: Operation, slot: Slot, twin: bool = False) -> Any:
        """What this tenant puts there, or None."""
        means = meaning(operation, slot)
        if twin and means in self.shared:
            return SHARED[means]
        if means == "grant_type":
            return slot.grant
        known = {"client_secret": self.api_key, **FRESH, **self.data, **self.refs}
        found = known.get(means)
        return [found] if slot.is_list and found is not None and not isinstance(found, list) else found

    def foreign_values(self, operation: Operation, slot: Slot, caller: Tenant) -> list[Any]:
        """What a caller might put there to reach this tenant. Nothing for what is only data."""
        means = meaning(operation, slot)
        if means not in self.refs:
            return []
        # A place may take things of several kinds.
        more = {
            "flag_target": ["organization_id"],
            "resource_id": ["root_resource_id"],
            "parent_resource_id": ["root_resource_id"],
            "organization_role_slug": ["environment_role_slug"] if caller.environment != self.environment else [],
            "organization_role_slugs": ["environment_role_slug"] if caller.environment != self.environment else [],
        }
        values = [self.refs[m] for m in (means, *more.get(means, []))]
        return [[v] if slot.is_list and not isinstance(v, list) else v for v in values]


def choices(operation: Operation) -> list[list[Slot]]:
    """The ways to fill in a request: all places, with either the one or the other where both would be too much."""
    if any(slot.name == "grant_type" for slot in operation.slots):
        always = {"client_id", "client_secret", "grant_type"}
        return [
            [replace(slot, grant=grant) for slot in operation.slots if slot.name in always | fields] for grant, fields in GRANTS.items()
        ]
    ways = [operation.slots]
    for one, other in EITHER:
        for where in ("query", "body"):
            names = {name for slot in operation.slots if slot.where == where and not slot.required for name in (slot.last, _outer(slot))}
            if not names & one or not names & other:
                continue
            # A parent's place is named like the place itself: each pair is told apart by its own words.
            ways = [
                [slot for slot in way if slot.where != where or slot.required or not (slot.last in dropped or _outer(slot) in dropped)]
                for way in ways
                for dropped in (other, one)
            ]
    # Filters are asked alone, too, and left out altogether: each way finds its rows by another statement.
    for way in list(ways) if operation.method == "GET" else []:
        optional = [slot for slot in way if slot.where == "query" and not slot.required]
        kept = [slot for slot in way if slot not in optional]
        by_name = {slot.last: slot for slot in optional}
        for slot in optional:
            ways.append([*kept, *(by_name[name] for name in sorted({slot.last, *ALONG.get(slot.last, set())} & by_name.keys()))])
        if optional and str(operation) not in NEVER_WITHOUT_FILTER:
            ways.append(kept)
    unique: list[list[Slot]] = []
    for way in ways:
        if way not in unique:
            unique.append(way)
    return unique


def _outer(slot: Slot) -> str:
    return slot.name.split(".")[0].removesuffix("[]")


def build(operation: Operation, way: list[Slot], tenant: Tenant, instead: dict[Slot, Any] | None = None, twin: bool = False) -> Request:
    """The request as this tenant would make it, with other values in some places."""
    path, query, body, sent = operation.path, {}, {} if operation.body is not None else None, []
    for slot in way:
        value = (instead or {}).get(slot)
        value = tenant.value(operation, slot, twin) if value is None else value
        if value is None:
            assert not slot.required, f"{operation}: nothing is known for {slot.where} {slot.name}"
            continue
        sent += [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, str)]
        if slot.where == "path":
            path = path.replace(f"{{{slot.name}}}", httpx.URL(path="/" + value).raw_path.decode()[1:].replace("/", "%2F"))
        elif slot.where == "query":
            query[slot.name] = ",".join(value) if isinstance(value, list) else value
        else:
            assert body is not None
            place(body, slot.name, value)
    return Request(operation, path, query, body, sent)


def make_tenant(server: Server, api_key: str, client_id: str, environment: str, neighbour: Tenant | None = None) -> Tenant:
    """One of everything, over the API. The first of an environment also makes what SHARED names there, and the type of its resources."""
    tenant = Tenant(server, api_key, client_id, environment)
    Maker(tenant, neighbour).make()
    return tenant


class Maker:
    def __init__(self, tenant: Tenant, neighbour: Tenant | None) -> None:
        self.tenant, self.neighbour, self.first, self.refs = tenant, neighbour, neighbour is None, tenant.refs
        self.mark, self.common = tenant.marker, tenant.environment_marker
        self.http = open_client(base_url=tenant.server.url, headers={"authorization": f"Bearer {tenant.api_key}"})

    def post(self, path: str, body: dict[str, Any], method: str = "POST") -> dict[str, Any]:
        answer = self.http.request(method, path, json=body)
        assert answer.status_code < 300, f"{method} {path} {body}: {answer.status_code} {answer.text}"
        return dict(answer.json()) if answer.content else {}

    def make(self) -> None:
        self.refs["client_id"] = self.tenant.client_id
        self.make_environment()
        self.make_organization()
        self.make_people()
        self.make_resources()
        self.make_group()
        self.make_audit_log()
        if not self.first:
            self.make_lookalikes()
        self.make_keys()
        self.make_webhooks()
        self.make_factors()
        self.make_radar()
        self.make_codes()
        self.make_sign_ins()
        self.http.close()

    def make_environment(self) -> None:
        """What is not of an organization. Every tenant has some of its own, by which a foreigner is known."""
        if self.neighbour:
            kind = self.neighbour.refs["resource_type_slug"]
        else:
            kind = f"kind-{self.common}"
            self.post("/authorization/resource_types", {"slug": kind, "parent_type_slugs": ["organization", kind]})
        unused = [f"unused-{self.common}", SHARED["unused_resource_type_slug"]][: 1 + self.first]
        permissions = [f"{name}:{self.common}" for name in ("read", "write")] + [SHARED["permission_slug"]][: self.first]
        roles = [f"auditor-{self.common}", SHARED["environment_role_slug"]][: 1 + self.first]
        everybody = {"slug": f"everybody-{self.common}", "name": f"Everybody {self.common}", "enabled": True, "default_value": True}
        self.post("/feature-flags", everybody)
        flags = [f"flag-{self.mark}", SHARED["flag_slug"]][: 1 + self.first]
        for slug in unused:
            self.post("/authorization/resource_types", {"slug": slug})
        for slug in permissions:
            self.post("/authorization/permissions", {"slug": slug, "name": f"Permission {self.common}"})
        document = {"slug": f"open:{self.common}", "name": f"Open {self.common}", "resource_type_slug": kind}
        self.post("/authorization/permissions", document)
        for slug in roles:
            self.post("/authorization/roles", {"slug": slug, "name": f"Auditor {self.common}"})
        if self.first:  # every member has this role, in either environment
            self.post("/authorization/roles/member/permissions", {"slug": permissions[0]})
        for slug in flags:
            self.post("/feature-flags", {"slug": slug, "name": f"Flag {self.mark}", "enabled": True})
        for number in range(2):  # the first of an environment is its default, which stays
            uri = self.post("/user_management/redirect_uris", {"uri": f"https://{self.common}.example.com/callback/{number}"})
        origin = self.post("/user_management/cors_origins", {"origin": f"https://{self.common}.example.com"})
        self.tenant.data |= {"taken_uri": uri["uri"], "taken_origin": origin["origin"]}
        if self.first:
            self.post("/user_management/jwt_template", {"content": f'{{"tenant": "{self.common}"}}'}, "PUT")
        self.refs |= {
            "resource_type_slug": kind,
            "unused_resource_type_slug": unused[0],
            "permission_slug": permissions[0],
            "other_permission_slug": permissions[1],
            "permission_slugs": permissions[:2],
            "document_permission_slug": document["slug"],
            "environment_role_slug": roles[0],
            "flag_slug": flags[0],
            "redirect_uri_id": uri["id"],
        }
        streams = f"/shared_signals/{self.tenant.client_id}/streams"
        self.refs["ssf_stream_id"] = self.post(streams, {"description": f"Stream {self.common}"})["stream_id"]
        self.tenant.shared = set(SHARED)

    def make_organization(self) -> None:
        verified, name = f"verified-{self.mark}.example.com", f"Organization {self.mark}"
        external = f"external-{self.mark}"
        body = {"name": name, "external_id": external, "metadata": {"mark": self.mark}}
        organization = self.post("/organizations", {**body, "domain_data": [{"domain": verified, "state": "verified"}]})["id"]
        domain = self.post("/organization_domains", {"domain": f"pending-{self.mark}.example.com", "organization_id": organization})
        roles = f"/authorization/organizations/{organization}/roles"
        own, held, free = (f"org-{name}-{self.mark}" for name in ("own", "held", "free"))
        for slug in (own, SHARED["organization_role_slug"]):
            self.post(roles, {"slug": slug, "name": f"Role {self.mark}"})
        for slug in (held, free):
            self.post(roles, {"slug": slug, "name": f"Role {self.mark}", "resource_type_slug": self.refs["resource_type_slug"]})
        granted = [self.refs["permission_slug"], *[SHARED["permission_slug"]][: self.first]]
        for slug in (own, SHARED["organization_role_slug"]):
            self.post(f"{roles}/{slug}/permissions", {"permissions": granted}, "PUT")
        for slug in (held, free):
            self.post(f"{roles}/{slug}/permissions", {"permissions": [self.refs["document_permission_slug"]]}, "PUT")
        self.make_target(organization)
        self.refs |= {
            "organization_id": organization,
            "organization_name": name,
            "organization_external_id": external,
            "organization_domain_id": domain["id"],
            "verified_domains": [verified],
            "verified_domain": verified,
            "organization_role_slug": own,
            "organization_role_slugs": [own],
            "held_role_slug": held,
            "document_role_slug": free,
            "root_resource_id": "authz_resource_" + organization.removeprefix("org_"),
        }

    def make_user(self, label: str, **more: Any) -> tuple[str, str]:
        email = f"{label}-{self.mark}@example.test"
        body = {"email": email, "password": self.tenant.password, "email_verified": True, "first_name": f"{label} {self.mark}", **more}
        return str(self.post("/user_management/users", body)["id"]), email

    def join(self, user: str, organization: str) -> str:
        body = {"user_id": user, "organization_id": organization}
        return str(self.post("/user_management/organization_memberships", body)["id"])

    def make_target(self, who: str) -> None:
        for flag in [self.refs["flag_slug"], SHARED["flag_slug"]][: 1 + self.first]:
            self.post(f"/feature-flags/{flag}/targets/{who}", {})

    def make_people(self) -> None:
        organization = self.refs["organization_id"]
        member, email = self.make_user("member", external_id=f"person-{self.mark}", metadata={"mark": self.mark})
        grouped, _ = self.make_user("grouped")
        newcomer, invited = self.make_user("newcomer")
        unverified, _ = self.make_user("unverified", email_verified=False)
        changing, _ = self.make_user("changing")
        place = {"organization_id": organization, "role_slug": self.refs["organization_role_slug"]}
        invitation = self.post("/user_management/invitations", {"email": invited, "inviter_user_id": member, **place})
        self.post("/user_management/invitations", {"email": FRESH["guest_email"], "organization_id": organization})
        self.make_target(member)
        self.refs |= {
            "user_id": member,
            "email": email,
            "user_external_id": f"person-{self.mark}",
            "flag_target": member,
            "organization_membership_id": self.join(member, organization),
            "grouped_membership_id": self.join(grouped, organization),
            "newcomer_user_id": newcomer,
            "invited_email": invited,
            "unverified_user_id": unverified,
            "changing_user_id": changing,
            "invitation_id": invitation["id"],
            "invitation_token": invitation["token"],
        }
        self.refs |= {
            "added_membership_ids": [self.refs["organization_membership_id"]],
            "removed_membership_ids": [self.refs["grouped_membership_id"]],
        }

    def make_resources(self) -> None:
        organization, kind = self.refs["organization_id"], self.refs["resource_type_slug"]
        name = f"Document {self.mark}"
        where = {"organization_id": organization, "resource_type_slug": kind, "name": name}
        folder = self.post("/authorization/resources", {**where, "external_id": f"folder-{self.mark}"})["id"]
        document = {**where, "external_id": f"document-{self.mark}", "parent_resource_id": folder}
        resource = self.post("/authorization/resources", document)["id"]
        self.post("/authorization/resources", {**where, "external_id": SHARED["resource_external_id"], "parent_resource_id": folder})
        roles = f"/authorization/organization_memberships/{self.refs['organization_membership_id']}/role_assignments"
        given = {"role_slug": self.refs["held_role_slug"]}
        assignment = self.post(roles, {**given, "resource_id": resource})
        self.post(roles, {**given, "resource_type_slug": kind, "resource_external_id": SHARED["resource_external_id"]})
        self.refs |= {
            "resource_id": resource,
            "resource_external_id": document["external_id"],
            "parent_resource_id": folder,
            "parent_resource_external_id": f"folder-{self.mark}",
            "role_assignment_id": assignment["id"],
        }

    def make_group(self) -> None:
        groups = f"/organizations/{self.refs['organization_id']}/groups"
        name = f"Group {self.mark}"
        group = self.post(groups, {"name": name})["id"]
        self.post(f"{groups}/{group}/organization-memberships", {"organization_membership_id": self.refs["grouped_membership_id"]})
        roles, held = f"/authorization/groups/{group}/role_assignments", {"role_slug": self.refs["held_role_slug"]}
        assignment = self.post(roles, {**held, "resource_id": self.refs["resource_id"]})
        shared = {"resource_type_slug": self.refs["resource_type_slug"], "resource_external_id": SHARED["resource_external_id"]}
        self.post(roles, {**held, **shared})
        self.refs |= {"group_id": group, "group_name": name, "group_role_assignment_id": assignment["id"]}

    def make_audit_log(self) -> None:
        """Two actions, so that a list of them has a second page; an event; and an export whose file is made."""
        for name in (f"other.{self.common}", f"thing.{self.common}"):
            for kinds in (["invoice"], ["invoice", "team"]):
                self.post(f"/audit_logs/actions/{name}/schemas", {"targets": [{"type": kind} for kind in kinds]})
        organization = {"organization_id": self.refs["organization_id"]}
        actor = {"id": self.refs["user_id"], "type": "user", "name": f"Actor {self.mark}"}
        event = {"action": name, "occurred_at": datetime.now(timezone.utc).isoformat(), "actor": actor, "context": {"location": self.mark}}
        self.post("/audit_logs/events", {**organization, "event": {**event, "targets": [{"id": self.mark, "type": "invoice"}]}})
        span = {name: FRESH[name] for name in ("range_start", "range_end")}
        export = self.post("/audit_logs/exports", {**organization, **span})["id"]
        deadline = time.monotonic() + 30
        while self.http.get(f"/audit_logs/exports/{export}").json()["state"] == "pending":
            assert time.monotonic() < deadline, "the export is not made"
            time.sleep(0.1)
        self.refs |= {"audit_log_action": name, "audit_log_export_id": export}

    def make_lookalikes(self) -> None:
        """What would stand in the way of another organization's call that forgot to say whose rows it means."""
        membership = f"/user_management/organization_memberships/{self.refs['grouped_membership_id']}"
        self.post(membership, {"role_slug": SHARED["organization_role_slug"]}, "PUT")
        invitation = {"email": FRESH["new_email"], "organization_id": self.refs["organization_id"]}
        self.post("/user_management/invitations", invitation)

    def make_keys(self) -> None:
        body = {"name": f"Key {self.mark}", "permissions": [self.refs["permission_slug"]]}
        key = self.post(f"/organizations/{self.refs['organization_id']}/api_keys", body)
        body["organization_id"] = self.refs["organization_id"]
        users = self.post(f"/user_management/users/{self.refs['user_id']}/api_keys", body)
        self.refs |= {"api_key_id": key["id"], "api_key_value": key["value"]}
        stream = {"name": f"Stream {self.mark}", "organization_id": self.refs["organization_id"], "state": "inactive"}
        stream["sources"] = FRESH["log_stream_sources"]
        destination = {"type": "GenericHttps", "url": f"http://127.0.0.1:9/{self.mark}"}
        self.refs["log_stream_id"] = self.post("/log_streams", {**stream, "destination": destination})["id"]
        self.tenant.data["user_api_key_value"] = users["value"]
        acting = {"impersonator_email": FRESH["supporter_email"], "reason": f"Reason {self.mark}", "redirect_uri": FRESH["loopback_uri"]}
        acting["organization_id"] = self.refs["organization_id"]
        self.refs["impersonation_id"] = self.post(f"/user_management/users/{self.refs['user_id']}/impersonations", acting)["id"]

    def make_webhooks(self) -> None:
        """Endpoints where nobody listens, and two deliveries that are waiting for their next try."""
        body = {"endpoint_url": f"http://127.0.0.1:9/{self.mark}", "events": ["permission.created"]}
        endpoint = self.post("/webhook_endpoints", body)["id"]
        self.post("/webhook_endpoints", {"endpoint_url": f"http://127.0.0.1:9/other-{self.mark}", "events": FRESH["webhook_events"]})
        for number in range(2):
            self.post("/authorization/permissions", {"slug": f"told-{number}:{self.mark}", "name": f"Told {self.common}"})
        deadline = time.monotonic() + 30
        while (
            len(tried := [d for d in self.http.get(f"/webhook_endpoints/{endpoint}/deliveries").json()["data"] if d["attempt_count"]]) < 2
        ):
            assert time.monotonic() < deadline, "nothing is delivered"
            time.sleep(0.1)
        # No more of them, so that rows stay as they are while others are compared.
        self.post(f"/webhook_endpoints/{endpoint}", {"events": FRESH["webhook_events"]}, "PATCH")
        self.refs |= {"webhook_endpoint_id": endpoint, "webhook_delivery_id": tried[0]["id"]}

    def make_factors(self) -> None:
        """A factor that is no user's, one that nobody has verified, and a sign-in that waits for a code by message."""
        factor = self.post("/auth/factors/enroll", {"type": "generic_otp"})["id"]
        asked = self.post(f"/auth/factors/{factor}/challenge", {})
        self.post(f"/user_management/users/{self.refs['user_id']}/auth_factors", {"type": "totp"})
        guarded, email = self.make_user("guarded")
        number = f"+49151{secrets.randbelow(10**8):08}"
        phone = self.post("/auth/factors/enroll", {"type": "sms", "phone_number": number, "user_id": guarded})["id"]
        proof = self.post(f"/auth/factors/{phone}/challenge", {})["id"]
        self.post(f"/auth/challenges/{proof}/verify", {"code": self.tenant.server.take_code(number)})
        waiting = self.authenticate(grant_type="password", email=email, password=self.tenant.password)
        assert waiting["code"] == "mfa_challenge", waiting
        challenge = self.post(f"/auth/factors/{phone}/challenge", {})["id"]
        self.tenant.data["auth_challenge_code"] = asked["code"]
        self.refs |= {
            "factor_id": factor,
            "auth_challenge_id": asked["id"],
            f"{URN}mfa-totp code": self.tenant.server.take_code(number),
            f"{URN}mfa-totp pending_authentication_token": waiting["pending_authentication_token"],
            f"{URN}mfa-totp authentication_challenge_id": challenge,
        }

    def make_radar(self) -> None:
        """An assessment, an entry of a list, and two sign-ins that wait: for a mailed code, and for one by message."""
        assessed = {"ip_address": "192.0.2.1", "user_agent": "Mozilla/5.0", "auth_method": "SSO", "action": "sign-in"}
        attempt = self.post("/radar/attempts", {**assessed, "email": f"assessed-{self.mark}@example.test"})["attempt_id"]
        entry = f"device {self.common}"
        self.post("/radar/lists/device/block", {"entry": entry})
        _, tried = self.make_user("tried")
        by_password = {"grant_type": "password", "password": self.tenant.password}
        # Once before, or the account would be one that is just begun.
        self.authenticate(**by_password, email=tried)
        for _ in range(3):
            self.authenticate(grant_type="password", email=tried, password="not this one")
        stopped = self.authenticate(**by_password, email=tried)
        assert stopped["code"] == "radar_challenge", stopped
        challenge = self.http.get(f"/user_management/radar_challenges/{stopped['radar_challenge_id']}").json()
        local, domain = self.make_user("again")[1].split("@")
        self.authenticate(**by_password, email=f"{local}@{domain}")
        again = f"{local}+2@{domain}"
        body = {"email": again, "password": self.tenant.password, "email_verified": True}
        signing_up = self.post("/user_management/users", body)["id"]
        waiting = self.authenticate(**by_password, email=again)
        assert waiting["code"] == "radar_sign_up_challenge", waiting
        number = f"+49152{secrets.randbelow(10**8):08}"
        of_sign_up = {"user_id": signing_up, "pending_authentication_token": waiting["pending_authentication_token"]}
        sent = self.post("/user_management/radar_challenges", {**of_sign_up, "phone_number": number})
        by_email, by_sms = f"{URN}radar-email-challenge:code", f"{URN}radar-sms-challenge:code"
        self.tenant.data |= {"signing_up_number": number, f"{by_sms} phone_number": number}
        self.refs |= {
            "radar_attempt_id": attempt,
            "radar_list_entry": entry,
            "radar_challenge_id": challenge["id"],
            f"{by_email} radar_challenge_id": challenge["id"],
            f"{by_email} pending_authentication_token": stopped["pending_authentication_token"],
            f"{by_email} code": challenge["code"],
            "signing_up_user_id": signing_up,
            "signing_up_token": waiting["pending_authentication_token"],
            f"{by_sms} pending_authentication_token": waiting["pending_authentication_token"],
            f"{by_sms} verification_id": sent["verification_id"],
            f"{by_sms} code": self.tenant.server.take_code(number),
        }

    def make_codes(self) -> None:
        magic = self.post("/user_management/magic_auth", {"email": self.refs["email"]})
        reset = self.post("/user_management/password_reset", {"email": self.refs["email"]})
        new = f"changed-{self.mark}@example.test"
        self.post(f"/user_management/users/{self.refs['changing_user_id']}/email_change/send", {"new_email": new})
        self.refs |= {
            "magic_auth_id": magic["id"],
            f"{URN}magic-auth:code email": self.refs["email"],
            f"{URN}magic-auth:code code": magic["code"],
            "password_reset_id": reset["id"],
            "password_reset_token": reset["password_reset_token"],
            "email_change_code": self.tenant.server.take_code(new),
        }

    def authenticate(self, **fields: str) -> dict[str, Any]:
        client = {"client_id": self.tenant.client_id, "client_secret": self.tenant.api_key}
        answer = self.http.post("/user_management/authenticate", json={**client, **fields})
        return dict(answer.json())

    def make_sign_ins(self) -> None:
        """What a user holds who is signed in, and what one holds half-way."""
        by_password = {"grant_type": "password", "password": self.tenant.password}
        signed_in = self.authenticate(**by_password, email=self.refs["email"])
        self.tenant.access_token = signed_in["access_token"]
        # A second membership, so that an organization must be chosen.
        other = self.post("/organizations", {"name": f"Second {self.mark}"})["id"]
        chooser, choosing = self.make_user("choosing")
        for organization in (other, self.refs["organization_id"]):
            self.join(chooser, organization)
        choice = self.authenticate(**by_password, email=choosing)
        unverified = f"unverified-{self.mark}@example.test"
        proof = self.authenticate(**by_password, email=unverified)
        assert {choice["code"], proof["code"]} == {"organization_selection_required", "email_verification_required"}, (choice, proof)
        verification = self.http.get(f"/user_management/email_verification/{proof['email_verification_id']}").json()
        device = self.post("/user_management/authorize/device", {"client_id": self.tenant.client_id})
        approve_device(self.tenant.server, device["verification_uri"], device["user_code"], self.refs["email"], self.tenant.password)
        code = obtain_code(self.tenant.server, self.refs["email"], self.tenant.password, client_id=self.tenant.client_id)
        _, passkey = make_passkey(self.tenant.server, self.tenant.client_id, self.refs["email"], self.tenant.password, f"Key {self.mark}")
        self.refs["passkey_id"] = passkey["id"]
        self.tenant.data["password password"] = self.tenant.password
        self.refs |= {
            "password email": self.refs["email"],
            "session_id": jwt.decode(signed_in["access_token"], options={"verify_signature": False})["sid"],
            "refresh_token refresh_token": signed_in["refresh_token"],
            f"{URN}organization-selection pending_authentication_token": choice["pending_authentication_token"],
            f"{URN}email-verification:code pending_authentication_token": proof["pending_authentication_token"],
            f"{URN}email-verification:code code": verification["code"],
            "email_verification_id": verification["id"],
            "email_verification_code": verification["code"],
            "authorization_code code": code,
            "urn:ietf:params:oauth:grant-type:device_code device_code": device["device_code"],
        }
