"""The table for people at a terminal."""

from __future__ import annotations

import unicodedata

from ..model import AuditedRoute, Report
from ..rules import LEVELS, Level
from .text import guard_words, outcome_words, summary_words

COLOURS = {"guarded": "32", "public": "36", "framework": "2", "open": "1;31", "optional": "33", "unverified": "33", "opaque": "33"}
WIDEST_PATH = 64
WIDEST_GUARD = 44
MOST_WARNINGS = 10
"""Of one rule; what makes the run fail is always shown whole."""


def render_table(report: Report, fail_on: Level = "unverified", colour: bool = False) -> str:
    """Aligned columns, then what to do, then the sums. Nothing is cut off: what is too wide for its column pushes its own line only."""
    rows = [_row(route) for route in report.routes]
    heads = ("METHOD", "PATH", "GUARD", "VERDICT", "WHERE")
    limits = (20, WIDEST_PATH, WIDEST_GUARD, 12, 0)
    widths = [
        max([len(head), *(width for row in rows if (width := _width(row[at])) <= limit)])
        for at, (head, limit) in enumerate(zip(heads, limits, strict=True))
    ]
    lines = [_paint(_line(heads, widths), "1", colour)]
    for route, row in zip(report.routes, rows, strict=True):
        line = _line(row, widths)
        lines.append(
            line.replace(row[3], _paint(row[3], COLOURS[route.verdict], colour), 1)
            if colour and line.count(row[3]) == 1
            else _painted(row, widths, route, colour)
        )
    live = [finding for finding in report.findings if not finding.accepted]
    if live:
        lines.append("")
    shown: tuple[str, ...] = ()
    told: dict[str, int] = {}
    for finding in sorted(live, key=lambda finding: -LEVELS[finding.level]):
        is_error = LEVELS[finding.level] >= LEVELS[fail_on]
        label = _paint("error" if is_error else "warning", "1;31" if is_error else "33", colour)
        if not is_error:
            told[finding.rule] = told.get(finding.rule, 0) + 1
            if told[finding.rule] > MOST_WARNINGS:
                continue
        where = _paint(f"{finding.route.place}: ", "1", colour) if finding.route.place else ""
        lines.append(f"{where}{label}[{finding.rule}] {printable(finding.message)}")
        if finding.rule in ("GW001", "GW004", "GW008") and finding.route.via and finding.route.via != shown:
            # Said once for neighbours that came the same way.
            shown = finding.route.via
            lines.append(f"    {' → '.join(shown)}")
    for rule, number in told.items():
        if number > MOST_WARNINGS:
            lines.append(f"… and {number - MOST_WARNINGS} more of {_paint('warning', '33', colour)}[{rule}] (--format json lists them)")
    lines += [f"note: {note}" for note in report.notes]
    if any(finding.rule in ("GW001", "GW008") for finding in live):
        lines += [
            "",
            "help: a public route says so with Depends(gw.public) or --public PATH; guards of your own are named with --guard module:function",
        ]
    lines += ["", summary_words(report), outcome_words(report, fail_on)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _row(route: AuditedRoute) -> tuple[str, str, str, str, str]:
    verdict = route.verdict.upper() if route.verdict in ("open", "opaque", "optional", "unverified") else route.verdict
    return ",".join(route.methods), printable(route.path), guard_words(route), verdict, (route.location.short if route.location else "")


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(cell + " " * max(0, width - _width(cell)) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _painted(row: tuple[str, ...], widths: list[int], route: AuditedRoute, colour: bool) -> str:
    if not colour:
        return _line(row, widths)
    head = _line((*row[:3], ""), widths[:4]).ljust(sum(widths[:3]) + 6)
    return f"{head}{_paint(row[3].ljust(widths[3]), COLOURS[route.verdict], colour)}  {row[4]}"


def _paint(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour and text else text


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def printable(text: str) -> str:
    """Control characters of a path cannot reach the terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
