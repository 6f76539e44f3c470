"""Expense tracker: a FastAPI app whose users sign in through AuthKit, written with the official `workos` SDK."""

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from decimal import Decimal
from html import escape
from string import Template
from typing import Annotated, Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from fastapi import Depends, FastAPI, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.security import APIKeyCookie
from jwt import PyJWKClientConnectionError, PyJWKClientError
from pydantic import BaseModel, Field, StringConstraints, ValidationError
from workos import BadRequestError, WorkOSClient
from workos.session import AuthenticateWithSessionCookieFailureReason as Reason
from workos.session import seal_session_from_auth_response


def load_setting(name: str) -> str:
    if value := os.environ.get(name):
        return value
    raise SystemExit(f"expense-tracker: {name} is not set; start the app with `gatewright dev -- COMMAND`, or set it yourself")


BASE_URL = load_setting("WORKOS_BASE_URL")
COOKIE_PASSWORD = load_setting("WORKOS_COOKIE_PASSWORD")
APP_URL = os.environ.get("APP_URL", "http://localhost:8000").rstrip("/")
DATABASE = os.environ.get("EXPENSES_DB", "expenses.db")
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
        return render_refusal("This sign-in was not started in this browser, or it took too long.")
    if not code:
        return render_refusal(error_description or "You were not signed in.")
    try:
        answer = workos.user_management.authenticate_with_code(code=code, user_agent=request.headers.get("user-agent"))
    except BadRequestError:
        return render_refusal("This sign-in was already used, or it took too long.")
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


@app.get("/logout", include_in_schema=False)
def sign_out(visitor: Visitor) -> RedirectResponse:
    url = "/"
    if visitor:
        url = workos.user_management.get_logout_url(session_id=visitor.session_id, return_to=APP_URL)
    redirect = RedirectResponse(url, 302)
    redirect.delete_cookie(SESSION_COOKIE, **COOKIE)
    return redirect


# --- expenses ---------------------------------------------------------------------------------------------------------


class NewExpense(BaseModel):
    description: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    amount: Annotated[Decimal, Field(gt=0, lt=1_000_000_000, decimal_places=2, examples=["12.50"])]


class Expense(NewExpense):
    id: int
    created_at: datetime


def open_database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(DATABASE, check_same_thread=False)) as database, database:
        yield database


# "function": committed before the answer leaves, so that what was answered is kept.
Database = Annotated[sqlite3.Connection, Depends(open_database, scope="function")]

with closing(sqlite3.connect(DATABASE)) as schema:
    schema.execute(
        "CREATE TABLE IF NOT EXISTS expenses (id INTEGER PRIMARY KEY, user_id TEXT NOT NULL, description TEXT NOT NULL,"
        " cents INTEGER NOT NULL CHECK (cents > 0), created_at TEXT NOT NULL)"
    )
    schema.execute("CREATE INDEX IF NOT EXISTS expenses_by_user ON expenses (user_id, id)")


@app.get("/health")
def check_health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/expenses")
def list_expenses(person: Person, database: Database) -> list[Expense]:
    rows = database.execute("SELECT id, description, cents, created_at FROM expenses WHERE user_id = ? ORDER BY id DESC", [person.user_id])
    return [Expense(id=id, description=what, amount=Decimal(cents).scaleb(-2), created_at=at) for id, what, cents, at in rows]


@app.post("/expenses", status_code=201)
def add_expense(expense: NewExpense, person: Person, database: Database) -> Expense:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    cents = int(expense.amount * 100)
    row = database.execute(
        "INSERT INTO expenses (user_id, description, cents, created_at) VALUES (?, ?, ?, ?) RETURNING id",
        [person.user_id, expense.description, cents, now.isoformat()],
    ).fetchone()
    return Expense(id=row[0], description=expense.description, amount=Decimal(cents).scaleb(-2), created_at=now)


# --- the page ---------------------------------------------------------------------------------------------------------


@app.get("/", response_class=HTMLResponse, include_in_schema=False)
def show_page(visitor: Visitor, database: Database) -> str:
    return render_expenses(visitor, list_expenses(visitor, database)) if visitor else render_welcome()


@app.post("/", response_class=HTMLResponse, include_in_schema=False)
def add_from_page(
    response: Response, visitor: Visitor, database: Database, description: Annotated[str, Form()] = "", amount: Annotated[str, Form()] = ""
) -> str:
    if visitor is None:
        response.status_code = 401
        return render_welcome()
    try:
        expense = NewExpense(description=description, amount=Decimal(amount.strip().replace(",", ".")))
    except (ValidationError, ArithmeticError):
        response.status_code = 422
        return render_expenses(
            visitor, list_expenses(visitor, database), description, amount, "Say what it was for and give an amount such as 12.50."
        )
    add_expense(expense, visitor, database)
    response.status_code, response.headers["Location"] = 303, "/"
    return ""


def render_welcome() -> str:
    return render(
        "<h1>Know where it went.</h1><p>A small expense tracker. Only you see your rows.</p>"
        '<p class="row"><a class="button" href="/login">Sign in</a><a class="quiet" href="/login?screen_hint=sign-up">Create an account</a></p>'
    )


def render_refusal(reason: str) -> HTMLResponse:
    page = render(f'<h1>Not signed in</h1><p>{escape(reason)}</p><p class="row"><a class="button" href="/login">Sign in again</a></p>')
    return HTMLResponse(page, 400)


def render_expenses(person: SignedIn, expenses: list[Expense], description: str = "", amount: str = "", problem: str = "") -> str:
    rows = "".join(
        f'<tr><td>{escape(e.description)}<time datetime="{e.created_at.isoformat()}">{e.created_at:%d %b %Y}</time></td><td class="amount">{e.amount:,.2f}</td></tr>'
        for e in expenses
    )
    total = sum((e.amount for e in expenses), Decimal(0))
    table = (
        f'<table><thead><tr><th>Expense</th><th class="amount">Amount</th></tr></thead><tbody>{rows}</tbody>'
        f'<tfoot><tr><th>Total</th><td class="amount">{total:,.2f}</td></tr></tfoot></table>'
        if expenses
        else '<p class="empty">Nothing yet. Add the first one above.</p>'
    )
    alert = f'<p class="alert" id="problem" role="alert">{escape(problem)}</p>' if problem else ""
    described = ' aria-invalid="true" aria-describedby="problem"' if problem else ""
    return render(
        f'<h1>Your expenses</h1>{alert}<form method="post" action="/"><label>What for<input name="description" required maxlength="200"'
        f' value="{escape(description)}"{described}></label><label class="short">Amount<input name="amount" required inputmode="decimal"'
        f' placeholder="12.50" value="{escape(amount)}"{described}></label><button class="button">Add</button></form>{table}',
        f'<span class="who">Signed in as <b>{escape(person.email)}</b></span> <a href="/logout">Sign out</a>',
    )


def render(body: str, account: str = "") -> str:
    return PAGE.substitute(body=body, account=account)


PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>Expense tracker</title><link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; --bg: #f3f6f4; --card: #fff; --line: #dae1dd; --edge: #7b8883; --text: #14201c; --soft: #4c5a55;
  --accent: #0e6656; --on: #fff; --link: #0b5d4e; --bad: #9e1d16; --bad-bg: #fcecea; --focus: #a56a00 }
@media (prefers-color-scheme: dark) { :root { --bg: #0c1211; --card: #161f1d; --line: #2a3633; --edge: #71807b; --text: #e8efec; --soft: #aab8b3;
  --accent: #5fcbb3; --on: #05231c; --link: #74d5bf; --bad: #f7a199; --bad-bg: #351816; --focus: #f2be55 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--bg); color: var(--text); font: 16px/1.5 system-ui, sans-serif }
header, main { max-width: 640px; margin: 0 auto; padding: 16px 20px }
header { display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: baseline; font-size: 14px }
header > strong { margin-right: auto; font-size: 16px }
.who { color: var(--soft); overflow-wrap: anywhere }
main { background: var(--card); border: 1px solid var(--line); border-radius: 16px; padding: 32px; margin-top: 4vh }
h1 { margin: 0 0 8px; font-size: 24px; line-height: 1.25; letter-spacing: -.014em }
main > p { margin: 0 0 20px; color: var(--soft) }
.row { display: flex; flex-wrap: wrap; gap: 12px 20px; align-items: center; margin: 0 }
a { color: var(--link); text-underline-offset: 3px }
.button { display: inline-block; min-height: 44px; padding: 10px 20px; border: 0; border-radius: 10px; background: var(--accent); color: var(--on);
  font-family: inherit; font-size: 15px; font-weight: 600; line-height: 24px; text-decoration: none; cursor: pointer }
form { display: flex; flex-wrap: wrap; gap: 12px; align-items: end; margin: 16px 0 24px }
label { flex: 1 1 200px; display: grid; gap: 6px; font-weight: 600; font-size: 15px }
label.short { flex: 0 1 130px }
input { width: 100%; min-height: 44px; padding: 8px 12px; border: 1px solid var(--edge); border-radius: 10px; background: transparent; color: inherit; font: inherit; font-weight: 400 }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px }
table { width: 100%; border-collapse: collapse }
th, td { padding: 10px 0; border-bottom: 1px solid var(--line); text-align: left; overflow-wrap: anywhere }
thead th { color: var(--soft); font-size: 13px }
tfoot th, tfoot td { border: 0; font-weight: 600 }
th.amount, td.amount { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
time { display: block; color: var(--soft); font-size: 13px }
.empty { padding: 24px; border: 1px dashed var(--edge); border-radius: 10px; text-align: center }
main > .alert { margin: 16px 0 0; padding: 10px 14px; border-radius: 10px; background: var(--bad-bg); color: var(--bad) }
@media (max-width: 480px) { main { border-width: 1px 0; border-radius: 0; padding: 24px 20px; margin-top: 8px } label.short { flex: 1 1 100px } form .button { flex: 1 } }
</style>
</head>
<body>
<header><strong>Expense tracker</strong> $account</header>
<main>$body</main>
</body>
</html>
""")
