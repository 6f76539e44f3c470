"""What a guard demands, in plain data, so that the route audit can read it without running the guard.

This module imports nothing but the standard library: the audit uses it without the extension and without FastAPI.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GuardKind = Literal["user", "principal", "machine", "api_key", "public"]


@dataclass(frozen=True)
class GuardFacts:
    """The demands of one guard object; every guard carries one as its attribute ``facts``."""

    kind: GuardKind
    """Who may pass; ``public`` declares that everybody may."""
    optional: bool = False
    """Callers without a credential pass too (with a bad one they do not)."""
    roles: tuple[str, ...] = ()
    """Any one of these."""
    permissions: tuple[str, ...] = ()
    """All of these."""
    scopes: tuple[str, ...] = ()
    """All of these."""
    organization: str | None = None
    """``"{org_id}"``: bound to that path parameter. ``"*"``: some organization must be chosen."""
    mfa: bool = False
    max_age: int | None = None
    """Longest time since the sign-in, in seconds."""
    impersonation: bool = True
    """Somebody who acts as the user may pass."""
    fresh: bool = False
    """The session is looked up at the server on every request."""
    csrf: bool = True
    """Callers by cookie are checked for cross-site requests."""
    cookies: bool = True
    """Callers by session cookie are let in at all."""

    def describe(self) -> str:
        """One short line for a table, for example ``role=admin · mfa · ≤300s``."""
        if self.kind == "public":
            return "public (declared)"
        parts: list[str] = []
        if self.kind != "user" or not self.authorizes():
            parts.append(self.kind.replace("_", " "))
        for name, values, joint in (("role", self.roles, "|"), ("permission", self.permissions, "+"), ("scope", self.scopes, "+")):
            if values:
                parts.append(f"{name}={joint.join(values)}")
        if self.organization is not None:
            parts.append("some organization" if self.organization == "*" else f"org={self.organization}")
        if self.mfa:
            parts.append("mfa")
        if self.max_age is not None:
            parts.append(f"≤{self.max_age}s")
        if not self.impersonation:
            parts.append("no impersonation")
        if self.fresh:
            parts.append("fresh")
        if self.cookies and not self.csrf:
            parts.append("csrf off")
        if self.optional:
            parts.append("optional")
        return " · ".join(parts)

    def authorizes(self) -> bool:
        """Whether it demands more than to be signed in (a role, a permission, a scope or one organization)."""
        return bool(self.roles or self.permissions or self.scopes or (self.organization is not None and self.organization != "*"))

    def names_caller(self) -> bool:
        """Whether a caller without any credential is refused."""
        return self.kind != "public" and not self.optional
