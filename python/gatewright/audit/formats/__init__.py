"""The five ways to print a report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ..model import Report
from ..rules import Level
from .github import render_github
from .json import render_json
from .markdown import render_markdown
from .sarif import render_sarif
from .table import render_table

Format = Literal["table", "json", "sarif", "github", "md"]
FORMATS: dict[Format, Callable[[Report, Level, bool], str]] = {
    "table": render_table,
    "json": lambda report, fail_on, colour: render_json(report),
    "sarif": lambda report, fail_on, colour: render_sarif(report),
    "github": lambda report, fail_on, colour: render_github(report, fail_on),
    "md": lambda report, fail_on, colour: render_markdown(report, fail_on),
}


def render(report: Report, kind: Format, fail_on: Level = "unverified", colour: bool = False) -> str:
    """The report as text that ends in a line feed."""
    return FORMATS[kind](report, fail_on, colour)
