"""Expenses and where they are kept: a SQLite file. Every row belongs to a tenant, and no query forgets to ask for it."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Depends
from pydantic import BaseModel, Field, StringConstraints

DATABASE = os.environ.get("EXPENSES_DB", "expenses.db")


class NewExpense(BaseModel):
    description: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    amount: Annotated[Decimal, Field(gt=0, lt=1_000_000_000, decimal_places=2, examples=["12.50"])]


class Expense(NewExpense):
    id: int
    email: str  # who spent it
    approved: bool
    created_at: datetime


def open_database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(DATABASE, check_same_thread=False)) as database, database:
        yield database


# "function": committed before the answer leaves, so that what was answered is kept.
Database = Annotated[sqlite3.Connection, Depends(open_database, scope="function")]

with closing(sqlite3.connect(DATABASE)) as schema:
    schema.execute(
        "CREATE TABLE IF NOT EXISTS tenant_expenses (id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, user_id TEXT NOT NULL, email TEXT NOT NULL,"
        " description TEXT NOT NULL, cents INTEGER NOT NULL CHECK (cents > 0), approved INTEGER NOT NULL DEFAULT 0, created_at TEXT NOT NULL)"
    )
    schema.execute("CREATE INDEX IF NOT EXISTS expenses_by_tenant ON tenant_expenses (tenant, user_id, id)")

COLUMNS = "id, email, description, cents, approved, created_at"


def list_of_user(database: sqlite3.Connection, tenant: str, user_id: str) -> list[Expense]:
    """One person's rows at one tenant, newest first."""
    rows = database.execute(f"SELECT {COLUMNS} FROM tenant_expenses WHERE tenant = ? AND user_id = ? ORDER BY id DESC", [tenant, user_id])
    return [read_row(row) for row in rows]


def list_of_tenant(database: sqlite3.Connection, tenant: str) -> list[Expense]:
    """Everybody's rows at one tenant, newest first."""
    return [read_row(row) for row in database.execute(f"SELECT {COLUMNS} FROM tenant_expenses WHERE tenant = ? ORDER BY id DESC", [tenant])]


def insert(database: sqlite3.Connection, tenant: str, user_id: str, email: str, expense: NewExpense) -> Expense:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    return read_row(
        database.execute(
            f"INSERT INTO tenant_expenses (tenant, user_id, email, description, cents, created_at) VALUES (?, ?, ?, ?, ?, ?) RETURNING {COLUMNS}",
            [tenant, user_id, email, expense.description, int(expense.amount * 100), now.isoformat()],
        ).fetchone()
    )


def mark_approved(database: sqlite3.Connection, tenant: str, expense_id: int) -> Expense | None:
    """None where this tenant has no such row: another tenant's is as unknown as one that never was."""
    row = database.execute(
        f"UPDATE tenant_expenses SET approved = 1 WHERE tenant = ? AND id = ? RETURNING {COLUMNS}", [tenant, expense_id]
    ).fetchone()
    return read_row(row) if row else None


def read_row(row: tuple[Any, ...]) -> Expense:
    id, email, description, cents, approved, created_at = row
    return Expense(
        id=id, email=email, description=description, amount=Decimal(cents).scaleb(-2), approved=bool(approved), created_at=created_at
    )


def read_form(description: str, amount: str) -> NewExpense | None:
    """What a person typed, or None if it is no expense. A decimal comma is a point."""
    try:
        return NewExpense(description=description, amount=Decimal(amount.strip().replace(",", ".")))
    except (ValueError, ArithmeticError):  # pydantic's ValidationError is a ValueError
        return None


TYPED_WRONG = "Say what it was for and give an amount such as 12.50."
