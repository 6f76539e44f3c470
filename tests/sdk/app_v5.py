"""The protected app of the AuthKit tutorials as people wrote it for `workos` 5.46.0. Only the environment is ours."""

import os
import secrets
import sqlite3

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel
from workos import WorkOSClient

APP_URL = os.environ["APP_URL"]
COOKIE_PASSWORD = os.environ["WORKOS_COOKIE_PASSWORD"]
workos = WorkOSClient(
    api_key=os.environ["WORKOS_API_KEY"], client_id=os.environ["WORKOS_CLIENT_ID"], base_url=os.environ["WORKOS_BASE_URL"]
)
app = FastAPI()
database = sqlite3.connect(os.environ["EXPENSES_DB"], check_same_thread=False)
database.execute("CREATE TABLE IF NOT EXISTS expenses (user_id TEXT, description TEXT, amount TEXT)")


class Expense(BaseModel):
    description: str
    amount: str


def load_user(request: Request, response: Response) -> dict[str, str]:
    session = workos.user_management.load_sealed_session(
        sealed_session=request.cookies.get("wos_session", ""), cookie_password=COOKIE_PASSWORD
    )
    found = session.authenticate()
    if not found.authenticated and getattr(found.reason, "value", found.reason) == "invalid_jwt":
        found = session.refresh()
        if found.authenticated:
            response.set_cookie("wos_session", found.sealed_session, httponly=True, samesite="lax")
    if not found.authenticated:
        raise HTTPException(401, str(found.reason))
    user = found.user if isinstance(found.user, dict) else found.user.dict()
    return {"id": user["id"], "email": user["email"], "session_id": found.session_id}


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/login")
def login(screen_hint: str | None = None) -> RedirectResponse:
    state = secrets.token_urlsafe(16)
    url = workos.user_management.get_authorization_url(
        provider="authkit", redirect_uri=f"{APP_URL}/callback", state=state, screen_hint="sign-up" if screen_hint == "sign-up" else None
    )
    redirect = RedirectResponse(url, 302)
    redirect.set_cookie("wos_state", state, httponly=True, samesite="lax")
    return redirect


@app.get("/callback")
def callback(request: Request, code: str, state: str) -> Response:
    if state != request.cookies.get("wos_state"):
        raise HTTPException(400, "state")
    answer = workos.user_management.authenticate_with_code(code=code, session={"seal_session": True, "cookie_password": COOKIE_PASSWORD})
    redirect = RedirectResponse("/", 302)
    redirect.set_cookie("wos_session", answer.sealed_session, httponly=True, samesite="lax")
    return redirect


@app.get("/")
def home() -> dict[str, str]:
    return {"home": "yes"}


@app.get("/logout")
def logout(user: dict = Depends(load_user)) -> RedirectResponse:
    redirect = RedirectResponse(workos.user_management.get_logout_url(user["session_id"], return_to=APP_URL), 302)
    redirect.delete_cookie("wos_session")
    return redirect


@app.get("/expenses")
def list_expenses(user: dict = Depends(load_user)) -> list[Expense]:
    rows = database.execute("SELECT description, amount FROM expenses WHERE user_id = ?", [user["id"]])
    return [Expense(description=d, amount=a) for d, a in rows]


@app.post("/expenses", status_code=201)
def add_expense(expense: Expense, user: dict = Depends(load_user)) -> Expense:
    with database:
        database.execute("INSERT INTO expenses VALUES (?, ?, ?)", [user["id"], expense.description, expense.amount])
    return expense
