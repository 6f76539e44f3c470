"""What pytest says in its report."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path


def count(report: Path, status: int) -> tuple[int, int]:
    """Passed and failed tests of a run that ended with this status. A skipped test has shown nothing and counts as failed."""
    if not report.exists():
        return 0, 1
    total = failed = 0
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        total += int(suite.get("tests", 0))
        failed += sum(int(suite.get(kind, 0)) for kind in ("failures", "errors", "skipped"))
    passed, failed = max(total - failed, 0), failed if total else 1
    return passed, failed if failed or status == 0 else 1
