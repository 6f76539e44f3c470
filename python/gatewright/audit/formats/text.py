"""Words every format shares."""

from __future__ import annotations

from ..model import AuditedRoute, Report
from ..rules import Level


def guard_words(route: AuditedRoute) -> str:
    names = list(dict.fromkeys(guard.name + (" (optional)" if guard.optional and guard.facts is None else "") for guard in route.guards))
    if route.kind == "framework" and not names:
        return "framework"
    if not names and route.verdict == "public":
        return "public (declared)"
    return " + ".join(names) or "—"


def summary_words(report: Report) -> str:
    """``31 routes · 26 guarded · 2 public · 1 open``."""
    parts = [count(len(report.routes), "route")]
    parts += [f"{number} {verdict}" for verdict, number in report.counts().items() if number]
    accepted = sum(finding.accepted for finding in report.findings)
    return " · ".join([*parts, *([f"{accepted} accepted by the baseline"] if accepted else [])])


def outcome_words(report: Report, fail_on: Level) -> str:
    """What the numbers mean for the exit code."""
    failing = report.failing(fail_on)
    below = sum(not finding.accepted for finding in report.findings) - len(failing)
    warnings = f", {count(below, 'warning')}" if below else ""
    if not failing:
        return f"Every route is covered{warnings}." if fail_on != "open" else f"No route is open{warnings}."
    return f"{count(len(failing), 'finding')} to mend or to accept{warnings}."


def count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
