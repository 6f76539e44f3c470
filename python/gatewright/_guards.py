"""The dependencies: instances that are equal when they demand the same, so that FastAPI caches, documents and overrides them."""

# No `from __future__ import annotations` here: FastAPI reads the annotations of `__call__` and cannot resolve texts on instances.

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Generic, NoReturn, TypeVar, cast

import starlette
from fastapi import HTTPException, WebSocketException
from fastapi.openapi.models import OAuth2, OAuthFlowAuthorizationCode, OAuthFlows
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket

from gatewright import _login_redirect
from gatewright._cookies_hook import Exchange
from gatewright._core import Gate, Need, Principal, Refusal, Requirement, Resolved
from gatewright._engine import Demand, Engine, carries_explicit_credential
from gatewright._facts import GuardFacts, GuardKind

P = TypeVar("P", bound=Principal | None, covariant=True)

SCHEME = "Gatewright"
# On the endpoints of `gw.router()` that nobody has to be signed in for.
OPEN_MARK = "_gatewright_open"
# While a document is rendered: which guard stands behind each name of a security scheme (see `_openapi`).
rendering: ContextVar[dict[str, "Guard[Any]"] | None] = ContextVar("gatewright_rendering", default=None)

_KINDS: Mapping[str, tuple[str, ...]] = {
    "user": ("user",),
    "machine": ("machine",),
    "api_key": ("api_key",),
    "principal": ("user", "machine", "api_key"),
}
_PATH_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
# Before, an HTTPException raised ahead of `accept()` left the WebSocket hanging.
_DENIES_WEBSOCKETS = tuple(int(part) for part in starlette.__version__.split(".")[:2]) >= (0, 41)


class GuardDependency:
    """What every guard is; `facts` says what it demands."""

    facts: GuardFacts


class PublicDependency(GuardDependency):
    """Declares that a route is open to everybody on purpose. Checks nothing."""

    def __init__(self) -> None:
        self.facts = GuardFacts(kind="public", csrf=False)

    async def __call__(self) -> None:
        return None

    def __repr__(self) -> str:
        return "gw.public"


PUBLIC = PublicDependency()


class Guard(GuardDependency, SecurityBase, Generic[P]):
    """A dependency that lets callers in who meet its demands, and gives who they are. Made by `guard_for`."""

    def __init__(self, engine: Engine, facts: GuardFacts) -> None:
        self.engine = engine
        self.facts = facts
        self.demand = Demand(requirement_of(facts))
        self._demands: dict[frozenset[str], Demand] = {}
        self._admit = Gate(engine.core, self.demand.requirement, engine._key, engine._origin_unknown).admit
        self._parameter = path_parameter(facts.organization)
        base = engine.settings.base_url
        self.model = OAuth2(
            flows=OAuthFlows(
                authorizationCode=OAuthFlowAuthorizationCode(
                    authorizationUrl=f"{base}/user_management/authorize",
                    tokenUrl=f"{base}/user_management/authenticate",
                    scopes={},
                )
            ),
            description="Sign in through Gatewright.",
        )

    @property
    def optional(self) -> "Guard[P | None]":
        """The same for a page that shows something to everybody: `None` for a caller without a credential or whose session has
        ended. A bad token is still refused, and so is a caller who lacks what is demanded.
        """
        return guard_for(self.engine, replace(self.facts, optional=True))

    @property
    def scheme_name(self) -> str:  # type: ignore[override]
        guards = rendering.get()
        if guards is None:
            return SCHEME
        name = next((name for name, guard in guards.items() if guard is self), f"{SCHEME}.{len(guards)}")
        guards[name] = self
        return name

    async def __call__(
        self,
        connection: HTTPConnection,
        response: Response = cast(Response, None),
        security_scopes: SecurityScopes = cast(SecurityScopes, None),
    ) -> P:
        scope = connection.scope
        organization = None if self._parameter is None else self._organization_of(scope)
        demand = self.demand
        outcome: Refusal | Need | Resolved | None = None
        if security_scopes is not None and security_scopes.scopes:
            # `Security(gw.user, scopes=[..])` means them; elsewhere such scopes are mere documentation.
            demand = self._demand_with(frozenset(security_scopes.scopes))
        elif self.engine._stand_in is None:
            found = self._admit(scope, organization)
            if isinstance(found, Principal):
                return found  # type: ignore[return-value]
            outcome = found
        return await self._decide(connection, response, demand, organization, outcome)

    async def _decide(
        self,
        connection: HTTPConnection,
        response: Response,
        demand: Demand,
        organization: str | None,
        outcome: Refusal | Need | Resolved | None,
    ) -> P:
        """The long way; `outcome` is what the short one came to, if it could be taken."""
        engine, scope = self.engine, connection.scope
        exchange: Exchange | None = scope.get(engine._key)
        if exchange is None:
            exchange = engine._begin(scope)
        found: Principal | Refusal | Need | Resolved | None = outcome
        if found is None:
            overrides = getattr(scope.get("app"), "dependency_overrides", None)
            if overrides and (stand_in := overrides.get(engine._funnel)) is not None:
                return await self._check_stand_in(stand_in, demand, organization, connection)
            found = engine._look(exchange, scope, demand, organization)
            if isinstance(found, Principal) and (exchange.hooked or not exchange.armed):
                return found  # type: ignore[return-value]
        answer = await engine._settle(exchange, scope, demand, found)
        if not exchange.hooked:
            _set_by_hand(connection, response, exchange)
        if isinstance(answer, Principal):
            return cast(P, answer)
        if self.facts.optional and is_absent(scope, answer):
            return cast(P, None)
        if getattr(scope.get("endpoint"), OPEN_MARK, False):
            # A guard for the whole app would else lock people out of the very routes that let them in.
            return cast(P, None)
        self._refuse(connection, exchange, answer)

    def _demand_with(self, scopes: frozenset[str]) -> Demand:
        demand = self._demands.get(scopes)
        if demand is None:
            every = dict.fromkeys([*self.facts.scopes, *sorted(scopes)])
            demand = self._demands[scopes] = Demand(requirement_of(replace(self.facts, scopes=tuple(every))))
        return demand

    def _organization_of(self, scope: Any) -> str:
        parameters = scope.get("path_params") or {}
        if self._parameter not in parameters:
            raise RuntimeError(
                f"{self!r} is bound to the path parameter {self._parameter!r}, which this route's path does not have:"
                f" call it {{{self._parameter}}} in the path, or name another one in org="
            )
        return str(parameters[self._parameter])

    async def _check_stand_in(self, stand_in: Any, demand: Demand, organization: str | None, connection: HTTPConnection) -> P:
        """`app.dependency_overrides[gw.principal]` stands in for the caller everywhere; what routes demand still counts."""
        principal = stand_in()
        if inspect.isawaitable(principal):
            principal = await principal
        if principal is None and self.facts.optional:
            return cast(P, None)
        if not isinstance(principal, Principal):
            refusal: Refusal | None = Refusal(401, "no_credential", "Sign in, or send an access token.", challenge="Bearer")
        else:
            refusal = self.engine.core.satisfy(demand.requirement, principal, organization)
        if refusal is not None:
            self._refuse(connection, Exchange(None, False), refusal, report=False)
        return cast(P, principal)

    def _refuse(self, connection: HTTPConnection, exchange: Exchange, refusal: Refusal, report: bool = True) -> NoReturn:
        scope = connection.scope
        headers = refusal_headers(refusal)
        if not exchange.hooked:
            # Names in different case are different keys here and one header on the wire.
            for number, cookie in enumerate(exchange.cookies):
                headers[_in_case("set-cookie", number)] = cookie
        if scope["type"] == "websocket":
            if report:
                self.engine._report(scope, refusal)
            if _DENIES_WEBSOCKETS and "websocket.http.response" in (scope.get("extensions") or {}):
                raise HTTPException(refusal.status, refusal.message, headers)
            raise WebSocketException(1013 if refusal.status == 503 else 1008, refusal.message)
        if self.facts.cookies and self.engine.settings.redirect_to_login:
            place = _login_redirect.find_login(scope, exchange.app, refusal)
            if place is not None:
                raise HTTPException(303, refusal.message, {**headers, "Location": place, "Cache-Control": "no-store"})
        if report:
            self.engine._report(scope, refusal)
        raise HTTPException(refusal.status, refusal.message, headers)

    def __repr__(self) -> str:
        return f"<guard: {self.facts.describe() or self.facts.kind}>"


def guard_for(engine: Engine, facts: GuardFacts) -> Guard[Any]:
    """The guard of these demands: the same object for the same demands, so that FastAPI's caching, its overrides and the search for both
    in every request come down to comparing addresses.
    """
    guard: Guard[Any] | None = engine._guards.get(facts)
    if guard is None:
        guard = engine._guards[facts] = Guard(engine, facts)
    return guard


def build_facts(
    kind: str,
    *,
    role: str | None = None,
    roles: Sequence[str] = (),
    permission: str | None = None,
    permissions: Sequence[str] = (),
    scope: str | None = None,
    scopes: Sequence[str] = (),
    org: str | None = None,
    mfa: bool = False,
    max_age: int | None = None,
    impersonation: bool = True,
    fresh: bool = False,
    csrf: bool = True,
) -> GuardFacts:
    """Plain data from the arguments of `gw.requires`. ValueError for arguments that mean nothing."""
    if kind not in _KINDS:
        raise ValueError(f"kind={kind!r}: use one of {', '.join(map(repr, _KINDS))}")
    if org is not None and org != "*":
        path_parameter(org)
    if max_age is not None and (isinstance(max_age, bool) or not isinstance(max_age, int) or max_age < 0):
        raise ValueError(f"max_age={max_age!r}: give the seconds since sign-in that are allowed, as a whole number")
    if kind in ("machine", "api_key") and (mfa or max_age is not None):
        raise ValueError(f"kind={kind!r} cannot sign in again: leave mfa= and max_age= to guards for users")
    return GuardFacts(
        kind=cast(GuardKind, kind),
        roles=_names("role", role, roles),
        permissions=_names("permission", permission, permissions),
        scopes=_names("scope", scope, scopes),
        organization=org,
        mfa=mfa,
        max_age=max_age,
        impersonation=impersonation,
        fresh=fresh,
        csrf=csrf,
        cookies=kind in ("user", "principal"),
    )


def requirement_of(facts: GuardFacts) -> Requirement:
    return Requirement(
        kinds=_KINDS[facts.kind],
        organization=facts.organization is not None,
        roles=facts.roles,
        permissions=facts.permissions,
        scopes=facts.scopes,
        mfa=facts.mfa,
        max_age=facts.max_age,
        impersonation=facts.impersonation,
        fresh=facts.fresh,
        check_cross_site=facts.csrf,
    )


def path_parameter(organization: str | None) -> str | None:
    """`org_id` of `{org_id}`; None when no organization or any is demanded."""
    if organization is None or organization == "*":
        return None
    match = _PATH_PARAMETER.fullmatch(organization)
    if match is None:
        raise ValueError(f'org={organization!r}: write "{{org_id}}" for the path parameter of that name, or "*" for any organization')
    return match.group(1)


def is_absent(scope: Any, refusal: Refusal) -> bool:
    """Whether nobody is signed in, as opposed to somebody who showed a bad token or lacks something."""
    if refusal.code == "no_credential":
        return True
    ended = refusal.code in ("invalid_session", "session_ended", "revoked", "invalid_token", "inactive")
    return ended and not carries_explicit_credential(scope)


def refusal_headers(refusal: Refusal) -> dict[str, str]:
    headers: dict[str, str] = {}
    if refusal.challenge is not None:
        headers["WWW-Authenticate"] = refusal.challenge
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    return headers


def _names(name: str, one: str | None, many: Sequence[str]) -> tuple[str, ...]:
    wanted = [] if one is None else [one]
    wanted += [many] if isinstance(many, str) else list(many)
    for value in wanted:
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{name}={value!r}: give the name of a {name}")
    return tuple(dict.fromkeys(wanted))


def _set_by_hand(connection: HTTPConnection, response: Response | None, exchange: Exchange) -> None:
    """What the hook does, as well as it goes, for the first request of an app whose lifespan did not run."""
    if isinstance(connection, WebSocket):
        accept = connection.accept

        async def accept_with(subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] | None = None) -> None:
            cookies = [(b"set-cookie", cookie.encode("latin-1")) for cookie in exchange.cookies]
            await accept(subprotocol or exchange.subprotocol, [*(headers or ()), *cookies])

        if exchange.armed:
            exchange.armed = False
            connection.accept = accept_with  # type: ignore[method-assign]
        return
    for cookie in exchange.cookies:
        header = (b"set-cookie", cookie.encode("latin-1"))
        if response is not None and header not in response.raw_headers:
            response.raw_headers.append(header)
            response.headers["Cache-Control"] = "no-store"
    if exchange.personal and response is not None:
        response.headers.setdefault("Cache-Control", "no-store")


def _in_case(name: str, number: int) -> str:
    return "".join(letter.upper() if number >> at & 1 else letter for at, letter in enumerate(name))
