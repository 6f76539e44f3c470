"""The five formats: aligned, escaped, valid."""

from __future__ import annotations

import glob
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from gatewright.audit import RULES, AuditedRoute, Finding, GuardUse, Location, Report
from gatewright.audit.formats import render

SARIF_SCHEMAS = (
    # The official schema is not ours to copy; the crate serde-sarif (`cargo info serde-sarif` fetches it) carries it.
    os.environ.get("SARIF_SCHEMA", ""),
    *sorted(glob.glob(str(Path.home() / ".cargo/registry/src/*/serde-sarif-*/src/schema.json"))),
)


def route(path: str, **more: Any) -> AuditedRoute:
    values: dict[str, Any] = {
        "methods": ("GET",),
        "path": path,
        "kind": "http",
        "verdict": "open",
        "location": Location("app/main.py", 7),
        **more,
    }
    return AuditedRoute(**values)


def report(*routes: AuditedRoute, **more: Any) -> Report:
    findings = more.pop("findings", [Finding("GW001", f"{r.key} has no guard", r) for r in routes if r.verdict == "open"])
    return Report(app="app.main:app", fastapi_version="0.0.0", routes=list(routes), findings=findings, **more)


NASTY = report(
    route("/a,b:c%d\n::error::e|f`g<h>", via=("included at app/main.py:1 under /a",)),
    route("/läuft/{x}", verdict="guarded", guards=(GuardUse("user", "role=a|b"),)),
    route("/wide/世界", verdict="public", location=None),
    route("/elsewhere", location=Location("/opt/some where/x.py", 3)),
    findings=[
        *(Finding(rule, f"100% of {rule}: <b>\r\n|`x`|", route("/a,b:c%d\n")) for rule in RULES),
        Finding("GW001", "elsewhere", route("/elsewhere", location=Location("/opt/some where/x.py", 3))),
        Finding("GW002", "nowhere", route("/nowhere", location=None)),
        Finding("GW003", "accepted", route("/accepted"), accepted=True),
    ],
    notes=["50% of\nnotes"],
)


def test_sarif_validates_against_the_official_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    found = next((path for path in SARIF_SCHEMAS if path and os.path.exists(path)), None)
    if found is None:
        pytest.skip("no SARIF schema here: set SARIF_SCHEMA, or run `cargo info serde-sarif`")
    schema = json.loads(Path(found).read_text(encoding="utf-8"))
    assert "2.1.0" in json.dumps(schema)[:2000]
    validator = jsonschema.validators.validator_for(schema)(schema)
    document = json.loads(render(NASTY, "sarif"))
    assert [error.message for error in validator.iter_errors(document)] == []
    broken = json.loads(render(NASTY, "sarif"))
    broken["runs"][0]["results"][0]["level"] = "dreadful"
    assert list(validator.iter_errors(broken)), "the schema really judges"


def test_sarif_names_rules_places_and_fingerprints() -> None:
    run = json.loads(render(NASTY, "sarif"))["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(RULES)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    results: list[dict[str, Any]] = run["results"]
    first, (elsewhere, nowhere, accepted) = results[0], results[-3:]
    assert first["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "app/main.py", "uriBaseId": "SRCROOT"},
        "region": {"startLine": 7},
    }
    assert elsewhere["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": "file:///opt/some%20where/x.py"}
    assert "physicalLocation" not in nowhere["locations"][0]
    assert accepted["suppressions"][0]["status"] == "accepted"
    assert len({result["partialFingerprints"]["gatewrightRoute/v1"] for result in run["results"]}) == len(run["results"])


def test_fingerprints_survive_moved_lines() -> None:
    here, there = route("/x"), route("/x", location=Location("app/other.py", 99))
    assert Finding("GW001", "a", here).fingerprint == Finding("GW001", "b", there).fingerprint
    assert Finding("GW001", "a", here).fingerprint != Finding("GW002", "a", here).fingerprint


def test_github_annotations_cannot_be_broken_out_of() -> None:
    text = render(NASTY, "github")
    lines = text.rstrip("\n").split("\n")
    commands = [line for line in lines if line.startswith("::")]
    assert len(commands) == len(RULES) + 2 + 1, "one line for each live finding and note"
    assert "\r" not in text
    pattern = re.compile(r"^::(error|warning|notice) (file=[^,]*,line=\d+,)?title=[^,:]*::[^\r\n]*$")
    assert all(pattern.match(line) for line in commands), commands
    assert "100%25 of GW001: <b>%0D%0A" in text
    assert "accepted" not in "".join(commands)
    assert f"::error file=app/main.py,line=7,title=GW001 {RULES['GW001'].name}::" in text


def test_annotations_are_errors_only_where_the_run_fails() -> None:
    weak = report(route("/x", verdict="guarded"), findings=[Finding("GW005", "m", route("/x"))])
    assert render(weak, "github").startswith("::warning ")
    assert render(weak, "github", "weak").startswith("::error ")


def test_markdown_keeps_its_tables_whole() -> None:
    text = render(NASTY, "md")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for row in rows:
        cells = len(re.findall(r"(?<!\\)\|", row)) - 1
        assert cells in (3, 5), row
    assert "<b>" not in text.replace("\\<b\\>", "")
    assert "**" in text and "<details>" in text


def test_the_table_is_aligned_and_says_what_to_do() -> None:
    text = render(
        report(route("/short"), route("/" + "long/" * 30), route("/世界", verdict="guarded", guards=(GuardUse("user", "user"),))), "table"
    )
    lines = text.splitlines()
    column = lines[0].index("VERDICT")
    assert lines[1][column:].startswith("OPEN ")
    assert lines[2].startswith("GET     /long/") and "OPEN" in lines[2], "a long path is never cut off"
    assert lines[3].replace("世界", "....")[column:].startswith("guarded "), "wide letters take two columns"
    assert "app/main.py:7: error[GW001] GET /short has no guard" in text
    assert "3 routes · 1 guarded · 2 open" in text
    assert "2 findings to mend or to accept." in text


def test_the_table_has_colours_only_when_asked() -> None:
    assert "\x1b" not in render(NASTY, "table")
    coloured = render(NASTY, "table", colour=True)
    assert "\x1b[1;31mOPEN" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).split() == render(NASTY, "table").split()


def test_control_characters_of_a_path_do_not_reach_the_terminal() -> None:
    text = render(report(route("/\x1b[2Jx")), "table")
    assert "\x1b" not in text.splitlines()[1]


def test_a_clean_report_says_so() -> None:
    text = render(report(route("/x", verdict="guarded", guards=(GuardUse("user", "user"),))), "table")
    assert text.endswith("1 route · 1 guarded\nEvery route is covered.\n")


def test_many_warnings_of_one_kind_are_folded_and_errors_never() -> None:
    routes = [route(f"/r{number}", verdict="guarded") for number in range(40)]
    weak = report(*routes, findings=[Finding("GW006", f"{r.key} is weak", r) for r in routes])
    assert render(weak, "table").count("warning[GW006] GET") == 10
    assert "and 30 more of warning[GW006]" in render(weak, "table")
    assert render(weak, "table", "weak").count("error[GW006]") == 40


def test_the_json_says_every_finding() -> None:
    one = route("/x")
    data = json.loads(render(report(one, findings=[Finding("GW001", "open", one), Finding("GW002", "seen", one, accepted=True)]), "json"))
    assert data["routes"][0]["reasons"] == ["GW001: open", "GW002: seen (accepted)"]
    assert data["summary"]["findings"] == {"open": 1, "unverified": 0, "weak": 0} and data["summary"]["accepted"] == 1
