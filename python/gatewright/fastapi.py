"""Gatewright for FastAPI: sign-in, roles, permissions, machines and API keys as dependencies.

gw = Gatewright.from_env()
app = FastAPI(lifespan=gw.lifespan, **gw.docs())
app.include_router(gw.router(), prefix="/auth")

@app.get("/expenses")
def list_expenses(user: Annotated[User, Depends(gw.user)]): ...
"""

# No `from __future__ import annotations` here: FastAPI reads annotations of what is used as a dependency.

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, overload

try:
    from fastapi import APIRouter
except ModuleNotFoundError as error:
    if error.name != "fastapi":
        raise
    raise ModuleNotFoundError(
        "gatewright.fastapi needs FastAPI 0.115 or newer: pip install 'gatewright[fastapi]' (other ASGI apps: use gatewright.asgi)",
        name="fastapi",
    ) from None

from gatewright import _openapi
from gatewright._cookies_hook import CookieHook, is_installed
from gatewright._cookies_hook import install as install_hook
from gatewright._core import ApiKey, Machine, Principal, Refusal, User
from gatewright._engine import Engine
from gatewright._facts import GuardFacts
from gatewright._guards import PUBLIC, Guard, GuardDependency, PublicDependency, build_facts, guard_for
from gatewright._settings import Claims, CookieFormat, Introspection, Issuer, SameSite, SettingsError, WhenStale

if TYPE_CHECKING:
    from gatewright.audit import Report

__all__ = [
    "ApiKey",
    "Claims",
    "Gatewright",
    "Guard",
    "GuardDependency",
    "GuardFacts",
    "Introspection",
    "Issuer",
    "Machine",
    "Principal",
    "Refusal",
    "SettingsError",
    "User",
]


class Gatewright(Engine):
    __doc__ = Engine.__doc__

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
        super().__init__(
            base_url=base_url,
            client_id=client_id,
            api_key=api_key,
            cookie_password=cookie_password,
            cookie_name=cookie_name,
            cookie_format=cookie_format,
            cookie_domain=cookie_domain,
            cookie_max_age=cookie_max_age,
            cookie_same_site=cookie_same_site,
            app_url=app_url,
            trusted_origins=trusted_origins,
            audiences=audiences,
            issuers=issuers,
            sessions_issuer=sessions_issuer,
            resource_metadata=resource_metadata,
            leeway=leeway,
            cache_entries=cache_entries,
            redirect_to_login=redirect_to_login,
            feed_stale_after=feed_stale_after,
            when_stale=when_stale,
            report_denied_requests=report_denied_requests,
        )
        self.user: Guard[User] = guard_for(self, build_facts("user"))
        """A person, by session cookie or access token. `.optional` gives None instead of 401 when nobody is signed in."""
        self.principal: Guard[Principal] = guard_for(self, build_facts("principal"))
        """A person, a machine or an API key. Overriding it (`app.dependency_overrides[gw.principal]`) stands in for the caller of
        every guard of this object; what routes demand still counts."""
        self.public: PublicDependency = PUBLIC
        """Declares a route open to everybody on purpose."""
        self._funnel = self.principal

    # --- guards -----------------------------------------------------------------------------------------------------------

    @overload
    def requires(
        self,
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
        kind: Literal["user"] = "user",
        csrf: bool = True,
    ) -> Guard[User]: ...
    @overload
    def requires(
        self,
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
        kind: Literal["principal"],
        csrf: bool = True,
    ) -> Guard[Principal]: ...
    @overload
    def requires(
        self,
        *,
        role: str | None = None,
        roles: Sequence[str] = (),
        permission: str | None = None,
        permissions: Sequence[str] = (),
        scope: str | None = None,
        scopes: Sequence[str] = (),
        org: str | None = None,
        fresh: bool = False,
        kind: Literal["machine"],
    ) -> Guard[Machine]: ...
    @overload
    def requires(
        self,
        *,
        role: str | None = None,
        roles: Sequence[str] = (),
        permission: str | None = None,
        permissions: Sequence[str] = (),
        scope: str | None = None,
        scopes: Sequence[str] = (),
        org: str | None = None,
        fresh: bool = False,
        kind: Literal["api_key"],
    ) -> Guard[ApiKey]: ...
    def requires(
        self,
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
        kind: str = "user",
        csrf: bool = True,
    ) -> Guard[Any]:
        """A guard that demands more, as a parameter (it gives the caller) or in `dependencies=`.

        `role`, `roles`: any one of them. `permission(s)`, `scope(s)`: all of them. `org`: `"{org_id}"` demands that the caller's
        organization equals that path parameter, `"*"` that one is chosen. `mfa`: signed in with a second factor. `max_age`: signed
        in at most so many seconds ago. `impersonation=False`: nobody of support who acts as the user. `fresh`: the server is asked on every request whether the session still holds. `kind`:
        `user`, `principal` (anybody), `machine` or `api_key`. `csrf=False`: cookie callers may come from other sites.

        ValueError for arguments that mean nothing.
        """
        facts = build_facts(
            kind,
            role=role,
            roles=roles,
            permission=permission,
            permissions=permissions,
            scope=scope,
            scopes=scopes,
            org=org,
            mfa=mfa,
            max_age=max_age,
            impersonation=impersonation,
            fresh=fresh,
            csrf=csrf,
        )
        return guard_for(self, facts)

    def machine(
        self,
        *,
        scope: str | None = None,
        scopes: Sequence[str] = (),
        role: str | None = None,
        roles: Sequence[str] = (),
        permission: str | None = None,
        permissions: Sequence[str] = (),
        org: str | None = None,
        fresh: bool = False,
    ) -> Guard[Machine]:
        """A client that acts for itself, by access token. Arguments as in `requires`."""
        return self.requires(
            kind="machine",
            scope=scope,
            scopes=scopes,
            role=role,
            roles=roles,
            permission=permission,
            permissions=permissions,
            org=org,
            fresh=fresh,
        )

    def api_key(
        self,
        *,
        permission: str | None = None,
        permissions: Sequence[str] = (),
        scope: str | None = None,
        scopes: Sequence[str] = (),
        role: str | None = None,
        roles: Sequence[str] = (),
        org: str | None = None,
        fresh: bool = False,
    ) -> Guard[ApiKey]:
        """An API key, as `X-API-Key` or as bearer. Arguments as in `requires`."""
        return self.requires(
            kind="api_key",
            permission=permission,
            permissions=permissions,
            scope=scope,
            scopes=scopes,
            role=role,
            roles=roles,
            org=org,
            fresh=fresh,
        )

    # --- the app ----------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """`FastAPI(lifespan=gw.lifespan)`, or `async with gw.lifespan(app):` inside your own. Starts fetching keys, sets renewed
        cookies on every answer and completes the OpenAPI document. Without it the same happens with the first request, but a
        session renewed during that very request may be renewed once more with the next.
        """
        if not install_hook(app, self._key) and callable(getattr(app, "build_middleware_stack", None)):
            app.middleware_stack = CookieHook(app.build_middleware_stack(), app, self._key)
        _openapi.install(app)
        self.core.warm()
        yield

    def _begin(self, scope: Any) -> Any:
        app = scope.get("app")
        if app is not None and not is_installed(app, self._key):
            _openapi.install(app)
        return super()._begin(scope)

    def router(self) -> APIRouter:
        """GET /login, GET /callback, POST /logout, GET /logout, POST /organization, GET /me, GET /session:
        `app.include_router(gw.router(), prefix="/auth")`.

        /login takes `return_to` (a path of this app), `screen_hint` (`sign-in`, `sign-up`), `organization_id` and `login_hint`, and to have
        somebody prove who they are again `max_age` (seconds) and `acr_values` (`aal2`: with a second factor).
        POST /logout ends the session; GET /logout does so when a link on a page of this app was followed and asks otherwise, so that no
        other site can sign people out. POST /organization switches the session to the organization `organization_id` of the form, which
        the person must be a member of, and goes to `return_to`. /me answers 401 when nobody is signed in; /session never does:
        `{"signed_in": bool, "user": {..} | null, "csrf_token": str | null, "expires_at": str | null}`.

        SettingsError without a cookie password or an API key.
        """
        from gatewright._router import build_router

        return build_router(self)

    def docs(self) -> dict[str, Any]:
        """Arguments for `FastAPI(**gw.docs())` that make the Authorize button of /docs sign in with PKCE."""
        return {
            "swagger_ui_init_oauth": {
                "clientId": self.settings.client_id,
                "usePkceWithAuthorizationCodeGrant": True,
                "additionalQueryStringParams": {"provider": "authkit"},
            }
        }

    def assert_covered(self, app: Any, **options: Any) -> "Report":
        """Raises `gatewright.audit.NotCovered`, naming every route of `app` that is neither guarded nor declared public; `options` are those
        of `gatewright.audit.assert_covered`.
        """
        from gatewright.audit import assert_covered

        return assert_covered(app, **options)
