"""The rules an audit applies, and how much each of them weighs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["open", "unverified", "weak"]
LEVELS: dict[Level, int] = {"weak": 0, "unverified": 1, "open": 2}


@dataclass(frozen=True)
class Rule:
    """One rule: ``name`` is its title in code-scanning views, ``help`` says what to do."""

    id: str
    name: str
    level: Level
    summary: str
    help: str


RULES: dict[str, Rule] = {
    rule.id: rule
    for rule in (
        Rule("GW001", "OpenRoute", "open", "The route lets everybody in.", "Add a guard, or declare the route public."),
        Rule(
            "GW002",
            "OptionalAuthentication",
            "unverified",
            "Callers without a credential pass.",
            "Use a guard that refuses, or declare the route public beside the optional guard.",
        ),
        Rule(
            "GW003",
            "OpaqueMount",
            "unverified",
            "The audit cannot look inside what is mounted here.",
            "Protect it where it is mounted, name its wrapper with --guard, or accept it in a baseline.",
        ),
        Rule(
            "GW004",
            "MountNotCovered",
            "open",
            "Dependencies of the parent do not apply inside a mount.",
            "Repeat the dependencies on the mounted app, or include a router instead of mounting.",
        ),
        Rule(
            "GW005",
            "CookieMutationWithoutCsrf",
            "weak",
            "A page of another site can make a signed-in browser call this.",
            "Leave the cross-site check on, or refuse cookie callers.",
        ),
        Rule(
            "GW006",
            "TenantNotBound",
            "weak",
            "The path names a tenant or a person, and no guard compares it with the caller.",
            'Bind it: gw.requires(org="{org_id}"), or check the owner in a dependency.',
        ),
        Rule(
            "GW007",
            "DocsExposed",
            "open",
            "The API description is open to everybody.",
            "Pass docs_url=None, redoc_url=None, openapi_url=None, or allow it with --docs open.",
        ),
        Rule(
            "GW008",
            "Unverified",
            "unverified",
            "Something here looks like a guard, but nobody declared it to be one.",
            "Declare it with --guard module:function, or let --probe settle it.",
        ),
        Rule(
            "GW009",
            "AdminWithoutAuthorization",
            "weak",
            "The path looks like administration, and being signed in is enough.",
            "Demand a role or a permission: gw.requires(role=…).",
        ),
        Rule(
            "GW010",
            "ScopesNotChecked",
            "weak",
            "Scopes are named with Security(…), but the guard never reads them.",
            "Demand them in the guard: gw.requires(scopes=[…]), or take SecurityScopes in it.",
        ),
        Rule(
            "GW011",
            "NewPublicRoute",
            "unverified",
            "A public route that nobody has reviewed yet.",
            "Review it and write the baseline again.",
        ),
        Rule(
            "GW012",
            "GuardWeakened",
            "unverified",
            "The route demanded more when the baseline was written.",
            "Restore the demand, or review it and write the baseline again.",
        ),
        Rule(
            "GW013",
            "LetThrough",
            "open",
            "The probe reached the endpoint without a valid credential.",
            "Mend the guard: it must raise for this request.",
        ),
        Rule("GW014", "GuardOverridden", "open", "app.dependency_overrides replaces the guard.", "Set overrides in tests only."),
    )
}
