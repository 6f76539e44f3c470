"""Workflow commands: annotations on a pull request."""

from __future__ import annotations

from ..model import Report
from ..rules import LEVELS, RULES, Level
from .text import outcome_words, summary_words


def render_github(report: Report, fail_on: Level = "unverified") -> str:
    lines = []
    for finding in report.findings:
        if finding.accepted:
            continue
        command = "error" if LEVELS[finding.level] >= LEVELS[fail_on] else "warning"
        properties = [f"title={_property(f'{finding.rule} {RULES[finding.rule].name}')}"]
        if finding.route.place is not None:
            properties = [f"file={_property(finding.route.place.file)}", f"line={finding.route.place.line}", *properties]
        via = f" ({' → '.join(finding.route.via)})" if finding.route.via else ""
        lines.append(f"::{command} {','.join(properties)}::{_message(finding.message + via)}")
    lines += [f"::notice title=gatewright routes audit::{_message(note)}" for note in report.notes]
    lines.append(_message(f"{summary_words(report)}. {outcome_words(report, fail_on)}"))
    return "\n".join(lines) + "\n"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
