"""Guarded, but weakly: rules that warn."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .callables import can_forbid, innermost
from .dependencies import Reading
from .model import AuditedRoute, Finding, GuardUse
from .walk import Entrance

UNSAFE = frozenset(("POST", "PUT", "PATCH", "DELETE", "*", "WS"))
ADMIN = re.compile(r"(^|/)(_?admin|administration|backoffice|superuser|sudo|staff|internal|debug|management)(/|$)", re.IGNORECASE)
TENANT = re.compile(r"^(org|organi[sz]ation|tenant|workspace|company|customer)(_?(id|slug|name|key))?$", re.IGNORECASE)
PERSON = re.compile(r"^(user|owner|member|person)(_?(id|name))?$|^(user|owner)id$", re.IGNORECASE)


def find_weaknesses(route: AuditedRoute, reading: Reading, entrance: Entrance) -> Iterator[Finding]:
    """Warnings about a route that strangers cannot enter."""
    if route.verdict == "public" and ADMIN.search(route.path):
        yield Finding(
            "GW009", f"{route.key} is declared public, and its path looks like administration: demand a role or a permission", route
        )
    if route.verdict != "guarded":
        return
    strict = [use for use in route.guards if use.refuses_strangers]
    # A 403 in the endpoint is a check of its own; guards cannot be read more finely than that without running them.
    own_check = reading.checks or (entrance.endpoint is not None and can_forbid(innermost(entrance.endpoint)))
    if UNSAFE.intersection(route.methods) and (cause := _lets_forged_requests_in(strict)):
        yield Finding(
            "GW005",
            f"{route.key} changes state for callers by cookie, and {cause}: leave the cross-site check on, or refuse cookie callers",
            route,
        )
    if ADMIN.search(route.path) and not own_check and not any(use.authorizes for use in strict):
        yield Finding(
            "GW009", f"{route.key} looks like administration, and being signed in is enough: demand a role or a permission", route
        )
    for name in entrance.parameters:
        if own_check or name in reading.checked_parameters:
            continue
        if TENANT.search(name) and not any(_binds(use, name) for use in strict):
            yield Finding(
                "GW006", f'{route.key} never compares {{{name}}} with the caller: bind it with gw.requires(org="{{{name}}}")', route
            )
        elif PERSON.search(name) and not any(use.authorizes for use in strict):
            yield Finding(
                "GW006",
                f"{route.key} never compares {{{name}}} with the caller: check the owner in a dependency, or demand a permission",
                route,
            )
    if reading.unread_scopes:
        scopes = ", ".join(dict.fromkeys(reading.unread_scopes))
        yield Finding("GW010", f"{route.key} names the scopes {scopes}, which its guard never reads: demand them in the guard", route)


def _lets_forged_requests_in(strict: list[GuardUse]) -> str | None:
    if any(use.facts is not None and (use.facts.csrf or not use.facts.cookies) for use in strict):
        return None  # one guard that refuses them is enough
    if any(use.facts is not None for use in strict):
        return "its guard has the cross-site check off"
    if any(use.cookie_scheme for use in strict):
        return "no cross-site check can be seen in its guard"
    return None


def _binds(use: GuardUse, parameter: str) -> bool:
    return use.facts is not None and use.facts.organization == f"{{{parameter}}}"
