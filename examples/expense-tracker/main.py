"""Expense tracker: a FastAPI app whose users sign in through hosted pages, guarded by `gatewright.fastapi`.

The same app on the official `workos` SDK alone is `with_workos_sdk.py`.
"""

from typing import Annotated

from fastapi import Depends, FastAPI, Form, HTTPException, Response
from fastapi.responses import HTMLResponse
from workos import WorkOSClient

from expenses import TYPED_WRONG, Database, Expense, NewExpense, insert, list_of_tenant, list_of_user, mark_approved, read_form
from gatewright.fastapi import ApiKey, Gatewright, Principal, User
from organizations import list_organizations
from page import Links, render_expenses, render_welcome

gw = Gatewright.from_env()
workos = WorkOSClient(base_url=gw.settings.base_url, api_key=gw.settings.api_key, client_id=gw.settings.client_id, max_retries=0)
app = FastAPI(
    title="Expense tracker", description="Press **Authorize**, sign in, then try the calls below.", lifespan=gw.lifespan, **gw.docs()
)
app.include_router(gw.router(), prefix="/auth")

Person = Annotated[User, Depends(gw.user)]  # a session cookie or a bearer token
Visitor = Annotated[User | None, Depends(gw.user.optional)]
Approver = Annotated[User, Depends(gw.requires(permission="expenses:approve"))]
Exporter = Annotated[ApiKey, Depends(gw.api_key(permission="expenses:export"))]


def tenant_of(caller: Principal) -> str:
    """Whose rows a call is about. The verified credential says so and nothing else: the organization it is for, or a person's own."""
    return caller.organization_id or caller.id


@app.get("/health", dependencies=[Depends(gw.public)])
def check_health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/expenses")
def list_expenses(person: Person, database: Database) -> list[Expense]:
    return list_of_user(database, tenant_of(person), person.id)


@app.post("/expenses", status_code=201)
def add_expense(expense: NewExpense, person: Person, database: Database) -> Expense:
    return insert(database, tenant_of(person), person.id, person.email or "", expense)


@app.post("/expenses/{expense_id}/approval")
def approve_expense(expense_id: int, approver: Approver, database: Database) -> Expense:
    if expense := mark_approved(database, tenant_of(approver), expense_id):
        return expense
    raise HTTPException(404, "There is no such expense.")


@app.get("/export")
def export_expenses(key: Exporter, database: Database) -> list[Expense]:
    """Everybody's expenses, for the organization's own machines."""
    return list_of_tenant(database, tenant_of(key))


# --- the page ---------------------------------------------------------------------------------------------------------

LINKS = Links(sign_in="/auth/login", sign_out="/auth/logout", switch="/auth/organization")
for_everybody = [Depends(gw.public)]  # open on purpose: strangers are shown the way in


@app.get("/", response_class=HTMLResponse, include_in_schema=False, dependencies=for_everybody)
def show_page(visitor: Visitor, database: Database) -> str:
    return render_for(visitor, database) if visitor else render_welcome(LINKS)


@app.post("/", response_class=HTMLResponse, include_in_schema=False, dependencies=for_everybody)
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


def render_for(person: User, database: Database, description: str = "", amount: str = "", problem: str = "") -> str:
    approves = person.has_permission("expenses:approve")
    rows = list_of_tenant(database, tenant_of(person)) if approves else list_of_user(database, tenant_of(person), person.id)
    organizations = list_organizations(workos, person.id)
    return render_expenses(
        LINKS, person.email or "", person.organization_id, organizations, rows, approves, description, amount, problem, person.impersonator
    )
