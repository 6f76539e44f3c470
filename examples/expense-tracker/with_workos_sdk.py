"""The expense tracker of `main.py`, written with the official `workos` SDK alone: what an AuthKit app looks like that changed only its base URL."""

import os
import secrets
from typing import Annotated, Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from fastapi import Depends, FastAPI, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer
from jwt import PyJWKClientConnectionError, PyJWKClientError
from pydantic import BaseModel
from workos import BadRequestError, WorkOSClient
from workos.api_keys.models import ApiKeyOwner
from workos.session import AuthenticateWithSessionCookieFailureReason as Reason
from workos.session import seal_session_from_auth_response

from expenses import TYPED_WRONG, Database, Expense, NewExpense, insert, list_of_tenant, list_of_user, mark_approved, read_form
from organizations import list_organizations
from page import Links, render_expenses, render_refusal, render_welcome


def load_setting(name: str) -> str:
    if value := os.environ.get(name):
        return value
    raise SystemExit(f"expense-tracker: {name} is not set; start the app with `gatewright dev -- COMMAND`, or set it yourself")


BASE_URL = load_setting("WORKOS_BASE_URL")
COOKIE_PASSWORD = load_setting("WORKOS_COOKIE_PASSWORD")
APP_URL = os.environ.get("APP_URL", "http://localhost:8000").rstrip("/")
SESSION_COOKIE, STATE_COOKIE = "wos_session", "wos_state"
COOKIE: dict[str, Any] = {"httponly": True, "samesite": "lax", "secure": APP_URL.startswith("https://")}

for name, url in (("WORKOS_BASE_URL", BASE_URL), ("APP_URL", APP_URL)):
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise SystemExit(f"expense-tracker: {name} is {url!r}; give an origin such as http://localhost:8000")
try:
    Fernet(COOKIE_PASSWORD)
except ValueError:
    raise SystemExit(
        "expense-tracker: WORKOS_COOKIE_PASSWORD is not a Fernet key; make one with "
        "`python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'`"
    ) from None

workos = WorkOSClient(base_url=BASE_URL, api_key=load_setting("WORKOS_API_KEY"), client_id=load_setting("WORKOS_CLIENT_ID"))
app = FastAPI(title="Expense tracker", description="Sign in at [/login](/login), then try the calls below.")

# Routes are plain `def`: the SDK client used here blocks, so FastAPI runs them in its thread pool.


# --- who is signed in -------------------------------------------------------------------------------------------------


class SignedIn(BaseModel):
    user_id: str
    email: str
    session_id: str
    organization_id: str | None
    permissions: list[str]


Cookie = Annotated[str | None, Depends(APIKeyCookie(name=SESSION_COOKIE, auto_error=False))]


def find_signed_in(response: Response, cookie: Cookie) -> SignedIn | None:
    """The person behind the sealed cookie, or None. An expired access token is renewed and the cookie set again."""
    response.headers["Cache-Control"] = "no-store"
    session = workos.user_management.load_sealed_session(session_data=cookie or "", cookie_password=COOKIE_PASSWORD)
    try:
        found: Any = session.authenticate()
    except PyJWKClientConnectionError:
        raise HTTPException(503, "The sign-in service does not answer; try again in a moment.") from None
    except PyJWKClientError:  # signed with a key that is gone, for example by another installation
        return None
    if not found.authenticated and found.reason is Reason.INVALID_JWT:
        found = session.refresh()
        if found.authenticated:
            response.set_cookie(SESSION_COOKIE, found.sealed_session, **COOKIE)
        elif found.reason is Reason.REFRESH_NETWORK_ERROR:
            raise HTTPException(503, "The sign-in service does not answer; try again in a moment.")
    if not found.authenticated:
        return None
    return SignedIn(
        user_id=found.user["id"],
        email=found.user["email"],
        session_id=found.session_id,
        organization_id=found.organization_id,
        permissions=found.permissions or [],
    )


Visitor = Annotated[SignedIn | None, Depends(find_signed_in)]


def load_signed_in(visitor: Visitor) -> SignedIn:
    if visitor is None:
        raise HTTPException(401, "Sign in first: open /login in a browser.")
    return visitor


Person = Annotated[SignedIn, Depends(load_signed_in)]


def load_approver(person: Person) -> SignedIn:
    if "expenses:approve" not in person.permissions:
        raise HTTPException(403, "This needs the permission expenses:approve.")
    return person


Approver = Annotated[SignedIn, Depends(load_approver)]


def load_exporting_organization(bearer: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> str:
    """The organization of an API key that may export."""
    key = workos.api_keys.create_validation(value=bearer.credentials).api_key
    if key is None:
        raise HTTPException(401, "The API key is not active.", {"WWW-Authenticate": 'Bearer error="invalid_token"'})
    if "expenses:export" not in key.permissions:
        raise HTTPException(403, "This needs the permission expenses:export.")
    return key.owner.id if isinstance(key.owner, ApiKeyOwner) else key.owner.organization_id


Exporter = Annotated[str, Depends(load_exporting_organization)]


def tenant_of(person: SignedIn) -> str:
    """Whose rows a call is about. The verified session says so and nothing else: the organization it is for, or a person's own."""
    return person.organization_id or person.user_id


# --- signing in and out -----------------------------------------------------------------------------------------------


@app.get("/login", include_in_schema=False)
def start_sign_in(screen_hint: str = "sign-in") -> RedirectResponse:
    state = secrets.token_urlsafe(32)
    url = workos.user_management.get_authorization_url(
        provider="authkit",
        redirect_uri=f"{APP_URL}/callback",
        state=state,
        screen_hint="sign-up" if screen_hint == "sign-up" else "sign-in",
    )
    redirect = RedirectResponse(url, 302)
    redirect.set_cookie(STATE_COOKIE, state, max_age=3600, path="/callback", **COOKIE)
    return redirect


@app.get("/callback", include_in_schema=False)
def finish_sign_in(request: Request, code: str = "", state: str = "", error_description: str = "") -> Response:
    # Only the browser that started this sign-in may finish it: else a link could sign people in to someone else's account.
    if not state or not secrets.compare_digest(state.encode(), request.cookies.get(STATE_COOKIE, "").encode()):
        return refuse("This sign-in was not started in this browser, or it took too long.")
    if not code:
        return refuse(error_description or "You were not signed in.")
    try:
        answer = workos.user_management.authenticate_with_code(code=code, user_agent=request.headers.get("user-agent"))
    except BadRequestError:
        return refuse("This sign-in was already used, or it took too long.")
    sealed = seal_session_from_auth_response(
        access_token=answer.access_token,
        refresh_token=answer.refresh_token,
        user=answer.user.to_dict(),
        cookie_password=COOKIE_PASSWORD,
    )
    redirect = RedirectResponse("/", 303)
    redirect.delete_cookie(STATE_COOKIE, path="/callback", **COOKIE)
    redirect.set_cookie(SESSION_COOKIE, sealed, **COOKIE)
    return redirect


@app.api_route("/logout", methods=["GET", "POST"], include_in_schema=False)
def sign_out(visitor: Visitor) -> RedirectResponse:
    url = "/"
    if visitor:
        url = workos.user_management.get_logout_url(session_id=visitor.session_id, return_to=APP_URL)
    redirect = RedirectResponse(url, 303)
    redirect.delete_cookie(SESSION_COOKIE, **COOKIE)
    return redirect


@app.post("/organization", include_in_schema=False)
def switch_organization(cookie: Cookie, person: Person, organization_id: Annotated[str, Form()]) -> Response:
    """A session is switched by a refresh that names the organization. No other site can ask for it: the cookie is `SameSite=Lax`."""
    session = workos.user_management.load_sealed_session(session_data=cookie or "", cookie_password=COOKIE_PASSWORD)
    switched: Any = session.refresh(organization_id=organization_id)
    if not switched.authenticated or switched.organization_id != organization_id:
        return refuse("You are not a member of that organization.")
    redirect = RedirectResponse("/", 303)
    redirect.set_cookie(SESSION_COOKIE, switched.sealed_session, **COOKIE)
    return redirect


# --- expenses ---------------------------------------------------------------------------------------------------------


@app.get("/health")
def check_health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/expenses")
def list_expenses(person: Person, database: Database) -> list[Expense]:
    return list_of_user(database, tenant_of(person), person.user_id)


@app.post("/expenses", status_code=201)
def add_expense(expense: NewExpense, person: Person, database: Database) -> Expense:
    return insert(database, tenant_of(person), person.user_id, person.email, expense)


@app.post("/expenses/{expense_id}/approval")
def approve_expense(expense_id: int, approver: Approver, database: Database) -> Expense:
    if expense := mark_approved(database, tenant_of(approver), expense_id):
        return expense
    raise HTTPException(404, "There is no such expense.")


@app.get("/export")
def export_expenses(organization: Exporter, database: Database) -> list[Expense]:
    """Everybody's expenses, for the organization's own machines."""
    return list_of_tenant(database, organization)


# --- the page ---------------------------------------------------------------------------------------------------------


LINKS = Links(sign_in="/login", sign_out="/logout", switch="/organization")


@app.get("/", response_class=HTMLResponse, include_in_schema=False)
def show_page(visitor: Visitor, database: Database) -> str:
    return render_for(visitor, database) if visitor else render_welcome(LINKS)


@app.post("/", response_class=HTMLResponse, include_in_schema=False)
def add_from_page(
    response: Response, visitor: Visitor, database: Database, description: Annotated[str, Form()] = "", amount: Annotated[str, Form()] = ""
) -> str:
    if visitor is None:
        response.status_code = 401
        return render_welcome(LINKS)
    expense = read_form(description, amount)
    if expense is None:
        response.status_code = 422
        return render_for(visitor, database, description, amount, TYPED_WRONG)
    add_expense(expense, visitor, database)
    response.status_code, response.headers["Location"] = 303, "/"
    return ""


@app.post("/approve", status_code=303, include_in_schema=False)
def approve_from_page(response: Response, expense_id: Annotated[int, Form()], approver: Approver, database: Database) -> None:
    approve_expense(expense_id, approver, database)
    response.headers["Location"] = "/"


def render_for(person: SignedIn, database: Database, description: str = "", amount: str = "", problem: str = "") -> str:
    approves = "expenses:approve" in person.permissions
    rows = list_of_tenant(database, tenant_of(person)) if approves else list_of_user(database, tenant_of(person), person.user_id)
    organizations = list_organizations(workos, person.user_id)
    return render_expenses(LINKS, person.email, person.organization_id, organizations, rows, approves, description, amount, problem)


def refuse(reason: str) -> HTMLResponse:
    return HTMLResponse(render_refusal(reason, "/login"), 400)
