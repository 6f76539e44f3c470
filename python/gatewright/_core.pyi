"""The guard, compiled: verifies credentials, holds keys and sessions, never does I/O on the caller's thread.

Everything here is safe to use from any thread and from an event loop. Times are aware datetimes in UTC.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, final

__all__ = [
    "ApiKey",
    "CookieHook",
    "Exchange",
    "Forward",
    "Gate",
    "Guard",
    "LoginResult",
    "Machine",
    "Need",
    "Principal",
    "Refusal",
    "Requirement",
    "Resolved",
    "TestKey",
    "User",
    "Watching",
    "__version__",
    "_after_fork",
    "_after_fork_in_parent",
    "_before_fork",
    "_close_guards",
    "never_stored",
]

__version__: Final[str]

_Kind: TypeAlias = Literal["user", "machine", "api_key"]
_Via: TypeAlias = Literal["bearer", "session", "api_key"]
_Headers: TypeAlias = Iterable[tuple[bytes, bytes]]
_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
_App: TypeAlias = Callable[[_Message, _Receive, _Send], Awaitable[None]]

class Principal:
    """Who makes a request: a `User`, a `Machine` or an `ApiKey`. Immutable; equal when every field is."""

    @property
    def kind(self) -> _Kind: ...
    @property
    def via(self) -> _Via:
        """How the credential came: `bearer` token, `session` cookie or `api_key`."""
    @property
    def issuer(self) -> str:
        """Who vouches for it: the `iss` of the token."""
    @property
    def id(self) -> str:
        """Id of the user, of the client or of the API key."""
    @property
    def session_id(self) -> str | None: ...
    @property
    def client_id(self) -> str | None: ...
    @property
    def organization_id(self) -> str | None:
        """The organization chosen at sign-in, or the one a key belongs to."""
    @property
    def token_id(self) -> str | None:
        """The token's `jti`."""
    @property
    def key_id(self) -> str | None:
        """The signing key that vouches for the token: its `kid`."""
    @property
    def roles(self) -> tuple[str, ...]: ...
    @property
    def permissions(self) -> tuple[str, ...]: ...
    @property
    def scopes(self) -> tuple[str, ...]: ...
    @property
    def entitlements(self) -> tuple[str, ...]: ...
    @property
    def feature_flags(self) -> tuple[str, ...]: ...
    @property
    def email(self) -> str | None: ...
    @property
    def user(self) -> dict[str, Any] | None:
        """The user object of a session cookie; `None` for callers by token. A fresh copy each time."""
    @property
    def impersonator(self) -> str | None:
        """The address of whoever of support acts as this user; `None` when it is the user. The same as `actor`."""
    @property
    def actor(self) -> str | None:
        """Who acts as this user (impersonation): `act.sub`."""
    @property
    def authenticated_at(self) -> datetime | None:
        """When the person signed in: `auth_time`."""
    @property
    def amr(self) -> tuple[str, ...]:
        """How the person signed in (RFC 8176)."""
    @property
    def acr(self) -> str | None: ...
    @property
    def not_before(self) -> datetime | None: ...
    @property
    def issued_at(self) -> datetime | None: ...
    @property
    def expires_at(self) -> datetime:
        """When the credential ends; a session is renewed before that."""
    @property
    def claims(self) -> dict[str, Any]:
        """All claims of the token. A fresh copy each time."""
    def has_role(self, role: str, /) -> bool: ...
    def has_permission(self, permission: str, /) -> bool: ...
    def has_scope(self, scope: str, /) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class User(Principal):
    """A person, by session cookie or by bearer token. The constructor is for tests."""

    def __new__(
        cls,
        id: str,
        *,
        via: _Via = "session",
        issuer: str = "test",
        session_id: str | None = None,
        client_id: str | None = None,
        organization_id: str | None = None,
        token_id: str | None = None,
        key_id: str | None = None,
        roles: Sequence[str] = (),
        permissions: Sequence[str] = (),
        scopes: Sequence[str] = (),
        entitlements: Sequence[str] = (),
        feature_flags: Sequence[str] = (),
        email: str | None = None,
        user: Mapping[str, Any] | None = None,
        actor: str | None = None,
        authenticated_at: datetime | None = None,
        amr: Sequence[str] = (),
        acr: str | None = None,
        not_before: datetime | None = None,
        issued_at: datetime | None = None,
        expires_at: datetime | None = None,
        claims: Mapping[str, Any] | None = None,
    ) -> User:
        """`expires_at` is in an hour when not given."""
    @property
    def first_name(self) -> str | None: ...
    @property
    def last_name(self) -> str | None: ...
    @property
    def name(self) -> str | None:
        """First and last name, else the `name` claim."""

@final
class Machine(Principal):
    """A client that acts for itself (client credentials). The constructor is for tests."""

    def __new__(
        cls,
        id: str,
        *,
        via: _Via = "bearer",
        issuer: str = "test",
        session_id: str | None = None,
        client_id: str | None = None,
        organization_id: str | None = None,
        token_id: str | None = None,
        key_id: str | None = None,
        roles: Sequence[str] = (),
        permissions: Sequence[str] = (),
        scopes: Sequence[str] = (),
        entitlements: Sequence[str] = (),
        feature_flags: Sequence[str] = (),
        email: str | None = None,
        user: Mapping[str, Any] | None = None,
        actor: str | None = None,
        authenticated_at: datetime | None = None,
        amr: Sequence[str] = (),
        acr: str | None = None,
        not_before: datetime | None = None,
        issued_at: datetime | None = None,
        expires_at: datetime | None = None,
        claims: Mapping[str, Any] | None = None,
    ) -> Machine:
        """`expires_at` is in an hour and `client_id` is `id` when not given."""

@final
class ApiKey(Principal):
    """An API key. The constructor is for tests."""

    def __new__(
        cls,
        id: str,
        *,
        via: _Via = "api_key",
        issuer: str = "test",
        session_id: str | None = None,
        client_id: str | None = None,
        organization_id: str | None = None,
        token_id: str | None = None,
        key_id: str | None = None,
        roles: Sequence[str] = (),
        permissions: Sequence[str] = (),
        scopes: Sequence[str] = (),
        entitlements: Sequence[str] = (),
        feature_flags: Sequence[str] = (),
        email: str | None = None,
        user: Mapping[str, Any] | None = None,
        actor: str | None = None,
        authenticated_at: datetime | None = None,
        amr: Sequence[str] = (),
        acr: str | None = None,
        not_before: datetime | None = None,
        issued_at: datetime | None = None,
        expires_at: datetime | None = None,
        claims: Mapping[str, Any] | None = None,
    ) -> ApiKey:
        """`expires_at` is in an hour when not given."""

@final
class Requirement:
    """What a route demands of its caller. Immutable, hashable; equal when every demand is."""

    def __new__(
        cls,
        *,
        kinds: Sequence[str] = ("user", "machine", "api_key"),
        organization: bool = False,
        roles: Sequence[str] = (),
        permissions: Sequence[str] = (),
        scopes: Sequence[str] = (),
        mfa: bool = False,
        max_age: int | None = None,
        impersonation: bool = True,
        fresh: bool = False,
        check_cross_site: bool = True,
    ) -> Requirement:
        """`kinds`: who may pass. `organization`: some organization must be chosen. `roles`: any one of them;
        `permissions`, `scopes`: all of them. `mfa`: signed in with a second factor. `max_age`: signed in at most
        this many seconds ago. `impersonation=False`: nobody who acts as the user. `fresh`: the server is asked on every request whether the credential still holds.
        `check_cross_site`: callers by cookie are refused requests that another site started.

        ValueError for an unknown kind, for no kind at all, and for a negative `max_age`.
        """
    @property
    def kinds(self) -> tuple[_Kind, ...]: ...
    @property
    def organization(self) -> bool: ...
    @property
    def roles(self) -> tuple[str, ...]: ...
    @property
    def permissions(self) -> tuple[str, ...]: ...
    @property
    def scopes(self) -> tuple[str, ...]: ...
    @property
    def mfa(self) -> bool: ...
    @property
    def max_age(self) -> int | None: ...
    @property
    def impersonation(self) -> bool: ...
    @property
    def fresh(self) -> bool: ...
    @property
    def check_cross_site(self) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Refusal:
    """Why a request is refused, in the words of the answer to send."""

    def __new__(
        cls,
        status: int,
        code: str,
        message: str,
        *,
        challenge: str | None = None,
        retry_after: int | None = None,
        acr_values: str | None = None,
        max_age: int | None = None,
    ) -> Refusal: ...
    @property
    def status(self) -> int:
        """HTTP status: 400, 401, 403 or 503."""
    @property
    def code(self) -> str:
        """What happened, for programs, for example `missing_permission`."""
    @property
    def message(self) -> str:
        """What happened, for the caller: a sentence that holds no secret."""
    @property
    def challenge(self) -> str | None:
        """Value of `WWW-Authenticate` (RFC 6750, RFC 9470, RFC 9728)."""
    @property
    def retry_after(self) -> int | None:
        """Value of `Retry-After`, seconds."""
    @property
    def acr_values(self) -> str | None:
        """What a sign-in that would do has to be, `aal2` for one with a second factor: the parameter of the authorize request (RFC 9470)."""
    @property
    def max_age(self) -> int | None:
        """How many seconds old it may be."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Need:
    """What must be asked of a server before there is an answer. Give it to `Guard.resolve`, once."""

@final
class Resolved:
    """A final answer: exactly one of `principal` and `refusal`, and the cookies to set with it."""

    @property
    def principal(self) -> Principal | None: ...
    @property
    def refusal(self) -> Refusal | None: ...
    @property
    def cookies(self) -> list[str]:
        """Whole `Set-Cookie` values, to be sent whatever the endpoint answers."""

@final
class LoginResult:
    """How a sign-in ended: signed in (`principal`, `location`) or not (`problem`)."""

    @property
    def location(self) -> str | None:
        """Where the browser goes next: the `return_to` of the sign-in, a path of this app."""
    @property
    def principal(self) -> Principal | None: ...
    @property
    def problem(self) -> str | None:
        """Why there is no session: a sentence for the person."""
    @property
    def return_to(self) -> str | None:
        """Where the attempt was to lead, so that another can be offered beside `problem`."""
    @property
    def status(self) -> int:
        """HTTP status for an answer that shows `problem`: 400 or 503; 303 when signed in."""
    @property
    def cookies(self) -> list[str]:
        """Whole `Set-Cookie` values."""

@final
class Guard:
    """Keeps keys, verified credentials and revocations. One for each configuration and process."""

    def __new__(cls, config_json: str) -> Guard:
        """Reads the configuration; no I/O and no thread yet. ValueError: one line that names the key."""
    def check(
        self, requirement: Requirement, method: str, headers: _Headers, websocket: bool, organization: str | None
    ) -> Principal | Refusal | Need | Resolved:
        """Decides, or says what is needed to decide. Never blocks.

        `organization` is the id that the caller's must equal, from the path, if the route is bound to one.
        `Resolved` is an answer with cookies to set (the session was renewed by another request).
        """
    def satisfy(self, requirement: Requirement, principal: Principal, organization: str | None) -> Refusal | None:
        """Whether somebody already known may pass; `None` is yes."""
    def resolve(self, need: Need, callback: Callable[[Resolved], None]) -> None:
        """Asks what must be asked on the guard's own threads, then calls `callback` there, exactly once.

        RuntimeError when this `need` was resolved before.
        """
    def look_up(self, principal: Principal, callback: Callable[[Resolved], None]) -> None:
        """Whether somebody let in before still holds: the server is asked for the session, revocations are looked at.

        Nothing is renewed and no time is looked at. Who has no session of ours is answered from the revocations alone.
        """
    def begin_login(
        self,
        redirect_uri: str,
        return_to: str | None = None,
        screen_hint: str | None = None,
        organization_id: str | None = None,
        login_hint: str | None = None,
        provider: str | None = None,
        *,
        max_age: int | None = None,
        acr_values: str | None = None,
        headers: _Headers | None = None,
    ) -> tuple[str, list[str]]:
        """Where to send the browser, and the `Set-Cookie` values that must go with it.

        `return_to` is a path of this app; anything else counts as `/`. With the request's `headers`, the oldest of many attempts that
        this browser began are ended. ValueError when there is no `session` in the configuration.
        """
    def finish_login(
        self, query: str, headers: _Headers, user_agent: str | None, ip: str | None, callback: Callable[[LoginResult], None]
    ) -> None:
        """Exchanges the code of the callback request on the guard's own threads, then calls `callback` there, once.

        `query` is the query string as it came, without `?`.
        """
    def sign_out(self, headers: _Headers, return_to: str | None) -> tuple[str | None, list[str]]:
        """Where the browser goes to end the session at the server (`None`: there was none), and the `Set-Cookie` values that clear it here."""
    def switch_organization(self, headers: _Headers, organization_id: str, callback: Callable[[Resolved], None]) -> None:
        """Lets the session in the request's cookie act for another organization of its user, on the guard's own threads, then calls
        `callback` there, once: with the caller as they are now and the cookies of the new session, or with a refusal (`not_a_member`,
        `step_up_required` when a sign-in for that organization is needed, or that of any guard), and then the session goes on as it was.

        Counts as a change: another site's request is refused.
        """
    def seal_session(self, access_token: str, refresh_token: str, user_json: str) -> list[str]:
        """The `Set-Cookie` values that `finish_login` would set for this session; for tests.

        ValueError when there is no `session` in the configuration, or the session is too large for cookies.
        """
    def csrf_token(self, principal: Principal) -> str:
        """What a page sends back as `X-CSRF-Token`. ValueError for a principal without a session."""
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
        """From now on this guard refuses what is named; keep it as long as its tokens live. With `organization_id`, of the user what is
        theirs within the organization. ValueError when nothing is named.
        """
    def on_revoked(self, principal: Principal, callback: Callable[[], None]) -> Watching:
        """Calls `callback` once the principal is revoked, here or at the server; at once if it is already. On any thread: return soon."""
    def health(self) -> dict[str, Any]:
        """Whether word of revocations comes in: `revocations` is `live`, `stale` or `off`, `age_seconds` the time since the last word, and
        `reason` why it is not live. Starts listening where nobody does yet.
        """
    def report_denied(
        self,
        reason: str,
        status: int,
        method: str,
        headers: _Headers,
        websocket: bool,
        path: str,
        client_ip: str | None = None,
        user_agent: str | None = None,
    ) -> None:
        """Tells the server, in a batch and sometime soon, that a request was answered with 401 or 403. Never blocks."""
    def is_revoked(self, principal: Principal) -> bool: ...
    def warm(self) -> None:
        """Starts fetching keys; returns at once."""
    def after_fork(self) -> None:
        """To be called in the child of a fork; the package does it by itself."""
    def close(self) -> None:
        """Ends the threads. Work under way is answered with a refusal. The package does it at exit by itself."""
    def stats(self) -> dict[str, int]:
        """Counters since the start: key fetches, refreshes, introspections, cache hits and so on."""

@final
class Watching:
    """Somebody who waits for a revocation, see `Guard.on_revoked`; let go, nobody does any more."""

    def cancel(self) -> None: ...

@final
class Gate:
    """The short way in, for what one route demands: `scope` holds the request's `Exchange` under `key`."""

    def __new__(cls, guard: Guard, requirement: Requirement, key: str, only_safe_methods: bool) -> Gate: ...
    def admit(self, scope: Mapping[str, Any], organization: str | None, /) -> Principal | Refusal | Need | Resolved | None:
        """As `Guard.check`, and the exchange remembers a caller who may pass: further guards of the request do not look again.

        `None`, and nothing was looked at: a WebSocket, a credential that a guard refused before, an app with overrides, no hook around the
        app, or a method that is not safe where `only_safe_methods`.
        """

@final
class Exchange:
    """One request and its answer, as the guards of one `Gatewright` see it."""

    def __new__(cls, app: Any, hooked: bool) -> Exchange: ...
    @property
    def app(self) -> Any: ...
    @property
    def hooked(self) -> bool:
        """Whether the answer comes past `forwarding`."""
    armed: bool
    """Whether something is to be added to the answer."""
    @property
    def personal(self) -> bool:
        """Whether the answer may be made for whoever is behind a session cookie or an API key."""
    @property
    def cookies(self) -> list[str]: ...
    @property
    def subprotocol(self) -> str | None: ...
    principal: Principal | None
    """What the first guard of the request found, so that the others need not look again."""
    cross_site_checked: bool
    fresh: bool
    refusal: Refusal | None
    def set_cookies(self, cookies: Sequence[str]) -> None:
        """Whole `Set-Cookie` values for the answer; each is sent once."""
    def replace_cookies(self, cookies: Sequence[str]) -> None:
        """Sends these and nothing that was set before: who signs out wants no renewed session."""
    def forbid_caching(self) -> None:
        """Unlike a bearer token (RFC 9111 §3.5), a cookie or an `X-API-Key` keeps no shared cache from storing the answer and giving it to
        the next who asks. An app that says itself how its answer may be cached is believed.
        """
    def choose_subprotocol(self, name: str) -> None:
        """Browsers close a WebSocket whose server picks none of the sub-protocols they offered."""
    def forwarding(self, send: _Send) -> Forward:
        """The `send` of the app inside, which adds to the answer what was asked for by then."""

@final
class Forward:
    """The `send` of an ASGI app."""

    def __call__(self, message: _Message) -> Awaitable[None]: ...

@final
class CookieHook:
    """The outermost layer of an app: gives every request an `Exchange` under `key` in its scope."""

    def __new__(cls, app: _App, owner: Any, key: str) -> CookieHook: ...
    @property
    def app(self) -> _App: ...
    @property
    def owner(self) -> Any: ...
    @property
    def key(self) -> str: ...
    def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> Awaitable[None]: ...

def never_stored(send: _Send) -> Forward:
    """A `send` that lets no cache keep the answer; see `Exchange.forbid_caching`."""

@final
class TestKey:
    """An RSA key that signs tokens (RS256), for the tests of apps."""

    def __new__(cls, kid: str | None = None) -> TestKey:
        """Takes some tens of milliseconds. A random `kid` when none is given."""
    @property
    def kid(self) -> str: ...
    def jwk(self) -> str:
        """The public key as JSON, as a key set shows it."""
    def sign(self, claims_json: str, header_json: str | None = None) -> str:
        """A compact JWS over the claims as they are. `header_json` replaces the whole header, as it is; the signature stays RS256."""

def _close_guards() -> None:
    """At exit: ends all guards and keeps their threads out of the interpreter from then on."""

def _before_fork() -> None: ...
def _after_fork_in_parent() -> None: ...
def _after_fork() -> None: ...
