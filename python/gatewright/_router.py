"""The routes of signing in and out."""

# No `from __future__ import annotations` here: FastAPI reads the annotations of functions defined inside others.

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Depends, HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from gatewright import _pages
from gatewright._core import Principal, Refusal, Requirement, User
from gatewright._engine import Demand, Engine, origin_of_request, public_path
from gatewright._guards import OPEN_MARK, refusal_headers
from gatewright._login_redirect import LOGIN_ROUTE, read_acr_values, read_max_age
from gatewright._settings import SettingsError

if TYPE_CHECKING:
    from gatewright.fastapi import Gatewright

_NO_STORE = {"Cache-Control": "no-store"}
_MAX_FORM = 4096


def build_router(gw: "Gatewright") -> APIRouter:
    """GET /login, GET /callback, POST and GET /logout, POST /organization, GET /me, GET /session. SettingsError without a cookie password."""
    if not gw.settings.cookie_password:
        raise SettingsError(
            "gw.router() needs WORKOS_COOKIE_PASSWORD (cookie_password), which seals the session cookies: set it to a Fernet key,"
            " as `openssl rand -base64 32` prints one"
        )
    if not gw.settings.api_key:
        raise SettingsError(
            "gw.router() needs WORKOS_API_KEY (api_key), with which sign-ins are finished: set it to the environment's API key"
        )
    router = APIRouter(tags=["sign-in"])
    public = [Depends(gw.public)]
    anybody = Demand(Requirement(kinds=("user",), check_cross_site=False))
    own_pages = Demand(Requirement(kinds=("user", "machine", "api_key")))

    @router.get("/login", name=LOGIN_ROUTE, dependencies=public, response_class=RedirectResponse, status_code=303, include_in_schema=False)
    async def login(
        request: Request,
        return_to: str | None = None,
        screen_hint: str | None = None,
        organization_id: str | None = None,
        login_hint: str | None = None,
        max_age: str | None = None,
        acr_values: str | None = None,
    ) -> Response:
        """Sends the browser to the sign-in page; it comes back to `return_to`, a path of this app."""
        path = public_path(request.scope).rstrip("/")
        origin = gw.settings.app_url or origin_of_request(request.scope)
        if origin is None:
            return problem_page(
                gw,
                "This app was opened under an address that it does not know. Open it on localhost, or let it be told APP_URL.",
                path,
                400,
            )
        try:
            url, cookies = gw.core.begin_login(
                f"{origin}{path.removesuffix('/login')}/callback",
                return_to=return_to,
                screen_hint=screen_hint if screen_hint in ("sign-in", "sign-up") else None,
                organization_id=organization_id,
                login_hint=login_hint,
                max_age=read_max_age(max_age),
                acr_values=read_acr_values(acr_values),
                headers=request.scope["headers"],
            )
        except ValueError as error:
            return problem_page(gw, str(error), path, 400)
        answer = RedirectResponse(url, 303, _NO_STORE)
        set_cookies(answer, cookies)
        return answer

    @router.get("/callback", name="gatewright_callback", dependencies=public, include_in_schema=False)
    async def callback(request: Request) -> Response:
        """Where the sign-in page sends the browser back to."""
        scope = request.scope
        result = await gw._finish_login(
            scope["query_string"].decode("latin-1"),
            scope["headers"],
            request.headers.get("user-agent"),
            request.client.host if request.client else None,
        )
        exchange = exchange_of(gw, scope)
        exchange.replace_cookies([])
        if result.problem is None:
            answer: Response = RedirectResponse(result.location or "/", 303, _NO_STORE)
        else:
            login = public_path(scope).rstrip("/").removesuffix("/callback") + "/login"
            answer = problem_page(gw, result.problem, login, result.status)
        set_cookies(answer, result.cookies)
        return answer

    @router.post(
        "/logout", name="gatewright_logout", dependencies=public, status_code=303, responses={403: {"description": "Sent by another site"}}
    )
    async def logout(request: Request) -> Response:
        """Ends the session here and at the server: the browser is sent there and comes back. Answers JSON with `logout_url` to callers
        that ask for JSON; a script then sends the browser there.
        """
        exchange = exchange_of(gw, request.scope)
        # A guard for the whole app may let other sites in: what it refused has not been checked for that.
        exchange.refusal = None
        refusal = await gw._decide(exchange, request.scope, own_pages)
        if not isinstance(refusal, Principal) and refusal.code == "cross_site":
            gw._report(request.scope, refusal)
            raise HTTPException(403, refusal.message)
        return sign_out(gw, request, (await form_fields(request)).get("return_to"))

    @router.get("/logout", name="gatewright_logout_page", dependencies=public, include_in_schema=False)
    async def logout_page(request: Request, return_to: str | None = None) -> Response:
        """Signs out when a link on a page of this app was followed; asks first when the request came from anywhere else."""
        headers = request.headers
        followed = headers.get("sec-fetch-site") == "same-origin" and headers.get("sec-fetch-mode") == "navigate"
        if followed and "sec-purpose" not in headers and "purpose" not in headers:
            return sign_out(gw, request, return_to)
        return page(gw, _pages.render_sign_out(public_path(request.scope)), 200)

    @router.post(
        "/organization",
        name="gatewright_organization",
        dependencies=public,
        status_code=303,
        responses={403: {"description": "Sent by another site, or the person is not a member"}},
    )
    async def organization(request: Request) -> Response:
        """Lets the session act for another organization of its user, the form's `organization_id`, and goes to `return_to`. Answers JSON as
        /me does to callers that ask for JSON. Where that organization wants its own sign-in, the browser is sent to it.
        """
        fields = await form_fields(request)
        organization_id = fields.get("organization_id")
        if not organization_id:
            raise HTTPException(422, "Name the organization to switch to: organization_id.")
        switched = await gw._switch_organization(request.scope, organization_id)
        # In place of what a guard for the whole app may have set: a renewed session of the old organization.
        exchange_of(gw, request.scope).replace_cookies([])
        return_to = fields.get("return_to")
        place = return_to if return_to is not None and is_own_path(return_to) else "/"
        answer: Response
        if isinstance(switched.principal, User):
            answer = (
                JSONResponse(describe_user(switched.principal), headers=_NO_STORE)
                if wants_json(request)
                else RedirectResponse(place, 303, _NO_STORE)
            )
        else:
            assert switched.refusal is not None
            login = public_path(request.scope).rstrip("/").removesuffix("/organization") + "/login"
            answer = refuse_switch(
                gw, request, switched.refusal, f"{login}?{urlencode({'organization_id': organization_id, 'return_to': place})}"
            )
        set_cookies(answer, switched.cookies)
        return answer

    @router.get("/me", name="gatewright_me")
    async def me(user: Annotated[User, Depends(gw.user)]) -> JSONResponse:
        """The person who is signed in; 401 when nobody is."""
        return JSONResponse(describe_user(user), headers=_NO_STORE)

    @router.get("/session", name="gatewright_session", dependencies=public)
    async def session(request: Request) -> JSONResponse:
        """Whether somebody is signed in, without ever answering 401; `expires_at` is when the access token is renewed."""
        found = await gw._decide(exchange_of(gw, request.scope), request.scope, anybody)
        if isinstance(found, User):
            token = gw.csrf_token(found) if found.session_id else None
            facts = {"signed_in": True, "user": describe_user(found), "csrf_token": token, "expires_at": render_time(found.expires_at)}
            answer = JSONResponse(facts, headers=_NO_STORE)
        elif not isinstance(found, Principal) and found.status == 503:
            answer = JSONResponse({"detail": found.message}, 503, {**_NO_STORE, **refusal_headers(found)})
        else:
            answer = JSONResponse({"signed_in": False, "user": None, "csrf_token": None, "expires_at": None}, headers=_NO_STORE)
        exchange = exchange_of(gw, request.scope)
        if not exchange.hooked:
            set_cookies(answer, exchange.cookies)
        return answer

    # The last one too: who may not be let in as they are may be in another organization.
    for endpoint in (login, callback, logout, logout_page, session, organization):
        setattr(endpoint, OPEN_MARK, True)
    return router


def sign_out(gw: Engine, request: Request, return_to: str | None) -> Response:
    origin = gw.settings.app_url or origin_of_request(request.scope)
    place = f"{origin}{return_to if is_own_path(return_to) else '/'}" if origin else None
    url, cookies = gw.core.sign_out(request.scope["headers"], place)
    exchange = exchange_of(gw, request.scope)
    exchange.replace_cookies([])
    if wants_json(request):
        answer: Response = JSONResponse({"signed_in": False, "logout_url": url}, headers=_NO_STORE)
    else:
        answer = RedirectResponse(url or place or "/", 303, _NO_STORE)
    set_cookies(answer, cookies)
    return answer


def refuse_switch(gw: Engine, request: Request, refusal: Refusal, login: str) -> Response:
    if refusal.code != "step_up_required" or wants_json(request):
        gw._report(request.scope, refusal)
    if wants_json(request) or refusal.code not in ("not_a_member", "step_up_required"):
        return JSONResponse({"detail": refusal.message}, refusal.status, {**_NO_STORE, **refusal_headers(refusal)})
    if refusal.code == "step_up_required":
        return RedirectResponse(login, 303, _NO_STORE)
    return page(gw, _pages.render_not_a_member(refusal.message), refusal.status)


def wants_json(request: Request) -> bool:
    accept = request.headers.get("accept", "")
    return "application/json" in accept and "text/html" not in accept


def describe_user(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "email": user.email,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "name": user.name,
        "organization_id": user.organization_id,
        "roles": list(user.roles),
        "permissions": list(user.permissions),
        "impersonator": user.actor,
    }


def is_own_path(path: str | None) -> bool:
    """Whether this is a path of this app and nothing that a browser takes for another address."""
    return (
        path is not None
        and path.startswith("/")
        and not path.startswith(("//", "/\\"))
        and all(" " < letter <= "~" and letter != "\\" for letter in path)
    )


def exchange_of(gw: Engine, scope: Any) -> Any:
    return scope.get(gw._key) or gw._begin(scope)


def page(gw: Engine, html: str, status: int) -> HTMLResponse:
    headers = dict(_pages.HEADERS)
    # Signing out redirects to the server, and browsers hold the redirect of a form against `form-action` too.
    headers["Content-Security-Policy"] = headers["Content-Security-Policy"].format(server=gw.settings.base_url)
    return HTMLResponse(html, status, headers)


def problem_page(gw: Engine, problem: str, login: str, status: int) -> HTMLResponse:
    return page(gw, _pages.render_problem(problem, login), status)


def set_cookies(answer: Response, cookies: list[str]) -> None:
    answer.raw_headers.extend((b"set-cookie", cookie.encode("latin-1")) for cookie in cookies)


async def form_fields(request: Request) -> dict[str, str]:
    """The fields of a small form, and those of the query that it lacks; no multipart, so that nothing has to be installed."""
    body = b""
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_FORM:
                return {}
    fields = {name: values[0] for name, values in parse_qs(body.decode("latin-1")).items()}
    return {**request.query_params, **fields}


def render_time(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
