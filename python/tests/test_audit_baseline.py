"""Baselines accept what was reviewed and report what became worse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from planted.gate import gw

from gatewright.audit import audit
from gatewright.audit.baseline import write_baseline


def app_with(**routes: list[Any]) -> FastAPI:
    app = FastAPI(openapi_url=None)
    for name, guards in routes.items():
        app.get(f"/{name}", dependencies=[Depends(guard) for guard in guards])(lambda: None)
    return app


@pytest.fixture
def baseline(tmp_path: Path) -> str:
    path = str(tmp_path / "routes.json")
    write_baseline(path, audit(app_with(old=[], health=[gw.public], admin=[gw.requires(role="admin", mfa=True)], gone=[gw.user])))
    return path


def rules(app: FastAPI, baseline: str) -> dict[str, bool]:
    return {f"{finding.rule} {finding.route.path}": finding.accepted for finding in audit(app, baseline=baseline).findings}


def test_what_was_reviewed_is_accepted(baseline: str) -> None:
    app = app_with(old=[], health=[gw.public], admin=[gw.requires(role="admin", mfa=True)])
    report = audit(app, baseline=baseline)
    assert rules(app, baseline) == {"GW001 /old": True}
    assert report.exit_code() == 0
    assert report.notes == ["1 route of the baseline is gone, write it again: GET /gone"]


def test_a_new_open_route_fails(baseline: str) -> None:
    report = audit(app_with(old=[], new=[]), baseline=baseline)
    assert [finding.route.path for finding in report.failing()] == ["/new"]


def test_a_new_public_route_fails_until_it_is_reviewed(baseline: str) -> None:
    app = app_with(extra=[gw.public])
    assert rules(app, baseline) == {"GW011 /extra": False}
    write_baseline(baseline, audit(app, baseline=baseline))
    assert rules(app, baseline) == {}


def test_a_guarded_route_that_became_public_fails(baseline: str) -> None:
    report = audit(app_with(admin=[gw.public]), baseline=baseline)
    assert [finding.rule for finding in report.failing()] == ["GW011"]
    assert "was guarded" in next(finding.message for finding in report.findings if finding.rule == "GW011")


@pytest.mark.parametrize(
    "now", [gw.user, gw.requires(role="admin"), gw.requires(role="editor", mfa=True), gw.requires(mfa=True, role="admin", csrf=False)]
)
def test_a_weakened_guard_fails(baseline: str, now: object) -> None:
    assert rules(app_with(admin=[now]), baseline)["GW012 /admin"] is False


@pytest.mark.parametrize("now", [[gw.requires(role="admin", mfa=True, fresh=True)], [gw.requires(role="admin"), gw.requires(mfa=True)]])
def test_a_strengthened_guard_does_not(baseline: str, now: list[object]) -> None:
    assert rules(app_with(admin=now), baseline) == {}


def test_an_accepted_route_with_another_fault_fails(baseline: str) -> None:
    report = audit(app_with(old=[gw.user.optional]), baseline=baseline)
    assert [finding.rule for finding in report.failing()] == ["GW002"]


def test_the_file_has_one_sorted_line_for_each_route(baseline: str) -> None:
    with open(baseline, encoding="utf-8") as file:
        text = file.read()
    lines = [line for line in text.splitlines() if "verdict" in line]
    assert lines == sorted(lines) and len(lines) == 4
    assert json.loads(text)["routes"]["GET /admin"]["demands"] == ["caller=user", "csrf", "mfa", "role=admin"]
    assert json.loads(text)["routes"]["GET /old"] == {"verdict": "open", "findings": ["GW001"]}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"baseline_version": 2, "routes": {}}', '{"baseline_version": 1, "routes": {"GET /x": 1}}', "\x00"]
)
def test_a_broken_file_is_refused_with_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="baseline"):
        audit(FastAPI(), baseline=str(path))


def test_a_missing_file_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--write-baseline"):
        audit(FastAPI(), baseline=str(tmp_path / "none.json"))
