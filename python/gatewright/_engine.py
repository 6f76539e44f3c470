"""Who makes this request, for any ASGI app: the compiled guard, asked without ever blocking the event loop."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Literal, TypedDict, TypeVar, cast

from gatewright._cookies_hook import Exchange, Scope, install
from gatewright._core import Guard, LoginResult, Need, Principal, Refusal, Requirement, Resolved
from gatewright._settings import CookieFormat, Issuer, SameSite, Settings, WhenStale, explain, is_loopback, read_environment

_NUMBERS = itertools.count(1)
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# Refusals of the credential itself, whatever a route demands.
_OF_THE_CREDENTIAL = frozenset(
    {"no_credential", "invalid_request", "invalid_token", "invalid_session", "session_ended", "revoked", "inactive", "unavailable"}
)

E = TypeVar("E", bound="Engine")
T = TypeVar("T")


class Health(TypedDict):
    """What `Gatewright.health` says."""

    revocations: Literal["live", "stale", "off"]
    age_seconds: float | None
    reason: str | None


class Demand:
    """A requirement, with what the fast path reads of it in plain attributes."""

    __slots__ = ("cross_site", "fresh", "requirement")

    def __init__(self, requirement: Requirement) -> None:
        self.requirement = requirement
        self.cross_site = requirement.check_cross_site
        self.fresh = requirement.fresh


class Engine:
    """The configuration of one app and its compiled guard. Construction does no I/O.

    `base_url`: the Gatewright server. `client_id`: of this app's environment. `api_key`: for sign-in, renewal, API keys.
    `cookie_password`: what seals session cookies (a Fernet key for `workos-python`); without it only tokens and API keys count.
    `cookie_format`: which SDK reads the cookies that are written; both are read. `cookie_max_age`: seconds; a browser session when None.
    `app_url`: the origin people see; it decides `Secure`, redirect URIs and which pages are our own. Needed unless the server is local.
    `trusted_origins`: other origins whose pages may call with a session cookie. `audiences`: what tokens may be addressed to beside
    the client id. `issuers`: other OpenID providers. `sessions_issuer`: `iss` of session tokens if the server pins another.
    `resource_metadata`: URL named in challenges (RFC 9728). `leeway`: seconds clocks may be off, at most 60.
    `cache_entries`: how many verified credentials are remembered. `redirect_to_login`: a person who opens a guarded page in the
    browser without being signed in, or signed in too long ago or with one factor where two are demanded, is sent to the sign-in and back;
    calls by scripts are answered 401 as ever. `feed_stale_after`: seconds
    without word of revocations after which some may have been missed, 5 to 300. `when_stale`: what becomes of requests then; "allow"
    lets valid tokens in until they expire, "check" asks the server about each. `report_denied_requests`: whether the server's audit log
    is told of refusals, in batches.

    Raises `SettingsError` (a ValueError): one line that says what is wrong and what to do.
    """

    def __init__(
        self,
        *,
        base_url: str,
        client_id: str,
        api_key: str | None = None,
        cookie_password: str | None = None,
        cookie_name: str = "wos_session",
        cookie_format: CookieFormat = "workos-python",
        cookie_domain: str | None = None,
        cookie_max_age: int | None = None,
        cookie_same_site: SameSite = "lax",
        app_url: str | None = None,
        trusted_origins: Sequence[str] = (),
        audiences: Sequence[str] = (),
        issuers: Sequence[Issuer | Mapping[str, Any]] = (),
        sessions_issuer: str | None = None,
        resource_metadata: str | None = None,
        leeway: int = 10,
        cache_entries: int = 10_000,
        redirect_to_login: bool = False,
        feed_stale_after: int = 10,
        when_stale: WhenStale = "allow",
        report_denied_requests: bool = True,
    ) -> None:
        self.settings = Settings(
            base_url=base_url.rstrip("/"),
            client_id=client_id,
            api_key=api_key,
            cookie_password=cookie_password,
            cookie_name=cookie_name,
            cookie_format=cookie_format,
            cookie_domain=cookie_domain,
            cookie_max_age=cookie_max_age,
            cookie_same_site=cookie_same_site,
            app_url=app_url.rstrip("/") if app_url else None,
            trusted_origins=_tuple(trusted_origins),
            audiences=_tuple(audiences),
            issuers=tuple(issuers),
            sessions_issuer=sessions_issuer,
            resource_metadata=resource_metadata,
            leeway=leeway,
            cache_entries=cache_entries,
            redirect_to_login=redirect_to_login,
            feed_stale_after=feed_stale_after,
            when_stale=when_stale,
            report_denied_requests=report_denied_requests,
        )
        try:
            self.core = Guard(json.dumps(self.settings.to_config()))
        except ValueError as error:
            raise explain(error) from None
        self._key = f"gatewright.{next(_NUMBERS)}"
        self._check = self.core.check
        # In development the app's own origin is taken from the request; see `_with_own_origin`.
        self._origin_unknown = self.settings.app_url is None and self.settings.is_local()
        # Who `acting_as` says the caller is, and the guard whose override stands in for the caller of all.
        self._stand_in: Principal | None = None
        self._funnel: Any = None
        self._guards: dict[Any, Any] = {}

    @classmethod
    def from_env(cls: type[E], *, environ: Mapping[str, str] | None = None, **settings: Any) -> E:
        """Reads WORKOS_BASE_URL (or GATEWRIGHT_URL), WORKOS_API_KEY, WORKOS_CLIENT_ID, WORKOS_COOKIE_PASSWORD, WORKOS_COOKIE_NAME,
        APP_URL, GATEWRIGHT_TRUSTED_ORIGINS and GATEWRIGHT_AUDIENCES (lists with commas), and GATEWRIGHT_ISSUERS (path of a JSON file,
        or of a TOML file on Python 3.11 and later). `settings` are keyword arguments of the constructor and win.
        """
        return cls(**{**read_environment(environ), **settings})

    # --- deciding ---------------------------------------------------------------------------------------------------------

    def _begin(self, scope: Scope) -> Exchange:
        """The exchange of a request that came past no hook: later requests will come past one, this one makes do."""
        app = scope.get("app")
        install(app, self._key)
        exchange = Exchange(app, False)
        scope[self._key] = exchange
        return exchange

    def _look(self, exchange: Exchange, scope: Scope, demand: Demand, organization: str | None) -> Principal | Refusal | Need | Resolved:
        """What can be said at once. Never blocks."""
        if self._stand_in is not None:
            return self.core.satisfy(demand.requirement, self._stand_in, organization) or self._stand_in
        known = exchange.principal
        if known is not None and (exchange.cross_site_checked or not demand.cross_site) and (exchange.fresh or not demand.fresh):
            return self.core.satisfy(demand.requirement, known, organization) or known
        if exchange.refusal is not None:
            return exchange.refusal
        websocket = scope["type"] == "websocket"
        headers = self._with_own_origin(scope) if self._origin_unknown else scope["headers"]
        outcome = self._check(demand.requirement, "GET" if websocket else scope["method"], headers, websocket, organization)
        if isinstance(outcome, Principal):
            self._remember(exchange, scope, demand, outcome)
        return outcome

    async def _settle(
        self, exchange: Exchange, scope: Scope, demand: Demand, outcome: Principal | Refusal | Need | Resolved
    ) -> Principal | Refusal:
        """Waits for what `_look` could not say at once, and keeps the cookies that come with it."""
        if isinstance(outcome, Need):
            outcome = await self._resolve(outcome)
        if isinstance(outcome, Resolved):
            exchange.set_cookies(outcome.cookies)
            answer: Principal | Refusal | None = outcome.principal or outcome.refusal
            assert answer is not None
            if isinstance(answer, Principal):
                self._remember(exchange, scope, demand, answer)
        else:
            answer = outcome
        if isinstance(answer, Refusal) and answer.code in _OF_THE_CREDENTIAL:
            exchange.refusal = answer
        return answer

    async def _decide(self, exchange: Exchange, scope: Scope, demand: Demand, organization: str | None = None) -> Principal | Refusal:
        outcome = self._look(exchange, scope, demand, organization)
        if isinstance(outcome, Principal):
            return outcome
        return await self._settle(exchange, scope, demand, outcome)

    def _remember(self, exchange: Exchange, scope: Scope, demand: Demand, principal: Principal) -> None:
        exchange.principal = principal
        exchange.cross_site_checked = exchange.cross_site_checked or demand.cross_site
        exchange.fresh = exchange.fresh or demand.fresh
        if scope["type"] == "websocket" and "bearer" in scope.get("subprotocols", ()):
            exchange.choose_subprotocol("bearer")
        elif principal.via != "bearer":
            exchange.forbid_caching()

    def _report(self, scope: Scope, refusal: Refusal) -> None:
        """Hands a refusal that is about to be answered to the guard, which tells the server in its own time."""
        if refusal.status not in (401, 403) or self._stand_in is not None or not self.settings.reports():
            return
        websocket = scope["type"] == "websocket"
        headers = scope["headers"]
        agent = next((value.decode("latin-1") for name, value in headers if name == b"user-agent"), None)
        client = scope.get("client")
        self.core.report_denied(
            refusal.code,
            refusal.status,
            "GET" if websocket else scope["method"],
            headers,
            websocket,
            path_without_ids(scope),
            client[0] if client else None,
            agent,
        )

    def _resolve(self, need: Need) -> Awaitable[Resolved]:
        return on_loop(lambda done: self.core.resolve(need, done))

    def _finish_login(self, query: str, headers: Any, user_agent: str | None, ip: str | None) -> Awaitable[LoginResult]:
        return on_loop(lambda done: self.core.finish_login(query, headers, user_agent, ip, done))

    def _switch_organization(self, scope: Scope, organization_id: str) -> Awaitable[Resolved]:
        headers = self._with_own_origin(scope) if self._origin_unknown else scope["headers"]
        return on_loop(lambda done: self.core.switch_organization(headers, organization_id, done))

    def _with_own_origin(self, scope: Scope) -> Any:
        """In development nobody configures an app URL, and browsers send no `Sec-Fetch-Site` to plain http addresses other than
        localhost nor with every WebSocket. A page whose origin is the very loopback address it calls is our own.
        """
        headers = scope["headers"]
        if scope["type"] != "websocket" and scope["method"] in SAFE_METHODS:
            return headers
        seen: dict[bytes, list[bytes]] = {b"origin": [], b"host": [], b"sec-fetch-site": []}
        for name, value in headers:
            if name in seen:
                seen[name].append(value)
        if len(seen[b"origin"]) != 1 or len(seen[b"host"]) != 1 or seen[b"sec-fetch-site"]:
            return headers
        origin = origin_of_request(scope)
        if origin is None or origin.encode("latin-1") != seen[b"origin"][0]:
            return headers
        return [*headers, (b"sec-fetch-site", b"same-origin")]

    # --- for apps ---------------------------------------------------------------------------------------------------------

    def csrf_token(self, user: Principal) -> str:
        """What scripts of this app's pages send as `X-CSRF-Token`; needed only where browsers say neither `Origin` nor
        `Sec-Fetch-Site`. ValueError for a caller without a session.
        """
        return self.core.csrf_token(user)

    def revoke(
        self,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        organization_id: str | None = None,
        client_id: str | None = None,
        key_id: str | None = None,
        for_seconds: int = 600,
    ) -> None:
        """From now on this process refuses what is named, and what it holds open is closed. What the server revokes, every process hears of
        by itself. With `organization_id`, of the user what is theirs within the organization. Give at least the lifetime of an access
        token. ValueError when nothing is named.
        """
        self.core.revoke(
            session_id=session_id,
            user_id=user_id,
            organization_id=organization_id,
            client_id=client_id,
            key_id=key_id,
            for_seconds=for_seconds,
        )

    def until_revoked(self, websocket: Any, user: Principal, *, interval: float = 30.0) -> AbstractAsyncContextManager[None]:
        """`async with gw.until_revoked(ws, user): ...` around the life of an accepted Starlette or FastAPI WebSocket: when the session is
        revoked or ends, the socket is closed with 4401 and the block ends. A revocation that the guard hears of counts at once; the server
        is asked as well, every `interval` seconds and when the access token expires. The session is not renewed here: its cookie could
        not be set.
        """
        from gatewright import _live

        return _live.until_revoked(self, websocket, user, interval)

    def stream_until_revoked(self, parts: AsyncIterable[T], user: Principal, *, interval: float = 30.0) -> AsyncIterator[T]:
        """`StreamingResponse(gw.stream_until_revoked(parts(), user))`: the parts, until the session is revoked or ends as for
        `until_revoked`; then the stream ends.
        """
        from gatewright import _live

        return _live.stream_until_revoked(self, parts, user, interval)

    def health(self) -> Health:
        """Whether word of revocations comes in, for a health endpoint: `{"revocations": "live", "age_seconds": 0.8, "reason": None}`. `live`:
        all that was revoked is refused. `stale`: some of it may be let in until its token expires. `off`: nobody listens.
        """
        return cast(Health, self.core.health())

    def stats(self) -> dict[str, int]:
        """Counters since the start, for metrics: key fetches, refreshes, cache hits, and of the feed of revocations: `feed_live` (1 or 0),
        `feed_connections`, `feed_failures`, `revocations_heard`, and `revocations` held now; reports of refused requests:
        `denials_reported`, `denials_dropped`.
        """
        return self.core.stats()


async def on_loop(start: Callable[[Callable[[T], None]], None]) -> T:
    """Starts work that calls back on a foreign thread, and waits for it. Cancellation abandons the waiting, not the work."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(value: T) -> None:
        if not future.done():
            future.set_result(value)

    def done(value: T) -> None:
        with suppress(RuntimeError):  # The loop was closed while we worked: nobody waits any more.
            loop.call_soon_threadsafe(settle, value)

    start(done)
    return await future


def origin_of_request(scope: Scope) -> str | None:
    """The origin a request was sent to, if that is this machine by name; anything else would let callers choose our address."""
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    scheme = {"ws": "http", "wss": "https"}.get(scope.get("scheme", "http"), scope.get("scheme", "http"))
    origin = f"{scheme}://{host}"
    try:
        # `testserver` is the host of Starlette's test client.
        local = is_loopback(origin) or host == "testserver"
    except ValueError:
        return None
    return origin if local and not set(host) & set("/\\@?# ") else None


def public_path(scope: Scope) -> str:
    """The path of a request as the browser wrote it, with the prefix that a proxy or a mount took off."""
    root: str = scope.get("root_path", "").rstrip("/")
    path: str = scope["path"]
    return path if not root or path == root or path.startswith(f"{root}/") else root + path


def path_without_ids(scope: Scope) -> str:
    """The path of a request with the names of its parameters in place of what they hold."""
    path = public_path(scope)
    names = {str(value): name for name, value in (scope.get("path_params") or {}).items()}
    for value, name in names.items():
        # Of `{rest:path}`: several parts at once.
        if "/" in value and value.strip("/"):
            path = path.replace(value, f"{{{name}}}")
    return "/".join(f"{{{names[part]}}}" if part and part in names else part for part in path.split("/"))


def carries_explicit_credential(scope: Scope) -> bool:
    """Whether the caller showed a token or an API key, rather than a cookie that browsers send by themselves."""
    for name, value in scope["headers"]:
        if name == b"x-api-key" or (name == b"authorization" and value.lstrip()[:6].lower() == b"bearer"):
            return True
    return scope["type"] == "websocket" and "bearer" in scope.get("subprotocols", ())


def _tuple(values: Sequence[str]) -> tuple[str, ...]:
    return (values,) if isinstance(values, str) else tuple(values)
