"""``gatewright routes audit module:app``."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Literal, TextIO, cast

from .formats import FORMATS, Format, render
from .rules import LEVELS, Level
from .settings import Settings, read_settings

CLEAN, FOUND, NO_APP, INTERNAL = 0, 1, 2, 3
EPILOG = """\
exit codes: 0 covered · 1 findings at or above --fail-on · 2 the app or the arguments cannot be used · 3 unsupported version or internal error

Importing the app runs its module code; the lifespan is not started. Settings can live in pyproject.toml under [tool.gatewright.audit].
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the audit; returns the exit code and raises nothing."""
    try:
        settings = read_settings()
        arguments = _parser(settings).parse_args(argv)
    except SystemExit as end:  # argparse has said why
        return NO_APP if end.code else CLEAN
    except ValueError as error:
        return _fail(str(error), NO_APP)
    try:
        return _run(arguments, settings)
    except BrokenPipeError:
        return CLEAN
    except KeyboardInterrupt:
        return _fail("interrupted", INTERNAL)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return _fail(f"internal error: {type(error).__name__}: {error}; please report it with the lines above", INTERNAL)


def _run(arguments: argparse.Namespace, settings: Settings) -> int:
    from . import audit
    from .guards import UnknownGuard
    from .loading import ImportFailed, load_app

    spec = arguments.app or settings.app
    if spec is None:
        return _fail("name the app, for example: gatewright routes audit app.main:app", NO_APP)
    try:
        from .walk import Unsupported, check_version
    except ImportError as error:
        return _fail(f"{error.name or 'a module'} is not installed here: run the audit where the app runs (pip install fastapi)", INTERNAL)
    baseline = arguments.baseline or settings.baseline
    try:
        check_version()
        app, record = load_app(spec, arguments.app_dir or settings.app_dir or ".", arguments.factory or settings.factory)
        report = audit(
            app,
            guards=[*settings.guards, *arguments.guard],
            optional_guards=[*settings.optional_guards, *arguments.optional_guard],
            public=[*settings.public, *arguments.public],
            docs=cast(Literal["open", "guarded"], arguments.docs or settings.docs or "open"),
            probe=arguments.probe or settings.probe,
            baseline=None if arguments.write_baseline else baseline,
            name=spec,
            record=record,
        )
    except Unsupported as error:
        return _fail(str(error), INTERNAL)
    except ImportFailed as error:
        if arguments.traceback and error.__cause__ is not None:
            traceback.print_exception(error.__cause__, file=sys.stderr)
        return _fail(f"{error}" + ("" if arguments.traceback or error.__cause__ is None else " (--traceback shows where)"), NO_APP)
    except (UnknownGuard, ValueError) as error:
        return _fail(str(error), NO_APP)
    if arguments.write_baseline:
        from .baseline import write_baseline

        try:
            write_baseline(arguments.write_baseline, report)
        except OSError as error:
            return _fail(f"the baseline cannot be written: {error}", NO_APP)
        print(f"Wrote {len(report.routes)} routes to {arguments.write_baseline}.", file=sys.stderr)
        return CLEAN
    fail_on = cast(Level, arguments.fail_on or settings.fail_on or "unverified")
    text = render(report, cast(Format, arguments.format), fail_on, _colour(sys.stdout) if arguments.output is None else False)
    if arguments.output is not None:
        try:
            with open(arguments.output, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            return _fail(f"the report cannot be written: {error}", NO_APP)
    else:
        _write(sys.stdout, text)
    return report.exit_code(fail_on)


def _parser(settings: Settings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gatewright routes audit",
        description="Shows for every route of a FastAPI or Starlette app who may enter, and fails if somebody was forgotten.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "app",
        nargs="?",
        metavar="module:app",
        help="the app, as uvicorn takes it" + (f" (pyproject.toml: {settings.app})" if settings.app else ""),
    )
    parser.add_argument("--app-dir", metavar="DIR", help="look for the module here (default: the working directory)")
    parser.add_argument("--factory", action="store_true", help="module:app is a function that makes the app")
    parser.add_argument(
        "--guard",
        action="append",
        default=[],
        metavar="module:function",
        help="a guard of your own: a dependency, a factory of dependencies, a class, a decorator or a middleware; repeatable",
    )
    parser.add_argument(
        "--optional-guard",
        action="append",
        default=[],
        metavar="module:function",
        help="the same, for one that lets callers without a credential pass; repeatable",
    )
    parser.add_argument(
        "--public",
        action="append",
        default=[],
        metavar="PATH",
        help="a path meant for everybody: '/health', 'GET /items/*', '/static/**'; repeatable",
    )
    parser.add_argument(
        "--docs", choices=("open", "guarded"), help="whether everybody may read FastAPI's /docs, /redoc and /openapi.json (default: open)"
    )
    parser.add_argument(
        "--probe",
        action="store_true",
        help="also call guarded and unverified routes in this process with bad credentials; endpoints are replaced, guards run",
    )
    parser.add_argument("--format", choices=tuple(FORMATS), default="table")
    parser.add_argument("--output", metavar="FILE", help="write the report here instead of standard output")
    parser.add_argument("--baseline", metavar="FILE", help="report only what is worse than in this file")
    parser.add_argument("--write-baseline", metavar="FILE", help="accept everything as it is now, and write it down")
    parser.add_argument(
        "--fail-on",
        choices=tuple(reversed(LEVELS)),
        help="fail for open routes only (open), also for what is not proven (unverified, the default), or for warnings too (weak)",
    )
    parser.add_argument("--traceback", action="store_true", help="show the whole traceback if the app cannot be imported")
    return parser


def _colour(stream: TextIO) -> bool:
    """https://no-color.org"""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _write(stream: TextIO, text: str) -> None:
    """Terminals with an old encoding get plain letters instead of an error."""
    try:
        stream.write(text)
    except UnicodeEncodeError:
        stream.write(
            text.translate({ord("—"): "-", ord("·"): ",", ord("≤"): "<=", ord("→"): ">"}).encode("ascii", "backslashreplace").decode()
        )
    stream.flush()


def _fail(text: str, code: int) -> int:
    print(f"error: {text}", file=sys.stderr)
    return code
