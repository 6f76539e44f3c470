"""An app of teams as its developer writes it with `workos` 10 alone: organizations, invitations, and changing between organizations."""

import html
import os
import secrets
from typing import Annotated, Any

from fastapi import FastAPI, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from workos import BadRequestError, WorkOSClient
from workos.organization_membership import RoleSingle
from workos.session import seal_session_from_auth_response

APP_URL = os.environ["APP_URL"]
PASSWORD = os.environ["WORKOS_COOKIE_PASSWORD"]
workos = WorkOSClient(
    base_url=os.environ["WORKOS_BASE_URL"], api_key=os.environ["WORKOS_API_KEY"], client_id=os.environ["WORKOS_CLIENT_ID"]
)
app = FastAPI()


def load_session(request: Request) -> tuple[Any, Any]:
    session = workos.user_management.load_sealed_session(session_data=request.cookies.get("wos_session", ""), cookie_password=PASSWORD)
    found: Any = session.authenticate()
    if not found.authenticated:
        raise HTTPException(401, "Sign in first.")
    return session, found


def go_home(sealed_session: str) -> Response:
    home = RedirectResponse("/", 303)
    home.set_cookie("wos_session", sealed_session, httponly=True, samesite="lax")
    return home


@app.get("/health")
def check_health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/login")
def start_sign_in(organization_id: str | None = None, invitation_token: str | None = None) -> Response:
    state = secrets.token_urlsafe(16)
    url = workos.user_management.get_authorization_url(
        provider="authkit",
        redirect_uri=f"{APP_URL}/callback",
        state=state,
        organization_id=organization_id,
        invitation_token=invitation_token,
    )
    redirect = RedirectResponse(url, 302)
    redirect.set_cookie("wos_state", state, httponly=True, samesite="lax")
    return redirect


@app.get("/callback")
def finish_sign_in(request: Request, state: str, code: str = "", error: str = "", error_description: str = "") -> Response:
    if state != request.cookies.get("wos_state"):
        raise HTTPException(400, "state")
    if not code:
        return HTMLResponse(render("Not signed in", f"<p>{html.escape(f'{error}: {error_description}')}</p>"), 403)
    answer = workos.user_management.authenticate_with_code(code=code)
    sealed = seal_session_from_auth_response(
        access_token=answer.access_token, refresh_token=answer.refresh_token, user=answer.user.to_dict(), cookie_password=PASSWORD
    )
    return go_home(sealed)


@app.get("/me")
def show_claims(request: Request) -> dict[str, Any]:
    """What the access token says, as the SDK reads it."""
    _, found = load_session(request)
    names = ("organization_id", "role", "roles", "permissions", "feature_flags")
    return {"email": found.user["email"], "session_id": found.session_id, **{name: getattr(found, name) for name in names}}


@app.get("/")
def show_home(request: Request) -> HTMLResponse:
    try:
        _, found = load_session(request)
    except HTTPException:
        return HTMLResponse(render("Teams", '<p><a href="/login">Sign in</a></p>'))
    mine = workos.organization_membership.list_organization_memberships(user_id=found.user["id"], limit=100)
    buttons = "".join(
        f'<button name="organization_id" value="{m.organization_id}">{html.escape(m.organization_name)}</button>' for m in mine.data
    )
    return HTMLResponse(
        render(
            "Teams",
            f"<p>{html.escape(found.user['email'])}</p>"
            '<form method="post" action="/teams"><label>New organization <input name="name"></label><button>Create</button></form>'
            '<form method="post" action="/invitations"><label>Invite <input name="email" type="email"></label>'
            '<label>Role <input name="role"></label><button>Invite</button></form>'
            f'<form method="post" action="/switch" aria-label="Organizations">{buttons}</form>',
        )
    )


@app.post("/teams")
def create_organization(request: Request, name: Annotated[str, Form()]) -> Response:
    session, found = load_session(request)
    organization = workos.organizations.create_organization(name=name)
    workos.organization_membership.create_organization_membership(
        user_id=found.user["id"], organization_id=organization.id, role=RoleSingle(role_slug="admin")
    )
    return go_home(session.refresh(organization_id=organization.id).sealed_session)


@app.post("/invitations")
def invite(request: Request, email: Annotated[str, Form()], role: Annotated[str, Form()]) -> Response:
    _, found = load_session(request)
    if found.role != "admin":
        raise HTTPException(403, "Only admins invite.")
    workos.user_management.send_invitation(
        email=email, organization_id=found.organization_id, role_slug=role, inviter_user_id=found.user["id"]
    )
    return RedirectResponse("/", 303)


@app.post("/switch")
def switch(request: Request, organization_id: Annotated[str, Form()]) -> Response:
    session, _ = load_session(request)
    try:
        switched = session.refresh(organization_id=organization_id)
    except BadRequestError as refused:
        raise HTTPException(403, str(refused)) from None
    if not switched.authenticated:
        raise HTTPException(403, str(switched.reason))
    return go_home(switched.sealed_session)


def render(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><link rel="icon" href="data:,"></head>'
        f"<body><h1>{title}</h1>{body}</body></html>"
    )
