"""Every row of a running server's database: read, compared, and put back as it was."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import psycopg

Row = dict[str, Any]
Rows = dict[str, dict[tuple[Any, ...], Row]]  # by table, then by primary key

# What the server writes of its own accord, or because somebody knocked: counters of tries, the outbox, times of last use and of the next look.
BOOKKEEPING_TABLES = {
    "meta",
    "rate_limits",
    "idempotency_keys",
    "event_heads",
    "revocation_heads",
    "credential_changes",
    "audit_log_heads",
    "audit_log_chains",
    "audit_log_export_chunks",
    "shared_signals_events",
    "webhook_attempts",
}
BOOKKEEPING_COLUMNS = {
    "events": {"seq", "hash", "listed"},
    "audit_log_events": {"seq", "chain_position", "link"},
    "audit_log_exports": {"state", "reached", "chunks", "bytes", "attempts", "due_at", "updated_at"},
    "mails": {"state", "attempts", "due_at", "body_sealed"},
    "environment_keys": {"last_used_at"},
    "clients": {"last_used_at"},
    "api_keys": {"last_used_at"},
    "revocations": {"seq"},
    "shared_signals_streams": {"due_at", "failing_since"},
    "webhook_endpoints": {"journal_seq", "failing_since"},
    "webhook_deliveries": {"state", "claims", "attempts", "due_at", "finished_at"},
    "organization_domains": {"check_at"},
    "magic_auths": {"attempts", "updated_at"},
    "email_verifications": {"attempts", "updated_at"},
    "email_changes": {"attempts", "updated_at"},
    "authentication_challenges": {"attempts", "updated_at"},
    "radar_challenges": {"attempts", "updated_at"},
    "authentication_factors": {"failures", "blocked_until"},
}


class Sqlite:
    mark = "?"

    def __init__(self, file: Path) -> None:
        self.connection = sqlite3.connect(file, timeout=30, isolation_level=None)
        self.connection.row_factory = sqlite3.Row
        self.connection.execute("PRAGMA foreign_keys = ON")

    def list_tables(self) -> dict[str, list[str]]:
        """Tables in the order they were made, so what is referred to comes first; each with its primary key."""
        names = self.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid")
        tables = {}
        for (name,) in names.fetchall():
            columns = self.connection.execute(f'PRAGMA table_info("{name}")').fetchall()
            tables[name] = [c["name"] for c in sorted(columns, key=lambda c: c["pk"]) if c["pk"]]
        return tables

    def read(self, tables: list[str]) -> list[list[Row]]:
        return [[dict(row) for row in self.connection.execute(f'SELECT * FROM "{table}"')] for table in tables]

    def write(self, statements: list[tuple[str, list[Any]]]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        for text, values in statements:
            self.connection.execute(text, values)
        self.connection.execute("COMMIT")

    def close(self) -> None:
        self.connection.close()


TRIES = 5


class Postgres:
    mark = "%s"

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True, row_factory=psycopg.rows.dict_row)

    def list_tables(self) -> dict[str, list[str]]:
        rows = self.connection.execute(
            """SELECT c.relname AS name, array_agg(a.attname::text ORDER BY array_position(i.indkey::int2[], a.attnum)) AS key
               FROM pg_class c JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey::int2[])
               WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace GROUP BY c.oid, c.relname ORDER BY c.oid"""
        )
        return {row["name"]: row["key"] for row in rows}

    def read(self, tables: list[str]) -> list[list[Row]]:
        with self.connection.pipeline():
            asked = [self.connection.execute(f'SELECT * FROM "{table}"') for table in tables]
        return [cursor.fetchall() for cursor in asked]

    def write(self, statements: list[tuple[str, list[Any]]]) -> None:
        # The server's jobs lock rows in their own order, and the server, too, tries again.
        for attempt in range(TRIES):
            try:
                with self.connection.transaction():
                    for text, values in statements:
                        self.connection.execute(text, values)
                return
            except psycopg.errors.DeadlockDetected:
                if attempt == TRIES - 1:
                    raise

    def close(self) -> None:
        self.connection.close()


class StoredRows:
    """The database of a server under test."""

    def __init__(self, engine: Sqlite | Postgres) -> None:
        self.engine = engine
        self.keys = engine.list_tables()
        assert {"users", "organizations", "events", "api_keys", "resources"} <= self.keys.keys(), "these are not the server's tables"
        # A table without a primary key could be read but not put back.
        self.tables = [table for table, key in self.keys.items() if key and table not in BOOKKEEPING_TABLES]

    def read(self) -> Rows:
        rows: Rows = {}
        for table, found in zip(self.tables, self.engine.read(self.tables), strict=True):
            key = self.keys[table]
            rows[table] = {tuple(row[c] for c in key): row for row in found}
        return rows

    def insert(self, table: str, row: Row) -> None:
        self.engine.write([self._insertion(table, row)])

    def _insertion(self, table: str, row: Row) -> tuple[str, list[Any]]:
        columns, marks = ", ".join(f'"{c}"' for c in row), ", ".join([self.engine.mark] * len(row))
        return f'INSERT INTO "{table}" ({columns}) VALUES ({marks})', list(row.values())

    def restore(self, wanted: Rows, present: Rows) -> None:
        """Puts every row back as it was. What refers to others goes first and comes last."""
        mark = self.engine.mark
        statements: list[tuple[str, list[Any]]] = []

        def where(table: str) -> str:
            return " AND ".join(f'"{c}" = {mark}' for c in self.keys[table])

        tables = [table for table in self.tables if present[table] != wanted[table]]
        for table in reversed(tables):
            for key in present[table].keys() - wanted[table].keys():
                statements.append((f'DELETE FROM "{table}" WHERE {where(table)}', list(key)))
        for table in tables:
            for key in present[table].keys() & wanted[table].keys():
                if (row := wanted[table][key]) != present[table][key]:
                    assigned = ", ".join(f'"{c}" = {mark}' for c in row)
                    statements.append((f'UPDATE "{table}" SET {assigned} WHERE {where(table)}', [*row.values(), *key]))
        for table in tables:
            for key in wanted[table].keys() - present[table].keys():
                statements.append(self._insertion(table, wanted[table][key]))
        if statements:
            self.engine.write(statements)


def shown(table: str, row: Row) -> Row:
    hidden = BOOKKEEPING_COLUMNS.get(table, set())
    return {c: v for c, v in row.items() if c not in hidden}


Change = tuple[str, Row | None, Row | None]


def differences(before: Rows, after: Rows, environment: str | None = None, but: frozenset[str] = frozenset()) -> list[Change]:
    """Rows that came, went or changed; only those of an environment if one is named. Tables in `but` are not looked at."""
    found: list[Change] = []
    for table in before:
        if table in but or before[table] == after[table]:
            continue
        for key in before[table].keys() | after[table].keys():
            old, new = before[table].get(key), after[table].get(key)
            if old == new or (old and new and shown(table, old) == shown(table, new)):
                continue
            owners = {row.get("environment_id", row.get("id")) for row in (old, new) if row}
            if environment is None or environment in owners:
                found.append((table, old and shown(table, old), new and shown(table, new)))
    return found
