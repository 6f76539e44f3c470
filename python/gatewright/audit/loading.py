"""Imports an app as uvicorn does: ``module:attribute``. This runs the app's module code; the lifespan is never started."""

from __future__ import annotations

import base64
import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator

from .record import Record


class ImportFailed(RuntimeError):
    """The app cannot be had; the text says why and what to do."""


def load_app(spec: str, app_dir: str, factory: bool) -> tuple[object, Record]:
    """The app and where its routers were included. Raises ``ImportFailed``.

    Whatever the app prints while it is imported goes to standard error, so that the report stays alone on standard output.
    """
    module_name, colon, attribute = spec.partition(":")
    if not colon or not module_name or not attribute:
        raise ImportFailed(f"'{spec}' is not of the form module:attribute, for example app.main:app")
    if module_name.endswith(".py") or "/" in module_name:
        raise ImportFailed(
            f"'{module_name}' is a path, not a module: write {module_name.removesuffix('.py').strip('./').replace('/', '.')}:{attribute}, with --app-dir if it lies elsewhere"
        )
    if not os.path.isdir(app_dir):
        raise ImportFailed(f"the directory {app_dir} does not exist")
    sys.path.insert(0, os.path.abspath(app_dir))
    record = Record()
    with contextlib.redirect_stdout(sys.stderr), record.listening(), _placeholders():
        found = _run(f"importing {module_name}", lambda: importlib.import_module(module_name))
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise ImportFailed(f"{module_name} has no '{attribute}': name the variable that holds the app")
            found = getattr(found, part)
        if factory:
            make = found
            if not callable(make):
                raise ImportFailed(f"{spec} is not callable: leave --factory out")
            found = _run(f"calling {spec}", lambda: make())
        elif inspect.isfunction(found) and not _is_asgi(found):
            raise ImportFailed(f"{spec} is a function: pass --factory if it makes the app")
    return found, record


@contextlib.contextmanager
def _placeholders() -> Iterator[None]:
    """What ``Gatewright.from_env()`` insists on, where it is not set: guards are read here, not used, and CI has no server and no secrets."""
    values = {
        "WORKOS_CLIENT_ID": "client_audit",
        "WORKOS_API_KEY": "sk_audit",
        "WORKOS_COOKIE_PASSWORD": base64.b64encode(os.urandom(32)).decode(),
    }
    if not os.environ.get("GATEWRIGHT_URL"):
        values["WORKOS_BASE_URL"] = "http://127.0.0.1:9"
    missing = {name: value for name, value in values.items() if not os.environ.get(name)}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name, value in missing.items():
            if os.environ.get(name) == value:
                del os.environ[name]


def _is_asgi(function: Callable[..., object]) -> bool:
    return len(inspect.signature(function).parameters) == 3


def _run(what: str, step: Callable[[], object]) -> object:
    try:
        return step()
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as error:
        hint = "run it where the app's own dependencies are installed, and check --app-dir" if error.name else "check --app-dir"
        raise ImportFailed(f"{what} failed: {error} ({hint})") from error
    except BaseException as error:  # SystemExit too: an app may call sys.exit() when a setting is missing
        raise ImportFailed(f"{what} failed: {type(error).__name__}: {error}".strip().rstrip(":")) from error
