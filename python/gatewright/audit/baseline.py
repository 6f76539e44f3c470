"""Baselines: what was reviewed. New findings, new public routes and weakened guards show up against them; moved lines do not."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .model import AuditedRoute, Finding, Report

VERSION = 1


@dataclass(frozen=True)
class Baseline:
    """Routes as they were reviewed, by ``METHODS path``."""

    verdicts: dict[str, str]
    demands: dict[str, tuple[str, ...]]
    accepted: dict[str, frozenset[str]]
    """Rules that were reported then."""


def read_baseline(path: str) -> Baseline:
    """Raises ``ValueError`` with a sentence if the file is missing or not a baseline."""
    try:
        with open(path, encoding="utf-8") as file:
            data: Any = json.load(file)
    except FileNotFoundError:
        raise ValueError(f"the baseline {path} does not exist: write it with --write-baseline {path}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"the baseline {path} cannot be read: {error}") from None
    if not isinstance(data, dict) or data.get("baseline_version") != VERSION or not isinstance(data.get("routes"), dict):
        raise ValueError(f"{path} is not a baseline of version {VERSION}: write it again with --write-baseline {path}")
    verdicts: dict[str, str] = {}
    demands: dict[str, tuple[str, ...]] = {}
    accepted: dict[str, frozenset[str]] = {}
    for key, entry in data["routes"].items():
        if not isinstance(entry, dict) or not isinstance(entry.get("verdict"), str):
            raise ValueError(f"the baseline {path} has a broken entry for {key}: write it again with --write-baseline {path}")
        verdicts[key] = entry["verdict"]
        demands[key] = tuple(entry.get("demands", ()))
        accepted[key] = frozenset(entry.get("findings", ()))
    return Baseline(verdicts, demands, accepted)


def write_baseline(path: str, report: Report) -> None:
    """One route per line, sorted, so that reviews show what changed. Replaces the file in one step."""
    rules: dict[str, set[str]] = {}
    for finding in report.findings:
        if finding.rule not in ("GW011", "GW012"):
            rules.setdefault(finding.route.key, set()).add(finding.rule)
    lines = []
    for key, route in sorted({route.key: route for route in _worst_first(report.routes)}.items()):
        entry: dict[str, Any] = {"verdict": route.verdict}
        if route.verdict == "guarded":
            entry["demands"] = list(route.demands())
        if key in rules:
            entry["findings"] = sorted(rules[key])
        lines.append(f"    {json.dumps(key)}: {json.dumps(entry)}")
    text = f'{{\n  "baseline_version": {VERSION},\n  "routes": {{\n' + ",\n".join(lines) + "\n  }\n}\n"
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.new", path)


def compare(routes: Sequence[AuditedRoute], findings: Sequence[Finding], baseline: Baseline) -> tuple[list[Finding], list[str]]:
    """Findings with the reviewed ones accepted and the differences added; remarks about entries that are gone."""
    out = [replace(finding, accepted=finding.rule in baseline.accepted.get(finding.route.key, ())) for finding in findings]
    for route in routes:
        before = baseline.verdicts.get(route.key)
        if route.verdict == "public" and before != "public":
            was = "is new" if before is None else f"was {before} when the baseline was written"
            out.append(Finding("GW011", f"{route.key} is declared public and {was}: review it, then write the baseline again", route))
        elif route.verdict == "guarded" and before == "guarded":
            lost = [demand for demand in baseline.demands.get(route.key, ()) if demand not in route.demands()]
            if lost:
                now = ", ".join(route.demands()) or "nothing but a credential"
                out.append(
                    Finding(
                        "GW012",
                        f"{route.key} no longer demands {', '.join(lost)} (now: {now}): restore it, or review it and write the baseline again",
                        route,
                    )
                )
    present = {route.key for route in routes}
    gone = [key for key in baseline.verdicts if key not in present]
    return out, [
        f"{len(gone)} route{'s' if len(gone) != 1 else ''} of the baseline {'are' if len(gone) != 1 else 'is'} gone, write it again: {', '.join(sorted(gone)[:5])}"
    ] if gone else []


def _worst_first(routes: Sequence[AuditedRoute]) -> list[AuditedRoute]:
    """Two routes may share a key (the second is never reached); the entry then keeps the first."""
    return list(reversed(routes))
