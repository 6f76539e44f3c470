"""From entrances to verdicts and findings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from .._guards import OPEN_MARK
from .callables import layers, looks_like_security, name_of
from .dependencies import Reading, read_dependencies
from .guards import Guards, Suspect, read_guard_middleware
from .model import AuditedRoute, Finding, GuardUse, Location, Verdict
from .patterns import Patterns
from .walk import Entrance, Wrapper
from .weak import find_weaknesses

Docs = Literal["open", "guarded"]


@dataclass
class Judged:
    """One route with what was found on it."""

    entrance: Entrance
    route: AuditedRoute
    findings: list[Finding] = field(default_factory=list)


def judge(entrances: Iterable[Entrance], guards: Guards, public: Patterns, docs: Docs) -> list[Judged]:
    """A verdict for every entrance. Findings about a mount as a whole stand with the first route inside it that is not covered."""
    entrances = list(entrances)
    public.bind({entrance.path for entrance in entrances if entrance.kind in ("static", "mount")})
    judged = [_judge(entrance, guards, public, docs) for entrance in entrances]
    _find_uncovered_mounts(judged, guards)
    return judged


def _judge(entrance: Entrance, guards: Guards, public: Patterns, docs: Docs) -> Judged:
    reading = read_dependencies(entrance.dependant, guards, entrance.overrides) if entrance.dependant is not None else Reading()
    if getattr(entrance.endpoint, OPEN_MARK, False):
        # The routes of signing in: Gatewright's own guards on the whole app or a router step aside there.
        reading.guards = [replace(use, optional=True) if use.facts is not None else use for use in reading.guards]
    uses, suspects = list(reading.guards), list(reading.suspects)
    if entrance.endpoint is not None:
        decorator = guards.find_decorator(entrance.endpoint)
        if isinstance(decorator, GuardUse):
            uses.append(decorator)
        elif decorator is not None:
            suspects.append(decorator)
    remarks = _read_wrappers(entrance, guards, uses, suspects)
    uses = list(dict.fromkeys(uses))
    strict = [use for use in uses if use.refuses_strangers]
    declared = next((use for use in uses if use.type == "public"), None)
    pattern = public.find(entrance.methods, entrance.path) if not strict else None
    reasons: list[str] = []
    verdict: Verdict
    rule: str | None = None
    if strict:
        verdict = "guarded"
        reasons += ["declared public, but a guard still applies"] if declared else []
    elif declared or pattern is not None:
        verdict = "public"
        reasons.append("declared with gw.public" if declared else f"declared by the pattern {pattern}")
    elif entrance.kind == "framework":
        verdict = "framework" if docs == "open" else "open"
        rule = None if docs == "open" else "GW007"
    elif any(use.optional for use in uses):
        verdict, rule = "optional", "GW002"
        reasons.append(f"{', '.join(use.name for use in uses)}: callers without a credential pass")
    elif suspects and all(suspect.void for suspect in suspects):
        verdict, rule = "open", "GW001"
        reasons += ["no guard that runs", *(f"{suspect.name}: {suspect.why}" for suspect in suspects)]
    elif suspects and all(suspect.harmless for suspect in suspects):
        verdict, rule = "optional", "GW002"
        reasons += [f"{suspect.name}: {suspect.why}" for suspect in suspects]
    elif suspects:
        verdict, rule = "unverified", "GW008"
        reasons += [f"{suspect.name}: {suspect.why}" for suspect in suspects if not suspect.harmless]
    elif entrance.opaque is not None:
        verdict, rule = "opaque", "GW003"
        reasons.append(entrance.opaque)
    else:
        verdict, rule = "open", "GW001"
        reasons.append("static files" if entrance.kind == "static" else "no guard among its dependencies")
    if reading.overridden:
        reasons += reading.overridden
        rule = None if verdict in ("guarded", "public") else "GW014"
    if verdict != "guarded":
        reasons += remarks
    route = AuditedRoute(
        methods=entrance.methods,
        path=entrance.path,
        kind=entrance.kind,
        verdict=verdict,
        guards=tuple(uses),
        location=entrance.location,
        via=tuple(step.words for step in entrance.via),
        reasons=(*reasons, *entrance.notes),
        included_at=_included_at(entrance),
    )
    findings = [Finding(rule, _message(rule, route, suspects), route)] if rule is not None else []
    findings += find_weaknesses(route, reading, entrance)
    if reading.overridden and rule != "GW014":
        findings.append(Finding("GW014", f"{reading.overridden[0]} in app.dependency_overrides: set overrides in tests only", route))
    return Judged(entrance, route, findings)


def _included_at(entrance: Entrance) -> Location | None:
    if entrance.location is None or entrance.location.is_own:
        return None
    return next((step.at for step in reversed(entrance.via) if step.at is not None and step.at.is_own), None)


def _read_wrappers(entrance: Entrance, guards: Guards, uses: list[GuardUse], suspects: list[Suspect]) -> list[str]:
    """Guards among middleware go to ``uses``, look-alikes to ``suspects``; returns remarks for routes that stay open."""
    remarks: list[str] = []
    for wrapper in entrance.wrappers:
        found = _find_in_wrapper(wrapper, guards)
        blind = entrance.kind == "websocket" and not wrapper.websockets
        if found is None and not _wrapper_looks_secure(wrapper):
            continue
        name = name_of(wrapper.target)
        if blind:
            remarks.append(f"middleware {name} never sees WebSockets")
        elif isinstance(found, GuardUse):
            uses.append(found)
        else:
            suspects.append(Suspect(f"middleware {name}", found.why if found else "unverified, a probe can settle it"))
    return remarks


def _find_in_wrapper(wrapper: Wrapper, guards: Guards) -> GuardUse | Suspect | None:
    if getattr(wrapper.target, "__module__", "").startswith("gatewright."):
        return read_guard_middleware(wrapper.target, wrapper.arguments, wrapper.named)
    found = guards.find_guard(wrapper.target)
    if found is None:
        for name, target in guards.strict.items():
            if wrapper.target is target:
                guards.seen.add(name)
                return GuardUse("declared", name_of(target))
    return found


def _wrapper_looks_secure(wrapper: Wrapper) -> bool:
    target = wrapper.target
    if getattr(target, "__module__", "").startswith("gatewright."):
        return False
    if looks_like_security(target):
        return True
    methods = [getattr(target, name, None) for name in ("__call__", "dispatch")] if isinstance(target, type) else []
    return any(
        looks_like_security(layer) for method in methods if method is not None for layer, _ in layers(method) if hasattr(layer, "__code__")
    )


def _find_uncovered_mounts(judged: list[Judged], guards: Guards) -> None:
    told: set[str] = set()
    for item in judged:
        shadow = item.entrance.shadow
        if shadow is None or item.route.verdict in ("guarded", "public", "framework") or not _any_guard(item.entrance.unapplied, guards):
            continue
        item.route = item.route.because(f"dependencies of the parent do not apply inside the mount at {shadow}")
        item.findings = [Finding(finding.rule, finding.message, item.route) for finding in item.findings]
        if shadow not in told:
            told.add(shadow)
            message = f"{shadow} is mounted below guards that do not apply inside it: repeat the dependencies on the mounted app, or include a router instead"
            item.findings.append(Finding("GW004", message, item.route))


def _any_guard(dependencies: tuple[object, ...], guards: Guards) -> bool:
    found = (guards.recognise(getattr(dependency, "dependency", dependency)) for dependency in dependencies)
    return any(isinstance(use, Suspect) or (use is not None and use.refuses_strangers) for use in found)


def _message(rule: str, route: AuditedRoute, suspects: list[Suspect]) -> str:
    shown = route.key
    if rule == "GW001" and route.kind == "static":
        return f"{shown} serves files to everybody: declare it with --public '{route.path}', or guard it"
    if rule == "GW001":
        more = f" ({'; '.join(route.reasons[1:])})" if len(route.reasons) > 1 else ""
        return f"{shown} has no guard{more}: add one, or declare it public"
    if rule == "GW002":
        return f"{shown} lets callers without a credential pass: use a guard that refuses, or declare it public beside the optional guard"
    if rule == "GW003":
        return f"{shown} is {route.reasons[0]}: protect it where it is mounted, name its wrapper with --guard, or accept it in a baseline"
    if rule == "GW007":
        return f"{shown} shows the API description to everybody: pass openapi_url=None, or allow it with --docs open"
    if rule == "GW014":
        return (
            f"{shown} lost its guard: {next(reason for reason in route.reasons if 'is replaced by' in reason)} in app.dependency_overrides"
        )
    names = ", ".join(dict.fromkeys(suspect.name for suspect in suspects if not suspect.harmless))
    return f"{shown} may be guarded by {names}, which nobody declared: declare the guard with --guard or the route public, or settle it with --probe"
