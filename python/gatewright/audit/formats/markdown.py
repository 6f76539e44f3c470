"""Markdown for job summaries."""

from __future__ import annotations

import re

from ..model import Report
from ..rules import LEVELS, Level
from .text import guard_words, outcome_words, summary_words


def render_markdown(report: Report, fail_on: Level = "unverified") -> str:
    lines = [
        f"## Routes of {_escape(report.app)}",
        "",
        f"{_escape(summary_words(report))}",
        "",
        f"**{_escape(outcome_words(report, fail_on))}**",
        "",
    ]
    live = sorted((finding for finding in report.findings if not finding.accepted), key=lambda finding: -LEVELS[finding.level])
    if live:
        lines += ["| Rule | Finding | Where |", "| --- | --- | --- |"]
        lines += [f"| {finding.rule} | {_escape(finding.message)} | {_code(str(finding.route.place or ''))} |" for finding in live]
        lines.append("")
    lines += [
        "<details><summary>All routes</summary>",
        "",
        "| Method | Path | Guard | Verdict | Where |",
        "| --- | --- | --- | --- | --- |",
    ]
    for route in report.routes:
        verdict = f"**{route.verdict}**" if route.verdict in ("open", "optional", "unverified", "opaque") else route.verdict
        lines.append(
            f"| {','.join(route.methods)} | {_code(route.path)} | {_escape(guard_words(route))} | {verdict} | {_code(route.location.short if route.location else '')} |"
        )
    lines += ["", "</details>", ""]
    lines += [f"> {_escape(note)}  " for note in report.notes]
    return "\n".join(lines).rstrip() + "\n"


def _escape(text: str) -> str:
    """Text in a table cell: nothing in it is markup."""
    text = re.sub(r"([\\`*_{}\[\]<>|~#!])", r"\\\1", text)
    return re.sub(r"[\r\n]+", " ", text)


def _code(text: str) -> str:
    """A code span in a table cell; a bar would end the cell even there."""
    if not text:
        return ""
    text = re.sub(r"[\r\n]+", " ", text)
    if "`" in text or "|" in text:
        return _escape(text)
    return f"`{text}`"
