"""Settings in ``pyproject.toml`` under ``[tool.gatewright.audit]``; the command line adds to them or overrules them."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import Any

LISTS = ("guards", "optional-guards", "public")
STRINGS = {"app": None, "app-dir": None, "docs": ("open", "guarded"), "fail-on": ("open", "unverified", "weak"), "baseline": None}
SWITCHES = ("factory", "probe")


@dataclass(frozen=True)
class Settings:
    """What the file says; ``None`` where it says nothing."""

    guards: tuple[str, ...] = ()
    optional_guards: tuple[str, ...] = ()
    public: tuple[str, ...] = ()
    app: str | None = None
    app_dir: str | None = None
    docs: str | None = None
    fail_on: str | None = None
    baseline: str | None = None
    factory: bool = False
    probe: bool = False


def read_settings(directory: str = ".") -> Settings:
    """From ``pyproject.toml`` in the directory, if there is one. Raises ``ValueError`` naming the key."""
    path = os.path.join(directory, "pyproject.toml")
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError:
        return Settings()
    if b"tool.gatewright.audit" not in text:
        return Settings()
    table = _parse(path, text.decode("utf-8", "replace"))
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key in LISTS:
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise ValueError(f"{path}: tool.gatewright.audit.{key} must be a list of strings")
            values[key.replace("-", "_")] = tuple(value)
        elif key in STRINGS:
            allowed = STRINGS[key]
            if not isinstance(value, str) or (allowed and value not in allowed):
                raise ValueError(f"{path}: tool.gatewright.audit.{key} must be {' or '.join(allowed) if allowed else 'a string'}")
            values[key.replace("-", "_")] = value
        elif key in SWITCHES:
            if not isinstance(value, bool):
                raise ValueError(f"{path}: tool.gatewright.audit.{key} must be true or false")
            values[key] = value
        else:
            raise ValueError(f"{path}: tool.gatewright.audit has no key '{key}'")
    return Settings(**values)


def _parse(path: str, text: str) -> dict[str, Any]:
    toml = _toml_reader()
    if toml is None:
        raise ValueError(f"{path} has settings for the audit, and Python 3.10 cannot read TOML: pip install tomli, or use Python 3.11")
    try:
        table: Any = toml.loads(text).get("tool", {}).get("gatewright", {}).get("audit", {})
    except ValueError as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from None
    return table if isinstance(table, dict) else {}


def _toml_reader() -> Any | None:
    for name in ("tomllib", "tomli"):  # the first came with Python 3.11
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None
