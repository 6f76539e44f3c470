"""What a server told, or keeps to tell: its rows of events, webhooks, audit logs, streams and revocations, as text for a search."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TABLES = ("events", "event_", "webhook_", "audit_log", "log_stream", "shared_signals", "revocation", "credential_change", "idempotency_keys")


def read_told(folder: Path, database: str | None) -> Iterator[str]:
    """One line for each row, with the names of its table and columns."""
    with open_rows(folder, database) as rows:
        if database:
            named = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        else:
            named = "SELECT name FROM sqlite_master WHERE type = 'table'"
        tables = sorted(name for (name,) in rows.execute(named).fetchall() if name.startswith(TABLES))
        assert {"events", "webhook_deliveries", "audit_log_events", "revocations"} <= set(tables), f"these are not the server's tables: {tables}"
        for table in tables:
            cursor = rows.execute(f'SELECT * FROM "{table}"')
            columns = [column[0] for column in cursor.description]
            for row in cursor.fetchall():
                yield f"{table} " + " ".join(f"{column}={as_text(value)}" for column, value in zip(columns, row, strict=True))


def as_text(value: Any) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, (bytes, memoryview)) else str(value)


@contextlib.contextmanager
def open_rows(folder: Path, database: str | None) -> Iterator[Any]:
    """The database of a server, whatever its engine."""
    if database:
        import psycopg

        with psycopg.connect(database) as connection:
            yield connection
    else:
        [file] = folder.rglob("*.db")
        with contextlib.closing(sqlite3.connect(file, timeout=30)) as connection:
            yield connection
