"""SARIF 2.1.0 for code scanning."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..model import Finding, Report
from ..rules import RULES, Level

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
SARIF_LEVELS: dict[Level, str] = {"open": "error", "unverified": "warning", "weak": "note"}
SEVERITIES: dict[Level, str] = {"open": "8.0", "unverified": "5.0", "weak": "3.0"}


def render_sarif(report: Report) -> str:
    rules = list(RULES.values())
    positions = {rule.id: position for position, rule in enumerate(rules)}
    driver: dict[str, Any] = {
        "name": "gatewright routes audit",
        "informationUri": "https://github.com/gatewright/gatewright",
        "rules": [
            {
                "id": rule.id,
                "name": rule.name,
                "shortDescription": {"text": rule.summary},
                "fullDescription": {"text": f"{rule.summary} {rule.help}"},
                "help": {"text": rule.help},
                "defaultConfiguration": {"level": SARIF_LEVELS[rule.level]},
                "properties": {"tags": ["security"], "security-severity": SEVERITIES[rule.level]},
            }
            for rule in rules
        ],
    }
    version = _own_version()
    if version is not None:
        driver["version"] = version
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"SRCROOT": {"uri": Path.cwd().as_uri().rstrip("/") + "/"}},
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [{"level": "note", "message": {"text": note}} for note in report.notes],
            }
        ],
        "results": [_result(finding, positions) for finding in report.findings],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def _result(finding: Finding, positions: dict[str, int]) -> dict[str, Any]:
    route = finding.route
    location: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": route.key, "kind": "function"}]}
    if route.place is not None:
        location["physicalLocation"] = {
            "artifactLocation": _artifact(route.place.file),
            "region": {"startLine": max(1, route.place.line)},
        }
    out: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": positions[finding.rule],
        "level": SARIF_LEVELS[finding.level],
        "message": {"text": finding.message + (f" ({' → '.join(route.via)})" if route.via else "")},
        "locations": [location],
        "partialFingerprints": {"gatewrightRoute/v1": finding.fingerprint},
    }
    if finding.accepted:
        out["suppressions"] = [{"kind": "external", "status": "accepted", "justification": "accepted by the baseline"}]
    return out


def _artifact(file: str) -> dict[str, str]:
    if os.path.isabs(file):
        return {"uri": Path(file).as_uri()}
    return {"uri": quote(file), "uriBaseId": "SRCROOT"}


def _own_version() -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gatewright")
    except PackageNotFoundError:
        return None
