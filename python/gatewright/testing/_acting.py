"""Stands in for the caller of an app under test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from gatewright._core import ApiKey, Machine, Principal, User
from gatewright._engine import Engine

_MAKE: dict[str, type[Any]] = {"user": User, "machine": Machine, "api_key": ApiKey}
_IDS = {"user": "user_test", "machine": "client_test", "api_key": "api_key_test"}
# `amr` and `acr` of a sign-in with one factor and with two, as the server says it.
METHODS = {False: ["pwd"], True: ["pwd", "otp", "mfa"]}
LEVELS = {False: "aal1", True: "aal2"}
_VIAS = {"user": "session", "machine": "bearer", "api_key": "api_key"}


@contextmanager
def acting_as(
    app: Any,
    gw: Engine,
    principal: Principal | None = None,
    *,
    id: str | None = None,
    email: str | None = "test@example.com",
    role: str | None = None,
    roles: Sequence[str] = (),
    permissions: Sequence[str] = (),
    scopes: Sequence[str] = (),
    org: str | None = None,
    kind: Literal["user", "machine", "api_key"] = "user",
    mfa: bool = False,
    signed_in_ago: float = 0.0,
    amr: Sequence[str] | None = None,
    acr: str | None = None,
    impersonator: str | None = None,
    **claims: Any,
) -> Iterator[Principal]:
    """Inside the block every guard of `gw` sees this caller: in `app`, in what is mounted in it and in `GuardMiddleware`.

    What routes demand still counts: a missing permission is a real 403, an organization that does not match too. Only credentials and
    cross-site checks are left out; for those, use real ones from `TestIssuer`. `signed_in_ago`: seconds, for `max_age=`.
    `mfa` is a password and an authenticator app; `amr` and `acr` say it in the token's own words. `impersonator`: who of support acts as
    them. `claims`: further claims of the token. Or give a ready `principal`. Gives the caller.

    `app` must be guarded by `gw`: RuntimeError when it is a Gatewright of its own, which would let the test pass for nothing.
    """
    if not callable(app):
        raise TypeError(f"acting_as(app, gw, ..): {app!r} is no ASGI app")
    if not isinstance(gw, Engine):
        raise TypeError(f"acting_as(app, gw, ..): {gw!r} is no Gatewright")
    _require_guarded_by(app, gw)
    caller = principal
    if caller is None:
        given = [role] if role is not None else []
        caller = _MAKE[kind](
            id or _IDS[kind],
            via=_VIAS[kind],
            issuer=f"{gw.settings.base_url}/user_management/{gw.settings.client_id}",
            session_id="session_test" if kind == "user" else None,
            client_id=gw.settings.client_id if kind != "api_key" else None,
            organization_id=org,
            roles=[*given, *([roles] if isinstance(roles, str) else roles)],
            permissions=[permissions] if isinstance(permissions, str) else list(permissions),
            scopes=[scopes] if isinstance(scopes, str) else list(scopes),
            email=email if kind == "user" else None,
            authenticated_at=datetime.now(timezone.utc) - timedelta(seconds=signed_in_ago),
            amr=list(amr) if amr is not None else METHODS[mfa],
            acr=acr if acr is not None or amr is not None else LEVELS[mfa],
            actor=impersonator,
            claims=claims,
        )
    before = gw._stand_in
    gw._stand_in = caller
    try:
        yield caller
    finally:
        gw._stand_in = before


def _require_guarded_by(app: Any, gw: Engine) -> None:
    """Refuses an app whose guards all belong to another Gatewright; apps that cannot be looked into are believed."""
    found = {id(engine) for engine in _engines_of(app, set())}
    if found and id(gw) not in found:
        raise RuntimeError(
            "acting_as(app, gw, ..): the guards of this app belong to another Gatewright object; give the one that the app uses"
        )


def _engines_of(app: Any, seen: set[int]) -> Iterator[Engine]:
    if app is None or id(app) in seen:
        return
    seen.add(id(app))
    engine = getattr(app, "engine", None) or getattr(app, "gw", None)
    if isinstance(engine, Engine):
        yield engine
    for route in [*(getattr(app, "routes", None) or ())]:
        yield from _engines_of(getattr(route, "app", None), seen)
        # FastAPI from 0.137 on keeps included routers as they are.
        yield from _engines_of(getattr(route, "original_router", None), seen)
        dependant = getattr(route, "dependant", None)
        pending = [dependant] if dependant is not None else []
        while pending:
            one = pending.pop()
            yield from _engines_of(getattr(one, "call", None), seen) if hasattr(getattr(one, "call", None), "engine") else ()
            pending.extend(getattr(one, "dependencies", ()))
