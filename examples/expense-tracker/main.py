"""Expense tracker: a FastAPI app whose users sign in through hosted pages, guarded by `gatewright.fastapi`.

The same app on the official `workos` SDK alone is `with_workos_sdk.py`.
"""

from typing import Annotated

from fastapi import Depends, FastAPI, Form, Response
from fastapi.responses import HTMLResponse

from expenses import TYPED_WRONG, Database, Expense, NewExpense, insert_for_user, list_of_user, read_form
from gatewright.fastapi import Gatewright, User
from page import render_expenses, render_welcome

gw = Gatewright.from_env()
app = FastAPI(
    title="Expense tracker", description="Press **Authorize**, sign in, then try the calls below.", lifespan=gw.lifespan, **gw.docs()
)
app.include_router(gw.router(), prefix="/auth")

Person = Annotated[User, Depends(gw.user)]  # a session cookie or a bearer token
Visitor = Annotated[User | None, Depends(gw.user.optional)]


@app.get("/health", dependencies=[Depends(gw.public)])
def check_health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/expenses")
def list_expenses(person: Person, database: Database) -> list[Expense]:
    return list_of_user(database, person.id)


@app.post("/expenses", status_code=201)
def add_expense(expense: NewExpense, person: Person, database: Database) -> Expense:
    return insert_for_user(database, person.id, expense)


# --- the page ---------------------------------------------------------------------------------------------------------

SIGN_IN, SIGN_OUT = "/auth/login", "/auth/logout"
for_everybody = [Depends(gw.public)]  # open on purpose: strangers are shown the way in


@app.get("/", response_class=HTMLResponse, include_in_schema=False, dependencies=for_everybody)
def show_page(visitor: Visitor, database: Database) -> str:
    return render_expenses(visitor.email or "", SIGN_OUT, list_of_user(database, visitor.id)) if visitor else render_welcome(SIGN_IN)


@app.post("/", response_class=HTMLResponse, include_in_schema=False, dependencies=for_everybody)
def add_from_page(
    response: Response, visitor: Visitor, database: Database, description: Annotated[str, Form()] = "", amount: Annotated[str, Form()] = ""
) -> str:
    if visitor is None:
        response.status_code = 401
        return render_welcome(SIGN_IN)
    expense = read_form(description, amount)
    if expense is None:
        response.status_code = 422
        return render_expenses(visitor.email or "", SIGN_OUT, list_of_user(database, visitor.id), description, amount, TYPED_WRONG)
    insert_for_user(database, visitor.id, expense)
    response.status_code, response.headers["Location"] = 303, "/"
    return ""
