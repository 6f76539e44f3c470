"""The route audit: which routes of a FastAPI or Starlette app are guarded, and which are not.

``gatewright routes audit app.main:app`` on the command line; :func:`audit` and :func:`assert_covered` in tests. Works on apps that use Gatewright's
guards and, with declared guards, on apps that use anything else. Needs neither a server nor the network.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from .model import AuditedRoute, Finding, GuardUse, Location, Report
from .rules import RULES, Level, Rule

if TYPE_CHECKING:
    from .record import Record

__all__ = [
    "RULES",
    "AuditedRoute",
    "Finding",
    "GuardUse",
    "Level",
    "Location",
    "NotCovered",
    "Report",
    "Rule",
    "assert_covered",
    "audit",
    "main",
]


class NotCovered(AssertionError):
    """Raised by :func:`assert_covered`; ``report`` holds the whole audit."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


def audit(
    app: object,
    *,
    guards: Iterable[str | object] = (),
    optional_guards: Iterable[str | object] = (),
    public: Iterable[str] = (),
    docs: Literal["open", "guarded"] = "open",
    probe: bool = False,
    baseline: str | None = None,
    name: str | None = None,
    record: Record | None = None,
) -> Report:
    """Audits an app that is already imported.

    ``guards`` and ``optional_guards`` declare other people's guards, as objects or as ``"module:function"``; ``public`` holds path patterns that are
    meant for everybody; ``baseline`` names a file written by ``--write-baseline``. Raises ``Unsupported`` (a ``RuntimeError``) for an app or a
    version that cannot be read, ``UnknownGuard`` (a ``LookupError``) for a guard that cannot be imported, and ``ValueError`` for a broken baseline.
    """
    # In full: after `from .baseline` in a package's own file, pyright takes the parameter of that name for the module.
    from gatewright.audit.baseline import compare, read_baseline
    from gatewright.audit.guards import Guards
    from gatewright.audit.patterns import Patterns
    from gatewright.audit.verdict import judge
    from gatewright.audit.walk import check_version, walk

    started = time.perf_counter()
    version = check_version()
    declared, patterns = Guards.load(guards, optional_guards), Patterns.of(public)
    with _no_collections():
        judged = judge(walk(app, record), declared, patterns, docs)
    notes = [f"the guard {name} is on no route" for name in declared.unseen()] + [
        f"the pattern {text} matches no open route" for text in patterns.unseen()
    ]
    if probe:
        from .probe import probe_routes

        notes += probe_routes(app, judged)
    routes = [item.route for item in judged]
    findings = [finding for item in judged for finding in item.findings]
    if baseline is not None:
        findings, remarks = compare(routes, findings, read_baseline(baseline))
        notes += remarks
    shown = name or getattr(app, "title", None) or type(app).__name__
    return Report(app=shown, fastapi_version=version, routes=routes, findings=findings, notes=notes, seconds=time.perf_counter() - started)


def assert_covered(
    app: object,
    *,
    guards: Iterable[str | object] = (),
    optional_guards: Iterable[str | object] = (),
    public: Iterable[str] = (),
    docs: Literal["open", "guarded"] = "open",
    probe: bool = False,
    baseline: str | None = None,
    fail_on: Level = "unverified",
) -> Report:
    """Raises :class:`NotCovered` naming every route that strangers can enter; for unit tests and for start-up."""
    report = audit(app, guards=guards, optional_guards=optional_guards, public=public, docs=docs, probe=probe, baseline=baseline)
    failing = report.failing(fail_on)
    if failing:
        lines = [f"{finding.rule} {finding.message}" + (f" ({finding.route.place})" if finding.route.place else "") for finding in failing]
        raise NotCovered(
            f"{len(failing)} finding{'s' if len(failing) != 1 else ''} on the routes of {report.app}:\n  " + "\n  ".join(lines), report
        )
    return report


@contextmanager
def _no_collections() -> Iterator[None]:
    """From 0.137 on FastAPI analyses included routes when they are first asked for: many objects that live on, no garbage, and a
    quarter of the time is the collector looking at them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def main(argv: list[str] | None = None) -> int:
    """The command ``gatewright routes audit``; returns its exit code."""
    from .cli import main as run

    return run(argv)
