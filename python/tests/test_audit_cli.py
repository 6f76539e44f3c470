"""The command line: exit codes, imports, settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import fastapi
import pytest

from gatewright.audit import main

CLEAN = """
from fastapi import Depends, FastAPI, HTTPException

def guard():
    raise HTTPException(401)

app = FastAPI(dependencies=[Depends(guard)])

@app.get("/x")
def x(): ...

def make():
    return app

class Holder:
    app = app
"""
OPEN = (
    CLEAN
    + """
@app.get("/ok", dependencies=[])
def ok(): ...

other = FastAPI()

@other.get("/open")
def open_route(): ...
"""
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A directory with a module of its own name, and the working directory in it."""
    name = f"cli_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(OPEN, encoding="utf-8")
    (tmp_path / f"{name}_broken.py").write_text("import a_module_that_is_nowhere\n", encoding="utf-8")
    (tmp_path / f"{name}_exit.py").write_text("import sys\nsys.exit('no DATABASE_URL')\n", encoding="utf-8")
    (tmp_path / f"{name}_loud.py").write_text("print('noise')\n" + CLEAN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def test_a_covered_app_exits_0(project: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{project}:app", "--guard", f"{project}:guard"]) == 0
    out, err = capsys.readouterr()
    assert "Every route is covered." in out and f"{project}.py:" in out and err == ""


def test_an_open_route_exits_1(project: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{project}:other"]) == 1
    assert "error[GW001] GET /open has no guard" in capsys.readouterr().out


def test_a_pattern_declares_it_public(project: str) -> None:
    assert main([f"{project}:other", "--public", "/open"]) == 0
    assert main([f"{project}:other", "--public", "GET /op*"]) == 0
    assert main([f"{project}:other", "--public", "POST /open"]) == 1


def test_fail_on_open_lets_unverified_routes_pass(project: str) -> None:
    assert main([f"{project}:app"]) == 1
    assert main([f"{project}:app", "--fail-on", "open"]) == 0


def test_a_factory_is_called(project: str) -> None:
    assert main([f"{project}:make", "--factory", "--guard", f"{project}:guard"]) == 0


def test_an_attribute_path_is_followed(project: str) -> None:
    assert main([f"{project}:Holder.app", "--guard", f"{project}:guard"]) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{p}"], "module:attribute"),
        (["{p}.py:app"], "is a path, not a module"),
        (["{p}:nothing"], "has no 'nothing'"),
        (["{p}_missing:app"], "No module named"),
        (["{p}_broken:app"], "a_module_that_is_nowhere"),
        (["{p}_exit:app"], "no DATABASE_URL"),
        (["{p}:make"], "pass --factory"),
        (["{p}:app", "--factory", "--guard", "{p}:nothing"], "calling"),
        (["{p}:app", "--guard", "{p}:nothing"], "has no 'nothing'"),
        (["{p}:app", "--guard", "{p}_broken:x"], "importing"),
        (["{p}:app", "--guard", "guard"], "module:function"),
        (["{p}:app", "--baseline", "none.json"], "does not exist"),
        (["{p}:app", "--app-dir", "nowhere"], "does not exist"),
        (["{p}:app", "--format", "xml"], "invalid choice"),
        ([], "name the app"),
    ],
)
def test_what_cannot_be_used_exits_2_with_one_sentence(
    project: str, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main([argument.replace("{p}", project) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert sentence in err and "Traceback" not in err and out == ""


def test_what_is_no_app_exits_3(project: str, capsys: pytest.CaptureFixture[str]) -> None:
    (Path.cwd() / f"{project}_thing.py").write_text("app = object()\n", encoding="utf-8")
    assert main([f"{project}_thing:app"]) == 3
    assert "not a FastAPI, Starlette or Router object" in capsys.readouterr().err


def test_an_old_version_exits_3_with_a_sentence(project: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastapi, "__version__", "0.114.2")
    assert main([f"{project}:app"]) == 3
    assert "FastAPI 0.114.2 is older than 0.115" in capsys.readouterr().err


def test_a_version_with_an_unreadable_tree_exits_3(
    project: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastapi, "__version__", "0.137.0")
    monkeypatch.delattr("fastapi.routing.iter_route_contexts", raising=False)
    assert main([f"{project}:app"]) == 3
    assert "upgrade to 0.137.2" in capsys.readouterr().err


def test_an_unexpected_fault_exits_3(project: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr("gatewright.audit.audit", fail)
    assert main([f"{project}:app"]) == 3
    assert "internal error: KeyError" in capsys.readouterr().err


def test_what_the_app_prints_stays_out_of_the_report(project: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{project}_loud:app", "--guard", f"{project}_loud:guard", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["summary"]["guarded"] == 1 and "noise" in err


@pytest.mark.parametrize("kind", ["table", "json", "sarif", "github", "md"])
def test_every_format_can_be_written_to_a_file(project: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{project}:other", "--format", kind, "--output", "report"]) == 1
    assert "/open" in Path("report").read_text(encoding="utf-8") and capsys.readouterr().out == ""


def test_a_baseline_is_written_and_read(project: str) -> None:
    assert main([f"{project}:other"]) == 1
    assert main([f"{project}:other", "--write-baseline", "routes.json"]) == 0
    assert main([f"{project}:other", "--baseline", "routes.json"]) == 0
    assert main([f"{project}:app", "--baseline", "routes.json"]) == 1


def test_settings_come_from_pyproject(project: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = f'[tool.gatewright.audit]\napp = "{project}:other"\npublic = ["/open"]\nfail-on = "weak"\n'
    Path("pyproject.toml").write_text(text, encoding="utf-8")
    if sys.version_info < (3, 11):
        pytest.importorskip("tomli")
    assert main([]) == 0
    assert main([f"{project}:app"]) == 1, "the command line names another app"
    Path("pyproject.toml").write_text('[tool.gatewright.audit]\ngaurds = ["x"]\n', encoding="utf-8")
    assert main([f"{project}:other"]) == 2
    assert "no key 'gaurds'" in capsys.readouterr().err


def test_an_app_configured_from_the_environment_is_read_without_one(
    project: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("WORKOS_BASE_URL", "GATEWRIGHT_URL", "WORKOS_CLIENT_ID", "WORKOS_API_KEY", "WORKOS_COOKIE_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    text = """
from fastapi import FastAPI
from gatewright.fastapi import Gatewright
gw = Gatewright.from_env()
app = FastAPI(lifespan=gw.lifespan, **gw.docs())
app.include_router(gw.router(), prefix="/auth")
"""
    (Path.cwd() / f"{project}_env.py").write_text(text, encoding="utf-8")
    before = dict(os.environ)
    assert main([f"{project}_env:app", "--fail-on", "weak"]) == 0, capsys.readouterr()
    assert dict(os.environ) == before
    assert "/auth/me" in capsys.readouterr().out


def test_a_guard_that_is_nowhere_is_told(project: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{project}:other", "--guard", f"{project}:guard", "--public", "/open", "--public", "/nothing"]) == 0
    out = capsys.readouterr().out
    assert f"note: the guard {project}:guard is on no route" in out and "note: the pattern /nothing matches no open route" in out


def test_include_chains_name_file_and_line(project: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = "from fastapi import APIRouter, FastAPI\ninner = APIRouter()\n@inner.get('/x')\ndef x(): ...\nouter = APIRouter()\nouter.include_router(inner, prefix='/in')\napp = FastAPI()\napp.include_router(outer, prefix='/out')\napp.mount('/m', app2 := FastAPI())\n@app2.get('/y')\ndef y(): ...\n"
    (Path.cwd() / f"{project}_chain.py").write_text(text, encoding="utf-8")
    main([f"{project}_chain:app", "--format", "json"])
    routes = {route["path"]: route for route in json.loads(capsys.readouterr().out)["routes"]}
    file = f"{project}_chain.py"
    assert routes["/out/in/x"]["via"] == [
        f"included at {file}:8 under /out without dependencies",
        f"included at {file}:6 under /in without dependencies",
    ]
    assert routes["/out/in/x"]["location"] == {"file": file, "line": 3}
    assert routes["/m/y"]["via"] == [f"mounted at {file}:9 under /m"]


def test_the_module_runs_as_a_command(project: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gatewright", "routes", "audit", f"{project}:other", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["summary"]["open"] == 1
