"""What an audit says: routes with verdicts, findings, and the report that holds them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .._facts import GuardFacts
from .rules import LEVELS, RULES, Level

Kind = Literal["http", "websocket", "mount", "static", "framework"]
Verdict = Literal["guarded", "public", "open", "optional", "unverified", "opaque", "framework"]
VERDICTS: tuple[Verdict, ...] = ("guarded", "public", "open", "optional", "unverified", "opaque", "framework")
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Location:
    """Where something is written: the file relative to the working directory if it lies inside, and the line (from 1)."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def is_own(self) -> bool:
        """Whether it belongs to the project rather than to something installed."""
        return not os.path.isabs(self.file) and "site-packages" not in self.file.split("/")

    @property
    def short(self) -> str:
        """For people: files of installed packages without the way to them."""
        return str(self).rpartition("site-packages/")[2]


@dataclass(frozen=True)
class GuardUse:
    """One guard found on a route."""

    type: str
    """``user``, ``principal``, ``machine``, ``api_key``, ``public``, or ``declared`` for somebody else's guard, or ``probe``."""
    name: str
    """For people: the demands of a Gatewright guard, or the name of the declared function."""
    facts: GuardFacts | None = None
    optional: bool = False
    authorizes: bool = False
    scopes: tuple[str, ...] = ()
    """Scopes of ``Security(..., scopes=[...])`` that reach the guard."""
    cookie_scheme: bool = False
    """A declared guard reads a cookie (an ``APIKeyCookie`` lies below it)."""

    @property
    def refuses_strangers(self) -> bool:
        return self.type != "public" and not self.optional

    def demands(self) -> tuple[str, ...]:
        """Every single demand as one word, so that two readings can be compared as sets."""
        facts = self.facts
        if facts is None:
            return tuple(sorted({self.name, *(f"scope={scope}" for scope in self.scopes)}))
        # A guard for "principal" lets in everybody that "user" does, so the kind of caller is a demand of its own.
        out = [] if facts.kind in ("public", "principal") else [f"caller={facts.kind}"]
        out += [f"role={'|'.join(facts.roles)}"] if facts.roles else []
        out += [f"permission={value}" for value in facts.permissions]
        out += [f"scope={value}" for value in sorted({*facts.scopes, *self.scopes})]
        out += [f"org={facts.organization}"] if facts.organization is not None else []
        out += ["mfa"] if facts.mfa else []
        out += ["max_age"] if facts.max_age is not None else []
        out += ["no impersonation"] if not facts.impersonation else []
        out += ["fresh"] if facts.fresh else []
        out += ["csrf"] if facts.csrf or not facts.cookies else []
        return tuple(sorted(out))

    def to_json(self) -> dict[str, Any]:
        facts = self.facts
        return {
            "type": self.type,
            "name": self.name,
            "roles": list(facts.roles) if facts else [],
            "permissions": list(facts.permissions) if facts else [],
            "scopes": sorted({*(facts.scopes if facts else ()), *self.scopes}),
            "organization": facts.organization if facts else None,
            "mfa": facts.mfa if facts else False,
            "max_age": facts.max_age if facts else None,
            "impersonation": facts.impersonation if facts else True,
            "optional": self.optional,
        }


@dataclass(frozen=True)
class AuditedRoute:
    """One way into the app."""

    methods: tuple[str, ...]
    """Sorted; ``*`` for all of them; ``WS`` for a WebSocket."""
    path: str
    """With the prefixes of mounts; ``//host/path`` below a ``Host`` route."""
    kind: Kind
    verdict: Verdict
    guards: tuple[GuardUse, ...] = ()
    location: Location | None = None
    via: tuple[str, ...] = ()
    """The chain of includes and mounts, outermost first."""
    reasons: tuple[str, ...] = ()
    included_at: Location | None = None
    """The innermost include or mount in the project's own code, if the endpoint is somebody else's."""

    @property
    def place(self) -> Location | None:
        """Where to look: the endpoint if it is the project's own, else where the project brought it in."""
        return self.included_at or self.location

    @property
    def key(self) -> str:
        """What identifies the route in a baseline, for example ``GET,HEAD /items/{id}``."""
        return f"{','.join(self.methods)} {self.path}"

    @property
    def fingerprint(self) -> str:
        """Stays the same when lines move."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:32]

    def demands(self) -> tuple[str, ...]:
        return tuple(sorted({demand for guard in self.guards if guard.refuses_strangers for demand in guard.demands()}))

    def to_json(self) -> dict[str, Any]:
        return {
            "methods": list(self.methods),
            "path": self.path,
            "kind": self.kind,
            "verdict": self.verdict,
            "guards": [guard.to_json() for guard in self.guards],
            "location": {"file": self.location.file if self.location else None, "line": self.location.line if self.location else None},
            "via": list(self.via),
            "reasons": list(self.reasons),
        }

    def because(self, *reasons: str) -> AuditedRoute:
        return replace(self, reasons=(*self.reasons, *(reason for reason in reasons if reason not in self.reasons)))


@dataclass(frozen=True)
class Finding:
    """Something to mend or to accept."""

    rule: str
    """``GW001`` …; see ``rules.py``."""
    message: str
    """One sentence: what is wrong, and what to do."""
    route: AuditedRoute
    accepted: bool = False
    """A baseline lists it, so it fails nothing."""

    @property
    def level(self) -> Level:
        return RULES[self.rule].level

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.rule} {self.route.key}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Report:
    """Everything one audit found."""

    app: str
    fastapi_version: str
    routes: Sequence[AuditedRoute]
    findings: Sequence[Finding]
    notes: Sequence[str] = ()
    """Remarks about the audit itself (a pattern that matched nothing, entries of a baseline that are gone)."""
    seconds: float = field(default=0.0, compare=False)

    def counts(self) -> Mapping[Verdict, int]:
        return {verdict: sum(route.verdict == verdict for route in self.routes) for verdict in VERDICTS}

    def failing(self, fail_on: Level = "unverified") -> list[Finding]:
        """Findings at or above the level, without those a baseline accepts."""
        return [finding for finding in self.findings if not finding.accepted and LEVELS[finding.level] >= LEVELS[fail_on]]

    def exit_code(self, fail_on: Level = "unverified") -> int:
        return 1 if self.failing(fail_on) else 0

    def to_json(self) -> dict[str, Any]:
        live = [finding for finding in self.findings if not finding.accepted]
        said: dict[AuditedRoute, list[str]] = {}
        for finding in self.findings:
            said.setdefault(finding.route, []).append(f"{finding.rule}: {finding.message}{' (accepted)' if finding.accepted else ''}")
        return {
            "schema_version": SCHEMA_VERSION,
            "summary": {
                "app": self.app,
                "fastapi_version": self.fastapi_version,
                "routes": len(self.routes),
                **self.counts(),
                "findings": {level: sum(finding.level == level for finding in live) for level in ("open", "unverified", "weak")},
                "accepted": len(self.findings) - len(live),
                "notes": list(self.notes),
            },
            "routes": [{**(shown := route.to_json()), "reasons": [*shown["reasons"], *said.get(route, ())]} for route in self.routes],
        }
