"""Reads a dependency tree: which guards run before the endpoint, and what else may be one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from .._facts import GuardFacts
from .callables import authorizes, name_of
from .guards import Guards, Suspect, is_security_scheme, reads_cookie
from .model import GuardUse


@dataclass
class Reading:
    """What one dependency tree holds."""

    guards: list[GuardUse] = field(default_factory=list)
    suspects: list[Suspect] = field(default_factory=list)
    overridden: list[str] = field(default_factory=list)
    """Guards that ``app.dependency_overrides`` replaces."""
    unread_scopes: list[str] = field(default_factory=list)
    """Scopes of ``Security(...)`` on a guard that does not take them."""
    checks: bool = False
    """A dependency of the app's own stands on a guard and can answer 403."""
    checked_parameters: set[str] = field(default_factory=set)
    """Path parameters that such a dependency reads."""


def read_dependencies(dependant: Any, guards: Guards, overrides: dict[Any, Any]) -> Reading:
    """Walks the tree below a route; the endpoint itself (the root's call) is not judged here."""
    reading = Reading()
    for child in dependant.dependencies:
        _visit(child, reading, guards, overrides, under_endpoint=True)
    return reading


def scopes_of(dependant: Any) -> tuple[str, ...]:
    """The scopes that reach a dependency; three generations of FastAPI keep them in three places."""
    scopes: list[str] = []
    for name in ("parent_oauth_scopes", "own_oauth_scopes", "security_scopes"):
        scopes += [scope for scope in getattr(dependant, name, None) or () if scope not in scopes]
    return tuple(scopes)


def _visit(dependant: Any, reading: Reading, guards: Guards, overrides: dict[Any, Any], under_endpoint: bool) -> bool:
    """Returns whether a guard that refuses strangers is here or below."""
    call = dependant.call
    override = _override_of(call, overrides)
    if override is not None:
        before = guards.find_guard(call)
        call = override
        after = guards.find_guard(call)
        if isinstance(before, GuardUse) and before.type != "public" and not isinstance(after, GuardUse):
            reading.overridden.append(f"{before.name} is replaced by {name_of(override)}")
            return False
    found = guards.recognise(call)
    if isinstance(found, GuardUse):
        if found.facts is not None and found.type != "public" and (stand_in := _stand_in(overrides)) is not None:
            reading.overridden.append(f"{found.name} is replaced by {name_of(stand_in)}")
            return False
        scopes = scopes_of(dependant)
        if scopes and not _reads_scopes(dependant):
            reading.unread_scopes += [scope for scope in scopes if found.facts is None or scope not in found.facts.scopes]
            scopes = ()
        reading.guards.append(
            replace(found, scopes=scopes, authorizes=found.authorizes or bool(scopes), cookie_scheme=_any_cookie(dependant))
        )
        if found.facts is None:
            # A declared guard may stand on another one, or take a role from its caller: its own demands stay visible.
            for child in dependant.dependencies:
                below = guards.recognise(child.call)
                if isinstance(below, GuardUse):
                    _visit(child, reading, guards, overrides, under_endpoint=False)
        return found.refuses_strangers
    guarded_below = False
    for child in dependant.dependencies:
        guarded_below = _visit(child, reading, guards, overrides, under_endpoint=False) or guarded_below
    if guarded_below:
        # A known guard below: whatever the app does above it can only demand more.
        reading.checks = reading.checks or authorizes(call)
        reading.checked_parameters |= {parameter.alias for parameter in dependant.path_params}
        return True
    scheme_below = any(is_security_scheme(child.call) for child in dependant.dependencies)
    if isinstance(found, Suspect):
        if found.harmless and not under_endpoint:
            return False  # the function above it decides, and is itself a suspect
        reading.suspects.append(found)
    elif scheme_below:
        reading.suspects.append(Suspect(name_of(call), "nobody declared it to be a guard"))
    return False


def _override_of(call: Any, overrides: dict[Any, Any]) -> Any | None:
    try:
        return overrides.get(call)
    except TypeError:  # unhashable
        return None


def _stand_in(overrides: dict[Any, Any]) -> Any | None:
    """Overriding ``gw.principal`` puts another caller behind every guard of Gatewright."""
    return next((override for key, override in overrides.items() if getattr(key, "facts", None) == GuardFacts("principal")), None)


def _reads_scopes(dependant: Any) -> bool:
    return getattr(dependant, "security_scopes_param_name", None) is not None or any(
        _reads_scopes(child) for child in dependant.dependencies
    )


def _any_cookie(dependant: Any) -> bool:
    return reads_cookie(dependant.call) or any(_any_cookie(child) for child in dependant.dependencies)
