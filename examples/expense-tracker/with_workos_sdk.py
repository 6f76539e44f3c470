"""The expense tracker of `main.py`, written with the official `workos` SDK alone: what an AuthKit app looks like that changed only its base URL."""

import os
import secrets
from typing import Annotated, Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from fastapi import Depends, FastAPI, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.security import APIKeyCookie
from jwt import PyJWKClientConnectionError, PyJWKClientError
from pydantic import BaseModel
from workos import BadRequestError, WorkOSClient
from workos.session import AuthenticateWithSessionCookieFailureReason as Reason
from workos.session import seal_session_from_auth_response

from expenses import TYPED_WRONG, Database, Expense, NewExpense, insert_for_user, list_of_user, read_form
from page import render_expenses, render_refusal, render_welcome


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


def find_signed_in(
    response: Response, cookie: Annotated[str | None, Depends(APIKeyCookie(name=SESSION_COOKIE, auto_error=False))]
) -> SignedIn | None:
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
    return SignedIn(user_id=found.user["id"], email=found.user["email"], session_id=found.session_id)


Visitor = Annotated[SignedIn | None, Depends(find_signed_in)]


def load_signed_in(visitor: Visitor) -> SignedIn:
    if visitor is None:
        raise HTTPException(401, "Sign in first: open /login in a browser.")
    return visitor


Person = Annotated[SignedIn, Depends(load_signed_in)]


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


# --- expenses ---------------------------------------------------------------------------------------------------------


@app.get("/health")
def check_health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/expenses")
def list_expenses(person: Person, database: Database) -> list[Expense]:
    return list_of_user(database, person.user_id)


@app.post("/expenses", status_code=201)
def add_expense(expense: NewExpense, person: Person, database: Database) -> Expense:
    return insert_for_user(database, person.user_id, expense)


# --- the page ---------------------------------------------------------------------------------------------------------


@app.get("/", response_class=HTMLResponse, include_in_schema=False)
def show_page(visitor: Visitor, database: Database) -> str:
    return render_expenses(visitor.email, "/logout", list_of_user(database, visitor.user_id)) if visitor else render_welcome("/login")


@app.post("/", response_class=HTMLResponse, include_in_schema=False)
def add_from_page(
    response: Response, visitor: Visitor, database: Database, description: Annotated[str, Form()] = "", amount: Annotated[str, Form()] = ""
) -> str:
    if visitor is None:
        response.status_code = 401
        return render_welcome("/login")
    expense = read_form(description, amount)
    if expense is None:
        response.status_code = 422
        return render_expenses(visitor.email, "/logout", list_of_user(database, visitor.user_id), description, amount, TYPED_WRONG)
    insert_for_user(database, visitor.user_id, expense)
    response.status_code, response.headers["Location"] = 303, "/"
    return ""


def refuse(reason: str) -> HTMLResponse:
    return HTMLResponse(render_refusal(reason, "/login"), 400)
