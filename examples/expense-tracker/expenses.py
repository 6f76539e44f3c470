"""Expenses and where they are kept: a SQLite file."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from decimal import Decimal
from typing import Annotated

from fastapi import Depends
from pydantic import BaseModel, Field, StringConstraints

DATABASE = os.environ.get("EXPENSES_DB", "expenses.db")


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


def list_of_user(database: sqlite3.Connection, user_id: str) -> list[Expense]:
    """The rows of one user, newest first."""
    rows = database.execute("SELECT id, description, cents, created_at FROM expenses WHERE user_id = ? ORDER BY id DESC", [user_id])
    return [Expense(id=id, description=what, amount=Decimal(cents).scaleb(-2), created_at=at) for id, what, cents, at in rows]


def insert_for_user(database: sqlite3.Connection, user_id: str, expense: NewExpense) -> Expense:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    cents = int(expense.amount * 100)
    row = database.execute(
        "INSERT INTO expenses (user_id, description, cents, created_at) VALUES (?, ?, ?, ?) RETURNING id",
        [user_id, expense.description, cents, now.isoformat()],
    ).fetchone()
    return Expense(id=row[0], description=expense.description, amount=Decimal(cents).scaleb(-2), created_at=now)


def read_form(description: str, amount: str) -> NewExpense | None:
    """What a person typed, or None if it is no expense. A decimal comma is a point."""
    try:
        return NewExpense(description=description, amount=Decimal(amount.strip().replace(",", ".")))
    except (ValueError, ArithmeticError):  # pydantic's ValidationError is a ValueError
        return None


TYPED_WRONG = "Say what it was for and give an amount such as 12.50."
